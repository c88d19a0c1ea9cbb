"""Run a small exchange on loopback: REST and WebSocket in the format of Binance spot.

    python -m bt_risk.paper.exchange                  bundled prices, a bar each second, port 8000
    python -m bt_risk.paper.exchange BARS.json        these bars on request; prints the port

``/control/next`` shows the next bar, ``/control/fault`` makes a request fail, ``/control/book``
returns the whole book: `exchange_book.Book` is what the tests compare with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from aiohttp import web

from bt_risk.feeds.bundled import load_data
from bt_risk.paper.exchange_book import MINUTE, STARTED, SYMBOL, Book

__all__ = ["Exchange", "given_bars"]

# The bars of the bundled prices that are past when the exchange begins.
HISTORY = 200


class Exchange:
    """Serve the routes, and inject the faults that a test requests."""

    def __init__(self, book):
        self.book, self.sockets = book, set()
        self.faults, self.requests, self.mutations = [], 0, 0

    def application(self):
        """Return the application with all routes."""
        app = web.Application(middlewares=[self.faulty])
        for method, path, handler in self.routes() + self.controls():
            app.router.add_route(method, path, handler)
        return app

    def routes(self):
        """Return the routes of the exchange."""
        return [
            ("GET", "/api/v3/ping", self.ping),
            ("GET", "/api/v3/exchangeInfo", self.info),
            ("GET", "/api/v3/account", self.account),
            ("GET", "/api/v3/klines", self.klines),
            ("GET", "/api/v3/openOrders", self.open_orders),
            ("GET", "/api/v3/order", self.get_order),
            ("GET", "/api/v3/myTrades", self.trades),
            ("POST", "/api/v3/order", self.post_order),
            ("DELETE", "/api/v3/order", self.delete_order),
            ("POST", "/api/v3/order/cancelReplace", self.replace_order),
            ("GET", "/ws/{stream}", self.socket),
        ]

    def controls(self):
        """Return the routes that only a test uses."""
        return [
            ("POST", "/control/next", self.next),
            ("POST", "/control/fault", self.fault),
            ("POST", "/control/mend", self.mend),
            ("POST", "/control/set", self.set),
            ("GET", "/control/book", self.show),
        ]

    @staticmethod
    def changes(request):
        """Return whether a request changes something at the exchange."""
        return request.method in ("POST", "DELETE")

    @web.middleware
    async def faulty(self, request, handler):
        """Make the request fail that a fault names: the n-th that changes something, or any."""
        if not request.path.startswith("/api"):
            return await handler(request)
        self.requests += 1
        changes = self.changes(request)
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
        """Answer a request as a fault of this kind does."""
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
        """Return what a request asks for, in its query or its body."""
        return dict(request.query) | dict(await request.post())

    async def ping(self, request):
        """Answer that the exchange is there."""
        return web.json_response({})

    async def info(self, request):
        """Return the market and its filters."""
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
        """Return cash and position."""
        rows = [("USDT", self.book.cash), ("BTC", self.book.position)]
        balances = [{"asset": a, "free": str(v), "locked": "0"} for a, v in rows]
        return web.json_response({"accountType": "SPOT", "balances": balances})

    async def klines(self, request):
        """Return the bars so far."""
        since = int(request.query.get("startTime", STARTED))
        first = max(0, -(-(since - STARTED) // MINUTE))
        return web.json_response([self.book.kline(n) for n in range(first, self.book.shown)])

    async def open_orders(self, request):
        """Return the orders that may still fill."""
        return web.json_response(self.book.open())

    async def trades(self, request):
        """Return the fills so far."""
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
        """Return one order, by its id or client id."""
        order = self.book.find(await self.asked(request))
        return self.answer(order, (-2013, "Order does not exist."))

    async def post_order(self, request):
        """Place an order."""
        return self.answer(*self.book.place(await self.asked(request)))

    async def delete_order(self, request):
        """Cancel an order."""
        return self.answer(*self.book.cancel(self.book.find(await self.asked(request))))

    async def replace_order(self, request):
        """Cancel an order and place another, as Binance does in its mode STOP_ON_FAILURE.

        The body of an answer to a failure has both results: 400 where nothing was done, 409 where
        the order was cancelled and the new one refused.
        """
        asked = await self.asked(request)
        old, refused = self.book.cancel(self.book.find({"orderId": asked["cancelOrderId"]}))
        if old is None:
            return self.half(-2022, "failed", refused, "NOT_ATTEMPTED", None, status=400)
        new, refused = self.book.place(asked)
        if new is None:
            failed = {"code": refused[0], "msg": refused[1]}
            return self.half(-2021, "partially failed", old, "FAILURE", failed, status=409)
        answers = {"cancelResponse": old, "newOrderResponse": new}
        return web.json_response({"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS"} | answers)

    @staticmethod
    def half(code, what, old, result, new, status):
        """Answer that a replacement was not, or half, made."""
        cancelled = isinstance(old, dict)
        data = {
            "cancelResult": "SUCCESS" if cancelled else "FAILURE",
            "newOrderResult": result,
            "cancelResponse": old if cancelled else {"code": old[0], "msg": old[1]},
            "newOrderResponse": new,
        }
        body = {"code": code, "msg": f"Order cancel-replace {what}.", "data": data}
        return web.json_response(body, status=status)

    @staticmethod
    def answer(order, error=None):
        """Answer with an order, or with an error."""
        if order is None:
            return web.json_response({"code": error[0], "msg": error[1]}, status=400)
        return web.json_response(order)

    # -- WebSocket -------------------------------------------------------------------------------

    async def socket(self, request):
        """Hold a WebSocket that gets the bars."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        async for _ in socket:
            pass
        self.sockets.discard(socket)
        return socket

    async def drop_sockets(self):
        """Close every WebSocket."""
        for socket in list(self.sockets):
            await socket.close()

    # -- control ---------------------------------------------------------------------------------

    async def next(self, request):
        """Show the next bar; return whether there was one."""
        if self.book.shown >= len(self.book.bars):
            return web.json_response({"more": False})
        await self.advance()
        return web.json_response({"more": True})

    async def advance(self):
        """Show the next bar, and send it to every WebSocket."""
        self.book.next_bar()
        row = self.book.kline(self.book.shown - 1)
        k = dict(zip("tohlcv", row[:6], strict=True)) | {"x": True, "i": "1m"}
        for socket in list(self.sockets):
            if not socket.closed:
                await socket.send_json({"e": "kline", "s": SYMBOL, "k": k})

    async def fault(self, request):
        """Let a request fail from now on."""
        self.faults.append(await request.json())
        return web.json_response({})

    async def mend(self, request):
        """Forget all faults."""
        self.faults.clear()
        return web.json_response({})

    async def set(self, request):
        """Set attributes of the book."""
        for name, value in (await request.json()).items():
            setattr(self.book, name, value)
        return web.json_response({})

    async def show(self, request):
        """Return the whole book."""
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
                "held_for": book.held_for,
                "unguarded_for": book.unguarded_for,
                "mutations": self.mutations,
                "requests": self.requests,
            }
        )


async def serve(exchange, port=0):
    """Start to serve on a port, which is printed; 0: any free one."""
    runner = web.AppRunner(exchange.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    return runner


async def given_bars(path, kind=Exchange):
    """Serve the bars of a file until the pipe to this process closes."""
    asked = json.loads(Path(path).read_text(encoding="utf-8"))
    exchange = kind(Book(asked["bars"], asked["history"]))
    exchange.book.start_clock(lambda: exchange.requests)  # a bar takes as long as a test needs
    runner = await serve(exchange)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


async def bundled_bars(speed, count, port):
    """Serve bundled prices, `speed` bars a second from the first listener on.

    Market orders fill at once.
    After `count` bars a line is printed, and the exchange goes on without new ones.
    """
    prices = load_data("btcusd_1h")[["open", "high", "low", "close"]].round(2)
    exchange = Exchange(Book(prices.to_numpy().tolist(), HISTORY))
    exchange.book.market = "now"
    await serve(exchange, port)
    while not exchange.sockets:  # nobody would see the bars
        await asyncio.sleep(0.05)
    while exchange.book.shown < min(len(prices), HISTORY + count):
        await asyncio.sleep(1.0 / speed)
        await exchange.advance()
    print("the prices have ended", flush=True)
    await asyncio.Event().wait()


def main():
    """Run the exchange that the command line asks for, until it is killed."""
    parser = argparse.ArgumentParser(description="A small exchange on loopback.")
    parser.add_argument("bars", nargs="?", help="a JSON file of bars, shown on request")
    parser.add_argument("--speed", type=float, default=1.0, help="bundled bars a second")
    parser.add_argument("--count", type=int, default=1_000_000, help="of bundled bars")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args()
    if asked.bars:
        asyncio.run(given_bars(asked.bars))
    else:
        asyncio.run(bundled_bars(asked.speed, asked.count, asked.port))


if __name__ == "__main__":
    main()
