"""LiveVenue: a broker that is no simulation, and may refuse, lose or delay every request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_risk.gate.attached_stops import AttachedStops
from bt_risk.gate.venue import EquitySources, Venue
from bt_risk.live.cancels import Cancels
from bt_risk.live.currencies import Currencies
from bt_risk.live.entry_handover import EntryHandover
from bt_risk.live.equity_monitor import EquityMonitor
from bt_risk.live.executions import ReportedExecutions
from bt_risk.live.exit_handover import ExitHandover
from bt_risk.live.flatten_progress import FlattenProgress
from bt_risk.live.last_known import LastKnownPosition, LastKnownValue
from bt_risk.live.late_fills import LateFills
from bt_risk.live.reconciliation import Reconciliation
from bt_risk.live.unread_positions import UnreadPositions
from bt_risk.live.venue_margin import VenueMargin
from bt_risk.monitors.margin import MarginMonitor
from bt_risk.orders import AT_MARKET, OrderRequest, Verdict, plain
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.preview import exiting
from bt_risk.portfolio.reachable import market_exits, opposed, orders_of
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
    attached: AttachedStops

    def __init__(self, gate: RiskBroker) -> None:
        super().__init__(gate)
        self.closing: dict[OwnerPosition, int] = {}
        self.exit_handover = ExitHandover(gate)
        self.entry_handover = EntryHandover(gate)
        self.late_fills = LateFills(gate)
        self.reconciliation = Reconciliation(gate)
        self.next_notification = self._next_notification
        self.attached = AttachedStops(self)
        self._position = LastKnownPosition(gate, self.inner.getposition, self._failed)
        self._unwanted: list[WorkingOrder] = []
        self._unread = UnreadPositions(gate)
        self._fund = LastKnownValue(gate, partial(getattr, self.inner, "fundvalue"))
        self._executions = ReportedExecutions(gate)
        self.cancels, self._progress = Cancels(gate), FlattenProgress(gate)
        self._tried: dict[OwnerPosition, tuple[int, float]] = {}

    @property
    def stop_retries(self) -> float:  # type: ignore[override]  # a setting here, no constant
        """Return how often a refused stop is placed again before its position is closed."""
        return self.gate.live.stop_retries

    @property
    def waits_for_children(self) -> bool:  # type: ignore[override]  # a capability here
        """Return whether the gate holds a bracket back until its last child."""
        return self.gate.order_sender.capabilities.can("brackets")

    # -- the account -----------------------------------------------------------------------------

    def own_equity_sources(self) -> EquitySources:
        """Return both callables: the account value is compared with what prices explain."""
        Currencies(self.gate).attach()
        self.account = EquityMonitor(self.gate)
        return self.account.value, self.account.unit_value

    def account_calls(self) -> dict[str, Callable[..., Any]]:
        """Return the calls of Cerebro and strategies on every bar, which an error must not end."""
        names = ("getcash", "getvalue")
        calls = {name: LastKnownValue(self.gate, getattr(self.inner, name)) for name in names}
        return {**calls, "getposition": self._position}

    def position(self, data: Any) -> Any:
        """Return the position in a data feed; that of the book while the broker does not answer."""
        return self._position(data)

    def use_margin(self, monitor: MarginMonitor) -> None:
        """Ask the venue for its margin ratio, too: it liquidates and charges by itself."""
        reported = VenueMargin(self.gate)
        if reported.exists:
            monitor.venue = reported

    def fund_value(self) -> float:
        """Return the value of one share of the account, or the last one that was known."""
        value, factor = self._fund(), self.account.flows.factor
        return value * factor if value and factor != 1.0 else value

    def cash_flow(self, amount: float) -> None:
        """Take note of a deposit, or of a withdrawal (negative): it counts once cash shows it."""
        self.account.flows.announce(amount)

    def continue_from(self, unit_value: float) -> None:
        """Go on with this unit value: what another broker held is no profit and no loss."""
        self.account.continue_from(unit_value)

    def persist(self) -> dict[str, Any]:
        """Return what must be known of the account after a restart."""
        return self.account.persist()

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from the saved state of the account."""
        self.account.restore(saved)

    def sample(self, fresh: list[Instrument]) -> None:
        """Check the account value on every bar, and more often while it is in doubt."""
        for instrument in fresh:
            if instrument.held and instrument.exchange != 1.0:
                self.gate.multiplier(instrument.data)  # rates change
        if self.gate.judges and (fresh or self.account.in_doubt):
            self.account.value()

    def ask_position(self, instrument: Instrument) -> tuple[bool, Any]:
        """Return whether the broker answers what it holds at the start, and its position."""
        return self._unread.ask(instrument)

    # -- a round of Cerebro's loop ---------------------------------------------------------------

    def execute(self) -> None:
        """Let the broker work, process what it notifies, and repeat what it has not answered."""
        gate = self.gate
        gate.alerts.beat()
        try:
            self.inner.next()
        except Exception as error:  # a store raises whatever its client raises: the round goes on
            self._failed(error, "next")
        gate.process_notifications()
        gate.order_sender.doubts.advance()
        if gate.intervenes:
            self.reconciliation.advance()
            self._withdraw_unwanted()
            self.attached.advance()
            self.exit_handover.advance()
            gate.order_sender.throttle.advance()
            self.entry_handover.advance()
            self.late_fills.advance()
            self.cancels.advance()
            self._progress.check(self.closing)
        if gate.trading_state:
            # A cancel that got lost is sent again in time.
            gate.exit_orders.cancel_entries(gate.trading_state.rule)

    def _failed(self, error: Exception, where: str) -> None:
        """Go on after an exception in the broker's own code; without limits it is the user's."""
        if not self.gate.intervenes:
            raise error
        self.reconciliation.note_error(error, where)

    def _next_notification(self) -> Any:
        """Return the next notification, of the gate or of the broker; None: there is none."""
        inferred = self.reconciliation.inferred
        while True:
            own = inferred.news.popleft() if inferred.news else self.attached.next_early()
            if own is not None:
                return own
            try:
                order = self.inner.get_notification()
            except Exception as error:  # a store raises whatever its client raises
                self._failed(error, "get_notification")
                return None
            if order is not None:
                self.gate.recovery.reconciler.claim(order)
            new = None if order is None else inferred.as_new(order)
            if order is None or (new is not None and not self.attached.is_early(new)):
                return new

    def new_executions(self, order: Any, instrument: Instrument) -> list[Any]:
        """Return the executions of a notification that were not reported before."""
        self.reconciliation.note_activity(instrument)
        bits = self._executions.new(order, instrument)
        if bits:
            self.reconciliation.trust.note_fill(instrument)
        return bits

    def count_executed(self, order: Any, size: float) -> None:
        """Count units of an order as booked that its notifications have not reported."""
        self._executions.count(order, size)

    def unread(self, order: Any) -> float:
        """Return how many units a notification reports that are not in the book."""
        return self._executions.unread(order)

    def infer(self, working: WorkingOrder, size: float, reason: str) -> None:
        """Book `size` units of an order as filled that its broker has not notified."""
        self.reconciliation.inferred.fill(working, size, False, reason)

    def note_request(self, instrument: Instrument) -> None:
        """Note that something of an instrument is on its way to the broker."""
        self.reconciliation.note_activity(instrument)

    def seen(self, order: Any) -> int:
        """Return how many executions of an order have been booked."""
        return self._executions.seen(order)

    def skip_executions(self, order: Any, count: int) -> None:
        """Leave out executions that are in the position already."""
        self._executions.skip(order, count)

    # -- orders ----------------------------------------------------------------------------------

    def attach_stops(self) -> None:
        """Note once when a stop is sent: with its entry, or when that has filled."""
        if self.gate.judges and self.gate.journal.once("entry_stop"):
            reason = "entry_stop: the stop is sent when the broker reports the fill of its entry"
            if self.attached.possible:
                reason = "entry_stop: the stop of a new position is sent with its entry"
            self.gate.journal.account("ATRTrailingStop", "note", reason)

    def amend(self, working: WorkingOrder, size: float, price: float) -> bool:
        """Replace a resting stop of ours in one request; return whether that is done.

        Where it cannot be done, the stop is cancelled, and the caller places a new one once the
        cancel is confirmed. So is one that has begun to fill: brokers differ in what its size is.
        """
        begun = working.handle.status == working.handle.Partial
        begun |= working.remaining < working.size - SIZE_EPS
        if not begun and self.replaced(working, size, price):
            return True
        self.withdraw(working.handle)
        return False

    def takes_two_exits(self, instrument: Instrument) -> bool:
        """Return whether two stops may rest: `reduce_only` keeps them from opening anything.

        Where the broker can replace an order there is no need for a second one.
        """
        can = self.gate.order_sender.capabilities.can
        if not (can("two_exits") and can("reduce_only")) or can("replace"):
            return False
        return not opposed(instrument)

    @property
    def rests_targets(self) -> bool:
        """Return whether a limit may rest beside the stop.

        Nothing but `reduce_only` keeps two exits that fill at one moment from opening anything.
        """
        can = self.gate.order_sender.capabilities.can
        return can("reduce_only") and can("two_exits")

    def replaced(self, working: WorkingOrder, size: float, price: float) -> bool:
        """Give a resting order another size and price in one request; return if that is done."""
        sender = self.gate.order_sender
        if not sender.capabilities.can("replace") or working.ref in sender.doubts:
            return False
        sender.throttle.count()
        self.note_request(working.instrument)
        try:
            return bool(self.inner.replace(working.handle, size=plain(size), price=price))
        except Exception as error:  # cancel and replace instead: a cancel is safe to repeat
            reason = f"broker: replace failed: {error}"
            if self.gate.journal.once((working.ref, reason)):
                self.gate.journal.order(working.handle, "broker", "note", reason)
            return False

    def withdraw(self, order: Any) -> None:
        """Cancel an order, and again when nobody has answered for a while: that is safe."""
        if order.ref in self.gate.held_orders:
            held = self.gate.book.working[order.ref]
            self.gate.held_orders.end(held, "held orders: cancelled before it was sent")
        else:
            self.cancels.ask(order)

    def cancel_entry(self, order: Any) -> None:
        """Cancel an entry, also one that is being taken back: it is not sent again."""
        self.gate.held_orders.taking.discard(order.ref)
        self.withdraw(order)

    def withdrew(self, ref: int) -> bool:
        """Return whether the gate has cancelled an order."""
        return ref in self.cancels

    def awaited(self, working: WorkingOrder) -> bool:
        """Return whether a working order's end is worth waiting for: it answers to cancels."""
        return self.cancels.awaited(working)

    def forget(self, ref: int) -> None:
        """Forget an order that ended long ago."""
        self.cancels.forget(ref)

    def close(self, part: OwnerPosition, rule: str, reason: str, stops: bool = False) -> list[Any]:
        """Close an owner's position at the market, once nothing rests that could fill beside it.

        Return the orders once they are sent. Market exits that work already are left to fill. What
        does not answer is not waited for: what the broker still holds is closed. A saved position
        is compared with the broker's first: an exit of the earlier run may have closed it.
        """
        self.mark_closing(part)
        if part.instrument.index in self.gate.fill_tracker.unknown:
            return []
        exits, cancels = self.gate.exit_orders, self.cancels
        resting = exits.resting(part)
        at_market = [w for w in orders_of(part, -part.side) if w.kind in AT_MARKET]
        lost = sum([w.remaining for w in at_market if not self.on_its_way(w)])
        rows = list(market_exits(part.instrument, -part.side))
        others = [(w, units) for w, one, units in rows if one is part and w.owner is not part.owner]
        lost += sum([units for w, units in others if not self.on_its_way(w)])
        size = abs(part.size) - exiting(part, -part.side) + lost
        orders = []
        if size > SIZE_EPS and not any(cancels.awaited(w) for w in resting):
            size = cancels.closable(part, size)
            if size > SIZE_EPS and self.may_try(part):
                orders = exits.send_all(part, size, rule, reason, stops)
        for working in resting:
            self.withdraw(working.handle)
        return orders

    def on_its_way(self, working: WorkingOrder) -> bool:
        """Return whether a market exit may still fill; one that the broker lacks is cancelled."""
        return self.cancels.awaited_at_market(working)

    def closable(self, part: OwnerPosition, size: float) -> float:
        """Return how much of `size` the broker still holds, where an order is unanswered."""
        return self.cancels.closable(part, size)

    def is_trusted(self, instrument: Instrument) -> bool:
        """Return whether the position that the broker reports of an instrument can be used."""
        return self.reconciliation.trust.is_trusted(instrument)

    def contract(self, instrument: Instrument) -> tuple[Instrument, ...]:
        """Return the instruments that share a position with this one at the venue."""
        return self.reconciliation.trust.pool(instrument)

    def is_flat(self) -> bool:
        """Return whether the broker holds nothing in what the gate trades, as far as it counts."""
        for one in self.gate.book.instruments:
            if one.parts and self.is_trusted(one):
                held = self.view.position(one)
                if held is None or abs(held) > SIZE_EPS:
                    return False
        return True

    def may_try(self, part: OwnerPosition) -> bool:
        """Return whether to send an exit: after a refusal the broker is left alone for a while."""
        now, tried = self.gate.live.clock(), self._tried.get(part)
        same = tried is not None and tried[0] == part.number
        if tried is not None and same and now - tried[1] < self.gate.live.retry_after:
            return False
        self._tried[part] = part.number, now
        return True

    def uncovered(self, part: OwnerPosition) -> float:
        """Return the size that a stop must protect: what no exit is closing already.

        A saved position that is not compared with the broker's yet keeps what rests, and gets no
        other stop: the one that is gone may have filled.
        """
        resting = self.gate.exit_orders.resting(part)
        if part.instrument.index in self.gate.fill_tracker.unknown:
            return sum([w.remaining for w in resting if w.own])
        closing = self.closing.get(part) == part.number
        if closing or self.gate.exit_orders.leaving(part) is not None:
            return 0.0  # a stop beside that exit would sell the position twice
        orders = [w for w in part.instrument.orders.values() if w.assumed]
        covers = [w.remaining for w in orders if w.owner is part.owner and w.side == -part.side]
        return abs(part.size) - exiting(part, -part.side) - abs(part.excess) - sum(covers)

    def mark_closing(self, part: OwnerPosition) -> None:
        """Remember that a position is being closed, so that no stop is placed behind it again."""
        self.closing[part] = part.number

    def end_closing(self) -> None:
        """Forget which positions are being closed: entries are judged again."""
        self.closing.clear()

    def hold(
        self, request: OrderRequest, size: float, opening: float, closing: float, waits: bool
    ) -> Any:
        """Hold back an order that must not be at the broker yet; return a stand-in, or None.

        That is an exit of which the broker could open something, also where the fill that it
        closes is not in the book yet, and a bracket without its last child.
        """
        held, parent = self.gate.held_orders, request.args["parent"]
        if not self.gate.intervenes or self.gate.order_sender.lacks(request):
            return None  # an order that the broker lacks is refused when it is sent
        if waits or (parent is not None and getattr(parent, "ref", -1) in held):
            return held.stand_in(request, size)
        entry = size - opening <= SIZE_EPS
        beside = bool(held) or self.attached.rests_beside(request)
        if parent is not None or (entry and (request.kind not in AT_MARKET or not beside)):
            return None
        return self.exit_handover.hold(request, size, opening, closing)

    def hold_entry(self, request: OrderRequest, verdict: Verdict) -> Any:
        """Hold back an entry for which a market exit makes room; return a stand-in, or None."""
        return self.entry_handover.hold(request, verdict) if self.gate.intervenes else None

    def family_waits(
        self, request: OrderRequest, verdict: Verdict, parent: Any, judge: Callable[[], None]
    ) -> bool:
        """Return whether a bracket waits as an entry does; `judge` is called then."""
        return self.entry_handover.hold_family(request, verdict, parent, judge)

    def take_family(self, parent: Any) -> list[Any]:
        """Return the orders of a bracket that the gate holds back until its last child comes."""
        return [w.handle for w in self._family(parent) if w.ref in self.gate.held_orders]

    def _family(self, parent: Any) -> list[WorkingOrder]:
        working = self.gate.book.working.values()
        return [w for w in working if parent.ref in (w.ref, w.parent)]

    def send_family(self, parent: Any, whole: bool = False) -> Any:
        """Send the orders of a bracket that were held back; return the broker's parent, or None.

        `whole` says that no further child comes. Where the broker does not take one of them, the
        bracket is withdrawn.
        """
        held, family = self.gate.held_orders, self._family(parent)
        if whole:
            held.requests[family[-1].ref].args["transmit"] = True
        for one in family:
            order = held.release(one, one.remaining)
            if order is None or one.ref in self.gate.order_sender.doubts:
                self._unwanted += [w for w in family if w.ref not in held]
                for w in [w for w in family if w.ref in held]:
                    held.end(w, "bracket: the broker has not confirmed all of it", rejected=True)
                return None
        return family[0].handle

    def _withdraw_unwanted(self) -> None:
        """Withdraw what was sent of a bracket that is not whole."""
        working = self.gate.book.working
        self._unwanted = [w for w in self._unwanted if working.get(w.ref) is w]
        for one in self._unwanted:
            self.withdraw(one.handle)

    def goes_on(self, order: Any) -> bool:
        """Return whether an order that has ended at the broker goes on in the gate."""
        if self.exit_handover.goes_on(order):
            return True
        working = self.gate.book.working.get(order.ref)
        if working is not None:
            self.late_fills.remember(working)
        return False

    def note_excess(self, order: Any, part: OwnerPosition, excess: float) -> None:
        """Note units that an order has filled beyond what it was allowed to open."""
        if self.gate.intervenes:
            self.late_fills.note(order, part, excess)

    def beyond(self, order: Any, opens: float) -> float:
        """Return what an order that had ended has opened beyond its allowance."""
        return self.late_fills.beyond(order, opens)

    def settle(self, request: OrderRequest, order: Any) -> Any:
        """Process what some brokers answer at once: an order that has ended, or an error."""
        gate = self.gate
        if order is None and gate.order_sender.refused:
            order = request.native_order(request.size)
            gate.order_review.refuse(order, gate.order_sender.why)
        elif order is not None and not order.alive() and order.ref in gate.book.working:
            gate.fill_tracker.take(order)
        return order
