"""``bt_risk.compare``: the same strategy bare, protected, and with each rule alone or left out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import backtrader as bt
import pandas as pd

from bt_risk.errors import DataError, ParameterError, check_flag, check_names, check_whole
from bt_risk.evidence.attribution import (
    RunsBySubset,
    SubsetPlan,
    attribute,
    plan_subsets,
)
from bt_risk.evidence.bootstrap import (
    Interval,
    block_length,
    check_bootstrap,
    intervals,
    resampled_days,
)
from bt_risk.evidence.comparison import Comparison
from bt_risk.evidence.cost_grid import CostPlan, RunsByCost, cost_grid, plan_costs
from bt_risk.evidence.halt_odds import LEAST, halt_probability
from bt_risk.evidence.metrics import MEASURES, Days, days_of, measures
from bt_risk.evidence.order_log import OrderLog
from bt_risk.evidence.progress import progress
from bt_risk.evidence.runner import RunEnd, VariantRun, running
from bt_risk.evidence.shadow_book import shadow_book
from bt_risk.evidence.sharpe import deflated_sharpe, distinct_ratios, probabilistic_sharpe
from bt_risk.evidence.sharpe_test import SharpeTest, sharpe_test
from bt_risk.evidence.variants import BARE, PROTECTED, variants
from bt_risk.policy import Policy, policy_of
from bt_risk.report.calendar import check_periods_per_year
from bt_risk.report.pyfolio import bar_returns

__all__ = ["compare"]


# What `compare` takes beside the parameters of a policy.
_NAMES = (
    "build",
    "policy",
    "rules",
    "confidence",
    "samples",
    "seed",
    "workers",
    "attribution",
    "permutations",
    "costs",
    "trials",
    "periods_per_year",
)


def compare(
    build: Callable[[], bt.Cerebro],
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    rules: str = "each",
    *,
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    attribution: bool = False,
    permutations: int = 24,
    costs: bool | Mapping[str, Sequence[float]] = False,
    trials: int = 0,
    periods_per_year: float | str | None = None,
    **limits: Any,
) -> Comparison:
    """Run a strategy bare, protected, and with each rule alone or left out; return what differs.

    Parameters
    ----------
    build : callable
        Returns a new Cerebro, without a policy, each time it is called. Where processes are forked
        (Linux, no threads), they share what one call has built, and bars that are loaded once.
        Elsewhere several need one that pickles: a function at the top of a module, or a
        ``functools.partial`` of one.
    policy : Policy, dict or path, optional
        The default policy when left out; a dict has the parameters of one, a path names a TOML
        file.
    rules : {"each", "leave-one-out", "all"}
        Every rule of the policy alone, every rule left out of the whole, or both.
    confidence : float
        Confidence of every interval: 0.95 is 95 %.
    samples : int
        Number of resampled histories of the bootstrap.
    seed : int
        Seed of the bootstrap.
    workers : int, optional
        Number of processes. When left out: one for each core. Where processes are not forked, each
        imports the script again: one that lacks ``if __name__ == "__main__":`` runs in one
        process, and so does what does not pickle.
    attribution : bool
        Whether to run subsets of the rules, and to tell what each rule is worth:
        `Comparison.attribution`. It takes many runs: 128 for the seven rules of the default policy.
    permutations : int
        How many orders of the rules are sampled where all subsets would be too many runs: with at
        most 6 rules all subsets run, and where the permutations could take as many runs.
    costs : bool or dict
        Whether to run bare and protected at other costs, to tell where the edge and the worth of
        the rules are gone: `Comparison.costs`. Commission is 0, 1, 2 and 5 times that of the
        broker, slippage 0, 0.05, 0.1 and 0.25 % more than its own, which takes 30 runs. A dict has
        other lists: ``{"commission": [1, 3], "slippage": [0, 0.001]}``.
    trials : int
        Strategies and settings that you tried before this comparison: the deflated Sharpe ratio
        counts them beside the variants.
    periods_per_year : float or str, optional
        Days a year, or the name of an exchange calendar (``"XNYS"``), whose sessions are counted.
        When left out: the days with a bar in each year that has elapsed.
    **limits
        Parameters of a `Policy` where none is given: ``compare(build, risk_limit=0.005)``.

    Returns
    -------
    Comparison

    Raises
    ------
    ParameterError
        If an argument is outside its range, or `build` returns a Cerebro that is protected already.
    DataError
        If there are fewer than 20 days to compare.
    """
    check_names("compare", limits, [*_NAMES, *(one.name for one in fields(Policy))])
    policy = policy_of("compare", policy, limits)
    check_bootstrap("compare", confidence, samples, seed)
    check_whole("compare", "trials", trials, low=0, remedy="Those tried elsewhere, 0 if none.")
    check_flag("compare", "attribution", attribution)
    remedy = "Each is an order in which the rules are switched on."
    permutations = check_whole("compare", "permutations", permutations, low=10, remedy=remedy)
    plan = plan_subsets(policy, permutations, seed) if attribution else None
    grid = plan_costs("compare", costs)
    runs, ends = _runs(build, policy, variants(policy, rules), plan, grid, workers)
    return evaluate(
        runs,
        policy,
        confidence,
        samples,
        seed,
        None if plan is None else RunsBySubset(plan, ends),
        trials,
        periods_per_year,
        None if grid is None else RunsByCost(grid, ends),
    )


def _runs(
    build: Callable[[], bt.Cerebro],
    policy: Policy,
    policies: Mapping[str, Policy | None],
    plan: SubsetPlan | None,
    grid: CostPlan | None,
    workers: int | None,
) -> tuple[dict[str, VariantRun], dict[str, RunEnd]]:
    """Run every variant and what both plans need; return the variants, and the end of each run."""
    asked = {} if plan is None else plan.policies(policy)
    more = {label: one for label, one in asked.items() if label not in policies}
    more |= {} if grid is None else grid.policies(policy)
    costs = {} if grid is None else grid.costs()
    done: dict[str, VariantRun | RunEnd] = {}
    everything = {**policies, **more}
    with (
        running(build, everything, workers, more, costs) as results,
        progress(len(everything)) as step,
    ):
        for label, run in results:
            done[label] = run
            step()
    runs = {label: cast(VariantRun, done[label]) for label in policies}
    if plan is None and grid is None:
        return runs, {}
    return runs, {label: _end(run) for label, run in done.items()}


def _end(run: VariantRun | RunEnd) -> RunEnd:
    return run if isinstance(run, RunEnd) else RunEnd.of(run.record)


def evaluate(
    runs: Mapping[str, VariantRun],
    policy: Policy,
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    subsets: RunsBySubset | None = None,
    trials: int = 0,
    periods_per_year: float | str | None = None,
    by_cost: RunsByCost | None = None,
) -> Comparison:
    """Return the `Comparison` of runs by variant; ``bare`` and ``protected`` are among them.

    `subsets` are the runs that an attribution needs, `by_cost` those of a cost grid.
    """
    records = {label: run.record for label, run in runs.items()}
    if records[BARE].mode != "bare":
        remedy = "Leave protect() and the gate out of it: compare adds them."
        raise ParameterError("compare", "build", "a Cerebro without a gate", BARE, remedy)
    daily = {label: days_of(record) for label, record in records.items()}
    days, (_, index, counted) = {label: one[0] for label, one in daily.items()}, daily[BARE]
    if len(index) < LEAST or any(len(one.returns) != len(index) for one in days.values()):
        lengths = sorted({len(one.returns) for one in days.values()})
        raise DataError(f"compare: every run must have the same days, at least {LEAST}: {lengths}.")
    given = periods_per_year
    year = counted if given is None else check_periods_per_year("compare", given, index)
    returns = {label: one.returns for label, one in days.items()}
    block = block_length(returns[BARE], *(r - returns[BARE] for r in returns.values()))
    picks = resampled_days(len(index), block, samples, seed)
    # Each of these could be chosen, so each counts as a try: bare and every distinct variant.
    tried = [float(measures(one, year)["Sharpe"]) / math.sqrt(year) for one in days.values()]
    figures = intervals(days, BARE, picks, year, block, confidence)
    tests = sharpe_test(days, BARE, block, year, confidence, samples, seed)
    free = next(label for label in ("no drawdown", BARE) if label in records)
    odds = halt_probability(
        bar_returns(records[free]),
        policy,
        confidence=confidence,
        seed=seed,
        periods_per_year=year,
    )
    return Comparison(
        frame=_frame(figures),
        sharpe=_sharpe(days, tests, tried, trials),
        shadow=shadow_book(
            records[BARE],
            records[PROTECTED],
            cast(OrderLog, runs[PROTECTED].order_log),  # the one run that has it
            policy,
        ),
        halt=odds,
        records=records,
        policy=policy,
        days=len(index),
        year=year,
        block=block,
        confidence=confidence,
        samples=samples,
        tries=len(distinct_ratios(tried)) + trials,
        attribution=None if subsets is None else attribute(subsets, picks, block, confidence),
        costs=None if by_cost is None else cost_grid(by_cost, year),
    )


def _frame(figures: Mapping[str, Mapping[str, tuple[Interval, ...]]]) -> pd.DataFrame:
    names = [f"{kind}{end}" for kind in ("value", "difference", "levelled") for end in _ENDS]
    rows = {
        (label, name): [bound for interval in of_run[name] for bound in interval]
        for label, of_run in figures.items()
        for name in MEASURES
    }
    index = pd.MultiIndex.from_tuples(rows, names=["variant", "measure"])
    return pd.DataFrame(list(rows.values()), index, names)


_ENDS = ("", "_low", "_high")


def _sharpe(
    days: Mapping[str, Days], tests: Mapping[str, SharpeTest], tried: list[float], trials: int
) -> pd.DataFrame:
    rows = {}
    for label, one in days.items():
        test = tests.get(label, SharpeTest(math.nan, math.nan, math.nan, evidence=False))
        deflated = deflated_sharpe(one.returns, tried, trials)
        known = probabilistic_sharpe(one.returns), deflated
        rows[label] = [*test, *known]
    columns = [*SharpeTest._fields, "probabilistic", "deflated"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
