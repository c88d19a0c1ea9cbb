"""Preview of one order: how much of it would close, how much would open, and what covers it.

The book is read once for an order, and nothing in it changes: an `OrderPreview` travels
with the order request from its review to the moment that it is sent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from bt_risk.portfolio.reachable import claims, coming, held_for, market_exits, orders_of
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.position import OwnerPosition, WorkingOrder

__all__ = ["OrderPreview", "OrderTerms", "exiting", "preview_order"]

_AT_MARKET = ("market", "close")


class OrderTerms(NamedTuple):
    """Hold what decides which orders fill before another one.

    `kind`, `price` and `trails` are as in `WorkingOrder`; `group` is the OCO group that the order
    joins and `parent` the working order that it waits for, None without one; `closes` says that
    the strategy called ``close()``, so that the order never opens anything.
    """

    kind: str = "market"
    price: float = math.nan
    trails: bool = False
    group: object = None
    parent: WorkingOrder | None = None
    closes: bool = False


class OrderPreview(NamedTuple):
    """Hold what an order would do to the book, in units; `closing`, `opening`, `void` add up to it.

    Attributes
    ----------
    part : OwnerPosition
        The position that it changes.
    closing : float
        Closes what is held, or is certain to be, and what no other exit of its kind closes yet.
    opening : float
        Opens a position or adds to one; the limits judge this part.
    void : float
        Was cut from an entry and never bought: a strategy that requested 1,000 and got 500 sells
        1,000 to be flat.
    reduces : float
        Passes as an exit whatever the limits allow to open: at a fill it closes what other exits
        have left. At least `closing`.
    cover : float
        Price of the stop order of bt_risk behind the position, NaN where there is none.
    """

    part: OwnerPosition
    closing: float
    opening: float
    void: float
    reduces: float
    cover: float


def preview_order(
    book: Book,
    instrument: Instrument,
    owner: object,
    side: int,
    size: float,
    terms: OrderTerms = OrderTerms(),  # noqa: B008  # it is immutable
) -> OrderPreview:
    """Return what an order for `size` units (positive) on `side` (+1 or -1) would do now."""
    part = book.part(instrument, owner)
    if not instrument.held and not instrument.orders:
        return OrderPreview(part, 0.0, size, 0.0, 0.0, math.nan)
    held = held_for(part, side, terms.closes) if terms.closes else max(0.0, -side * part.size)
    reduces = closing = min(size, held)
    # What a parent opens is left to its children, whatever other exits claim.
    given = 0.0 if terms.parent is None else terms.parent.opening
    others = [w for w in instrument.orders.values() if not w.own]  # what is ours counts as nothing
    if others:
        held += coming(part, terms.kind, side, terms.price, terms.trails, terms.parent)
    if instrument.orders and held + given > 0.0:
        free = held
        if others:
            free = max(0.0, held - claims(part, side, {"market", terms.kind}, terms.group))
            if terms.closes:
                free = max(0.0, free - _claimed_by_others(part, side, terms.kind))
        closing, reduces = min(size, given + free), min(size, given + held)
    opening, void = size - closing, 0.0
    if terms.closes:
        opening, reduces = 0.0, size
    elif part.lost_side == -side and not _left_whole(part, side):
        void = min(opening, part.lost)
        opening -= void
    reduces = max(closing, reduces)
    return OrderPreview(part, closing, opening, void, reduces, _covering_stop(part, side))


def exiting(part: OwnerPosition, side: int) -> float:
    """Return how many units market exits on `side` will close, by now or at a close.

    Those of other owners count with what they close of this position.
    """
    own = claims(part, side, _AT_MARKET)
    if not part.instrument.parts[1:]:
        return own
    rows = market_exits(part.instrument, side)
    others = [units for w, one, units in rows if one is part and w.owner is not part.owner]
    return own + sum(others)


def _claimed_by_others(part: OwnerPosition, side: int, kind: str) -> float:
    """Return what exits of other owners are counted to close of what ``close()`` would close."""
    others = [one for one in part.instrument.parts if one is not part]
    return sum([claims(one, side, {"market", kind}) for one in others])


def _left_whole(part: OwnerPosition, side: int) -> bool:
    """Return whether uncut market exits of the owner close all that the owner holds.

    The strategy has already sold its whole position then, so that this order is meant to open.
    """
    exits = [w.remaining for w in orders_of(part, side) if w.kind == "market" and not w.cut]
    return 0.0 < part.held_against(side) <= sum(exits) + SIZE_EPS


def _covering_stop(part: OwnerPosition, side: int) -> float:
    """Return the price of the stop order of bt_risk behind a position, else NaN.

    One that waits with its entry is behind that alone.
    """
    working = part.instrument.orders
    for w in working.values():
        if w.parent is not None and w.parent in working:
            continue
        if w.own and w.kind == "stop" and w.side == -side and w.owner is part.owner:
            return w.price
    return math.nan
