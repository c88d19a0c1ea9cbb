"""Orders with a parent: exits of that parent, judged with it and rejected with it."""

import math
from functools import partial

from bt_risk.gate.order_events import OrderAsked
from bt_risk.orders import (
    VOID,
    OrderRequest,
    Verdict,
    losing_side,
    plain,
    refusal,
)
from bt_risk.portfolio.position import EPS

__all__ = ["Brackets"]


class Brackets:
    """Take the orders with a parent for one `OrderReview`."""

    def __init__(self, order_review):
        self.order_review = order_review
        self._childless = {}

    def submit(self, ticket):
        """Send an order with a parent: an exit of that parent, whatever the limits say."""
        parent = ticket.args["parent"]
        ref = getattr(parent, "ref", None)
        reason = self.order_review.rejected.get(ref) or self._childless.get(ref)
        if reason:
            return self._reject_child(ticket, parent, refusal("bracket", reason))
        entry = self.order_review.book.working.get(ref)
        if entry is None or not self.order_review.gate.intervenes:
            return self._send_child(ticket, ticket.size)
        if ticket.side == entry.side or ticket.instrument is not entry.instrument:
            return self._submit_dependent(ticket, parent)
        if ticket.kind == "stop" and parent.status == parent.Created and entry.opening > EPS:
            refused = self._judge_family(ticket, entry)
            if refused:
                return self._reject_family(ticket, parent, refused)
        return self._submit_exit_of(ticket, parent, entry)

    def _submit_exit_of(self, ticket, parent, entry):
        """Send a child: what its parent opens it closes; what exceeds that opens and is judged."""
        closing = min(ticket.size, entry.opening)
        void = min(ticket.size - closing, entry.cut)
        distance = self.order_review.stop_distance(ticket)
        opening = ticket.size - closing - void
        decision = self.order_review.review(ticket, opening, distance)
        size = ticket.size
        if void > EPS and not decision.reason:
            decision = refusal("trim", VOID.format(void), decision.size)
        if decision.reason:
            size = max(closing, self.order_review.round(ticket, closing + decision.size))
        if size <= EPS:
            return self._reject_child(ticket, parent, decision)
        return self._send_child(ticket, size, size - closing, decision, distance)

    def _send_child(self, ticket, size, opening=0.0, decision=None, distance=math.nan):
        size = self.order_review.units(ticket, size)
        sender = self.order_review.sender
        record = partial(self._record_sent, ticket, size, decision)
        order = sender.send(ticket, size, record, opening=opening, distance=distance, child=True)
        if order is None and sender.unsaved:
            return self._reject_child(ticket, ticket.args["parent"], sender.refusal)
        return order

    def _record_sent(self, ticket, size, decision, order):
        if order is None:
            self.order_review.record_refusal(ticket)
        elif size < ticket.size:
            order.addinfo(bt_risk=decision.reason)
            self.order_review.journal(ticket, "trim", size, decision)

    def _reject_child(self, ticket, parent, decision):
        order = self.order_review.reject(ticket, decision)
        if ticket.args["transmit"] and parent.ref not in self.order_review.rejected:
            self._release(parent)
        return order

    def _judge_family(self, ticket, entry):
        """Judge a bracket again, now that its own stop says how far it is."""
        distance = losing_side(entry.side, entry.price, ticket.price)
        parent = OrderRequest(entry.side, entry.owner, entry.instrument, entry.opening, ticket.args)
        opening, entry.opening = entry.opening, 0.0
        decision = self.order_review.review(parent, opening, distance, entry.price)
        entry.opening, entry.distance = opening, distance
        return decision if decision.size < opening - EPS else None

    def _submit_dependent(self, ticket, parent):
        """Send an order that waits for its parent but opens: it is judged like any other."""
        distance = self.order_review.stop_distance(ticket)
        decision = self.order_review.review(ticket, ticket.size, distance)
        if decision.size < ticket.size - EPS:
            return self._reject_family(ticket, parent, decision)
        verdict = Verdict(ticket.size, decision, 0.0, distance)
        order = self.order_review.send(ticket, verdict)
        if order is None and self.order_review.sender.unsaved:
            return self._reject_family(ticket, parent, self.order_review.sender.refusal)
        return order

    def _reject_family(self, ticket, parent, decision):
        """Reject parent and children together: half a bracket is worse than none.

        A parent that also closes a position is cut to that, and sent without children.
        """
        entry = self.order_review.book.working.get(parent.ref)
        family = self.order_review.gate.venue.take_family(parent)
        if entry is not None:
            asked = OrderAsked(parent, entry.opening, 0.0, entry.distance, decision.rule)
            self.order_review.events.asked(asked)
        if entry is not None and entry.closing > EPS and parent in family:
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
        return self._reject_child(ticket, parent, decision)

    def _cut_to_exit(self, parent, entry, decision):
        self._childless[parent.ref] = decision.reason
        size = plain(entry.closing)
        entry.remaining = entry.size = entry.closing
        entry.opening = 0.0
        signed = size if parent.isbuy() else -size
        parent.size = parent.created.size = parent.executed.remsize = signed
        parent.addinfo(bt_risk=decision.reason)
        self.order_review.gate.inner._pchildren[parent.ref].append(parent)
        self.order_review.gate.journal.order(parent, decision.rule, "trim", decision.reason, size)

    def _release(self, parent):
        """Send what waits for a last child that does not come."""
        family = self.order_review.gate.venue.take_family(parent)
        for order in family:
            self.order_review.gate.inner._pchildren[parent.ref].append(order)
        for order in family:
            self.order_review.gate.inner.transmit(order)
