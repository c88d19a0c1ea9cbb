"""One fold of a walk-forward: the sweep that chooses a point, and the run that tests it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import backtrader as bt

from bt_risk.errors import DataError, ParameterError, StateError
from bt_risk.evidence.folds import COMPONENT
from bt_risk.evidence.stitched import Part, closing_fills
from bt_risk.evidence.sweep import Sweep, first_cerebro, sweep_of
from bt_risk.evidence.sweep_identity import identity_of
from bt_risk.evidence.sweep_point import Job
from bt_risk.evidence.sweep_run import run_points
from bt_risk.evidence.sweep_sampler import Sampler
from bt_risk.evidence.sweep_space import Point
from bt_risk.evidence.sweep_store import PARQUET, Memory, check_store, open_store
from bt_risk.evidence.window import Window
from bt_risk.report.record import record_of

__all__ = ["Tested", "chosen_in", "fold_stores", "tested_in"]

_FILES = (".db", ".sqlite", ".sqlite3")


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


def chosen_in(
    job: Job, window: Window, sampler: Sampler, workers: int, client: Any, store: Path | None
) -> Sweep:
    """Return the sweep of a window; KeyboardInterrupt where it was interrupted."""
    own = job.within(window)
    first = first_cerebro(own)  # processes are forked with its bars
    kept = Memory() if store is None else open_store(store, own.space, identity_of(own, first))
    try:
        if not run_points(own, sampler, kept, workers, client):
            raise KeyboardInterrupt
    finally:
        kept.close()
    return sweep_of(kept.rows, own, 0, sampler.total, True, store)


def fold_stores(given: Any, count: int) -> list[Path | None]:
    """Return where each of so many folds keeps its results, in a folder that is made here."""
    if given is None:
        return [None] * count
    folder = check_store(given, "the path of a folder, or None")
    if folder.is_file() or folder.suffix in _FILES:
        remedy = "Each fold has a store of its own in it."
        raise ParameterError(COMPONENT, "store", "the path of a folder", str(given), remedy)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StateError(f"{COMPONENT}: {folder} cannot be used as a store: {error}.") from None
    suffix = ".parquet" if folder.suffix in PARQUET else ".db"
    return [folder / f"fold-{number}{suffix}" for number in range(1, count + 1)]


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
