"""The result of a comparison: figures of every variant, verdicts, and how certain they are."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bt_risk.evidence.attribution import Attribution, outcome_said
from bt_risk.evidence.cost_grid import CostGrid
from bt_risk.evidence.halt_odds import HaltOdds
from bt_risk.evidence.metrics import final_equity
from bt_risk.evidence.regimes import by_regime
from bt_risk.evidence.shadow_book import ShadowBook
from bt_risk.evidence.trade_order import TradeOrder, trade_order
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.policy import Policy
from bt_risk.report.no_trades import no_trades
from bt_risk.report.record import RunRecord
from bt_risk.report.statistics import loss_figures

__all__ = ["Comparison"]


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
    costs : CostGrid or None
        Both runs at other costs; None where nobody asked for it.
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
    costs: CostGrid | None = None

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
        """Return what came of it, of each rule, at other costs, and of every variant."""
        said = [self.verdict(variant) for variant in self.sharpe.index if variant != BARE]
        if not any(no_trades(self.records[run]) for run in (BARE, PROTECTED)):
            worth = [] if self.attribution is None else self.attribution.sentences()
            costs = [] if self.costs is None else self.costs.sentences()
            said = [self.outcome(), *worth, *costs, *said]
        return list(dict.fromkeys(said))

    def __str__(self) -> str:
        return "\n".join([*self.verdicts(), str(self.halt)])

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
