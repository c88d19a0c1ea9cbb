"""ExitPair: where one bar reaches several exits of a position, execute the one that comes first.

BackBroker tries its orders in the sequence in which they were sent. A bar that contains a stop and
a target does not say which of them was reached first, so that the worse is assumed: the stop. Only
a bar that opens at the target or beyond it has reached the target before anything else. On its way
to a target the price has passed every limit that is nearer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bt_risk.gate.entry_bar import tick
from bt_risk.portfolio.position import WorkingOrder

if TYPE_CHECKING:
    from bt_risk.gate.simulated_execution import SimulatedExecution

__all__ = ["ExitPair"]


class ExitPair:
    """Bring the exits beside the targets of one gate into sequence, in one BackBroker."""

    def __init__(self, execution: SimulatedExecution) -> None:
        self.execution, self.inner = execution, execution.inner

    def let_first(self, working: WorkingOrder) -> bool:
        """Let the orders execute that come before a stop or a target of ours on this bar.

        They are behind it on the queue of this bar; one that was tried on this bar is not tried
        again. Return whether the order itself may execute: beside a stop that has begun to fill a
        target is no more, because the rest of the position leaves at the market.
        """
        for rival in list(working.instrument.orders.values()):
            order: Any = rival.handle
            exits = rival.owner is working.owner and rival.side == working.side
            first = exits and rival is not working and _goes_first(rival, working)
            if first and order.active() and self._waits(order):
                self._try(order)
        return working.kind == "stop" or not self._is_leaving(working)

    @staticmethod
    def _is_leaving(target: WorkingOrder) -> bool:
        """Return whether a stop of ours behind the same position has begun to fill."""
        return any(
            one.own
            and one.kind == "stop"
            and one.owner is target.owner
            and one.handle.status == one.handle.Partial
            for one in target.instrument.orders.values()
        )

    def _waits(self, order: Any) -> bool:
        """Return whether BackBroker has yet to try an order on this bar: it marks the end."""
        for one in self.inner.pending:
            if one is None or one is order:
                return one is order
        return False

    def _try(self, order: Any) -> None:
        """Try an order as a round of BackBroker does: taken off the queue, put back if alive."""
        inner = self.inner
        inner.pending.remove(order)
        if order.expire():
            inner.notify(order)
            inner._ococheck(order)
            inner._bracketize(order, cancel=True)
            return
        self.execution.try_exec(order)
        if order.alive():
            inner.pending.append(order)
        elif order.status == order.Completed:
            inner._bracketize(order)


def _goes_first(rival: WorkingOrder, working: WorkingOrder) -> bool:
    """Return whether an exit of the same position comes before a stop or a target of ours."""
    if working.kind == "stop":
        return rival.own and rival.kind == "limit" and _opens_beyond(rival)
    if rival.kind == "limit":
        return not rival.own and working.side * (rival.price - working.price) > 0.0
    return rival.kind == "stop" and not _opens_beyond(working)


def _opens_beyond(target: WorkingOrder) -> bool:
    """Return whether the bar opens at a target, or beyond it."""
    opens = tick(target.instrument.data, "open")
    return target.side * (opens - target.price) <= 0.0
