"""The last step to the broker inside: an order is sent once, whatever becomes of the request.

A request that fails has not always failed: the acknowledgement may be what was lost. Such an order
is in doubt. It keeps its place in the book, so that nothing is sent in its stead, until somebody
says what became of it: the broker when it is asked for the client id, a notification that fits, or
the clock.
"""

import math
from dataclasses import dataclass
from uuid import uuid4

import backtrader as bt

from bt_risk.limits.base import Decision
from bt_risk.live.settings import BUILT_IN, CAPABILITIES
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

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
        return same and abs(self.order.created.size - order.created.size) <= SIZE_EPS


class OrderSender:
    """Send the orders of one `RiskBroker`, its own and the users'.

    Attributes
    ----------
    rule, why : str
        What kept the last order from being sent or taken, and the reason.
    refused : bool
        Whether that is more than a broker that returned None.
    unsaved : bool
        Whether it was not sent because its intent could not be written.
    """

    def __init__(self, gate):
        self.gate, self.rule, self.why = gate, "", ""
        self.refused = self.unsaved = False
        self.doubts = {}
        declared = getattr(gate.inner, "capabilities", None)
        declared = declared if isinstance(declared, dict) else {}
        known = {name: value for name, value in declared.items() if name in CAPABILITIES}
        built_in = BUILT_IN.get(type(gate.inner).__module__, {})
        self._can = CAPABILITIES | built_in | known | gate.live.capabilities
        self._direct = gate.venue.direct

    @property
    def refusal(self):
        """The decision on the last order that was not sent or not taken."""
        return Decision(0.0, self.why, self.rule)

    def can(self, capability):
        """Whether the broker inside can do something, by the names of `bt_risk.live`."""
        return self._direct or self._can[capability]

    def send(
        self,
        ticket,
        size,
        record,
        *,
        own=False,
        opening=0.0,
        distance=math.nan,
        child=False,
        stops=False,
    ):
        """Send an order in the one sequence that a crash at any point cannot turn into a loss.

        The intent is on the disk before the order is sent; the order is in the book, and what the
        caller notes about it is done, before the state is saved again.

        Parameters
        ----------
        ticket : OrderRequest
        size : float
            How much of the request is sent.
        record : callable
            Called with the order, or with None if the broker took none, before the save.
        own : bool
            Whether bt_risk sends it for itself: an exit that is sent even if nothing can be saved.
        opening, distance : float
            The part of `size` that opens, and the stop distance that it was judged with.
        child : bool
            Whether it is an exit of its parent: only one child of a parent fills.
        stops : bool
            Whether a market order takes the place of a stop.

        Returns
        -------
        order or None
            The broker's order, or one that stands in for it while the stop is withdrawn or the
            order is in doubt. None: see `why`; with `unsaved` nothing was sent or recorded.
        """
        state = self.gate.recovery.recorder
        failed = state.intend(ticket, size, own=own, opening=opening, distance=distance)
        self.unsaved = bool(failed) and size - opening <= SIZE_EPS and self.gate.intervenes
        if self.unsaved:
            self.rule, self.why, self.refused = "state", failed, True
            state.sent(None)
            return None
        order = None
        if not own and ticket.args["parent"] is None and size - opening > SIZE_EPS:
            order = self.gate.venue.hold(ticket, size)
        if order is None:
            order = self.transmit(ticket, size, own)
        if state.intended:
            state.sent(order)
        if order is not None:
            working = self._working_order(ticket, order, size, opening, distance)
            working.stops |= stops
            if own:
                working.own, working.set_at = True, ticket.instrument.moment()
            elif child and hasattr(ticket.args["parent"], "ref"):
                working.parent = ticket.args["parent"].ref
                working.group = "children of", working.parent
            self.gate.book.add(working)
        record(order)
        state.save()
        return order

    def _working_order(self, ticket, order, size, opening, distance):
        price = ticket.price
        if ticket.kind == "stop" and not ticket.args["price"]:
            price = order.created.price  # a trailing stop computes its own
        return WorkingOrder(
            order.ref,
            ticket.instrument,
            ticket.owner,
            ticket.side,
            float(size),
            float(opening),
            ticket.kind,
            price,
            distance,
            self._oco_group(ticket),
            handle=order,
        )

    def _oco_group(self, ticket):
        """Return what an order shares with those it replaces, None for an order alone."""
        oco = ticket.args["oco"]
        if oco is None:
            return None
        known = self.gate.book.working.get(oco.ref)
        return known.group if known else oco.ref

    def transmit(self, ticket, size, own=False):
        """Pass an order to the wrapped broker; its intent has been written.

        Return the broker's order, one that stands in for it while in doubt, or None.
        """
        self.rule, self.why, self.refused = "broker", "broker: it returned no order", False
        inner = self.gate.inner
        sender = inner.buy if ticket.side > 0 else inner.sell
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
            intended = self.gate.recovery.recorder.intended
            client_id = args.get("client_id") or intended or f"btr-{uuid4().hex[:24]}"
            args = args | {"client_id": client_id}
        if own and self.can("reduce_only"):
            args = args | {"reduce_only": True}
        try:
            order = sender(ticket.owner, data, size, **args)
        except Exception as error:  # a store raises whatever its client raises
            order = self._failed(ticket, size, client_id, error)
        if order is not None and client_id is not None:
            self.gate.recovery.recorder.name(order, client_id)
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
        self.gate.recovery.recorder.rename(ref, order)
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
