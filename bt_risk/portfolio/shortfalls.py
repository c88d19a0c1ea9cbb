"""Shortfalls: by what a position was closed beyond the stop that its trade was opened with.

From that stop to the price of the fill there are up to three steps, and each has its own cause:

- to the close of the bar before: on the bar of the entry no stop was active (`ENTRY_BAR`), on a
  later bar none rested there (`NO_STOP`; with ``trigger="close"`` none ever does);
- from there to the open of the bar of the fill: the `GAP`;
- from there to the fill: the `VENUE`, by slippage or a late execution, where a stop or a market
  order filled; else the strategy chose that price without a stop (`NO_STOP`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_risk.rules.loss_distribution import ENTRY_BAR, GAP, NO_STOP, VENUE

if TYPE_CHECKING:
    from bt_risk.portfolio.position import OwnerPosition

__all__ = ["note_shortfall"]


def note_shortfall(part: OwnerPosition, units: float, price: float, kind: str) -> None:
    """Add to a trade what closing `units` at `price` loses beyond its first stop, by cause.

    It is called before the fill is booked, and in a backtest before the bar that it happens in is:
    the last bar that the instrument has closed is the one before.

    Parameters
    ----------
    part : OwnerPosition
        The position that is closed; it holds at least `units`.
    units, price : float
        Of the fill, without a sign.
    kind : str
        Of the order that fills: see `WorkingOrder`.
    """
    instrument, side = part.instrument, part.side
    level = part.entry - side * part.stop_distance
    bars = instrument.length - instrument.forming - part.since
    at_the_end = VENUE if kind in ("stop", "market") else NO_STOP
    steps = [(ENTRY_BAR if bars == 1 else NO_STOP, instrument.price), (GAP, instrument.quote())]
    # A position that is closed on the bar of its entry has met no close and no open.
    for cause, reached in [*(steps if bars else ()), (at_the_end, price)]:
        reached = max(reached, price) if side > 0 else min(reached, price)
        points = side * (level - reached)
        if points > 0.0:
            level = reached
            lost = points * units * instrument.multiplier
            part.beyond[cause] = part.beyond.get(cause, 0.0) + lost
