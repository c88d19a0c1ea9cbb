"""QuietAnalyzer: the base of analyzers that need neither cash nor value."""

import backtrader as bt

__all__ = ["QuietAnalyzer"]


class QuietAnalyzer(bt.Analyzer):
    """An analyzer that asks neither for cash nor for value: fewer calls on every bar."""

    def _notify_cashvalue(self, cash, value):
        """Nothing: it has no children either."""

    def _notify_fund(self, cash, value, fundvalue, shares):
        """Nothing: it has no children either."""
