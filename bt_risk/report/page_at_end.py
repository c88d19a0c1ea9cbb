"""The analyzer that writes the tear sheet at the end of a run: ``protect(..., report=...)``."""

from typing import Any

from bt_risk.report.record import ReportData

__all__ = ["ReportPage"]


class ReportPage(ReportData):
    """Record what the tear sheet needs, and write it at the end; an optimisation writes none."""

    params: Any = dict(path=None)

    def stop(self) -> None:
        """Write the page of the account once, with the first of several strategies."""
        super().stop()
        cerebro = self.strategy.cerebro
        first = self.strategy is cerebro.runningstrats[0]
        if first and not cerebro._dooptimize and self.record is not None and len(self.record.bars):
            from bt_risk import report

            report.tear_sheet(self.record, self.p.path)
