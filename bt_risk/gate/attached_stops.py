"""AttachedStops: send the stop of an entry with it, as its child, where a live broker can do that.

A stop that is sent when the fill is heard leaves a moment without one, and none at all where the
process ends in that moment. With ``entry_stop="attached"`` and the capability ``attached`` the
broker receives the entry and its stop together. The stop rests for what the entry has filled.

It is sent where nothing of its owner is held or works, so that what is held then is what the entry
has filled. Where something else has filled as well, or the stop must move and cannot be replaced,
it is cancelled, and what is held gets a stop as behind any other entry. The same follows where the
broker takes no child: the entry is taken back and sent alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_risk.monitors.settings import ATTACHED
from bt_risk.monitors.trade_stop import RestingOrder, TradeStop
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.orders import TRAILING, OrderRequest, Verdict
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.live_venue import LiveVenue

__all__ = ["AttachedStops"]

_RULE = "ATRTrailingStop"
# Seconds at least that the fill of a child waits for that of its entry.
_LEAST = 3.0


@dataclass
class _Early:
    """A notification of a child that has filled before the fill of its entry was heard."""

    order: Any
    since: float
    given_up: bool = False


class AttachedStops:
    """Send and follow the stops of one live broker that are children of their entries.

    Attributes
    ----------
    refused : bool
        Whether the broker has refused one: it is not asked again in this run.
    """

    def __init__(self, venue: LiveVenue) -> None:
        self.venue, self.gate = venue, venue.gate
        self.refused = False
        self._entries: dict[int, WorkingOrder] = {}
        self._early: list[_Early] = []

    @property
    def possible(self) -> bool:
        """Whether the broker takes a stop as a child of an entry."""
        can = self.gate.order_sender.capabilities.can
        return can("attached") and can("brackets") and can("stop")

    # -- sending ---------------------------------------------------------------------------------

    def send(self, request: OrderRequest, verdict: Verdict, send_alone: Callable[[], Any]) -> Any:
        """Send an order, and the stop behind it where that is a child; return the order or None."""
        price = self._price(request, verdict)
        if not self._may_attach(request, verdict, price):
            return send_alone()
        request.args["transmit"] = False
        try:
            order = send_alone()
        finally:  # whoever sends it again sends it alone
            request.args["transmit"] = True
        entry = None if order is None else self.gate.book.working.get(order.ref)
        if entry is not None and order.alive() and not self._attach(entry, price):
            self.gate.held_orders.taking.add(entry.ref)
            self.venue.withdraw(order)
        return order

    def _may_attach(self, request: OrderRequest, verdict: Verdict, price: float) -> bool:
        """Return whether a stop at `price` is sent with an order, as its child.

        The order opens a position, and nothing else of its owner is held or works.
        """
        gate, instrument, args = self.gate, request.instrument, request.args
        if self.refused or not gate.intervenes or not self._rests(price, request):
            return False
        monitor = gate.registry.monitor(TrailingStopMonitor)
        rule = None if monitor is None else monitor.rules.get((instrument.index, request.owner))
        if rule is None or rule.entry_stop != ATTACHED or not self.possible:
            return False
        linked = args["parent"] is not None or args["oco"] is not None or not args["transmit"]
        if linked or request.kind == "close" or args["exectype"] in TRAILING:
            return False
        if verdict.closing > SIZE_EPS or verdict.opening < verdict.size - SIZE_EPS:
            return False
        part = request.preview.part
        if part.size or any(w.owner is part.owner for w in instrument.orders.values()):
            return False
        others = [one for pool in self.venue.contract(instrument) for one in pool.parts]
        against = any(one.held_against(request.side) for one in others)
        unknown = instrument.index in gate.fill_tracker.unknown
        return not (against or unknown or gate.held_orders or request.sent_on is not instrument)

    @staticmethod
    def _price(request: OrderRequest, verdict: Verdict) -> float:
        """Return where the stop belongs as of now, if the order fills where it is expected to."""
        fill = request.riskiest
        if request.kind == "limit" and request.side > 0:
            fill = min(fill, request.sent_on.quote())
        level = fill - request.side * verdict.distance
        return request.instrument.stop_price(level, request.side)

    @staticmethod
    def _rests(price: float, request: OrderRequest) -> bool:
        return price > 0.0 or (price < 0.0 and request.instrument.negative_prices)

    def _attach(self, entry: WorkingOrder, price: float) -> bool:
        """Send the child of an entry that the broker holds back; return whether it has both."""
        sender = self.gate.order_sender
        if entry.ref in sender.doubts:
            return False
        reason = f"{_RULE}: stop of {entry.instrument.name}, sent with its entry"
        stop = self.gate.exit_orders.attach(entry, price, _RULE, reason)
        if stop is None or stop.ref not in self.gate.book.working:
            self._note_refusal(entry, sender.why if stop is None else stop.getstatusname())
            return False
        self._entries[stop.ref] = entry
        return stop.ref not in sender.doubts

    def _note_refusal(self, entry: WorkingOrder, why: str) -> None:
        """Note that the broker takes no child, so that it gets none any more."""
        self.refused = True
        reason = f"entry_stop: the broker took no stop with its entry ({why}): stops are sent when "
        reason += "fills are reported"
        self.gate.journal.instrument(entry.instrument, _RULE, "note", reason)

    def rests_beside(self, request: OrderRequest) -> bool:
        """Return whether a child works that would fill beside an order of the same owner."""
        return any(
            w.own and w.parent is not None and w.side == request.side and w.owner is request.owner
            for w in request.instrument.orders.values()
        )

    # -- every round of the loop -----------------------------------------------------------------

    def advance(self) -> None:
        """End the children of entries that have ended unfilled; the others are stops by now."""
        self._give_up_waiting()
        for ref, entry in list(self._entries.items()):
            if ref not in self.gate.book.working:
                del self._entries[ref]
                self._check_end(self.gate.own.get(ref), entry)
        for child in [w for w in self.gate.book.working.values() if w.own]:
            if child.parent is not None and child.parent not in self.gate.book.working:
                self._follow(child)

    def _check_end(self, stop: Any, entry: WorkingOrder) -> None:
        """Note a child that the broker has refused while its entry works."""
        refused = stop is not None and stop.status in (stop.Rejected, stop.Margin)
        if refused and self.gate.book.working.get(entry.ref) is entry and not self.refused:
            self._note_refusal(entry, f"it ended {stop.getstatusname()}")

    def _follow(self, child: WorkingOrder) -> None:
        """Let a child whose entry has ended be a stop like others, or cancel it."""
        gate, order = self.gate, child.handle
        in_question = child.ref in gate.order_sender.doubts or self._waits(child)
        if in_question or child.assumed or self.venue.withdrew(child.ref):
            return
        if not child.part.held_against(child.side):
            self.venue.withdraw(order)
            return
        child.parent = None
        left = float(abs(order.executed.remsize))
        if left > SIZE_EPS:  # the broker has made it as small as the entry
            child.remaining = child.size = min(child.remaining, left)
            child.closing = min(child.closing, child.remaining)
        gate.fill_tracker.touch(child.part)

    # -- a fill that is heard before that of the entry -------------------------------------------

    def is_early(self, order: Any) -> bool:
        """Return whether a child has filled what its entry has not reported; put that aside.

        What a child fills its entry has filled before. Booked in another sequence, it would count
        as opened by nobody, and be closed.
        """
        child = self.gate.book.working.get(order.ref)
        if child is None or self._entry_of(child) is None or self._lacking(order) <= SIZE_EPS:
            return False
        self._early.append(_Early(order, self.gate.live.clock()))
        return True

    def next_early(self) -> Any:
        """Return a notification that was put aside and may be processed now, or None."""
        for one in self._early:
            if one.given_up or self._lacking(one.order) <= SIZE_EPS:
                self._early.remove(one)
                return one.order
        return None

    def _waits(self, child: WorkingOrder) -> bool:
        return any(one.order.ref == child.ref for one in self._early)

    def _entry_of(self, child: WorkingOrder) -> WorkingOrder | None:
        """Return the entry that a stop was sent with, None for other orders."""
        entry = self._entries.get(child.ref)
        if entry is None and child.own and child.parent is not None:
            entry = self.gate.book.working.get(child.parent)  # from before this run
            if entry is not None:
                self._entries[child.ref] = entry
        return entry

    def _lacking(self, order: Any) -> float:
        """Return what a child has filled beyond what is held, as far as its entry may explain it.

        An entry that has filled whole explains nothing more.
        """
        child = self.gate.book.working.get(order.ref)
        entry = None if child is None else self._entry_of(child)
        if child is None or entry is None:
            return 0.0
        unread = self.venue.unread(order) - child.part.held_against(child.side)
        return min(unread, entry.remaining)

    def _give_up_waiting(self) -> None:
        """Book the fill of an entry that was never reported, where its child proves it."""
        live = self.gate.live
        patience = max(_LEAST, live.retry_after * live.cancel_tries)
        for one in list(self._early):
            lacking, working = self._lacking(one.order), self.gate.book.working.get(one.order.ref)
            if live.clock() - one.since < patience or lacking <= SIZE_EPS or working is None:
                continue
            entry = self._entries[one.order.ref]
            reason = f"entry_stop: the fill of {lacking:g} is inferred from that of its stop"
            self.gate.journal.order(entry.handle, _RULE, "note", reason)
            one.given_up = True
            self.venue.infer(entry, lacking, reason)

    # -- the stop of a trade ---------------------------------------------------------------------

    def keeps(self, stop: TradeStop, one: RestingOrder) -> bool:
        """Return whether a resting order is a child that the monitor leaves alone for now.

        While its entry works it has the size of that, and moves in one request or not at all. One
        that is being cancelled makes room for the next.
        """
        child = self._behind(stop, one)
        if child is None:
            return False
        venue = self.venue
        if venue.withdrew(child.ref):
            if not venue.awaited(child):  # it may rest for ever, and only reduces
                one.handle, one.price = None, math.nan
                return False
            return True
        if one.handle is None:
            return False
        entry = self.gate.book.working.get(child.parent or 0)
        if entry is None or not one.handle.alive():
            return True  # what has become of it is on its way
        if abs(stop.part.size) > entry.size - entry.remaining + SIZE_EPS:
            venue.withdraw(one.handle)  # another order has filled, too
        else:
            self._move(stop, one, child)
        return True

    def _behind(self, stop: TradeStop, one: RestingOrder) -> WorkingOrder | None:
        """Return the child that rests as this order of a stop, or that could; None without one."""
        part = stop.part
        for w in part.instrument.orders.values():
            if not w.own or w.parent is None or w.owner is not part.owner:
                continue
            fits = w.tradeid == one.tradeid and w.side == -stop.side
            if fits and (one.handle is None or one.handle.ref == w.ref):
                return w
        return None

    def _move(self, stop: TradeStop, one: RestingOrder, child: WorkingOrder) -> None:
        """Move a child to where its stop should be, whole; cancel it where that is not possible."""
        instrument, price = stop.part.instrument, stop.price
        below_zero = price < 0.0 and instrument.negative_prices
        if price == one.price or not (price > 0.0 or below_zero):
            return
        if self.gate.feed_monitor.behind(instrument):
            return
        if self.venue.replaced(child, child.remaining, price):
            child.price = one.price = price
            child.set_at = instrument.moment()
        else:
            self.venue.withdraw(one.handle)
