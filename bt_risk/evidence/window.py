"""A window of time: the bars of a run that count, and those that only warm it up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.evidence.metrics import Days
from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.report.calendar import timestamps
from bt_risk.report.record import RunRecord

__all__ = ["NotBefore", "Window"]


@dataclass(frozen=True)
class Window:
    """The time in which a run trades and is measured, in numbers of Backtrader: days, in UTC.

    They are compared with those of the bars, so no time zone and no rounding is between.

    Attributes
    ----------
    after : float
        No entry is sent up to here; bars up to here only warm up indicators.
    until : float
        The last bar that is loaded is the last one up to here.
    since : float
        The first bar that is loaded.
    """

    after: float = -math.inf
    until: float = math.inf
    since: float = -math.inf

    def apply(self, cerebro: bt.Cerebro) -> None:
        """Let the data feeds of a Cerebro load only the bars of this window."""
        for data in cerebro.datas:
            data._start_finish = partial(_cut, data, data._start_finish, self)

    @property
    def begin(self) -> pd.Timestamp:
        """Return the time after which bars count."""
        known = math.isfinite(self.after)
        return timestamps([self.after])[0] if known else pd.Timestamp.min

    def inside(
        self, record: RunRecord, days: Days, index: pd.DatetimeIndex
    ) -> tuple[Days, pd.DatetimeIndex]:
        """Return the days that have a bar that counts."""
        times = record.times.union(record.rest)
        first = times[times > self.begin].min()  # NaT where there is none, which is no day
        inside = np.flatnonzero(index >= first.normalize())
        return days.take(inside), index[inside]


def _cut(data: Any, finish: Callable[[], None], window: Window) -> None:
    """Start a data feed, and let it load the bars of a window alone."""
    finish()
    data.fromdate = max(data.fromdate, window.since)
    data.todate = min(data.todate, window.until)


class NotBefore(Limit):
    """Refuse entries up to a time, so that a run only warms up until then."""

    by_size = False

    def __init__(self, window: Window) -> None:
        self._window = window

    def review(self, request: Request, book: Any) -> Decision:
        """Return the `Decision` for `request`."""
        if book.latest > self._window.after:
            return Decision(request.size)
        if math.isinf(self._window.after):
            return self.refuse(0.0, "nothing was chosen, so nothing is entered")
        return self.refuse(0.0, f"entries begin after {self._window.begin}")
