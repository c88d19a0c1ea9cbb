"""Reconciliation: compare the positions and orders of a live broker with those of the gate.

Every `reconcile_every` seconds the gate looks at the instruments that it trades. What is on its way
is no difference, and two looks that agree are one: then the book follows the broker, the stop
follows the book, and nothing new is opened until a look finds no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import backtrader as bt

from bt_risk.live.broker_view import Look
from bt_risk.live.differences import RECONCILIATION, Differences
from bt_risk.live.inferred_fills import InferredFills
from bt_risk.live.listed_orders import ListedOrders
from bt_risk.live.position_trust import Pool, PositionTrust, booked, is_compensated, tolerance
from bt_risk.orders import AT_MARKET
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["Reconciliation"]

# Seconds after a request, a fill or a notification in which a difference is none yet.
IN_FLIGHT = 3.0
# Looks that must agree, and how many where that is not enough: while something is always on its
# way, while the data feed is down, or where positions and orders have vanished at the same moment.
LOOKS, MANY_LOOKS = 2, 4
# Seconds at least between a look and one that follows an error.
_AFTER_ERROR = 1.0

_Data = bt.feed.AbstractDataBase
_DOWN = (_Data.DISCONNECTED, _Data.CONNBROKEN)


@dataclass
class _Sighting:
    """A difference that has been seen, and in how many looks."""

    held: float
    difference: float
    looks: int = 1


class Reconciliation:
    """Compare the book of one `RiskBroker` with its live broker's, and settle differences.

    Attributes
    ----------
    differences : Differences
    inferred : InferredFills
    trust : PositionTrust
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.differences = Differences(gate)
        self.inferred = InferredFills(gate)
        self.trust = PositionTrust(gate)
        self._listed = ListedOrders(gate, self)
        self._next: float | None = None
        self._active: dict[int, float] = {}
        self._sightings: dict[int, _Sighting] = {}
        self._error, self._looked_at = False, -math.inf

    # -- what happens between the looks ----------------------------------------------------------

    def note_activity(self, instrument: Instrument) -> None:
        """Note that something of an instrument is on its way, or has just arrived."""
        self._active[instrument.index] = self.gate.live.clock()

    def note_error(self, error: Exception, where: str) -> None:
        """Note an exception out of the broker's own code; the next look is made at once."""
        text = f"{type(error).__name__}: {error}"[:120]
        reason = f"the broker's {where}() has raised {text}; both books are compared at once"
        self._error = True
        if self.gate.live.clock() - self._looked_at >= _AFTER_ERROR:
            self._next = -math.inf
        if self.gate.journal.once(("broker error", where, text)):
            self.differences.forget("broker error")
        self.differences.note("broker error", "broker error", reason)

    # -- looks -----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Compare the books where that is due."""
        every, now = self.gate.live.reconcile_every, self.gate.live.clock()
        if not self.gate.cerebro.runningstrats:
            return
        self.trust.check()
        if not every:
            return
        if self._next is None:
            self._next = now + every
        if now >= self._next:
            self._next, self._looked_at = now + every, now
            self._look(now)

    def _look(self, now: float) -> None:
        traded = [one for one in self.gate.book.instruments if self._is_traded(one)]
        failed, self._error = self._error, False
        view = self.gate.venue.view
        answer = view.look(traded) if traded else Look()
        if traded and view.error:
            self.differences.keep_all()
        else:
            unclear = self._compare_positions(traded, answer, now)
            if answer.orders is not None:
                self._listed.compare(answer, unclear, now)
            if failed:
                self.differences.keep("broker error")
        self.differences.end_look()

    def _is_traded(self, instrument: Instrument) -> bool:
        """Return whether the gate has traded an instrument in this run, and knows its position."""
        if instrument.index in self.gate.fill_tracker.unknown or not instrument.length:
            return False
        held = any(part.size for part in instrument.parts)
        return held or bool(instrument.orders) or instrument.index in self._active

    def quiet(self, instrument: Instrument, now: float) -> bool:
        """Return whether nothing of an instrument is on its way."""
        doubts = self.gate.order_sender.doubts
        if any(ref in doubts for ref in instrument.orders):
            return False
        return now - self._active.get(instrument.index, -math.inf) >= IN_FLIGHT

    # -- positions -------------------------------------------------------------------------------

    def _compare_positions(self, traded: list[Instrument], answer: Look, now: float) -> set[int]:
        """Compare every position; return the instruments whose position is not clear."""
        unclear: set[int] = set()
        vanished = self._has_vanished(traded, answer)
        for pool in self.trust.pools(traded, answer):
            held = answer.sizes.get(pool[0].index)
            key = "position", pool[0].index
            if held is None or is_compensated(pool[0], self.gate.book.instruments):
                self.differences.keep(key)
                unclear.update(one.index for one in pool)
                continue
            difference = held - booked(pool)
            if abs(difference) <= tolerance(pool, held):
                self._sightings.pop(pool[0].index, None)
                self.trust.agree(pool, held)
            else:
                unclear.update(one.index for one in pool)
                self._differ(pool, held, difference, answer, now, vanished)
        return unclear

    def _has_vanished(self, traded: list[Instrument], answer: Look) -> bool:
        """Return whether the broker shows no position and no order where it had both.

        A store that has just connected again may answer so before it knows anything.
        """
        listed = answer.orders == [] and any(one.orders for one in traded)
        held = any(one.size for one in traded)
        return listed and held and not any(answer.sizes.values())

    def _differ(
        self,
        pool: Pool,
        held: float,
        difference: float,
        answer: Look,
        now: float,
        vanished: bool,
    ) -> None:
        """Note a difference; settle it once enough looks agree."""
        key = "position", pool[0].index
        self.differences.keep(key)
        seen = self._sightings.get(pool[0].index)
        same = seen is not None and abs(seen.difference - difference) <= tolerance(pool, held)
        if seen is None or not same:
            seen = self._sightings[pool[0].index] = _Sighting(held, difference, 0)
        seen.looks += 1
        down = any(getattr(one.root, "_laststatus", None) in _DOWN for one in pool)
        busy = not all(self.quiet(one, now) for one in pool)
        enough = MANY_LOOKS if busy or down else LOOKS + vanished
        if seen.looks < enough or self.trust.lags(pool, held) or self._in_doubt(pool):
            return
        name, what = self._named(pool, held)
        if not self.trust.believes(pool, held, answer):
            what += ": the gate keeps its own count, because the two have never agreed in this run"
            self.differences.note(key, name, what, pool[0], source="")
            return
        del self._sightings[pool[0].index]
        self._settle(pool, held, difference, answer, (key, name, what))

    def _in_doubt(self, pool: Pool) -> bool:
        doubts = self.gate.order_sender.doubts
        return any(ref in doubts for one in pool for ref in one.orders)

    def _named(self, pool: Pool, held: float) -> tuple[str, str]:
        size = booked(pool)
        what = f"the broker holds {held:g} {pool[0].name} where the orders of the gate make"
        if abs(size) <= SIZE_EPS:
            name = "position new"
        elif held * size <= 0.0:
            name = "position gone"
        else:
            name = "position larger" if abs(held) > abs(size) else "position smaller"
        return name, f"{what} {size:g}"

    def _settle(
        self,
        pool: Pool,
        held: float,
        difference: float,
        answer: Look,
        report: tuple[tuple[str, int], str, str],
    ) -> None:
        """Let the book follow the broker: by orders that explain the difference, else by hand."""
        key, name, what = report
        explained = self._explain(pool, held, answer)
        left = held - booked(pool)
        why = "; ".join(explained)
        if abs(left) <= tolerance(pool, held):
            self.differences.note(key, name, f"{what}: {why}", pool[0])
            return
        hand = f"no order explains {left:+g}, which are booked as traded by hand (inferred)"
        self.differences.note(key, name, f"{what}: {'; '.join([*explained, hand])}", pool[0])
        self._by_hand(pool, left, held)
        self.gate.bypass.count_one(f"{RECONCILIATION}: {what}")

    # -- orders that explain a difference --------------------------------------------------------

    def _explain(self, pool: Pool, held: float, answer: Look) -> list[str]:
        """Book the fills that the difference shows; return a text about each."""
        matches = self.gate.venue.view.matches() if answer.orders is not None else {}
        orders = [w for one in pool for w in one.orders.values() if self._may_explain(w)]
        texts = [text for w in orders for text in self._shown(w, matches.get(w.ref))]
        side, left = 1 if held > booked(pool) else -1, abs(held - booked(pool))
        orders = [w for w in orders if w.side == side and w.ref in self.gate.book.working]
        # Those that the broker does not list come first, and of these the one that fits exactly.
        orders.sort(
            key=lambda w: (w.ref in matches, abs(w.remaining - w.withheld - left) > SIZE_EPS)
        )
        for working in orders:
            left = side * (held - booked(pool))
            if left <= tolerance(pool, held):
                break
            if working.ref in self.gate.book.working:
                texts += self._explained_by(working, matches.get(working.ref), left, answer)
        return texts

    def _may_explain(self, working: WorkingOrder) -> bool:
        return working.ref not in self.gate.held_orders and not working.foreign

    def _shown(self, working: WorkingOrder, listed: Any) -> list[str]:
        """Book the fills that an order itself shows, and that were not notified."""
        name = _called(working)
        for order in (listed, working.handle):
            if order is not None and order.ref == working.ref and self.inferred.unread(order):
                self.inferred.notify(order)
                return [f"{name} has filled without a notification"]
        return []

    def _explained_by(
        self, working: WorkingOrder, listed: Any, left: float, answer: Look
    ) -> list[str]:
        """Book what an order explains of a difference; return a text, or none."""
        there = working.remaining - working.withheld
        proven = answer.orders is not None and self.gate.venue.view.proven(working)
        if listed is None and proven:
            return [self._infer(working, min(left, there), True)]
        if listed is not None:
            shrunk = there - abs(float(listed.executed.remsize))
            if SIZE_EPS < shrunk <= left + SIZE_EPS:
                return [self._infer(working, shrunk, False)]
        if working.kind in AT_MARKET:
            return [self._infer(working, min(left, there), False)]
        return []

    def _infer(self, working: WorkingOrder, size: float, ended: bool) -> str:
        name = _called(working)
        how = "is not listed any more" if ended else "has filled"
        text = f"{name} {how}: {size:g} of it are booked as filled"
        reason = f"{RECONCILIATION}: the fill of {size:g} is inferred from the position"
        price = self.inferred.fill(working, size, ended, reason)
        return f"{text} at {price:g} (inferred)"

    # -- what no order explains ------------------------------------------------------------------

    def _by_hand(self, pool: Pool, left: float, held: float) -> None:
        """Book a difference that no order explains: no gain and no loss.

        Where the broker holds nothing, no owner does, whichever side it was on: a stop of either
        would open a position.
        """
        side = 1 if left > 0 else -1
        self.inferred.note(pool[0], side, abs(left))
        parts = [part for one in pool for part in one.parts]
        for part in sorted(parts, key=lambda one: -one.held_against(side)):
            size = min(part.held_against(side), abs(left))
            if abs(held) <= SIZE_EPS and part.size:
                left += part.size
                self._book(part, -part.size, part.instrument.price)
            elif size > SIZE_EPS:
                self._book(part, side * size, part.instrument.price)
                left -= side * size
        if abs(left) > SIZE_EPS:
            part = self._taker(pool, side)
            self._book(part, left, self._paid(part, left))

    def _taker(self, pool: Pool, side: int) -> OwnerPosition:
        """Return the part that an addition belongs to: the largest on its side, else the first."""
        parts = [part for one in pool for part in one.parts]
        same = [part for part in parts if part.side == side]
        if same:
            return max(same, key=lambda part: abs(part.size))
        owners = self.gate.cerebro.runningstrats
        known = [part for owner in owners for part in parts if part.owner is owner]
        return known[0] if known else self.gate.book.part(pool[0], owners[0])

    def _paid(self, part: OwnerPosition, units: float) -> float:
        """Return the price of an addition by the broker's average, where that can be true."""
        instrument, total = part.instrument, part.size + units
        try:
            average = float(self.gate.venue.position(instrument.data).price)
        except Exception:  # the last price is as good: the position was answered before
            return instrument.price
        paid = (average * total - part.price * part.size) / units
        near = abs(paid - instrument.price) <= instrument.stop_distance()
        return paid if near else instrument.price

    def _book(self, part: OwnerPosition, units: float, price: float) -> None:
        gate, instrument = self.gate, part.instrument
        gate.multiplier(instrument.data)
        gate.book.fill(part, units, price, 0.0, instrument.time)
        gate.fill_tracker.flow -= units * instrument.value
        gate.fill_tracker.touch(part)


def _called(working: WorkingOrder) -> str:
    """Return what a reason calls an order."""
    whose = "the stop of bt_risk" if working.own and working.kind == "stop" else "an order"
    word = "buy" if working.side > 0 else "sell"
    return f"{whose} to {word} {working.remaining:g}"
