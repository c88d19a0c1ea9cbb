"""Reconciler: compare the saved orders and positions with the broker's.

The broker decides what is held and working; the saved records say what each order is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bt_risk.orders import AT_MARKET, CLIENT_ID, KINDS, foreign_order, venue_id
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.state.file import Record, SavedState
from bt_risk.state.protocols import Gate
from bt_risk.state.recorder import StateRecorder
from bt_risk.state.unlisted_stops import UnlistedStops
from bt_risk.tolerances import PRICE_EPS, SIZE_EPS

__all__ = ["Reconciler"]

# Rounds of the loop in which a broker must show another position than the saved one; and where it
# shows neither that position nor its stop, so that it may not have loaded them.
_ROUNDS, _MANY_ROUNDS = 2, 4


@dataclass
class _Seen:
    """A difference from the saved position, and in how many rounds it was seen."""

    difference: float
    rounds: int = 0
    tick: int = -1


class Reconciler:
    """Match the orders and positions of the broker with the saved ones, and settle differences.

    Attributes
    ----------
    missing : dict
        Records of the orders that the broker does not list any more, by data feed and id.
    unlisted : UnlistedStops
    """

    def __init__(self, gate: Gate, saved: SavedState, recorder: StateRecorder) -> None:
        self.gate, self.saved, self.recorder = gate, saved, recorder
        self.missing: dict[str, dict[str, Record]] = {}
        for key, record in saved.of("order").items():
            self.missing.setdefault(record["data"], {})[key] = record
        self.unlisted = UnlistedStops(gate, self, recorder.file.path)
        self._settled: set[str] = set()
        self._seen: dict[int, _Seen] = {}
        self._unmatched: dict[int, list[Any]] = {}
        self._waiting: dict[int, int] = {}

    def owner(self, place: int) -> Any:
        """Return the strategy at this place of the run, the first where there are fewer."""
        strategies = self.gate.cerebro.runningstrats
        return strategies[place if place < len(strategies) else 0]

    def note(self, name: str, action: str, reason: str) -> None:
        """Write a line of the journal about one data feed."""
        self.gate.journal.record(self.gate.book.latest, name, "state", action, reason=reason)

    # -- orders ----------------------------------------------------------------------------------

    def match_orders(self) -> list[Any] | None:
        """Match the open orders of the broker with the saved ones that are still missing.

        Return the list of the broker, None where it does not answer.
        """
        listed, found = self.gate.venue.view.open_orders(), []
        for order in listed or ():
            instrument = self.gate.book.find(order.data)
            if instrument is None or order.ref in self.gate.book.working:
                continue
            missing = self.missing.get(instrument.name, {})
            key = _match(order, missing, instrument)
            if key is not None:
                found.append((order, instrument, key, missing.pop(key)))
            elif instrument.name not in self._settled:
                unmatched = self._unmatched.setdefault(instrument.index, [])
                if all(one.ref != order.ref for one in unmatched):
                    unmatched.append(order)
        refs = {key: order.ref for order, _, key, _ in found}
        for order, instrument, key, record in found:
            if not self.unlisted.confirm(key, order):
                self._restore(order, instrument, key, record, refs)
        return listed

    def _restore(
        self,
        order: Any,
        instrument: Instrument,
        client_id: str,
        record: Record,
        refs: dict[str, int],
    ) -> None:
        """Put a saved order that the broker still lists back into the book."""
        working = self.working(order, instrument, record)
        if record.get("group"):
            working.group = "saved", record["group"]
        if record.get("parent"):
            working.parent = refs.get(record["parent"], -1)
        self.gate.book.add_back(working)
        self.gate.venue.skip_executions(order, len(order.executed.exbits))
        self.recorder.name(order, client_id)
        if record["own"]:
            self.gate.own[order.ref] = order
            order.addinfo(bt_risk=record.get("reason", "state: sent before the restart"))

    def working(self, order: Any, instrument: Instrument, record: Record) -> WorkingOrder:
        """Return an order of the broker as its record describes it."""
        remaining = float(abs(order.executed.remsize))
        opening = min(record["opening"], remaining)
        return WorkingOrder(
            order.ref,
            instrument,
            self.owner(record["owner"]),
            record["side"],
            remaining,
            opening,
            record["kind"],
            # A stop of ours rests where the broker has it, not where it was about to move to.
            (record["own"] and order.created.price) or record["price"],
            record["distance"],
            own=record["own"],
            handle=order,
            closing=min(record.get("closing", math.inf), remaining - opening),
            shared=record.get("shared", False),
            had_position=record.get("had_position", False),
            cut=record.get("cut", 0.0),
            void=record.get("void", 0.0),
            stops=record["stops"],
            rule=record.get("rule", ""),
            tradeid=record.get("tradeid", order.tradeid),
            foreign=record.get("foreign", False),
            seen_at=record.get("seen_at"),
        )

    # -- what the broker reports of the time between the runs ------------------------------------

    def remembered(self, order: Any) -> WorkingOrder | None:
        """Return a saved order that had ended when the run began, None for any other."""
        record, instrument = self._record(order), self.gate.book.by_data[id(order.data)]
        return None if record is None else self.working(order, instrument, record)

    def claim(self, order: Any) -> None:
        """Recognise the order of a notification as a stop that the broker has not listed."""
        if self.unlisted.rows:
            self.unlisted.claim(order)

    def skips(self, order: Any) -> int:
        """Return how many executions of an order are in the book already.

        Those are the executions that an earlier run has booked; and once positions are compared,
        all of an order that had ended by then, because the position includes them.
        """
        if order.ref not in self.gate.book.working:
            instrument = self.gate.book.by_data[id(order.data)]
            settled, known = instrument.name in self._settled, self.key_of(order) is not None
            invented = order.p.simulated and not known
            if (invented and not settled) or (
                (invented or known) and settled and self._is_explained(order, instrument)
            ):
                return len(order.executed.exbits)
        return self.recorder.booked(venue_id(order))

    def _is_explained(self, order: Any, instrument: Instrument) -> bool:
        """Return whether the position has shown what an order reports.

        If not, a store reports a trade of somebody else by an order of its own, or an order fills
        that counted as gone: then the broker holds something else than the book.
        """
        held, side = self.gate.venue.view.position(instrument), 1 if order.isbuy() else -1
        return held is not None and side * (held - instrument.size) <= SIZE_EPS

    def key_of(self, order: Any) -> str | None:
        """Return the id of the saved order that an order is, if it was missing; else None."""
        known, sent_with = venue_id(order), (order.info or {}).get(CLIENT_ID)
        instrument = self.gate.book.find(order.data)
        missing = self.missing.get("" if instrument is None else instrument.name, {})
        if sent_with in missing:
            return str(sent_with)
        return next((k for k, r in missing.items() if known and r["venue_id"] == known), None)

    def _record(self, order: Any) -> Record | None:
        key = self.key_of(order)
        return (
            None if key is None else self.missing[self.gate.book.by_data[id(order.data)].name][key]
        )

    # -- positions -------------------------------------------------------------------------------

    def unsettled(self, fresh: list[Instrument]) -> list[Instrument]:
        """Return the instruments to `settle` now: those with a first bar, and those that wait."""
        waiting = [i for i in self.gate.book.instruments if i.index in self._waiting]
        return waiting + [one for one in fresh if one.index not in self._waiting]

    def settle(self, instrument: Instrument, position: Any) -> bool:
        """Adjust the book to the broker's position in an instrument; return whether that is done.

        A difference that a working order explains is left to its notification, until the next bar.
        """
        size = 0.0 if position is None else float(position.size)
        difference = size - instrument.size
        if abs(difference) > SIZE_EPS:
            notified = self._may_be_notified(instrument, difference)
            if notified or not self._stands(instrument, difference, size):
                return False
        instrument.multiplier = self.gate.multiplier(instrument.data)
        if abs(difference) > SIZE_EPS:
            self._book_exits(instrument, size)
        unknown = size - instrument.size
        if abs(unknown) > SIZE_EPS:
            closed = abs(difference - unknown)
            self._book_entry(instrument, unknown, position, closed)
        self._waiting.pop(instrument.index, None)
        self._settled.add(instrument.name)
        self._adopt_orders(instrument)
        if self.unlisted.rows:
            self.unlisted.end_exits(instrument)
        self._cancel_orphans(instrument)
        touched = self.gate.fill_tracker.touched
        touched += [part for part in instrument.parts if part not in touched]
        return True

    def wait(self, instrument: Instrument) -> None:
        """Let an instrument be compared again in the next round, with or without a bar."""
        self._waiting.setdefault(instrument.index, instrument.length)

    def _stands(self, instrument: Instrument, difference: float, size: float) -> bool:
        """Return whether enough rounds have shown a difference from what was saved.

        A store that has just connected may answer that nothing is held before it knows better.
        """
        self.wait(instrument)
        if self.gate.venue.direct or not instrument.size:
            return True
        seen = self._seen.get(instrument.index)
        if seen is None or abs(seen.difference - difference) > SIZE_EPS:
            seen = self._seen[instrument.index] = _Seen(difference)
        if self.gate.ticks != seen.tick:
            seen.tick, seen.rounds = self.gate.ticks, seen.rounds + 1
        unlisted = [w for w in instrument.orders.values() if w.assumed]
        return seen.rounds >= (_MANY_ROUNDS if unlisted and not size else _ROUNDS)

    def _may_be_notified(self, instrument: Instrument, difference: float) -> bool:
        """Return whether a working order explains the difference and may still be notified.

        A stop or target of ours is cancelled for that: its end reports what it has filled, and
        until then it must not sell more than is held.
        """
        since = self._waiting.setdefault(instrument.index, instrument.length)
        side = 1 if difference > 0 else -1
        orders = instrument.orders.values()
        may_explain = [w for w in orders if w.side == side and not w.assumed]
        for working in may_explain:
            if working.own and working.kind not in AT_MARKET:
                self.gate.venue.withdraw(working.handle)
        return bool(may_explain) and instrument.length <= since

    def _book_exits(self, instrument: Instrument, size: float) -> None:
        """Book what was closed while no run was active."""
        for part in instrument.parts:
            excess = instrument.size - (size if size * part.size > 0 else 0.0)
            closed = min(abs(part.size), excess * part.side)
            if closed > SIZE_EPS:
                price, key, order = self._exit_of(instrument, part)
                since = len(self.gate.book.trades)
                stopped = order is not None and bool(order["stops"])
                self.gate.book.fill(
                    part, -part.side * closed, price, 0.0, instrument.time, stopped=stopped
                )
                if order is not None:
                    self.recorder.name_trades(order["venue_id"] or key, since)
                reason = f"state: {closed:g} were closed at {price:g} while no run was active"
                self.note(instrument.name, "note", reason)

    def _exit_of(
        self, instrument: Instrument, part: OwnerPosition
    ) -> tuple[float, str, Record | None]:
        """Return price, id and record of the missing order that closed a part; else the price."""
        missing = self.missing.get(instrument.name, {}).items()
        exits = [(key, r) for key, r in missing if r["side"] == -part.side and r["price"]]
        key, order = next(
            ((k, r) for k, r in exits if r["kind"] == "stop" and r["own"]),
            exits[0] if exits else ("", None),
        )
        if order is None or order["kind"] == "market":
            return instrument.price, "", None
        return order["price"], key, order

    def _book_entry(
        self, instrument: Instrument, unknown: float, position: Any, closed: float
    ) -> None:
        """Book what is held and was not saved; a stop protects it from now on.

        What several exits have opened that filled together, beyond what they have `closed`, is
        closed at once.
        """
        side = 1 if unknown > 0 else -1
        missing = self.missing.get(instrument.name, {}).values()
        entry = next((r for r in missing if r["side"] == side and r["opening"] > SIZE_EPS), None)
        part = self.gate.book.part(instrument, self.owner(entry["owner"] if entry else 0))
        distance = entry["distance"] if entry else math.nan
        price = _price_of(unknown, part, position)
        self.gate.book.fill(part, unknown, price, 0.0, instrument.time, distance)
        why = "were filled while no run was active"
        exits = -closed
        if entry is None:
            exits += sum(r["remaining"] for r in missing if r["side"] == side)
        if closed > SIZE_EPS and exits > SIZE_EPS:
            part.excess = side * min(abs(unknown), exits)
            why = "were opened while no run was active, by exits that filled together"
        elif entry is None:
            why = "are held that no run has saved: they are protected from now on"
        self.note(instrument.name, "note", f"state: {unknown:+g} {instrument.name} {why}")

    def _adopt_orders(self, instrument: Instrument) -> None:
        """Add the open orders of the broker that no run has saved to the book."""
        owner = self.owner(0)
        for order in self._unmatched.pop(instrument.index, ()):
            working = foreign_order(self.gate.book, instrument, owner, order)
            self.gate.book.add_back(working)
            self.gate.venue.skip_executions(order, len(order.executed.exbits))
            size = working.side * working.remaining
            reason = f"state: an order for {size:+g} is working that no run has saved"
            self.note(instrument.name, "note", reason)

    def _cancel_orphans(self, instrument: Instrument) -> None:
        """Cancel the stops and targets of ours that have no position to close, nor an entry."""
        for w in list(instrument.orders.values()):
            part = self.gate.book.part(instrument, w.owner)
            waits = w.parent is not None and w.parent in instrument.orders
            if w.own and part.size * w.side >= 0 and not w.assumed and not waits:
                self.gate.venue.withdraw(w.handle)
                reason = f"state: cancelled, the {w.kind} at {w.price:g} has no position"
                self.note(instrument.name, "note", reason)


def _match(order: Any, saved: dict[str, Record], instrument: Instrument) -> str | None:
    """Return the id of the record that an open order belongs to, or None.

    By the id that it was sent with, by the venue's id, and by its side, kind, size and price where
    a run died before it could save an id of the venue.
    """
    info = order.info or {}
    if info.get(CLIENT_ID) in saved:
        return str(info[CLIENT_ID])
    here = {key: r for key, r in saved.items() if r["data"] == instrument.name}
    known = venue_id(order)
    for key, record in here.items():
        if known and record["venue_id"] == known:
            return key
    return next((k for k, r in here.items() if not r["venue_id"] and _alike(order, r)), None)


def _alike(order: Any, record: Record) -> bool:
    if record["side"] != (1 if order.isbuy() else -1):
        return False
    if record["kind"] != KINDS.get(order.exectype, "stop"):
        return False
    if abs(abs(order.executed.remsize) - record["remaining"]) > SIZE_EPS:
        return False
    if record["kind"] == "market" or not order.created.price:
        return bool(record["kind"] == "market")
    return math.isclose(order.created.price, record["price"], rel_tol=PRICE_EPS)


def _price_of(unknown: float, part: OwnerPosition, position: Any) -> float:
    """Return the price paid for an addition to a part, from the averages before and after."""
    if part.size * unknown <= 0:
        return float(position.price)
    paid = position.price * position.size - part.price * part.size
    price = paid / unknown
    return price if math.isfinite(price) and price > 0 else float(position.price)
