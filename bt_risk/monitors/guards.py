"""What guards need at every close: the equity curve kept, and resting entries cancelled."""

from bt_risk.limits.base import Request
from bt_risk.limits.clock_guards import DailyLossLimit, OrderRateLimit
from bt_risk.monitors.base import Monitor
from bt_risk.portfolio.position import EPS

__all__ = ["GuardMonitor"]


class GuardMonitor(Monitor):
    """The hook of one `RiskBroker` that works for its guards; it is there only with a guard."""

    def __init__(self, gate):
        self.gate = gate
        self._guards = []

    def add(self, guard):
        """Work for this guard from now on."""
        book = self.gate.book
        if isinstance(guard, DailyLossLimit):
            book.curve.track(guard.keys(book.instruments))
        if isinstance(guard, OrderRateLimit):
            book.count_orders()
        self._guards.append(guard)

    # -- hooks of the gate -----------------------------------------------------------------------

    def on_bar(self, fresh):
        """Take in the close, and end what rests and would open against a guard."""
        gate, book = self.gate, self.gate.book
        if fresh and book.curve.series:
            book.curve.mark(book, book.latest, gate.unit_value(), gate.equity())
        if not gate.observe:
            for working in list(book.working.values()):
                if not working.own and working.opening > EPS:
                    self._judge(working)
            gate.process_notifications()  # what is cancelled makes room at once

    def _judge(self, working):
        """Ask the guards about an entry that was allowed when it was placed."""
        size, distance = working.opening, working.distance
        request = Request(
            working.instrument, working.side, size, working.price, distance, again=True
        )
        for guard in self._guards:
            decision, closing = guard.review(request, self.gate.book), working.closing
            if decision.size <= EPS:
                if self.gate.exit_orders.cancel_entry(working, decision.rule):
                    self.gate.journal.order(
                        working.handle, decision.rule, "trim", decision.reason, closing
                    )
                return
