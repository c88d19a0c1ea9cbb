"""LateFills: close what a broker has filled beyond what was reviewed.

An order that fills while its cancel is on the way, and the second of two exits that fill at the
same moment, open a position that no limit has allowed. It is closed at the market at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from bt_risk.orders import AT_MARKET
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["LATE_FILL", "LateFills"]

# The rule of the orders that close a late fill.
LATE_FILL = "late fill"
# So many ended orders are remembered, with what they were allowed to open.
_REMEMBERED = 1000


class LateFills:
    """Note what exceeds every allowance at one live broker, and close it.

    `OwnerPosition.excess` counts these units. Whatever reduces the position reduces them first, so
    that nothing is closed that was opened by right.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._allowances: dict[int, float] = {}
        self._ended: deque[int] = deque()
        self._since: dict[OwnerPosition, float] = {}

    def remember(self, working: WorkingOrder) -> None:
        """Remember what an order that has ended was still allowed to open."""
        self._allowances[working.ref] = 0.0 if working.own else working.opening
        self._ended.append(working.ref)
        if len(self._ended) > _REMEMBERED:
            self._allowances.pop(self._ended.popleft(), None)

    def beyond(self, order: Any, opens: float) -> float:
        """Return what an order that had ended has opened beyond its allowance, by this fill.

        Of an order that the gate has never sent nothing is known, and nothing of it is closed.
        """
        allowance = self._allowances.get(order.ref)
        if allowance is None:
            return 0.0
        self._allowances[order.ref] = max(0.0, allowance - opens)
        return max(0.0, opens - allowance)

    def note(self, order: Any, part: OwnerPosition, excess: float) -> None:
        """Count units that an order has opened and that nobody has reviewed."""
        side = 1 if order.isbuy() else -1
        part.excess = side * (max(0.0, side * part.excess) + excess)
        reason = f"{LATE_FILL}: {excess:g} of it have opened a position that no limit has allowed"
        self.gate.journal.order(
            order, LATE_FILL, "doubt", f"{reason}; they are closed at the market"
        )

    def advance(self) -> None:
        """Close what exceeds the allowances, where no order of ours does so already."""
        for part in list(self.gate.book.parts.values()):
            if not part.excess:
                continue
            size = min(abs(part.excess), part.held_against(-1 if part.excess > 0 else 1))
            if size <= SIZE_EPS:
                part.excess = 0.0  # a later notification has explained it
            elif part.instrument.length and self._is_certain(part) and self._is_free(part):
                self._close(part, size)

    def _is_certain(self, part: OwnerPosition) -> bool:
        """Return whether the broker holds what the book does, or has not for a while.

        Where notifications come in another sequence than the fills, a later one may close it.
        """
        now, held = self.gate.live.clock(), self.gate.venue.view.position(part.instrument)
        since = self._since.setdefault(part, now)
        agrees = held is not None and abs(held - part.instrument.size) <= SIZE_EPS
        if not agrees and now - since < self.gate.live.retry_after:
            return False
        del self._since[part]
        return True

    def _is_free(self, part: OwnerPosition) -> bool:
        """Return whether no order of ours works on a position; withdraw those that rest."""
        own = [w for w in part.instrument.orders.values() if w.own and w.owner is part.owner]
        for working in own:
            if working.kind not in AT_MARKET:
                self.gate.venue.withdraw(working.handle)
        return not any(self.gate.venue.awaited(working) for working in own)

    def _close(self, part: OwnerPosition, size: float) -> None:
        if self.gate.venue.may_try(part):
            reason = f"{LATE_FILL}: {size:g} were opened that no limit has allowed"
            self.gate.exit_orders.send_all(part, size, LATE_FILL, reason)
