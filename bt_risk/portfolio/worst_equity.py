"""The worst equity inside the bars of one point in time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from bt_risk.portfolio.book import Book
from bt_risk.portfolio.day_results import ACCOUNT, Key
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.rules.worst_in_bar import worst_in_bar
from bt_risk.tolerances import SIZE_EPS

__all__ = ["worst_change"]


def worst_change(
    book: Book, fresh: Iterable[Instrument], resting: bool = False, key: Key = ACCOUNT
) -> float:
    """Return by how much equity was lower at the worst point of new bars than at their closes.

    Positions of several instruments are taken at the worst of each, as if that had been at once.

    Parameters
    ----------
    book : Book
    fresh : iterable of Instrument
        Those with a new bar; what is held of others counts at their last close.
    resting : bool
        Whether stop orders that rest may have filled without the book knowing it yet, as at a live
        broker: what they cover counts at their price. In a simulation what the book holds at the
        close was held through the bar.
    key : (int or None, int)
        Instrument and side whose positions count: those of `ACCOUNT` are all of them.

    Returns
    -------
    float
        Zero or less, in currency of the account. A bar that is not believed, or whose high and low
        are no numbers or swapped, is left out: it tells nothing.
    """
    new = {one.index: one for one in fresh}
    index, side = key
    total = 0.0
    for part in book.parts.values():
        instrument = part.instrument
        if not part.size or instrument.index not in new or side not in (0, part.side):
            continue
        if index not in (None, instrument.lead.index):
            continue
        change = _worst(part, _stops(part) if resting else ())
        if change < 0.0:  # False for NaN
            total += change * instrument.multiplier
    return total


def _worst(part: OwnerPosition, stops: Iterable[tuple[float, float]]) -> float:
    """Return the change of one position in price times units, NaN where its bar is unknown."""
    # High and low are still those of an older bar where this one is not believed: `closed` is NaN.
    instrument = part.instrument
    top, bottom, first = instrument.top, instrument.bottom, instrument.open
    opened = math.nan if first is None else float(first.array[first._idx - instrument.forming])
    return worst_in_bar(part.size, opened, top, bottom, instrument.closed, stops)


def _stops(part: OwnerPosition) -> Iterator[tuple[float, float]]:
    """Yield price and units of the stop orders that have rested behind a position for a bar."""
    instrument = part.instrument
    for w in instrument.orders.values():
        behind = w.kind == "stop" and w.owner is part.owner and w.side == -part.side
        if behind and not w.assumed and w.set_at[0] < instrument.complete:
            units = max(w.closing, w.reduces)
            if units > SIZE_EPS:
                yield w.price, min(units, w.remaining)
