"""Reports: pyfolio's inputs and tear sheet, a page of what the rules did, Backtrader's plot."""

from bt_risk.report.plot import plot
from bt_risk.report.pyfolio import pyfolio_inputs
from bt_risk.report.record import ReportData, RunRecord

__all__ = ["RunRecord", "ReportData", "plot", "pyfolio_inputs", "tear_sheet"]


def __getattr__(name):
    # The page needs plotly and pyfolio: whoever does not write one does not wait for them.
    if name == "tear_sheet":
        from bt_risk.report.html import tear_sheet

        return tear_sheet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
