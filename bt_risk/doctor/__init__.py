"""Doctor: what a Backtrader store does and does not do, tried out before anybody trades with it."""
