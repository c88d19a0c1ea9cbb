"""One fold of a walk-forward: the sweep that chooses a point, and the run that tests it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import backtrader as bt

from bt_risk.errors import DataError
from bt_risk.evidence.stitched import Part, closing_fills
from bt_risk.evidence.sweep import Sweep, first_cerebro, sweep_of
from bt_risk.evidence.sweep_point import Job
from bt_risk.evidence.sweep_run import run_points
from bt_risk.evidence.sweep_sampler import Sampler
from bt_risk.evidence.sweep_space import Point
from bt_risk.evidence.sweep_store import Memory
from bt_risk.evidence.window import Window
from bt_risk.report.record import record_of

__all__ = ["Tested", "chosen_in", "tested_in"]


class Tested(NamedTuple):
    """Keep the test of one fold.

    Attributes
    ----------
    part : Part
    figures : dict of str to float
        Those of a sweep, of the days of the test; ``objective`` is the one out of sample. Empty
        where nothing was traded on purpose, or the test has fewer than 2 days.
    """

    part: Part
    figures: dict[str, float]


def chosen_in(job: Job, window: Window, sampler: Sampler, workers: int, client: Any) -> Sweep:
    """Return the sweep of a window; KeyboardInterrupt where it was interrupted."""
    own = job.within(window)
    first_cerebro(own)  # processes are forked with its bars
    store = Memory()
    if not run_points(own, sampler, store, workers, client):
        raise KeyboardInterrupt
    return sweep_of(store.rows, own, 0, sampler.total, True, None)


def tested_in(job: Job, window: Window, point: Point | None, cash: float | None) -> Tested:
    """Run a point in a window, with `cash` in place of that of `build`.

    Where there is no point nothing is traded: the first one of the space runs, and may not enter.
    """
    trades = window if point is not None else replace(window, after=math.inf)
    build = job.build if cash is None else partial(_with_cash, job.build, cash)
    own = replace(job, build=build).within(trades)
    strategy = own.strategy(job.space.first if point is None else point)
    record = record_of(strategy, "walk_forward")
    part = Part(record, window.begin, closing_fills(strategy, record))
    try:
        return Tested(part, {} if point is None else own.figures(record))
    except DataError:  # what is left for the last fold may be a day
        return Tested(part, {})


def _with_cash(build: Callable[..., bt.Cerebro], cash: float, **own: Any) -> bt.Cerebro:
    cerebro = build(**own)
    if isinstance(cerebro, bt.Cerebro):
        cerebro.broker.setcash(cash)
    return cerebro
