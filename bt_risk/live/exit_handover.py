"""At a venue our stop and an exit of the user must not both fill: the exit waits for the stop.

BackBroker lets both rest and decides at the moment of execution (`SimulatedExecution`); nobody else
does. There the stop is cancelled first, the exit is sent when the venue has confirmed that,
for what is still held, and the stop is placed again if the exit fails.
"""

from copy import copy
from dataclasses import dataclass

from bt_risk.tolerances import SIZE_EPS

__all__ = ["ExitHandover"]


@dataclass
class _Held:
    """An exit that waits: the order that the user has in hand, and the stops that must go."""

    ticket: object
    order: object
    stops: set


class ExitHandover:
    """Hold back market exits of one `RiskBroker` while a stop of ours is being cancelled."""

    def __init__(self, gate):
        self.gate = gate
        self.waiting = []
        self._promised, self._sent = {}, {}

    def hold(self, ticket, size):
        """Return an order for the user to hold on to, None where nothing stands in the way."""
        stops = [
            w
            for w in ticket.instrument.orders.values()
            if w.own and w.kind == "stop" and w.side == ticket.side and w.owner is ticket.owner
        ]
        if not stops:
            return None
        order = ticket.native_order(size)
        order.submit(self.gate)
        self.gate.announce(order)
        for stop in stops:
            self.gate.venue.withdraw(stop.handle)
        self.waiting.append(_Held(ticket, order, {stop.ref for stop in stops}))
        return order

    def advance(self):
        """Send the exits whose stops are gone."""
        working = self.gate.book.working
        for held in list(self.waiting):
            resting = held.stops & working.keys()
            for ref in resting:  # a cancel that got lost is sent again in time
                self.gate.venue.withdraw(working[ref].handle)
            if not resting:
                self.waiting.remove(held)
                self._send(held)

    def _send(self, held):
        ticket, book = held.ticket, self.gate.book
        working = book.working[held.order.ref]
        left = ticket.preview.part.held_against(ticket.side) + working.opening
        size = min(working.remaining, left)
        order = None
        if size > SIZE_EPS:
            order = self.gate.order_sender.transmit(ticket, size)
        if order is None:
            reason = "exit handover: the stop has closed the position first"
            if size > SIZE_EPS:
                reason = "exit handover: the broker took no order"
            self._end(held.order, reason)
            return
        working.filled(working.remaining - size)
        book.rekey(working, order)
        self.promise(order, held.order)

    def promise(self, order, stand_in):
        """Let the user know an order of the broker's by the one that is in hand already."""
        first = self._promised.pop(stand_in.ref, stand_in)
        self._promised[order.ref], self._sent[first.ref] = first, order

    def tell(self, stand_in):
        """Notify the user of what became of an order that the broker does not have."""
        first = self._promised.pop(stand_in.ref, stand_in)
        first.status = stand_in.status
        first.addinfo(bt_risk=stand_in.info.bt_risk)
        self.gate.announce(first)

    def _end(self, order, reason):
        order.addinfo(bt_risk=reason)
        order.cancel()
        self.gate.book.drop(order.ref)
        self.gate.announce(order)
        self.gate.journal.order(order, "exit handover", "trim", reason, 0.0)

    def as_promised(self, order):
        """Return a notification under the number of the order that the user has in hand."""
        promised = self._promised.get(order.ref)
        if promised is None:
            return order
        promised.status, promised.executed = order.status, order.executed
        twin = copy(order)
        twin.ref = promised.ref
        return twin

    def cancel(self, ref, order):
        """Cancel an exit that waits; return what the venue has to cancel, None for nothing."""
        for held in self.waiting:
            if held.order.ref == ref:
                self.waiting.remove(held)
                self._end(held.order, "exit handover: cancelled by the strategy")
                return None
        return self._sent.get(ref, order)
