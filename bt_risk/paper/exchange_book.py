"""Keep the order book of small exchanges on loopback; the tests compare runs with it.

It has one symbol. Orders are the dicts of Binance spot; another protocol translates them. It
accepts a sale of more than is held, so that a flip shows as a negative position.
"""

from __future__ import annotations

import itertools
import time

__all__ = ["MINUTE", "STARTED", "SYMBOL", "Book"]

SYMBOL, MINUTE = "BTCUSDT", 60_000
STARTED = 1_704_067_200_000  # 2024-01-01


class Book:
    """Keep orders, fills, cash, the position, and the bars so far."""

    def __init__(self, bars, history):
        self.bars, self.shown = bars, history
        self.cash, self.position = 100_000.0, 0.0
        self.orders, self.numbers = {}, itertools.count(1)
        self.fills, self.guards, self.trouble = [], [], []
        self.market, self.partial, self.refuse = "next", None, 0
        self.start_clock(time.monotonic)

    def start_clock(self, clock):
        """Measure time by this clock from now on."""
        self.clock, self._since = clock, clock()
        self.held_for = self.unguarded_for = 0

    def pass_time(self):
        """Count the time since the last change: with a position, and with one without a stop.

        A stop guards a position as far as its size goes.
        """
        now = self.clock()
        passed, self._since = now - self._since, now
        if self.position:
            stops = [o for o in self.open() if o["type"].startswith("STOP")]
            resting = sum(float(o["origQty"]) - float(o["executedQty"]) for o in stops)
            self.held_for += passed
            self.unguarded_for += passed * (resting < self.position)

    @property
    def bar(self):
        """The newest bar."""
        return self.bars[self.shown - 1]

    def kline(self, number):
        """Return a bar as the exchange sends it."""
        o, h, low, c = self.bars[number]
        opened = STARTED + number * MINUTE
        texts = [str(float(price)) for price in (o, h, low, c)]
        return [opened, *texts, "1000", opened + MINUTE - 1, "0", 1, "0", "0", "0"]

    # -- orders ----------------------------------------------------------------------------------

    def place(self, asked):
        """Take an order; return it, or None and an error."""
        self.pass_time()
        client_id = asked["newClientOrderId"]
        if client_id in (o["clientOrderId"] for o in self.orders.values()):
            self.trouble.append(f"client id {client_id} twice")
            return None, (-2010, "Duplicate order sent.")
        kind, side = asked["type"], asked["side"]
        stop = float(asked.get("stopPrice", 0))
        if kind.startswith("STOP") and (stop - self.bar[3]) * (1 if side == "BUY" else -1) <= 0:
            return None, (-2010, "Stop price would trigger immediately.")
        if self.refuse and kind.startswith("STOP"):
            self.refuse -= 1
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
        """Cancel an order; return it, or None and an error."""
        self.pass_time()
        if order is None or order["status"] not in ("NEW", "PARTIALLY_FILLED"):
            return None, (-2011, "Unknown order sent.")
        order["status"] = "CANCELED"
        return order, None

    def find(self, asked):
        """Return the order that a request names, None where there is none."""
        if asked.get("origClientOrderId"):
            same = [
                o for o in self.orders.values() if o["clientOrderId"] == asked["origClientOrderId"]
            ]
            return same[0] if same else None
        return self.orders.get(int(asked.get("orderId", 0)))

    def open(self):
        """Return the orders that may still fill."""
        return [o for o in self.orders.values() if o["status"] in ("NEW", "PARTIALLY_FILLED")]

    def fill(self, order, price):
        """Fill an order, or the part of it that a test has asked for."""
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
        """Record what must never happen: more to sell than is held, or more stops than one."""
        stops = [o for o in self.open() if o["type"].startswith("STOP")]
        resting = sum(float(o["origQty"]) - float(o["executedQty"]) for o in stops)
        if self.position < 0:
            self.trouble.append(f"position {self.position} in bar {self.shown}")
        if len(stops) > 1:
            self.trouble.append(f"{len(stops)} stops in bar {self.shown}")
        if stops and all(o["status"] == "NEW" for o in stops) and resting > self.held_or_coming():
            self.trouble.append(f"stops of {resting}, {self.position} held in bar {self.shown}")

    def guard(self):
        """Return the position at the begin of a bar, with its stops and the exits on their way."""
        rows = {"STOP_LOSS": [], "MARKET": [], "LIMIT": []}
        for order in self.open():
            left = round(float(order["origQty"]) - float(order["executedQty"]), 8)
            sign = 1 if order["side"] == "BUY" else -1
            rows[order["type"]].append([sign * left, float(order["stopPrice"])])
        leaving = [size for size, _ in rows["MARKET"] if size < 0]
        return [self.shown, self.position, rows["STOP_LOSS"], leaving]

    def held_or_coming(self):
        """Return the position, and what a partly filled exit has just taken off it."""
        return max([self.position, *[f[2] + self.position for f in self.fills[-1:]]])

    def next_bar(self):
        """Show the next bar, and fill what it reaches: at the open first."""
        self.pass_time()
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
