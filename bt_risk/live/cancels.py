"""Cancels: ask a live broker to cancel orders, and wait for none that it never answers for.

A cancel may get lost, and a store may ignore the answer that the venue has no such order. What
waits for the end of that order (a flatten, a strategy's exit) would wait for ever, while the price
falls. So the order is unanswered after some requests: it stays in the book, because it may fill
after all, and is asked about again, but nothing waits for it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_risk.live.position_trust import booked
from bt_risk.orders import AT_MARKET, venue_id
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["CANCEL", "Cancels"]

# Seconds that an answer may take at least, however often the broker is asked.
_LEAST = 3.0
# The rule of the lines in the journal.
CANCEL = "cancel"


@dataclass
class _Requests:
    """When an order was asked to be cancelled, first and last, and how often."""

    first: float
    last: float
    count: int = 1


class Cancels:
    """Cancel orders at the broker of one `RiskBroker`, and count the requests without an answer.

    Attributes
    ----------
    unanswered : set of int
        Refs of the working orders for whose end nothing waits any more.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.unanswered: set[int] = set()
        self._asked: dict[int, _Requests] = {}
        self._sent: dict[int, float] = {}
        self._unknown_since: dict[OwnerPosition, float] = {}

    def __contains__(self, ref: int) -> bool:
        return ref in self._asked

    def forget(self, ref: int) -> None:
        """Forget an order that ended long ago."""
        self._asked.pop(ref, None)

    # -- asking ----------------------------------------------------------------------------------

    def ask(self, order: Any) -> None:
        """Cancel an order, and again when nobody has answered for a while: that is safe."""
        ref, asked = order.ref, self._asked.get(order.ref)
        if asked is None:
            self.gate.recovery.recorder.save()
        if ref in self.gate.order_sender.doubts:
            return  # it is not known yet what there is to cancel
        now = self.gate.live.clock()
        if asked is None:
            self._asked[ref] = _Requests(now, now)
        elif now - asked.last < self.gate.live.retry_after:
            return
        else:
            if asked.count >= self.gate.live.cancel_tries and now - asked.first >= _LEAST:
                self._give_up(order, asked.count)
            asked.last, asked.count = now, asked.count + 1
        self._send(order)

    def _send(self, order: Any) -> None:
        working = self.gate.book.working.get(order.ref)
        instrument = self.gate.venue.held_in(order.data)
        if instrument is not None:
            self.gate.venue.note_request(instrument)
        self.gate.order_sender.throttle.count()
        try:
            self.gate.inner.cancel(order if working is None else working.handle)
        except Exception as error:  # it is sent again after a while
            reason = f"broker: cancel failed: {error}"
            if self.gate.journal.once((order.ref, reason)):
                self.gate.journal.order(order, "broker", "note", reason)

    def _give_up(self, order: Any, requests: int) -> None:
        """Wait no longer for an order; it stays in the book, and is asked to be cancelled again."""
        if order.ref in self.unanswered or order.ref not in self.gate.book.working:
            return
        self.unanswered.add(order.ref)
        working = self.gate.book.working[order.ref]
        side = "buy" if working.side > 0 else "sell"
        at = "" if working.kind in AT_MARKET else f" at {working.price:g}"
        what = f"the {working.kind} order to {side} {working.remaining:g}{at}"
        reason = (
            f"{CANCEL}: the broker has not answered {requests} requests to cancel {what}. Nothing "
            "waits for it any more. Look at the venue: if it still works there, cancel it by hand"
        )
        self.gate.journal.order(order, CANCEL, "unanswered", reason)

    # -- waiting ---------------------------------------------------------------------------------

    def awaited(self, working: WorkingOrder) -> bool:
        """Return whether an order still works, and its end is worth waiting for."""
        here = working.ref in self.gate.book.working
        return here and working.ref not in self.unanswered and not working.assumed

    def awaited_at_market(self, working: WorkingOrder) -> bool:
        """Return whether a market exit is on its way; cancel one that the broker does not show.

        One that the broker has acknowledged, or lists, is left to fill: the market may be closed.
        """
        ref, now = working.ref, self.gate.live.clock()
        if not self.awaited(working):
            return False
        patience = max(_LEAST, self.gate.live.retry_after * self.gate.live.cancel_tries)
        waited = now - self._sent.setdefault(ref, now)
        if ref in self.gate.held_orders or ref in self.gate.order_sender.doubts:
            return True
        if ref in self._asked or (waited >= patience and self._is_lost(working)):
            self.ask(working.handle)
        return self.awaited(working)

    def _is_lost(self, working: WorkingOrder) -> bool:
        """Return whether nothing shows that the broker has an order."""
        view = self.gate.venue.view
        listed = None if view.open_orders() is None else view.lists(working)
        if listed is not None and (listed or view.proven(working)):
            return not listed
        order: Any = working.handle
        return bool(order.status <= order.Submitted)

    def advance(self) -> None:
        """Forget what has ended, and name the exits of ours that may outlive their position."""
        working = self.gate.book.working
        for one in list(working.values()):
            if not one.own or one.kind in AT_MARKET:
                continue
            if not self.awaited(one):
                self._name_left_over(one)
            elif one.ref in self._asked:
                self.ask(one.handle)  # a cancel that got lost is sent again in time
        self.unanswered = {ref for ref in self.unanswered if ref in working}
        self._sent = {ref: at for ref, at in self._sent.items() if ref in working}

    def _name_left_over(self, working: WorkingOrder) -> None:
        """Ask a person to cancel an exit whose position is closed, and which does not answer."""
        part, known = working.part, self.gate.fill_tracker.unknown
        if part.held_against(working.side) or working.instrument.index in known:
            return
        if self.gate.journal.once(("left over", working.ref, part.number)):
            side = "buy" if working.side > 0 else "sell"
            what = f"the {working.kind} to {side} {working.remaining:g} at {working.price:g}"
            found = venue_id(working.handle)
            reason = (
                f"{CANCEL}: nothing of {working.instrument.name} is held any more that {what} "
                f"(id {found or 'unknown'}) could close. If it still rests at the venue, cancel it "
                "by hand"
            )
            self.gate.journal.order(working.handle, CANCEL, "left over", reason)

    # -- what is really there --------------------------------------------------------------------

    def closable(self, part: OwnerPosition, size: float) -> float:
        """Return how much of `size` to close, where an order of the position is unanswered.

        That order may have filled without a word: then the position that the broker reports is
        what is left. While the broker does not report it, nothing is closed for a moment.
        """
        instrument = part.instrument
        if all(map(self.awaited, instrument.orders.values())):
            return size
        if not self.gate.venue.is_trusted(instrument):
            return size
        now, held = self.gate.live.clock(), self.gate.venue.view.position(instrument)
        if held is None:
            since = self._unknown_since.setdefault(part, now)
            return size if now - since >= self.gate.live.retry_after else 0.0
        self._unknown_since.pop(part, None)
        gone = abs(booked(self.gate.venue.contract(instrument))) - max(0.0, part.side * held)
        return max(0.0, size - max(0.0, gone))
