"""The ledger of the gate: what the broker inside says of orders, written into the book."""

import math
from itertools import islice

from bt_risk.position import EPS

__all__ = ["Ledger"]


class Ledger:
    """Take the order notifications of one `RiskBroker`, each fill once.

    `touched` holds the parts of positions whose hooks have not been called yet, `unknown` the
    instruments without a bar so far, whose positions may be from before the run.
    """

    def __init__(self, gate):
        self.gate, self.book = gate, gate.book
        self.touched = []
        self._seen = {}
        self.unknown = {instrument.index for instrument in self.book.instruments}

    def take(self, order):
        """Book what a notification says; return whether it says that something filled."""
        filled = order.status in (order.Partial, order.Completed)
        instrument = self.gate.find(order.data)
        if filled and instrument is not None:
            for bit in self._new_bits(order):
                self._fill(order, instrument, bit)
        if not order.alive():
            self.book.drop(order.ref)
        return filled

    def _new_bits(self, order):
        """Return the executions that this notification brings, each once and in their order.

        BackBroker marks them on every clone; all clones share one list, which is ahead of them.
        Other brokers may send one object, or the same news, twice: there the place counts.
        """
        if self.gate.simulated:
            return order.executed.getpending()
        seen = self._seen.get(order.ref)
        if seen is None:
            seen = 0 if self.gate.recovery is None else self.gate.recovery.skips(order)
        bits = list(islice(order.executed.exbits, seen, None))
        self._seen[order.ref] = seen + len(bits)
        return bits

    def passed(self, order, count):
        """Leave out so many executions of an order: they are in the position already."""
        self._seen[order.ref] = count

    def _owner(self, order, working):
        # Truth and equality of a strategy are line operations: only ever ask for identity.
        if order.owner is not None:
            return order.owner
        return self.gate.cerebro.runningstrats[0] if working is None else working.owner

    def _fill(self, order, instrument, bit):
        instrument.multiplier = self.gate.multiplier(order.data)
        working, recovery = self.book.working.get(order.ref), self.gate.recovery
        if working is None and recovery is not None:
            working = recovery.remembered(order)
        part = self.book.part(instrument, self._owner(order, working))
        if not part.size:
            part.tradeid = order.tradeid
        closed = len(self.book.trades)
        distance, stopped = math.nan, False
        if working is not None:
            working.filled(float(abs(bit.size)))
            distance, stopped = working.distance, working.stops
        # Fillers and exactbars bring numpy scalars; the sign is not the same with every store.
        size = float(abs(bit.size)) if order.isbuy() else -float(abs(bit.size))
        commission = float(bit.closedcomm + bit.openedcomm)
        self.book.fill(part, size, float(bit.price), commission, bit.dt, distance, stopped)
        if recovery is not None:
            recovery.executed(order, self._seen.get(order.ref, 0), closed)
        # An owner whose part another one's order has closed is touched as well.
        self.touched += [p for p in instrument.parts if p not in self.touched]

    def adopt(self, fresh):
        """Take over positions that were there before the first bar of this run."""
        strategies = self.gate.cerebro.runningstrats
        recovery = self.gate.recovery
        for instrument in fresh if recovery is None else recovery.unsettled(fresh):
            if strategies and instrument.index in self.unknown:
                if recovery is not None and not recovery.settle(instrument):
                    continue  # a notification is on its way
                self.unknown.remove(instrument.index)
                self._adopt(instrument, strategies[0])

    def _adopt(self, instrument, owner):
        position = self.gate.known_position(instrument.data)
        if position is None:
            return
        unknown = float(position.size - instrument.size)
        if abs(unknown) > EPS:
            instrument.multiplier = self.gate.multiplier(instrument.data)
            part = self.book.part(instrument, owner)
            self.book.fill(part, unknown, position.price, 0.0, instrument.time)
            self.touched.append(part)
