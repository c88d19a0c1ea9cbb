"""The cash that papers are paid from: that of the account which held them all."""

import math
from typing import NamedTuple

from bt_risk.rules.sizing import round_down

__all__ = ["PaperCash", "TradingCosts"]


class TradingCosts(NamedTuple):
    """What one data costs: plain values of its Backtrader commission scheme.

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
        Commission of one unit by its notional, for a data that neither run has traded.
    """

    multiplier: float = 1.0
    margin: float = math.nan
    leverage: float = 1.0
    shortcash: bool = True
    rate: float = 0.0

    def cash_for(self, side, units, price):
        """Return the cash that opening so many units takes, without commission."""
        if not math.isnan(self.margin):
            return units * self.margin
        value = units * price * (side if self.shortcash else 1)
        return value / self.leverage if value > 0 else value


class PaperCash:
    """What the protected account would have had in cash, had it held every paper as well.

    Parameters
    ----------
    cash : Series
        Of the protected run, by time.
    """

    def __init__(self, cash):
        self.times, self.cash = cash.index, cash.to_numpy()
        self.walks = []

    def free(self, time):
        """Return the cash at a bar, after the real fills of that bar."""
        place = max(0, self.times.searchsorted(time, side="right") - 1)
        cash = float(self.cash[place]) if len(self.cash) else math.inf
        return cash + sum([walk.paper_cash() for walk in self.walks])

    def payable(self, terms, wish, units, price, cost, time, sure):
        """Return how many units of a wish could have been paid for.

        `sure` units need no proof: the bare run has paid for them. Beyond them the account pays
        as BackBroker asks it to, for the whole or not at all; what a sizer of ours proposed is
        cut to what there is.
        """
        free = self.free(time)
        sure = min(units, sure)
        each = terms.cash_for(wish.side, 1.0, price) + cost
        if sure >= units or each * units <= free + 1e-9 * abs(free):
            return units
        if math.isnan(wish.step):
            return sure
        more = max(0.0, free - each * sure) / each
        return min(units, sure + round_down(more, wish.step or None))
