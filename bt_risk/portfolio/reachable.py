"""Reachable positions: what working orders may close and open, in whatever sequence they fill.

Every order is split when it is submitted. Its claim (`WorkingOrder.closing`) is what it is counted
to close of the position against it, its allowance (`WorkingOrder.opening`) what was reviewed of the
rest. At a fill an order closes what its owner holds against it, and opens no more than its
allowance. All functions look at one owner and one data feed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.tolerances import SIZE_EPS

__all__ = [
    "allowed_fill",
    "book_claims",
    "certain",
    "claims",
    "coming",
    "entering",
    "held_for",
    "market_exits",
    "note_dormant",
    "opens_now",
    "orders_of",
    "orphaned",
    "parts_closed",
    "stranded",
]


_AT_MARKET = ("market", "close")


def orders_of(part: OwnerPosition, side: int) -> list[WorkingOrder]:
    """Return the working orders of an owner on one side, without those of bt_risk.

    An order that waits to be judged counts as nothing.
    """
    orders = part.instrument.orders
    if not orders:
        return []
    return [
        w
        for w in orders.values()
        if w.side == side and not w.own and not w.waits and w.owner is part.owner
    ]


def held_for(part: OwnerPosition, side: int, shared: bool) -> float:
    """Return what an order closes: what its owner holds, or all owners if it is `shared`."""
    if shared:
        return sum([one.held_against(side) for one in part.instrument.parts])
    return part.held_against(side)


def opposed(instrument: Instrument) -> bool:
    """Return whether one owner is long and another short: the broker holds only the difference."""
    sizes = [part.size for one in instrument.copies for part in one.parts]
    return min(sizes, default=0.0) < -SIZE_EPS and max(sizes, default=0.0) > SIZE_EPS


def parts_closed(
    part: OwnerPosition, side: int, size: float, shared: bool
) -> Iterator[tuple[OwnerPosition, float]]:
    """Yield whose position a fill changes, and by how much: first its own, then that of others.

    What exceeds all of them is the owner's.
    """
    others = [] if not shared else [one for one in part.instrument.parts if one is not part]
    closed = min(size, part.held_against(side)) if others else size
    left = size - closed
    for one in others:
        taken = min(left, one.held_against(side))
        if taken > SIZE_EPS:
            left -= taken
            yield one, taken
    if closed + left > SIZE_EPS:
        yield part, closed + left


def market_exits(
    instrument: Instrument, side: int
) -> Iterator[tuple[WorkingOrder, OwnerPosition, float]]:
    """Yield which market exits on a side close what of whose position, as things are.

    An exit closes what its owner holds, and one that ``close()`` has sent what the others hold,
    too, as far as no exit before it does.
    """
    parts = instrument.parts
    left = {part: part.held_against(side) for part in parts}
    for w in instrument.orders.values():
        if w.side != side or w.kind not in _AT_MARKET or w.waits or w.foreign:
            continue
        units = w.remaining if w.own else w.closing
        for part in [w.part, *[one for one in parts if w.shared and one is not w.part]]:
            taken = min(units, left[part])
            if taken > SIZE_EPS:
                left[part], units = left[part] - taken, units - taken
                yield w, part, taken


def certain(entry: WorkingOrder, kind: str, side: int, price: float, trails: bool) -> bool:
    """Return whether a working entry fills before an order that is submitted after it.

    Market orders do, and a limit entry whose price must be passed before a stop is reached. An
    order for the close of the bar is not certain before that close, and the price of a trailing
    stop may move to the other side of a limit.
    """
    if entry.kind == "market":
        return True
    beyond = side * (price - entry.price) > 0.0
    return entry.kind == "limit" and kind == "stop" and not trails and beyond


def coming(
    part: OwnerPosition,
    kind: str,
    side: int,
    price: float,
    trails: bool = False,
    order: WorkingOrder | None = None,
) -> float:
    """Return what entries open that fill before an order on `side`, which could close it.

    An `order` that works already relies only on what was not submitted as an exit beside it.
    """
    entries = [
        w
        for w in orders_of(part, -side)
        if w.opening > SIZE_EPS and w is not order and certain(w, kind, side, price, trails)
    ]
    return _largest_of_groups((w.group, w.opening) for w in entries)


def claims(part: OwnerPosition, side: int, accounts: Iterable[str], group: object = None) -> float:
    """Return what working exits of some kinds are counted to close.

    Orders of one group replace each other and count once, those of `group` itself not at all. A
    child claims nothing before its parent has filled.
    """
    working = part.instrument.orders
    return _largest_of_groups(
        (w.group, w.closing)
        for w in orders_of(part, side)
        if w.kind in accounts
        and (group is None or w.group != group)
        and (w.parent is None or w.parent not in working)
    )


def entering(
    part: OwnerPosition, side: int, unit: str = "", kinds: Collection[str] | None = None
) -> float:
    """Return what working orders may add to a side, in units of the instrument's price.

    It is the sum of the allowances, and no more than what their sizes leave beyond the position
    against them: they close that first. With `kinds` only orders of these kinds count.

    Parameters
    ----------
    part : OwnerPosition
    side : int
    unit : str
        ``"notional"`` counts each unit at its dearest price, ``"risk"`` at its stop distance and
        what a stop-out costs beside it, and nothing at 1.
    kinds : collection of str, optional

    Returns
    -------
    float
        NaN where the price or the distance of one of them is unknown.
    """
    value = units = left = 0.0
    for w in part.instrument.orders.values():
        if w.side != side or w.own or w.waits or w.owner is not part.owner:
            continue
        if w.group != w.ref:
            return _entering_in_groups(part, side, unit, kinds)
        left += w.remaining
        if w.opening > SIZE_EPS and (kinds is None or w.kind in kinds):
            units += w.opening
            value += w.opening * _per_unit(w, unit)
    # Without a position against them there is nothing that they close first.
    if units <= SIZE_EPS or part.size * side >= 0.0 or units <= left + part.size * side + SIZE_EPS:
        return value
    return _entering_in_groups(part, side, unit, kinds)


def _entering_in_groups(
    part: OwnerPosition, side: int, unit: str, kinds: Collection[str] | None
) -> float:
    """Return the same where orders replace each other, or where the position limits them.

    Of a group the largest value counts, and of all groups the units of the largest value.
    """
    groups: dict[object, tuple[float, float]] = {}
    left: dict[object, float] = {}
    for w in orders_of(part, side):
        left[w.group] = max(left.get(w.group, 0.0), w.remaining)
        if w.opening <= SIZE_EPS or (kinds is not None and w.kind not in kinds):
            continue
        value = w.opening * _per_unit(w, unit)
        if math.isnan(value):
            return value
        groups[w.group] = max(groups.get(w.group, (0.0, 0.0)), (value, w.opening))
    room, total = sum(left.values()) - part.held_against(side), 0.0
    for value, units in sorted(groups.values(), key=lambda group: -group[0] / group[1]):
        taken = min(units, max(0.0, room))
        total += value * taken / units
        room -= taken
    return total


def _per_unit(working: WorkingOrder, unit: str) -> float:
    if unit == "notional":
        return working.dearest if working.dearest >= 0.0 else -working.dearest
    return working.distance + working.cost if unit else 1.0


def note_dormant(part: OwnerPosition, side: int) -> None:
    """Mark the orders on a side whose allowances are not counted as things are.

    A position against them has grown, or another order has ended: they close it first. Other
    entries may be allowed what they do not use, so that they are reviewed again before they open.
    """
    if part.size * side >= 0.0:
        return
    entries = [w for w in orders_of(part, side) if w.opening > SIZE_EPS]
    if not entries:
        return
    allowed = _largest_of_groups((w.group, w.opening) for w in entries)
    if entering(part, side) < allowed - SIZE_EPS:
        for w in entries:
            w.dormant = True


def opens_now(part: OwnerPosition, side: int) -> bool:
    """Return whether working orders may add to a side as things are."""
    return entering(part, side) > SIZE_EPS


def allowed_fill(part: OwnerPosition, working: WorkingOrder) -> float:
    """Return how much of an order may fill now: what it closes, and its allowance."""
    closes = min(working.remaining, held_for(part, working.side, working.shared))
    # Handed over, an allowance does not open anything here.
    opens = working.opening - _most_handed_over(part, working, closes)
    # What rounding has left of an allowance would leave a position of as little.
    return min(working.remaining, closes + opens) if opens > SIZE_EPS else closes


def book_claims(part: OwnerPosition, working: WorkingOrder, size: float) -> float:
    """Take a fill of `size` off an order, before its position changes; return what exceeds it.

    An order that closes what others claimed hands them its own allowance in exchange: of two orders
    to sell 10 beside 10 held, one closes and the other opens, whichever fills first. What exceeds
    the position and the allowance nobody has reviewed: only a broker that cannot be clamped fills
    it.
    """
    closes = 0.0
    if working.shared or part.size * working.side < 0.0:
        closes = min(size, held_for(part, working.side, working.shared))
        _hand_over(part, working, closes)
    opens = size - closes
    excess = max(0.0, opens - working.opening)
    _share_allowance(part, working, opens)
    working.closing = max(0.0, working.closing - closes)
    working.opening = max(0.0, working.opening - opens)
    working.remaining = max(0.0, working.remaining - size)
    working.closing = min(working.closing, working.remaining)
    working.opening = min(working.opening, working.remaining)
    return excess


def _hand_over(part: OwnerPosition, working: WorkingOrder, closes: float) -> None:
    taken = min(max(0.0, closes - working.closing), working.opening)
    # A market order fills for certain, so that it gets the allowance first.
    rivals = _rivals(part, working) if taken > SIZE_EPS else []
    for other in sorted(rivals, key=lambda w: w.kind not in _AT_MARKET):
        swap = min(taken, other.closing)
        if swap > SIZE_EPS and working.dormant:
            other.dormant = True
        other.closing, other.opening = other.closing - swap, other.opening + swap
        working.closing, working.opening = working.closing + swap, working.opening - swap
        taken -= swap


def _most_handed_over(part: OwnerPosition, working: WorkingOrder, closes: float) -> float:
    """Return how much of its allowance an order hands over when it closes so much."""
    taken = min(closes - working.closing, working.opening)
    if taken <= SIZE_EPS:
        return 0.0
    return min(taken, sum([other.closing for other in _rivals(part, working)]))


def _rivals(part: OwnerPosition, working: WorkingOrder) -> list[WorkingOrder]:
    """Return the orders of an owner and side beside one, without its alternatives.

    What ``close()`` has sent never opens anything, so that no allowance is handed to it.
    """
    orders = orders_of(part, working.side)
    return [w for w in orders if w.group != working.group and not w.shared]


def _share_allowance(part: OwnerPosition, working: WorkingOrder, opens: float) -> None:
    """Take what an order opens off its alternatives: a child that fills in part ends none."""
    if opens > SIZE_EPS and working.group != working.ref:
        for other in orders_of(part, working.side):
            if other.group == working.group and other is not working:
                other.opening = max(0.0, other.opening - opens)


def stranded(part: OwnerPosition) -> list[WorkingOrder]:
    """Return the exits whose position is gone, and which no entry will give one again.

    They have no allowance, so nothing of them could fill. An exit that never had a position stays:
    it is reviewed as an entry when it is about to execute.
    """
    working = part.instrument.orders
    return [
        w
        for side in (1, -1)
        if not part.held_against(side)
        for w in orders_of(part, side)
        if not held_for(part, side, w.shared)
        and w.opening <= SIZE_EPS
        and w.had_position
        and (w.parent is None or w.parent not in working)
        and coming(part, w.kind, side, w.price, w.trails) <= SIZE_EPS
    ]


def orphaned(part: OwnerPosition, side: int) -> list[WorkingOrder]:
    """Return the exits on a side that have never had a position, and that no entry gives one.

    They were sent with an entry that is gone, so that all they can do is open a position.
    """
    working = part.instrument.orders
    if any(w.opening > SIZE_EPS for w in orders_of(part, -side)):
        return []
    return [
        w
        for w in orders_of(part, side)
        if not w.had_position
        and w.opening <= SIZE_EPS
        and (w.parent is None or w.parent not in working)
    ]


def _largest_of_groups(rows: Iterable[tuple[object, float]]) -> float:
    groups: dict[object, float] = {}
    for group, value in rows:
        groups[group] = max(groups.get(group, 0.0), value)
    return sum(groups.values())
