"""StandIns: one number for all the orders that a broker receives for one order of a strategy."""

from __future__ import annotations

from copy import copy
from typing import Any

__all__ = ["StandIns"]


class StandIns:
    """Translate between the order that a strategy has received and the broker's.

    They differ where the gate has held an order back, where the broker's answer was missing, and
    where an order was cancelled at the broker to be sent again with another size.
    """

    def __init__(self) -> None:
        # The strategy's order by the ref of the broker's, and the broker's by the strategy's.
        self._received: dict[int, Any] = {}
        self._sent: dict[int, Any] = {}
        # Refs of orders that have ended at the broker, and that go on for the strategy.
        self._going_on: set[int] = set()

    def promise(self, order: Any, stand_in: Any) -> None:
        """Let notifications of the broker's order bear the number of its stand-in from now on."""
        first = self._received.pop(stand_in.ref, stand_in)
        if order is not first:
            self._received[order.ref] = first
        self._sent[first.ref] = order

    def received(self, ref: int | None, order: Any) -> Any:
        """Return the order that a strategy has received for one with this ref, else `order`."""
        return order if ref is None else self._received.get(ref, order)

    def sent(self, order: Any) -> Any:
        """Return the order that the broker has for one of a strategy, else the order itself."""
        return self._sent.get(getattr(order, "ref", -1), order)

    def go_on(self, order: Any) -> None:
        """Let an order that has ended at the broker go on for the strategy."""
        self._going_on.add(order.ref)
        first = self._received.get(order.ref, order)
        first.status = order.Partial if order.executed.size else order.Accepted

    def as_promised(self, order: Any, filled: bool) -> Any:
        """Return a notification under the number that the strategy knows; None: it hears nothing.

        `filled` says whether it reports an execution.
        """
        first, goes_on = self._received.get(order.ref), order.ref in self._going_on
        if first is None and not goes_on:
            return order
        if goes_on and not filled:
            return None
        twin = copy(order)
        if goes_on:
            twin.status = order.Partial
        if first is not None:
            first.status, first.executed = twin.status, order.executed
            twin.ref = first.ref
        return twin
