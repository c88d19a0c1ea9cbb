"""PriceWatch: a range of prices in which nothing happens that anybody would see."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["PriceWatch"]


class PriceWatch:
    """Follow the price of an instrument from bar to bar, while it stays in a range.

    Attributes
    ----------
    instrument : Instrument
    low, high : float
        Its last valid close is between these two.
    last, lowest, highest : float
        That close on the last bar that was noted, and its extremes since the watch began: with
        the present one, or with `price`.
    """

    __slots__ = ("high", "highest", "instrument", "last", "low", "lowest")

    def __init__(
        self,
        instrument: Instrument,
        low: float = -math.inf,
        high: float = math.inf,
        price: float | None = None,
    ) -> None:
        self.instrument, self.low, self.high = instrument, low, high
        self.last = self.lowest = self.highest = instrument.price if price is None else price

    @property
    def inside(self) -> bool:
        """Return whether the price is in the range; one that is NaN is not."""
        return self.low < self.instrument.price < self.high

    def note(self) -> None:
        """Take the price of a bar on which nothing has happened."""
        self.last = price = self.instrument.price
        if price < self.lowest:
            self.lowest = price
        if price > self.highest:
            self.highest = price
