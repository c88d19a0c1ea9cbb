"""Brackets: a parent and its children are judged once, together, and rejected together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_risk.gate.order_events import OrderAsked
from bt_risk.limits.base import Decision
from bt_risk.orders import (
    TRAILING,
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


@dataclass
class _Family:
    """Hold a parent and those of its children that have arrived, each with its order."""

    request: OrderRequest
    parent: Any
    children: list[tuple[OrderRequest, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Share:
    """Hold what is sent of a child, and the parts of it that may open and that close."""

    size: float
    opening: float
    decision: Decision
    distance: float
    closing: float = 0.0


class Brackets:
    """Review and send the orders with a parent for one `OrderReview`.

    `families` holds the brackets that wait for their last child, by the ref of the parent: the
    broker holds them back until then, and they count as nothing.
    """

    def __init__(self, order_review: OrderReview) -> None:
        self.order_review = order_review
        self.gate = order_review.gate
        self.families: dict[int, _Family] = {}
        self._childless: dict[int, str] = {}

    # -- a parent and its first children ---------------------------------------------------------

    def begin(self, request: OrderRequest) -> Any:
        """Send a parent whose children are still to come; the broker holds it back."""
        problem = self.order_review.problem(request)
        if problem is not None:
            return self.order_review.reject(request, problem)
        order = self._send_unjudged(request)
        if order is not None:
            self.families[order.ref] = _Family(request, order)
        return order

    def submit(self, request: OrderRequest) -> Any:
        """Send an order with a parent: what it closes of that parent's position passes."""
        parent = request.args["parent"]
        ref: int = getattr(parent, "ref", -1)
        reason = self.order_review.rejected.get(ref) or self._childless.get(ref)
        if reason:
            return self._reject_child(request, refusal("bracket", reason))
        entry = self.order_review.book.working.get(ref)
        if not self.gate.intervenes:
            return self._send(request, _Share(request.size, 0.0, Decision(request.size), math.nan))
        if entry is None:
            self.families.pop(ref, None)
            return self._submit_late(request)
        if ref in self.families:
            return self._join(self.families[ref], request)
        if entry.waits:
            reason = "its entry waits for an exit: send it when the entry has filled"
            return self._reject_child(request, refusal("bracket", reason))
        if not _is_exit(request, entry):
            return self._submit_addition(request, entry)
        if request.kind == "stop" and entry.opening > SIZE_EPS and not self.gate.venue.clamps:
            refused = self._judge_sent(request, entry)
            if refused:
                return self._reject_sent(request, parent, refused)
        return self._send_share(request)

    def _join(self, family: _Family, request: OrderRequest) -> Any:
        """Let a child join its family; the last one lets it be judged and sent."""
        sender = self.order_review.sender
        if sender.lacks(request):
            del self.families[family.parent.ref]
            return self._reject(family, request, sender.refusal)
        if not request.args["transmit"]:
            order = self._send_unjudged(request)
            family.children.append((request, order))
            return order
        del self.families[family.parent.ref]
        return self._complete(family, request)

    def _resume(self, family: _Family) -> None:
        """Judge a family that has waited for an exit."""
        self.order_review.book.equity = float(self.gate.equity())
        self._complete(family, None)

    def _send_unjudged(self, request: OrderRequest) -> Any:
        """Send an order that the broker holds back; it counts as nothing before it is judged."""
        size = self.order_review.units(request, request.size)
        record = partial(self._record_unjudged, request)
        child = request.args["parent"] is not None
        sender = self.order_review.sender
        return sender.send(request, size, record, closing=0.0, child=child, waits=True)

    def _record_unjudged(self, request: OrderRequest, order: Any) -> None:
        if order is None:
            self.order_review.record_refusal(request)

    # -- a family with its last child ------------------------------------------------------------

    def _complete(self, family: _Family, last: OrderRequest | None) -> Any:
        """Judge a family at its own stop; cut it to what is allowed, or reject it whole.

        Return the order of its `last` child; None where all of the family has arrived before.
        """
        review = self.order_review
        entry = review.book.working[family.parent.ref]
        review.look_ahead(family.request)
        verdict = review.judge(family.request, self._distance(family, last))
        resume = partial(self._resume, family)
        if last is not None and self.gate.venue.family_waits(
            family.request, verdict, family.parent, resume
        ):
            order = self._send_unjudged(last)
            family.children.append((last, order))
            return order
        preview, refused = family.request.preview, None
        if verdict.size > SIZE_EPS:
            self._size(family, verdict, entry)
            refused = self._refused_addition(family, last, entry)
            if refused is not None:
                closing = min(verdict.size, max(verdict.closing, preview.reduces))
                verdict = verdict._replace(size=closing, opening=0.0, decision=refused)
        asked = review.asked(family.request, verdict)
        review.events.asked(asked._replace(order=family.parent))
        cut_to_exit = preview.opening + preview.void > SIZE_EPS >= verdict.opening
        if verdict.size <= SIZE_EPS or cut_to_exit or refused is not None:
            return self._refuse(family, last, verdict, entry)
        self._accept(family, verdict, entry)
        for request, order in family.children:
            if _is_exit(request, entry):
                self._accept_child(request, order)
        if last is None:
            return self.gate.venue.send_family(family.parent, whole=True)
        if _is_exit(last, entry):
            share = self._share(last)
            if share.size <= SIZE_EPS:
                self.gate.venue.send_family(family.parent, whole=True)
                return self._reject_child(last, share.decision)
        else:
            closing, distance = _left_to_close(last, entry), review.stop_distance(last)
            share = _Share(last.size, last.size - closing, Decision(last.size), distance, closing)
        return self._send_last(family, last, share)

    def _send_last(self, family: _Family, last: OrderRequest, share: _Share) -> Any:
        """Send what the gate has held back of a family, and its last child."""
        parent = self.gate.venue.send_family(family.parent)
        if parent is None:
            return self._reject_child(last, self.order_review.sender.refusal)
        last.args["parent"] = parent
        order = self._send(last, share)
        if order is None:  # the broker would wait for it
            self.gate.venue.withdraw(parent)
        return order

    def _distance(self, family: _Family, last: OrderRequest | None) -> float | None:
        """Return the distance of a parent to the nearest stop among its children, else None."""
        parent = family.request
        requests = [request for request, _ in family.children]
        requests += [] if last is None else [last]
        prices = [
            _stop_price(request)
            for request in requests
            if request.kind == "stop" and _is_exit(request, parent)
        ]
        distances = [losing_side(parent.side, parent.riskiest, price) for price in prices]
        if not distances:
            return None
        return math.nan if any(math.isnan(one) for one in distances) else min(distances)

    def _size(self, family: _Family, verdict: Verdict, entry: WorkingOrder) -> float:
        """Give a parent the size and the parts that it was allowed; return its size."""
        size = self.order_review.units(family.request, verdict.size)
        self._resize(family.parent, entry, size)
        entry.opening, entry.closing = min(verdict.opening, size), verdict.closing
        entry.waits = False
        self.order_review.book.set_distance(entry, verdict.distance)
        return size

    def _accept(self, family: _Family, verdict: Verdict, entry: WorkingOrder) -> None:
        """Size a parent, and record what it was allowed."""
        size = self._size(family, verdict, entry)
        self.order_review.book.count(entry)
        family.request.preview.part.lost -= verdict.void
        self.order_review.record_accepted(family.request, size, verdict, family.parent)

    def _accept_child(self, request: OrderRequest, order: Any) -> None:
        """Give a child the size and the parts that it may have, or reject it."""
        working = self.order_review.book.working.get(order.ref)
        if working is None:
            return
        working.waits = False
        share = self._share(request)
        if share.size > SIZE_EPS:
            self._resize(order, working, self.order_review.units(request, share.size))
            self._record_share(request, share, order)
            return
        parent, venue = request.args["parent"], self.gate.venue
        others = [one for one in venue.take_family(parent) if one is not order]
        venue.give_back_family(parent, others)
        self._refuse_orders([order], share.decision)

    def _refused_addition(
        self, family: _Family, last: OrderRequest | None, entry: WorkingOrder
    ) -> Decision | None:
        """Judge the children that add to their parent; return why one is refused, else None."""
        review, working = self.order_review, self.order_review.book.working
        rows: list[tuple[OrderRequest, Any]] = list(family.children)
        rows += [] if last is None else [(last, None)]
        for request, order in rows:
            if order is not None and order.ref not in working:
                continue
            if _is_exit(request, family.request):
                continue
            distance = review.stop_distance(request)
            decision = review.limits.review(request, request.size, distance)
            if decision.size < request.size - SIZE_EPS:
                return decision
            if order is not None:
                child = working[order.ref]
                child.waits = False
                child.closing = min(child.remaining, _left_to_close(request, entry))
                child.opening = child.remaining - child.closing
                review.book.set_distance(child, distance)
        return None

    @staticmethod
    def _resize(order: Any, working: WorkingOrder, size: float) -> None:
        """Give an order another size that the broker still holds back."""
        if abs(size - abs(order.size)) > SIZE_EPS:
            signed = plain(size) if order.isbuy() else -plain(size)
            order.size = order.created.size = order.executed.remsize = signed
        working.remaining = working.size = float(size)

    def _refuse(
        self, family: _Family, last: OrderRequest | None, verdict: Verdict, entry: WorkingOrder
    ) -> Any:
        """Reject a family; a parent that also closes a position is sent for that alone."""
        if verdict.size <= SIZE_EPS:
            return self._reject(family, last, verdict.decision)
        self._childless[family.parent.ref] = verdict.decision.reason
        others = self.gate.venue.take_family(family.parent)
        self._accept(family, verdict, entry)
        self.gate.venue.give_back_family(family.parent, [family.parent])
        self._refuse_orders([o for o in others if o is not family.parent], verdict.decision)
        answer = None if last is None else self._reject_child(last, verdict.decision)
        self.gate.venue.send_family(family.parent, whole=True)
        return answer

    def _reject(self, family: _Family, last: OrderRequest | None, decision: Decision) -> Any:
        """Reject parent and children together: half a bracket is worse than none."""
        orders = self.gate.venue.take_family(family.parent)
        self.order_review.refuse(family.parent, decision.reason)
        self.order_review.journal(family.request, "reject", 0.0, decision)
        self._refuse_orders([o for o in orders if o is not family.parent], decision)
        return None if last is None else self._reject_child(last, decision)

    def _refuse_orders(self, orders: list[Any], decision: Decision) -> None:
        reason = _of_bracket(decision).reason
        for order in orders:
            self.order_review.refuse(order, reason)
            self.gate.journal.order(order, decision.rule, "reject", reason, 0.0)

    def _reject_child(self, request: OrderRequest, decision: Decision) -> Any:
        return self.order_review.reject(request, _of_bracket(decision))

    # -- one child -------------------------------------------------------------------------------

    def _send_share(self, request: OrderRequest) -> Any:
        """Send a child: it closes what its parent opens; what exceeds that opens and is judged."""
        share = self._share(request)
        if share.size <= SIZE_EPS:
            return self._reject_child(request, share.decision)
        return self._send(request, share)

    def _share(self, request: OrderRequest) -> _Share:
        """Return what is sent of a child: its whole size where its fills can be clamped."""
        review = self.order_review
        review.look_ahead(request)
        preview = request.preview
        parent = review.book.working[request.args["parent"].ref]
        void = min(request.size - preview.closing, parent.cut)
        opening = request.size - preview.closing - void
        distance = review.stop_distance(request)
        decision = review.limits.review(request, opening, distance)
        size = request.size - void
        if decision.reason and not self.gate.venue.clamps:
            size = max(preview.closing, review.round(request, preview.closing + decision.size))
        elif (
            parent.opening <= SIZE_EPS and preview.closing + min(opening, decision.size) <= SIZE_EPS
        ):
            size = 0.0  # its parent opens nothing: nothing of it could ever fill
        elif void > SIZE_EPS:
            decision = refusal("trim", VOID.format(void), decision.size)
        return _Share(size, min(opening, decision.size), decision, distance, preview.closing)

    def _send(self, request: OrderRequest, share: _Share) -> Any:
        size = self.order_review.units(request, share.size)
        sender = self.order_review.sender
        record = partial(self._record_sent, request, share)
        venue, parent = self.gate.venue, request.args["parent"]
        sent = venue.set_aside_family(parent)
        order = sender.send(
            request,
            size,
            record,
            opening=min(size, share.opening),
            distance=share.distance,
            child=True,
        )
        venue.put_back_family(parent, sent)
        if order is None and sender.unsaved:
            return self._reject_child(request, sender.refusal)
        return order

    def _record_sent(self, request: OrderRequest, share: _Share, order: Any) -> None:
        if order is None:
            self.order_review.record_refusal(request)
        elif self.gate.intervenes:
            self._record_share(request, share, order)

    def _record_share(self, request: OrderRequest, share: _Share, order: Any) -> None:
        working = self.order_review.book.working[order.ref]
        working.opening = min(share.opening, working.remaining)
        working.closing = min(share.closing, working.remaining)
        self.order_review.book.set_distance(working, share.distance)
        if share.size < request.size - SIZE_EPS:
            order.addinfo(bt_risk=share.decision.reason)
            self.order_review.journal(request, "trim", share.size, share.decision, order)

    def _submit_addition(self, request: OrderRequest, entry: WorkingOrder) -> Any:
        """Judge a child that adds to a parent that works: it closes what the parent leaves."""
        preview, closing = request.preview, _left_to_close(request, entry)
        if closing < preview.closing:
            opening = preview.opening + preview.closing - closing
            request.preview = preview._replace(closing=closing, opening=opening, reduces=closing)
        return self.order_review.submit_alone(request)

    def _submit_late(self, request: OrderRequest) -> Any:
        """Judge a child whose parent has ended, or is no order that works, by itself.

        What it closes is an exit. One that would only open something belongs to an entry that did
        not fill, and is refused: plain Backtrader never executes such an order.
        """
        review = self.order_review
        request.args["parent"] = None
        review.look_ahead(request)
        if max(request.preview.closing, request.preview.reduces) <= SIZE_EPS:
            return review.reject(request, refusal("bracket", "its parent has ended"))
        order = review.submit_alone(request)
        if order is not None:
            reason = "bracket: its parent has ended, so that it is an order of its own"
            self.gate.journal.order(order, "bracket", "note", reason)
        return order

    # -- a bracket at a live broker --------------------------------------------------------------

    def _judge_sent(self, request: OrderRequest, entry: WorkingOrder) -> Decision | None:
        """Judge a parent that was sent again, at its own stop; return why it is refused."""
        distance = losing_side(entry.side, entry.riskiest, _stop_price(request))
        parent = OrderRequest(
            entry.side, entry.owner, entry.instrument, entry.opening, request.args
        )
        opening, entry.opening = entry.opening, 0.0
        decision = self.order_review.limits.review(parent, opening, distance, entry.dearest)
        entry.opening = opening
        self.order_review.book.set_distance(entry, distance)
        return decision if decision.size < opening - SIZE_EPS else None

    def _reject_sent(self, request: OrderRequest, parent: Any, decision: Decision) -> Any:
        """Cancel a parent that was sent, and reject its children."""
        entry = self.order_review.book.working.get(parent.ref)
        if entry is not None:
            asked = OrderAsked(parent, entry.opening, 0.0, entry.distance, decision.rule)
            self.order_review.events.asked(asked)
        self.gate.inner.cancel(parent)
        self.order_review.rejected[parent.ref] = decision.reason
        return self._reject_child(request, decision)


def _is_exit(request: OrderRequest, parent: OrderRequest | WorkingOrder) -> bool:
    """Return whether a child closes what its parent opens."""
    return request.side != parent.side and request.instrument is parent.instrument


def _left_to_close(request: OrderRequest, entry: WorkingOrder) -> float:
    """Return what a child that adds to its parent closes: what the parent leaves of a position."""
    left = request.preview.part.held_against(request.side)
    if request.instrument is entry.instrument:
        left -= entry.remaining
    return min(request.preview.closing, max(0.0, left))


def _of_bracket(decision: Decision) -> Decision:
    """Return a decision on a family as the reason of one of its children."""
    if decision.reason.startswith("bracket: "):
        return decision
    return Decision(0.0, f"bracket: {decision.reason}", decision.rule)


def _stop_price(request: OrderRequest) -> float:
    """Return where a stop rests when it is placed; a trailing one follows the market from there."""
    args = request.args
    if args["exectype"] not in TRAILING:
        return request.price
    base: float = args["price"] or request.instrument.quote()
    trail: float = args["trailamount"] or base * (args["trailpercent"] or 0.0)
    return base + request.side * trail
