"""LiveVenue: a broker that is no simulation, and may refuse, lose or delay every request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_risk.gate.venue import EquitySources, Venue
from bt_risk.live.equity_monitor import EquityMonitor, LastKnownValue
from bt_risk.live.executions import ReportedExecutions
from bt_risk.orders import AT_MARKET, OrderRequest, plain
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.preview import exiting
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["LiveVenue"]


class LiveVenue(Venue):
    """A broker that answers later, loses requests, and cannot clamp an order when it fills.

    `closing` holds the positions that are being closed, each with the number of its trade.
    """

    direct = False
    clamps = False
    judges_market = True
    min_confirmations = 2
    short_cash = True
    waits_for_children = False

    def __init__(self, gate: RiskBroker) -> None:
        super().__init__(gate)
        self.closing: dict[OwnerPosition, int] = {}
        self._fund = LastKnownValue(gate, partial(getattr, self.inner, "fundvalue"))
        self._executions = ReportedExecutions(gate)
        self._cancelled_at: dict[int, float] = {}
        self._tried: dict[OwnerPosition, tuple[int, float]] = {}

    @property
    def stop_retries(self) -> float:  # type: ignore[override]  # a setting here, no constant
        """Return how often a refused stop is placed again before its position is closed."""
        return self.gate.live.stop_retries

    # -- the account -----------------------------------------------------------------------------

    def own_equity_sources(self) -> EquitySources:
        """Return both callables: the broker's value is compared with what prices explain."""
        judged = EquityMonitor(self.gate)
        return judged.value, judged.value

    def account_calls(self) -> dict[str, Callable[..., float]]:
        """Return the calls for cash and value that Cerebro makes on every bar."""
        names = ("getcash", "getvalue")
        return {name: LastKnownValue(self.gate, getattr(self.inner, name)) for name in names}

    def fund_value(self) -> float:
        """Return the value of one share of the account, or the last one that was known."""
        return self._fund()

    # -- a round of Cerebro's loop ---------------------------------------------------------------

    def execute(self) -> None:
        """Let the broker work, process what it notifies, and repeat what it has not answered."""
        gate = self.gate
        self.inner.next()
        gate.process_notifications()
        gate.order_sender.doubts.advance()
        if gate.exit_handover.waiting:
            gate.exit_handover.advance()
        if gate.trading_state:
            # A cancel that got lost is sent again in time.
            gate.exit_orders.cancel_entries(gate.trading_state.rule)

    def new_executions(self, order: Any, instrument: Instrument) -> list[Any]:
        """Return the executions of a notification that were not reported before."""
        return self._executions.new(order, instrument)

    def seen(self, order: Any) -> int:
        """Return how many executions of an order have been booked."""
        return self._executions.seen(order)

    def skip_executions(self, order: Any, count: int) -> None:
        """Leave out executions that are in the position already."""
        self._executions.skip(order, count)

    # -- orders ----------------------------------------------------------------------------------

    def amend(self, working: WorkingOrder, size: float, price: float) -> bool:
        """Replace a resting stop of ours in one request; return whether that is done.

        Where it cannot be done, the stop is cancelled, and the caller places a new one once the
        cancel is confirmed.
        """
        if self._replaced(working, size, price):
            return True
        self.withdraw(working.handle)
        return False

    def _replaced(self, working: WorkingOrder, size: float, price: float) -> bool:
        sender = self.gate.order_sender
        if not sender.capabilities.can("replace") or working.ref in sender.doubts:
            return False
        try:
            return bool(self.inner.replace(working.handle, size=plain(size), price=price))
        except Exception as error:  # cancel and replace instead: a cancel is safe to repeat
            self._note_failure(working.handle, f"broker: replace failed: {error}")
            return False

    def withdraw(self, order: Any) -> None:
        """Cancel an order, and again when nobody has answered for a while: that is safe."""
        ref, asked = order.ref, self._cancelled_at.get(order.ref)
        if asked is None:
            self.gate.recovery.recorder.save()
        if ref in self.gate.order_sender.doubts:
            return  # it is not known yet what there is to cancel
        now = self.gate.live.clock()
        if asked is None or now - asked >= self.gate.live.retry_after:
            self._cancelled_at[ref] = now
            self._cancel(order)

    def _cancel(self, order: Any) -> None:
        working = self.gate.book.working.get(order.ref)
        try:
            self.inner.cancel(order if working is None else working.handle)
        except Exception as error:  # it is sent again after a while
            self._note_failure(order, f"broker: cancel failed: {error}")

    def _note_failure(self, order: Any, reason: str) -> None:
        """Add a line about a request that failed, once for each order and reason."""
        if self.gate.journal.once((order.ref, reason)):
            self.gate.journal.order(order, "broker", "note", reason)

    def withdrew(self, ref: int) -> bool:
        """Return whether the gate has cancelled an order."""
        return ref in self._cancelled_at

    def forget(self, ref: int) -> None:
        """Forget an order that ended long ago."""
        self._cancelled_at.pop(ref, None)

    def close(self, part: OwnerPosition, rule: str, reason: str, stops: bool = False) -> Any:
        """Close an owner's position at the market, once nothing rests that could fill beside it.

        Return the order once it is sent. Market exits that work already are left to fill.
        """
        self.mark_closing(part)
        exits = self.gate.exit_orders
        resting = exits.resting(part)
        size = abs(part.size) - exiting(part, -part.side)
        order = None
        if size > SIZE_EPS and not resting and self._may_try(part):
            order = exits.send(part, size, rule, reason, stops=stops)
        for working in resting:
            self.withdraw(working.handle)
        return order

    def _may_try(self, part: OwnerPosition) -> bool:
        """Return whether to send an exit: after a refusal the broker is left alone for a while."""
        now, tried = self.gate.live.clock(), self._tried.get(part)
        same = tried is not None and tried[0] == part.number
        if tried is not None and same and now - tried[1] < self.gate.live.retry_after:
            return False
        self._tried[part] = part.number, now
        return True

    def uncovered(self, part: OwnerPosition) -> float:
        """Return the size that a stop must protect: what no exit is closing already."""
        closing = self.closing.get(part) == part.number
        if closing or self.gate.exit_orders.leaving(part) is not None:
            return 0.0  # a stop beside that exit would sell the position twice
        return abs(part.size) - exiting(part, -part.side)

    def mark_closing(self, part: OwnerPosition) -> None:
        """Remember that a position is being closed, so that no stop is placed behind it again."""
        self.closing[part] = part.number

    def end_closing(self) -> None:
        """Forget which positions are being closed: entries are judged again."""
        self.closing.clear()

    def hold(self, request: OrderRequest, size: float) -> Any:
        """Hold a market exit back until our stop is cancelled; return a stand-in, or None."""
        if request.kind not in AT_MARKET:
            return None
        return self.gate.exit_handover.hold(request, size)

    def settle(self, request: OrderRequest, order: Any) -> Any:
        """Process what some brokers answer at once: an order that has ended, or an error."""
        gate = self.gate
        if order is None and gate.order_sender.refused:
            order = request.native_order(request.size)
            gate.order_review.refuse(order, gate.order_sender.why)
        elif order is not None and not order.alive() and order.ref in gate.book.working:
            gate.fill_tracker.take(order)
        return order
