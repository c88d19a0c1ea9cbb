"""Tradeids: Backtrader keeps one trade for each; an order belongs to the trade of its tradeid."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.portfolio.position import OwnerPosition
from bt_risk.tolerances import SIZE_EPS

__all__ = ["book_tradeid", "book_unnamed", "by_tradeid", "exits_under"]


def book_tradeid(part: OwnerPosition, tradeid: Any, size: float) -> None:
    """Add a signed fill to the trade that Backtrader books it to."""
    sizes = part.tradeids
    total = sizes.get(tradeid, 0.0) + size
    if total > SIZE_EPS or total < -SIZE_EPS:
        sizes[tradeid] = total
    else:
        sizes.pop(tradeid, None)


def book_unnamed(part: OwnerPosition, size: float) -> None:
    """Add a signed change of a position that no order of its owner explains.

    It closes the oldest trades first; what it opens has tradeid 0.
    """
    for tradeid, held in list(part.tradeids.items()):
        if held * size < 0.0:
            closed = math.copysign(min(abs(held), abs(size)), size)
            book_tradeid(part, tradeid, closed)
            size -= closed
    if abs(size) > SIZE_EPS:
        book_tradeid(part, 0, size)


def exits_under(part: OwnerPosition, tradeid: Any) -> float:
    """Return what market exits of the owner are about to close under a tradeid."""
    return sum(
        [
            w.remaining
            for w in part.instrument.orders.values()
            if w.owner is part.owner
            and w.side == -part.side
            and w.kind == "market"
            and not w.own
            and w.tradeid == tradeid
        ]
    )


def by_tradeid(part: OwnerPosition, size: float) -> dict[Any, float]:
    """Return how much of `size` units an exit of ours closes under each tradeid.

    Only trades on the side of the position count: no order of ours opens a trade. What market exits
    of the owner close is left to them, as far as the rest is enough.
    """
    if len(part.tradeids) <= 1:
        return dict.fromkeys(part.tradeids or (0,), size)
    side, shares, left = part.side, {}, size
    held = {tradeid: side * units for tradeid, units in part.tradeids.items() if side * units > 0}
    for tradeid, units in held.items():
        shares[tradeid] = min(left, max(0.0, units - exits_under(part, tradeid)))
        left -= shares[tradeid]
    for tradeid, units in held.items():
        more = min(left, units - shares[tradeid])
        shares[tradeid] += more
        left -= more
    return {tradeid: units for tradeid, units in shares.items() if units > SIZE_EPS}
