"""One point of a sweep: the run with its parameters, and the figures of that run."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence.loaded_feeds import LoadedFeeds
from bt_risk.evidence.metrics import MEASURES, Days, days_of, final_equity, measures
from bt_risk.evidence.runner import built, quiet
from bt_risk.evidence.sweep_space import COMPONENT, FINAL, Point, Space
from bt_risk.evidence.user_traceback import error_line
from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.policy import Policy
from bt_risk.protection import protect
from bt_risk.report.record import ReportData, RunRecord, record_of

__all__ = ["Job", "Objective", "PointResult", "Window", "objective_of"]

# Of these the smallest is the best.
_LOSSES = (
    "Max drawdown",
    "Average drawdown",
    "CVaR 5 %",
    "Time under water",
    "Turnover",
    "Costs",
)
_MARK = "sweep_data"
_BEFORE = dt.timedelta(milliseconds=1)  # the number of a time is exact to 10 microseconds


@dataclass(frozen=True)
class Objective:
    """What the points of a sweep are ranked by.

    Attributes
    ----------
    name : str
        A figure of `COLUMNS`, or the name of the function.
    function : callable or None
        Returns a number from the `RunRecord` of a run.
    smallest : bool
        Whether the smallest is the best.
    """

    name: str
    function: Callable[[RunRecord], float] | None = None
    smallest: bool = False

    def of(self, figures: Mapping[str, float], record: RunRecord) -> float:
        """Return the value of a run; NaN where there is none."""
        return figures[self.name] if self.function is None else float(self.function(record))


def objective_of(component: str, given: Any) -> Objective:
    """Return the objective that a user named, or wrote as a function."""
    if callable(given):
        return Objective(getattr(given, "__name__", type(given).__name__), given)
    names = {_plain(name): name for name in (FINAL, *MEASURES)}
    if not isinstance(given, str) or _plain(given) not in names:
        listed = ", ".join(name.lower().replace(" %", "").replace(" ", "_") for name in MEASURES)
        constraint = f"one of {listed}, final_equity, or a function of a RunRecord"
        raise ParameterError(component, "objective", constraint, given)
    name = names[_plain(given)]
    return Objective(name, smallest=name in _LOSSES)


def _plain(name: str) -> str:
    return "".join(one for one in name.casefold() if one.isalnum())


class PointResult(NamedTuple):
    """Keep what came of one point.

    Attributes
    ----------
    figures : dict of str to float
        Those of `COLUMNS` that are numbers; empty after an error.
    error : str
        Why there are none, else empty.
    seconds : float
        How long it took.
    """

    figures: dict[str, float]
    error: str = ""
    seconds: float = math.nan


@dataclass(frozen=True)
class Window:
    """The time in which a run trades and is measured, in the times of its data feeds.

    Attributes
    ----------
    begin, end : Timestamp
        No entry is sent before `begin`, and no bar from `end` on is loaded.
    since : Timestamp or None
        The first bar that is loaded: indicators need some before `begin`. None loads every bar.
    """

    begin: pd.Timestamp
    end: pd.Timestamp
    since: pd.Timestamp | None = None

    def apply(self, cerebro: bt.Cerebro) -> None:
        """Let the data feeds of a Cerebro load only the bars of this window."""
        for data in cerebro.datas:
            if self.since is not None:
                data.p.fromdate = max(
                    self.since.to_pydatetime(), data.p.fromdate or dt.datetime.min
                )
            last = self.end.to_pydatetime() - _BEFORE
            data.p.todate = min(last, data.p.todate or dt.datetime.max)

    def inside(self, days: Days, index: pd.DatetimeIndex) -> tuple[Days, pd.DatetimeIndex]:
        """Return the days from `begin` on."""
        inside = np.flatnonzero(index >= self.begin.normalize())
        return days.take(inside), index[inside]


class NotBefore(Limit):
    """Refuse entries before a time, so that a run only warms up until then."""

    by_size = False

    def __init__(self, begin: pd.Timestamp) -> None:
        self._begin, self._said = float(bt.date2num(begin.to_pydatetime())), str(begin)

    def review(self, request: Request, book: Any) -> Decision:
        """Return the `Decision` for `request`."""
        if book.latest >= self._begin:
            return Decision(request.size)
        return self.refuse(0.0, f"entries begin at {self._said}")


@dataclass(frozen=True)
class Job:
    """What the points of a sweep have in common; it pickles where `build` and `objective` do.

    Attributes
    ----------
    build : callable
    policy : Policy
    space : Space
    objective : Objective
    window : Window or None
    """

    build: Callable[..., bt.Cerebro]
    policy: Policy
    space: Space
    objective: Objective
    window: Window | None = None
    feeds: LoadedFeeds = field(default_factory=LoadedFeeds, repr=False, compare=False)

    def bare(self, point: Point) -> bt.Cerebro:
        """Return the Cerebro of a point as `build` makes it, with the bars of the window."""
        _, of_build = self.space.split(point)
        cerebro = built(partial(self.build, **of_build), COMPONENT, _MARK)
        if self.window is not None:
            self.window.apply(cerebro)
        return cerebro

    def cerebro(self, point: Point) -> bt.Cerebro:
        """Return the protected Cerebro of a point, which has not run."""
        cerebro = self.bare(point)
        self.feeds.give(cerebro, partial(self.bare, point))
        limits = [] if self.window is None else [NotBefore(self.window.begin)]
        of_policy, _ = self.space.split(point)
        protect(cerebro, replace(self.policy, **of_policy), limits=limits)
        cerebro.addanalyzer(ReportData, _name=_MARK)
        return cerebro

    def run(self, point: Point) -> RunRecord:
        """Run a point; raise what the run raises."""
        cerebro = self.cerebro(point)
        with quiet():
            strategies = cerebro.run()
        if not strategies:
            raise ParameterError(COMPONENT, "build", "a Cerebro with a strategy", cerebro)
        return record_of(strategies[0], COMPONENT)

    def evaluate(self, point: Point) -> PointResult:
        """Return what came of a point, also where its run raises an error."""
        begin = time.perf_counter()
        try:
            figures, error = self.figures(self.run(point)), ""
        except (Exception, SystemExit) as raised:
            figures, error = {}, error_line(raised)
        return PointResult(figures, error, time.perf_counter() - begin)

    def figures(self, record: RunRecord) -> dict[str, float]:
        """Return the figures of a run, with those that a deflated Sharpe ratio needs."""
        days, index, year = days_of(record)
        if self.window is not None:
            days, index = self.window.inside(days, index)
        if len(index) < 2:
            raise DataError(f"sweep: a run must have at least 2 days to measure; got {len(index)}.")
        figures = {FINAL: final_equity(record)}
        figures |= {name: float(value) for name, value in measures(days, year).items()}
        returns = days.returns
        spread = returns.std()
        scaled = (returns - returns.mean()) / spread if spread > 0 else np.full(1, math.nan)
        figures |= {
            "days": float(len(index)),
            "year": float(year),
            "skewness": float((scaled**3).mean()),
            "kurtosis": float((scaled**4).mean()),
        }
        return {"objective": self.objective.of(figures, record), **figures}
