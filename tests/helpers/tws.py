"""Imitate TWS on loopback: its wire protocol at server version 157, and a market to trade on.

It runs on the event loop of the test, so nothing happens while the test does not let the loop run,
and no test depends on time. Bars are ``(open, high, low, close)``, one minute each.
"""

import asyncio
import itertools
import math
import struct
import time
from functools import partial

VERSION = "157"
ACCOUNT, BASE = "DU1", "USD"
START = 1_700_000_040  # a whole minute
UNSET = ("", 1.7976931348623157e308)
# conId, symbol, type, currency, exchange, minTick, multiplier
CONTRACTS = {
    1: ("AAA", "STK", "USD", "SMART", 0.01, ""),
    2: ("FUT", "FUT", "USD", "CME", 0.25, "50"),
    3: ("EEE", "STK", "EUR", "SMART", 0.05, ""),
}
ENDED = ("Filled", "Cancelled")
# The fields of a placeOrder request, counted from the contract on.
PLACED = (
    "conId symbol secType expiry strike right mult exchange primary currency local class "
    "secIdType secId action quantity type limit aux tif oca account openClose origin ref "
    "transmit parent "
)
# The fields of an openOrder message behind the contract; those without a meaning here have a dot.
LISTED = (
    "action quantity type limit aux tif oca account . . ref client perm . . . . . . . . . . . "
    ". . . . . . . . . . . . . . . . . oca_type . . . parent . . . . . . . . percent . . . "
    "legs leg_prices params . . . . . . . . delta_neutral . . . status . . . . . . . . . . . "
    ". . . . . conditions . . . . . . . . . . . . . . . . "
)
COUNTS = ("legs", "leg_prices", "params", "delta_neutral", "conditions")
TRAILING_PERCENT = 69  # its place in a placeOrder request


class Order:
    """One order at the venue."""

    def __init__(self, order_id, client_id, perm_id, fields):
        self.order_id, self.client_id, self.perm_id = order_id, client_id, perm_id
        self.status, self.filled, self.spent, self.number = "PreSubmitted", 0.0, 0.0, 0
        self.take(fields)
        self.moves = 0

    def take(self, fields):
        for name in ("action", "type", "tif", "oca", "ref"):
            setattr(self, name, fields[name])
        self.con_id = int(fields["conId"])
        self.quantity = float(fields["quantity"])
        self.limit, self.aux = _price(fields["limit"]), _price(fields["aux"])
        self.parent, self.transmit = int(fields["parent"] or 0), fields["transmit"] == "1"
        self.percent, self.best = fields.get("percent", math.nan), math.nan

    @property
    def side(self):
        return 1 if self.action == "BUY" else -1

    @property
    def left(self):
        return self.quantity - self.filled

    @property
    def alive(self):
        return self.status not in ENDED


class TWS:
    """Serve clients, and keep the account: the oracle of the tests.

    Faults, each by the number of the order as the venue has received it:

    reject, warn : dict of int to (code, text)
        Refuse an order; send a warning behind its acknowledgement.
    parts : dict of int to list of float
        Fill these sizes first, one with each bar.
    cancel_answers : dict of int to int
        Answer a cancel with this error code and leave the order as it is.
    modify_answers : dict of int to int
        Answer a modify with this error code and leave the order as it is.
    lose : set of int
        Never receive these orders.
    deaf_to_cancels : set of int
        Ignore the cancels of these orders.
    order_of : {"execution", "status", "position"}
        Which message of a fill is sent first.
    margin_rate : float
        Maintenance margin as a fraction of what the positions are worth.
    silent_lists, silent_account, no_fees : bool
        List orders without their status; report the account once only; send no commission.
    hidden : dict of int to int
        Leave orders out of so many lists.
    forgetful : int
        Leave the newest execution out of so many answers.
    drops : dict of int to {"request", "answer"}
        Drop every connection with this request: before it is received, or before it is answered.
    late_executions : bool
        Send no execution with the fill: it is in the answer to reqExecutions only.
    """

    def __init__(self, rows, history, cash=100_000.0, con_ids=(1,)):
        self.rows, self.shown = {one: list(rows) for one in con_ids}, history
        self.cash, self.positions, self.costs = cash, {}, {}
        self.orders, self.executions, self.fees, self.seen = {}, [], {}, []
        self.log, self.trouble, self.clients, self.feeds = [], [], [], {}
        self.reject, self.warn, self.parts, self.lose = {}, {}, {}, set()
        self.cancel_answers, self.modify_answers = {}, {}
        self.deaf_to_cancels, self.order_of, self.late_executions = set(), "status", False
        self.connected_to_ib, self.refuses = True, False
        self.received, self.drops, self.forgetful, self._asked = 0, {}, 0, {}
        self.silent_lists, self.hidden, self.no_fees = False, {}, False
        self.silent_account, self.margin_rate = False, 0.25
        self.accounts, self.durations, self.no_history = ACCOUNT, [], 0
        self._perm, self._exec, self._next_id = itertools.count(9001), itertools.count(1), 1

    # -- the line --------------------------------------------------------------------------------

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.control = await asyncio.start_server(self._obey, "127.0.0.1", 0)
        self.control_port = self.control.sockets[0].getsockname()[1]

    def stop(self):
        self.server.close()
        self.control.close()
        self.drop()

    def drop(self):
        """Close every connection."""
        for client in list(self.clients):
            client.writer.close()
        self.clients.clear()
        self.feeds.clear()

    async def _serve(self, reader, writer):
        if self.refuses:
            writer.close()
            return
        client = Client(writer)
        self.clients.append(client)
        try:
            await reader.readexactly(4)  # API and a zero
            await _message(reader)
            client.send(VERSION, "20240101 00:00:00 UTC")
            while True:
                fields = await _message(reader)
                self.received += 1
                fault = self.drops.get(self.received)
                if fault is not None:
                    self.drop()
                if fault != "request":
                    getattr(self, f"_on_{fields[0]}")(client, fields[1:])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            if client in self.clients:
                self.clients.remove(client)

    async def _obey(self, reader, writer):
        """Show one more bar for each byte from the process of a test."""
        while await reader.read(1):
            writer.write(b"1" if self.next_bar() else b"0")
        writer.close()

    def error(self, request, code, text=""):
        for client in self.clients:
            client.send(4, 2, request, code, text)

    # -- requests --------------------------------------------------------------------------------

    def _on_71(self, client, fields):
        client.number = int(fields[1])
        client.send(15, 1, self.accounts)
        client.send(9, 1, self._next_id)

    def _on_61(self, client, fields):
        for con_id in self.positions:
            self._send_position(client, con_id)
        client.send(62, 1)

    def _on_6(self, client, fields):
        self._send_account(client, first=True)
        client.send(54, 1, ACCOUNT)

    def _on_62(self, client, fields):
        client.send(64, 1, fields[1])

    def _on_5(self, client, fields):
        self._list(client, [o for o in self.orders.values() if o.client_id == client.number])

    def _on_16(self, client, fields):
        self._list(client, self.orders.values())

    def _list(self, client, orders):
        self.log.append("list")
        for order in orders:
            hidden = self.hidden.get(order.number, 0)
            if hidden:
                self.hidden[order.number] = hidden - 1
            elif order.alive:
                self._send_order(client, order, silent=self.silent_lists)
        client.send(53, 1)

    def _on_7(self, client, fields):
        request, rows = fields[1], self.executions
        if rows:
            self._asked[rows[-1][1]] = asked = self._asked.get(rows[-1][1], 0) + 1
            rows = rows[: len(rows) - (asked <= self.forgetful)]
        for row in rows:
            self._send_execution(client, row, request)
        for row in rows:
            self._send_fee(client, row)
        client.send(55, 1, request)

    def _on_9(self, client, fields):
        request, con_id, symbol = fields[1], int(fields[2]), fields[3]
        for number, (name, kind, currency, exchange, tick, mult) in CONTRACTS.items():
            if number == con_id or (not con_id and name == symbol):
                row = (10, 8, request, name, kind, "", 0.0, "", exchange, currency, name, name)
                row += (name, number, tick, "", mult, "", "", 1, 0, name, "", "", "", "", "", "")
                client.send(*row, "", "", "", "", 0, 0, "", "", "", "", "")
        client.send(52, 1, request)

    def _on_20(self, client, fields):
        request, con_id = fields[0], int(fields[1])
        self.durations.append(fields[16])
        self.no_history -= 1
        if not self.connected_to_ib or self.no_history >= 0:
            client.send(4, 2, request, 162, "HMDS server disconnect occurred")
            return
        rows = self.rows[con_id][: self.shown + 1]
        self.feeds[request] = client, con_id
        bars = [self._bar(k, row if k < self.shown else row[:1] * 4) for k, row in enumerate(rows)]
        client.send(17, request, "", "", len(bars), *itertools.chain(*bars))

    def _on_25(self, client, fields):
        self.feeds.pop(fields[1], None)

    def end_bars(self, code):
        """Report an error of each subscription; a code of a warning ends none."""
        for request, (client, _) in list(self.feeds.items()):
            client.send(4, 2, request, code, "of the bars")

    def _bar(self, k, row):
        first, high, low, close = row
        return START + 60 * k, first, high, low, close, 1000, close, 10

    # -- orders ----------------------------------------------------------------------------------

    def _on_3(self, client, fields):
        order_id, given = int(fields[0]), dict(zip(PLACED.split(), fields[1:], strict=False))
        given["percent"] = _trailing(fields)
        known = self.orders.get((client.number, order_id))
        if known is not None:
            self._modify(client, known, given)
            return
        self.seen.append(given["ref"])
        number = len(self.seen)
        self._next_id = max(self._next_id, order_id + 1)
        if given["ref"] in self.seen[:-1]:
            self.trouble.append(f"{given['ref']} was sent twice")
        if number in self.lose:
            return
        if number in self.reject:
            client.send(4, 2, order_id, *self.reject[number])
            return
        order = Order(order_id, client.number, next(self._perm), given)
        order.number = number
        self.orders[client.number, order_id] = order
        self.log.append(f"place {number}")
        self._send_order(client, order)
        if number in self.warn:
            client.send(4, 2, order_id, *self.warn[number])
        family = [o for o in self.orders.values() if o.order_id == order.parent]
        for one in [*family, order]:
            self._match(one, self._now(one.con_id))

    def _modify(self, client, order, given):
        number = order.number
        if not order.alive:
            client.send(4, 2, order.order_id, 104, "Cannot modify a filled order")
        elif number in self.modify_answers:
            client.send(4, 2, order.order_id, self.modify_answers[number], "not now")
        else:
            moved = float(given["quantity"]), _price(given["limit"]), _price(given["aux"])
            order.quantity, order.limit, order.aux = moved
            order.moves += 1
            self.log.append(f"modify {number}")
            self._send_order(client, order)
            self._match(order, self._now(order.con_id))

    def _on_4(self, client, fields):
        order = self.orders.get((client.number, int(fields[1])))
        if order is None:
            self.log.append("cancel None")
            client.send(4, 2, fields[1], 10147, "OrderId that needs to be cancelled is not found.")
            return
        self.log.append(f"cancel {order.number}")
        if order.number in self.deaf_to_cancels:
            return
        if order.number in self.cancel_answers:
            client.send(4, 2, order.order_id, self.cancel_answers[order.number], "not cancellable")
        elif not order.alive:
            text = f"OrderId {order.order_id} cannot be cancelled, state: {order.status}."
            client.send(4, 2, order.order_id, 10148, text)
        else:
            self.end(order)

    def end(self, order, status="Cancelled"):
        """End an order at the venue."""
        order.status = status
        self._tell_status(order)
        if status == "Cancelled":
            self._error_to(order, 202, "Order Canceled - reason:")
        for child in self.orders.values():
            if child.alive and child.parent and child.parent == order.order_id:
                self.end(child)

    def forget(self, order):
        """Lose an order without a word."""
        del self.orders[order.client_id, order.order_id]

    def hold(self, order):
        """Report an order as inactive: it may become active again."""
        order.status = "Inactive"
        self._tell_status(order)

    # -- the market ------------------------------------------------------------------------------

    def next_bar(self):
        """Show one more bar of every instrument; return whether there was one."""
        if self.shown >= max(len(rows) for rows in self.rows.values()):
            return False
        self.shown += 1
        for con_id, rows in self.rows.items():
            for order in list(self.orders.values()):
                if order.alive and order.con_id == con_id:
                    self._match(order, rows[self.shown - 1])
        self._send_bars()
        for client in self.clients:
            self._send_account(client)
        return True

    def _send_bars(self):
        k = self.shown
        for request, (client, con_id) in self.feeds.items():
            rows = self.rows[con_id]
            for place, row in ((k - 1, rows[k - 1]), (k, (self._last(con_id),) * 4)):
                when, first, high, low, close, volume, average, count = self._bar(place, row)
                update = (count, when, first, close, high, low, average, volume)
                client.send(90, request, *update)

    def _last(self, con_id):
        return self.rows[con_id][self.shown - 1][3]

    def _now(self, con_id):
        return (self._last(con_id),) * 4

    def _waits(self, order):
        """Return whether an order waits for its last child, or for its parent to fill."""
        root = order.parent or order.order_id
        family = [o for o in self.orders.values() if root in (o.order_id, o.parent)]
        parent = next((o for o in family if o.order_id == order.parent), None)
        unfilled = parent is not None and parent.status != "Filled"
        return not any(o.transmit for o in family) or unfilled

    def _match(self, order, row):
        first, high, low, _ = row
        if not order.alive or order.status == "Inactive" or self._waits(order):
            return
        order.status = "PreSubmitted" if order.type in ("STP", "TRAIL") else "Submitted"
        price = self._price(order, first, high, low)
        if price is None:
            return
        parts = self.parts.get(order.number)
        self.fill(order, min(order.left, parts.pop(0)) if parts else order.left, price)

    def _price(self, order, first, high, low):
        side = order.side
        if order.type == "MKT":
            return first
        if order.type == "LMT":
            reached = low <= order.limit if side > 0 else high >= order.limit
            best = min(first, order.limit) if side > 0 else max(first, order.limit)
            return best if reached else None
        stop = order.aux
        if order.type == "TRAIL":
            if math.isnan(order.best):
                order.best = first
            offset = order.aux if math.isnan(order.percent) else order.best * order.percent / 100
            stop = order.best + side * offset
        reached = high >= stop if side > 0 else low <= stop
        if order.type == "TRAIL":
            order.best = min(order.best, low) if side > 0 else max(order.best, high)
        if not reached:
            return None
        return max(first, stop) if side > 0 else min(first, stop)

    def fill(self, order, size, price):
        """Fill a part of an order, or all of it."""
        before = self.positions.get(order.con_id, 0.0)
        held = before + order.side * size
        mult = float(CONTRACTS[order.con_id][5] or 1)
        self.positions[order.con_id] = held
        self.costs[order.con_id] = price * mult
        if held and before * held < 0 and order.ref:
            self.trouble.append(f"{order.ref} has turned {before:g} into {held:g}")
        order.filled += size
        order.spent += size * price
        order.status = "Filled" if order.left < 1e-9 else "Submitted"
        self.cash -= order.side * size * price * mult + 1.0
        row = (order, f"0000e.{next(self._exec)}.01.01", size, price)
        self.executions.append(row)
        for client in self.clients:
            sends = {
                "status": partial(self._send_status, client, order),
                "execution": partial(self._send_execution, client, row, -1),
                "position": partial(self._send_position, client, order.con_id),
            }
            if self.late_executions:
                del sends["execution"]
            sends = {self.order_of: sends.get(self.order_of, _nothing)} | sends
            for send in sends.values():
                send()
            if not self.late_executions:
                self._send_fee(client, row)
            self._send_account(client)
        self._reduce(order, size)
        if order.status == "Filled":
            for child in list(self.orders.values()):
                if child.parent == order.order_id and child.alive:
                    self._match(child, self._now(child.con_id))

    def _reduce(self, order, size):
        """Take what an order has filled from the others of its group."""
        for other in self.orders.values():
            same = order.oca and other.oca == order.oca
            sibling = order.parent and other.parent == order.parent
            if other is not order and other.alive and (same or sibling):
                other.quantity -= size
                if other.left < 1e-9:
                    self.end(other)
                else:
                    for client in self.clients:
                        self._send_order(client, other)

    def order_of_another(self, action, quantity, limit, con_id=1):
        """Place an order of another client."""
        given = dict.fromkeys(PLACED.split(), "") | {"action": action, "type": "LMT", "tif": "GTC"}
        given |= {"quantity": quantity, "limit": limit, "conId": con_id, "transmit": "1"}
        order = Order(1, 77, next(self._perm), given)
        self.orders[77, 1] = order
        return order

    def correct_last(self):
        """Correct the last execution: its number differs in its last part only."""
        order, exec_id, size, price = self.executions[-1]
        row = (order, exec_id[:-2] + "02", size, price + 0.01)
        self.executions.append(row)
        for client in self.clients:
            self._send_execution(client, row, -1)

    def trade_by_hand(self, size, con_id=1):
        """Trade from another program: this client has no execution of it."""
        self.positions[con_id] = self.positions.get(con_id, 0.0) + size
        self.cash -= size * self._last(con_id)
        for client in self.clients:
            self._send_position(client, con_id)
            self._send_account(client)

    @property
    def value(self):
        mults = {con_id: float(row[5] or 1) for con_id, row in CONTRACTS.items()}
        held = self.positions.items()
        return self.cash + sum(size * self._last(one) * mults[one] for one, size in held)

    @property
    def working(self):
        return [order for order in self.orders.values() if order.alive]

    # -- messages --------------------------------------------------------------------------------

    def _contract(self, con_id):
        symbol, kind, currency, exchange, _, mult = CONTRACTS[con_id]
        return con_id, symbol, kind, "", 0.0, "", mult, exchange, currency, symbol, symbol

    def _send_position(self, client, con_id):
        row = self._contract(con_id)
        cost = self.costs.get(con_id, self._last(con_id))
        client.send(61, 3, ACCOUNT, *row, self.positions[con_id], cost)

    def _send_account(self, client, first=False):
        if self.silent_account and not first:
            return
        needed = self.margin_rate * abs(self.value - self.cash)
        values = (("NetLiquidation", self.value), ("TotalCashValue", self.cash))
        values += (("MaintMarginReq", needed), ("ExcessLiquidity", self.value - needed))
        for tag, value in values:
            client.send(6, 2, tag, f"{value:.2f}", BASE, ACCOUNT)
        client.send(6, 2, "ExchangeRate", "1.10", "EUR", ACCOUNT)

    def _send_order(self, client, o, silent=False):
        percent = "" if math.isnan(o.percent) else o.percent
        known = {"action": o.action, "quantity": o.quantity, "type": o.type, "limit": o.limit}
        known |= {"aux": o.aux, "tif": o.tif, "oca": o.oca, "account": ACCOUNT, "ref": o.ref}
        known |= {"client": o.client_id, "perm": o.perm_id, "parent": o.parent, "status": o.status}
        known |= {"oca_type": 2 if o.oca else 0, "percent": percent}
        row = [known.get(name, 0 if name in COUNTS else "") for name in LISTED.split()]
        client.send(5, o.order_id, *self._contract(o.con_id), *row)
        if not silent:
            self._send_status(client, o)

    def _send_status(self, client, o):
        average = o.spent / o.filled if o.filled else 0.0
        row = (3, o.order_id, o.status, o.filled, o.left, average, o.perm_id, o.parent, average)
        client.send(*row, o.client_id, "", 0.0)

    def _tell_status(self, order):
        for client in self.clients:
            self._send_status(client, order)

    def _error_to(self, order, code, text):
        for client in self.clients:
            if client.number == order.client_id:
                client.send(4, 2, order.order_id, code, text)

    def _send_execution(self, client, row, request):
        o, exec_id, size, price = row
        side = "BOT" if o.side > 0 else "SLD"
        when = time.strftime("%Y%m%d %H:%M:%S UTC", time.gmtime(START + 60 * self.shown))
        fields = (11, request, o.order_id, *self._contract(o.con_id), exec_id, when, ACCOUNT, "X")
        fields += (side, size, price, o.perm_id, o.client_id, 0, o.filled, price, o.ref, "", "")
        client.send(*fields, "", 1)

    def _send_fee(self, client, row):
        if not self.no_fees:
            client.send(59, 1, row[1], 1.0, BASE, "", "", "")


class Client:
    """One connection."""

    number = None

    def __init__(self, writer):
        self.writer = writer

    def send(self, *fields):
        text = "".join(f"{_text(field)}\0" for field in fields).encode()
        if not self.writer.is_closing():
            self.writer.write(struct.pack(">I", len(text)) + text)


def _nothing():
    pass


def _text(field):
    return "" if isinstance(field, float) and math.isnan(field) else str(field)


def _price(text):
    return math.nan if text == "" or float(text) > 1e300 else float(text)


def _trailing(fields):
    """Return the trailing percent of a placeOrder request, NaN without one."""
    return _price(fields[TRAILING_PERCENT])


async def _message(reader):
    size = struct.unpack(">I", await reader.readexactly(4))[0]
    return (await reader.readexactly(size)).decode().split("\0")[:-1]
