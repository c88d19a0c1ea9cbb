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

# Seconds after which a fill that is notified is no longer one that was booked as a trade by hand.
_EXPIRES = 600.0


@dataclass
class _Booked:
    """Units on a side that the position has shown and nobody had reported, when they were booked.

    An order up to the number `newest` may report them later, or one that the store itself makes.
    """

    side: int
    units: float
    newest: int
    at: float


@dataclass
class _Delivered:
    """What the gate has made known of an order, where the broker did not notify all of it.

    `bits` are the executions that were delivered, `inferred` those of them that nothing has
    reported, and `read` how many of the broker's own were read.
    """

    bits: list[Any]
    read: int
    inferred: list[Any] = field(default_factory=list)


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
        self._booked: dict[int, list[_Booked]] = {}

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
        bits = _rest(bits, self._known(order, float(sum([abs(bit.size) for bit in bits]))))
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
        self.note(working.instrument, working.side, size)
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
        twin = self._twin(order, self._record(order), [])
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

    def note(self, instrument: Instrument, side: int, units: float) -> None:
        """Note units that were booked by the position alone: an order may report them later."""
        newest = max([*self.gate.fill_tracker.ended, *self.gate.book.working], default=0)
        rows = self._booked.setdefault(instrument.index, [])
        rows.append(_Booked(side, units, newest, self.gate.live.clock()))

    def as_new(self, order: Any) -> Any:
        """Return a notification without the fills that are in the book; None: nothing is new."""
        if not self._booked:
            return order
        record = self._delivered.get(order.ref)
        if record is None:
            bits = list(order.executed.exbits)[self.gate.venue.seen(order) :]
            units = sum([abs(bit.size) for bit in bits]) if bits else abs(order.executed.size)
            known = self._known(order, float(units))
            if known:
                self.gate.venue.count_executed(order, known)
            return order
        bits, working = self._new_bits(order, record), order.ref in self.gate.book.working
        record.read += len(bits)
        bits = bits or self._without_bits(order, record)
        known = self._known(order, float(sum([abs(bit.size) for bit in bits])))
        bits = _rest(bits, known)
        if not bits and not (working and not order.alive()):
            return None
        return self._twin(order, record, bits)

    @staticmethod
    def _without_bits(order: Any, record: _Delivered) -> list[Any]:
        """Return what a store reports that has no executions, only their sum."""
        if order.executed.exbits:
            return []
        done = abs(order.executed.size)
        if order.status == order.Completed and not done:
            done = abs(order.created.size)
        reported = [bit for bit in record.bits if not any(bit is one for one in record.inferred)]
        left = done - sum([abs(bit.size) for bit in reported])
        if left <= SIZE_EPS:
            return []
        signed = left if order.isbuy() else -left
        return [OrderExecutionBit(order.executed.dt, signed, order.executed.price, opened=signed)]

    def _known(self, order: Any, units: float) -> float:
        """Return how many of the units that an order reports are in the book already.

        The position decides, where the broker answers: what it holds beyond the book is new.
        """
        instrument = self.gate.book.find(order.data)
        rows = [] if instrument is None else self._booked.get(instrument.index, [])
        now, side = self.gate.live.clock(), 1 if order.isbuy() else -1
        # A store makes an order of its own when it reports what was traded by hand.
        late = order.p.simulated and order.ref not in self.gate.book.working
        open_ = [row for row in rows if row.side == side and (late or order.ref <= row.newest)]
        open_ = [row for row in open_ if row.units > SIZE_EPS and now - row.at <= _EXPIRES]
        if units <= SIZE_EPS or not open_ or instrument is None:
            return 0.0
        held = self.gate.venue.view.position(instrument)
        new = 0.0 if held is None else min(units, max(0.0, side * (held - instrument.size)))
        known = 0.0
        for row in open_:
            taken = min(row.units, units - new - known)
            row.units -= taken
            known += taken
        if known > SIZE_EPS:
            reason = f"reconciliation: {known:g} of this fill are in the book already"
            self.gate.journal.order(order, "reconciliation", "note", reason)
        return known


def _price_of(working: WorkingOrder) -> float:
    """Return the price that a fill is booked at: the order's own, else the last known one."""
    own = working.price
    if working.kind in AT_MARKET or working.trails or own != own or not own:
        return working.instrument.price
    return own


def _rest(bits: list[Any], known: float) -> list[Any]:
    """Return the executions without the first `known` units."""
    rest = []
    for bit in bits:
        taken = min(abs(bit.size), known)
        known -= taken
        if abs(bit.size) - taken > SIZE_EPS:
            rest.append(_share(bit, 1.0 - taken / abs(bit.size)) if taken else bit)
    return rest


def _share(bit: Any, share: float) -> Any:
    """Return a part of an execution."""
    closed = bit.closed, bit.closedvalue, bit.closedcomm
    scaled = [amount * share for amount in (*closed, bit.opened, bit.openedvalue, bit.openedcomm)]
    return OrderExecutionBit(
        bit.dt, bit.size * share, bit.price, *scaled, bit.pnl * share, bit.psize, bit.price
    )
