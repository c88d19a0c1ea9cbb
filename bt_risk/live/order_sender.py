"""OrderSender: the one way of an order to the wrapped broker, which no crash can make forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bt_risk.limits.base import Decision
from bt_risk.live.capabilities import Capabilities
from bt_risk.live.doubtful_orders import DoubtfulOrders
from bt_risk.live.throttle import Throttle
from bt_risk.orders import TRAILING, OrderRequest
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.portfolio.reachable import opposed
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["OrderSender"]

# Parts of the class names that HTTP clients and stores give to errors of the transport; every
# other error is an answer of the broker.
_TRANSPORT = ("Timeout", "Network", "Connect", "NotAvailable", "Disconnected", "OperationFailed")


class OrderSender:
    """Send the orders of one `RiskBroker`, its own and the users'.

    Attributes
    ----------
    rule, why : str
        The rule that kept the last order from being sent or accepted, and the reason.
    refused : bool
        Whether the reason is more than that the broker returned None.
    unsaved : bool
        Whether the last order was not sent because its intent could not be written.
    doubts : DoubtfulOrders
        Requests that the broker has not answered.
    throttle : Throttle
    """

    def __init__(self, gate: Gate) -> None:
        self.gate, self.rule, self.why = gate, "", ""
        self.refused = self.unsaved = False
        self.doubts = DoubtfulOrders(gate)
        declared = gate.live.capabilities or {}
        self.capabilities = Capabilities(gate.inner, declared, gate.venue.direct)
        self.throttle = Throttle(gate, None if gate.venue.direct else gate.live.orders_per_second)

    @property
    def refusal(self) -> Decision:
        """The decision on the last order that was not sent or not accepted."""
        return Decision(0.0, self.why, self.rule)

    def send(
        self,
        request: OrderRequest,
        size: float,
        record: Callable[[Any], None],
        *,
        own: bool = False,
        opening: float = 0.0,
        closing: float = math.nan,
        distance: float = math.nan,
        child: bool = False,
        stops: bool = False,
        shared: bool = False,
        waits: bool = False,
    ) -> Any:
        """Write the intent, send the order, add it to the book, let `record` note it, and save.

        A crash at any point of this sequence leaves a state from which the next run knows the
        order: the intent is on the disk before the order is sent, and nothing that the caller
        records is missing when the state is saved again.

        Parameters
        ----------
        request : OrderRequest
        size : float
            Units of the request to send.
        record : callable
            Called with the order, or with None if the broker accepted none, before the save.
        own : bool
            Whether it is an exit of bt_risk itself, which is sent even if nothing can be saved.
        opening, closing : float
            The part of `size` that may open, and what it is counted to close: NaN for the rest.
        distance : float
            The stop distance that it was judged with.
        child : bool
            Whether it is an exit of its parent: only one child of a parent fills.
        stops : bool
            Whether a market order takes the place of a stop.
        shared, waits : bool
            As in `WorkingOrder`.

        Returns
        -------
        order or None
            The broker's order, or one that stands in for it while a stop is being cancelled or
            the broker's answer is missing. None: see `why`; if `unsaved`, nothing was sent and
            `record` was not called.
        """
        state, saves = self.gate.recovery.recorder, self.gate.recovery.active
        self.unsaved = False
        if saves:
            failed = state.intend(request, size, own=own, opening=opening, distance=distance)
            self.unsaved = bool(failed) and size - opening <= SIZE_EPS and self.gate.intervenes
            if self.unsaved:
                self.rule, self.why, self.refused = "state", failed, True
                state.sent(None)
                return None
        closing = size - opening if math.isnan(closing) else min(closing, size)
        order = None
        if not own and not self.capabilities.direct:
            order = self.gate.venue.hold(request, size, opening, closing, waits)
        if order is None:
            order = self.transmit(request, size, own, opening)
        if state.intended:
            state.sent(order)
        if order is not None:
            working = self._working_order(request, order, size, opening, distance)
            working.closing = closing
            working.stops |= stops
            working.shared, working.waits = shared, waits
            if own:
                working.own, working.set_at = True, request.instrument.moment()
            elif child and hasattr(request.args["parent"], "ref"):
                working.parent = request.args["parent"].ref
                working.group = "children of", working.parent
            self.gate.book.add(working)
        record(order)
        if saves:
            state.save()
        return order

    def _working_order(
        self, request: OrderRequest, order: Any, size: float, opening: float, distance: float
    ) -> WorkingOrder:
        price = request.price
        if request.kind == "stop" and not request.args["price"]:
            price = order.created.price  # a trailing stop computes its own
        return WorkingOrder(
            order.ref,
            request.instrument,
            request.owner,
            request.side,
            float(size),
            float(opening),
            request.kind,
            price,
            distance,
            self._oco_group(request),
            handle=order,
            request=request,
            trails=request.args["exectype"] in TRAILING,
            dearest=max(request.dearest, price),
            tradeid=request.args["tradeid"],
        )

    def _oco_group(self, request: OrderRequest) -> Any:
        """Return what an order shares with those it replaces, None for an order alone."""
        oco = request.args["oco"]
        if oco is None:
            return None
        known = self.gate.book.working.get(oco.ref)
        return known.group if known else oco.ref

    def release(
        self,
        request: OrderRequest,
        working: WorkingOrder,
        size: float,
        record: Callable[[Any], None] | None = None,
    ) -> Any:
        """Send `size` units of an order that was held back; its record in the book goes on.

        Return the broker's order; None: see `why`. What an order may open is not sent where its
        intent cannot be saved.
        """
        state, opening = self.gate.recovery.recorder, min(working.opening, size)
        failed = state.intend(request, size, opening=opening, distance=working.distance)
        if failed and size - opening <= SIZE_EPS:
            self.rule, self.why, self.refused = "state", failed, True
            state.sent(None)
            return None
        order = self.transmit(request, size, opening=opening)
        if state.intended:
            state.sent(order)
        if order is not None:
            before = working.handle
            self.gate.book.rekey(working, order)
            self.gate.held_orders.numbers.promise(order, before)
            working.withheld = max(0.0, working.remaining - size)
            if record is not None:
                record(order)
        state.save()
        return order

    def transmit(
        self, request: OrderRequest, size: float, own: bool = False, opening: float = 0.0
    ) -> Any:
        """Pass an order to the wrapped broker; its intent has been written.

        Return the broker's order, one that stands in for it while its answer is missing, or None.
        """
        self.rule, self.why, self.refused = "broker", "broker: it returned no order", False
        if self.capabilities.direct or not self.gate.intervenes:
            return self.gate.venue.place(request, size, own)
        inner = self.gate.inner
        send = inner.buy if request.side > 0 else inner.sell
        data, args = request.sent_on.data, request.args
        if self.lacks(request):
            return None
        self.gate.venue.note_request(request.instrument)
        args = args | self.gate.held_orders.unsent(args)
        self.throttle.count()
        client_id = None
        if self.capabilities.can("client_ids"):
            intended = self.gate.recovery.recorder.intended
            client_id = args.get("client_id") or intended or f"btr-{uuid4().hex[:24]}"
            args = args | {"client_id": client_id}
        if opening <= SIZE_EPS and self.reduces_only(request):
            args = args | {"reduce_only": True}
        try:
            order = send(request.owner, data, size, **args)
        except Exception as error:  # a store raises whatever its client raises
            order = self._failed(request, size, client_id, error)
        if order is not None and client_id is not None:
            self.gate.recovery.recorder.name(order, client_id)
        return order

    def lacks(self, request: OrderRequest) -> bool:
        """Return whether the broker cannot take such an order; `why` says what it lacks."""
        lacking = self.capabilities.lacking(request.args)
        if lacking:
            remedy = "unless it is declared, see `bt_risk.Live`"
            self.rule = "capabilities"
            self.why, self.refused = f"capabilities: the broker has no {lacking}, {remedy}", True
        return bool(lacking)

    def reduces_only(self, request: OrderRequest) -> bool:
        """Return whether the broker keeps an order without an allowance from opening anything.

        A child is linked to its parent by the broker, which may not accept a reduction of a
        position that is not there yet. Where owners hold both sides, the broker knows only the
        difference, and would never let the exit of the smaller one fill.
        """
        can = self.capabilities.can("reduce_only")
        return can and request.args["parent"] is None and not opposed(request.instrument)

    def _failed(
        self, request: OrderRequest, size: float, client_id: str | None, error: Exception
    ) -> Any:
        """Return an order in doubt where the broker may have received it, else None."""
        text = f"{type(error).__name__}: {error}"[:120]  # as much as fits in a line
        self.why, self.refused = f"broker: {text}", True
        if not _may_have_arrived(error):
            return None
        return self.doubts.add(request, size, client_id, self.why)


def _may_have_arrived(error: Exception) -> bool:
    """Return whether a failed request may have reached the venue all the same."""
    names = [cls.__name__ for cls in type(error).__mro__]
    return isinstance(error, OSError) or any(w in name for name in names for w in _TRANSPORT)
