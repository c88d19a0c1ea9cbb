"""FillTracker: book the fills that the wrapped broker reports, each once."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.reachable import book_claims, parts_closed
from bt_risk.portfolio.shortfalls import note_shortfall
from bt_risk.portfolio.worst_equity import note_exit
from bt_risk.tolerances import SIZE_EPS

__all__ = ["FillTracker"]


class FillTracker:
    """Book the order notifications of one `RiskBroker`, each fill once.

    Attributes
    ----------
    flow : float
        Cash that all fills have brought, less commission, in currency.
    touched : list of OwnerPosition
        Positions that have filled since the monitors were called last.
    ended : set of int
        Refs of the orders that the gate has sent and that have ended.
    unknown : set of int
        Indexes of instruments without a bar so far: their positions may be from before the run.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.book: Book = gate.book
        self.touched: list[OwnerPosition] = []
        self.flow = 0.0
        self.ended: set[int] = set()
        self.unknown = {instrument.index for instrument in self.book.instruments}

    def take(self, order: Any) -> bool:
        """Book the executions of a notification; return whether there were any."""
        status, direct = order.status, self.gate.venue.direct
        if direct and status in (order.Submitted, order.Accepted):
            return False  # it has no news for the book
        filled = status in (order.Partial, order.Completed)
        instrument = self.gate.venue.held_in(order.data)
        if instrument is not None:
            bits = self.gate.venue.new_executions(order, instrument)
            for bit in bits:
                self._fill(order, instrument, bit)
            filled = filled or bool(bits)
        if not order.alive():
            self.ended.add(order.ref)
            if direct or not self.gate.venue.goes_on(order):
                self._end(order.ref)
        return filled

    def _end(self, ref: int) -> None:
        """Drop an order that has ended; exits that relied on it may have nothing to close now."""
        working = self.book.working.get(ref)
        self.book.drop(ref)
        if working is not None and working.remaining > SIZE_EPS and working.instrument.orders:
            self.touch(working.part)

    def touch(self, part: OwnerPosition) -> None:
        """Let the exits of a position be settled before the next bar is acted upon."""
        if part not in self.touched:
            self.touched.append(part)

    def _owner(self, order: Any, working: WorkingOrder | None) -> Any:
        # Truth and equality of a strategy are line operations: only ever ask for identity.
        if order.owner is not None:
            return order.owner
        return self.gate.cerebro.runningstrats[0] if working is None else working.owner

    def _fill(self, order: Any, instrument: Instrument, bit: Any) -> None:
        self.gate.multiplier(instrument.data)  # as it is at this price
        working, recovery = self.book.working.get(order.ref), self.gate.recovery
        if working is None:
            working = recovery.reconciler.remembered(order)
        self.gate.bypass.checks[instrument.index] = 0
        if working is None and order.ref in self.gate.own:
            reason = "broker: it has filled after it was reported as ended"
            self.gate.journal.order(order, "broker", "doubt", reason)
        part = self.book.part(instrument, self._owner(order, working))
        closed = len(self.book.trades)
        # Fillers and exactbars bring numpy scalars; the sign is not the same with every store.
        size, side = float(abs(bit.size)), 1 if order.isbuy() else -1
        commission = float(bit.closedcomm + bit.openedcomm) * instrument.exchange
        price = float(bit.price)
        if working is None and order.ref not in self.gate.own and order.ref not in self.ended:
            self.gate.bypass.filled(order, instrument, side * size, price)
        if self.book.left_inside is not None and working is not None and working.kind == "limit":
            note_exit(self.book, part, side, size, price)
        distance, stopped, shared = math.nan, False, False
        if working is None:
            opens = size - part.held_against(side)
            excess = 0.0 if opens <= SIZE_EPS else self.gate.venue.beyond(order, opens)
            tradeid = order.tradeid
        else:
            excess = book_claims(part, working, size)
            distance, stopped, shared = working.distance, working.stops, working.shared
            tradeid = working.tradeid
        for one, units in parts_closed(part, side, size, shared):
            cost, under = commission * units / size, tradeid if one is part else None
            if one.size * side < 0.0 and side * (price - one.entry) > one.stop_distance:
                kind = "stop" if working is None else working.kind
                note_shortfall(one, min(units, abs(one.size)), price, kind)
            self.book.fill(one, side * units, price, cost, bit.dt, distance, stopped, under)
            self.touch(one)
        if excess > SIZE_EPS:
            self.gate.venue.note_excess(order, part, excess)
        self.flow -= side * size * price * instrument.multiplier + commission
        recovery.recorder.executed(order, self.gate.venue.seen(order), closed)

    def adopt(self, fresh: list[Instrument]) -> None:
        """Add positions from before the first bar of this run to the book."""
        strategies = self.gate.cerebro.runningstrats
        reconciler = self.gate.recovery.reconciler
        for instrument in reconciler.unsettled(fresh):
            if strategies and instrument.index in self.unknown:
                before = instrument.size
                answered, position = self.gate.venue.ask_position(instrument)
                if not answered:
                    reconciler.wait(instrument)
                    continue
                if not reconciler.settle(instrument, position):
                    continue  # a notification is on its way, or the next round must agree
                self.unknown.remove(instrument.index)
                self._adopt(instrument, position, strategies[0])
                if (
                    instrument.size != before
                ):  # a position from before the run is no gain and no loss
                    self.flow -= (instrument.size - before) * instrument.value

    def _adopt(self, instrument: Instrument, position: Any, owner: Any) -> None:
        if position is None:
            return
        unknown = float(position.size - instrument.size)
        if abs(unknown) > SIZE_EPS:
            self.gate.multiplier(instrument.data)
            part = self.book.part(instrument, owner)
            self.book.fill(part, unknown, position.price, 0.0, instrument.time)
            self.touched.append(part)  # it gets a stop
