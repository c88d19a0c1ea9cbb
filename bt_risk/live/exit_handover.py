"""ExitHandover: an exit of the user waits until the stop of ours that protects it is cancelled.

At a live venue both must not fill. BackBroker lets both rest and decides at the moment of execution
(see `SimulatedExecution`); no other broker does. There the stop is cancelled first, the exit is
sent for what is still held once the venue has confirmed that, and the stop is placed again if the
exit fails.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_risk.orders import OrderRequest
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["ExitHandover"]


@dataclass
class _HeldExit:
    """An exit that waits.

    `order` is the one that the strategy has received, `stops` the refs of the stops that must be
    cancelled first.
    """

    request: OrderRequest
    order: Any
    stops: set[int]


class ExitHandover:
    """Hold back market exits of one `RiskBroker` while a stop of ours is being cancelled.

    A strategy receives an order that stands in for the broker's, and goes on hearing of that one.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.waiting: list[_HeldExit] = []
        # The stand-in by the ref of the broker's order, and the broker's order by the stand-in's.
        self._stand_ins: dict[int, Any] = {}
        self._sent: dict[int, Any] = {}

    def hold(self, request: OrderRequest, size: float) -> Any:
        """Return an order that stands in for an exit, None where no stop of ours is working."""
        stops = [
            w
            for w in request.instrument.orders.values()
            if w.own and w.kind == "stop" and w.side == request.side and w.owner is request.owner
        ]
        if not stops:
            return None
        order = request.native_order(size)
        order.submit(self.gate)
        self.gate.announce(order)
        for stop in stops:
            self.gate.venue.withdraw(stop.handle)
        self.waiting.append(_HeldExit(request, order, {stop.ref for stop in stops}))
        return order

    def held(self) -> list[Any]:
        """Return the stand-ins of the exits that the broker has not received yet."""
        return [held.order for held in self.waiting]

    def received(self, ref: int | None, order: Any) -> Any:
        """Return the stand-in that a strategy has received for an order, else the order."""
        return order if ref is None else self._stand_ins.get(ref, order)

    def advance(self) -> None:
        """Send the exits whose stops are cancelled."""
        working = self.gate.book.working
        for held in list(self.waiting):
            resting = held.stops & working.keys()
            for ref in resting:  # a cancel that got lost is sent again in time
                self.gate.venue.withdraw(working[ref].handle)
            if not resting:
                self.waiting.remove(held)
                self._send(held)

    def _send(self, held: _HeldExit) -> None:
        """Send an exit for what is still held; its intent was written when it was held back."""
        request, book = held.request, self.gate.book
        working = book.working[held.order.ref]
        part = book.part(request.instrument, request.owner)
        left = part.held_against(request.side) + working.opening
        size = min(working.remaining, left)
        order = None
        if size > SIZE_EPS:
            order = self.gate.order_sender.transmit(request, size)
        if order is None:
            reason = "exit handover: the stop has closed the position first"
            if size > SIZE_EPS:
                reason = "exit handover: the broker took no order"
            self._end(held.order, reason)
            return
        working.cut_to(size)
        book.rekey(working, order)
        self.promise(order, held.order)

    def promise(self, order: Any, stand_in: Any) -> None:
        """Let notifications of the broker's order bear the number of its stand-in from now on."""
        first = self._stand_ins.pop(stand_in.ref, stand_in)
        self._stand_ins[order.ref], self._sent[first.ref] = first, order

    def notify_end(self, stand_in: Any) -> None:
        """Notify the strategy of the end of an order that the broker does not have."""
        first = self._stand_ins.pop(stand_in.ref, stand_in)
        first.status = stand_in.status
        first.addinfo(bt_risk=stand_in.info.bt_risk)
        self.gate.announce(first)

    def _end(self, order: Any, reason: str) -> None:
        order.addinfo(bt_risk=reason)
        order.cancel()
        self.gate.book.drop(order.ref)
        self.gate.announce(order)
        self.gate.journal.order(order, "exit handover", "trim", reason, 0.0)

    def as_promised(self, order: Any) -> Any:
        """Return a notification under the number of the order that the strategy has received."""
        stand_in = self._stand_ins.get(order.ref)
        if stand_in is None:
            return order
        stand_in.status, stand_in.executed = order.status, order.executed
        twin = copy(order)
        twin.ref = stand_in.ref
        return twin

    def cancel(self, ref: int, order: Any) -> Any:
        """Cancel an exit that waits; return the order that the venue must cancel, or None."""
        for held in self.waiting:
            if held.order.ref == ref:
                self.waiting.remove(held)
                self._end(held.order, "exit handover: cancelled by the strategy")
                return None
        return self._sent.get(ref, order)
