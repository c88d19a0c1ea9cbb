"""One day at a venue where every tenth request and every tenth fill goes wrong."""

import math
import random

import backtrader as bt
import pytest
from helpers.market_day import (
    SECONDS_OF_A_BAR,
    SECONDS_OF_A_ROUND,
    Exchange,
    FaultyStore,
    Seconds,
)
from helpers.slices import sliced

import bt_risk

NAMES = ("A", "B")
SIZE = 20
# The last minutes of a day: nothing new is opened, and the venue answers everything.
QUIET = 15 * 60
# What a difference is called that no order explains.
BY_HAND = "by nobody that the gate knows of"


class Minutes(bt.feed.DataBase):
    """Bring a bar of the exchange each minute; the first data feed moves the time of all."""

    params = (("exchange", None), ("clock", None), ("seconds", 0), ("leads", False))

    def islive(self):
        return True

    def haslivedata(self):
        return True

    def start(self):
        super().start()
        self._bar, self._first = None, 0

    def _load(self):
        exchange = self.p.exchange
        if self.p.leads:
            if exchange.seconds >= self.p.seconds:
                return False
            exchange.go_on()
            self.p.clock.now = exchange.seconds
        elif exchange.seconds >= self.p.seconds:
            return False
        price = exchange.prices[self.p.dataname]
        opened, high, low, _ = self._bar or (price, price, price, price)
        self._bar = opened, max(high, price), min(low, price), price
        if exchange.seconds % SECONDS_OF_A_BAR:
            return None
        self.lines.datetime[0] = 737_425.0 + exchange.seconds / 86_400.0
        names = ("open", "high", "low", "close")
        for name, value in zip(names, self._bar, strict=True):
            getattr(self.lines, name)[0] = value
        self.lines.volume[0] = self.lines.openinterest[0] = 0.0
        self._bar = None
        return True


class Restless(bt.Strategy):
    """Enter and leave at random, with market and limit orders and take-profits."""

    params = (("seed", 0), ("until", 0), ("exchange", None))

    def __init__(self):
        self.rng, self.waiting = random.Random(self.p.seed), {}

    def notify_order(self, order):
        if not order.alive():
            self.waiting.pop(order.ref, None)

    def next(self):
        if self.p.exchange.seconds >= self.p.until:
            return
        for data in self.datas:
            if self.getposition(data).size:
                self._leave(data)
            elif not any(order.data is data for order in self.waiting.values()):
                self._enter(data)

    def _enter(self, data):
        draw = self.rng.random()
        price = data.close[0]
        if draw < 0.10:
            self._keep(self.buy(data, size=SIZE))
        elif draw < 0.20:
            self._keep(self.sell(data, size=SIZE))
        elif draw < 0.25:
            self._keep(self.buy(data, size=SIZE, price=0.999 * price, exectype=bt.Order.Limit))

    def _leave(self, data):
        draw, size = self.rng.random(), self.getposition(data).size
        if draw < 0.05:
            self.close(data)
        elif draw < 0.10 and not any(order.data is data for order in self.waiting.values()):
            send = self.sell if size > 0 else self.buy
            price = data.close[0] * (1.0 + math.copysign(0.002, size))
            self._keep(send(data, size=abs(size), price=price, exectype=bt.Order.Limit))

    def _keep(self, order):
        if order is not None and order.alive():
            self.waiting[order.ref] = order


class Watched(FaultyStore):
    """Note, in every round, what is held, and whether a stop rests behind it."""

    def start(self):
        super().start()
        self.held_seconds = self.bare_seconds = self.longest = self._bare = 0
        self.largest = 0.0

    def next(self):
        super().next()
        held = {name: size for name, size in self.exchange.sizes.items() if size}
        self.largest = max([self.largest, *[abs(size) for size in held.values()]])
        bare = [n for n, size in held.items() if self.exchange.stopped(n) < abs(size)]
        self.held_seconds += SECONDS_OF_A_ROUND * bool(held)
        self.bare_seconds += SECONDS_OF_A_ROUND * bool(bare)
        self._bare = self._bare + SECONDS_OF_A_ROUND if bare else 0
        self.longest = max(self.longest, self._bare)


def a_day(hours, seed, state=None):
    """Run a day; return the gate, the store and the journal."""
    exchange, clock = Exchange(NAMES, seed), Seconds()
    seconds = int(hours * 3600)
    quiet = seconds - QUIET
    cerebro = bt.Cerebro(stdstats=False)
    for name in NAMES:
        args = {"exchange": exchange, "clock": clock, "seconds": seconds, "qcheck": 0.0}
        feed = Minutes(dataname=name, leads=name == NAMES[0], **args)
        cerebro.adddata(feed, name=name)
    store = Watched(exchange=exchange, well_from=quiet)
    cerebro.setbroker(store)
    cerebro.addstrategy(Restless, seed=seed, until=quiet, exchange=exchange)
    policy = bt_risk.Policy(drawdown_limit=0.5, correlation_limit=None, action="pause")
    bt_risk.protect(cerebro, policy, state=state, clock=clock, now=clock)
    strategy = cerebro.run(quicknotify=True)[0]
    return strategy, store, strategy.analyzers.riskjournal.frame()


def check_books(strategy, store):
    """The book of the gate is that of the exchange, and every position has its stop."""
    gate, exchange = strategy.broker, store.exchange
    for instrument in gate.book.instruments:
        held = exchange.sizes[instrument.name]
        assert instrument.size == pytest.approx(held), instrument.name
        if held:
            assert exchange.stopped(instrument.name) == pytest.approx(abs(held))
    resting = sorted(o["id"] for o in exchange.open_orders())
    known = sorted(w.handle.info["venue_id"] for w in gate.book.working.values())
    assert known == resting
    assert gate.equity() == pytest.approx(exchange.equity(), rel=1e-6)


def check(hours, seed, state=None):
    strategy, store, journal = a_day(hours, seed, state)
    print(
        f"{store.requests} requests, {store.faults} faults, {store.fills} fills, "
        f"{store.lost_fills} lost; held {store.held_seconds} s, without a stop "
        f"{store.bare_seconds} s, longest {store.longest} s"
    )
    assert store.faults > 50 * hours
    assert store.lost_fills > hours
    assert store.largest <= SIZE, "an order of the gate has opened a position"
    check_books(strategy, store)
    assert strategy.broker.state == "ACTIVE"
    assert strategy.broker.venue.reconciliation.differences.sentences() == []
    # Nobody has traded by hand: every difference is explained by an order of the gate.
    assert [reason for reason in journal.reason if BY_HAND in reason] == []
    assert "foreign order" not in set(journal.action)


@pytest.mark.parametrize("seed", sliced([1, 2], 2))
def test_two_hours_end_with_equal_books(seed, tmp_path):
    check(2, seed, tmp_path / "risk.db")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_whole_day_ends_with_equal_books(tmp_path):
    check(24, 3, tmp_path / "risk.db")
