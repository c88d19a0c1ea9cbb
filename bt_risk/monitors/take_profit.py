"""TakeProfitMonitor: keep a limit order at the target of every position, beside its stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import backtrader as bt

from bt_risk.limits.exit_rules import TakeProfit
from bt_risk.monitors.base import Monitor, Quiet, Sample
from bt_risk.monitors.trade_stop import RestingOrder
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.reachable import opposed
from bt_risk.portfolio.tradeids import by_tradeid
from bt_risk.tolerances import RATIO_EPS, SIZE_EPS

__all__ = ["TakeProfitMonitor"]

_REFUSED = (bt.Order.Margin, bt.Order.Rejected)


@dataclass
class _Target:
    """The target of one trade, and the orders that rest there: one for each tradeid."""

    part: OwnerPosition
    number: int
    orders: dict[Any, RestingOrder] = field(default_factory=dict)
    refused: int = 0


class TakeProfitMonitor(Monitor):
    """Carry out `TakeProfit` of one gate at a broker at which a limit can rest beside a stop.

    Of several rules the nearest target counts.
    """

    name = "TakeProfit"

    def __init__(self, gate: Any, rule: TakeProfit) -> None:
        self.gate, self.book, self.rule = gate, gate.book, rule
        self._targets: dict[OwnerPosition, _Target] = {}
        self._all_rest = -1  # as of this change of the book

    def add(self, rule: TakeProfit) -> None:
        """Carry out this rule, too."""
        if rule.r < self.rule.r:
            self.rule = rule

    # -- hooks of the gate -----------------------------------------------------------------------

    def on_fill(self, part: OwnerPosition) -> None:
        """Follow the position: begin, resize or end its target."""
        target = self._targets.get(part)
        if target is not None and (target.number != part.number or not part.size):
            self._end(self._targets.pop(part))
            target = None
        if part.size and not self.gate.observe:
            if target is None:
                target = self._targets[part] = _Target(part, part.number)
            self._rest(target)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Place what does not rest: a broker answers later, and may refuse."""
        if self._all_rest == self.book.changes or not self._targets:
            return
        direct, book = self.gate.venue.direct, self.book
        all_rest, changes = direct, book.changes
        for target in list(self._targets.values()):
            if not (direct and self._rests(target, book.working)):
                all_rest = False
                if target.part.instrument.length:
                    self._rest(target)
        self._all_rest = changes if all_rest else -1

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return that nothing happens while every target rests, and no order and no fill comes."""
        venue, working = self.gate.venue, self.gate.book.working
        if venue.direct and all(self._rests(one, working) for one in self._targets.values()):
            return Quiet(ends_with_orders=True)
        return None

    # -- one target ------------------------------------------------------------------------------

    def _rests(self, target: _Target, working: Any) -> bool:
        """Return whether the only order of a target rests for the whole position."""
        if len(target.orders) != 1 or len(target.part.tradeids) > 1:
            return False
        (one,) = target.orders.values()
        rest = None if one.handle is None else working.get(one.handle.ref)
        return rest is not None and abs(abs(target.part.size) - rest.remaining) <= SIZE_EPS

    def _level(self, part: OwnerPosition) -> float:
        """Return the price of a target in whole ticks, NaN where there can be none."""
        instrument, distance = part.instrument, part.stop_distance
        if not distance > 0.0:
            if self.gate.journal.once((self.name, part, part.number)):
                reason = f"{self.name}: no target, the distance of its first stop is not known"
                self.gate.journal.instrument(instrument, self.name, "note", reason)
            return math.nan
        price = instrument.stop_price(part.price + part.side * self.rule.r * distance, part.side)
        return price if price > 0.0 or instrument.negative_prices else math.nan

    def _rest(self, target: _Target) -> None:
        """Let orders rest where they should be, in place or by cancel and replace."""
        part, price = target.part, self._level(target.part)
        if price != price:
            return
        if target.refused > self.gate.venue.stop_retries:
            self._judge_close(part, price)
            return
        if self._may_open(part):
            self._withdraw(target)
            self._judge_close(part, price)
            return
        size = self.gate.venue.uncovered(part)
        shares = by_tradeid(part, size) if size > SIZE_EPS else {}
        for tradeid in shares:
            target.orders.setdefault(tradeid, RestingOrder(tradeid))
        for tradeid, one in list(target.orders.items()):
            share = shares.get(tradeid, 0.0)
            if one.handle is not None:
                self._move(one, part, share, price)
                self._settle(target, one)
            if one.handle is None and share > SIZE_EPS:
                self._place(target, one, share, price)
            elif one.handle is None:
                del target.orders[tradeid]

    def _may_open(self, part: OwnerPosition) -> bool:
        """Return whether a limit and a stop that fill both would open something.

        Nothing but `reduce_only` keeps a live broker from that. It is not sent while another owner
        is on the other side, and a stop that was sent without it stays so.
        """
        if self.gate.venue.direct:
            return False
        stops = self.gate.registry.monitor(TrailingStopMonitor)
        key = (part.instrument.index, part.owner)
        stop = None if stops is None else stops.stops.get(key)
        alone = stop is not None and stop.number == part.number and stop.alone
        if not (alone or opposed(part.instrument)):
            return False
        if self.gate.journal.once((self.name, part, part.number, "alone")):
            reason = f"{self.name}: another strategy is or was on the other side: the target is "
            reason += "judged at closes, no limit rests beside a stop that may open something"
            self.gate.journal.instrument(part.instrument, self.name, "note", reason)
        return True

    def _withdraw(self, target: _Target) -> None:
        """Cancel the orders that rest at a target, those of an earlier run included."""
        part = target.part
        for w in self._limits(part):
            self.gate.venue.withdraw(w.handle)
        for one in list(target.orders.values()):
            if one.handle is not None:
                self._settle(target, one)
            if one.handle is None:
                del target.orders[one.tradeid]

    def _settle(self, target: _Target, one: RestingOrder) -> None:
        """Forget an order that has ended; count a refusal by the broker."""
        order = one.handle
        if order.ref in self.gate.book.working:
            return
        if order.status in _REFUSED:
            self._refuse(target, f"the limit at {one.price:g} ended {order.getstatusname()}")
        self._note_fill(target, one)
        one.handle = None

    def _move(self, one: RestingOrder, part: OwnerPosition, size: float, price: float) -> None:
        """Give a resting order its size and price, or cancel it."""
        working = self.gate.book.working.get(one.handle.ref)
        if working is None:
            return
        if price == one.price and abs(size - working.remaining) <= SIZE_EPS:
            return
        if self.gate.feed_monitor.behind(part.instrument):
            return  # it moves once, when the late bars have all arrived
        if size <= SIZE_EPS or one.handle.status == bt.Order.Partial:
            self.gate.venue.withdraw(one.handle)
            self.gate.process_notifications()
        elif self.gate.exit_orders.amend(one.handle, size, price):
            one.price, working.set_at = price, part.instrument.moment()

    def _place(self, target: _Target, one: RestingOrder, size: float, price: float) -> None:
        part = target.part
        found = self._found_again(part, one)
        if found is not None:
            one.handle, one.price = found, self.gate.book.working[found.ref].price
            return
        reason = f"{self.name}: {self.rule.r:g} R of {part.instrument.name}"
        one.handle = self.gate.exit_orders.send(
            part, size, self.name, reason, target_price=price, tradeid=one.tradeid
        )
        one.price = price
        if one.handle is None:
            self._refuse(target, f"the broker took no limit ({self.gate.order_sender.why})")

    def _found_again(self, part: OwnerPosition, one: RestingOrder) -> Any:
        """Return the limit of an earlier run that the broker still has, else None."""
        for w in self._limits(part):
            if w.tradeid == one.tradeid:
                return self.gate.own[w.ref]
        return None

    def _limits(self, part: OwnerPosition) -> list[WorkingOrder]:
        """Return the limits of ours that rest behind a position, but those that are withdrawn."""
        return [
            w
            for w in part.instrument.orders.values()
            if w.own and w.kind == "limit" and w.owner is part.owner and w.side == -part.side
            if not self.gate.venue.withdrew(w.ref)
        ]

    def _refuse(self, target: _Target, reason: str) -> None:
        """Count a refusal; after too many the target is judged at closes."""
        target.refused += 1
        gives_up = target.refused > self.gate.venue.stop_retries
        if gives_up:
            reason = f"{reason}, {target.refused} times: the target is judged at closes"
        elif target.refused > 1:
            return
        instrument = target.part.instrument
        self.gate.journal.instrument(instrument, self.name, "note", f"{self.name}: {reason}")

    def _judge_close(self, part: OwnerPosition, price: float) -> None:
        """Close at the market once a close is at the target, where no order can rest there."""
        if part.side * (part.instrument.closed - price) >= -RATIO_EPS * abs(price):
            reason = f"{self.name}: the close is at the target {price:g}"
            self.gate.exit_orders.close(part, self.name, reason)

    def _note_fill(self, target: _Target, one: RestingOrder) -> None:
        """Write what an order has filled, once it has ended or its position is closed."""
        executed = one.handle.executed
        if executed.size:
            paid = float(executed.price)
            reason = f"{self.name}: filled at {paid:g}, the target of {self.rule.r:g} R"
            self.gate.journal.instrument(
                target.part.instrument,
                self.name,
                "close",
                reason,
                measured=paid,
                limit=one.price,
            )

    def _end(self, target: _Target) -> None:
        for one in target.orders.values():
            if one.handle is not None:
                self._note_fill(target, one)
                if one.handle.ref in self.gate.book.working:
                    self.gate.venue.withdraw(one.handle)
