"""One point of a sweep: the run with its parameters, and the figures of that run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np

from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence.loaded_feeds import LoadedFeeds
from bt_risk.evidence.metrics import MEASURES, days_of, final_equity, measures
from bt_risk.evidence.runner import built, quiet
from bt_risk.evidence.sweep_space import COMPONENT, FINAL, Point, Space
from bt_risk.evidence.user_traceback import error_line
from bt_risk.evidence.window import NotBefore, Window
from bt_risk.policy import Policy
from bt_risk.protection import protect
from bt_risk.report.record import ReportData, RunRecord, record_of

__all__ = ["Job", "Objective", "PointResult", "objective_of"]

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

    def within(self, window: Window) -> Job:
        """Return the same job in a window: bars that were loaded in another one are not its own."""
        return replace(self, window=window, feeds=LoadedFeeds())

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
        limits = [] if self.window is None else [NotBefore(self.window)]
        of_policy, _ = self.space.split(point)
        protect(cerebro, replace(self.policy, **of_policy), limits=limits)
        cerebro.addanalyzer(ReportData, _name=_MARK)
        return cerebro

    def run(self, point: Point) -> RunRecord:
        """Run a point; raise what the run raises."""
        return record_of(self.strategy(point), COMPONENT)

    def strategy(self, point: Point) -> bt.Strategy:
        """Run a point; return the strategy that has run, raise what the run raises."""
        try:
            return _run(self.cerebro(point))
        except IndexError:
            if self.window is None:
                raise
        # Where a data feed has fewer bars in the window than an indicator needs, Backtrader fails
        # at filling it at once. It does not bar by bar.
        cerebro = self.cerebro(point)
        cerebro.p.runonce = False
        return _run(cerebro)

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
            days, index = self.window.inside(record, days, index)
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


def _run(cerebro: bt.Cerebro) -> bt.Strategy:
    with quiet():
        strategies = cerebro.run()
    if not strategies:
        raise ParameterError(COMPONENT, "build", "a Cerebro with a strategy", cerebro)
    return strategies[0]
