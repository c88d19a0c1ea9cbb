"""TODO."""

import backtrader as bt


class QuietAnalyzer(bt.Analyzer):
    """An analyzer that asks neither for cash nor for value: fewer calls on every bar."""

    def _notify_cashvalue(self, cash, value):
        """Nothing: it has no children either."""

    def _notify_fund(self, cash, value, fundvalue, shares):
        """Nothing: it has no children either."""


__all__ = ["QuietAnalyzer"]
