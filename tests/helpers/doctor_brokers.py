"""A sound in-memory venue with bars of its own, and the same with one planted fault each."""

import math
import random
import time

import backtrader as bt

from helpers.attaching_broker import AttachingBroker
from helpers.capable_broker import CapableBroker


class Walk(bt.feed.DataBase):
    """Bring a bar every few milliseconds, stamped with the minute of now; it never ends.

    The price swings between 99 and 101 in ticks of 0.05.
    """

    params = (
        ("name", "AAA"),
        ("seconds", 0.004),
        ("bars", math.inf),
        ("live", True),
        ("timeframe", bt.TimeFrame.Minutes),
    )

    def start(self):
        super().start()
        self._random, self._next, self._left = random.Random(7), 0.0, self.p.bars
        self._level = 100.0
        if self.p.live:
            self.put_notification(self.LIVE)

    def islive(self):
        return self.p.live

    def _load(self):
        if not self._left:
            return False
        if time.monotonic() < self._next:
            time.sleep(0.0003)
            return None
        self._left -= 1
        self._next = time.monotonic() + self.p.seconds
        before, step = self._level, self._random.choice((-0.25, -0.15, 0.1, 0.2))
        self._level += step if 99.0 <= before + step <= 101.0 else -step
        prices = [round(20 * price) / 20 for price in (before, self._level)]
        self.lines.datetime[0] = 719_163.0 + time.time() // 60 / 1440
        self.lines.open[0], self.lines.close[0] = prices
        self.lines.high[0], self.lines.low[0] = max(prices) + 0.05, min(prices) - 0.05
        self.lines.volume[0] = self.lines.openinterest[0] = 0.0
        return True


class Sound(CapableBroker):
    """Do everything right; it takes market, limit and stop orders, OCO groups and brackets.

    A second broker with the same `book` knows positions and orders, and changes nothing.
    """

    params = (("book", None), ("can", ("replace", "reduce_only", "oco", "brackets")))

    def start(self):
        super().start()
        self.capabilities |= {"client_ids": True}
        self._by_client_id, self.first = {}, self.p.book.setdefault("first", self)

    def _known_by_now(self):
        first = self.first
        if first is not self and not self._working:
            for data in self.cerebro.datas:
                for other, position in first._positions.items():
                    if other._name == data._name:
                        self._positions[data] = position.clone()
                self.cash = first.cash
                for order in first._working:
                    self._working.append(self._again(order, data))

    def _again(self, order, data):
        again = type(order)(
            owner=None,
            data=data,
            size=abs(order.executed.remsize),
            price=order.created.price,
            exectype=order.exectype,
            simulated=True,
        )
        again.submit(self)
        again.accept(self)
        return again

    def getposition(self, data, clone=True):
        self._known_by_now()
        return super().getposition(data, clone)

    def get_orders_open(self):
        self._known_by_now()
        return list(self._working)

    def buy(self, owner, data, size, client_id=None, **kwargs):
        return self._named(super().buy, owner, data, size, client_id, **kwargs)

    def sell(self, owner, data, size, client_id=None, **kwargs):
        return self._named(super().sell, owner, data, size, client_id, **kwargs)

    def _named(self, place, owner, data, size, client_id, **kwargs):
        self.p.book.setdefault("log", []).append((place.__name__, size, kwargs.get("exectype")))
        order = place(owner, data, size, **kwargs)
        self._by_client_id[client_id] = order
        order.addinfo(client_id=client_id)
        return order

    def order_by_client_id(self, client_id):
        return self._by_client_id.get(client_id)

    def _answer(self, order):
        kinds = (None, bt.Order.Market, bt.Order.Limit, bt.Order.Stop)
        if order.exectype not in kinds or self._is_odd(order):
            self._end(order, order.reject)
        else:
            super()._answer(order)

    @staticmethod
    def _is_odd(order):
        ticks = (order.created.price or 0.0) / 0.05
        return abs(ticks - round(ticks)) > 1e-6 or abs(order.size) != round(abs(order.size))

    def next(self):
        if self.first is self:
            super().next()


class WithoutPositions(Sound):
    def getvalue(self, datas=None):
        return self.cash


class Frozen(Sound):
    def getvalue(self, datas=None):
        return self.p.cash


class Fictional(Sound):
    """Count from a cash that no account has, and not even that changes."""

    def getcash(self):
        return 1_000_000.0

    def getvalue(self, datas=None):
        return 1_000_000.0


class StopAtMarket(Sound):
    """Send stops as market orders."""

    @staticmethod
    def _price(order):
        kind = order.exectype
        order.exectype = bt.Order.Market if kind == bt.Order.Stop else kind
        price = Sound._price(order)
        order.exectype = kind
        return price


class LyingCancel(Sound):
    """Report Canceled for whatever it is told to cancel."""

    def cancel(self, order):
        super().cancel(order)
        news = order.clone()
        news.cancel()
        self._news.append(news)


class HastyCancel(Sound):
    """Report Canceled at once for what it believes to be working, whatever the venue has done."""

    def cancel(self, order):
        if order.status == order.Accepted:
            news = order.clone()
            news.cancel()
            self._news.append(news)
        super().cancel(order)


class CompletedTwice(Sound):
    def _notify(self, order):
        super()._notify(order)
        if order.status == order.Completed:
            super()._notify(order)


class SilentFill(Sound):
    """Fill without a word."""

    def _notify(self, order):
        if order.status != order.Completed:
            super()._notify(order)


class WrongSign(Sound):
    """Report a purchase as a sale."""

    def _notify(self, order):
        news = order.clone()
        news.executed = order.executed.clone()
        news.executed.size = -order.executed.size
        self._news.append(news)


class Forgetful(Sound):
    """Know nothing after a restart."""

    def _known_by_now(self):
        pass


class IdleReplace(Sound):
    """Answer that a stop was moved, and leave it where it was."""

    def replace(self, order, size, price):
        order.info["resting"] = order.info.get("resting") or order.created.price
        order.created.price = price
        return True

    @staticmethod
    def _price(order):
        shown, real = order.created.price, order.info.get("resting")
        order.created.price = real or shown
        price = Sound._price(order)
        order.created.price = shown
        return price


class MarketAhead(Sound):
    """Have a market that has passed the first `passed` stops near it, by when they arrive.

    A stop that is refused is rejected; one that was to be moved is cancelled.
    """

    passed = 2

    def _is_passed(self, order, price):
        near = order.exectype == bt.Order.Stop and price > 0.99 * order.data.close[0]
        self.passed -= near
        return near and self.passed >= 0

    def _answer(self, order):
        if order in self._working and self._is_passed(order, order.created.price):
            self._end(order, order.reject)
        else:
            super()._answer(order)

    def replace(self, order, size, price):
        if self._is_passed(order, price):
            self._end(order, order.cancel)
            return False
        return super().replace(order, size, price)


class MarketAheadWithoutReplace(MarketAhead):
    params = (("can", ("reduce_only", "oco", "brackets")),)
    replace = None


class NoStopsNear(MarketAhead):
    """Take no stop near the market."""

    passed = 99


class NoStopsNearWithoutReplace(MarketAheadWithoutReplace):
    passed = 99


class TrailingAtMarket(Sound):
    """Send a type that it does not know at the market."""

    def _answer(self, order):
        if order.exectype == bt.Order.StopTrail:
            order.exectype = bt.Order.Market
        super()._answer(order)


class BrokenList(Sound):
    def get_orders_open(self):
        raise RuntimeError("not implemented for this exchange")


class LoneOrders(Sound):
    """Send the orders of an OCO group or a bracket one by one."""

    def _end_group(self, order):
        pass

    def _try(self, order):
        self._held.clear()
        self._parents.clear()
        super()._try(order)


class OcoByFill(Sound):
    """End the other order of an OCO group by a fill alone, as some venues do."""

    def _end_group(self, order):
        if order.status == order.Completed or self._parents:
            super()._end_group(order)


class Attaching(Sound, AttachingBroker):
    """Take a stop as a child of its entry, too: `attached` has those stops and their entries."""

    params = (("can", ("replace", "reduce_only", "oco", "brackets", "attached")),)

    def start(self):
        super().start()
        self.attached = {}

    def _request(self, kind, owner, data, size, **kwargs):
        order = super()._request(kind, owner, data, size, **kwargs)
        stop, parent = kwargs.get("exectype") == bt.Order.Stop, kwargs.get("parent")
        if stop and parent is not None and kwargs.get("transmit", True):
            self.attached[order.ref] = parent
        return order


class EagerEntry(Attaching):
    """Let an entry work before its child has come."""

    def _try(self, order):
        self._held.clear()
        super()._try(order)


class OpeningChild(Attaching):
    """Let a child fill whatever its entry has filled."""

    def active(self, order):
        return abs(order.executed.remsize)


class StayingChild(Attaching):
    """Leave a child alone when its entry is cancelled."""

    def _end_group(self, order):
        if order.status == order.Completed or order not in self.attached.values():
            super()._end_group(order)


class TakingEntry(Attaching):
    """End an entry with its child."""

    def _end_group(self, order):
        super()._end_group(order)
        parent = self.attached.get(order.ref)
        if order.status == order.Canceled and parent in self._working:
            self._end(parent, parent.cancel)


class UnlistedChild(Attaching):
    """List no children."""

    def get_orders_open(self):
        return [order for order in super().get_orders_open() if order.ref not in self.attached]


class RefusedChild(Attaching):
    """Take children of brackets only."""

    def _answer(self, order):
        if order.ref in self.attached:
            self._end(order, order.reject)
        else:
            super()._answer(order)


class FailingLoop(Sound):
    """Raise out of ``next`` while an order is working."""

    def next(self):
        super().next()
        if self._working:
            raise KeyError("execution before status")


class RefusedCancel(Sound):
    """Never cancel anything."""

    def cancel(self, order):
        raise ConnectionError("no answer")


def factory(kind, feed=None, **params):
    """Return a factory for a broker and a data feed, and the book that all its brokers share."""
    book = {}

    def make():
        return kind(book=book, **params), Walk(**(feed or {}))

    return make, book
