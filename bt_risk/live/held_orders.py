"""HeldOrders: orders of strategies that the gate has accepted and the broker has not received.

A strategy receives an order that stands in for the broker's, and goes on hearing of that one. The
record in the book is there from the beginning, so that limits count what the order may do.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backtrader import num2date

from bt_risk.live.stand_ins import StandIns
from bt_risk.orders import DEFAULTS, OrderRequest
from bt_risk.portfolio.position import WorkingOrder

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["CANCELLED", "HeldOrders"]

CANCELLED = "held orders: cancelled by the strategy"


class HeldOrders:
    """Hold back orders of one `RiskBroker`, send them later, or end them.

    Attributes
    ----------
    requests : dict of int to OrderRequest
        What is held back, oldest first, by the ref that its record in the book has.
    taking : set of int
        Refs of orders that are being cancelled at the broker, to be held back then.
    numbers : StandIns
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.requests: dict[int, OrderRequest] = {}
        self.taking: set[int] = set()
        self.numbers = StandIns()

    def __contains__(self, ref: int) -> bool:
        return ref in self.requests

    def __bool__(self) -> bool:
        return bool(self.requests)

    def orders(self) -> list[Any]:
        """Return the orders that strategies have received for what is held back."""
        working = self.gate.book.working
        return [
            self.numbers.received(ref, working[ref].handle)
            for ref in self.requests
            if ref in working
        ]

    # -- holding back ----------------------------------------------------------------------------

    def stand_in(self, request: OrderRequest, size: float) -> Any:
        """Return an order that stands in for one that is held back from now on."""
        order = request.native_order(size)
        order.submit(self.gate)
        self.gate.announce(order)
        self.requests[order.ref] = request
        return order

    def take_back(self, working: WorkingOrder) -> None:
        """Hold back an order that has ended at the broker: for the strategy it goes on."""
        self.requests[working.ref] = working.request or _request_of(working)
        working.withheld = 0.0
        self.numbers.go_on(working.handle)

    # -- sending and ending ----------------------------------------------------------------------

    def release(
        self, working: WorkingOrder, size: float, record: Callable[[Any], None] | None = None
    ) -> Any:
        """Send `size` units of an order; return the broker's order, None if it took none.

        `record` is called with that order before the state is saved.
        """
        request, reason = self.requests[working.ref], working.handle.info.get("bt_risk")
        request.args.update(self._links(working, request))
        ref = working.ref
        order = self.gate.order_sender.release(request, working, size, record)
        self.requests.pop(ref, None)
        if order is None:
            self.end(working, self.gate.order_sender.why, rejected=True)
            return None
        if reason:
            order.addinfo(bt_risk=reason)
        if not order.alive():  # some brokers return an order that has ended already
            self.gate.fill_tracker.take(order)
        return order

    def _links(self, working: WorkingOrder, request: OrderRequest) -> dict[str, Any]:
        """Return the OCO order and the parent that the broker knows of, of an order's own."""
        links = dict.fromkeys(("oco", "parent"))
        parent = request.args["parent"]
        if parent is not None:
            entry = self.gate.book.working.get(self.numbers.sent(parent).ref)
            links["parent"] = None if entry is None or entry.ref in self else entry.handle
        if links["parent"] is None and self.gate.order_sender.capabilities.can("oco"):
            others = [
                w
                for w in working.instrument.orders.values()
                if w is not working and w.group == working.group and w.ref not in self
            ]
            links["oco"] = others[0].handle if others else None
        if parent is not None and links["parent"] is None:
            links["transmit"] = True
        return links

    def known(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return an order's OCO order and parent as the broker has them, if it has."""
        return {name: self.numbers.sent(args[name]) for name in ("oco", "parent")}

    def unsent(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the names of an order's OCO order and parent that are held back, with None."""
        names = ("oco", "parent")
        return {name: None for name in names if getattr(args[name], "ref", None) in self.requests}

    def end(self, working: WorkingOrder, reason: str, rejected: bool = False) -> None:
        """End an order that the broker does not have, and the orders that it replaces."""
        ref, order = working.ref, working.handle
        self.requests.pop(ref, None)
        self.gate.book.drop(ref)
        first = self.numbers.received(ref, order)
        first.addinfo(bt_risk=reason)
        if rejected:
            first.reject(self.gate)
            self.gate.order_review.rejected[first.ref] = reason
        else:
            first.cancel()
        self.gate.announce(first)
        action = "reject" if rejected else "trim"
        self.gate.journal.order(first, reason.partition(":")[0], action, reason, 0.0)

    def end_group(self, group: object, reason: str) -> None:
        """End the held orders of an OCO group, one of which has filled or was cancelled."""
        for working in list(self.gate.book.working.values()):
            if working.group == group and working.ref in self.requests:
                self.end(working, reason)

    def cancel(self, ref: int, order: Any) -> Any:
        """Cancel an order that is held back; return the order that the broker must cancel, or None.

        Children that wait with their parent, and the alternatives of an OCO group, end with it.
        """
        sent = self.numbers.sent(order)
        working = self.gate.book.working.get(sent.ref)
        if working is None:
            return sent
        self.taking.discard(working.ref)
        self.gate.venue.note_request(working.instrument)
        if working.ref not in self.requests:
            working.remaining -= working.withheld
            working.withheld = 0.0
            throttle = self.gate.order_sender.throttle
            if throttle.delays_cancel(working):
                return None
            throttle.count()
            return sent
        children = [w for w in self.gate.book.working.values() if w.parent == working.ref]
        self.end(working, CANCELLED)
        for child in children:
            if child.ref in self.requests:
                self.end(child, CANCELLED)
        self.end_group(working.group, CANCELLED)
        return None


def _request_of(working: WorkingOrder) -> OrderRequest:
    """Return the request of an order from before this run."""
    order: Any = working.handle
    args = DEFAULTS | {
        "price": order.created.price,
        "plimit": order.created.pricelimit,
        "exectype": order.exectype,
        "valid": _valid_until(order),
        "tradeid": order.tradeid,
        "trailamount": order.trailamount,
        "trailpercent": order.trailpercent,
    }
    return OrderRequest(working.side, working.owner, working.instrument, working.size, args)


def _valid_until(order: Any) -> datetime.datetime | None:
    return num2date(order.valid) if order.valid else None
