"""TrailingStopMonitor: one protective order behind every guarded position, that only tightens."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import backtrader as bt

from bt_risk.errors import ParameterError
from bt_risk.monitors.base import Monitor
from bt_risk.monitors.settings import StopSettings
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, place_of, position_key
from bt_risk.rules.trailing_stop import ratchet
from bt_risk.tolerances import SIZE_EPS

__all__ = ["TrailingStopMonitor"]


@dataclass
class _TradeStop:
    """The stop of one trade: where it should be, and the order that rests there.

    Attributes
    ----------
    part : OwnerPosition
        The position that it protects; `number` is that of its trade, `side` its side.
    price : float
        Where the stop should be; `resting` is where the order is, NaN without one.
    best : float
        Highest high since entry, lowest low for shorts.
    since : int
        Bars of the data feed when the trade began.
    refused : int
        How often the broker has refused the order.
    hit : bool
        Whether the price was reached while no order rested: the position is closed at the market.
    due : bool
        Whether a close beyond the stop must still be acted upon.
    late : bool
        Whether the trade began on bars that arrived late, so that it is unknown which it saw.
    """

    part: OwnerPosition
    rule: StopSettings
    number: int
    side: int
    price: float
    best: float
    since: int
    order: Any = None
    resting: float = math.nan
    refused: int = 0
    hit: bool = False
    due: bool = False
    late: bool = False


class TrailingStopMonitor(Monitor):
    """Keep one protective order behind every guarded position of one gate.

    There is one for each gate, whatever number of observers was added.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.rules: dict[tuple[int, Any], StopSettings] = {}
        self.stops: dict[tuple[int, Any], _TradeStop] = {}
        self.observers: list[Any] = []
        self._emulates = not gate.order_sender.capabilities.can("stop")
        self._reported: set[str] = set()

    def guard(self, owner: Any, instrument: Instrument, rule: StopSettings) -> None:
        """Guard what this owner holds of an instrument from now on."""
        key = (instrument.index, owner)
        if self.rules.setdefault(key, rule) != rule:
            raise ParameterError(
                "ATRTrailingStop",
                f"the parameters for {instrument.name}",
                "the same wherever it is added for one data feed",
                rule,
                "Add it once: two stops behind one position would sell it twice.",
            )

    def price(self, owner: Any, instrument: Instrument) -> float:
        """Return the price at which the stop rests, NaN where none does."""
        stop = self.stops.get((instrument.index, owner))
        return stop.resting if stop else math.nan

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
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

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on with the saved stops; an order that rests behind a position is not doubled."""
        strategies = self.gate.cerebro.runningstrats
        for part in self.gate.book.parts.values():
            record = saved.get(position_key(part.instrument, place_of(part.owner, strategies)))
            key = (part.instrument.index, part.owner)
            if part.size and record is not None and key in self.rules:
                levels = record["price"], record["best"], -record["bars"]
                stop = _TradeStop(part, self.rules[key], part.number, part.side, *levels)
                self.stops[key] = stop
                self._go_on(stop)

    def _go_on(self, stop: _TradeStop) -> None:
        part = stop.part
        # The earlier run may have ended after it saved a bar and before it acted on it.
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

    def on_fill(self, part: OwnerPosition) -> None:
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

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Tighten the stops of the instruments that have a new bar."""
        for stop in list(self.stops.values()):
            if not stop.part.instrument.length:
                continue  # after a restart, before the first bar: no order can be made
            if self._emulates and stop.rule.trigger != "close":
                self._emulate(stop, fresh)
            if stop.part.instrument in fresh or stop.due:
                self._trail(stop)
            if not math.isnan(stop.price):
                self._rest(stop)

    def on_missed(self, instruments: list[Instrument]) -> None:
        """Tighten stops by bars that closed while the process or the connection was down.

        A stop that has begun since then is left alone: its position did not see all of them.
        """
        for stop in self.stops.values():
            instrument = stop.part.instrument
            if instrument in instruments and not instrument.repeats and not stop.late:
                if self._emulates and stop.rule.trigger != "close":
                    self._emulate(stop, instruments)
                stop.due |= stop.rule.trigger == "close" and self._closed_beyond(stop)
                self._tighten(stop)

    def on_end(self) -> None:
        """Let Backtrader draw each line over its data feed, not over the observer's clock."""
        for observer in self.observers:
            observer._clock = data = observer.data
            if len(data) != len(observer._owner):
                times = observer._owner.datetime.array
                observer._line.plotrange = partial(_over_data, observer._line, times, data)

    # -- one stop --------------------------------------------------------------------------------

    def _begin(self, part: OwnerPosition, rule: StopSettings) -> _TradeStop:
        # The distance was frozen when the order was reviewed: the risk taken is the risk planned.
        price = _first_stop(part)
        length = part.instrument.length
        stop = _TradeStop(part, rule, part.number, part.side, price, part.entry, length)
        stop.late = self.gate.feed_monitor.behind(part.instrument)
        return stop

    def _end(self, stop: _TradeStop) -> None:
        order = stop.order
        if order is None:
            return
        if order.executed.size:
            stop.part.stopped = -float(order.executed.size)
            self._journal(stop, "stop", f"filled at {order.executed.price:g}")
            self.gate.silence.stopped(stop.part)
        if order.ref in self.gate.book.working:
            self.gate.venue.withdraw(order)

    def _trail(self, stop: _TradeStop) -> None:
        if stop.rule.trigger == "close" and (stop.due or self._closed_beyond(stop)):
            self._exit(stop)
        self._tighten(stop)
        stop.late = False

    def _tighten(self, stop: _TradeStop) -> None:
        instrument, rule, side = stop.part.instrument, stop.rule, stop.side
        atr = instrument.atr(rule.atr_period)
        if math.isnan(atr) or instrument.closed != instrument.closed:  # NaN: nothing is known
            return
        extreme = instrument.top if side > 0 else instrument.bottom
        stop.best = max(stop.best, extreme) if side > 0 else min(stop.best, extreme)
        anchor = instrument.closed if rule.anchor == "close" else stop.best
        multiple = instrument.facts.get("atr_multiple", rule.atr_multiple) + rule.buffer
        level = instrument.stop_price(anchor - side * multiple * atr, side)
        price = ratchet(stop.price, level, side)
        if math.isnan(stop.price) or side * (price - stop.price) > rule.min_step * atr:
            stop.price = price

    def _closed_beyond(self, stop: _TradeStop) -> bool:
        instrument = stop.part.instrument
        return (
            instrument.length > stop.since and stop.side * (instrument.closed - stop.price) <= 0.0
        )

    def _exit(self, stop: _TradeStop) -> None:
        if stop.order is None or stop.order.ref not in self.gate.book.working:
            size = abs(stop.part.size)
            reason = f"ATRTrailingStop: closed beyond {stop.price:g}"
            stop.order = self.gate.exit_orders.send(stop.part, size, self.name, reason, stops=True)
        stop.due = False

    def _emulate(self, stop: _TradeStop, fresh: list[Instrument]) -> None:
        """Act as the stop of a broker that has none: on bars, and on ticks of a forming bar."""
        instrument = stop.part.instrument
        if instrument.name not in self._reported:
            self._reported.add(instrument.name)
            reason = "the broker has no stop orders: this process is the stop, while it runs"
            self._journal(stop, "emulated", reason)
        reached = instrument.bottom if stop.side > 0 else instrument.top
        seen = instrument in fresh and stop.since < instrument.length
        stop.hit |= seen and stop.side * (reached - stop.price) <= 0.0
        if instrument.forming and instrument.complete > stop.since:
            stop.hit |= self._beyond(stop)

    def _rest(self, stop: _TradeStop) -> None:
        """Let the order rest where it should be, in place or by cancel and replace."""
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
            elif order.status == bt.Order.Canceled and not self.gate.venue.withdrew(order.ref):
                self.gate.bypass.stop_cancelled(stop.part)
            order = stop.order = None
        if stop.refused > self.gate.venue.stop_retries:
            self._leave(stop, "the broker refuses its stop")
            return
        size = self.gate.venue.uncovered(stop.part)
        if order is None:
            self._place(stop, size)
        elif order.status != bt.Order.Partial:
            self._move(stop, order, size)

    def _refuse(self, stop: _TradeStop, reason: str) -> None:
        """Count a refusal by the broker, and report the first and the last."""
        stop.refused += 1
        if stop.refused == 1:
            self._journal(stop, "unprotected", reason)
        elif stop.refused == self.gate.venue.stop_retries + 1:
            self._journal(stop, "unprotected", f"{reason}, {stop.refused} times")
            if self.gate.live.on_stop_rejected == "halt":
                self.gate.halt(f"ATRTrailingStop: {stop.part.instrument.name} has no stop")

    def _leave(self, stop: _TradeStop, reason: str) -> None:
        """Close at the market a position that no stop order can protect."""
        stop.resting = math.nan
        order = self.gate.exit_orders.close(
            stop.part, self.name, f"ATRTrailingStop: {reason}", stops=True
        )
        stop.order = order or stop.order

    def _place(self, stop: _TradeStop, size: float) -> None:
        if not (stop.price > 0.0 or self._rests_below_zero(stop)) or size <= SIZE_EPS:
            stop.resting = math.nan
            return
        # A price that arrived late says nothing about the market now.
        past = self.gate.feed_monitor.behind(stop.part.instrument)
        if self.gate.venue.judges_market and not past and self._beyond(stop):
            stop.hit = True  # the broker would refuse it: the position is closed at the market
            return
        reason = f"ATRTrailingStop: stop of {stop.part.instrument.name}"
        stop.order = self.gate.exit_orders.send(stop.part, size, self.name, reason, stop.price)
        self._set(stop)

    @staticmethod
    def _rests_below_zero(stop: _TradeStop) -> bool:
        """Return whether a stop below zero can rest: only where prices can be there."""
        return stop.part.instrument.negative_prices and stop.price < 0.0

    @staticmethod
    def _beyond(stop: _TradeStop) -> bool:
        """Return whether the market is beyond the stop already."""
        return stop.side * (stop.part.instrument.quote() - stop.price) <= 0.0

    def _move(self, stop: _TradeStop, order: Any, size: float) -> None:
        working = self.gate.book.working[order.ref]
        if stop.price == stop.resting and abs(size - working.remaining) <= SIZE_EPS:
            return
        if self.gate.feed_monitor.behind(stop.part.instrument):
            return  # it moves once, when the late bars have all arrived
        if not (stop.price > 0.0 or self._rests_below_zero(stop)) or size <= SIZE_EPS:
            self.gate.venue.withdraw(order)
        elif self.gate.exit_orders.amend(order, size, stop.price):
            self._set(stop)

    def _set(self, stop: _TradeStop) -> None:
        if stop.order is None:
            self._refuse(stop, f"the broker took no stop order ({self.gate.order_sender.why})")
            return
        stop.resting = stop.price
        working = self.gate.book.working.get(stop.order.ref)
        if working is not None:
            working.set_at = stop.part.instrument.moment()

    def _journal(self, stop: _TradeStop, action: str, reason: str) -> None:
        journal = self.gate.journal
        journal.instrument(stop.part.instrument, self.name, action, reason, limit=stop.resting)


def _first_stop(part: OwnerPosition) -> float:
    return part.instrument.stop_price(part.entry - part.side * part.stop_distance, part.side)


def _over_data(line: Any, times: Any, data: Any, start: int, end: int) -> list[float]:
    """Return the values of a line, which has one for each of `times`, at bars of a data feed."""
    bars = [bisect_left(times, time) for time in data.datetime.plotrange(start, end)]
    return [line.array[bar] if bar < len(line.array) else math.nan for bar in bars]
