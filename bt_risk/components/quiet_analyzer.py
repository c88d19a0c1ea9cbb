"""The bases of our analyzers: they explain a wrong place, and some use neither cash nor value."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from bt_risk.errors import wrong_place

__all__ = ["AddedAnalyzer", "QuietAnalyzer"]

_explain = wrong_place("an analyzer", "cerebro.addanalyzer({name})")


class AddedAnalyzer(bt.Analyzer):
    """Be an analyzer that says so where it is added as an observer or as a sizer."""

    set = _explain

    def __new__(cls, *args: Any, **params: Any) -> AddedAnalyzer:
        """Raise a TypeError where Cerebro passes the data feeds, as it does to an observer."""
        added: AddedAnalyzer = super().__new__(cls)
        if args:
            _explain(added)
        return added


class QuietAnalyzer(AddedAnalyzer):
    """Be an analyzer that uses neither cash nor value: fewer calls on every bar.

    A class with ``analysis_only_answers = True`` beside its ``get_analysis`` says that nothing
    depends on who asks, and when: at the end of a run with the quick loop and without a writer,
    nobody does.
    """

    # The quick loop does not notify it of cash and value.
    ignores_account = True

    def _notify_cashvalue(self, cash: float, value: float) -> None:
        """Ignore cash and value; there are no children to pass them to."""

    def _notify_fund(self, cash: float, value: float, fundvalue: float, shares: float) -> None:
        """Ignore the value of the fund; there are no children to pass it to."""
