"""EntryHandover: an entry waits until the exit that makes room for it has filled.

An entry waits too while the broker has got as many requests as it takes, see `Throttle`.

In a simulation a market exit that was accepted before an entry counts as filled (see
`SimulatedVenue.leaving`). At a live broker nothing is closed until that is confirmed: an entry that
would be refused or cut because of a position that is being closed waits for that, for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_risk.orders import AT_MARKET, OrderRequest, Verdict
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["EntryHandover"]


@dataclass
class _Waiting:
    """An entry that waits for `exits`, at most `until`; `judge` is called then.

    Without exits it waits until the broker takes another request.
    """

    request: OrderRequest
    exits: list[WorkingOrder]
    until: float
    judge: Callable[[], None]


class EntryHandover:
    """Hold back the entries of one live broker that rely on market exits which have not filled."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._waiting: dict[int, _Waiting] = {}

    def hold(self, request: OrderRequest, verdict: Verdict) -> Any:
        """Return an order that stands in for an entry that must wait, None where it need not."""
        exits = self._exits_before(request, verdict)
        if not exits and not self._too_fast(request, verdict):
            return None
        record = partial(self._note, exits)
        size = self.gate.order_review.units(request, request.size)
        order = self.gate.order_sender.send(request, size, record, closing=0.0, waits=True)
        if order is not None:
            self._wait(request, order, exits, partial(self._judge, order.ref, request))
        return order

    def hold_family(
        self, request: OrderRequest, verdict: Verdict, parent: Any, judge: Callable[[], None]
    ) -> bool:
        """Return whether a bracket must wait; `judge` is called when it has waited long enough."""
        exits = self._exits_before(request, verdict)
        if not exits and not self._too_fast(request, verdict):
            return False
        self._note(exits, parent)
        self._wait(request, parent, exits, judge)
        return True

    def _too_fast(self, request: OrderRequest, verdict: Verdict) -> bool:
        """Return whether an entry waits for the throttle: none overtakes another one there."""
        throttle = self.gate.order_sender.throttle
        return throttle.delays(request, verdict, any(not w.exits for w in self._waiting.values()))

    def _exits_before(self, request: OrderRequest, verdict: Verdict) -> list[WorkingOrder]:
        """Return the market exits that make room for an entry, none where they do not.

        They do where the entry is refused or cut as things are, and more of it would be allowed
        without the positions that they close. An order that closes something does not wait.
        """
        review, opening = self.gate.order_review, request.preview.opening
        if request.preview.reduces > SIZE_EPS or review.problem(request) is not None:
            return []
        if verdict.decision.size >= opening - SIZE_EPS:
            return []
        exits = [
            w
            for w in self.gate.book.working.values()
            if w.kind in AT_MARKET and w.closing > SIZE_EPS and not w.waits
        ]
        decision = review.limits.review(request, opening, verdict.distance, gone=exits)
        return exits if decision.size > verdict.decision.size + SIZE_EPS else []

    def _wait(
        self,
        request: OrderRequest,
        order: Any,
        exits: list[WorkingOrder],
        judge: Callable[[], None],
    ) -> None:
        """Call `judge` when these exits have ended, or when `handover_timeout` is over."""
        until = self.gate.live.clock() + self.gate.live.handover_timeout
        self._waiting[order.ref] = _Waiting(request, exits, until, judge)

    def _note(self, exits: list[WorkingOrder], order: Any) -> None:
        """Add a line about an entry that waits."""
        if order is None:  # it was not sent, and not held back either
            return
        if not exits:
            throttle = self.gate.order_sender.throttle
            order.addinfo(bt_risk=throttle.reason)
            throttle.note(order, throttle.reason)
            return
        names = ", ".join(dict.fromkeys(w.instrument.name for w in exits))
        reason = f"entry handover: waits for the exit of {names}"
        order.addinfo(bt_risk=reason)
        self.gate.journal.order(order, "entry handover", "note", reason)

    def advance(self) -> None:
        """Judge the entries that have waited long enough."""
        working, full = self.gate.book.working, False
        for ref, entry in list(self._waiting.items()):
            if ref not in working:
                del self._waiting[ref]
                continue
            if not self.gate.trading_state:
                left = [w for w in entry.exits if working.get(w.ref) is w]
                if left and self.gate.live.clock() < entry.until:
                    continue
                full = full or self.gate.order_sender.throttle.full()
                if full and not self._closes(entry.request):
                    entry.exits = []
                    continue
            del self._waiting[ref]
            entry.judge()

    def _closes(self, request: OrderRequest) -> bool:
        """Return whether an order that has waited as an entry closes something by now."""
        self.gate.order_review.look_ahead(request)
        return request.preview.closing > SIZE_EPS

    def _judge(self, ref: int, request: OrderRequest) -> None:
        """Judge an entry as things are now, and send, cut or reject it."""
        review, working = self.gate.order_review, self.gate.book.working[ref]
        self.gate.book.equity = float(self.gate.equity())
        review.look_ahead(request)
        verdict = review.judge(request)
        review.events.asked(review.asked(request, verdict)._replace(order=working.handle))
        if verdict.size <= SIZE_EPS:
            self.gate.held_orders.end(working, verdict.decision.reason, rejected=True)
            return
        size = review.units(request, verdict.size)
        working.remaining = working.size = float(size)
        working.opening, working.closing = min(verdict.opening, size), verdict.closing
        working.waits = False
        self.gate.book.set_distance(working, verdict.distance)
        working.handle.addinfo(bt_risk="")
        self.gate.book.count(working)
        review.record_accepted(request, size, verdict, working.handle)
        if working.closing <= SIZE_EPS:  # what closes something waits as other exits do
            self.gate.held_orders.release(working, size)
