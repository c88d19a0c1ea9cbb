"""Imitate a venue that goes on in every round, and a store whose every tenth request goes wrong.

`Exchange` is the truth: it fills orders, holds the positions and the cash. `FaultyStore` is the
broker that a store would bring: it sends requests to the exchange and notifies what it learns. The
clock of both is the number of seconds that have passed, which the data feed counts.
"""

import itertools
import math
import random
from collections import defaultdict, deque

import backtrader as bt
from backtrader.position import Position

# Seconds of a round of the loop, and of a bar.
SECONDS_OF_A_ROUND, SECONDS_OF_A_BAR = 2, 60
EPS = 1e-9


class Seconds:
    """Count the seconds of a market: they pass with the rounds of the loop."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return float(self.now)


class Exchange:
    """Fill orders against one price a round for each name, and keep the account.

    Parameters
    ----------
    names : sequence of str
    seed : int
    cash : float

    Attributes
    ----------
    orders : dict of str to dict
        Every order that was ever placed, by client id.
    sizes, prices : dict of str to float
        Position and last price by name.
    """

    def __init__(self, names, seed, cash=100_000.0):
        self.rng = random.Random(seed)
        self.cash, self.seconds = cash, 0
        self.prices = dict.fromkeys(names, 100.0)
        self.sizes = dict.fromkeys(names, 0.0)
        self.orders = {}
        self._numbers = itertools.count(1)

    def go_on(self):
        """Move every price, and fill what it reaches."""
        self.seconds += SECONDS_OF_A_ROUND
        for name in self.prices:
            self.prices[name] *= math.exp(self.rng.gauss(0.0, 0.0006))
            for order in [o for o in self.open_orders() if o["name"] == name]:
                self._try(order)

    def _try(self, order):
        price, side = self.prices[order["name"]], order["side"]
        if order["placed"] >= self.seconds:
            return
        if order["kind"] == "stop" and side * (price - order["price"]) < 0.0:
            return
        if order["kind"] == "limit" and side * (order["price"] - price) < 0.0:
            return
        left = order["size"] - order["filled"]
        part = left if left <= 1.0 or self.rng.random() < 0.8 else float(int(left / 2.0))
        if order["kind"] == "stop":
            order["kind"] = "market"  # it has been reached: what is left goes on at the market
        order["filled"] += part
        order["fills"].append((part, price))
        self.sizes[order["name"]] += side * part
        self.cash -= side * part * price
        if order["size"] - order["filled"] <= EPS:
            order["status"] = "filled"

    def open_orders(self):
        """Return the orders that are working."""
        return [order for order in self.orders.values() if order["status"] == "open"]

    def place(self, client_id, name, side, size, kind, price):
        """Take an order; return it."""
        assert client_id not in self.orders, "an order was sent twice"
        self.orders[client_id] = order = {
            "client_id": client_id,
            "id": f"V{next(self._numbers)}",
            "name": name,
            "side": side,
            "size": size,
            "kind": kind,
            "price": price,
            "status": "open",
            "filled": 0.0,
            "fills": [],
            "placed": self.seconds,
        }
        return order

    def cancel(self, client_id):
        """Cancel an order that is working."""
        if self.orders[client_id]["status"] == "open":
            self.orders[client_id]["status"] = "cancelled"

    def equity(self):
        """Return cash and positions at the last prices."""
        return self.cash + sum(size * self.prices[name] for name, size in self.sizes.items())

    def stopped(self, name):
        """Return the size of the stops that rest behind a position."""
        side = -math.copysign(1.0, self.sizes[name])
        rest = [o for o in self.open_orders() if o["name"] == name and o["side"] == side]
        return sum(o["size"] - o["filled"] for o in rest if o["kind"] == "stop")


KINDS = {None: "market", bt.Order.Market: "market", bt.Order.Limit: "limit", bt.Order.Stop: "stop"}
# What goes wrong, in this sequence: the request never arrives, its answer does not, and a list or a
# number that is answered is wrong.
FAULTS = ("request", "answer", "wrong")


class FaultyStore(bt.BrokerBase):
    """Send requests to `exchange`, of which every `fault_every`-th goes wrong until `well_from`.

    Every tenth fill is never notified either.
    """

    capabilities = {"client_ids": True, "order_lists": True}
    params = (("exchange", None), ("fault_every", 10), ("well_from", math.inf))

    def start(self):
        self.exchange = self.p.exchange
        self.requests = self.faults = self.fills = self.lost_fills = 0
        self._news, self._known, self._reported = deque(), {}, defaultdict(int)
        self._account = None
        self._refresh()

    # -- requests --------------------------------------------------------------------------------

    def _request(self, act, wrong=None):
        """Carry out a request, or let it fail in the way whose turn it is."""
        self.requests += 1
        well = self.exchange.seconds >= self.p.well_from
        if well or self.requests % self.p.fault_every:
            return act()
        fault = FAULTS[self.faults % len(FAULTS)]
        self.faults += 1
        if fault == "request":
            raise TimeoutError("the request has not arrived")
        answer = act()
        if fault == "wrong" and wrong is not None:
            return wrong(answer)
        raise ConnectionError("the answer has not arrived")

    def _refresh(self):
        exchange = self.exchange
        self._account = exchange.cash, dict(exchange.sizes), exchange.equity()

    # -- account ---------------------------------------------------------------------------------

    def getcash(self):
        return self._request(lambda: self.exchange.cash, lambda cash: 0.5 * cash)

    def getvalue(self, datas=None):
        return self._request(self.exchange.equity, lambda value: 1.5 * value)

    def getposition(self, data, clone=True):
        size = self._request(lambda: self.exchange.sizes[data._name])
        return Position(size, self.exchange.prices[data._name])

    def get_orders_open(self):
        rows = self._request(self.exchange.open_orders, lambda rows: [])
        return [self._known[row["client_id"]] for row in rows]

    # -- orders ----------------------------------------------------------------------------------

    def buy(self, owner, data, size, **kwargs):
        return self._place(bt.order.BuyOrder, owner, data, size, **kwargs)

    def sell(self, owner, data, size, **kwargs):
        return self._place(bt.order.SellOrder, owner, data, size, **kwargs)

    def _place(
        self, kind, owner, data, size, client_id=None, price=None, exectype=None, tradeid=0, **rest
    ):
        order = kind(
            owner=owner, data=data, size=size, price=price, exectype=exectype, tradeid=tradeid
        )
        order.addinfo(client_id=client_id)
        order.addcomminfo(self.getcommissioninfo(data))
        order.submit(self)
        self._known[client_id] = order
        side = 1 if order.isbuy() else -1
        place = self.exchange.place
        args = client_id, data._name, side, float(size), KINDS[exectype], price
        row = self._request(lambda: place(*args))
        self._accept(order, row)
        return order

    def _accept(self, order, row):
        order.addinfo(venue_id=row["id"])
        order.accept(self)
        self._news.append(order.clone())

    def order_by_client_id(self, client_id):
        row = self._request(lambda: self.exchange.orders.get(client_id))
        if row is None:
            return None
        order = self._known[client_id]
        if order.status < order.Accepted:
            self._accept(order, row)
        return order

    def cancel(self, order):
        client_id = order.info.client_id
        self._request(lambda: self.exchange.cancel(client_id))

    def get_notification(self):
        return self._news.popleft() if self._news else None

    # -- what the store learns -------------------------------------------------------------------

    def next(self):
        for client_id, order in list(self._known.items()):
            row = self.exchange.orders.get(client_id)
            if row is None or not order.alive() or "venue_id" not in order.info:
                continue
            self._notify_fills(order, row)
            if row["status"] == "cancelled" and order.alive():
                order.cancel()
                self._news.append(order.clone())
            if not order.alive():
                del self._known[client_id]

    def _notify_fills(self, order, row):
        client_id = row["client_id"]
        for size, price in row["fills"][self._reported[client_id] :]:
            self._reported[client_id] += 1
            self.fills += 1
            well = self.exchange.seconds >= self.p.well_from
            if not well and self.fills % 10 == 0:
                self.lost_fills += 1
                continue
            signed = row["side"] * size
            order.execute(order.data.datetime[0], signed, price, *[0.0] * 7, 0.0, 0.0, price)
            self._news.append(order.clone())
