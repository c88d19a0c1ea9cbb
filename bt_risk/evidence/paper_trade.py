"""One paper trade: units that a rule took away, held on paper with the stop they would have had."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from bt_risk.rules.trailing_stop import ratchet

if TYPE_CHECKING:
    from bt_risk.evidence.paper_broker import PaperBroker
    from bt_risk.evidence.paper_cash import TradingCosts

__all__ = ["Bar", "PaperStop", "PaperTrade"]


@dataclass(frozen=True)
class Bar:
    """One bar of a data feed, with the ATR at its close (NaN while unknown) and its date number."""

    time: pd.Timestamp
    open: float
    high: float
    low: float
    close: float
    atr: float
    number: float = math.nan


@dataclass(frozen=True)
class PaperStop:
    """The trailing stop of a policy on one data feed: see `bt_risk.ATRTrailingStop`."""

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
        The rule that took them away: their result on paper is booked to it.
    side, units : int, float
        +1 or -1, and how many units are left.
    opened, entry : Timestamp, float
        Time and price at which the trade begins.
    distance : float
        Price distance of the stop that the order was judged with.
    stop : float
        Price of the trailing stop; NaN without one.
    matched : bool
        Whether the bare run has held the same side meanwhile: its exit is then the exit.
    follows_exit : bool
        Whether the trade continues what one of our exits closed: it then has no stop.
    batch : float
        Batch of the order: see `bt_risk.evidence.paper_broker.RequestedOrder`.
    moved, costs : float
        Currency that price changes have brought, and that trading has cost (negative: saved).
    peak : float
        The largest number of units held.
    best : float
        The best price since the entry, which an ``extreme`` stop trails.
    leaving : bool
        Whether a stop that acts on closes was reached, and fills at the next open.
    closed, exit, end : Timestamp, float, str
        Time and price of the exit, and what closed the trade: see `ShadowBook.paper_trades`.
    """

    rule: str
    side: int
    units: float
    opened: pd.Timestamp
    entry: float
    distance: float
    stop: float = math.nan
    matched: bool = False
    follows_exit: bool = False
    batch: float = math.nan
    moved: float = 0.0
    costs: float = 0.0
    peak: float = 0.0
    best: float = field(default=math.nan)
    leaving: bool = False
    closed: pd.Timestamp | None = None
    exit: float = math.nan
    end: str = ""

    def __post_init__(self) -> None:
        self.peak, self.best = self.units, self.entry

    @property
    def pnl(self) -> float:
        """Net result in currency."""
        return self.moved - self.costs

    def cash_effect(self, price: float, trading_costs: "TradingCosts") -> float:
        """Return what the trade has done to cash: realised results less the cash it ties up."""
        tied = trading_costs.cash_for(self.side, self.units, self.entry)
        if not math.isnan(trading_costs.margin):  # a future settles at every close
            return self.pnl - tied
        open_result = self.side * self.units * (price - self.entry) * trading_costs.multiplier
        return self.pnl - (open_result if self.units else 0.0) - tied

    def stop_fill(self, bar: Bar, rule: PaperStop, broker: "PaperBroker") -> float | None:
        """Return the price that the stop fills at on this bar, None where it is not reached.

        A stop that acts on closes fills at the open of the bar after.
        """
        if rule.trigger == "close":
            return broker.market_price(-self.side, bar) if self.leaving else None
        if math.isnan(self.stop):
            return None
        return broker.stop_price(-self.side, self.stop, bar)

    def trail_stop(self, bar: Bar, rule: PaperStop, first: bool) -> None:
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
