"""One order on paper: how it would have gone on, and where its stop would have taken it out."""

import math
from dataclasses import dataclass, field

from bt_risk.rules.trailing_stop import ratchet

__all__ = ["Bar", "PaperTrade", "PaperStop"]


@dataclass(frozen=True)
class Bar:
    """One bar of a data, the ATR at its close (NaN while unknown) and Backtrader's date number."""

    time: object
    open: float
    high: float
    low: float
    close: float
    atr: float
    number: float = math.nan


@dataclass(frozen=True)
class PaperStop:
    """The trailing stop of a policy on one data: see `bt_risk.ATRTrailingStop`."""

    atr_multiple: float
    anchor: str = "close"
    buffer: float = 0.0
    trigger: str = "intrabar"
    min_step: float = 0.0


@dataclass
class PaperTrade:
    """Units that a rule took away, held on paper.

    Attributes
    ----------
    rule : str
        Who took them away: what they earn on paper is what that cost.
    side, units : int, float
        +1 or -1, and how many are left.
    distance : float
        Price distance of the stop that the order was judged with.
    stop : float
        Where the stop would rest; NaN without one.
    matched : bool
        Whether the bare run has held the same side meanwhile: its exit is then the exit.
    after : bool
        Whether it is what an exit of ours has closed: it goes on without a stop.
    batch : float
        That of its order: see `bt_risk.evidence.paper_broker.RequestedOrder`.
    moved, costs : float
        Currency that prices have brought, and that trading has cost (negative: saved).
    """

    rule: str
    side: int
    units: float
    opened: object
    entry: float
    distance: float
    stop: float = math.nan
    matched: bool = False
    after: bool = False
    batch: float = math.nan
    moved: float = 0.0
    costs: float = 0.0
    peak: float = 0.0
    best: float = field(default=math.nan)
    leaving: bool = False
    closed: object = None
    exit: float = math.nan
    end: str = ""

    def __post_init__(self):
        self.peak, self.best = self.units, self.entry

    @property
    def pnl(self):
        """Net result in currency."""
        return self.moved - self.costs

    def cash(self, mark, terms):
        """Return what holding it has done to cash: results that are in, less what it ties up."""
        tied = terms.cash_for(self.side, self.units, self.entry)
        if not math.isnan(terms.margin):  # a future settles at every close
            return self.pnl - tied
        open_result = self.side * self.units * (mark - self.entry) * terms.multiplier
        return self.pnl - (open_result if self.units else 0.0) - tied

    def hit(self, bar, rule, venue):
        """Return the price that the stop fills at on this bar, None where it is not reached.

        A stop that acts on closes leaves at the open of the bar after.
        """
        if rule.trigger == "close":
            return venue.market(-self.side, bar) if self.leaving else None
        if math.isnan(self.stop):
            return None
        return venue.stop(-self.side, self.stop, bar)

    def trail(self, bar, rule, first):
        """Tighten the stop at a close as `ATRTrailingStop` does; `first` is the bar of entry."""
        side = self.side
        if rule.trigger == "close" and not first and side * (bar.close - self.stop) <= 0.0:
            self.leaving = True
        if math.isnan(bar.atr):
            return
        extreme = bar.high if side > 0 else bar.low
        self.best = max(self.best, extreme) if side > 0 else min(self.best, extreme)
        anchor = bar.close if rule.anchor == "close" else self.best
        level = anchor - side * (rule.atr_multiple + rule.buffer) * bar.atr
        price = ratchet(self.stop, level, side)
        if math.isnan(self.stop) or side * (price - self.stop) > rule.min_step * bar.atr:
            self.stop = price
