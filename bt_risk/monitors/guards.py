"""GuardMonitor: keep the equity curve for the guards, and cancel entries that they refuse."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.limits.base import Request
from bt_risk.limits.clock_guards import DailyLossLimit, OrderRateLimit
from bt_risk.limits.trade_guards import Guard
from bt_risk.monitors.base import Monitor
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

__all__ = ["GuardMonitor"]


class GuardMonitor(Monitor):
    """Work for the guards of one gate; it is added with the first of them."""

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self._guards: list[Guard] = []

    def add(self, guard: Guard) -> None:
        """Work for this guard from now on."""
        book = self.gate.book
        if isinstance(guard, DailyLossLimit):
            book.curve.track(guard.keys(book.instruments))
        if isinstance(guard, OrderRateLimit):
            book.count_orders()
        self._guards.append(guard)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Add the close to the equity curve, and cancel resting entries that a guard refuses."""
        gate, book = self.gate, self.gate.book
        if fresh and book.curve.series:
            doubted = book.suspects and book.doubt(bars=1)
            value = math.nan if doubted else gate.unit_value()
            book.curve.mark(book, book.latest, value, gate.equity())
        if not gate.observe:
            for working in list(book.working.values()):
                if not working.own and working.opening > SIZE_EPS:
                    self._judge(working)
            gate.process_notifications()  # what is cancelled makes room at once

    def _judge(self, working: WorkingOrder) -> None:
        """Ask the guards about an entry that was allowed when it was placed."""
        size, distance = working.opening, working.distance
        request = Request(
            working.instrument, working.side, size, working.price, distance, again=True
        )
        for guard in self._guards:
            decision, closing = guard.review(request, self.gate.book), working.closing
            if decision.size <= SIZE_EPS:
                if self.gate.exit_orders.cancel_entry(working, decision.rule):
                    self.gate.journal.order(
                        working.handle, decision.rule, "trim", decision.reason, closing
                    )
                return
