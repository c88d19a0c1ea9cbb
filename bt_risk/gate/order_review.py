"""Review every buy and sell: send what is allowed, reject the rest."""

import math
from contextlib import contextmanager
from functools import partial

from backtrader import num2date

from bt_risk.gate.brackets import Brackets
from bt_risk.gate.order_events import OrderAsked
from bt_risk.limits.base import Decision, Request, RiskPerTrade
from bt_risk.orders import (
    ARGUMENTS,
    DEFAULTS,
    VOID,
    OrderRequest,
    SizeProposal,
    Verdict,
    losing_side,
    plain,
    refusal,
)
from bt_risk.portfolio.position import EPS
from bt_risk.portfolio.preview import preview_order
from bt_risk.rules.sizing import round_down

__all__ = ["OrderReview"]


class OrderReview:
    """Take orders for one `RiskBroker`: review, trim, send, or answer with a native Rejected.

    `rejected` holds the reason of every order that never reached the wrapped broker, by ref.
    """

    def __init__(self, gate):
        self.gate, self.book, self.sender = gate, gate.book, gate.order_sender
        self.rejected, self.events = {}, gate.events
        self._noted = False
        self.brackets = Brackets(self)

    def submit(self, side, owner, data, size, args, kwargs):
        """Answer one call of ``broker.buy`` or ``broker.sell``."""
        arguments = DEFAULTS | dict(zip(ARGUMENTS, args, strict=False)) | kwargs
        stop_price = arguments.get("stop_price")
        if not self.gate.observe:
            arguments.pop("stop_price", None)
        instrument = self.book.by_data.get(id(data))
        if instrument is None:  # not a data of this Cerebro: nothing is known about it
            send = self.gate.inner.buy if side > 0 else self.gate.inner.sell
            return send(owner, data, size, **arguments)
        instrument.multiplier = self.gate.multiplier(data)
        self.book.equity = float(self.gate.equity())
        preview = preview_order(self.book, instrument, owner, side, size)
        ticket = OrderRequest(side, owner, instrument, size, arguments, stop_price, preview)
        take = self._submit if arguments["parent"] is None else self.brackets.submit
        order = take(ticket)
        return self.gate.venue.settle(ticket, order)

    def _submit(self, ticket):
        verdict = self._judge(ticket)
        if self.gate.observe:
            return self._pass(ticket, verdict)
        asked = self._asked(ticket, verdict) if self.events.followers else None
        order = self._answer(ticket, verdict)
        if asked is not None and order is not None:
            self.events.asked(asked._replace(order=order))
        return order

    def _answer(self, ticket, verdict):
        """Reject an order, or send what a verdict allows of it."""
        if verdict.size <= EPS and verdict.decision.reason:
            return self.reject(ticket, verdict.decision)
        order = self.send(ticket, verdict)
        if order is None and self.sender.unsaved:
            return self.reject(ticket, self.sender.refusal)
        return order

    def _asked(self, ticket, verdict):
        """Say what an order asks for, while the book does not know it yet."""
        opening = float(ticket.preview.opening)
        allowed = min(opening, max(0.0, float(verdict.size) - ticket.preview.closing))
        decision = verdict.decision
        rule = decision.rule
        step = (ticket.size.step or 0.0) if isinstance(ticket.size, SizeProposal) else math.nan
        return OrderAsked(None, opening, allowed, verdict.distance, rule, step)

    # -- judging ---------------------------------------------------------------------------------

    def _judge(self, ticket):
        """Say what may be sent of an order, and why not all of it."""
        problem = self._problem(ticket)
        if problem is not None:
            return Verdict(0.0, problem)
        preview = ticket.preview
        closing, opening, void = preview.closing, preview.opening, preview.void
        spare = preview.spare
        leaving = self.gate.exit_orders.leaving(preview.part) if spare > EPS else None
        if leaving is not None:
            reason = f"{leaving.handle.info.bt_risk}; it is being closed already"
            return Verdict(0.0, Decision(0.0, reason, leaving.rule))
        distance = self.stop_distance(ticket)
        decision = self.review(ticket, opening, distance)
        if not decision.reason and void <= EPS:
            return Verdict(ticket.size, decision, closing, distance)
        if not decision.reason:
            decision = refusal("trim", VOID.format(void), decision.size)
        size = self._sendable(ticket, closing, opening, decision)
        # Resting exits that may never fill do not stand in the way of another exit: it passes, as
        # an exit only, and then the first of them to fill must not be followed by the others.
        overlaps = spare > size + EPS
        opens = size - closing
        size = min(ticket.size, max(size, spare))
        void = min(void, ticket.size - size)
        return Verdict(size, decision, size - opens, distance, void, True, overlaps)

    def _problem(self, ticket):
        """Return why an order cannot be judged at all, None where it can."""
        size = ticket.size
        if isinstance(size, SizeProposal) and size.reason:
            return Decision(0.0, size.reason, size.rule)
        if not (math.isfinite(size) and size > EPS) and self.gate.judges:
            return refusal("size", f"must be a positive number; got {float(size)!r}")
        return None

    def review(self, ticket, opening, distance, price=None):
        """Ask every limit about the part that opens; the smallest answer counts.

        A `price` is given for an order that was asked about before, and went out.
        """
        with self._replacing(ticket.args["oco"]):
            return self._ask_limits(ticket, opening, distance, price)

    @contextmanager
    def _replacing(self, oco):
        """Leave out what the order would replace: only one of an OCO group can fill."""
        leader = self.book.working.get(oco.ref) if oco is not None else None
        group = [w for w in self.book.working.values() if leader and w.group == leader.group]
        opening = [w.opening for w in group]
        for w in group:
            w.opening = 0.0
        try:
            yield
        finally:
            for w, size in zip(group, opening, strict=True):
                w.opening = size

    def _ask_limits(self, ticket, opening, distance, price):
        if opening <= EPS:
            return Decision(opening)
        trading_state = self.gate.trading_state
        if trading_state.asked:
            state, reason = trading_state.why
            return Decision(0.0, reason or state, trading_state.rule)
        instrument, limits = ticket.instrument, self.gate.registry.limits
        if instrument.repeats:  # what is decided on it was decided before the restart
            return refusal("unknown", instrument.why_unknown())
        if limits and not (instrument.length and instrument.closed > 0):
            return refusal("unknown", instrument.why_unknown())
        if limits and self.gate.feed_monitor.active:
            silent = self.gate.feed_monitor.silent(instrument)
            if silent:
                return refusal("unknown", silent)
        if limits and self.book.is_stale(instrument):
            since = num2date(instrument.time).isoformat(" ", "seconds")
            return refusal("unknown", f"{instrument.name} has had no bar since {since}")
        budgeted = isinstance(ticket.size, SizeProposal) or any(
            isinstance(limit, RiskPerTrade) for limit in limits
        )
        again = price is not None
        price = price if again else ticket.price
        request = Request(instrument, ticket.side, opening, price, distance, budgeted, again)
        decision = Decision(opening)
        for limit in limits:
            answer = limit.review(request, self.book)
            if answer.size < decision.size:
                explained = answer.reason and answer.rule
                decision = answer if explained else limit.explain(answer)
        return decision

    def _sendable(self, ticket, closing, opening, decision):
        """Return the size of what closes and what may open, rounded down to the step."""
        size = closing + decision.size
        if decision.size < opening:
            size = max(closing, self.round(ticket, size))
            size = closing if self._too_small(ticket, size - closing) else size
        return size

    def round(self, ticket, size):
        """Round down to the step; a whole number stays whole, a fraction may stay one."""
        step = ticket.instrument.facts.get("step")
        if isinstance(ticket.size, SizeProposal):
            step = ticket.size.step or step
        elif step is None and float(ticket.size).is_integer():
            step = 1.0
        return round_down(size, step)

    def units(self, ticket, size):
        """Return the size as brokers expect it: as requested where nothing was cut, else plain."""
        uncut = size == ticket.size and not isinstance(ticket.size, SizeProposal)
        return ticket.size if uncut else plain(size)

    def _too_small(self, ticket, opening):
        floor = ticket.instrument.facts.get("min_notional", 0.0)
        return opening * ticket.price * ticket.instrument.multiplier < floor

    def stop_distance(self, ticket):
        """Return how far the stop behind this order will be: named, ours, or a multiple of ATR."""
        if ticket.stop_price is not None:
            return losing_side(ticket.side, ticket.price, ticket.stop_price)
        if not math.isnan(ticket.preview.cover):
            return ticket.preview.cover
        planned = getattr(ticket.size, "stop_distance", math.nan)
        return ticket.instrument.stop_distance() if math.isnan(planned) else planned

    # -- sending and rejecting -------------------------------------------------------------------

    def send(self, ticket, verdict):
        """Send what a verdict allows; return None if that was not sent."""
        size = self.units(ticket, verdict.size)
        return self._transmit(ticket, size, verdict, self._record_sent)

    def _transmit(self, ticket, size, verdict, record):
        return self.sender.send(
            ticket,
            size,
            partial(record, ticket, size, verdict),
            opening=max(0.0, size - verdict.closing),
            distance=verdict.distance,
        )

    def _record_sent(self, ticket, size, verdict, order):
        """Note what was sent of an order and why, before the state is saved."""
        ticket.preview.part.lost -= verdict.void
        if order is None:
            self.record_refusal(ticket)
            return
        working = self._working(ticket, size, order)
        opening = working.opening
        if ticket.args["parent"] is not None:
            working.parent = ticket.args["parent"].ref
        if verdict.guarded:
            self.gate.exit_orders.guarded.add(order.ref)
        if verdict.overlaps:
            self.gate.exit_orders.guard(ticket.owner, ticket.instrument, ticket.side)
        if isinstance(ticket.size, SizeProposal) and opening > EPS:
            self.gate.venue.fit_at_fill(order, ticket.size.step)
        if size < ticket.size - EPS:
            order.addinfo(bt_risk=verdict.decision.reason)
            working.cut, working.void = ticket.size - size, verdict.void
            self._remember_lost(ticket, ticket.size - size - verdict.void, opening)
            self.journal(ticket, "trim", size, verdict.decision)
        else:
            self.journal(ticket, "exit" if opening <= EPS else "allow", size, Decision(size))
        if opening > EPS:
            self._note_repeated_exit(ticket)

    def _working(self, ticket, size, order):
        working = self.book.working[order.ref]
        working.reduces = min(size, ticket.preview.spare)
        return working

    def _note_repeated_exit(self, ticket):
        """Say once that an order opens just what a stop of ours has closed: it may be an exit."""
        part = ticket.preview.part
        stopped, part.stopped = part.stopped, 0.0
        if abs(stopped - ticket.side * -ticket.size) <= EPS and not self._noted:
            self._noted = True
            name = ticket.instrument.name
            reason = (
                f"an order for {ticket.size:g} opens a position in {name}, and "
                "the stop has closed just as much before. If it was meant as an exit, ask "
                "self.position first."
            )
            self.journal(
                ticket, "note", ticket.size, refusal("ATRTrailingStop", reason, ticket.size)
            )

    def _pass(self, ticket, verdict):
        """Send an order as it is, and write down what would have become of it."""
        return self._transmit(ticket, ticket.size, verdict, self._record_passed)

    def _record_passed(self, ticket, size, verdict, order):
        if order is None:
            self.record_refusal(ticket)
            return
        opening = self._working(ticket, size, order).opening
        action = "exit" if opening <= EPS else "allow"
        if verdict.size < size - EPS:
            action = "reject" if verdict.size <= EPS else "trim"
        self.journal(ticket, action, min(verdict.size, size), verdict.decision)

    def record_refusal(self, ticket):
        """Write a line about an order that the wrapped broker has not taken."""
        self.journal(ticket, "reject", 0.0, self.sender.refusal)

    def _remember_lost(self, ticket, lost, opening):
        if opening > EPS:
            part = ticket.preview.part
            kept = part.lost if part.lost_side == ticket.side else 0.0
            part.lost, part.lost_side = kept + lost, ticket.side

    def reject(self, ticket, decision):
        """Answer with a native order whose status is Rejected and whose info says why."""
        order = ticket.native_order(ticket.size)
        self.gate.venue.link_rejected(order, ticket.args["oco"])
        self.refuse(order, decision.reason)
        self.journal(ticket, "reject", 0.0, decision)
        return order

    def refuse(self, order, reason):
        """Make an order Rejected, and tell its owner."""
        order.addinfo(bt_risk=reason)
        order.submit(self.gate)
        order.reject(self.gate)
        self.rejected[order.ref] = reason
        self.book.drop(order.ref)
        self.gate.announce(order)

    def journal(self, ticket, action, allowed, decision):
        """Write down what was decided on a ticket."""
        self.gate.journal.record(
            ticket.instrument.time,
            ticket.instrument.name,
            decision.rule,
            action,
            float(abs(ticket.size)),
            float(allowed),
            decision.measured,
            decision.limit,
            decision.reason,
        )
