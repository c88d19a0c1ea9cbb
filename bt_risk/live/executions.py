"""ReportedExecutions: what is new in the notifications of a live broker, each execution once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from bt_risk.portfolio.instrument import Instrument
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["Execution", "ReportedExecutions"]


@dataclass(frozen=True)
class Execution:
    """One execution, with the names that Backtrader's own have; `size` is unsigned."""

    size: float
    price: float
    closedcomm: float
    dt: float
    openedcomm: float = 0.0


class ReportedExecutions:
    """Read the executions of one `RiskBroker` from what a live broker notifies.

    A broker may send one object, or the same notification, twice, late, with a cancel, or without
    a list of executions; it may count one twice, or give no price. Nothing fills for more than was
    ordered.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._seen: dict[int, int] = {}
        self._booked: dict[int, float] = {}

    def seen(self, order: Any) -> int:
        """Return how many executions of an order have been read."""
        return self._seen.get(order.ref, 0)

    def skip(self, order: Any, count: int) -> None:
        """Leave out executions that are in the position already."""
        self._seen[order.ref] = count

    def count(self, order: Any, size: float) -> None:
        """Count units of an order as booked, which nobody has reported."""
        read = islice(order.executed.exbits, self.seen(order))
        before = self._booked.get(order.ref)
        if before is None:
            before = sum([float(abs(bit.size)) for bit in read])
        self._booked[order.ref] = before + size

    def unread(self, order: Any) -> float:
        """Return how many units of an order are reported and were not read before."""
        ordered, read = abs(order.created.size), self._booked.get(order.ref)
        done = min(float(abs(order.executed.size)), ordered)
        if order.status == order.Completed and not done:
            done = ordered
        if read is None:
            bits = islice(order.executed.exbits, self.seen(order))
            read = sum([float(abs(bit.size)) for bit in bits])
        return float(done - read)

    def new(self, order: Any, instrument: Instrument) -> list[Execution]:
        """Return the executions that were not read before, and let our order follow its clone."""
        self._follow(order)
        seen, booked = self._seen.get(order.ref), self._booked.get(order.ref)
        if seen is None:
            seen = self.gate.recovery.reconciler.skips(order)
        if booked is None:
            booked = sum([float(abs(bit.size)) for bit in islice(order.executed.exbits, seen)])
        bits = list(islice(order.executed.exbits, seen, None))
        self._seen[order.ref] = seen + len(bits)
        new, booked = self._within(order, instrument, bits, booked)
        self._booked[order.ref] = booked
        return new

    def _follow(self, order: Any) -> None:
        """Keep our order as its clones are: a broker need not change what it returned."""
        mine = self.gate.own.get(order.ref)
        if mine is not None and mine is not order and mine.alive():
            mine.status, mine.executed = order.status, order.executed

    def _within(
        self, order: Any, instrument: Instrument, bits: list[Any], booked: float
    ) -> tuple[list[Execution], float]:
        """Return the new executions within the size ordered, and what is booked with them."""
        ordered = abs(order.created.size)
        done = min(abs(order.executed.size), ordered)
        if order.status == order.Completed and not done:
            done = ordered
        new = []
        for bit in bits:
            size = min(float(abs(bit.size)), ordered - booked)
            if size > SIZE_EPS:
                booked += size
                commission = float(bit.closedcomm + bit.openedcomm)
                price = self._price(order, instrument, bit.price)
                new.append(Execution(size, price, commission, bit.dt))
        if done - booked > SIZE_EPS:
            price = self._price(order, instrument, order.executed.price)
            new.append(Execution(done - booked, price, 0.0, instrument.time))
            booked = done
        return new, booked

    def _price(self, order: Any, instrument: Instrument, reported: Any) -> float:
        """Return the price of an execution; one that cannot be a price is taken from the order.

        A stop behind an entry that was booked at 0 would not rest, and equity would be wrong by the
        whole position.
        """
        price = float(reported or 0.0)
        if price > 0.0 or (price < 0.0 and instrument.negative_prices):
            return price
        known = float(order.created.price or instrument.price)
        reason = f"broker: it reports a fill at {price:g}; {known:g} is booked"
        self.gate.journal.order(order, "broker", "doubt", reason)
        return known
