"""Several tradeids in one position: what we close belongs to the trade that was opened with it."""

import random
from collections import defaultdict

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.persistent_broker import bar_of, read
from helpers.restarts import ROWS as RESTART_ROWS
from helpers.restarts import run as run_with_state
from helpers.scenarios import Script, bars, cerebro, flat, random_walk

import bt_risk

RAMP = [(100.0 + k, 101.0 + k, 99.0 + k, 100.0 + k) for k in range(12)]
FALL = [*flat(2, price=90.0), *flat(6, price=88.0)]


ROWS = [*flat(20), *RAMP, *FALL]


class Trades(Script):
    """Keep the open size of every trade, and every change that an order of ours has made."""

    def __init__(self):
        super().__init__()
        self.open, self.ours, self.users = {}, [], set()

    def buy(self, *args, **kwargs):
        return self._own(super().buy(*args, **kwargs))

    def sell(self, *args, **kwargs):
        return self._own(super().sell(*args, **kwargs))

    def _own(self, order):
        self.users.add(order.ref)
        return order

    def notify_order(self, order):
        super().notify_order(order)
        if order.ref not in self.users and order.executed.size and not order.alive():
            self.ours.append((len(self), order.tradeid, order.executed.size))

    def next(self):
        super().next()
        for data in self.datas:
            sizes = {tradeid: trades[-1].size for tradeid, trades in self._trades[data].items()}
            self.open[data._name] = {tradeid: size for tradeid, size in sizes.items() if size}


def run(actions, rows=ROWS, broker=None, side=1, cls=Trades, **rule):
    """Run actions behind a trailing stop, on mirrored prices for shorts; return the strategy."""
    if side < 0:
        rows = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]
    engine = cerebro(bars(*rows))
    if broker is not None:
        engine.setbroker(broker)
    engine.addobserver(bt_risk.ATRTrailingStop, **rule)
    engine.addstrategy(cls, actions=actions)
    return engine.run()[0]


def enter(side, size, tradeid):
    """Return an action that opens `size` on a side."""
    return lambda s: (s.buy if side > 0 else s.sell)(size=size, tradeid=tradeid)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("trigger", ["intrabar", "close"])
@pytest.mark.parametrize("make", [lambda: None, FakeBroker], ids=["backbroker", "venue"])
def test_the_stop_closes_every_trade_under_its_own_tradeid(side, trigger, make):
    actions = {20: enter(side, 10, 1), 22: enter(side, 5, "two")}
    ran = run(actions, broker=make(), side=side, trigger=trigger)
    assert sorted(ran.ours, key=str) == sorted(
        [(ran.ours[0][0], 1, -side * 10), (ran.ours[0][0], "two", -side * 5)], key=str
    )
    assert ran.open == {"D0": {}}
    assert ran.held[-1] == (0,)


@pytest.mark.parametrize("make", [lambda: None, FakeBroker], ids=["backbroker", "venue"])
def test_what_the_strategy_closes_of_one_trade_its_stop_leaves_out(make):
    """Of 10 and 10 the strategy closes 10 and 4: 6 are left, all under the second tradeid."""
    actions = {
        20: enter(1, 10, 1),
        21: enter(1, 10, 2),
        24: lambda s: s.close(size=10, tradeid=1),
        26: lambda s: s.close(size=4, tradeid=2),
    }
    ran = run(actions, broker=make())
    assert [row[1:] for row in ran.ours] == [(2, -6)]
    assert ran.open == {"D0": {}}


@pytest.mark.parametrize("make", [lambda: None, FakeBroker], ids=["backbroker", "venue"])
def test_a_stop_opens_no_trade_where_the_strategy_has_mixed_its_tradeids(make):
    """20 under 1 and -10 under 0 are a position of 10: no sale of 10 can close both."""
    actions = {20: enter(1, 20, 1), 22: enter(-1, 10, 0)}
    ran = run(actions, broker=make())
    assert [row[1:] for row in ran.ours] == [(1, -10)]
    assert ran.open == {"D0": {1: 10, 0: -10}}
    assert ran.held[-1] == (0,)


def test_trades_that_are_left_open_in_a_flat_account_are_remembered():
    """Flat with 10 under 1 and -10 under 0; 10 more under 0 leave a position of 10 under 1."""
    actions = {20: enter(1, 10, 1), 22: enter(-1, 10, 0), 24: enter(1, 10, 0)}
    ran = run(actions)
    assert [row[1:] for row in ran.ours] == [(1, -10)]
    assert ran.open == {"D0": {}}


def test_an_exit_of_the_bar_that_reaches_the_stops_goes_first_under_its_own_tradeid():
    """The stops of 1 and 2 and the exit of 1 all fill on the bar that opens below the stops."""
    actions = {
        20: enter(1, 10, 1),
        21: enter(1, 10, 2),
        32: lambda s: s.close(size=10, tradeid=1),
    }
    ran = run(actions)
    assert ran.ours == [(33, 2, -10)]
    assert ran.open == {"D0": {}}


def test_a_reversal_under_one_tradeid_leaves_a_stop_under_that():
    actions = {20: enter(1, 10, 3), 22: enter(-1, 20, 3)}
    ran = run(actions)
    assert [row[1:] for row in ran.ours] == [(3, 10)]
    assert ran.open == {"D0": {}}


def test_the_trade_of_another_tradeid_that_replaces_the_first_on_one_bar_gets_its_own_stop():
    """10 under 2 are bought and 10 under 1 are sold at one open: the position is the same size."""
    swap = lambda s: (s.buy(size=10, tradeid=2), s.sell(size=10, tradeid=1))  # noqa: E731
    ran = run({20: enter(1, 10, 1), 22: swap})
    assert [row[1:] for row in ran.ours] == [(2, -10)]
    assert ran.open == {"D0": {}}


@pytest.mark.parametrize("make", [lambda: None, FakeBroker], ids=["backbroker", "venue"])
def test_a_halt_that_flattens_closes_every_trade_under_its_own_tradeid(make):
    actions = {
        20: enter(1, 10, 1),
        21: enter(1, 5, 2),
        25: lambda s: s.broker.halt("enough", flatten=True),
    }
    ran = run(actions, broker=make())
    assert sorted(row[1:] for row in ran.ours) == [(1, -10), (2, -5)]
    assert ran.open == {"D0": {}}
    assert ran.held[-1] == (0,)


def test_a_halt_beside_an_exit_of_one_trade_closes_the_other():
    """The exit was sent before on the same bar; it fills first."""
    both = lambda s: (s.close(size=10, tradeid=1), s.broker.halt("enough", flatten=True))  # noqa: E731
    ran = run({20: enter(1, 10, 1), 21: enter(1, 5, 2), 25: both})
    assert [row[1:] for row in ran.ours] == [(2, -5)]
    assert ran.open == {"D0": {}}


def test_the_breaker_closes_every_trade_under_its_own_tradeid():
    engine = cerebro(bars(*flat(20), *FALL))
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.05, action="pause")
    engine.addstrategy(Trades, actions={16: enter(1, 300, 1), 17: enter(1, 400, 2)})
    ran = engine.run()[0]
    assert sorted(row[1:] for row in ran.ours) == [(1, -300), (2, -400)]
    assert ran.open == {"D0": {}}


def test_a_stop_that_fills_in_parts_closes_both_trades():
    """A volume filler gives each order 4 a bar."""
    broker = bt.brokers.BackBroker(filler=bt.broker.fillers.FixedSize(size=4))
    ran = run({20: enter(1, 6, 1), 21: enter(1, 5, 2)}, broker=broker)
    assert sorted(row[1:] for row in ran.ours) == [(1, -6), (2, -5)]
    assert ran.open == {"D0": {}}


def test_every_strategy_has_trades_of_its_own():
    engine = cerebro(bars(*flat(20), *RAMP, *FALL))
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Trades, actions={20: enter(1, 10, 1), 22: enter(1, 3, 2)})
    engine.addstrategy(Trades, actions={21: enter(1, 5, 2), 23: enter(1, 7, 1)})
    first, second = engine.run()
    assert sorted(row[1:] for row in first.ours) == [(1, -10), (2, -3)]
    assert sorted(row[1:] for row in second.ours) == [(1, -7), (2, -5)]
    assert first.open == second.open == {"D0": {}}


def test_one_trade_of_several_tradeids_is_one_trade_of_the_book():
    """It runs from flat to flat: the sample of the Kelly estimate does not depend on tradeids."""
    ran = run({20: enter(1, 10, 1), 22: enter(1, 5, 2)})
    assert [trade.size for trade in ran.broker.book.trades] == [15]
    assert ran.broker.book.trades[0].stopped


class Mixed(Trades):
    """Buy and sell under random tradeids, and compare our record with Backtrader's trades."""

    def __init__(self):
        super().__init__()
        self.rng, self.compared = random.Random(self.p.actions), 0

    def next(self):
        draw, self.held = self.rng.random(), []
        tradeid = self.rng.choice((0, 1, 2))
        if draw < 0.25:
            self.buy(size=self.rng.randint(1, 9), tradeid=tradeid)
        elif draw < 0.5:
            self.sell(size=self.rng.randint(1, 9), tradeid=tradeid)
        elif draw < 0.6 and self.position.size:
            self.close(tradeid=tradeid)
        elif draw < 0.65:
            price = self.data.close[0] * self.rng.uniform(0.98, 1.02)
            self.buy(size=5, exectype=bt.Order.Limit, price=price, tradeid=tradeid, valid=0)
        trades = {t: one[-1].size for t, one in self._trades[self.data].items() if one[-1].size}
        part = self.broker.book.part(self.broker.find(self.data), self)
        assert part.tradeids == trades
        assert sum(trades.values()) == self.position.size == part.size
        self.compared += bool(len(trades) > 1)


@pytest.mark.parametrize("trigger", ["intrabar", "close"])
@pytest.mark.parametrize("seed", range(6))
def test_our_record_is_that_of_backtrader(seed, trigger):
    engine = cerebro(random_walk(seed, bars=250))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=1.0, trigger=trigger)
    engine.addstrategy(Mixed, actions=seed)
    ran = engine.run()[0]
    assert ran.compared > 50
    assert len(ran.ours) > 5


class Unmixed(Trades):
    """Open and close trades under their own tradeids only, at random."""

    def __init__(self):
        super().__init__()
        self.rng, self.sizes, self.flat = random.Random(self.p.actions), defaultdict(int), 0

    def next(self):
        trades = {t: one[-1].size for t, one in self._trades[self.data].items() if one[-1].size}
        assert trades or not self.position.size
        if not self.position.size:
            assert not trades
            self.flat += 1
        tradeid = self.rng.choice((0, 1, 2))
        size = trades.get(tradeid, 0)
        if size and self.rng.random() < 0.3:
            self.close(size=self.rng.randint(1, abs(size)), tradeid=tradeid)
        elif self.rng.random() < 0.3:
            self.buy(size=self.rng.randint(1, 9), tradeid=tradeid)


@pytest.mark.parametrize("trigger", ["intrabar", "close"])
@pytest.mark.parametrize("make", [lambda: None, FakeBroker], ids=["backbroker", "venue"])
@pytest.mark.parametrize("seed", range(4))
def test_a_flat_account_has_no_open_trade(seed, make, trigger):
    frame = random_walk(seed, bars=250)
    engine = cerebro(frame)
    broker = make()
    if broker is not None:
        engine.setbroker(broker)
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=1.0, trigger=trigger)
    engine.addstrategy(Unmixed, actions=seed)
    ran = engine.run()[0]
    assert len({tradeid for _, tradeid, _ in ran.ours}) == 3
    assert ran.flat > 20


# -- across a restart ----------------------------------------------------------------------------


class TwoTrades(Trades):
    """Buy 60 under "a" and 40 under 2 while nothing is held, once."""

    def next(self):
        super().next()
        size, tradeid = {20: (60, "a"), 21: (40, 2)}.get(bar_of(self.data), (0, 0))
        if size:
            self.buy(size=size, tradeid=tradeid)


def under(strategy):
    """Return the signed size that is held under each tradeid."""
    return strategy.broker.book.part(strategy.broker.find(strategy.data), strategy).tradeids


def sent(log):
    """Return what was sent to the venue, as bar, signed size and price."""
    rows = [row for row in log if row["what"] == "sent"]
    return sorted((row["bar"], row["side"] * row["size"], row["price"] or 0.0) for row in rows)


def test_a_restart_goes_on_with_one_stop_for_each_tradeid(tmp_path):
    """The venue knows no tradeids: they come from the state file. No stop is sent again."""
    uninterrupted = tmp_path / "uninterrupted"
    uninterrupted.mkdir()
    run_with_state(uninterrupted, RESTART_ROWS[:27], strategy=TwoTrades)
    first = run_with_state(tmp_path, RESTART_ROWS[:23], strategy=TwoTrades)
    assert under(first) == {"a": 60, 2: 40}
    resting = [order["left"] for order in read(tmp_path / "venue.json")["orders"]]
    assert sorted(resting) == [-60, -40]
    again = run_with_state(tmp_path, RESTART_ROWS[:25], strategy=TwoTrades)
    assert under(again) == {"a": 60, 2: 40}
    book = again.broker.book
    assert {w.tradeid: w.remaining for w in book.working.values()} == {"a": 60, 2: 40}
    last = run_with_state(tmp_path, RESTART_ROWS[:27], strategy=TwoTrades)
    assert under(last) == {}
    log = read(tmp_path / "venue.json")["log"]
    assert sorted(row["size"] for row in log if row["what"] == "filled") == [-60, -40, 40, 60]
    assert sent(log) == sent(read(uninterrupted / "venue.json")["log"])
