"""What a margin account reads out of the book: entries, open profit, and what orders may open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_risk.portfolio.instrument import Instrument
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book

__all__ = [
    "commission",
    "entry_price",
    "open_profit",
    "opening_commission",
    "opening_notional",
    "staying",
]


def staying(book: Book, instrument: Instrument) -> float:
    """Return the share of the net position that market exits leave before an order fills, 0 to 1.

    Where owners stand against each other all of it stays: an exit of one may add to the net.
    """
    leaving, net = book.leaving, instrument.size
    if not leaving or not net or any(part.size * net < 0.0 for part in instrument.parts):
        return 1.0
    gone = sum([leaving.get(part, 0.0) for part in instrument.parts])
    return max(0.0, 1.0 - gone / abs(net))


def entry_price(instrument: Instrument) -> float:
    """Return the average price at which what is held was opened, on the side of the net position.

    NaN where nothing is held.
    """
    parts = [part for part in instrument.parts if part.size * instrument.size > 0.0]
    units = sum([abs(part.size) for part in parts])
    paid = sum([abs(part.size) * part.price for part in parts])
    return paid / units if units > SIZE_EPS else float("nan")


def open_profit(instrument: Instrument) -> float:
    """Return the open profit of the net position at the last valid close, in currency."""
    if not instrument.size:
        return 0.0
    return instrument.size * (instrument.price - entry_price(instrument)) * instrument.multiplier


def commission(instrument: Instrument, side: int, size: float, price: float) -> float:
    """Return the commission of opening so many units, in currency of the account.

    An instrument that no commission scheme was measured for has none.
    """
    charges = instrument.charges
    if charges is None or not size > 0.0:
        return 0.0
    return float(charges.getcommission(side * size, abs(price))) * instrument.exchange


def opening_commission(instrument: Instrument) -> float:
    """Return the commission of what working orders may open, in currency."""
    return sum(
        [
            commission(instrument, w.side, w.opening, w.dearest)
            for w in instrument.orders.values()
            if w.opening > SIZE_EPS
        ]
    )


def opening_notional(instrument: Instrument, side: int) -> float:
    """Return the notional that working orders on a side may open, in currency."""
    return sum(
        [
            w.opening * abs(w.dearest) * instrument.multiplier
            for w in instrument.orders.values()
            if w.side == side and w.opening > SIZE_EPS
        ]
    )
