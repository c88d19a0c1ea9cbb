"""Brackets: send orders with a parent, which are judged with it and rejected with it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_risk.gate.order_events import OrderAsked
from bt_risk.limits.base import Decision
from bt_risk.orders import (
    VOID,
    OrderRequest,
    Verdict,
    losing_side,
    plain,
    refusal,
)
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.order_review import OrderReview

__all__ = ["Brackets"]


class Brackets:
    """Review and send the orders with a parent for one `OrderReview`."""

    def __init__(self, order_review: OrderReview) -> None:
        self.order_review = order_review
        self._childless: dict[int, str] = {}

    def submit(self, request: OrderRequest) -> Any:
        """Send an order with a parent: it is an exit of that parent, which no limit refuses."""
        parent = request.args["parent"]
        ref: int = getattr(parent, "ref", -1)
        reason = self.order_review.rejected.get(ref) or self._childless.get(ref)
        if reason:
            return self._reject_child(request, parent, refusal("bracket", reason))
        entry = self.order_review.book.working.get(ref)
        if entry is None or not self.order_review.gate.intervenes:
            return self._send_child(request, request.size)
        if request.side == entry.side or request.instrument is not entry.instrument:
            return self._submit_dependent(request, parent)
        if request.kind == "stop" and parent.status == parent.Created and entry.opening > SIZE_EPS:
            refused = self._judge_family(request, entry)
            if refused:
                return self._reject_family(request, parent, refused)
        return self._submit_exit_of(request, parent, entry)

    def _submit_exit_of(self, request: OrderRequest, parent: Any, entry: WorkingOrder) -> Any:
        """Send a child: it closes what its parent opens; what exceeds that opens and is judged."""
        closing = min(request.size, entry.opening)
        void = min(request.size - closing, entry.cut)
        distance = self.order_review.stop_distance(request)
        opening = request.size - closing - void
        decision = self.order_review.review(request, opening, distance)
        size = request.size
        if void > SIZE_EPS and not decision.reason:
            decision = refusal("trim", VOID.format(void), decision.size)
        if decision.reason:
            size = max(closing, self.order_review.round(request, closing + decision.size))
        if size <= SIZE_EPS:
            return self._reject_child(request, parent, decision)
        return self._send_child(request, size, size - closing, decision, distance)

    def _send_child(
        self,
        request: OrderRequest,
        size: float,
        opening: float = 0.0,
        decision: Decision | None = None,
        distance: float = math.nan,
    ) -> Any:
        size = self.order_review.units(request, size)
        sender = self.order_review.sender
        record = partial(self._record_sent, request, size, decision)
        order = sender.send(request, size, record, opening=opening, distance=distance, child=True)
        if order is None and sender.unsaved:
            return self._reject_child(request, request.args["parent"], sender.refusal)
        return order

    def _record_sent(
        self, request: OrderRequest, size: float, decision: Decision | None, order: Any
    ) -> None:
        if order is None:
            self.order_review.record_refusal(request)
        elif decision is not None and size < request.size:
            order.addinfo(bt_risk=decision.reason)
            self.order_review.journal(request, "trim", size, decision)

    def _reject_child(self, request: OrderRequest, parent: Any, decision: Decision) -> Any:
        order = self.order_review.reject(request, decision)
        if request.args["transmit"] and parent.ref not in self.order_review.rejected:
            self._release(parent)
        return order

    def _judge_family(self, request: OrderRequest, entry: WorkingOrder) -> Decision | None:
        """Judge a bracket again at the distance of its own stop; return why it is refused."""
        distance = losing_side(entry.side, entry.riskiest, request.price)
        parent = OrderRequest(
            entry.side, entry.owner, entry.instrument, entry.opening, request.args
        )
        opening, entry.opening = entry.opening, 0.0
        decision = self.order_review.review(parent, opening, distance, entry.dearest)
        entry.opening, entry.distance = opening, distance
        return decision if decision.size < opening - SIZE_EPS else None

    def _submit_dependent(self, request: OrderRequest, parent: Any) -> Any:
        """Send an order that waits for its parent but opens: it is judged like any other."""
        distance = self.order_review.stop_distance(request)
        decision = self.order_review.review(request, request.size, distance)
        if decision.size < request.size - SIZE_EPS:
            return self._reject_family(request, parent, decision)
        verdict = Verdict(request.size, decision, 0.0, distance)
        order = self.order_review.send(request, verdict)
        if order is None and self.order_review.sender.unsaved:
            return self._reject_family(request, parent, self.order_review.sender.refusal)
        return order

    def _reject_family(self, request: OrderRequest, parent: Any, decision: Decision) -> Any:
        """Reject parent and children together: half a bracket is worse than none.

        A parent that also closes a position is cut to that, and sent without children.
        """
        entry = self.order_review.book.working.get(parent.ref)
        family = self.order_review.gate.venue.take_family(parent)
        if entry is not None:
            asked = OrderAsked(parent, entry.opening, 0.0, entry.distance, decision.rule)
            self.order_review.events.asked(asked)
        if entry is not None and entry.closing > SIZE_EPS and parent in family:
            family.remove(parent)
            self._cut_to_exit(parent, entry, decision)
        elif not family:
            self.order_review.gate.inner.cancel(parent)
            self.order_review.rejected[parent.ref] = decision.reason
        for order in family:
            self.order_review.refuse(order, decision.reason)
            self.order_review.gate.journal.order(
                order, decision.rule, "reject", decision.reason, 0.0
            )
        return self._reject_child(request, parent, decision)

    def _cut_to_exit(self, parent: Any, entry: WorkingOrder, decision: Decision) -> None:
        self._childless[parent.ref] = decision.reason
        size = plain(entry.closing)
        entry.remaining = entry.size = entry.closing
        entry.opening = 0.0
        signed = size if parent.isbuy() else -size
        parent.size = parent.created.size = parent.executed.remsize = signed
        parent.addinfo(bt_risk=decision.reason)
        self.order_review.gate.venue.give_back_family(parent, [parent])
        self.order_review.gate.journal.order(parent, decision.rule, "trim", decision.reason, size)

    def _release(self, parent: Any) -> None:
        """Send a bracket whose last child was rejected: the broker waits for that child."""
        venue = self.order_review.gate.venue
        family = venue.take_family(parent)
        venue.give_back_family(parent, family)
        for order in family:
            venue.inner.transmit(order)
