"""What a margin account reads out of the book: entries, open profit, and what orders may open."""

from __future__ import annotations

from bt_risk.portfolio.instrument import Instrument
from bt_risk.tolerances import SIZE_EPS

__all__ = ["commission", "entry_price", "open_profit", "opening_commission", "opening_notional"]


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
