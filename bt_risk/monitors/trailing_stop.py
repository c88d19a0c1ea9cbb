"""One protective order behind every guarded part of a position, that only ever tightens."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial

import backtrader as bt

from bt_risk.errors import ParameterError
from bt_risk.monitors.base import Monitor
from bt_risk.portfolio.position import EPS, place_of, position_key
from bt_risk.rules.trailing_stop import ratchet

__all__ = ["TrailingStopMonitor", "StopRule"]


@dataclass(frozen=True)
class StopRule:
    """How one strategy's positions on one data are guarded."""

    atr_period: int
    atr_multiple: float
    anchor: str
    buffer: float
    trigger: str
    min_step: float


@dataclass
class _TradeStop:
    """The stop of one trade: where it should be, and the order that rests there."""

    part: object
    rule: StopRule
    number: int
    side: int
    price: float
    best: float
    since: int
    order: object = None
    resting: float = math.nan
    refused: int = 0
    hit: bool = False
    due: bool = False
    late: bool = False


class TrailingStopMonitor(Monitor):
    """Keep one protective order behind every guarded part of a position.

    It is a hook of the gate and exists once for each, whatever number of observers asked for it.
    """

    def __init__(self, gate):
        self.gate = gate
        self.rules = {}
        self.stops = {}
        self.observers = []
        self._emulates = not gate.order_sender.can("stop")
        self._told = set()

    def guard(self, owner, instrument, rule):
        """Guard what this owner holds of an instrument from now on."""
        key = (instrument.index, owner)
        if self.rules.setdefault(key, rule) != rule:
            raise ParameterError(
                "ATRTrailingStop",
                f"the parameters for {instrument.name}",
                "the same wherever it is added for one data",
                rule,
                "Add it once: two stops behind one position would sell it twice.",
            )

    def price(self, owner, instrument):
        """Return where the stop rests, NaN where none does."""
        stop = self.stops.get((instrument.index, owner))
        return stop.resting if stop else math.nan

    # -- across a restart ------------------------------------------------------------------------

    def persist(self):
        """Yield ``(key, plain values)`` of every stop."""
        strategies = self.gate.cerebro.runningstrats
        for stop in self.stops.values():
            part = stop.part
            yield (
                position_key(part.instrument, place_of(part.owner, strategies)),
                {
                    "data": part.instrument.name,
                    "first": _first_stop(part),
                    "price": stop.price,
                    "best": stop.best,
                    "resting": stop.resting,
                    "bars": part.instrument.length - stop.since,
                },
            )

    def restore(self, kept):
        """Take the stops up again; orders that rest behind a position already are not doubled."""
        strategies = self.gate.cerebro.runningstrats
        for part in self.gate.book.parts.values():
            record = kept.get(position_key(part.instrument, place_of(part.owner, strategies)))
            key = (part.instrument.index, part.owner)
            if part.size and record is not None and key in self.rules:
                levels = record["price"], record["best"], -record["bars"]
                stop = _TradeStop(part, self.rules[key], part.number, part.side, *levels)
                self.stops[key] = stop
                self._take_up(stop)

    def _take_up(self, stop):
        part = stop.part
        # The earlier run may have ended between the bar that it kept and what this bar meant.
        stop.due = stop.rule.trigger == "close" and self._closed_beyond(stop)
        self._tighten(stop)
        orders = part.instrument.orders.values()
        kind = "market" if stop.rule.trigger == "close" else "stop"
        sent = [w for w in orders if w.own and w.kind == kind and w.owner is part.owner]
        if sent:
            stop.order, stop.resting = sent[0].handle, sent[0].price
        for double in sent[1:]:
            self.gate.venue.withdraw(double.handle)

    # -- hooks of the gate -----------------------------------------------------------------------

    name, state_kind = "ATRTrailingStop", "stop"

    def on_fill(self, part):
        """Follow the position: begin, resize or end its stop."""
        key = (part.instrument.index, part.owner)
        rule = self.rules.get(key)
        if rule is None:
            return
        stop = self.stops.get(key)
        if stop and (stop.number != part.number or not part.size):
            self._end(self.stops.pop(key))
            stop = None
        if not part.size:
            return
        if stop is None:
            stop = self.stops[key] = self._begin(part, rule)
        self._rest(stop)

    def on_bar(self, fresh):
        """Tighten the stops of the instruments that have a new bar."""
        for stop in list(self.stops.values()):
            if not stop.part.instrument.length:
                continue  # after a restart: no order can be made before the first bar
            if self._emulates and stop.rule.trigger != "close":
                self._watch(stop, fresh)
            if stop.part.instrument in fresh or stop.due:
                self._trail(stop)
            if not math.isnan(stop.price):
                self._rest(stop)

    def on_missed(self, instruments):
        """Tighten stops by bars that came while no run, or no line, was there to tell of them.

        A stop that has begun since then does not know which of them its position has seen.
        """
        for stop in self.stops.values():
            instrument = stop.part.instrument
            if instrument in instruments and not instrument.repeats and not stop.late:
                if self._emulates and stop.rule.trigger != "close":
                    self._watch(stop, instruments)
                stop.due |= stop.rule.trigger == "close" and self._closed_beyond(stop)
                self._tighten(stop)

    def on_end(self):
        """Let Backtrader draw each line over its data: an observer is drawn over its clock."""
        for observer in self.observers:
            observer._clock = data = observer.data
            if len(data) != len(observer._owner):
                times = observer._owner.datetime.array
                observer._line.plotrange = partial(_over_data, observer._line, times, data)

    # -- one stop --------------------------------------------------------------------------------

    def _begin(self, part, rule):
        # The distance was frozen when the order was reviewed: the risk taken is the risk planned.
        price = _first_stop(part)
        length = part.instrument.length
        stop = _TradeStop(part, rule, part.number, part.side, price, part.entry, length)
        stop.late = self.gate.feed_monitor.behind(part.instrument)
        return stop

    def _end(self, stop):
        order = stop.order
        if order is None:
            return
        if order.executed.size:
            stop.part.stopped = -float(order.executed.size)
            self._journal(stop, "stop", f"filled at {order.executed.price:g}")
            self.gate.venue.stop_filled(stop.part)
        if order.ref in self.gate.book.working:
            self.gate.venue.withdraw(order)

    def _trail(self, stop):
        if stop.rule.trigger == "close" and (stop.due or self._closed_beyond(stop)):
            self._exit(stop)
        self._tighten(stop)
        stop.late = False

    def _tighten(self, stop):
        instrument, rule, side = stop.part.instrument, stop.rule, stop.side
        atr = instrument.atr(rule.atr_period)
        if math.isnan(atr) or not instrument.closed > 0:
            return
        extreme = instrument.top if side > 0 else instrument.bottom
        stop.best = max(stop.best, extreme) if side > 0 else min(stop.best, extreme)
        anchor = instrument.closed if rule.anchor == "close" else stop.best
        multiple = instrument.facts.get("atr_multiple", rule.atr_multiple) + rule.buffer
        level = instrument.stop_price(anchor - side * multiple * atr, side)
        price = ratchet(stop.price, level, side)
        if math.isnan(stop.price) or side * (price - stop.price) > rule.min_step * atr:
            stop.price = price

    def _closed_beyond(self, stop):
        instrument = stop.part.instrument
        return (
            instrument.length > stop.since and stop.side * (instrument.closed - stop.price) <= 0.0
        )

    def _exit(self, stop):
        if stop.order is None or stop.order.ref not in self.gate.book.working:
            size = abs(stop.part.size)
            reason = f"ATRTrailingStop: closed beyond {stop.price:g}"
            stop.order = self.gate.exit_orders.send(stop.part, size, self.name, reason, stops=True)
        stop.due = False

    def _watch(self, stop, fresh):
        """Be the stop of a broker that has none: on bars, and on the ticks of a forming one."""
        instrument = stop.part.instrument
        if instrument.name not in self._told:
            self._told.add(instrument.name)
            reason = "the broker has no stop orders: this process is the stop, while it runs"
            self._journal(stop, "emulated", reason)
        reached = instrument.bottom if stop.side > 0 else instrument.top
        seen = instrument in fresh and stop.since < instrument.length
        stop.hit |= seen and stop.side * (reached - stop.price) <= 0.0
        if instrument.forming and instrument.complete > stop.since:
            stop.hit |= self._beyond(stop)

    def _rest(self, stop):
        """Bring the resting order to where it should be, in place or by cancel and replace."""
        if stop.hit:
            self._leave(stop, f"{stop.price:g} is reached")
            return
        if stop.rule.trigger == "close" or self._emulates:
            stop.resting = stop.price
            return
        order = stop.order
        if order is not None and order.ref not in self.gate.book.working:
            if order.status in (bt.Order.Margin, bt.Order.Rejected):
                self._refuse(stop, f"the stop ended {order.getstatusname()}")
            order = stop.order = None
        if stop.refused > self.gate.venue.stop_retries:
            self._leave(stop, "the broker refuses its stop")
            return
        size = self.gate.venue.uncovered(stop.part)
        if order is None:
            self._place(stop, size)
        elif order.status != bt.Order.Partial:
            self._move(stop, order, size)

    def _refuse(self, stop, reason):
        """Say once that the broker does not take the stop of a position, and count."""
        stop.refused += 1
        if stop.refused == 1:
            self._journal(stop, "unprotected", reason)
        elif stop.refused == self.gate.venue.stop_retries + 1:
            self._journal(stop, "unprotected", f"{reason}, {stop.refused} times")
            if self.gate.live.on_stop_rejected == "halt":
                self.gate.halt(f"ATRTrailingStop: {stop.part.instrument.name} has no stop")

    def _leave(self, stop, reason):
        """Close at the market a position that no stop order can protect."""
        stop.resting = math.nan
        order = self.gate.exit_orders.close(
            stop.part, self.name, f"ATRTrailingStop: {reason}", stops=True
        )
        stop.order = order or stop.order

    def _place(self, stop, size):
        if not stop.price > 0.0 or size <= EPS:
            stop.resting = math.nan
            return
        past = self.gate.feed_monitor.behind(stop.part.instrument)  # its price says nothing of now
        if self.gate.venue.judges_market and not past and self._beyond(stop):
            stop.hit = True  # a venue would refuse it: it leaves at the market
            return
        reason = f"ATRTrailingStop: stop of {stop.part.instrument.name}"
        stop.order = self.gate.exit_orders.send(stop.part, size, self.name, reason, stop.price)
        self._set(stop)

    @staticmethod
    def _beyond(stop):
        """Whether the market stands beyond the stop already."""
        return stop.side * (stop.part.instrument.quote() - stop.price) <= 0.0

    def _move(self, stop, order, size):
        working = self.gate.book.working[order.ref]
        if stop.price == stop.resting and abs(size - working.remaining) <= EPS:
            return
        if self.gate.feed_monitor.behind(stop.part.instrument):
            return  # once, when it is known where it belongs by now
        if not stop.price > 0.0 or size <= EPS:
            self.gate.venue.withdraw(order)
        elif self.gate.exit_orders.amend(order, size, stop.price):
            self._set(stop)

    def _set(self, stop):
        if stop.order is None:
            self._refuse(stop, f"the broker took no stop order ({self.gate.order_sender.why})")
            return
        stop.resting = stop.price
        working = self.gate.book.working.get(stop.order.ref)
        if working is not None:
            working.set_at = stop.part.instrument.moment()

    def _journal(self, stop, action, reason):
        journal = self.gate.journal
        journal.instrument(stop.part.instrument, self.name, action, reason, limit=stop.resting)


def _first_stop(part):
    return part.instrument.stop_price(part.entry - part.side * part.stop_distance, part.side)


def _over_data(line, times, data, start, end):
    """Return the part of a line that belongs to bars of a data: it has one for each of `times`."""
    bars = [bisect_left(times, time) for time in data.datetime.plotrange(start, end)]
    return [line.array[bar] if bar < len(line.array) else math.nan for bar in bars]
