"""Preview of one order: how much of it would close, how much would open, and what covers it.

The book is read once for an order, and nothing in it changes: the frozen `OrderPreview` travels
with the order request from its review to the moment that it is sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.position import OwnerPosition

__all__ = ["OrderPreview", "exiting", "preview_order"]


@dataclass(frozen=True, slots=True)
class OrderPreview:
    """Hold what an order would do to the book, in units; `closing`, `opening`, `void` add up to it.

    Attributes
    ----------
    part : OwnerPosition
        What its owner holds of the instrument.
    closing : float
        Closes what is held and what no working exit closes yet.
    opening : float
        Opens a position or adds to one; the limits judge this part.
    void : float
        Was cut from an entry and never bought: a strategy that requested 1,000 and got 500 sells
        1,000 to be flat.
    spare : float
        Could close if no resting exit filled before it; at least `closing`.
    cover : float
        Price of the stop order of bt_risk behind the position, NaN where there is none.
    """

    part: OwnerPosition
    closing: float
    opening: float
    void: float
    spare: float
    cover: float


def preview_order(
    book: Book, instrument: Instrument, owner: object, side: int, size: float
) -> OrderPreview:
    """Return what an order for `size` units (positive) on `side` (+1 or -1) would do now."""
    part = book.part(instrument, owner)
    closable, spare = _closable(book, part, side)
    closing = min(size, closable)
    opening, void = size - closing, 0.0
    if part.lost_side == -side and not _left_whole(part, side):
        void = min(opening, part.lost)
        opening -= void
    return OrderPreview(part, closing, opening, void, min(size, spare), _covering_stop(part, side))


def exiting(book: Book, part: OwnerPosition, side: int, kind: str | None = None) -> float:
    """Return how many units the owner's working exits on `side` will close.

    Alternatives count once. With a `kind` only orders of that kind count.
    """
    return sum(_claims(book, part.instrument, side, kind).get(part.owner, {}).values())


def _closable(book: Book, part: OwnerPosition, side: int) -> tuple[float, float]:
    """Return what all working exits leave to close, and what those at the market leave.

    It is what they leave of the owner's part, or of the net position if that is more: the exits
    of one strategy are set against its own position, and what all strategies hold together may be
    closed by any of them, as ``close()`` does, but only once.
    """
    own, net = -side * part.size, -side * part.instrument.size
    if own <= 0.0 and net <= 0.0:
        return 0.0, 0.0
    if not part.instrument.orders:
        return max(own, net), max(own, net)
    left = []
    for kind in (None, "market"):
        claims = _claims(book, part.instrument, side, kind)
        mine = sum(claims.get(part.owner, {}).values())
        everyone = sum([sum(groups.values()) for groups in claims.values()])
        left.append(max(0.0, own - mine, net - everyone))
    return left[0], left[1]


def _claims(
    book: Book, instrument: Instrument, side: int, kind: str | None
) -> dict[object, dict[object, float]]:
    """Return the units that working exits will close, by owner and group of alternatives."""
    claims: dict[object, dict[object, float]] = {}
    for w in instrument.orders.values():
        if w.side != side or w.own or not book.reachable(w):
            continue
        if kind is None or w.kind == kind:
            groups = claims.setdefault(w.owner, {})
            groups[w.group] = max(groups.get(w.group, 0.0), w.closing)
    return claims


def _left_whole(part: OwnerPosition, side: int) -> bool:
    """Return whether uncut market exits of the owner close all that the owner holds.

    The strategy has already sold its whole position then, so that this order is meant to open.
    """
    exits = [
        w.remaining
        for w in part.instrument.orders.values()
        if w.kind == "market" and w.side == side and w.owner is part.owner and not w.cut
    ]
    return 0.0 < -side * part.size <= sum(exits) + SIZE_EPS


def _covering_stop(part: OwnerPosition, side: int) -> float:
    """Return the price of the stop order of bt_risk behind a position, else NaN."""
    for w in part.instrument.orders.values():
        if w.own and w.kind == "stop" and w.side == -side and w.owner is part.owner:
            return w.price
    return math.nan
