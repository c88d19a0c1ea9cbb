"""``bt_risk.compare``: the same strategy bare, protected, and with each rule alone or left out."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import backtrader as bt
import pandas as pd

from bt_risk.errors import DataError, ParameterError, check_flag, check_names, check_whole
from bt_risk.evidence.attribution import (
    Attribution,
    RunsBySubset,
    SubsetPlan,
    attribute,
    outcome_said,
    plan_subsets,
)
from bt_risk.evidence.bootstrap import (
    Interval,
    block_length,
    check_bootstrap,
    intervals,
    resampled_days,
)
from bt_risk.evidence.halt_odds import LEAST, HaltOdds, halt_probability
from bt_risk.evidence.metrics import MEASURES, Days, days_of, final_equity, measures
from bt_risk.evidence.order_log import OrderLog
from bt_risk.evidence.regimes import by_regime
from bt_risk.evidence.runner import RunEnd, VariantRun, running
from bt_risk.evidence.shadow_book import ShadowBook, shadow_book
from bt_risk.evidence.sharpe import deflated_sharpe, distinct_ratios, probabilistic_sharpe
from bt_risk.evidence.sharpe_test import SharpeTest, sharpe_test
from bt_risk.evidence.trade_order import TradeOrder, trade_order
from bt_risk.evidence.variants import BARE, PROTECTED, variants
from bt_risk.policy import Policy, policy_of
from bt_risk.report.calendar import check_periods_per_year
from bt_risk.report.no_trades import no_trades
from bt_risk.report.pyfolio import bar_returns
from bt_risk.report.record import RunRecord
from bt_risk.report.statistics import loss_figures

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The results of every variant, and how certain they are.

    Attributes
    ----------
    frame : DataFrame
        Indexed by variant and measure: ``value``, ``difference`` (from bare) and ``levelled`` (from
        bare at the constant leverage that gives it the variant's volatility), each with ``_low``
        and ``_high``. Bounds are for one figure at a time: of twenty, one misses by chance.
    sharpe : DataFrame
        Indexed by variant: ``difference`` of the annual Sharpe ratios with ``low`` and ``high``,
        which hold for all variants at once, ``evidence`` (whether they leave out zero), ``years``
        of such data that would show a difference of this size, ``probabilistic`` and ``deflated``
        Sharpe ratio of the variant.
    shadow : ShadowBook
        The ledger of what each rule refused, cut or closed in the protected run.
    halt : HaltOdds
        Odds that the breaker halts, from the run without it.
    records : dict of str to bt_risk.report.RunRecord
        By variant.
    policy : Policy
    days, year : int, float
        The number of days compared, and the days a year.
    block : float
        Mean length of the resampled blocks, in days.
    confidence : float
    samples : int
    tries : int
        Distinct Sharpe ratios among the variants, and the ``trials`` that the user stated: what the
        deflated Sharpe ratio allows for.
    attribution : Attribution or None
        What each rule is worth; None where nobody asked for it.
    """

    frame: pd.DataFrame
    sharpe: pd.DataFrame
    shadow: ShadowBook
    halt: HaltOdds
    records: dict[str, RunRecord] = field(repr=False)
    policy: Policy = field(repr=False)
    days: int
    year: float
    block: float
    confidence: float
    samples: int
    tries: int
    attribution: Attribution | None = None

    @property
    def losses(self) -> pd.DataFrame:
        """The losses in R of every protected variant, by variant.

        The figures of `bt_risk.report.statistics.loss_figures`, ``trades`` with a known R, and the
        ``cause`` of the worst.
        """
        rows = {
            variant: loss_figures(record.losses)
            | {"cause": record.losses.worst_cause, "trades": record.losses.trades}
            for variant, record in self.records.items()
            if record.losses.trades
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def regimes(self) -> pd.DataFrame:
        """The bare and the protected run in each regime of the market: see `by_regime`."""
        both = {label: self.records[label] for label in (BARE, PROTECTED)}
        return by_regime(both, self.year)

    @property
    def trade_orders(self) -> dict[str, TradeOrder]:
        """The drawdown of bare and protected with their trades in other sequences."""
        return {label: trade_order(self.records[label]) for label in (BARE, PROTECTED)}

    def outcome(self) -> str:
        """Return one sentence: what the protected account ends with, and what the bare one."""
        bare, protected = (final_equity(self.records[run]) for run in (BARE, PROTECTED))
        falls = self.frame["value"].xs("Max drawdown", level="measure")
        return outcome_said(PROTECTED, (protected, bare), (falls[PROTECTED], falls[BARE]))

    def verdict(self, variant: str = PROTECTED) -> str:
        """Return one sentence: whether a variant earned more or less for its risk than bare."""
        row = self.sharpe.loc[variant]
        name = f'"{variant}"' if " " in variant else variant
        for run in (BARE, variant):
            if reason := no_trades(self.records[run]):
                return f"no trades in {name if run == variant else run}: {reason}"
        if not math.isfinite(row["low"]):
            return f"no evidence: {name} differs from bare on too few days, or on none"
        figures = (
            f"Sharpe {row['difference']:+.2f} against bare, {100 * self.confidence:g} % "
            f"{row['low']:+.2f} to {row['high']:+.2f}"
        )
        if not row["evidence"]:
            return f"no evidence that {name} changes return for risk: {figures}{_needed(row)}"
        word = "more" if row["difference"] > 0 else "less"
        return f"evidence that {name} earns {word} for its risk: {figures}"

    def verdicts(self) -> list[str]:
        """Return what came of it, what each rule is worth, and the verdict of every variant."""
        said = [self.verdict(variant) for variant in self.sharpe.index if variant != BARE]
        if not any(no_trades(self.records[run]) for run in (BARE, PROTECTED)):
            worth = [] if self.attribution is None else self.attribution.sentences()
            said = [self.outcome(), *worth, *said]
        return list(dict.fromkeys(said))

    def _repr_html_(self) -> str:
        """Return verdicts and tables, for a notebook."""
        from bt_risk.evidence.notebook_view import comparison_html

        return comparison_html(self)

    def write(self, path: str | Path, title: str = "Comparison") -> Path:
        """Write the page, one self-contained HTML file; return its path."""
        from bt_risk.evidence.comparison_page import comparison_page

        return comparison_page(self, Path(path), title)


def _needed(row: pd.Series) -> str:
    """Return how long one would have to wait for evidence, where that can be said."""
    years = row["years"]
    if not years < 1000:
        return ""
    return f"; a difference this large needs {years:.0f} years to be seen"


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
    runs, subsets = _runs(build, policy, variants(policy, rules), plan, workers)
    return evaluate(runs, policy, confidence, samples, seed, subsets, trials, periods_per_year)


def _runs(
    build: Callable[[], bt.Cerebro],
    policy: Policy,
    policies: Mapping[str, Policy | None],
    plan: SubsetPlan | None,
    workers: int | None,
) -> tuple[dict[str, VariantRun], RunsBySubset | None]:
    """Run every variant, and what a plan needs beside them."""
    asked = {} if plan is None else plan.policies(policy)
    more = {label: one for label, one in asked.items() if label not in policies}
    done: dict[str, VariantRun | RunEnd] = {}
    total = len(policies) + len(more)
    with running(build, {**policies, **more}, workers, more) as results, _progress(total) as step:
        for label, run in results:
            done[label] = run
            step()
    runs = {label: cast(VariantRun, done[label]) for label in policies}
    if plan is None:
        return runs, None
    return runs, RunsBySubset(plan, {label: _end(done[label]) for label in asked})


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
) -> Comparison:
    """Return the `Comparison` of runs by variant; ``bare`` and ``protected`` are among them.

    `subsets` are the runs that an attribution needs.
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


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar, and yield the function that advances it by one run.

    It is shown in a terminal, and in a notebook that has the widgets for it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    columns = TextColumn("running"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    if not shown:  # rich 13 would print an empty line
        yield lambda: None
        return
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
