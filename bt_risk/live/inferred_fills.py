"""InferredFills: fills that a broker has not notified, found by what it holds.

A store may lose a notification, or bring it late. A fill that was booked because the position shows
it reaches the strategy as a notification of its own, and what the store reports of it later is left
out of the book.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backtrader.order import OrderExecutionBit

from bt_risk.orders import AT_MARKET
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["InferredFills"]


@dataclass
class _Delivered:
    """What the gate has made known of an order with an inferred fill.

    `bits` are the executions that were delivered, `inferred` those of them that nothing has
    reported, `read` how many of the broker's own were read, and `credit` the inferred units that
    the broker has not reported yet.
    """

    bits: list[Any]
    read: int
    inferred: list[Any] = field(default_factory=list)
    credit: float = 0.0


@dataclass
class _Unexplained:
    """A difference that no order explained: units on a side, booked up to the order `newest`."""

    side: int
    units: float
    newest: int


class InferredFills:
    """Make the notifications that one live broker has not sent, and leave out what comes late.

    Attributes
    ----------
    news : deque of orders
        Notifications of the gate's own, which are processed before those of the broker.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.news: deque[Any] = deque()
        self._delivered: dict[int, _Delivered] = {}
        self._unexplained: dict[int, list[_Unexplained]] = {}

    # -- what the broker has not notified --------------------------------------------------------

    def unread(self, order: Any) -> float:
        """Return the units that an order itself shows as filled, and that were not notified."""
        record = self._delivered.get(order.ref)
        if record is None:
            bits = list(order.executed.exbits)[self.gate.venue.seen(order) :]
        else:
            bits = self._new_bits(order, record)
        return float(sum([abs(bit.size) for bit in bits]))

    def notify(self, order: Any) -> None:
        """Process the executions that an order itself shows, as if it had been notified."""
        record = self._record(order)
        bits = self._new_bits(order, record)
        record.read += len(bits)
        twin = self._twin(order, record, bits)
        if twin.alive():
            left = abs(twin.executed.remsize) > SIZE_EPS
            twin.status = twin.Partial if left else twin.Completed
        self._process(twin)

    def fill(self, working: WorkingOrder, size: float, ended: bool, reason: str) -> float:
        """Book `size` units of an order as filled, and end it if `ended`; return the price."""
        order: Any = working.handle
        record = self._record(order)
        price = _price_of(working)
        bit = self._bit(working, size, price)
        record.inferred.append(bit)
        record.credit += size
        twin = self._twin(order, record, [bit])
        whole = working.remaining - working.withheld - size <= SIZE_EPS
        twin.status = twin.Completed if whole else twin.Canceled if ended else twin.Partial
        if not working.own:
            twin.addinfo(bt_risk=reason)
        self._process(twin)
        return price

    def cancel(self, working: WorkingOrder, reason: str) -> None:
        """End an order as cancelled, which the broker does not have any more."""
        order: Any = working.handle
        twin = copy(order)
        twin.executed = copy(order.executed)
        twin.executed.p1 = twin.executed.p2 = len(order.executed.exbits)
        twin.status = twin.Canceled
        if not working.own:
            twin.addinfo(bt_risk=reason)
        self._process(twin)

    def _process(self, twin: Any) -> None:
        self.news.append(twin)
        self.gate.process_notifications()

    def _record(self, order: Any) -> _Delivered:
        record = self._delivered.get(order.ref)
        if record is None:
            read = self.gate.venue.seen(order)
            record = _Delivered(list(order.executed.exbits)[:read], read)
            self._delivered[order.ref] = record
        return record

    @staticmethod
    def _new_bits(order: Any, record: _Delivered) -> list[Any]:
        """Return the broker's executions of an order that were not read before."""
        own = [bit for bit in order.executed.exbits if not any(bit is i for i in record.inferred)]
        return own[record.read :]

    @staticmethod
    def _twin(order: Any, record: _Delivered, bits: list[Any]) -> Any:
        """Return a copy of an order with these executions behind those delivered before.

        The broker's own object is left alone: it goes on using that.
        """
        twin, before = copy(order), len(record.bits)
        record.bits = record.bits + bits
        done = twin.executed = copy(order.executed)
        done.exbits = deque(record.bits)
        done.p1, done.p2 = before, len(record.bits)
        done.size = sum([bit.size for bit in record.bits])
        done.remsize = order.created.size - done.size
        if done.size:
            done.price = sum([bit.size * bit.price for bit in record.bits]) / done.size
        if bits:
            done.dt = bits[-1].dt
        return twin

    def _bit(self, working: WorkingOrder, size: float, price: float) -> Any:
        """Return the execution of an order for `size` units, as Backtrader would record it."""
        part, side = working.part, working.side
        closed = min(size, part.held_against(side))
        opened = size - closed
        profit = closed * -side * (price - part.price) * working.instrument.multiplier
        signed = side * size
        values = side * closed, closed * part.price, 0.0, side * opened, opened * price, 0.0
        time = working.instrument.time
        return OrderExecutionBit(time, signed, price, *values, profit, part.size + signed, price)

    # -- what is notified late -------------------------------------------------------------------

    def unexplained(self, instrument: Instrument, side: int, units: float) -> None:
        """Note units that were booked by the position alone: an order may report them later."""
        newest = max([*self.gate.fill_tracker.ended, *self.gate.book.working], default=0)
        rows = self._unexplained.setdefault(instrument.index, [])
        rows.append(_Unexplained(side, units, newest))

    def as_new(self, order: Any) -> Any:
        """Return a notification without the fills that were inferred; None: nothing is new."""
        if order.ref not in self._delivered:
            if order.executed.size and self._unexplained:
                self._count(order)
            return order
        record, working = self._delivered[order.ref], order.ref in self.gate.book.working
        bits = []
        for bit in self._new_bits(order, record):
            record.read += 1
            known = min(abs(bit.size), record.credit)
            record.credit -= known
            if abs(bit.size) - known > SIZE_EPS:
                bits.append(_share(bit, 1.0 - known / abs(bit.size)) if known else bit)
        bits += self._without_bits(order, record)
        if not bits and not (working and not order.alive()):
            return None
        return self._twin(order, record, bits)

    def _without_bits(self, order: Any, record: _Delivered) -> list[Any]:
        """Return what a store reports that has no executions, only their sum."""
        if order.executed.exbits:
            return []
        done = abs(order.executed.size)
        if order.status == order.Completed and not done:
            done = abs(order.created.size)
        known = sum([abs(bit.size) for bit in record.bits])
        record.credit = max(0.0, record.credit - done)
        left = done - known
        if left <= SIZE_EPS:
            return []
        signed = left if order.isbuy() else -left
        return [OrderExecutionBit(order.executed.dt, signed, order.executed.price, opened=signed)]

    def _count(self, order: Any) -> None:
        """Leave out the executions of an order that the position has shown before.

        The position decides: where it is still that of the book, the fill is in the book already.
        """
        instrument = self.gate.book.find(order.data)
        if instrument is None:
            return
        side = 1 if order.isbuy() else -1
        for row in self._unexplained.get(instrument.index, ()):
            if row.side != side or order.ref > row.newest or row.units <= SIZE_EPS:
                continue
            read = self.gate.venue.seen(order)
            new = sum([abs(bit.size) for bit in list(order.executed.exbits)[read:]])
            new = float(new or abs(order.executed.size))
            held = self.gate.venue.view.position(instrument)
            really = 0.0 if held is None else side * (held - instrument.size)
            known = min(row.units, new - min(new, max(0.0, really)))
            if known > SIZE_EPS:
                row.units -= known
                self.gate.venue.count_executed(order, known)
                reason = f"reconciliation: {known:g} of this fill are in the book already"
                self.gate.journal.order(order, "reconciliation", "note", reason)


def _price_of(working: WorkingOrder) -> float:
    """Return the price that a fill is booked at: the order's own, else the last known one."""
    own = working.price
    if working.kind in AT_MARKET or working.trails or own != own or not own:
        return working.instrument.price
    return own


def _share(bit: Any, share: float) -> Any:
    """Return a part of an execution."""
    closed = bit.closed, bit.closedvalue, bit.closedcomm
    scaled = [amount * share for amount in (*closed, bit.opened, bit.openedvalue, bit.openedcomm)]
    return OrderExecutionBit(
        bit.dt, bit.size * share, bit.price, *scaled, bit.pnl * share, bit.psize, bit.price
    )
