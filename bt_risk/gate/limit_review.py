"""LimitReview: ask the limits about the part of an order that opens."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from backtrader import num2date

from bt_risk.gate import compensation
from bt_risk.limits.base import Decision, Limit, Request, RiskPerTrade
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
        with self._counted_as_gone(gone), self._replacing(leader), self._beside(request):
            return self._ask_limits(request, opening, distance, price, asked)

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

    @contextmanager
    def _counted_as_gone(self, exits: Collection[WorkingOrder]) -> Iterator[None]:
        """Leave out of the book what market exits close before the order fills."""
        leaving, gone = self.book.leaving, self.book.gone
        for w in exits:
            part = w.part
            leaving[part] += w.closing
            others = part.instrument.parts[1:]
            if not others and leaving[part] >= -w.side * part.size - SIZE_EPS:
                gone[part.instrument.index, -w.side] = True
        try:
            yield
        finally:
            leaving.clear()
            gone.clear()

    @contextmanager
    def _replacing(self, leader: WorkingOrder | None) -> Iterator[None]:
        """Leave out what the order would replace: only one order of an OCO group can fill."""
        group = [w for w in self.book.working.values() if leader and w.group == leader.group]
        opening = [w.opening for w in group]
        for w in group:
            w.opening = 0.0
        try:
            yield
        finally:
            for w, size in zip(group, opening, strict=True):
                w.opening = size

    @contextmanager
    def _beside(self, request: OrderRequest) -> Iterator[None]:
        """Count the size of the order as one that closes: what rests behind it may open then."""
        orders = request.instrument.orders
        if request.preview is None or not request.preview.closing:
            yield
            return
        size = float(request.size)
        orders[0] = WorkingOrder(  # Backtrader numbers orders from 1 on
            0, request.instrument, request.owner, request.side, size, 0.0, request.kind, 0.0
        )
        try:
            yield
        finally:
            del orders[0]

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
        budgeted = isinstance(request.size, SizeProposal) or any(
            isinstance(limit, RiskPerTrade) for limit in limits
        )
        again = price is not None
        at = request.dearest if price is None else price
        opens = Request(
            *(instrument, request.side, opening, at, distance, budgeted, again, request.owner),
            self.book.costs,
        )
        decision = Decision(opening)
        for limit in limits if asked is None else asked:
            answer = limit.review(opens, self.book)
            if answer.size < decision.size:
                explained = answer.reason and answer.rule
                decision = answer if explained else limit.explain(answer)
        return decision
