"""TrailingStopMonitor: one protective order behind every guarded position, that only tightens."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from functools import partial
from typing import Any

import backtrader as bt

from bt_risk.errors import ParameterError
from bt_risk.monitors.base import Monitor
from bt_risk.monitors.settings import ATTACHED, StopSettings
from bt_risk.monitors.trade_stop import RestingOrder, TradeStop
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, place_of, position_key
from bt_risk.portfolio.reachable import opposed
from bt_risk.rules.trailing_stop import ratchet
from bt_risk.tolerances import RATIO_EPS, SIZE_EPS

__all__ = ["TrailingStopMonitor"]

# What a broker reports of a stop that it has received.
_ARRIVED = bt.Order.Accepted, bt.Order.Partial


class TrailingStopMonitor(Monitor):
    """Keep one protective order behind every guarded position of one gate.

    There is one for each gate, whatever number of observers was added.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.rules: dict[tuple[int, Any], StopSettings] = {}
        self.stops: dict[tuple[int, Any], TradeStop] = {}
        self.observers: list[Any] = []
        self._emulates = not gate.order_sender.capabilities.can("stop")
        self._reported: set[str] = set()

    def guard(self, owner: Any, instrument: Instrument, rule: StopSettings) -> None:
        """Guard what this owner holds of an instrument from now on."""
        key = (instrument.index, owner)
        if rule.entry_stop == ATTACHED:
            self.gate.venue.attach_stops()
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
        return stop.orders[0].price if stop else math.nan

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
                    "resting": stop.orders[0].price,
                    "bars": part.instrument.length - stop.since,
                    "alone": stop.alone,
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
                orders = [RestingOrder(0)]
                stop = TradeStop(part, self.rules[key], part.number, part.side, *levels, orders)
                stop.alone = record.get("alone", False)  # a file of an older version lacks it
                self.stops[key] = stop
                self._go_on(stop)

    def _go_on(self, stop: TradeStop) -> None:
        part = stop.part
        # The earlier run may have ended after it saved a bar and before it acted on it.
        stop.due = stop.rule.trigger == "close" and self._closed_beyond(stop)
        self._tighten(stop)
        orders = part.instrument.orders.values()
        kind = "market" if stop.rule.trigger == "close" else "stop"
        resting: dict[Any, RestingOrder] = {}
        for w in [w for w in orders if w.own and w.kind == kind and w.owner is part.owner]:
            if w.assumed:
                continue  # the broker does not list it: see `LiveVenue.uncovered`
            if w.side == part.side:
                continue  # it waits with its entry, which would close this position first
            if w.tradeid in resting:
                self.gate.venue.withdraw(w.handle)  # one for each tradeid is enough
            else:
                resting[w.tradeid] = RestingOrder(w.tradeid, w.handle, w.price)
        stop.orders, stop.split = list(resting.values()) or stop.orders, True

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
        if len(part.tradeids) > 1 or stop.orders[0].tradeid not in part.tradeids:
            stop.split = True
        self._rest(stop)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Tighten the stops of the instruments that have a new bar."""
        if not self.stops:
            return
        new = {instrument.index for instrument in fresh}
        working, direct = self.gate.book.working, self.gate.venue.direct
        for stop in list(self.stops.values()):
            instrument = stop.part.instrument
            if not instrument.length:
                continue  # after a restart, before the first bar: no order can be made
            if self._emulates and stop.rule.trigger != "close":
                self._emulate(stop, fresh)
            if instrument.index in new or stop.due:
                self._trail(stop)
            if stop.price == stop.price and not (direct and stop.rests(working)):
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

    def _begin(self, part: OwnerPosition, rule: StopSettings) -> TradeStop:
        # The distance was frozen when the order was reviewed: the risk taken is the risk planned.
        price = _first_stop(part)
        length = part.instrument.close.lencount  # with the bar of the entry
        orders = [RestingOrder(next(iter(part.tradeids)))]
        stop = TradeStop(part, rule, part.number, part.side, price, part.entry, length, orders)
        stop.late = self.gate.feed_monitor.behind(part.instrument)
        return stop

    def _end(self, stop: TradeStop) -> None:
        for one in stop.orders:
            for order in (one.handle, one.previous):
                if order is not None:
                    self._count_fill(stop, RestingOrder(one.tradeid, order, one.price))
                    if order.ref in self.gate.book.working:
                        self.gate.venue.withdraw(order)
        if stop.closed:
            stop.part.stopped = -stop.closed
            self.gate.silence.stopped(stop.part)

    def _count_fill(self, stop: TradeStop, one: RestingOrder) -> None:
        """Count what an order has filled, once it has ended or its position is closed."""
        executed = one.handle.executed
        if executed.size:
            stop.closed += float(executed.size)
            self._journal(stop, "stop", f"filled at {executed.price:g}", one.price)

    def _trail(self, stop: TradeStop) -> None:
        if stop.rule.trigger == "close" and (stop.due or self._closed_beyond(stop)):
            self._exit(stop)
        self._tighten(stop)
        stop.late = False

    def _tighten(self, stop: TradeStop) -> None:
        instrument, rule, side = stop.part.instrument, stop.rule, stop.side
        atr, closed = instrument.atr(rule.atr_period), instrument.closed
        if atr != atr or closed != closed:  # NaN: nothing is known
            return
        extreme = instrument.top if side > 0 else instrument.bottom
        stop.best = max(stop.best, extreme) if side > 0 else min(stop.best, extreme)
        anchor = closed if rule.anchor == "close" else stop.best
        multiple = instrument.facts.get("atr_multiple", rule.atr_multiple) + rule.buffer
        level = instrument.stop_price(anchor - side * multiple * atr, side)
        price = self._break_even(stop, ratchet(stop.price, level, side))
        if stop.price != stop.price or side * (price - stop.price) > rule.min_step * atr:
            stop.price = price

    def _break_even(self, stop: TradeStop, price: float) -> float:
        """Return the price, or the average entry where `BreakEven` requests it and it is nearer."""
        part, side = stop.part, stop.side
        for rule in self.gate.registry.break_even:
            gained, needed = side * (stop.best - part.price), rule.at_r * part.stop_distance
            if gained >= needed * (1.0 - RATIO_EPS) > 0.0:
                entry = part.instrument.stop_price(part.price, side)
                if side * (entry - price) > 0.0:
                    price = entry
                    reason = f"{rule.name}: {gained / part.stop_distance:.4f} R reached >= at_r "
                    reason += f"{rule.at_r:.4f}: the stop moves to the entry"
                    self.gate.journal.instrument(
                        part.instrument, rule.name, "note", reason, limit=entry
                    )
        return price

    def _closed_beyond(self, stop: TradeStop) -> bool:
        instrument = stop.part.instrument
        return (
            instrument.length > stop.since and stop.side * (instrument.closed - stop.price) <= 0.0
        )

    def _exit(self, stop: TradeStop) -> None:
        working = self.gate.book.working
        if any(one.handle is not None and one.handle.ref in working for one in stop.orders):
            return  # after a restart it may turn out that the broker does not have that exit
        reason = f"ATRTrailingStop: closed beyond {stop.price:g}"
        exits, part, direct = self.gate.exit_orders, stop.part, self.gate.venue.direct
        if direct:
            orders = exits.send_all(part, abs(part.size), self.name, reason, stops=True)
        else:  # what is on its way may close a part already, and what rests goes first
            orders = exits.close(part, self.name, reason, stops=True)
        stop.replace(orders, stop.price)
        stop.due = not direct  # until the position is closed

    def _emulate(self, stop: TradeStop, fresh: list[Instrument]) -> None:
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

    def _rest(self, stop: TradeStop) -> None:
        """Let the order rest where it should be, in place or by cancel and replace."""
        if stop.hit:
            self._leave(stop, f"{stop.price:g} is reached")
            return
        if stop.rule.trigger == "close" or self._emulates:
            stop.orders[0].price = stop.price
            return
        for one in stop.orders:
            if one.previous is not None:
                self._retire(stop, one)
            order = one.handle
            if order is not None and order.ref not in self.gate.book.working:
                if order.status in (bt.Order.Margin, bt.Order.Rejected):
                    self._refuse(stop, f"the stop ended {order.getstatusname()}")
                elif order.status == bt.Order.Canceled and not self.gate.venue.withdrew(order.ref):
                    self.gate.bypass.stop_cancelled(stop.part)
                self._count_fill(stop, one)
                one.handle, one.previous = one.previous, None  # the one before may still rest
                if one.handle is not None:
                    one.price = self.gate.book.working[one.handle.ref].price
        if stop.refused > self.gate.venue.stop_retries:
            self._leave(stop, "the broker refuses its stop")
            return
        size = self.gate.venue.uncovered(stop.part)
        shares = stop.split_up(size) if stop.split else None
        attached = self.gate.venue.attached
        for one in stop.orders:
            share = size if shares is None else shares.get(one.tradeid, 0.0)
            if attached is not None and attached.keeps(stop, one):
                continue
            if one.handle is None:
                self._place(stop, one, share)
            elif one.handle.status != bt.Order.Partial or self._misfits(one, share):
                self._move(stop, one, share)

    def _misfits(self, one: RestingOrder, size: float) -> bool:
        """Return whether a stop that has begun to fill has another size than it should have.

        Its price is reached, so that it goes on as it is otherwise. In a simulation it is clamped.
        """
        working = self.gate.book.working[one.handle.ref]
        return not self.gate.venue.direct and abs(size - working.remaining) > SIZE_EPS

    def _refuse(self, stop: TradeStop, reason: str) -> None:
        """Count a refusal by the broker, and report the first and the last."""
        stop.refused += 1
        if stop.refused == 1:
            self._journal(stop, "unprotected", reason)
        elif stop.refused == self.gate.venue.stop_retries + 1:
            self._journal(stop, "unprotected", f"{reason}, {stop.refused} times")
            if self.gate.live.on_stop_rejected == "halt":
                reason = f"ATRTrailingStop: {stop.part.instrument.name} has no stop"
                self.gate.trading_state.halt(reason, False)

    def _leave(self, stop: TradeStop, reason: str) -> None:
        """Close at the market a position that no stop order can protect."""
        for one in stop.orders:
            one.price = math.nan
        reason = f"ATRTrailingStop: {reason}"
        stop.replace(self.gate.exit_orders.close(stop.part, self.name, reason, stops=True))

    def _place(self, stop: TradeStop, one: RestingOrder, size: float) -> None:
        if not (stop.price > 0.0 or self._rests_below_zero(stop)) or size <= SIZE_EPS:
            one.price = math.nan
            return
        found = None if one.handle is not None else self._found_again(stop, one)
        if found is not None:
            one.handle, one.price = found, self.gate.book.working[found.ref].price
            return
        # A price that arrived late says nothing about the market now.
        past = self.gate.feed_monitor.behind(stop.part.instrument)
        if self.gate.venue.judges_market and not past and self._beyond(stop):
            stop.hit = True  # the broker would refuse it: the position is closed at the market
            return
        reason = f"ATRTrailingStop: stop of {stop.part.instrument.name}"
        one.handle = self.gate.exit_orders.send(
            stop.part, size, self.name, reason, stop.price, tradeid=one.tradeid
        )
        if not self.gate.venue.direct:
            stop.alone |= opposed(stop.part.instrument)  # it may open something: it rests alone
        self._set(stop, one)

    def _found_again(self, stop: TradeStop, one: RestingOrder) -> Any:
        """Return the stop of an earlier run that a broker has listed after all, else None."""
        for w in stop.part.instrument.orders.values():
            mine = w.own and w.kind == "stop" and w.owner is stop.part.owner and not w.assumed
            if mine and w.tradeid == one.tradeid and w.side == -stop.side:
                return None if self.gate.venue.withdrew(w.ref) else self.gate.own[w.ref]
        return None

    @staticmethod
    def _rests_below_zero(stop: TradeStop) -> bool:
        """Return whether a stop below zero can rest: only where prices can be there."""
        return stop.part.instrument.negative_prices and stop.price < 0.0

    @staticmethod
    def _beyond(stop: TradeStop) -> bool:
        """Return whether the market is beyond the stop already."""
        return stop.side * (stop.part.instrument.quote() - stop.price) <= 0.0

    def _move(self, stop: TradeStop, one: RestingOrder, size: float) -> None:
        order = one.handle
        working = self.gate.book.working[order.ref]
        if stop.price == one.price and abs(size - working.remaining) <= SIZE_EPS:
            return
        if self.gate.feed_monitor.behind(stop.part.instrument):
            return  # it moves once, when the late bars have all arrived
        if not (stop.price > 0.0 or self._rests_below_zero(stop)) or size <= SIZE_EPS:
            self.gate.venue.withdraw(order)
        elif not stop.alone and self.gate.venue.takes_two_exits(stop.part.instrument):
            if one.previous is None:  # else it moves again once that is cancelled
                self._place_beside(stop, one, size)
        elif self.gate.exit_orders.amend(order, size, stop.price):
            self._set(stop, one)

    def _place_beside(self, stop: TradeStop, one: RestingOrder, size: float) -> None:
        """Place a stop at its new price before the one that rests is cancelled."""
        resting, price = one.handle, one.price
        self._place(stop, one, size)
        if one.handle is None:
            one.handle, one.price = resting, price
            self._rest_alone(stop, one)
        elif one.handle is not resting:
            one.previous = resting

    def _rest_alone(self, stop: TradeStop, one: RestingOrder) -> None:
        """Cancel a stop before the next one is placed, from now on."""
        stop.alone = True
        self.gate.venue.withdraw(one.handle)

    def _retire(self, stop: TradeStop, one: RestingOrder) -> None:
        """Cancel the stop whose place another one takes, once that one is accepted."""
        working, order = self.gate.book.working, one.previous
        taking = working.get(one.handle.ref)
        if order.ref not in working:
            self._count_fill(stop, RestingOrder(one.tradeid, order, one.price))
            one.previous = None
        elif taking is None and one.handle.status in (bt.Order.Margin, bt.Order.Rejected):
            self._refuse(stop, f"the stop ended {one.handle.getstatusname()}")
            one.handle, one.price, one.previous = order, working[order.ref].price, None
            self._rest_alone(stop, one)
        elif taking is None or taking.seen_at is not None or taking.handle.status in _ARRIVED:
            self.gate.venue.withdraw(order)

    def _set(self, stop: TradeStop, one: RestingOrder) -> None:
        if one.handle is None:
            self._refuse(stop, f"the broker took no stop order ({self.gate.order_sender.why})")
            return
        one.price = stop.price
        working = self.gate.book.working.get(one.handle.ref)
        if working is not None:
            working.set_at = stop.part.instrument.moment()

    def _journal(
        self, stop: TradeStop, action: str, reason: str, price: float | None = None
    ) -> None:
        journal, limit = self.gate.journal, stop.orders[0].price if price is None else price
        journal.instrument(stop.part.instrument, self.name, action, reason, limit=limit)


def _first_stop(part: OwnerPosition) -> float:
    return part.instrument.stop_price(part.entry - part.side * part.stop_distance, part.side)


def _over_data(line: Any, times: Any, data: Any, start: int, end: int) -> list[float]:
    """Return the values of a line, which has one for each of `times`, at bars of a data feed."""
    bars = [bisect_left(times, time) for time in data.datetime.plotrange(start, end)]
    return [line.array[bar] if bar < len(line.array) else math.nan for bar in bars]
