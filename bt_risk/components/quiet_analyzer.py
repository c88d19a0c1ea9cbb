"""QuietAnalyzer: the base of analyzers that need neither cash nor value."""

import backtrader as bt

__all__ = ["QuietAnalyzer"]


class QuietAnalyzer(bt.Analyzer):
    """Be an analyzer that uses neither cash nor value: fewer calls on every bar."""

    # The quick loop does not tell it anything of the account.
    ignores_account = True

    def _notify_cashvalue(self, cash: float, value: float) -> None:
        """Ignore cash and value; there are no children to pass them to."""

    def _notify_fund(self, cash: float, value: float, fundvalue: float, shares: float) -> None:
        """Ignore the value of the fund; there are no children to pass it to."""
