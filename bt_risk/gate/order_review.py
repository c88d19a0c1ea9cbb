"""OrderReview: review every buy and sell, send what is allowed, reject the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from bt_risk.errors import ParameterError, is_number
from bt_risk.gate import compensation
from bt_risk.gate.brackets import Brackets
from bt_risk.gate.headroom import HeadroomReview
from bt_risk.gate.limit_review import LimitReview
from bt_risk.gate.native_orders import refused_order
from bt_risk.gate.order_events import OrderAsked, OrderEvents
from bt_risk.limits.base import Decision, Limit
from bt_risk.live.late_fills import LATE_FILL
from bt_risk.orders import (
    ARGUMENTS,
    DEFAULTS,
    TRAILING,
    VOID,
    OrderRequest,
    SizeProposal,
    Verdict,
    losing_side,
    plain,
    refusal,
    sent_by_close,
)
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.portfolio.preview import OrderTerms, preview_order
from bt_risk.portfolio.signals import is_signal
from bt_risk.rules.sizing import round_down
from bt_risk.tolerances import SIZE_EPS

__all__ = ["OrderReview"]


class OrderReview:
    """Take orders for one `RiskBroker`: review, trim, send, or answer with a native Rejected.

    `rejected` holds the reason of every order that never reached the wrapped broker, by ref.
    """

    def __init__(self, gate: Any) -> None:
        self.gate, self.sender = gate, gate.order_sender
        self.book: Book = gate.book
        self.events: OrderEvents = gate.events
        self.rejected: dict[int, str] = {}
        self._noted = False
        self.limits = LimitReview(gate)
        self.headroom = HeadroomReview(self)
        self.brackets = Brackets(self)

    def submit(
        self,
        side: int,
        owner: Any,
        data: Any,
        size: float,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Answer one call of ``broker.buy`` or ``broker.sell``."""
        arguments = DEFAULTS | kwargs
        if args:
            arguments = DEFAULTS | dict(zip(ARGUMENTS, args, strict=False)) | kwargs
        stop_price = arguments.get("stop_price")
        if not self.gate.observe:
            arguments.pop("stop_price", None)
        oco = arguments["oco"]
        if oco is not None and oco.ref in self.rejected:
            self.gate.venue.link_rejected(oco, None)
        sent_on = self.book.by_data.get(id(data))
        if sent_on is None:  # the gate does not know this data feed
            if is_signal(data) and self.gate.intervenes:
                return self._refuse_on_signal(side, owner, data, size, arguments)
            send = self.gate.inner.buy if side > 0 else self.gate.inner.sell
            return send(owner, data, size, **arguments)
        self.gate.silence.asked[owner].append(self.book.rounds)
        instrument = sent_on
        if data._compensate is not None:
            instrument = self.gate.venue.held_in(data) or sent_on
            compensation.note(self.gate, sent_on, instrument)
        scheme = self.gate.inner.getcommissioninfo(instrument.data)
        if scheme is not instrument.scheme:
            self.book.measure(instrument, scheme)
        self.book.equity = float(self.gate.equity())
        if not self.gate.venue.direct:
            arguments |= self.gate.held_orders.known(arguments)
        request = OrderRequest(
            side, owner, instrument, size, arguments, stop_price, sent_on=sent_on
        )
        self.look_ahead(request)
        if arguments["parent"] is not None:
            order = self.brackets.submit(request)
        elif not arguments["transmit"] and self._waits():
            order = self.brackets.begin(request)
        else:
            order = self.submit_alone(request)
        venue = self.gate.venue
        return order if venue.direct else venue.settle(request, order)

    def _refuse_on_signal(
        self, side: int, owner: Any, data: Any, size: float, args: dict[str, Any]
    ) -> Any:
        """Refuse an order on a data feed of signals."""
        stand_in = Instrument(data, -1, data._name)
        stand_in.time = self.book.latest
        request = OrderRequest(side, owner, stand_in, abs(size), args)
        reason = f"{stand_in.name} has signals and no prices: order on the data feed of its clock"
        return self.reject(request, refusal("SignalData", reason))

    def _waits(self) -> bool:
        """Return whether a bracket is judged with its last child."""
        return self.gate.venue.waits_for_children and self.gate.intervenes

    def look_ahead(self, request: OrderRequest) -> None:
        """Compute the preview of a request, as things are."""
        args, book, instrument = request.args, self.book, request.instrument
        parent, oco = args["parent"], args["oco"]
        leader = None if oco is None else book.working.get(oco.ref)
        entry = None if parent is None else book.working.get(getattr(parent, "ref", -1))
        if entry is not None and (entry.side == request.side or entry.instrument is not instrument):
            entry = None
        request.shared = instrument.held and sent_by_close()
        terms = OrderTerms(
            request.kind,
            request.price,
            args["exectype"] in TRAILING,
            None if leader is None else leader.group,
            entry,
            request.shared,
        )
        request.preview = preview_order(
            book, instrument, request.owner, request.side, request.size, terms
        )

    def submit_alone(self, request: OrderRequest) -> Any:
        """Judge an order by itself, and answer it."""
        verdict = self.judge(request)
        if self.gate.observe:
            return self._pass(request, verdict)
        if not self.gate.venue.direct:
            held = self.gate.venue.hold_entry(request, verdict)
            if held is not None:
                return held
        asked = self.asked(request, verdict) if self.events.followers else None
        order = self._answer(request, verdict)
        if asked is not None and order is not None:
            self.events.asked(asked._replace(order=order))
        return order

    def _answer(self, request: OrderRequest, verdict: Verdict) -> Any:
        """Reject an order, or send what a verdict allows of it."""
        if verdict.size <= SIZE_EPS and verdict.decision.reason:
            return self.reject(request, verdict.decision)
        order = self.send(request, verdict)
        if order is None and self.sender.unsaved:
            return self.reject(request, self.sender.refusal)
        return order

    def asked(self, request: OrderRequest, verdict: Verdict) -> OrderAsked:
        """Return what an order requests to open, before it is in the book."""
        opening = float(request.preview.opening)
        step = (request.size.step or 0.0) if isinstance(request.size, SizeProposal) else math.nan
        rule = verdict.decision.rule
        return OrderAsked(None, opening, verdict.opening, verdict.distance, rule, step)

    # -- judging ---------------------------------------------------------------------------------

    def judge(
        self,
        request: OrderRequest,
        distance: float | None = None,
        asked: Sequence[Limit] | None = None,
    ) -> Verdict:
        """Return what may be sent of an order, and why not all of it.

        The stop `distance` is that of the bracket that the order begins, if it begins one. Where
        limits are `asked`, only these judge, and nobody sends the order.
        """
        problem = self.problem(request)
        if problem is not None:
            return Verdict(0.0, problem)
        preview = request.preview
        leaving = None
        if preview.reduces > SIZE_EPS:
            leaving = self.gate.exit_orders.leaving(preview.part)
        if leaving is not None and leaving.rule != LATE_FILL:
            reason = f"{leaving.handle.info.bt_risk}; it is being closed already"
            return Verdict(0.0, Decision(0.0, reason, leaving.rule))
        closing, opening, void = preview.closing, preview.opening, preview.void
        bracketed = distance
        distance = self.stop_distance(request) if distance is None else distance
        exits: Collection[WorkingOrder] = ()
        if opening > SIZE_EPS and self.book.market_orders:
            exits = self.gate.venue.leaving(request.instrument)
        decision = self.limits.review(request, opening, distance, gone=exits, asked=asked)
        relied = tuple(exits) if decision.size > SIZE_EPS else ()
        if not decision.reason and void <= SIZE_EPS:
            return Verdict(request.size, decision, closing, opening, distance, relies_on=relied)
        if not decision.reason:
            decision = refusal("trim", VOID.format(void), decision.size)
        allowed = self._sendable(request, closing, opening, decision) - closing
        # An exit is never refused: what it may not open is clamped when it fills.
        size = min(request.size, max(closing + allowed, preview.reduces))
        void = min(void, request.size - size)
        if size <= SIZE_EPS and asked is None:
            decision = self.headroom.explain(request, decision, bracketed)
        return Verdict(size, decision, closing, allowed, distance, void, relied)

    def problem(self, request: OrderRequest) -> Decision | None:
        """Return why an order cannot be judged at all, None where it can."""
        size = request.size
        if isinstance(size, SizeProposal) and size.reason:
            return Decision(0.0, size.reason, size.rule)
        if not (math.isfinite(size) and size > SIZE_EPS) and self.gate.judges:
            return refusal("size", f"must be a positive number; got {float(size)!r}")
        if request.sent_on.data._compensate is not None and self.gate.judges:
            outside = compensation.outside(self.gate, request)
            if outside is not None:
                return outside
        if not request.sent_on.priced and self.gate.judges:
            constraint = "one with open, high, low and close"
            remedy = "Backtrader makes no order on any other."
            name = request.sent_on.name
            raise ParameterError(
                "RiskBroker", "the data feed of an order", constraint, name, remedy
            )
        stop = request.stop_price
        if stop is not None and self.gate.judges and not (is_number(stop) and math.isfinite(stop)):
            return refusal("stop_price", f"must be a price; got {stop!r}")
        return None

    def _sendable(
        self, request: OrderRequest, closing: float, opening: float, decision: Decision
    ) -> float:
        """Return the size that closes and that may open, rounded down to the step."""
        size = closing + decision.size
        if decision.size < opening:
            size = max(closing, self.round(request, size))
            size = closing if self._too_small(request, size - closing) else size
        return size

    def round(self, request: OrderRequest, size: float) -> float:
        """Round down to the step; a whole number stays whole, a fraction may stay one."""
        return round_down(size, self.step_of(request))

    def step_of(self, request: OrderRequest) -> float | None:
        """Return the step of what is cut of an order, None for any fraction."""
        step: float | None = request.instrument.facts.get("step")
        if isinstance(request.size, SizeProposal):
            return request.size.step or step
        return 1.0 if step is None and float(request.size).is_integer() else step

    def units(self, request: OrderRequest, size: float) -> float:
        """Return the size as brokers expect it: as requested where nothing was cut, else plain."""
        uncut = size == request.size and not isinstance(request.size, SizeProposal)
        return request.size if uncut else plain(size)

    def _too_small(self, request: OrderRequest, opening: float) -> bool:
        floor = request.instrument.facts.get("min_notional", 0.0)
        return opening * request.dearest * request.instrument.multiplier < floor

    def stop_distance(self, request: OrderRequest) -> float:
        """Return the distance to the stop behind this order: named, ours, or a multiple of ATR."""
        if request.stop_price is not None:
            return losing_side(request.side, request.riskiest, request.stop_price)
        # A limit order is measured from the market, which is farther from our stop than its price.
        # A stop that the order would fill beyond covers nothing of it.
        cover = request.preview.cover
        if cover == cover:
            fill = request.riskiest if request.kind == "stop" else request.sent_on.price
            covered = losing_side(request.side, fill, cover)
            if covered == covered:
                return covered
        planned = getattr(request.size, "stop_distance", math.nan)
        return request.instrument.stop_distance() if math.isnan(planned) else planned

    # -- sending and rejecting -------------------------------------------------------------------

    def send(self, request: OrderRequest, verdict: Verdict) -> Any:
        """Send what a verdict allows; return the order, None if it was not sent."""
        size = self.units(request, verdict.size)
        attached = self.gate.venue.attached
        if attached is not None:
            send = partial(self._transmit, request, size, verdict, self._record_sent)
            return attached.send(request, verdict, send)
        return self._transmit(request, size, verdict, self._record_sent)

    def _transmit(
        self, request: OrderRequest, size: float, verdict: Verdict, record: Callable[..., None]
    ) -> Any:
        return self.sender.send(
            request,
            size,
            partial(record, request, size, verdict),
            opening=min(size, verdict.opening),
            closing=verdict.closing,
            distance=verdict.distance,
            shared=request.shared,
        )

    def _record_sent(
        self, request: OrderRequest, size: float, verdict: Verdict, order: Any
    ) -> None:
        """Record what was sent of an order and why, before the state is saved."""
        request.preview.part.lost -= verdict.void
        if order is None:
            self.record_refusal(request)
            return
        working = self.book.working[order.ref]
        if request.args["parent"] is not None:
            working.parent = request.args["parent"].ref
        self.record_accepted(request, size, verdict, order)

    def record_accepted(
        self, request: OrderRequest, size: float, verdict: Verdict, order: Any
    ) -> None:
        """Record in book and journal what was allowed of an order that the broker has."""
        working = self.book.working[order.ref]
        working.reduces = min(size, request.preview.reduces)
        working.relies_on = verdict.relies_on
        opening, decision = working.opening, verdict.decision
        if opening > SIZE_EPS and (
            self.gate.venue.fits_entries or isinstance(request.size, SizeProposal)
        ):
            self.gate.venue.fit_at_fill(order, self.step_of(request))
        if decision.reason:
            order.addinfo(bt_risk=decision.reason)
        if size < request.size - SIZE_EPS:
            working.cut, working.void = request.size - size, verdict.void
            if opening > SIZE_EPS:
                request.preview.part.lose(request.side, request.size - size - verdict.void)
            self.journal(request, "trim", size, decision, order)
        else:
            action = "exit" if opening <= SIZE_EPS else "allow"
            self.journal(request, action, size, decision, order)
        if opening > SIZE_EPS:
            self._note_repeated_exit(request)

    def _note_repeated_exit(self, request: OrderRequest) -> None:
        """Note once that an order opens just what our stop has closed: it may be an exit."""
        part = request.preview.part
        stopped, part.stopped = part.stopped, 0.0
        if abs(stopped - request.side * -request.size) <= SIZE_EPS and not self._noted:
            self._noted = True
            name = request.instrument.name
            reason = (
                f"an order for {request.size:g} opens a position in {name}, and "
                "the stop has closed just as much before. If it was meant as an exit, ask "
                "self.position first."
            )
            self.journal(
                request, "note", request.size, refusal("ATRTrailingStop", reason, request.size)
            )

    def _pass(self, request: OrderRequest, verdict: Verdict) -> Any:
        """Send an order as it is, and record what would have been decided."""
        return self._transmit(request, request.size, verdict, self._record_passed)

    def _record_passed(
        self, request: OrderRequest, size: float, verdict: Verdict, order: Any
    ) -> None:
        if order is None:
            self.record_refusal(request)
            return
        opening = self.book.working[order.ref].opening
        action = "exit" if opening <= SIZE_EPS else "allow"
        if verdict.size < size - SIZE_EPS:
            action = "reject" if verdict.size <= SIZE_EPS else "trim"
        self.journal(request, action, min(verdict.size, size), verdict.decision, order)

    def record_refusal(self, request: OrderRequest) -> None:
        """Add a line about an order that the wrapped broker has not taken."""
        self.journal(request, "reject", 0.0, self.sender.refusal)

    def reject(self, request: OrderRequest, decision: Decision) -> Any:
        """Answer with a native order whose status is Rejected and whose info says why."""
        order = refused_order(request, decision.reason, self.gate)
        if request.args["oco"] is not None:
            self.gate.venue.link_rejected(order, request.args["oco"])
        self.rejected[order.ref] = decision.reason
        self.gate.announce(order)
        self.journal(request, "reject", 0.0, decision)
        return order

    def refuse(self, order: Any, reason: str) -> None:
        """Make an order Rejected, and notify its owner."""
        order.addinfo(bt_risk=reason)
        order.submit(self.gate)
        order.reject(self.gate)
        self.rejected[order.ref] = reason
        self.book.drop(order.ref)
        self.gate.announce(order)

    def journal(
        self,
        request: OrderRequest,
        action: str,
        allowed: float,
        decision: Decision,
        order: Any = None,
    ) -> None:
        """Add a line about what was decided on an order request, and on the order of it."""
        if order is not None:
            self.gate.journal.orders[len(self.gate.journal.lines)] = order.ref
        self.gate.journal.record(
            request.sent_on.time,
            request.sent_on.name,
            decision.rule,
            action,
            float(abs(request.size)),
            float(allowed),
            decision.measured,
            decision.limit,
            decision.reason,
        )
