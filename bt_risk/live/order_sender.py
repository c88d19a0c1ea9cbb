"""The last step to the broker inside: an order is sent once, whatever becomes of the request.

A request that fails has not always failed: the acknowledgement may be what was lost. Such an order
is in doubt. It keeps its place in the book, so that nothing is sent in its stead, until somebody
says what became of it: the broker when it is asked for the client id, a notification that fits, or
the clock.
"""

from dataclasses import dataclass
from uuid import uuid4

import backtrader as bt

from bt_risk.live.settings import BUILT_IN, CAPABILITIES
from bt_risk.portfolio.position import EPS

__all__ = ["OrderSender"]

_STOPS = (bt.Order.Stop, bt.Order.StopLimit)
_TRAILS = (bt.Order.StopTrail, bt.Order.StopTrailLimit)
# Errors of the transport, by the names that HTTP clients and stores give them; every other one is
# the broker's answer.
_TRANSPORT = ("Timeout", "Network", "Connect", "NotAvailable", "Disconnected", "OperationFailed")
# So many looks until an order that nobody knows is given up.
_PATIENCE = 6


@dataclass
class _Doubt:
    """An order that may have arrived: what stands in for it, and when it was asked for last."""

    order: object
    client_id: str | None
    asked: float
    tries: int = 0

    def is_for(self, order):
        """Whether an order of the broker's is this one: by its client id, else by its looks."""
        told = order.info.get("client_id")
        if told and self.client_id:
            return told == self.client_id
        same = self.order.data is order.data and self.order.exectype == order.exectype
        return same and abs(self.order.created.size - order.created.size) <= EPS


class OrderSender:
    """Send the orders of one `RiskBroker`, its own and the users'.

    `why` says why the last order was not taken, and `refused` that it was not by returning None.
    """

    def __init__(self, gate):
        self.gate, self.rule, self.why, self.refused = gate, "", "", False
        self.doubts = {}
        declared = getattr(gate.inner, "capabilities", None)
        declared = declared if isinstance(declared, dict) else {}
        known = {name: value for name, value in declared.items() if name in CAPABILITIES}
        built_in = BUILT_IN.get(type(gate.inner).__module__, {})
        self._can = CAPABILITIES | built_in | known | gate.live.capabilities
        self._direct = gate.venue.direct

    def can(self, capability):
        """Whether the broker inside can do something, by the names of `bt_risk.live`."""
        return self._direct or self._can[capability]

    def send(self, ticket, size, own=False):
        """Hand an order on; return the broker's, one that stands in while in doubt, or None."""
        self.rule, self.why, self.refused = "broker", "broker: it returned no order", False
        sender = self.gate.sender(ticket.side)
        data, args = ticket.instrument.data, ticket.args
        if self._direct or not self.gate.intervenes:
            return sender(ticket.owner, data, size, **args)
        lacking = self._lacking(args)
        if lacking:
            remedy = "unless it is declared, see `bt_risk.Live`"
            self.rule = "capabilities"
            self.why, self.refused = f"capabilities: the broker has no {lacking}, {remedy}", True
            return None
        client_id = None
        if self.can("client_ids"):
            recovery = self.gate.recovery
            intended = recovery.intended if recovery is not None else None
            client_id = args.get("client_id") or intended or f"btr-{uuid4().hex[:24]}"
            args = args | {"client_id": client_id}
        if own and self.can("reduce_only"):
            args = args | {"reduce_only": True}
        try:
            order = sender(ticket.owner, data, size, **args)
        except Exception as error:  # a store raises whatever its client raises
            order = self._failed(ticket, size, client_id, error)
        if order is not None and client_id is not None and self.gate.recovery is not None:
            self.gate.recovery.name(order, client_id)
        return order

    def _lacking(self, args):
        """Return what an order needs that the broker does not have, or nothing."""
        kind = args["exectype"]
        needs = {
            "stop": kind in _STOPS,
            "trailing": kind in _TRAILS,
            "oco": args["oco"] is not None,
            "brackets": args["parent"] is not None or not args["transmit"],
        }
        words = {"stop": "stop orders", "trailing": "trailing stops", "oco": "OCO orders"}
        lacking = [words.get(n, n) for n, needed in needs.items() if needed and not self.can(n)]
        return ", ".join(lacking)

    # -- doubts ----------------------------------------------------------------------------------

    def _failed(self, ticket, size, client_id, error):
        self.why, self.refused = f"broker: {_words(error)}", True
        if not _may_have_arrived(error):
            return None
        order = ticket.native_order(size)
        order.submit(self.gate)
        order.addinfo(bt_risk=self.why)
        self.doubts[order.ref] = _Doubt(order, client_id, self.gate.live.clock())
        self._say(order, "doubt", f"{self.why}; it may have arrived and is not sent again")
        return order

    def advance(self):
        """Ask again for the orders that are in doubt."""
        now = self.gate.live.clock()
        for ref, doubt in list(self.doubts.items()):
            if doubt.tries and now - doubt.asked < self.gate.live.retry_after:
                continue
            doubt.asked, doubt.tries = now, doubt.tries + 1
            found, sure = self._look(doubt)
            if found is not None:
                self._found(ref, found)
            elif sure or doubt.tries > _PATIENCE:
                self._gone(ref, sure)

    def _look(self, doubt):
        """Return the broker's order, and whether a None is its answer."""
        ask = getattr(self.gate.inner, "order_by_client_id", None)
        if doubt.client_id is None or ask is None:
            return None, False
        try:
            return ask(doubt.client_id), True
        except Exception as error:  # still no connection: ask later
            self.why = f"broker: {_words(error)}"
            return None, False

    def claim(self, order):
        """Recognise in a notification the order that one in doubt stands for.

        Return whether it says nothing: a store announces what it is about to send, and that is no
        evidence that it has arrived.
        """
        if not self.doubts or order.ref in self.gate.book.working or order.ref in self.gate.own:
            return False
        for ref, doubt in self.doubts.items():
            if doubt.is_for(order):
                if order.status in (order.Created, order.Submitted):
                    return True
                self._found(ref, order)
                return False
        return False

    def _found(self, ref, order):
        stand_in = self.doubts.pop(ref).order
        working = self.gate.book.working.get(ref)
        if working is not None:
            self.gate.book.rekey(working, order)
        if self.gate.recovery is not None:
            self.gate.recovery.name(order, self.gate.recovery.client_id(ref))
        if self.gate.own.pop(ref, None) is not None:
            order.addinfo(bt_risk=stand_in.info.bt_risk)
            stand_in.ref = order.ref
            stand_in.status, stand_in.executed = order.status, order.executed
            self.gate.own[order.ref] = stand_in
        else:
            self.gate.exit_handover.promise(order, stand_in)
        self._say(stand_in, "note", "it had arrived")
        if not order.alive():
            self.gate.fill_tracker.take(order)

    def _gone(self, ref, sure):
        order = self.doubts.pop(ref).order
        said = "the broker has no such order" if sure else "nobody has heard of it"
        order.addinfo(bt_risk=f"{order.info.bt_risk}; {said}")
        order.reject(self.gate)
        self._say(order, "note", said)
        if ref not in self.gate.own:
            self.gate.exit_handover.tell(order)
        self.gate.book.drop(ref)

    def _say(self, order, action, reason):
        self.gate.journal.order(order, "order sender", action, f"order sender: {reason}")


def _words(error):
    """Return what an error says, as much of it as fits in a line."""
    return f"{type(error).__name__}: {error}"[:120]


def _may_have_arrived(error):
    """Whether a failed request may have reached the venue all the same."""
    names = [cls.__name__ for cls in type(error).__mro__]
    return isinstance(error, OSError) or any(w in name for name in names for w in _TRANSPORT)
