"""The cash that pays for paper trades: that of the protected account, had it held all of them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from bt_risk.rules.sizing import round_down

if TYPE_CHECKING:
    from bt_risk.evidence.paper_broker import RequestedOrder
    from bt_risk.evidence.paper_positions import PaperPositions

__all__ = ["PaperCash", "TradingCosts"]


class TradingCosts(NamedTuple):
    """Hold what trading one data feed costs: plain values of its Backtrader commission scheme.

    Attributes
    ----------
    multiplier : float
        Currency of one point of price.
    margin : float
        Cash that a unit takes, leverage counted; NaN for what is paid in full, as shares are.
    leverage : float
    shortcash : bool
        Whether a short sale of shares brings cash in.
    rate : float
        Commission of one unit by its notional, for a data feed that neither run has traded.
    """

    multiplier: float = 1.0
    margin: float = math.nan
    leverage: float = 1.0
    shortcash: bool = True
    rate: float = 0.0

    def cash_for(self, side: int, units: float, price: float) -> float:
        """Return the cash that opening so many units takes, without commission."""
        if not math.isnan(self.margin):
            return units * self.margin
        value = units * price * (side if self.shortcash else 1)
        return value / self.leverage if value > 0 else value


class PaperCash:
    """The cash that the protected account would have, if it held every paper trade as well.

    Parameters
    ----------
    cash : Series
        Cash of the protected run, by time.
    """

    def __init__(self, cash: pd.Series) -> None:
        self.times, self.cash = cash.index, cash.to_numpy()
        self.positions: Sequence[PaperPositions] = []

    def free(self, time: pd.Timestamp) -> float:
        """Return the cash at a bar, after the real fills of that bar."""
        place = max(0, self.times.searchsorted(time, side="right") - 1)
        cash = float(self.cash[place]) if len(self.cash) else math.inf
        return cash + sum([positions.cash() for positions in self.positions])

    def payable(
        self,
        trading_costs: TradingCosts,
        request: "RequestedOrder",
        units: float,
        price: float,
        cost: float,
        time: pd.Timestamp,
        paid: float,
    ) -> float:
        """Return how many units of a requested order could have been paid for.

        The bare run has paid for `paid` units; they need no check. For the rest the account is
        checked as BackBroker checks it: for the whole order or none of it. What a sizer of
        bt_risk proposed is cut to the cash that there is.
        """
        free = self.free(time)
        paid = min(units, paid)
        each = trading_costs.cash_for(request.side, 1.0, price) + cost
        if paid >= units or each * units <= free + 1e-9 * abs(free):
            return units
        if math.isnan(request.step):
            return paid
        more = max(0.0, free - each * paid) / each
        return min(units, paid + round_down(more, request.step or None))
