"""Serve the exchange of this folder as OpenAlgo does: REST by POST, prices by WebSocket.

Market orders fill at once. For a listener a minute ends with the first price of the next one, so
each bar is sent as its four prices and, a minute later, its close again.
"""

import asyncio
import json

from aiohttp import web

from bt_risk.paper.exchange import Exchange
from bt_risk.paper.exchange_book import MINUTE

PLACE = "TCS", "NSE"
TICK = 0.05
KINDS = {"MARKET": "MARKET", "LIMIT": "LIMIT", "SL-M": "STOP_LOSS"}
STATUS = {"NEW": "open", "PARTIALLY_FILLED": "open", "FILLED": "complete", "CANCELED": "cancelled"}


class OpenAlgo(Exchange):
    """Serve the routes of OpenAlgo that its store uses.

    `late` says how long the order status of a filled stop stays open: ``"until cancelled"`` until
    a cancel of it has been refused, ``"forever"``, or None: not at all.
    """

    def __init__(self, book):
        super().__init__(book)
        book.market, book.late = "now", None
        self.listening, self.refused = asyncio.Event(), set()

    def routes(self):
        told = [
            ("history", self.history),
            ("funds", self.funds),
            ("placeorder", self.place),
            ("cancelorder", self.cancel),
            ("orderstatus", self.status),
            ("tradebook", self.tradebook),
        ]
        return [("POST", f"/api/v1/{name}", handler) for name, handler in told] + [
            ("GET", "/ws", self.socket)
        ]

    @staticmethod
    def changes(request):
        return request.path.endswith(("placeorder", "cancelorder"))

    @staticmethod
    def success(**more):
        return web.json_response({"status": "success", **more})

    @staticmethod
    def error(message):
        return web.json_response({"status": "error", "message": message}, status=400)

    # -- REST ------------------------------------------------------------------------------------

    async def history(self, request):
        rows = []
        for number in range(self.book.shown):
            opened, *prices = [float(told) for told in self.book.kline(number)[:6]]
            names = ("open", "high", "low", "close", "volume")
            rows.append({"timestamp": opened // 1000} | dict(zip(names, prices, strict=True)))
        return self.success(data=rows)

    async def funds(self, request):
        """Return cash, the cost of the position and its gain: together they are the equity."""
        book = self.book
        cost = self.cost()
        data = {
            "availablecash": f"{book.cash:.2f}",
            "collateral": "0.00",
            "m2mrealized": "0.00",
            "m2munrealized": f"{book.position * book.bar[3] - cost:.2f}",
            "utiliseddebits": f"{cost:.2f}",
        }
        return self.success(data=data)

    def cost(self):
        """Return what the position was bought for."""
        held = cost = 0.0
        for _, side, size, price, _ in self.book.fills:
            if side == "BUY":
                held, cost = held + size, cost + size * price
            else:
                held, cost = held - size, cost * (1 - size / held) if held > size else 0.0
        return cost

    async def place(self, request):
        asked = await request.json()
        if (asked["symbol"], asked["exchange"]) != PLACE or asked["pricetype"] not in KINDS:
            return self.error(f"no such order here: {asked}")
        trigger = float(asked.get("trigger_price", 0)) / TICK
        if abs(trigger - round(trigger)) > 1e-6:
            return self.error("Trigger price should be a multiple of the tick size")
        order, refusal = self.book.place(
            {
                "newClientOrderId": f"oa-{len(self.book.orders) + 1}",
                "type": KINDS[asked["pricetype"]],
                "side": asked["action"],
                "quantity": asked["quantity"],
                "price": asked.get("price", "0"),
                "stopPrice": asked.get("trigger_price", "0"),
            }
        )
        return self.error(refusal[1]) if order is None else self.success(orderid=self.name(order))

    @staticmethod
    def name(order):
        return f"2401010000{order['orderId']:04d}"

    def named(self, name):
        return self.book.orders.get(int(name[-4:]))

    async def cancel(self, request):
        name = (await request.json())["orderid"]
        order, refusal = self.book.cancel(self.named(name))
        if order is None:
            self.refused.add(name)
            return self.error(refusal[1])
        return self.success(orderid=name)

    def is_late(self, order):
        """Return whether the fill of this stop is not reported yet."""
        if self.book.late is None or order["type"] != "STOP_LOSS" or order["status"] != "FILLED":
            return False
        return self.book.late == "forever" or self.name(order) not in self.refused

    async def status(self, request):
        order = self.named((await request.json())["orderid"])
        word = STATUS[order["status"]]
        if self.is_late(order) or (word == "open" and order["type"] == "STOP_LOSS"):
            word = "trigger pending"
        data = {
            "orderid": self.name(order),
            "order_status": word,
            "action": order["side"],
            "symbol": PLACE[0],
            "exchange": PLACE[1],
            "quantity": order["origQty"],
            "price": float(order["price"]),
            "trigger_price": float(order["stopPrice"]),
        }
        return self.success(data=data)

    async def tradebook(self, request):
        by_client_id = {o["clientOrderId"]: o for o in self.book.orders.values()}
        rows = [
            {
                "orderid": self.name(by_client_id[client_id]),
                "action": side,
                "symbol": PLACE[0],
                "exchange": PLACE[1],
                "quantity": size,
                "average_price": price,
            }
            for client_id, side, size, price, _ in self.book.fills
            if not self.is_late(by_client_id[client_id])
        ]
        return self.success(data=rows)

    # -- WebSocket -------------------------------------------------------------------------------

    async def socket(self, request):
        """Accept a listener that names itself, and send prices once it has subscribed to them."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        known = False
        async for message in socket:
            said = json.loads(message.data)
            known |= said["action"] == "authenticate" and bool(said["api_key"])
            if (
                known
                and said["action"] == "subscribe"
                and (said["symbol"], said["exchange"]) == PLACE
            ):
                self.sockets.add(socket)
                self.listening.set()
        self.sockets.discard(socket)
        return socket

    async def advance(self):
        """Show the next bar as soon as a client listens."""
        await self.listening.wait()
        self.book.next_bar()
        opened, o, h, low, c = self.book.kline(self.book.shown - 1)[:5]
        times = [opened, opened + 20_000, opened + 40_000, opened + 59_000, opened + MINUTE]
        for time, price in zip(times, (o, h, low, c, c), strict=True):
            data = {"ltp": float(price), "timestamp": time}
            message = {"type": "market_data", "symbol": PLACE[0], "exchange": PLACE[1], "mode": 2}
            for socket in list(self.sockets):
                if not socket.closed:
                    await socket.send_json(message | {"data": data})
