"""Imitate a venue that goes on while the process that trades there ends: its book is in a file.

`PersistentBroker` is the broker that a good store would bring: after a restart it lists positions
and open orders. Every request and every fill changes the file before the call returns.
`PersistentFeed` repeats the bars from before the restart, and goes on.
"""

import datetime
import json
import os
from collections import deque
from pathlib import Path

import backtrader as bt
from backtrader.position import Position

from helpers.fake_broker import FakeBroker
from helpers.frames import PandasData


class PersistentBroker(FakeBroker):
    """Keep the book in `file`; with `reports`, report the fills from between two runs.

    `lists` says what it lists: ``"all"`` orders, those of this process (``"new"``), ``"none"`` of
    them (or ``"none once"``), or ``"error"`` and ``"no method"``. With other lists than all, it
    declares only what it `can`. The first `silent` answers to a question for a list or a position
    are errors, the first `no_list` answers to one for a list, and the first `forgets` positions are
    none.
    """

    capabilities = {"order_lists": True}
    params = (
        ("file", None),
        ("reports", False),
        ("lists", "all"),
        ("silent", 0),
        ("no_list", 0),
        ("forgets", 0),
        ("can", None),
    )

    def start(self):
        self._news = deque()
        self._accepted_at, self._cancelling = {}, set()
        self.sizes, self.resting = [], []
        self.book = read(self.p.file, self.p.cash)
        self.cash = self.book["cash"]
        self._working, self._positions, self._known = [], {}, False
        self._lists, self._no_list = self.p.lists, self.p.no_list
        self._before, self._silent, self._forgets = set(), self.p.silent, self.p.forgets
        if self.p.lists != "all" or self.p.can is not None:
            self.capabilities = self.p.can or {}
        if self.p.lists == "no method":
            self.get_orders_open = None

    def _load(self):
        """Load positions and open orders: the store has its data feeds by now."""
        self._known = True
        for data in self.cerebro.datas:
            held = self.book["positions"].get(data._name, [0, 0.0])
            self._positions[data] = Position(*held)
        names = [data._name for data in self.cerebro.datas]
        for row in [row for row in self.book["orders"] if row["data"] in names]:
            self._working.append(self._again(row))
            self._before.add(self._working[-1].ref)
        for row in self.book["reports"] if self.p.reports else ():
            order = self._again(row)
            order.execute(
                row["time"],
                row["left"],
                row["price_filled"],
                row["left"],
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            )
            self._news.append(order.clone())
        self.book["reports"] = []

    def _again(self, row):
        data = next(d for d in self.cerebro.datas if d._name == row["data"])
        kind = bt.order.BuyOrder if row["side"] > 0 else bt.order.SellOrder
        order = kind(
            owner=None,
            data=data,
            size=abs(row["left"]),
            price=row["price"],
            exectype=row["exectype"],
            simulated=True,
        )
        order.addinfo(venue_id=row["id"], client_id=row.get("client"))
        order.addcomminfo(self.getcommissioninfo(data))
        order.created.price = row["price"]
        order.submit(self)
        order.accept(self)
        return order

    # -- account ---------------------------------------------------------------------------------

    def getvalue(self, datas=None):
        """Return the value at the venue's own prices, whatever bars the feed repeats."""
        self._known or self._load()
        marks = self.book["marks"]
        return self.cash + sum(
            p.size * marks[d._name] for d, p in self._positions.items() if p.size
        )

    def _answer_or_raise(self):
        self._known or self._load()
        if self._silent:
            self._silent -= 1
            raise ConnectionError("not connected yet")

    def getposition(self, data, clone=True):
        self._answer_or_raise()
        if self._forgets:
            self._forgets -= 1
            return Position()
        return self._positions[data].clone()

    def get_orders_open(self):
        self._answer_or_raise()
        self._no_list -= 1
        if self._lists == "error" or self._no_list >= 0:
            raise ConnectionError("no list")
        new = [order for order in self._working if order.ref not in self._before]
        lists, self._lists = self._lists, "all" if self._lists == "none once" else self._lists
        return {"all": list(self._working), "new": new}.get(lists, [])

    def order_by_client_id(self, client_id):
        """Return the order that was sent with a client id, None for one that does not work."""
        self._answer_or_raise()
        ids = [order.info.get("client_id") for order in self._working]
        return self._working[ids.index(client_id)] if client_id in ids else None

    # -- orders ----------------------------------------------------------------------------------

    def buy(self, owner, data, size, client_id=None, **kwargs):
        self._client_id = client_id
        return super().buy(owner, data, size, **kwargs)

    def sell(self, owner, data, size, client_id=None, **kwargs):
        self._client_id = client_id
        return super().sell(owner, data, size, **kwargs)

    def _make(self, kind, owner, data, size, price, exectype, valid, tradeid):
        self._known or self._load()
        self._orders = self.book["number"]
        order = super()._make(kind, owner, data, size, price, exectype, valid, tradeid)
        order.addinfo(client_id=self._client_id)
        self.book["number"] = self._orders
        self._log("sent", order, price)
        return order

    def replace(self, order, size, price):
        """Move an order in one step; return whether it still works."""
        mine = next((one for one in self._working if one.ref == order.ref), None)
        if mine is None:
            return False
        signed = size if mine.isbuy() else -size
        mine.created.price = price
        mine.executed.remsize = mine.created.size = mine.size = signed
        self._log("replaced", mine, price)
        return True

    def cancel(self, order):
        if order in self._working or any(o.ref == order.ref for o in self._working):
            super().cancel(order)
            self._log("cancel", order, order.created.price)

    def _log(self, what, order, price):
        row = {
            "what": what,
            "id": order.info["venue_id"],
            "bar": self.book["clock"].get(order.data._name, 0),
            "data": order.data._name,
            "side": 1 if order.isbuy() else -1,
            "size": abs(order.size),
            "price": price,
            "exectype": order.exectype,
        }
        self.book["log"].append(row)
        self._save()

    def _save(self):
        self.book["cash"] = self.cash
        self.book["positions"] = {d._name: [p.size, p.price] for d, p in self._positions.items()}
        self.book["orders"] = [_row(o) for o in self._working if o.ref not in self._cancelling]
        write(self.p.file, self.book)

    # -- the venue's own time --------------------------------------------------------------------

    def next(self):
        self._known or self._load()
        clock = self.book["clock"]
        live = [d for d in self.cerebro.datas if len(d) and bar_of(d) > clock.get(d._name, 0)]
        for order in list(self._working):
            if order.status == order.Submitted:
                self._answer(order)
        for data in live:
            self._log_guard(data)
            for order in [o for o in self._working if o.data is data]:
                if order.alive():
                    self._try(order)
            self.book["marks"][data._name] = data.close[0]
            clock[data._name] = bar_of(data)
            row = {"what": "equity", "bar": bar_of(data), "equity": self.getvalue()}
            self.book["log"].append(row)
        for order in list(self._working):
            if order.ref in self._cancelling:
                self._end(order, order.cancel)
        stops = [o for o in self._working if o.exectype == bt.Order.Stop]
        self.resting.append(sum(o.executed.remsize for o in stops))
        if live:
            self._save()

    def _log_guard(self, data):
        working = [o for o in self._working if o.data is data]
        row = {"what": "guard", "bar": bar_of(data), "data": data._name}
        row["held"] = self._positions[data].size
        row["stops"] = [
            [o.executed.remsize, o.created.price]
            for o in working
            if o.exectype == bt.Order.Stop and o.ref not in self._cancelling
        ]
        row["leaving"] = [o.executed.remsize for o in working if o.exectype == bt.Order.Market]
        self.book["log"].append(row)

    def _answer(self, order):
        order.accept(self)
        self._notify(order)

    def _try(self, order):
        price = self._price(order)
        if price is None:
            return
        row = {"what": "filled", "id": order.info["venue_id"], "size": order.executed.remsize}
        before = len(self.sizes)
        super()._try(order)
        if len(self.sizes) > before:
            self.book["log"].append(
                row
                | {"price": price, "bar": bar_of(order.data), "exectype": order.exectype}
                | {"data": order.data._name}
            )


def bar_of(data):
    """Return the number of the current bar of a data feed."""
    return round(data.datetime[0] - bt.date2num(datetime.datetime(2020, 1, 1))) + 1


def _row(order):
    return {
        "id": order.info["venue_id"],
        "client": order.info.get("client_id"),
        "data": order.data._name,
        "side": 1 if order.isbuy() else -1,
        "left": order.executed.remsize,
        "price": order.created.price if order.exectype != bt.Order.Market else None,
        "exectype": order.exectype,
    }


def read(file, cash=100_000.0):
    """Return the book of the venue."""
    if Path(file).exists():
        return json.loads(Path(file).read_text())
    return {
        "cash": cash,
        "number": 0,
        "positions": {},
        "orders": [],
        "reports": [],
        "marks": {},
        "clock": {},
        "log": [],
    }


def write(file, book):
    """Replace the book of the venue in one step."""
    beside = Path(f"{file}.new")
    beside.write_text(json.dumps(book))
    os.replace(beside, file)


def meanwhile(file, name, rows, first):
    """Let the market go on between two runs: bars from `first` on fill what rests."""
    book = read(file)
    for number, (open_, high, low, close) in enumerate(rows, start=first):
        for row in list(book["orders"]):
            sign = row["side"]
            if row["exectype"] == bt.Order.Market:
                price = open_
            elif sign * ((high if sign > 0 else low) - row["price"]) >= 0:
                price = max(open_, row["price"]) if sign > 0 else min(open_, row["price"])
            else:
                continue
            size, paid = book["positions"].get(name, [0, 0.0])
            total = size + row["left"]
            book["cash"] -= row["left"] * price
            book["positions"][name] = [total, price if not size else paid if total else 0.0]
            book["orders"].remove(row)
            book["reports"].append(row | {"price_filled": price, "time": 0.0})
            filled = {"what": "filled", "id": row["id"], "size": row["left"], "price": price}
            filled["data"] = name
            book["log"].append(filled | {"bar": number, "exectype": row["exectype"]})
        book["marks"][name], book["clock"][name] = close, number
    write(file, book)


class PersistentFeed(PandasData):
    """Bring bars as a live feed does, with `idle` empty rounds after each new bar.

    The bars before `history` come at once, as a store backfills them; the first `skip` bars are too
    old for that.
    """

    params = (("idle", 2), ("history", 0), ("skip", 0))

    def islive(self):
        return True

    def start(self):
        super().start()
        self._wait = 0
        self._idx += self.p.skip

    def _load(self):
        if self._wait:
            self._wait -= 1
            return None
        if self._idx + 2 >= self.p.history:
            self._wait = self.p.idle
        return super()._load()
