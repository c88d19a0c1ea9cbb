"""A quicker loop for Backtrader's Cerebro, with the same results: see `fast`."""
