"""Imitate a live broker: a small broker that is not BackBroker, as a store would bring it.

It has only what `bt.BrokerBase` requires (no ``get_value``, ``get_cash``, ``startingcash``,
``positions``), refuses unknown keywords, notifies with clones and numbers orders by itself. It
accepts an order on the tick after submission and confirms a cancel on the tick after the request,
behind the fills of that tick: an order can fill before its cancel is confirmed.
"""

import math
from collections import defaultdict, deque

import backtrader as bt
from backtrader.position import Position


class FakeBroker(bt.BrokerBase):
    """Fill at the next open of the data feed, stops and limits at their price or a better open.

    `sizes` is the position of data0 after every fill, `resting` the largest size that rested on
    one side in stop orders at the end of each tick.
    """

    params = (("cash", 100_000.0), ("reject", ()))

    def start(self):
        self.cash = self.p.cash
        self._positions, self._news = defaultdict(Position), deque()
        self._working, self._accepted_at, self._cancelling = [], {}, set()
        self._orders = 0
        self.sizes, self.resting = [], []

    # -- account ---------------------------------------------------------------------------------

    def getcash(self):
        return self.cash

    def getvalue(self, datas=None):
        """Ignore `datas`, as live brokers do."""
        return self.cash + sum(p.size * d.close[0] for d, p in self._positions.items() if p.size)

    def getposition(self, data, clone=True):
        position = self._positions[data]
        return position.clone() if clone else position

    # -- orders ----------------------------------------------------------------------------------

    def buy(
        self,
        owner,
        data,
        size,
        price=None,
        plimit=None,
        exectype=None,
        valid=None,
        tradeid=0,
        oco=None,
        trailamount=None,
        trailpercent=None,
        parent=None,
        transmit=True,
    ):
        return self._make(bt.order.BuyOrder, owner, data, size, price, exectype, valid, tradeid)

    def sell(
        self,
        owner,
        data,
        size,
        price=None,
        plimit=None,
        exectype=None,
        valid=None,
        tradeid=0,
        oco=None,
        trailamount=None,
        trailpercent=None,
        parent=None,
        transmit=True,
    ):
        return self._make(bt.order.SellOrder, owner, data, size, price, exectype, valid, tradeid)

    def _make(self, kind, owner, data, size, price, exectype, valid, tradeid):
        order = kind(
            owner=owner,
            data=data,
            size=size,
            price=price,
            exectype=exectype,
            valid=valid,
            tradeid=tradeid,
        )
        self._orders += 1
        order.addinfo(venue_id=f"V{self._orders}")
        order.addcomminfo(self.getcommissioninfo(data))
        order.submit(self)
        self._notify(order)
        # Sent after this many bars of its data had closed; it may fill on the next one.
        self._accepted_at[order.ref] = len(order.data)
        self._working.append(order)
        return order

    def cancel(self, order):
        self._cancelling.add(order.ref)

    def get_notification(self):
        return self._news.popleft() if self._news else None

    def _notify(self, order):
        self._news.append(order.clone())

    # -- the venue's own time --------------------------------------------------------------------

    def next(self):
        for order in list(self._working):
            if order.status == order.Submitted:
                self._answer(order)
        for order in list(self._working):
            if order.alive() and len(order.data) > self._accepted_at[order.ref]:
                self._try(order)
        for order in list(self._working):
            if order.ref in self._cancelling:
                self._end(order, order.cancel)
        stops = [o for o in self._working if o.exectype == bt.Order.Stop]
        self.resting.append(sum(o.executed.remsize for o in stops))

    def _answer(self, order):
        if order.info["venue_id"] in self.p.reject:
            self._end(order, order.reject)
            return
        order.accept(self)
        self._notify(order)

    def _end(self, order, how):
        self._working.remove(order)
        self._cancelling.discard(order.ref)
        how()
        self._notify(order)

    def _try(self, order):
        price = self._price(order)
        if price is None:
            return
        size, data = order.executed.remsize, order.data
        position = self._positions[data]
        before = position.price
        psize, pprice, opened, closed = position.update(size, price)
        info = self.getcommissioninfo(data)
        pnl = info.profitandloss(-closed, before, price)
        self.cash -= size * price
        order.execute(
            data.datetime[0],
            size,
            price,
            closed,
            abs(closed) * before,
            info.getcommission(closed, price),
            opened,
            abs(opened) * price,
            info.getcommission(opened, price),
            0.0,
            pnl,
            psize,
            pprice,
        )
        self._working.remove(order)
        self._cancelling.discard(order.ref)
        self._notify(order)
        self.sizes.append(psize)

    @staticmethod
    def _price(order):
        data, sign = order.data, 1 if order.isbuy() else -1
        first, asked = data.open[0], order.created.price
        if order.exectype in (None, bt.Order.Market):
            return first
        reached = data.high[0] if sign > 0 else data.low[0]
        if order.exectype == bt.Order.Stop:
            worst = max(first, asked) if sign > 0 else min(first, asked)
            return worst if sign * (reached - asked) >= 0 else None
        best = min(first, asked) if sign > 0 else max(first, asked)
        other = data.low[0] if sign > 0 else data.high[0]
        return best if sign * (asked - other) >= 0 and not math.isnan(best) else None
