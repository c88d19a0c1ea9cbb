"""``bt_risk.sweep``: a strategy and its policy with many parameters, and what the best is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.errors import ParameterError, check_whole
from bt_risk.evidence.dask_pool import check_client
from bt_risk.evidence.runner import worker_count
from bt_risk.evidence.sharpe import deflated_significance, distinct_ratios
from bt_risk.evidence.sweep_identity import identity_of
from bt_risk.evidence.sweep_point import Job, Objective, objective_of
from bt_risk.evidence.sweep_run import run_points
from bt_risk.evidence.sweep_sampler import sampler_of
from bt_risk.evidence.sweep_space import COLUMNS, COMPONENT, Point, Space
from bt_risk.evidence.sweep_store import Row, open_store
from bt_risk.evidence.sweep_words import sweep_html, sweep_sentences
from bt_risk.policy import Policy, policy_of

__all__ = ["Sweep", "sweep"]


@dataclass(frozen=True)
class Sweep:
    """The figures of every point of a sweep.

    Attributes
    ----------
    frame : DataFrame
        One row for each point that has run, in the sequence of the space: the parameters,
        ``objective``, ``Final equity`` in currency, the figures of `bt_risk.compare` (Sharpe, CAGR,
        Max drawdown and others), ``days``, the ``year`` in days, ``skewness`` and ``kurtosis`` of
        the daily returns, ``seconds``, and ``error``, empty where the run raised none.
    best : dict or None
        The point with the best objective; None where no point has one.
    best_policy : Policy
        The policy of that point.
    objective : Objective
    deflated : float
        Probability that the true Sharpe ratio of the best point exceeds what the best of so many
        tries without skill has: NaN with fewer than two distinct ones.
    tries : int
        Distinct Sharpe ratios, and the ``trials`` that the user stated.
    asked : int
        How many points the sweep was to run.
    complete : bool
        Whether it ran them; False after Ctrl-C.
    store : Path or None
    """

    frame: pd.DataFrame
    best: Point | None
    best_policy: Policy = field(repr=False)
    objective: Objective
    deflated: float
    tries: int
    asked: int
    complete: bool
    store: Path | None
    space: Space = field(repr=False)

    @property
    def best_row(self) -> pd.Series | None:
        """Return the row of the best point; None where no point has an objective."""
        return None if self.best is None else self.frame.loc[_best(self.frame, self.objective)]

    @property
    def failed(self) -> pd.DataFrame:
        """Return the rows of the points whose run raised an error."""
        return self.frame[self.frame["error"] != ""]

    def sentences(self) -> list[str]:
        """Return what was found in words, and whether it is more than luck."""
        return sweep_sentences(self)

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def _repr_html_(self) -> str:
        """Return sentences and the best points, for a notebook."""
        return sweep_html(self)

    def write(self, path: str | Path, title: str = "Sweep") -> Path:
        """Write the page, one self-contained HTML file; return its path."""
        from bt_risk.evidence.sweep_page import sweep_page

        return sweep_page(self, Path(path), title)


def sweep(
    build: Callable[..., bt.Cerebro],
    space: Mapping[str, Any],
    objective: str | Callable[..., float] = "sharpe",
    *,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    sampler: Any = None,
    points: int | None = None,
    seed: int = 0,
    n_jobs: int = -1,
    client: Any = None,
    store: str | Path | None = "sweep.db",
    trials: int = 0,
) -> Sweep:
    """Run a protected strategy with many parameters; return the figures of each, and the best.

    Parameters
    ----------
    build : callable
        Returns a new Cerebro, without a policy, each time it is called. Parameters of `space` that
        are not those of a policy are its keywords: ``def build(fast=10, slow=30):``.
    space : dict
        Values by parameter: a list, a range, or a `Between`. A parameter of `Policy` goes to the
        policy, every other to `build`; one that both have is written ``"policy.lookback"`` or
        ``"build.lookback"``.
    objective : str or callable
        What is best. A figure of `bt_risk.compare`: ``"sharpe"``, ``"cagr"``, ``"sortino"``,
        ``"calmar"``, ``"max_drawdown"`` or any other; of drawdowns, CVaR, time under water,
        turnover and costs the smallest is the best. Or a function that returns a number from the
        `bt_risk.report.RunRecord` of a run, where the largest is the best, and NaN is never.
    policy : Policy, dict or path, optional
        The parameters that are not in the space; the default policy when left out.
    sampler : {"grid", "random", "optuna"} or a sampler of Optuna, optional
        Which points run. Every one when left out.
    points : int, optional
        How many points are drawn, with any sampler but the grid.
    seed : int
        Seed of what is drawn. With Optuna and several workers points also depend on which run ends
        first.
    n_jobs : int
        Number of processes, -1 for one each core. They are forked where that is safe (Linux, no
        threads), and share what has been loaded; elsewhere `build` must be a function of a module.
    client : dask.distributed.Client, optional
        Whose workers run the points, in place of processes of this machine.
    store : str or path, optional
        Where results are kept as they come: a SQLite file, or a folder that ends in ``.parquet``.
        A sweep of the same space, objective, policy, code and prices goes on from there and runs no
        point twice. None keeps nothing.
    trials : int
        Strategies and settings that you tried before: the deflated Sharpe ratio counts them too.

    Returns
    -------
    Sweep
        After Ctrl-C it has the points that are done.

    Raises
    ------
    ParameterError
        If an argument is outside its range, or the store has another sweep.
    StateError
        If the store cannot be used.
    """
    chosen, base = Space(space, build), policy_of(COMPONENT, policy)
    goal = objective_of(COMPONENT, objective)
    check_whole(COMPONENT, "trials", trials, low=0, remedy="Those tried elsewhere, 0 if none.")
    source = sampler_of(sampler, chosen, points, seed, goal.smallest)
    job = Job(build, base, chosen, goal)
    if client is not None:
        check_client(client)
    jobs = process_count(job, n_jobs, source.total) if client is None else 1
    kept = open_store(store, chosen, identity_of(job, first_cerebro(job)))
    try:
        complete = run_points(job, source, kept, jobs, client)
    finally:
        kept.close()
    path = None if store is None else Path(store)
    return sweep_of(kept.rows, job, trials, source.total, complete, path)


def process_count(job: Job, n_jobs: int, total: int) -> int:
    """Return the number of processes."""
    if n_jobs != -1:
        check_whole(COMPONENT, "n_jobs", n_jobs, remedy="-1 is one for each core.")
    asked = None if n_jobs == -1 else n_jobs
    sent = (job.build, job.objective.function)
    return min(worker_count(sent, asked, total, COMPONENT, "n_jobs"), max(total, 1))


def first_cerebro(job: Job) -> bt.Cerebro | None:
    """Return the Cerebro of the first point, which tells code and prices; None if it has none."""
    point = job.space.first
    try:
        cerebro = job.bare(point)
        job.feeds.give(cerebro, partial(job.bare, point))  # workers are forked with their bars
        return cerebro
    except ParameterError as error:
        if (error.component, error.param) == (COMPONENT, "build"):
            raise
    except Exception:  # it will be the row of that point
        return None
    return None


def sweep_of(
    rows: Mapping[str, Row], job: Job, trials: int, asked: int, complete: bool, store: Path | None
) -> Sweep:
    space = job.space
    found = sorted((space.place(space.point(key)), key) for key in rows)
    keys = [key for _, key in found]
    frame = pd.DataFrame([rows[key] for key in keys], columns=[*space.names, *COLUMNS])
    best = _best(frame, job.objective)
    point = None if best is None else space.point(keys[best])
    ratios = distinct_ratios(frame["Sharpe"] / frame["year"] ** 0.5)
    return Sweep(
        frame=frame,
        best=point,
        best_policy=job.policy if point is None else replace(job.policy, **space.split(point)[0]),
        objective=job.objective,
        deflated=math.nan if best is None else _deflated(frame.loc[best], ratios, trials),
        tries=len(ratios) + trials,
        asked=asked,
        complete=complete,
        store=store,
        space=space,
    )


def _best(frame: pd.DataFrame, objective: Objective) -> int | None:
    """Return the row with the best objective, the first of several; None where there is none."""
    known = frame["objective"].dropna()
    if known.empty:
        return None
    return int(known.idxmin() if objective.smallest else known.idxmax())


def _deflated(row: pd.Series, ratios: list[float], trials: int) -> float:
    """Return the deflated Sharpe ratio of a point among all that were tried."""
    moments = row["Sharpe"] / row["year"] ** 0.5, int(row["days"]), row["skewness"], row["kurtosis"]
    return deflated_significance(*moments, ratios, trials)
