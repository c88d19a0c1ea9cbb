"""Liquidation: close what is short of maintenance margin inside a bar, in one BackBroker.

It is judged twice a bar. Before the orders of the bar execute: what is held is taken from the open
to the worst price of the bar, and a stop that is nearer than liquidation fills on the way. After
them: what has been opened or added to inside the bar is taken to the worst price, as a venue would
have it; an entry at the close has seen nothing of the bar.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt

from bt_risk.gate.entry_bar import tick
from bt_risk.monitors.margin import Liquidated, MarginMonitor
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.margin import entry_price
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.rules.liquidation import Leg, first_breach
from bt_risk.rules.margin import borrow_interest, funding_payment
from bt_risk.tolerances import PRICE_EPS, SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.simulated_execution import SimulatedExecution

__all__ = ["Liquidation"]


_Trades = frozenset[tuple[int, int]]


class _Way(NamedTuple):
    """The way through a bar: where it starts, the worst and the best price for what is held.

    `new` says that a bar has come.
    """

    start: float
    worst: float
    best: float
    new: bool


class Liquidation:
    """Let one BackBroker execute a bar, and liquidate before and after its orders."""

    def __init__(self, execution: SimulatedExecution, monitor: MarginMonitor) -> None:
        self.execution, self.monitor = execution, monitor
        self.gate, self.inner = execution.gate, execution.inner
        # What was held: its size, its entry, and which trades it was, by index of the instrument.
        self._before_bar: dict[int, tuple[float, float, _Trades]] = {}
        self._closers: list[WorkingOrder] = []
        execution.liquidation = self

    def round(self) -> None:
        """Execute a round of the broker."""
        book = self.gate.book
        held = [one for one in book.instruments if one.size]
        if held:
            if self.monitor.guard.charges:
                self._charge_holding(held)
            self._before(held)
        self._before_bar = {
            one.index: (one.size, entry_price(one), _trades(one)) for one in held if one.size
        }
        self._closers = [
            w for w in book.working.values() if w.kind == "close" and w.opening > SIZE_EPS
        ]
        self.inner.next()
        if self.inner.notifs:
            self.gate.process_notifications()
        opened = [one for one in book.instruments if self._is_opened(one)]
        if opened and self._after(opened):
            self.inner._get_value()  # its round has valued the account before

    def before_exit(self, order: Any) -> None:
        """Liquidate what was opened inside this bar before an exit that is farther away fills.

        A limit at the price of the entry, or one that the market has passed by then, fills with it.
        """
        if order.exectype in (order.Market, order.Close):
            return
        if self.inner.notifs:
            self.gate.process_notifications()
        one = self.gate.venue.held_in(order.data)
        if one is None or not self._is_opened(one) or one.size * order.size >= 0.0:
            return
        side = 1 if one.size > 0.0 else -1
        marketable = side * (self._added_at(one) - order.created.price) >= 0.0
        if order.exectype != order.Limit or not marketable:
            self._after([one])

    def _is_opened(self, one: Instrument) -> bool:
        """Return whether a position was opened or added to inside this bar."""
        size, _, trades = self._before_bar.get(one.index, _NOTHING)
        return bool(one.size) and (one.size != size or _trades(one) != trades)

    # -- before the orders of the bar ------------------------------------------------------------

    def _before(self, held: list[Instrument]) -> None:
        ways = {one.index: self._way(one) for one in held}
        if not any(way.new for way in ways.values()):
            return
        if self.monitor.guard.isolated:
            for one in held:
                if ways[one.index].new:
                    self._judge([one], ways, self._own_balance(one, ways[one.index].start))
        else:
            self._judge(held, ways, self._equity(ways))

    def _own_balance(self, one: Instrument, price: float) -> float:
        """Return the margin of an isolated position with its open profit at a price."""
        profit = one.size * (price - entry_price(one)) * one.multiplier
        return self.monitor.margin_of(one) + profit

    def _judge(self, held: list[Instrument], ways: dict[int, _Way], balance: float) -> None:
        """Liquidate positions that one balance secures, if the bar takes it away."""
        if balance != balance:
            return
        needed = [self.monitor.needed(one, ways[one.index].start) for one in held]
        if balance <= sum(needed):
            for one in held:
                self._close(one, abs(one.size), ways[one.index], 0.0, gap=True)
            return
        # What market exits close at the open has left by then, with its share of the margin.
        stays = {one.index: abs(one.size) - self._leaving(one) for one in held}
        if self.monitor.guard.isolated:
            balance *= stays[held[0].index] / abs(held[0].size)
        self._take(balance, held, ways, stays)

    def _leg(self, one: Instrument, way: _Way, size: float) -> Leg:
        side = 1 if one.size > 0.0 else -1
        stops = sorted(self._stops(one, side, way.start), key=lambda stop: -side * stop[0])
        units, tiers = size * one.multiplier, self.monitor.guard.tiers_of(one.name)
        return Leg(side, units, way.start, way.worst, tiers, tuple(stops))

    def _stops(self, one: Instrument, side: int, start: float) -> Iterator[tuple[float, float]]:
        """Yield price and units of the stops behind what is held that rest since before the bar.

        A stop limit is one only where its limit lets it fill.
        """
        now = one.data.datetime[0]
        for w in one.orders.values():
            rests = w.kind == "stop" and w.side == -side and w.handle.created.dt < now
            if rests and not _expires(w.handle, now) and self.gate.book.reachable(w):
                units = min(max(w.closing, w.reduces), w.remaining)
                price = w.handle.created.price if w.trails else w.price
                fill = min(price, start) if side > 0 else max(price, start)
                limited = w.handle.exectype in _LIMITED
                if limited and side * (fill - w.handle.created.pricelimit) < 0.0:
                    continue
                if units > SIZE_EPS and price == price:
                    yield price, units * one.multiplier

    def _leaving(self, one: Instrument) -> float:
        """Return the units that market exits close at the open of this bar."""
        side, now = (1 if one.size > 0.0 else -1), one.data.datetime[0]
        exits = [
            w.remaining
            for w in one.orders.values()
            if w.kind == "market" and w.side == -side and w.handle.created.dt < now
        ]
        return min(abs(one.size), sum(exits))

    # -- after them ------------------------------------------------------------------------------

    def _after(self, opened: list[Instrument]) -> bool:
        """Take what was opened inside the bar to its worst price; return if anything is closed."""
        before = len(self.monitor.liquidations)
        at_close = {w.instrument.index for w in self._closers if self._filled_now(w)}
        held = [one for one in self.gate.book.instruments if one.size]
        ways = {}
        for one in held:
            way = self._way(one)
            if one.index in at_close:
                close = float(one.data.close[0])
                way = _Way(close, close, close, way.new)
            elif self._is_opened(one) and not self.inner.p.coc:
                way = way._replace(start=self._highest(one, way))
            ways[one.index] = way
        if self.monitor.guard.isolated:
            for one in opened:
                if one.size and ways[one.index].new:
                    balance = self._own_balance(one, ways[one.index].start)
                    self._take(balance, [one], ways)
        else:
            self._take(self._equity(ways), held, ways)
        if len(self.monitor.liquidations) == before:
            return False
        for one in held:
            _rest_from_next_bar(one)
        return True

    def _take(
        self,
        balance: float,
        held: list[Instrument],
        ways: dict[int, _Way],
        sizes: dict[int, float] | None = None,
    ) -> None:
        """Liquidate what no stop has closed by the time that the balance is gone."""
        if balance != balance:
            return
        sizes = sizes or {one.index: abs(one.size) for one in held}
        legs = [self._leg(one, ways[one.index], sizes[one.index]) for one in held]
        t = first_breach(balance, legs, own=self.monitor.guard.isolated)
        if t is not None:
            # What was bought at the close before the bar meets a gap at its open.
            gap = t == 0.0 and bool(self.inner.p.coc)
            for one, leg in zip(held, legs, strict=True):
                self._close(one, leg.left(t) / one.multiplier, ways[one.index], t, gap)

    def _highest(self, one: Instrument, way: _Way) -> float:
        """Return the better of the open and the price at which the position grew in this bar.

        Where a part was closed before, the difference of two averages is no price: the average of
        all of it counts.
        """
        low, high = sorted((way.best, way.worst))
        added = self._added_at(one)
        if added < low or added > high:
            added = entry_price(one)
        if not low <= added <= high:  # NaN: it has not grown
            return way.start
        return max(way.start, added) if one.size > 0.0 else min(way.start, added)

    def _added_at(self, one: Instrument) -> float:
        """Return the average price at which the position grew in this bar, NaN if it did not."""
        before, entry, trades = self._before_bar.get(one.index, _NOTHING)
        if before * one.size < 0.0 or not trades <= _trades(one):
            before = 0.0  # that has ended, and another position was opened
        grown = one.size - before
        if abs(grown) <= SIZE_EPS:
            return math.nan
        return (one.size * entry_price(one) - before * entry) / grown

    @staticmethod
    def _filled_now(working: WorkingOrder) -> bool:
        order: Any = working.handle
        return bool(order.executed.size) and order.executed.dt == order.data.datetime[0]

    # -- the prices of a bar ---------------------------------------------------------------------

    def _way(self, one: Instrument) -> _Way:
        """Return the way from the open of a bar to its worst price for what is held.

        Where no bar has come, or its prices contradict each other, it is the last valid close.
        """
        data = one.data
        new = one.close.lencount > one.length or bool(one.forming)
        opened, high, low = (tick(data, name) for name in ("open", "high", "low"))
        close = float(data.close[0])
        known = all(map(math.isfinite, (opened, high, low, close))) and high >= low
        if not (new and known and (low > 0.0 or one.negative_prices)):
            return _Way(one.price, one.price, one.price, False)
        bottom, top = min(opened, low, close), max(opened, high, close)
        worst, best = (bottom, top) if one.size > 0.0 else (top, bottom)
        return _Way(opened, worst, best, True)

    # -- closing ---------------------------------------------------------------------------------

    def _close(self, one: Instrument, size: float, way: _Way, t: float, gap: bool = False) -> None:
        """Close units of the net position at the price of `t` on the way."""
        if size <= SIZE_EPS:
            return
        side = 1 if one.size > 0.0 else -1
        if not way.new:  # it has no price now: it closes at its next open
            for part, units in _shares(one, side, size):
                self.gate.exit_orders.send_all(part, units, self.monitor.name, _REASON, stops=True)
            return
        price = way.start + t * (way.worst - way.start)
        entry, margin = entry_price(one), self.monitor.margin_of(one) * size / abs(one.size)
        fee, insured = self._costs(one, side, size, price, entry, margin)
        self._charge(one, fee - insured)
        for part, units in _shares(one, side, size):
            self._fill(part, units, price)
        self.gate.follow_fills()
        for part in one.parts:  # exits that BackBroker accepts after this are settled then
            self.gate.fill_tracker.touch(part)
        held = [other for other in self.gate.book.instruments if other.size]
        equity = self._equity({other.index: self._way(other) for other in held}) if gap else 0.0
        done = Liquidated(one.data.datetime[0], one.name, side * size, price, gap, fee, insured)
        self.monitor.liquidated(one, done, equity)

    def _costs(
        self, one: Instrument, side: int, size: float, price: float, entry: float, margin: float
    ) -> tuple[float, float]:
        """Return the fee of a liquidation, and what insurance pays of its loss, in currency."""
        units = size * one.multiplier
        fee = self.monitor.guard.liquidation_fee * units * abs(price)
        if self.monitor.guard.isolated:
            left = margin + side * units * (price - entry)
            if abs(left) <= PRICE_EPS * units * abs(price):  # what rounding has left
                left = 0.0
            return min(fee, max(0.0, left)), max(0.0, -left)
        return fee, 0.0

    def _charge_holding(self, held: list[Instrument]) -> None:
        """Take funding, at the last close, and interest since the last bar of what is held."""
        guard = self.monitor.guard
        for one in held:
            now = float(one.data.datetime[0])
            if not (one.close.lencount > one.length and now > one.time):
                continue
            side, size = (1 if one.size > 0.0 else -1), abs(one.size)
            rates, worth = guard.rates_of(one.name), size * abs(one.value)
            paid = 0.0
            if rates is not None:
                rate = rates.between(one.time, now)
                paid = -funding_payment(side, size, one.price, rate, one.multiplier)
            borrowed = worth - self.monitor.margin_of(one) if side > 0 else worth
            interest = borrow_interest(borrowed, guard.borrow_rate, now - one.time)
            self.monitor.funding += paid
            self.monitor.interest += interest
            self._charge(one, paid + interest)

    def _charge(self, one: Instrument, amount: float) -> None:
        """Take an amount from cash; it is part of the commission of the fill that closes."""
        if amount:
            self.inner.cash -= amount
            self.inner.d_credit[one.data] += amount

    def _equity(self, ways: dict[int, _Way]) -> float:
        """Return what the account is worth with what is held at the starts of its ways.

        BackBroker values it only at the end of its round.
        """
        equity = float(self.inner.cash)
        for one in self.gate.book.instruments:
            if one.size:
                equity += self._worth(one, ways[one.index].start)
        return equity

    def _worth(self, one: Instrument, price: float) -> float:
        """Return what BackBroker adds to cash for a position at a price."""
        scheme = self.inner.getcommissioninfo(one.data)
        position = self.inner.positions[one.data]
        size = position.size
        if self.inner.p.shortcash:
            value = scheme.getvaluesize(size, price)
        else:
            value = abs(scheme.getvalue(position, price))
        gain = scheme.profitandloss(size, position.price, price)
        if value > 0.0:
            value = (value - gain) / scheme.get_leverage() + gain
        return float(value + scheme.cashadjust(size, position.adjbase, price))

    def _fill(self, part: OwnerPosition, size: float, price: float) -> None:
        """Execute our market orders for a position at a price, within this bar."""
        orders = self.gate.exit_orders.send_all(part, size, self.monitor.name, _REASON, stops=True)
        params, filler = self.inner.p, self.inner.p.filler
        params.filler = None  # a venue that liquidates takes the position over
        try:
            for order in orders:
                working = self.gate.book.working.get(order.ref)
                if working is not None and order in self.inner.pending:
                    self.inner.pending.remove(order)
                    fill = partial(self.execution.execute, ago=0, price=price)
                    self.execution.run(order, working, float(working.remaining), native=fill)
                    if order.alive():
                        self.inner.pending.append(order)
                    self.gate.process_notifications()
        finally:
            params.filler = filler


_LIMITED = (bt.Order.StopLimit, bt.Order.StopTrailLimit)
_REASON = "MarginAccount: liquidated"
_NOTHING: tuple[float, float, _Trades] = (0.0, 0.0, frozenset())


def _rest_from_next_bar(one: Instrument) -> None:
    """Let no stop that was sent in this bar execute on it, in a later round without a new one."""
    for w in one.orders.values():
        if w.own and not one.forming and w.handle.created.dt >= one.data.datetime[0]:
            w.set_at = one.close.lencount, -math.inf


def _expires(order: Any, now: float) -> bool:
    """Return whether BackBroker ends an order at this bar, before it could fill."""
    return bool(order.valid) and now > order.valid


def _trades(one: Instrument) -> _Trades:
    """Return the trades that an instrument is held by: place of the owner, number of the trade."""
    return frozenset([(k, part.number) for k, part in enumerate(one.parts) if part.size])


def _shares(one: Instrument, side: int, size: float) -> Iterable[tuple[OwnerPosition, float]]:
    """Return which owners' positions on the side of the net position are closed, and how much."""
    shares, left = [], size
    for part in one.parts:
        if part.size * side > 0.0 and left > SIZE_EPS:
            units = min(abs(part.size), left)
            shares.append((part, units))
            left -= units
    return shares
