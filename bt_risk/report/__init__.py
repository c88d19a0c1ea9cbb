"""Reports: inputs for pyfolio, the tear sheet of a run with its rules, and Backtrader's plot."""

from typing import Any

from bt_risk.report.plot import plot
from bt_risk.report.pyfolio import pyfolio_inputs
from bt_risk.report.record import ReportData, RunRecord

__all__ = ["ReportData", "RunRecord", "live", "plot", "pyfolio_inputs", "tear_sheet"]


def __getattr__(name: str) -> Any:
    # The pages import Jinja2 and the charts, which take a second: only its users wait for them.
    if name == "tear_sheet":
        from bt_risk.report.html import tear_sheet

        return tear_sheet
    if name == "live":
        from bt_risk.report.live_page import live

        return live
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
