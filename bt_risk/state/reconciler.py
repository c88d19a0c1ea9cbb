"""What was kept, laid beside what the broker says of orders and positions.

The broker is right about what is held and working; what was kept says what that means.
"""

import math

from bt_risk.orders import KINDS
from bt_risk.portfolio.position import EPS, WorkingOrder
from bt_risk.portfolio.preview import preview_order
from bt_risk.state.recorder import StateRecorder
from bt_risk.state.records import CLIENT_ID, venue_id

__all__ = ["Reconciler"]

# A price that went through a venue and back is the same if it differs by no more than this.
_SAME = 1e-9


class Reconciler(StateRecorder):
    """A recorder that knows again the orders and positions of one `RiskBroker`.

    `missing` holds the records of orders that the broker does not have any more, by data and id.
    """

    def __init__(self, gate, path):
        super().__init__(gate, path)
        self.missing, self._settled, self._adopted = {}, set(), {}
        self._waiting = {}

    def _owner(self, place):
        strategies = self.gate.cerebro.runningstrats
        return strategies[place if place < len(strategies) else 0]

    def _note(self, name, action, reason):
        self.gate.journal.record(self.gate.latest, name, "state", action, reason=reason)

    # -- orders ----------------------------------------------------------------------------------

    def _find_orders(self):
        """Lay the orders that the broker has beside those that were kept."""
        kept, found = dict(self.file.kept.of("order")), []
        for order in _open_orders(self.gate.inner):
            instrument = self.gate.find(order.data)
            if instrument is None:
                continue
            key = _match(order, kept, instrument)
            if key is None:
                self._adopted.setdefault(instrument.index, []).append(order)
            else:
                found.append((order, instrument, key, kept.pop(key)))
        refs = {key: order.ref for order, _, key, _ in found}
        for order, instrument, key, record in found:
            self._take_up(order, instrument, key, record, refs)
        for key, record in kept.items():
            self.missing.setdefault(record["data"], {})[key] = record

    def _take_up(self, order, instrument, client_id, record, refs):
        """Go on with an order that was kept and is there."""
        working = self._working(order, instrument, record)
        if record.get("group"):
            working.group = "kept", record["group"]
        if record.get("parent"):
            working.parent = refs.get(record["parent"], -1)
        self.gate.book.add_back(working)
        self.gate.venue.skip_executions(order, len(order.executed.exbits))
        self.name(order, client_id)
        if record["own"]:
            self.gate.own[order.ref] = order
            order.addinfo(bt_risk=record.get("reason", "state: sent before the restart"))

    def _working(self, order, instrument, record):
        remaining = float(abs(order.executed.remsize))
        return WorkingOrder(
            order.ref,
            instrument,
            self._owner(record["owner"]),
            record["side"],
            remaining,
            min(record["opening"], remaining),
            record["kind"],
            # A stop of ours rests where the broker has it, not where it was about to move to.
            (record["own"] and order.created.price) or record["price"],
            record["distance"],
            own=record["own"],
            handle=order,
            stops=record["stops"],
        )

    # -- what the broker reports of the time in between ------------------------------------------

    def remembered(self, order):
        """Return what was kept of an order that was gone when the run began, or None."""
        record = self._record(order)
        instrument = self.gate.find(order.data)
        return record and self._working(order, instrument, record)

    def skips(self, order):
        """Return how many executions of an order are in the book already.

        Those that an earlier run has booked, and, once its data is settled, all of an order that
        was gone by then: what it did is in the position. So is what a store invents to explain a
        position.
        """
        invented = order.p.simulated and order.ref not in self.gate.book.working
        record = self._record(order)
        if invented or (record is not None and record["data"] in self._settled):
            return len(order.executed.exbits)
        return self._done.get(venue_id(order), 0)

    def _record(self, order):
        known, asked = venue_id(order), (order.info or {}).get(CLIENT_ID)
        gone = self.missing.get(self.gate.find(order.data).name, {})
        if asked in gone:
            return gone[asked]
        return next((r for r in gone.values() if known and r["venue_id"] == known), None)

    # -- positions -------------------------------------------------------------------------------

    def unsettled(self, fresh):
        """Return the instruments to `settle` now: those of the first bar, and those that wait."""
        waiting = [i for i in self.gate.book.instruments if i.index in self._waiting]
        return waiting + [one for one in fresh if one.index not in self._waiting]

    def settle(self, instrument):
        """Bring the book to what the broker holds of a data; return whether that is done.

        A difference that a working order explains is left to its notification, until the next bar.
        """
        position = self.gate.venue.position(instrument.data)
        size = 0.0 if position is None else float(position.size)
        difference = size - instrument.size
        if abs(difference) > EPS and self._may_come(instrument, difference):
            return False
        instrument.multiplier = self.gate.multiplier(instrument.data)
        if abs(difference) > EPS:
            self._close_away(instrument, size)
        unknown = size - instrument.size
        if abs(unknown) > EPS:
            self._open_away(instrument, unknown, position)
        self._waiting.pop(instrument.index, None)
        self._settled.add(instrument.name)
        self._adopt_orders(instrument)
        self._cancel_orphans(instrument)
        self.gate.fill_tracker.touched += [
            p for p in instrument.parts if p not in self.gate.fill_tracker.touched
        ]
        return True

    def _may_come(self, instrument, difference):
        """Whether a working order would explain the difference, and may still say so.

        A stop of ours is cancelled for that: its end says what it has done, and in the meantime it
        must not sell more than is held.
        """
        since = self._waiting.setdefault(instrument.index, instrument.length)
        side = 1 if difference > 0 else -1
        may_explain = [w for w in instrument.orders.values() if w.side == side]
        for working in may_explain:
            if working.own and working.kind == "stop":
                self.gate.venue.withdraw(working.handle)
        return bool(may_explain) and instrument.length <= since

    def _close_away(self, instrument, size):
        """Book what was closed while no run was there to see it."""
        for part in instrument.parts:
            excess = instrument.size - (size if size * part.size > 0 else 0.0)
            closed = min(abs(part.size), excess * part.side)
            if closed > EPS:
                price, order = self._exit_price(instrument, part)
                since = len(self.gate.book.trades)
                self.gate.book.fill(
                    part,
                    -part.side * closed,
                    price,
                    0.0,
                    instrument.time,
                    stopped=bool(order and order["stops"]),
                )
                self._name_closers(instrument, order, since)
                reason = f"state: {closed:g} were closed while no run was there, at {price:g}"
                self._note(instrument.name, "note", reason)

    def _exit_price(self, instrument, part):
        """Return the price of an exit that nobody saw: that of the order that is gone."""
        gone = self.missing.get(instrument.name, {}).items()
        exits = [(key, r) for key, r in gone if r["side"] == -part.side and r["price"]]
        key, order = next(
            ((k, r) for k, r in exits if r["kind"] == "stop" and r["own"]),
            exits[0] if exits else (None, None),
        )
        if order is None or order["kind"] == "market":
            return instrument.price, None
        return order["price"], order | {"key": key}

    def _name_closers(self, instrument, order, since):
        known = order and (order["venue_id"] or order["key"])
        for number in range(since, len(self.gate.book.trades)):
            if known:
                self._closers[number] = f"{known}/{number - since}"

    def _open_away(self, instrument, unknown, position):
        """Take over what is held and was not kept; it is guarded from now on."""
        side = 1 if unknown > 0 else -1
        gone = self.missing.get(instrument.name, {}).values()
        entry = next((r for r in gone if r["side"] == side and r["opening"] > EPS), None)
        part = self.gate.book.part(instrument, self._owner(entry["owner"] if entry else 0))
        distance = entry["distance"] if entry else math.nan
        price = _price_of(unknown, part, position)
        self.gate.book.fill(part, unknown, price, 0.0, instrument.time, distance)
        why = "were filled while no run was there" if entry else "nobody knows: guarded from now on"
        self._note(instrument.name, "note", f"state: {unknown:+g} {instrument.name} {why}")

    def _adopt_orders(self, instrument):
        """Keep the orders in the book that the broker has and nobody kept."""
        owner = self._owner(0)
        for order in self._adopted.pop(instrument.index, ()):
            side = 1 if order.isbuy() else -1
            size = float(abs(order.executed.remsize))
            preview = preview_order(self.gate.book, instrument, owner, side, size)
            self.gate.book.add_back(
                WorkingOrder(
                    order.ref,
                    instrument,
                    owner,
                    side,
                    size,
                    preview.opening,
                    KINDS.get(order.exectype, "stop"),
                    order.created.price or instrument.price,
                    instrument.stop_distance(),
                    handle=order,
                )
            )
            self.gate.venue.skip_executions(order, len(order.executed.exbits))
            reason = f"state: an order for {side * size:+g} that nobody knows is working"
            self._note(instrument.name, "note", reason)

    def _cancel_orphans(self, instrument):
        """Cancel the stops of ours that have no position to protect."""
        for w in list(instrument.orders.values()):
            part = self.gate.book.part(instrument, w.owner)
            if w.own and part.size * w.side >= 0:
                self.gate.venue.withdraw(w.handle)
                reason = f"state: cancelled, the stop at {w.price:g} has no position"
                self._note(instrument.name, "note", reason)


def _open_orders(inner):
    """Return the orders that the broker inside has open, however it shows them."""
    listed = getattr(inner, "get_orders_open", None)
    orders = listed() if callable(listed) else None
    for name in ("orders", "open_orders", "_orders"):
        orders = getattr(inner, name, None) if orders is None else orders
    values = orders.values() if isinstance(orders, dict) else orders or ()
    return [order for order in values if hasattr(order, "alive") and order.alive()]


def _match(order, kept, instrument):
    """Return the id of the record that an open order belongs to, or None.

    By the id that it was sent with, by the venue's id, and by its shape where a run died before
    it could write that down.
    """
    info = order.info or {}
    if info.get(CLIENT_ID) in kept:
        return info[CLIENT_ID]
    here = {key: r for key, r in kept.items() if r["data"] == instrument.name}
    known = venue_id(order)
    for key, record in here.items():
        if known and record["venue_id"] == known:
            return key
    return next((k for k, r in here.items() if not r["venue_id"] and _alike(order, r)), None)


def _alike(order, record):
    if record["side"] != (1 if order.isbuy() else -1):
        return False
    if record["kind"] != KINDS.get(order.exectype, "stop"):
        return False
    if abs(abs(order.executed.remsize) - record["remaining"]) > EPS:
        return False
    if record["kind"] == "market" or not order.created.price:
        return record["kind"] == "market"
    return math.isclose(order.created.price, record["price"], rel_tol=_SAME)


def _price_of(unknown, part, position):
    """Return what was paid for what came to a part, from the averages before and after."""
    if part.size * unknown <= 0:
        return position.price
    paid = position.price * position.size - part.price * part.size
    price = paid / unknown
    return price if math.isfinite(price) and price > 0 else position.price
