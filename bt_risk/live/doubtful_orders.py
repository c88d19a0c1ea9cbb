"""DoubtfulOrders: requests without an answer, which may have reached the broker all the same.

A request that fails has not always failed: the acknowledgement may be what was lost. The order
stays in the book, and nothing is sent in its place, until it is settled: by the broker's answer to
a question for its client id, by a notification that matches it, or by the end of a waiting time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_risk.orders import OrderRequest
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["DoubtfulOrders"]

# How often the broker is asked for an order before it is given up.
_ATTEMPTS = 6


@dataclass
class _Doubt:
    """An order that the broker may have received.

    `order` stands in for it, and `asked` is when the broker was asked for it last.
    """

    order: Any
    client_id: str | None
    asked: float
    attempts: int = 0

    def matches(self, order: Any) -> bool:
        """Return whether an order of the broker is this one: by client id, else by its terms."""
        client_id = order.info.get("client_id")
        if client_id and self.client_id:
            return bool(client_id == self.client_id)
        same = self.order.data is order.data and self.order.exectype == order.exectype
        return bool(same and abs(self.order.created.size - order.created.size) <= SIZE_EPS)


class DoubtfulOrders:
    """Settle the requests of one `RiskBroker` that the broker has not answered."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._doubts: dict[int, _Doubt] = {}

    def __contains__(self, ref: int) -> bool:
        return ref in self._doubts

    def orders(self) -> dict[int, Any]:
        """Return the stand-ins of the orders that are in doubt, by ref."""
        return {ref: doubt.order for ref, doubt in self._doubts.items()}

    def add(self, request: OrderRequest, size: float, client_id: str | None, why: str) -> Any:
        """Return an order that stands in for one that the broker may have received."""
        order = request.native_order(size)
        order.submit(self.gate)
        order.addinfo(bt_risk=why)
        self._doubts[order.ref] = _Doubt(order, client_id, self.gate.live.clock())
        self._note(order, "doubt", f"{why}; the broker may have received it: it is not sent again")
        return order

    def advance(self) -> None:
        """Ask the broker again for the orders that are in doubt."""
        now = self.gate.live.clock()
        for ref, doubt in list(self._doubts.items()):
            if doubt.attempts and now - doubt.asked < self.gate.live.retry_after:
                continue
            doubt.asked, doubt.attempts = now, doubt.attempts + 1
            found, answered = self._ask(doubt)
            if found is not None:
                self._confirm(ref, found)
            elif answered or doubt.attempts > _ATTEMPTS:
                self._give_up(ref, answered)

    def _ask(self, doubt: _Doubt) -> tuple[Any, bool]:
        """Return the broker's order, and whether a None is its answer."""
        ask = getattr(self.gate.inner, "order_by_client_id", None)
        if doubt.client_id is None or ask is None:
            return None, False
        try:
            return ask(doubt.client_id), True
        except Exception:  # still no connection: the next attempt asks again
            return None, False

    def claim(self, order: Any) -> bool:
        """Confirm the order in doubt that a notification matches.

        Return whether the notification is to be ignored: a store announces what it is about to
        send, and that does not show that the broker has received it.
        """
        if not self._doubts or order.ref in self.gate.book.working or order.ref in self.gate.own:
            return False
        for ref, doubt in self._doubts.items():
            if doubt.matches(order):
                if order.status in (order.Created, order.Submitted):
                    return True
                self._confirm(ref, order)
                return False
        return False

    def _confirm(self, ref: int, order: Any) -> None:
        stand_in = self._doubts.pop(ref).order
        working = self.gate.book.working.get(ref)
        if working is not None:
            self.gate.book.rekey(working, order)
        self.gate.recovery.recorder.rename(ref, order)
        if self.gate.own.pop(ref, None) is not None:
            order.addinfo(bt_risk=stand_in.info.bt_risk)
            stand_in.ref = order.ref
            stand_in.status, stand_in.executed = order.status, order.executed
            self.gate.own[order.ref] = stand_in
        else:
            self.gate.held_orders.numbers.promise(order, stand_in)
        self._note(stand_in, "note", "the broker has received it")
        if not order.alive():
            self.gate.fill_tracker.take(order)

    def _give_up(self, ref: int, answered: bool) -> None:
        order = self._doubts.pop(ref).order
        why = "the broker has no such order" if answered else "the broker has never confirmed it"
        order.addinfo(bt_risk=f"{order.info.bt_risk}; {why}")
        order.reject(self.gate)
        self._note(order, "note", why)
        if ref not in self.gate.own:
            self._notify_end(order)
        self.gate.book.drop(ref)

    def _notify_end(self, stand_in: Any) -> None:
        """Notify the strategy of the end of an order that the broker does not have."""
        first = self.gate.held_orders.numbers.received(stand_in.ref, stand_in)
        first.status = stand_in.status
        first.addinfo(bt_risk=stand_in.info.bt_risk)
        self.gate.announce(first)

    def _note(self, order: Any, action: str, reason: str) -> None:
        self.gate.journal.order(order, "order sender", action, f"order sender: {reason}")
