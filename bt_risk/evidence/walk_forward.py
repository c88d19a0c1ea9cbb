"""``bt_risk.walk_forward``: parameters chosen on the past alone, and what they did afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.errors import DataError, check_whole, raised_as
from bt_risk.evidence.dask_pool import check_client
from bt_risk.evidence.folds import COMPONENT, Fold, folds
from bt_risk.evidence.metrics import Days, days_of, measures
from bt_risk.evidence.sharpe import distinct_ratios, expected_best, probabilistic_sharpe
from bt_risk.evidence.stitched import equity_after, stitched
from bt_risk.evidence.sweep import Sweep, process_count
from bt_risk.evidence.sweep_point import Job, Objective, objective_of
from bt_risk.evidence.sweep_sampler import sampler_of
from bt_risk.evidence.sweep_space import Point, Space, label
from bt_risk.evidence.walk_run import Tested, chosen_in, fold_stores, tested_in
from bt_risk.evidence.walk_windows import bar_numbers, windows_of
from bt_risk.evidence.walk_words import walk_sentences
from bt_risk.policy import Policy, policy_of
from bt_risk.report.calendar import timestamps
from bt_risk.report.pyfolio import daily_returns
from bt_risk.report.record import RunRecord

__all__ = ["WalkForward", "walk_forward"]


@dataclass(frozen=True)
class WalkForward:
    """What parameters did that were chosen on the past alone.

    Attributes
    ----------
    frame : DataFrame
        One row for each fold: ``train_begin``, ``train_end``, ``begin`` and ``end``, the times of
        the first and the last bar of training and test; the parameters that were chosen;
        ``in_sample`` and ``out_of_sample``, their objective in training and test; ``return``,
        ``max_drawdown`` and ``trades`` of the test; ``halted``, whether a halt ended it early;
        ``runs`` of the training and how many of them ``failed``. Where no point had an objective,
        nothing was chosen and nothing traded.
    record : RunRecord
        The tests as the run of one account: for `bt_risk.report.tear_sheet`.
    figures : dict of str to float
        Those of `bt_risk.compare`, out of sample.
    sweeps : list of Sweep
        Every training run of each fold.
    objective : Objective
    probabilistic, deflated : float
        Probability that the true Sharpe ratio out of sample is above zero, and above the best that
        so many tries without skill would have.
    tries : int
        Distinct Sharpe ratios of the training runs, and the ``trials`` that the user stated.
    policy : Policy
        Where its parameters are not part of the space.
    year : int
        Days of a year.
    """

    frame: pd.DataFrame
    record: RunRecord = field(repr=False)
    figures: dict[str, float]
    sweeps: list[Sweep] = field(repr=False)
    objective: Objective
    probabilistic: float
    deflated: float
    tries: int
    policy: Policy = field(repr=False)
    year: int

    @property
    def returns(self) -> pd.Series:
        """Return the daily returns out of sample, without a gap between the folds."""
        return daily_returns(self.record)

    @property
    def parameters(self) -> list[str]:
        """Return the names of the parameters that were chosen."""
        return self.sweeps[0].space.names

    def sentences(self) -> list[str]:
        """Return in words what came of it, how stable the choices were, and how certain it is."""
        return walk_sentences(self)

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def _repr_html_(self) -> str:
        """Return sentences and folds, for a notebook."""
        from bt_risk.evidence.walk_page import walk_html

        return walk_html(self)

    def write(self, path: str | Path, title: str = "Walk-forward") -> Path:
        """Write the page, one self-contained HTML file; return its path."""
        from bt_risk.evidence.walk_page import walk_page

        return walk_page(self, Path(path), title)


def walk_forward(
    build: Callable[..., bt.Cerebro],
    space: Mapping[str, Any],
    train: int,
    test: int,
    objective: str | Callable[..., float] = "sharpe",
    *,
    purge: int = 1,
    anchored: bool = False,
    warmup: int | None = None,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    sampler: Any = None,
    points: int | None = None,
    seed: int = 0,
    n_jobs: int = -1,
    client: Any = None,
    store: str | Path | None = None,
    trials: int = 0,
) -> WalkForward:
    """Choose parameters on the past, use them on the time after it, and go on; return what it made.

    Parameters
    ----------
    build : callable
        Returns a new Cerebro, without a policy, each time it is called. Parameters of `space` that
        are not those of a policy are its keywords: ``def build(fast=10, slow=30):``.
    space : dict
        Values by parameter, of the policy and of `build` alike, as for `bt_risk.sweep`.
    train, test : int
        Bars of the first data feed that parameters are chosen on, and that they are then used on.
    objective : str or callable
        What is best in training: see `bt_risk.sweep`.
    purge : int
        Bars between training and test that neither has. One is the bar in which you would choose;
        more are needed where a bar of another data feed ends later than that.
    anchored : bool
        Whether each training begins with the first bar; else it has the last `train` bars.
    warmup : int, optional
        Bars before each training and test that are loaded for indicators, without an entry. When
        left out: all there are. Fewer take less time.
    policy : Policy, dict or path, optional
        The parameters that are not in the space; the default policy when left out.
    sampler, points, seed
        Which points run in each training: see `bt_risk.sweep`.
    n_jobs, client
        Who runs them: see `bt_risk.sweep`. The tests run one after the other, in this process.
    store : str or path, optional
        A folder in which each fold keeps the results of its training as they come: a SQLite file,
        or Parquet where the name ends in ``.parquet``. The same call goes on from there; with later
        bars it runs only the new folds. None keeps nothing.
    trials : int
        Strategies and settings that you tried before: the deflated Sharpe ratio counts them too.

    Returns
    -------
    WalkForward

    Raises
    ------
    ParameterError
        If an argument is outside its range, or the store has another walk-forward.
    StateError
        If the store cannot be used.
    DataError
        If there are too few bars, or in no training a point had an objective.

    Notes
    -----
    Each test begins flat, with the equity that the one before has left, and a breaker with a new
    high-water mark. What is held after its last bar is closed at that close, and pays its
    commission.
    """
    with raised_as(COMPONENT):
        chosen, base = Space(space, build), policy_of(COMPONENT, policy)
        goal = objective_of(COMPONENT, objective)
        check_whole(COMPONENT, "trials", trials, low=0, remedy="Those tried elsewhere, 0 if none.")
        if warmup is not None:
            check_whole(COMPONENT, "warmup", warmup, low=0, remedy="It counts bars.")
        if client is not None:
            check_client(client)
        job = Job(build, base, chosen, goal)
        total = sampler_of(sampler, chosen, points, seed, goal.smallest).total
        workers = process_count(job, n_jobs, total) if client is None else 1
        bars = bar_numbers(job.bare(chosen.first))
        parts = folds(len(bars), train, test, purge, anchored)
        windows = [windows_of(bars, fold, warmup) for fold in parts]
        stores, sweeps = fold_stores(store, len(parts)), []
        for (window, _), kept in zip(windows, stores, strict=True):
            drawn = sampler_of(sampler, chosen, points, seed, goal.smallest)
            sweeps.append(chosen_in(job, window, drawn, workers, client, kept))
    _check_choices(sweeps)
    tests = list[Tested]()
    for (_, window), one in zip(windows, sweeps, strict=True):
        cash = equity_after(tests[-1].part) if tests else None
        tests.append(tested_in(job, window, one.best, cash))
    return _result(job, timestamps(bars), parts, sweeps, tests, trials)


def _check_choices(sweeps: Sequence[Sweep]) -> None:
    """Raise DataError where no point of any training has an objective."""
    if all(one.best is None for one in sweeps):
        errors = [error for one in sweeps for error in one.failed["error"]]
        why = f"The first run failed: {errors[0]}" if errors else "No run traded."
        raise DataError(f"{COMPONENT}: in no training a point has an objective. {why}")


def _result(
    job: Job,
    times: pd.DatetimeIndex,
    parts: Sequence[Fold],
    sweeps: list[Sweep],
    tests: Sequence[Tested],
    trials: int,
) -> WalkForward:
    record = stitched([one.part for one in tests])
    days, _, year = days_of(record)
    spread, tries = _tried(sweeps, len(days.returns))
    tries += trials
    rows = [
        _times(times, fold) | _chosen(job.space, one) | _of_test(test)
        for fold, one, test in zip(parts, sweeps, tests, strict=True)
    ]
    return WalkForward(
        frame=pd.DataFrame(rows),
        record=record,
        figures={name: float(value) for name, value in measures(days, year).items()},
        sweeps=sweeps,
        objective=job.objective,
        probabilistic=probabilistic_sharpe(days.returns),
        deflated=probabilistic_sharpe(days.returns, expected_best(spread, tries)),
        tries=tries,
        policy=job.policy,
        year=year,
    )


def _tried(sweeps: Sequence[Sweep], days: int) -> tuple[float, int]:
    """Return how far the daily ratios of tries without skill spread, and how many tries there were.

    Their variance is that within each training: between two of them the market differs, too. It
    falls with the number of days, which are more out of sample than in one training.
    """
    scaled, count = list[float](), 0
    for one in sweeps:
        ratios = distinct_ratios(one.frame["Sharpe"] / one.frame["year"] ** 0.5)
        count += len(ratios)
        if len(ratios) > 1:
            scaled.append(float(np.var(ratios, ddof=1) * one.frame["days"].median()))
    return (math.sqrt(np.mean(scaled) / days) if scaled else math.nan), count


def _times(times: pd.DatetimeIndex, fold: Fold) -> dict[str, pd.Timestamp]:
    (train, train_end), (test, test_end) = fold
    return {
        "train_begin": times[train],
        "train_end": times[train_end - 1],
        "begin": times[test],
        "end": times[test_end - 1],
    }


def _chosen(space: Space, one: Sweep) -> dict[str, Any]:
    best: Point = one.best or dict.fromkeys(space.names)
    row = one.best_row
    return {name: label(best[name]) for name in space.names} | {
        "in_sample": math.nan if row is None else float(row["objective"]),
        "runs": len(one.frame),
        "failed": len(one.failed),
    }


def _of_test(test: Tested) -> dict[str, Any]:
    record = stitched([test.part])
    days: Days = days_of(record)[0]
    wealth = pd.Series((1.0 + days.returns).cumprod())
    marks = wealth.cummax().clip(lower=1.0)
    return {
        "out_of_sample": test.figures.get("objective", math.nan),
        "return": float(wealth.iloc[-1]) - 1.0,
        "max_drawdown": float((1.0 - wealth / marks).max()),
        "trades": int(days.trades.sum()),
        "halted": test.part.record.halted,
    }
