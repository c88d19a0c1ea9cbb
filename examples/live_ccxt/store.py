"""A Backtrader store on ccxt, small enough to read: one spot market, bars by WebSocket.

Start from it for a store of your own. It is made for Binance and exchanges with the same interface.
It has all that bt_risk can use of a store: client ids, a query for the state of an order, every
fill once, positions and open orders after a restart, DISCONNECTED when the connection drops, and
the missed bars after that.
"""

import asyncio
import contextlib
import logging
import queue
import re
import threading
import time
from collections import deque
from uuid import uuid4

import aiohttp
import backtrader as bt
import ccxt

log = logging.getLogger("live_ccxt")
TYPES = {None: "market", bt.Order.Market: "market", bt.Order.Limit: "limit"}
EPOCH, MILLISECONDS = 719_163.0, 86_400_000.0  # 1970 in Backtrader's days, and one day
LOST = ccxt.OperationFailed  # no answer: network, timeout, 503
REPLACED = re.compile(r"(.*?)(?:-r(\d+))?$")  # a client id, and how often its order was replaced


class Store:
    """The connection: a ccxt client for requests, a thread with a WebSocket for bars."""

    def __init__(self, client, symbol, ws_url, timeframe="1m"):
        self.client, self.symbol, self.timeframe = client, symbol, timeframe
        self.ws_url = f"{ws_url}/{symbol.replace('/', '').lower()}@kline_{timeframe}"
        self.messages, self._woken = queue.Queue(), threading.Event()
        self._loop = self._thread = None

    def start(self):
        self.client.load_markets()
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._listen())
        self._thread = threading.Thread(target=self._run, name="live_ccxt bars", daemon=True)
        self._thread.start()

    def wake(self):
        """Let a data feed that waits for a bar return: an order has news."""
        if not self._woken.is_set():
            self._woken.set()
            self.messages.put(("wake", None))

    def next_message(self, timeout):
        """Return the next message, waiting for it; None where none comes."""
        try:
            message = self.messages.get(timeout=timeout)
        except queue.Empty:
            return None, None
        if message[0] == "wake":
            self._woken.clear()
        return message

    def stop(self):
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(5)
            self._thread = None

    def _run(self):
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _listen(self):
        """Put closed bars in the queue; report a connection that drops, and open it again."""
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.ws_connect(self.ws_url) as socket:
                        self.messages.put(("up", None))
                        async for message in socket:
                            k = message.json()["k"]
                            if k["x"]:
                                prices = [float(k[name]) for name in "ohlcv"]
                                self.messages.put(("bar", [int(k["t"]), *prices]))
                except (aiohttp.ClientError, OSError) as error:
                    log.warning("bars: %s", error)
                self.messages.put(("down", None))
                await asyncio.sleep(0.05)


class Data(bt.feed.DataBase):
    """The bars of the store's market: first those of the past, then new ones."""

    params = (("store", None), ("qcheck", 0.5))

    def start(self):
        super().start()
        self.store = self.p.store
        self._bars, self._newest = deque(), -1
        self._fetch()
        self.put_notification(self.DELAYED)

    def islive(self):
        return True

    def haslivedata(self):
        return bool(self._bars)

    def _fetch(self):
        """Fetch the bars that have closed since the last one; return whether that worked."""
        store = self.store
        since = self._newest + 1 if self._newest >= 0 else None
        try:
            rows = store.client.fetch_ohlcv(store.symbol, store.timeframe, since=since, limit=1000)
        except LOST as error:
            log.warning("history: %s", error)
            return False
        self._bars.extend(row for row in rows if row[0] > self._newest)
        return True

    def _load(self):
        if not self._bars:
            self._listen()
        if not self._bars:
            return None
        opened, *prices = self._bars.popleft()
        if opened <= self._newest:
            return None  # it was in the history
        self._newest = opened
        self.lines.datetime[0] = EPOCH + opened / MILLISECONDS
        names = ("open", "high", "low", "close", "volume")
        for name, price in zip(names, prices, strict=True):
            getattr(self.lines, name)[0] = price
        self.lines.openinterest[0] = 0.0
        return True

    def _listen(self):
        what, row = self.store.next_message(self._qcheck or 0.001)
        if what == "bar":
            self._bars.append(row)
        elif what == "down":
            self.put_notification(self.DISCONNECTED)
        elif what == "up" and self._fetch():
            self.put_notification(self.LIVE)
        elif what == "up":
            self.store.messages.put(("up", None))


class Broker(bt.BrokerBase):
    """The orders and the account of the store's market, polled at most once in `poll` seconds."""

    params = (("store", None), ("data", None), ("poll", 1.0))
    capabilities = {"client_ids": True, "trailing": False, "oco": False, "brackets": False}
    capabilities |= {"replace": True}  # `replace` moves a resting order in one request
    capabilities |= {"order_lists": True}  # `get_orders_open` has those of an earlier process, too

    def start(self):
        super().start()
        self.client, self.symbol = self.p.store.client, self.p.store.symbol
        self._notifications, self._working, self._by_client_id = deque(), {}, {}
        self._polled, self._stale = 0.0, True
        self.position = bt.position.Position()
        rows = self._read_account()
        base = self.client.market(self.symbol)["base"]
        held = self._balance["total"].get(base, 0.0)
        if held:
            self.position.update(held, self._entry_price(held))
        for row in rows:
            self._adopt(row)

    # -- account ---------------------------------------------------------------------------------

    def _read_account(self):
        """Read the balance, and return the open orders of that moment."""
        rows = self.client.fetch_open_orders(self.symbol)
        while True:
            self._refresh()
            before = [(row["id"], row["filled"]) for row in rows]
            rows = self.client.fetch_open_orders(self.symbol)
            if [(row["id"], row["filled"]) for row in rows] == before:
                return rows

    def _refresh(self, balance=None):
        self._balance = balance or self.client.fetch_balance()
        quote = self.client.market(self.symbol)["quote"]
        self.cash, self._stale = self._balance["total"].get(quote, 0.0), False

    def _entry_price(self, held):
        """Return the average price of the last buys that make up the position."""
        left, cost = held, 0.0
        for trade in reversed(self.client.fetch_my_trades(self.symbol)):
            if trade["side"] == "buy" and left > 1e-12:
                size = min(left, trade["amount"])
                left, cost = left - size, cost + size * trade["price"]
        return cost / (held - left) if held > left else self.p.data.close[0]

    def getcash(self):
        return self.cash

    def getvalue(self, datas=None):
        """Return the account value; with `datas` that of the position, for ``order_target_*``."""
        price = self.p.data.close[0] if len(self.p.data) else self.position.price
        held = self.position.size * price
        return held if datas else self.cash + held

    def getposition(self, data, clone=True):
        return self.position.clone() if clone else self.position

    # -- orders ----------------------------------------------------------------------------------

    def buy(self, owner, data, size, client_id=None, **kwargs):
        return self._place(bt.order.BuyOrder, owner, data, size, client_id, **kwargs)

    def sell(self, owner, data, size, client_id=None, **kwargs):
        return self._place(bt.order.SellOrder, owner, data, size, client_id, **kwargs)

    def _place(self, kind, owner, data, size, client_id, price=None, exectype=None, **kwargs):
        tradeid = kwargs.get("tradeid", 0)
        size = float(self.client.amount_to_precision(self.symbol, size))  # as the venue requires
        order = kind(
            owner=owner, data=data, size=size, price=price, exectype=exectype, tradeid=tradeid
        )
        self._register(order, client_id or uuid4().hex[:24])
        stops = exectype == bt.Order.Stop
        params = {"clientOrderId": order.info.client_id}
        if stops:
            params["stopPrice"] = self.client.price_to_precision(self.symbol, price)
        name = TYPES.get(exectype, "STOP_LOSS")
        limit = price if name == "limit" else None
        order.submit(self)
        self._notify(order)
        side = "buy" if order.isbuy() else "sell"
        try:
            row = self.client.create_order(self.symbol, name, side, size, limit, params)
        except ccxt.ExchangeError as error:
            if isinstance(error, LOST):
                raise
            order.addinfo(error=str(error))
            order.reject(self)
            self._notify(order)
            return order
        self._accepted(order, row)
        return order

    def _register(self, order, client_id):
        order.addinfo(client_id=client_id)
        order.addcomminfo(self.getcommissioninfo(order.data))
        self._by_client_id[client_id] = order
        if len(self._by_client_id) > 2000:  # those that ended long ago are not needed
            for known, one in list(self._by_client_id.items())[:1000]:
                if not one.alive():
                    del self._by_client_id[known]

    def _accepted(self, order, row):
        order.addinfo(venue_id=row["id"])
        self._working[row["id"]] = order
        order.accept(self)
        self._notify(order)
        self._update(order, row)

    def _adopt(self, row):
        """Return an order that an earlier process has sent: its fills are in the position."""
        kind = bt.order.BuyOrder if row["side"] == "buy" else bt.order.SellOrder
        stop = row.get("triggerPrice") or row.get("stopPrice")
        price = stop or row["price"]
        exectype = bt.Order.Stop if stop else bt.Order.Limit if price else bt.Order.Market
        before = row.get("filled") or 0.0
        size = row["amount"] - before if row["status"] == "open" else row["amount"]
        order = kind(data=self.p.data, size=size, price=price, exectype=exectype, simulated=True)
        client_id, number = REPLACED.match(row["clientOrderId"]).groups()
        self._register(order, client_id)
        order.addinfo(replaced=int(number or 0), before=before, cost=row["cost"] if before else 0.0)
        if row["status"] == "open":
            self._accepted(order, row)
            return order
        order.addinfo(venue_id=row["id"])
        order.submit(self)
        order.completed() if row["status"] == "closed" else order.cancel()
        return order

    def order_by_client_id(self, client_id):
        """Return the order with a client id, or None if the venue has none."""
        order = self._by_client_id.get(client_id)
        if order is None or "venue_id" not in order.info:
            params = {"origClientOrderId": client_id}
            try:
                row = self.client.fetch_order(None, self.symbol, params)
            except ccxt.OrderNotFound:
                return None
            if order is None:
                return self._adopt(row)
            self._accepted(order, row)
        return order

    def get_orders_open(self):
        """Return the orders that may still fill, also those of an earlier process."""
        return [order for order in self._working.values() if order.alive()]

    def cancel(self, order):
        self._was_replaced(order)
        try:
            row = self.client.cancel_order(order.info.venue_id, self.symbol)
        except ccxt.OrderNotFound:
            log.info("cancel: %s has ended already", order.info.client_id)
        else:
            self._update(order, row)

    def replace(self, order, size, price):
        """Give a resting order another size and price in one request; return whether it has them.

        The venue cancels it and places another one. That has the client id of the first with a
        number, so that it is found again after a lost answer and after a restart.
        """
        client, symbol, number = self.client, self.symbol, order.info.get("replaced", 0) + 1
        size = float(client.amount_to_precision(symbol, size))
        name = TYPES.get(order.exectype, "STOP_LOSS")
        params = {"clientOrderId": f"{order.info.client_id}-r{number}"}
        if name != "limit":
            params["stopPrice"] = client.price_to_precision(symbol, price)
        side, limit = "buy" if order.isbuy() else "sell", price if name == "limit" else None
        asked = order.info.venue_id, symbol, name, side, size, limit, params
        order.addinfo(replaced=number, replacing=(params["clientOrderId"], size, price))
        try:
            # It is what edit_order() does, which leaves out the fills of the cancelled order.
            answer = client.private_post_order_cancelreplace(client.edit_spot_order_request(*asked))
        except LOST:  # an answer may be lost; one that reports a failure is of this class, too
            return self._was_replaced(order)
        old, new = (client.parse_order(answer[k]) for k in ("cancelResponse", "newOrderResponse"))
        self._book_fills(order, old)
        self._goes_on_as(order, new)
        return True

    def _was_replaced(self, order):
        """Return whether a replacement without an answer was made; go on with it then."""
        if not order.info.get("replacing"):
            return False
        try:
            params = {"origClientOrderId": order.info.replacing[0]}
            new = self.client.fetch_order(None, self.symbol, params)
        except ccxt.OrderNotFound:
            return False
        self._book_fills(order, self.client.fetch_order(order.info.venue_id, self.symbol))
        self._goes_on_as(order, new)
        return True

    def _goes_on_as(self, order, row):
        """Let an order be the one that the venue has placed instead of it."""
        _, size, price = order.info.replacing
        self._working.pop(order.info.venue_id, None)
        self._working[row["id"]] = order
        before = -abs(order.executed.size)  # what it has filled is in no row from now on
        order.addinfo(venue_id=row["id"], replacing=None, before=before, cost=0.0)
        order.size = order.created.size = order.executed.remsize = size if order.isbuy() else -size
        order.created.price = price
        self._update(order, row)

    def get_notification(self):
        return self._notifications.popleft() if self._notifications else None

    def _notify(self, order):
        self._notifications.append(order.clone())
        self.p.store.wake()

    # -- fills and ends --------------------------------------------------------------------------

    def next(self):
        if (not self._working and not self._stale) or time.monotonic() - self._polled < self.p.poll:
            return
        if self._notifications:
            return  # a fill is acted upon first: a request for the balance may take long
        self._polled = time.monotonic()
        try:
            # Before the orders: what fills in between is in the position then, and not in the cash.
            balance, self._stale = self.client.fetch_balance() if self._stale else None, False
            open_rows = {row["id"]: row for row in self.client.fetch_open_orders(self.symbol)}
            for venue_id, order in list(self._working.items()):
                row = open_rows.get(venue_id)
                self._update(order, row or self.client.fetch_order(venue_id, self.symbol))
            if balance and not self._stale:
                self._refresh(balance)
        except LOST as error:
            self._stale = True
            log.warning("orders: %s", error)

    def _update(self, order, row):
        """Book the new fills of an order, and its end."""
        self._book_fills(order, row)
        if row["status"] in ("canceled", "expired", "rejected") and order.alive():
            if self._was_replaced(order):
                return
            order.cancel()
            self._notify(order)
        if not order.alive():
            self._working.pop(row["id"], None)

    def _book_fills(self, order, row):
        size = (row.get("filled") or 0.0) - order.info.get("before", 0.0) - abs(order.executed.size)
        if size > 1e-12:
            cost = row["cost"] - order.info.get("cost", 0.0)
            order.addinfo(cost=row["cost"])
            self._fill(order, size if order.isbuy() else -size, cost / size)

    def _fill(self, order, size, price):
        info, before = self.getcommissioninfo(order.data), self.position.price
        held, average, opened, closed = self.position.update(size, price)
        if abs(held) < 1e-9:  # 0.3 - 0.2 - 0.1 is not zero
            self.position.set(0.0, 0.0)
        now = order.data.datetime[0] if len(order.data) else 0.0
        fees = [info.getcommission(part, price) for part in (closed, opened)]
        pnl = info.profitandloss(-closed, before, price)
        closing = (closed, abs(closed) * before, fees[0])
        opening = (opened, abs(opened) * price, fees[1])
        self.cash -= size * price + sum(fees)  # an estimate until the next refresh
        order.execute(now, size, price, *closing, *opening, 0.0, pnl, held, average)
        self._notify(order)
        self._stale = True
