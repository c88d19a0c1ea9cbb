"""quick_rounds: ``BackBroker.next`` without what cannot change anything.

Backtrader values every data feed that anybody has ever asked for a position in, three times a bar.
Here only what is held counts. The operations on it, and their sequence, are Backtrader's own, so
the numbers are equal to the last bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import backtrader as bt

from bt_risk.engine.feeds import QuickFeed, finite

__all__ = ["quick_rounds", "simulated_broker"]

# What must be Backtrader's own for the numbers of a commission scheme to be known.
_METHODS = (
    "get_credit_interest",
    "_get_credit_interest",
    "cashadjust",
    "getvalue",
    "getvaluesize",
    "profitandloss",
    "get_leverage",
    "get_margin",
)
# A scheme for stocks without interest; another one of Backtrader's own; one with methods of a user.
_STOCKS, _KNOWN, _UNKNOWN = range(3)


def simulated_broker(broker: Any) -> Any:
    """Return the BackBroker that executes, behind whatever wraps it, or None."""
    while broker is not None and type(broker) is not bt.brokers.BackBroker:
        broker = vars(broker).get("inner")
    return broker


@contextlib.contextmanager
def quick_rounds(broker: Any, feeds: Sequence[QuickFeed]) -> Iterator[None]:
    """Let a BackBroker, if there is one, use quick rounds while this context lasts."""
    native = broker is None or "next" in vars(broker) or "_get_value" in vars(broker)
    # A position of nothing is worth nothing, but at a price that is none.
    if native or not all(finite(feed.data.lines.close.array) for feed in feeds):
        yield
        return
    broker.next = _QuickRounds(broker, feeds).round
    try:
        yield
    finally:
        del broker.next


class _QuickRounds:
    """Make the rounds of one BackBroker."""

    def __init__(self, broker: Any, feeds: Sequence[QuickFeed]) -> None:
        self.broker = broker
        self._feeds = {feed.data: feed for feed in feeds}
        self._closes = {feed.data: feed.data.close for feed in feeds}
        self._kinds: dict[Any, int] = {}
        self._schemes: list[Any] = []
        self._all_known = True
        # What knows on which bars trying the orders of the queue would do nothing: a gate sets it.
        self._exits: Any = None

    def round(self) -> None:
        """Do what ``BackBroker.next`` does."""
        broker = self.broker
        if broker._toactivate:
            while broker._toactivate:
                broker._toactivate.popleft().activate()
        if broker.p.checksubmit and broker.submitted:
            broker.check_submitted()
        credit = 0.0
        for data, position in broker.positions.items():
            if position.size:
                credit += self._credit(data, position)
        broker.cash -= credit
        if broker._userhist:
            broker._process_order_history()
        pending = broker.pending
        if pending:
            exits = self._exits
            if exits is None and "_resting_exits" in broker.__dict__:
                exits = self._exits = broker._resting_exits
            if exits is None or not (
                (
                    exits.book.rounds < exits.free_until
                    and exits.book.changes == exits.changes
                    and exits.last is pending[-1]
                    and not broker.notifs
                )
                or exits.are_left_alone()
            ):
                self._execute_pending()
        held = [(data, one) for data, one in broker.positions.items() if one.size]
        for data, position in held:
            self._adjust_cash(data, position)
        self._value(held)

    def _kind(self, scheme: Any) -> int:
        """Return what is known of a commission scheme."""
        kind = self._kinds.get(scheme)
        if kind is None:
            own, cls = bt.CommInfoBase, type(scheme)
            known = all(getattr(cls, name) is getattr(own, name) for name in _METHODS)
            if not known or any(name in vars(scheme) for name in _METHODS):
                kind = _UNKNOWN
            else:
                kind = _STOCKS if scheme._stocklike and not scheme._creditrate else _KNOWN
            self._kinds[scheme] = kind
        return kind

    def _schemes_are_known(self) -> bool:
        """Return whether under every scheme a position of nothing is worth nothing."""
        schemes = list(self.broker.comminfo.values())
        if schemes != self._schemes:
            self._schemes = schemes
            self._all_known = all(self._kind(scheme) != _UNKNOWN for scheme in schemes)
        return self._all_known

    def _credit(self, data: Any, position: Any) -> float:
        """Return the interest on a position since the last bar."""
        broker, feed = self.broker, self._feeds.get(data)
        scheme = broker.getcommissioninfo(data)
        now = data.datetime.datetime() if feed is None else feed.datetime()
        interest = 0.0
        if self._kind(scheme) != _STOCKS or not math.isfinite(position.size * position.price):
            interest = scheme.get_credit_interest(data, position, now)
        broker.d_credit[data] += interest
        position.datetime = now
        return interest

    def _execute_pending(self) -> None:
        """Try every order once."""
        broker = self.broker
        pending = broker.pending
        pending.append(None)
        while True:
            order = pending.popleft()
            if order is None:
                return
            if order.expire():
                broker.notify(order)
                broker._ococheck(order)
                broker._bracketize(order, cancel=True)
            elif not order.active():
                pending.append(order)
            else:
                broker._try_exec(order)
                if order.alive():
                    pending.append(order)
                elif order.status == order.Completed:
                    broker._bracketize(order)

    def _close(self, data: Any) -> float:
        """Return what ``data.close[0]`` does."""
        line = self._closes.get(data)
        close: float = data.close[0] if line is None else line.array[line._idx]
        return close

    def _adjust_cash(self, data: Any, position: Any) -> None:
        """Book what a future has won or lost since the last bar."""
        broker = self.broker
        scheme, close = broker.getcommissioninfo(data), self._close(data)
        if self._kind(scheme) != _STOCKS:
            broker.cash += scheme.cashadjust(position.size, position.adjbase, close)
        position.adjbase = close

    def _value(self, held: Sequence[tuple[Any, Any]]) -> None:
        """Value the account at the closes of this bar."""
        broker = self.broker
        if broker._cash_addition or broker._fundhist or not self._schemes_are_known():
            broker._get_value()
            return
        worth = worth_unlevered = unrealized = 0.0
        for data, position in held:
            scheme, close = broker.getcommissioninfo(data), self._close(data)
            size, shorts_take_cash = position.size, not broker.p.shortcash
            if self._kind(scheme) == _STOCKS:
                gain = size * (close - position.price) * scheme.p.mult
                value = size * close
                if shorts_take_cash and size < 0:
                    value = position.price * size
                    value += (position.price - close) * size
            else:
                value = (
                    scheme.getvalue(position, close)
                    if shorts_take_cash
                    else scheme.getvaluesize(size, close)
                )
                gain = scheme.profitandloss(size, position.price, close)
            if shorts_take_cash:
                value = abs(value)
            worth += value
            unrealized += gain
            if value > 0:
                value -= gain
                worth_unlevered += value / scheme.get_leverage()
                worth_unlevered += gain
            else:
                worth_unlevered += value
        broker._value = value = broker.cash + worth_unlevered
        broker._fundval = value / broker._fundshares
        broker._valuemkt = worth_unlevered
        broker._valuelever = broker.cash + worth
        broker._valuemktlever = worth
        broker._leverage = worth / (worth_unlevered or 1.0)
        broker._unrealized = unrealized
