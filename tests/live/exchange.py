"""A small exchange of our own on loopback: REST and WebSocket in the shape of Binance spot.

    python tests/live/exchange.py                  a random walk, a bar each second, port 8000
    python tests/live/exchange.py BARS.json        these bars when asked for; prints the port

One symbol and one order book, which is the oracle of the tests. Bars come when ``/control/next``
asks for one; ``/control/fault`` lets a request go wrong, ``/control/book`` shows everything.
Selling more than is held is allowed, so that a flip shows as a negative position.
"""

import asyncio
import itertools
import json
import random
import sys
from pathlib import Path

from aiohttp import web

SYMBOL, MINUTE = "BTCUSDT", 60_000
STARTED = 1_704_067_200_000  # 2024-01-01


class Book:
    """Orders, fills, cash and position, and the bars that have been."""

    def __init__(self, bars, history):
        self.bars, self.shown = bars, history
        self.cash, self.position = 100_000.0, 0.0
        self.orders, self.numbers = {}, itertools.count(1)
        self.fills, self.guards, self.trouble = [], [], []
        self.market, self.partial = "next", None

    @property
    def bar(self):
        return self.bars[self.shown - 1]

    def kline(self, number):
        o, h, low, c = self.bars[number]
        opened = STARTED + number * MINUTE
        texts = [str(float(price)) for price in (o, h, low, c)]
        return [opened, *texts, "1000", opened + MINUTE - 1, "0", 1, "0", "0", "0"]

    # -- orders ----------------------------------------------------------------------------------

    def place(self, asked):
        client_id = asked["newClientOrderId"]
        if client_id in (o["clientOrderId"] for o in self.orders.values()):
            self.trouble.append(f"client id {client_id} twice")
            return None, (-2010, "Duplicate order sent.")
        kind, side = asked["type"], asked["side"]
        stop = float(asked.get("stopPrice", 0))
        if kind.startswith("STOP") and (stop - self.bar[3]) * (1 if side == "BUY" else -1) <= 0:
            return None, (-2010, "Stop price would trigger immediately.")
        order = {
            "symbol": SYMBOL,
            "orderId": next(self.numbers),
            "clientOrderId": client_id,
            "side": side,
            "type": kind,
            "origQty": asked["quantity"],
            "executedQty": "0",
            "cummulativeQuoteQty": "0",
            "price": asked.get("price", "0"),
            "stopPrice": asked.get("stopPrice", "0"),
            "status": "NEW",
            "timeInForce": "GTC",
            "time": STARTED + self.shown * MINUTE,
            "transactTime": STARTED + self.shown * MINUTE,
            "updateTime": STARTED + self.shown * MINUTE,
        }
        self.orders[order["orderId"]] = order
        if kind == "MARKET" and self.market == "now":
            self.fill(order, self.bar[3])
        self.check()
        return order, None

    def cancel(self, order):
        if order is None or order["status"] not in ("NEW", "PARTIALLY_FILLED"):
            return None, (-2011, "Unknown order sent.")
        order["status"] = "CANCELED"
        return order, None

    def find(self, asked):
        if asked.get("origClientOrderId"):
            same = [
                o for o in self.orders.values() if o["clientOrderId"] == asked["origClientOrderId"]
            ]
            return same[0] if same else None
        return self.orders.get(int(asked.get("orderId", 0)))

    def open(self):
        return [o for o in self.orders.values() if o["status"] in ("NEW", "PARTIALLY_FILLED")]

    def fill(self, order, price):
        left = float(order["origQty"]) - float(order["executedQty"])
        size = left
        if self.partial and order["status"] == "NEW":
            size, self.partial = round(left * self.partial, 8), None
        sign = 1 if order["side"] == "BUY" else -1
        self.position = round(self.position + sign * size, 8)
        self.cash -= sign * size * price
        done = float(order["executedQty"]) + size
        order["executedQty"] = str(round(done, 8))
        order["cummulativeQuoteQty"] = str(float(order["cummulativeQuoteQty"]) + size * price)
        order["status"] = "FILLED" if size == left else "PARTIALLY_FILLED"
        self.fills.append([order["clientOrderId"], order["side"], size, price, self.shown])
        self.check()

    def check(self):
        """Look for what must never be: more to sell than is held, or more stops than one."""
        stops = [o for o in self.open() if o["type"].startswith("STOP")]
        resting = sum(float(o["origQty"]) - float(o["executedQty"]) for o in stops)
        if self.position < 0:
            self.trouble.append(f"position {self.position} in bar {self.shown}")
        if len(stops) > 1:
            self.trouble.append(f"{len(stops)} stops in bar {self.shown}")
        if stops and all(o["status"] == "NEW" for o in stops) and resting > self.held_or_coming():
            self.trouble.append(f"stops of {resting}, {self.position} held in bar {self.shown}")

    def guard(self):
        """Return what is held when a bar begins, and what rests or leaves behind it."""
        rows = {"STOP_LOSS": [], "MARKET": []}
        for order in self.open():
            left = round(float(order["origQty"]) - float(order["executedQty"]), 8)
            sign = 1 if order["side"] == "BUY" else -1
            rows[order["type"]].append([sign * left, float(order["stopPrice"])])
        leaving = [size for size, _ in rows["MARKET"] if size < 0]
        return [self.shown, self.position, rows["STOP_LOSS"], leaving]

    def held_or_coming(self):
        """Position, and what a partly filled exit has just taken off it."""
        return max([self.position, *[f[2] + self.position for f in self.fills[-1:]]])

    def next_bar(self):
        """Show the next bar, and fill what it reaches: at the open first."""
        self.guards.append(self.guard())
        self.shown += 1
        o, h, low, _ = self.bar
        for order in self.open():
            if order["type"] == "MARKET":
                self.fill(order, o)
        for order in self.open():
            stop, buys = float(order["stopPrice"]), order["side"] == "BUY"
            if order["type"].startswith("STOP") and (h >= stop if buys else low <= stop):
                self.fill(order, max(o, stop) if buys else min(o, stop))
            limit = float(order["price"])
            if order["type"] == "LIMIT" and (low <= limit if buys else h >= limit):
                self.fill(order, min(o, limit) if buys else max(o, limit))


class Exchange:
    """The routes, and the faults on the way to them."""

    def __init__(self, book):
        self.book, self.sockets = book, set()
        self.faults, self.requests, self.mutations = [], 0, 0

    def application(self):
        app = web.Application(middlewares=[self.faulty])
        for method, path, handler in [
            ("GET", "/api/v3/ping", self.ping),
            ("GET", "/api/v3/exchangeInfo", self.info),
            ("GET", "/api/v3/account", self.account),
            ("GET", "/api/v3/klines", self.klines),
            ("GET", "/api/v3/openOrders", self.open_orders),
            ("GET", "/api/v3/order", self.get_order),
            ("GET", "/api/v3/myTrades", self.trades),
            ("POST", "/api/v3/order", self.post_order),
            ("DELETE", "/api/v3/order", self.delete_order),
            ("GET", "/ws/{stream}", self.socket),
            ("POST", "/control/next", self.next),
            ("POST", "/control/fault", self.fault),
            ("POST", "/control/mend", self.mend),
            ("POST", "/control/set", self.set),
            ("GET", "/control/book", self.show),
        ]:
            app.router.add_route(method, path, handler)
        return app

    @web.middleware
    async def faulty(self, request, handler):
        """Let the request go wrong that a fault names: the n-th that changes something, or any."""
        if not request.path.startswith("/api"):
            return await handler(request)
        self.requests += 1
        changes = request.method in ("POST", "DELETE")
        self.mutations += changes
        for fault in list(self.faults):
            mine = changes if fault.get("changes", True) else True
            if not mine or (fault.get("at") and self.mutations != fault["at"]):
                continue
            fault["times"] = fault.get("times", 1) - 1
            if fault["times"] <= 0:
                self.faults.remove(fault)
            return await self.go_wrong(fault["kind"], request, handler)
        return await handler(request)

    async def go_wrong(self, kind, request, handler):
        if kind == "503":
            return web.json_response({"code": -1000, "msg": "Service unavailable"}, status=503)
        if kind == "latency":
            await asyncio.sleep(0.2)
            return await handler(request)
        if kind == "partial":
            self.book.partial = 0.4
            return await handler(request)
        if kind == "sockets":
            await self.drop_sockets()
            return await handler(request)
        if kind == "lost answer":
            await request.post()
            await handler(request)
        request.transport.close()  # "lost request", or the answer that nobody gets
        return web.Response()

    # -- REST ------------------------------------------------------------------------------------

    @staticmethod
    async def asked(request):
        return dict(request.query) | dict(await request.post())

    async def ping(self, request):
        return web.json_response({})

    async def info(self, request):
        price = {"minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.00000001"}
        size = {"minQty": "0.00001", "maxQty": "1000000", "stepSize": "0.00001"}
        filters = [{"filterType": "PRICE_FILTER"} | price, {"filterType": "LOT_SIZE"} | size]
        market = {
            "symbol": SYMBOL,
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "baseAssetPrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET", "STOP_LOSS"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": ["SPOT"],
            "filters": filters,
        }
        return web.json_response({"timezone": "UTC", "rateLimits": [], "symbols": [market]})

    async def account(self, request):
        rows = [("USDT", self.book.cash), ("BTC", self.book.position)]
        balances = [{"asset": a, "free": str(v), "locked": "0"} for a, v in rows]
        return web.json_response({"accountType": "SPOT", "balances": balances})

    async def klines(self, request):
        since = int(request.query.get("startTime", STARTED))
        first = max(0, -(-(since - STARTED) // MINUTE))
        return web.json_response([self.book.kline(n) for n in range(first, self.book.shown)])

    async def open_orders(self, request):
        return web.json_response(self.book.open())

    async def trades(self, request):
        rows = [
            {
                "symbol": SYMBOL,
                "id": number,
                "orderId": 0,
                "price": str(price),
                "qty": str(size),
                "quoteQty": str(size * price),
                "commission": "0",
                "commissionAsset": "USDT",
                "time": STARTED + bar * MINUTE,
                "isBuyer": side == "BUY",
                "isMaker": False,
                "isBestMatch": True,
            }
            for number, (_, side, size, price, bar) in enumerate(self.book.fills)
        ]
        return web.json_response(rows)

    async def get_order(self, request):
        order = self.book.find(await self.asked(request))
        return self.answer(order, (-2013, "Order does not exist."))

    async def post_order(self, request):
        return self.answer(*self.book.place(await self.asked(request)))

    async def delete_order(self, request):
        return self.answer(*self.book.cancel(self.book.find(await self.asked(request))))

    @staticmethod
    def answer(order, error=None):
        if order is None:
            return web.json_response({"code": error[0], "msg": error[1]}, status=400)
        return web.json_response(order)

    # -- WebSocket -------------------------------------------------------------------------------

    async def socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        async for _ in socket:
            pass
        self.sockets.discard(socket)
        return socket

    async def drop_sockets(self):
        for socket in list(self.sockets):
            await socket.close()

    # -- control ---------------------------------------------------------------------------------

    async def next(self, request):
        """Show the next bar; say whether there was one."""
        if self.book.shown >= len(self.book.bars):
            return web.json_response({"more": False})
        await self.advance()
        return web.json_response({"more": True})

    async def advance(self):
        self.book.next_bar()
        row = self.book.kline(self.book.shown - 1)
        k = dict(zip("tohlcv", row[:6], strict=True)) | {"x": True, "i": "1m"}
        for socket in list(self.sockets):
            if not socket.closed:
                await socket.send_json({"e": "kline", "s": SYMBOL, "k": k})

    async def fault(self, request):
        self.faults.append(await request.json())
        return web.json_response({})

    async def mend(self, request):
        self.faults.clear()
        return web.json_response({})

    async def set(self, request):
        for name, value in (await request.json()).items():
            setattr(self.book, name, value)
        return web.json_response({})

    async def show(self, request):
        book = self.book
        return web.json_response(
            {
                "cash": book.cash,
                "position": book.position,
                "open": book.open(),
                "orders": list(book.orders.values()),
                "fills": book.fills,
                "guards": book.guards,
                "trouble": book.trouble,
                "mutations": self.mutations,
                "requests": self.requests,
            }
        )


async def serve(exchange, port=0):
    runner = web.AppRunner(exchange.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    return runner


async def given_bars(path):
    """Serve the bars of a file until the pipe to this process closes."""
    asked = json.loads(Path(path).read_text(encoding="utf-8"))
    runner = await serve(Exchange(Book(asked["bars"], asked["history"])))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


async def demo():
    """Serve a random walk, a bar each second; market orders fill at once."""
    rng, price, bars = random.Random(1), 100.0, []
    for _ in range(100_000):
        opened, price = price, price * (1 + rng.gauss(0, 0.003))
        high, low = max(opened, price) * 1.001, min(opened, price) * 0.999
        bars.append([round(p, 2) for p in (opened, high, low, price)])
    exchange = Exchange(Book(bars, 200))
    exchange.book.market = "now"
    await serve(exchange, 8000)
    while True:
        await asyncio.sleep(1)
        await exchange.advance()


if __name__ == "__main__":
    asyncio.run(given_bars(sys.argv[1]) if len(sys.argv) > 1 else demo())
