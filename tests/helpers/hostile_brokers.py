"""Imitate the faults of real stores, one in each class, on top of `FakeBroker`."""

import backtrader as bt

import bt_risk
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.scenarios import Script, bars


class Clock:
    """Count seconds that pass only when a test sets them, or by `step` with each call."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


class Ticking(LiveFrame):
    """Report states of a live feed: ``{bar: bt.feed.AbstractDataBase.DISCONNECTED}``."""

    params = (("idle", 3), ("says", None))

    def _load(self):
        status = None if self._wait else (self.p.says or {}).get(len(self))
        if status is not None:
            self.put_notification(status)
        return super()._load()


def run(venue, rows, actions, *, stop=True, breaker=None, feed=None, limits=(), **live):
    """Run a script at a venue behind a gate; return the strategy and the gate's journal lines."""
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(Ticking(dataname=bars(*rows), **(feed or {})), name="D0")
    gate = bt_risk.RiskBroker(venue, limits=limits, **live)
    engine.setbroker(gate)
    engine.addstrategy(Script, actions=actions)
    if stop:
        engine.addobserver(bt_risk.ATRTrailingStop)
    if breaker is not None:
        engine.addanalyzer(bt_risk.DrawdownBreaker, **breaker)
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = engine.run(quicknotify=True)[0]
    return strategy, strategy.analyzers.riskjournal.frame()


def reasons(journal, action):
    """Return the reasons of the journal's lines with an action."""
    return journal[journal.action == action].reason.tolist()


class Valued(FakeBroker):
    """Report a wrong value: ``says(broker, bar, true value)`` returns it."""

    params = (("says", None),)

    def getvalue(self, datas=None):
        true = super().getvalue()
        bar = max((len(data) for data in self.cerebro.datas), default=0)
        return true if self.p.says is None else self.p.says(self, bar, true)


class WithIds(FakeBroker):
    """Take a client id and find orders by it; `lose` maps the number of a request to its fault.

    A ``"request"`` never arrives at the broker, an ``"answer"`` never arrives from it.
    """

    capabilities = {"client_ids": True}
    params = (("lose", None), ("deaf", 0))

    def start(self):
        super().start()
        self.requests, self.ids, self.asked = 0, {}, 0

    def buy(self, owner, data, size, client_id=None, **kwargs):
        return self._ask(super().buy, client_id, owner, data, size, **kwargs)

    def sell(self, owner, data, size, client_id=None, **kwargs):
        return self._ask(super().sell, client_id, owner, data, size, **kwargs)

    def _ask(self, send, client_id, *args, **kwargs):
        self.requests += 1
        lost = (self.p.lose or {}).get(self.requests)
        assert client_id not in self.ids, "sent twice"
        if lost == "request":
            raise TimeoutError("no answer")
        order = self.ids[client_id] = send(*args, **kwargs)
        if lost == "answer":
            raise TimeoutError("no answer")
        return order

    def order_by_client_id(self, client_id):
        self.asked += 1
        if self.asked <= self.p.deaf:
            raise ConnectionError("still no answer")
        return self.ids.get(client_id)


class Raising(FakeBroker):
    """Raise `error` for the sells with the numbers in `at`."""

    params = (("error", None), ("at", ()))

    def start(self):
        super().start()
        self.sells = 0

    def sell(self, owner, data, size, **kwargs):
        self.sells += 1
        if self.sells in self.p.at:
            raise self.p.error
        return super().sell(owner, data, size, **kwargs)


class Immediate(FakeBroker):
    """Fill market orders inside ``buy`` and ``sell``, and return them Completed.

    `silent`: it does not notify the gate of them either.
    """

    params = (("silent", False),)

    def _make(self, kind, owner, data, size, price, exectype, valid, tradeid):
        order = super()._make(kind, owner, data, size, price, exectype, valid, tradeid)
        if exectype in (None, bt.Order.Market):
            if self.p.silent:
                self._news.pop()
            order.accept(self)
            news = len(self._news)
            self._try(order)
            while self.p.silent and len(self._news) > news:
                self._news.pop()
        return order


class Shuffled(FakeBroker):
    """Hold every notification back for `late` ticks, and deliver each batch backwards and twice."""

    params = (("late", 2),)

    def start(self):
        super().start()
        self._held, self._ticks = [], 0

    def _notify(self, order):
        self._held.append(order.clone())

    def next(self):
        super().next()
        self._ticks += 1
        if self._ticks % self.p.late == 0:
            self._news.extend(reversed(self._held + self._held))
            self._held = []


class Stuttering(FakeBroker):
    """Report every execution twice in one notification."""

    def _notify(self, order):
        news = order.clone()
        news.executed = news.executed.clone()
        news.executed.exbits = [bit for bit in order.executed.exbits for _ in range(2)]
        self._news.append(news)


class Priceless(FakeBroker):
    """Report every fill without its price: at 0, or at NaN."""

    params = (("price", 0.0),)

    def _notify(self, order):
        for bit in order.executed.exbits:
            bit.price = self.p.price
        order.executed.price = self.p.price
        super()._notify(order)


class Stingy(FakeBroker):
    """Fill `parts` of a market order bar after bar; `bits`: report each fill, or only the size."""

    params = (("parts", 2), ("bits", True), ("cancels", False))

    def _try(self, order):
        if order.exectype not in (None, bt.Order.Market) or order.info["venue_id"] in self.p.reject:
            return super()._try(order)
        price = self._price(order)
        size = order.size / self.p.parts
        left = order.executed.remsize
        size = left if abs(size) > abs(left) else size
        position = self._positions[order.data]
        psize, pprice, opened, closed = position.update(size, price)
        self.cash -= size * price
        args = (closed, closed * pprice, 0.0, opened, opened * price, 0.0, 0.0, 0.0, psize, pprice)
        order.execute(order.data.datetime[0], size, price, *args)
        self.sizes.append(psize)
        self._accepted_at[order.ref] = len(order.data)
        if self.p.cancels:  # the rest is cancelled in the same breath, with one notification
            self._working.remove(order)
            order.cancel()
        elif not order.executed.remsize:
            self._working.remove(order)
        news = order.clone()
        if not self.p.bits:
            news.executed = news.executed.clone()
            news.executed.exbits = []
        self._news.append(news)
        return None


class Ticked(FakeBroker):
    """Reject a stop whose price is no whole number of ticks; `asked` are the prices of all."""

    params = (("tick", 0.05),)

    def start(self):
        super().start()
        self.asked = []

    def _answer(self, order):
        price = order.created.price
        if order.exectype == bt.Order.Stop:
            self.asked.append(price)
            ticks = 0.0 if self.p.tick is None else price / self.p.tick
            if abs(ticks - round(ticks)) > 1e-6:
                self._end(order, order.reject)
                return
        super()._answer(order)


class Deaf(FakeBroker):
    """Let the first `fails` cancels fail: with an error, or (`silent`) without one."""

    params = (("fails", 1), ("silent", False))

    def start(self):
        super().start()
        self.cancels = 0

    def cancel(self, order):
        self.cancels += 1
        if self.cancels > self.p.fails:
            super().cancel(order)
        elif not self.p.silent:
            raise ConnectionError("connection reset")


class Hasty(FakeBroker):
    """Report Canceled for the cancel number `lie` at once, and its fill `late` ticks later."""

    params = (("lie", 1), ("late", 4))

    def start(self):
        super().start()
        self.cancels, self._due = 0, None

    def cancel(self, order):
        self.cancels += 1
        if self.cancels != self.p.lie:
            super().cancel(order)
            return
        self._working.remove(order)
        order.cancel()
        self._notify(order)
        self._due = self.p.late, order

    def next(self):
        super().next()
        if self._due is None:
            return
        left, order = self._due
        self._due = (left - 1, order) if left else None
        if not left:
            self._working.append(order)
            order.exectype = bt.Order.Market
            self._try(order)


class Replacing(FakeBroker):
    """Move a resting order in one step."""

    capabilities = {"replace": True}
    params = (("refuse", False),)

    def start(self):
        super().start()
        self.replaced = self.cancels = 0

    def cancel(self, order):
        self.cancels += 1
        super().cancel(order)

    def replace(self, order, size, price):
        if self.p.refuse or not any(one.ref == order.ref for one in self._working):
            return False
        self.replaced += 1
        order.created.price = price
        signed = size if order.isbuy() else -size
        order.executed.remsize = order.created.size = order.size = signed
        return True
