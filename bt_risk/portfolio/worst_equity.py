"""The worst equity inside the bars of one point in time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bt_risk.portfolio.book import Book
from bt_risk.portfolio.day_results import ACCOUNT, Key
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.rules.worst_in_bar import worst_in_bar
from bt_risk.tolerances import SIZE_EPS

__all__ = ["LeftInside", "best_change", "note_exit", "worst_change"]


@dataclass(frozen=True, slots=True)
class LeftInside:
    """What a limit order has closed inside a bar: `size` units, negative for short, at `price`.

    `round` is the round of the book in which the bar comes, and `stops` rested until then.
    """

    round: int
    part: OwnerPosition
    size: float
    price: float
    stops: tuple[tuple[float, float], ...]


def note_exit(book: Book, part: OwnerPosition, side: int, size: float, price: float) -> None:
    """Note that a limit order is about to fill: what it closes may have been worth less before."""
    left, number = book.left_inside, book.rounds + 1
    closes = min(size, part.held_against(side))
    if left is None or closes <= SIZE_EPS:
        return
    if left and left[0].round != number:
        left.clear()
    stops = tuple(_stops(part, part.instrument.complete))
    left.append(LeftInside(number, part, -side * closes, price, stops))


def worst_change(
    book: Book, fresh: Iterable[Instrument], resting: bool = False, key: Key = ACCOUNT
) -> float:
    """Return by how much equity was lower at the worst point of new bars than at their closes.

    Positions of several instruments are taken at the worst of each, as if that had been at once.
    What a limit order has closed inside the bar counts, too: the worst may have come before.

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
        stops = _stops(part, instrument.complete - 1) if resting else ()
        change = _worst(part.instrument, part.size, instrument.closed, stops)
        if change < 0.0:  # False for NaN
            total += change * instrument.multiplier
    if book.left_inside is None:
        book.left_inside = []  # from now on
    for one in book.left_inside:
        instrument, its_side = one.part.instrument, 1 if one.size > 0.0 else -1
        if one.round != book.rounds or instrument.index not in new or side not in (0, its_side):
            continue
        opened = _open(instrument)
        if index in (None, instrument.lead.index) and its_side * (one.price - opened) > 0.0:
            change = _worst(instrument, one.size, one.price, one.stops)
            if change < 0.0:
                total += change * instrument.multiplier
    return total


def best_change(book: Book, fresh: Iterable[Instrument]) -> float:
    """Return by how much equity was higher at the best point of new bars than at their closes."""
    new = {one.index for one in fresh if not one.suspect}
    total = 0.0
    for part in book.parts.values():
        one = part.instrument
        if part.size and one.index in new:
            extreme = one.top if part.size > 0 else one.bottom
            change = part.size * (extreme - one.closed) * one.multiplier
            if change > 0.0:  # False for NaN
                total += change
    return total


def _worst(
    instrument: Instrument, size: float, price: float, stops: Iterable[tuple[float, float]]
) -> float:
    """Return what a position was worth less than at `price`, NaN where its bar is unknown."""
    if instrument.closed != instrument.closed:
        return math.nan  # high and low are still those of an older bar
    top, bottom = instrument.top, instrument.bottom
    return worst_in_bar(size, _open(instrument), top, bottom, price, stops)


def _open(instrument: Instrument) -> float:
    """Return the open of the last bar, NaN where the data feed has none."""
    first = instrument.open
    return math.nan if first is None else float(first.array[first._idx - instrument.forming])


def _stops(part: OwnerPosition, until: int) -> Iterator[tuple[float, float]]:
    """Yield price and units of the stop orders behind a position that rest since bar `until`."""
    instrument = part.instrument
    for w in instrument.orders.values():
        behind = w.kind == "stop" and w.owner is part.owner and w.side == -part.side
        if behind and not w.assumed and w.set_at[0] <= until:
            units = max(w.closing, w.reduces)
            if units > SIZE_EPS:
                yield w.price, min(units, w.remaining)
