"""LimitReview: ask the limits about the part of an order that opens."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from backtrader import num2date

from bt_risk.gate import compensation
from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.orders import DEFAULTS, OrderRequest, SizeProposal, refusal
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

__all__ = ["LimitReview"]


class LimitReview:
    """Ask every limit of one `RiskBroker`; the smallest answer counts."""

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.book: Book = gate.book

    def review(
        self,
        request: OrderRequest,
        opening: float,
        distance: float,
        price: float | None = None,
        gone: Collection[WorkingOrder] = (),
        asked: Sequence[Limit] | None = None,
    ) -> Decision:
        """Ask every limit about the part that opens; the smallest answer counts.

        A `price` is given for an order that was reviewed before, and sent. What the market exits in
        `gone` close counts as closed: they fill before the order. Where limits are `asked`, only
        these are.
        """
        if opening <= SIZE_EPS:
            return Decision(opening)
        oco = request.args["oco"]
        leader = self.book.working.get(oco.ref) if oco is not None else None
        beside = request.preview is not None and request.preview.closing
        if not (gone or beside or leader):  # nothing in the book counts differently
            return self._ask_limits(request, opening, distance, price, asked)
        replaced = [] if leader is None else self._group_of(leader)
        allowances, orders = [w.opening for w in replaced], request.instrument.orders
        try:
            self._count_as_gone(gone)
            for w in replaced:  # only one order of an OCO group can fill
                w.opening = 0.0
            if beside:  # its own size closes something: what rests behind it may open then
                orders[0] = self._stand_in(request)
            return self._ask_limits(request, opening, distance, price, asked)
        finally:
            self.book.leaving.clear()
            self.book.gone.clear()
            for w, size in zip(replaced, allowances, strict=True):
                w.opening = size
            if beside:
                orders.pop(0, None)

    def review_again(self, working: WorkingOrder, opening: float, price: float) -> Decision:
        """Ask every limit about an order that works already, as if it came now at `price`."""
        equity = self.gate.equity
        self.book.equity = float(equity())
        args = DEFAULTS | {"oco": working}
        request = OrderRequest(working.side, working.owner, working.instrument, opening, args)
        distance = working.distance
        if math.isnan(distance):
            distance = working.instrument.stop_distance()
        return self.review(request, opening, distance, price)

    def _count_as_gone(self, exits: Collection[WorkingOrder]) -> None:
        """Leave out of the book what market exits close before the order fills."""
        leaving, gone = self.book.leaving, self.book.gone
        for w in exits:
            part = w.part
            instrument, closed = part.instrument, leaving.get(part, 0.0) + w.closing
            leaving[part] = closed
            if len(instrument.parts) == 1 and closed >= -w.side * part.size - SIZE_EPS:
                gone[instrument.index, -w.side] = True

    def _group_of(self, leader: WorkingOrder) -> list[WorkingOrder]:
        """Return the working orders of which only one can fill, as the order would replace them."""
        return [w for w in self.book.working.values() if w.group == leader.group]

    @staticmethod
    def _stand_in(request: OrderRequest) -> WorkingOrder:
        """Return an order that closes the size of a request; Backtrader numbers them from 1 on."""
        instrument, size = request.instrument, float(request.size)
        return WorkingOrder(
            0, instrument, request.owner, request.side, size, 0.0, request.kind, 0.0
        )

    def _ask_limits(
        self,
        request: OrderRequest,
        opening: float,
        distance: float,
        price: float | None,
        asked: Sequence[Limit] | None,
    ) -> Decision:
        trading_state = self.gate.trading_state
        if trading_state.asked:
            state, reason = trading_state.why
            return Decision(0.0, reason or state, trading_state.rule)
        for one in self.book.converting:  # prices have moved since their last measurement
            one.measure(self.gate.inner.getcommissioninfo(one.data))
        instrument, limits = request.instrument, self.gate.registry.limits
        if request.sent_on.data._compensate is not None and self.gate.judges:
            unsupported = compensation.unsupported(self.gate, request)
            if unsupported is not None:
                return unsupported
        if instrument.repeats:  # its bars were acted upon before the restart
            return refusal("unknown", instrument.why_unknown())
        closed = instrument.closed
        if limits and not (instrument.length and closed == closed):
            return refusal("unknown", instrument.why_unknown())
        if limits and not self.gate.venue.direct:
            for one in (instrument, *self.book.instruments):
                if one.unconverted and (one.held or one is instrument):
                    return refusal("unknown", one.unconverted)
        if limits and self.gate.feed_monitor.active:
            silent = self.gate.feed_monitor.silent(instrument)
            if silent:
                return refusal("unknown", silent)
        if limits and self.book.suspects:
            doubted = self.book.doubt()
            if doubted:
                return refusal("unknown", f"equity, while the last bar of {doubted}")
        late = self.book.rounds - instrument.round > self.book.max_stale_bars
        if limits and late and self.book.is_stale(instrument):
            since = num2date(instrument.time).isoformat(" ", "seconds")
            return refusal("unknown", f"{instrument.name} has had no bar since {since}")
        budgeted = self.gate.registry.budgets or isinstance(request.size, SizeProposal)
        again = price is not None
        at = request.dearest if price is None else price
        opens = Request(
            *(instrument, request.side, opening, at, distance, budgeted, again, request.owner),
            self.book.costs,
            None if again else request,
        )
        decision = opens.whole
        for limit in limits if asked is None else asked:
            answer = limit.review(opens, self.book)
            if answer.size < decision.size:
                explained = answer.reason and answer.rule
                decision = answer if explained else limit.explain(answer)
        return decision
