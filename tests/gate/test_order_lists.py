"""A strategy that lists orders sees its own, as in plain Backtrader, and none of bt_risk."""

from collections import OrderedDict

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.recording import play
from helpers.scenarios import MODES, bars, cerebro, flat

import bt_risk

ASKS = {
    "get_orders_open": lambda broker: broker.get_orders_open(),
    "safe": lambda broker: broker.get_orders_open(safe=True),
    "safe, by position": lambda broker: broker.get_orders_open(True),
    "pending": lambda broker: list(broker.pending),
    "orders": lambda broker: list(broker.orders),
    "submitted": lambda broker: list(broker.submitted),
}


def guarded(*frames, broker=None, **options):
    engine = cerebro(*frames, **options)
    if broker is not None:
        engine.setbroker(broker)
    engine.addobserver(bt_risk.ATRTrailingStop)
    return engine


def seen(engine, ask):
    """Return what a strategy with a position, a resting exit and a new order sees, by bar."""
    listed = []

    def look(strategy):
        orders = ask(strategy.broker)
        listed.append(sorted((o.exectype, o.size, o.created.price) for o in orders))

    actions = dict.fromkeys(range(18, 25), look) | {
        16: lambda s: s.buy(size=10),
        19: lambda s: (s.sell(exectype=bt.Order.Limit, price=130.0, size=10), look(s)),
    }
    play(engine, actions)
    return listed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ASKS)
def test_the_lists_of_backbroker_are_those_of_the_bare_run(how, mode):
    bare = seen(cerebro(bars(*flat(30)), **MODES[mode]), ASKS[how])
    protected = seen(guarded(bars(*flat(30)), **MODES[mode]), ASKS[how])
    assert protected == bare
    assert any(bare)


def test_a_short_position_and_its_stop_are_no_different():
    listed = []
    actions = {16: lambda s: s.sell(size=10), 20: lambda s: listed.append(s.broker.pending)}
    strategy = play(guarded(bars(*flat(30))), actions)
    assert [list(orders) for orders in listed] == [[]]
    assert len(strategy.broker.inner.pending) == 1


def test_while_bt_risk_has_sent_nothing_a_list_is_the_broker_s_own():
    """A strategy may even change it, as in plain Backtrader."""
    same = []
    actions = {5: lambda s: same.append(s.broker.pending is s.broker.inner.pending)}
    play(guarded(bars(*flat(20))), actions)
    assert same == [True]


def test_waiting_while_an_order_is_open_ends():
    """An idiom of many strategies: nothing else is done while an order is open."""

    class Waits(bt.Strategy):
        def next(self):
            if self.broker.get_orders_open():
                return
            if len(self) == 20:
                self.buy(size=10)
            elif len(self) > 24 and self.position:
                self.close()

    engine = guarded(bars(*flat(30)))
    engine.addstrategy(Waits)
    assert not engine.run()[0].position


def test_a_loop_that_cancels_everything_ends_and_the_stop_stays():
    rounds = []

    def empty(strategy):
        while strategy.broker.get_orders_open():
            rounds.append(1)
            assert len(rounds) < 10
            strategy.cancel(strategy.broker.get_orders_open()[0])

    actions = {
        16: lambda s: s.buy(size=10),
        19: lambda s: [
            s.sell(exectype=bt.Order.Limit, price=p, size=5) for p in (130.0, 131.0, 132.0)
        ],
        21: empty,
    }
    strategy = play(guarded(bars(*flat(30))), actions)
    assert len(rounds) == 3
    (stop,) = strategy.broker.inner.get_orders_open()
    assert stop.exectype == bt.Order.Stop


def test_a_stop_that_a_strategy_cancels_on_every_bar_is_noted_once():
    """It reaches for the wrapped broker, where the stop is listed."""

    def cancel(strategy):
        for order in strategy.broker.inner.get_orders_open():
            assert strategy.broker.cancel(order) is False

    actions = dict.fromkeys(range(18, 28), cancel) | {16: lambda s: s.buy(size=10)}
    strategy = play(guarded(bars(*flat(30))), actions)
    lines = [line for line in strategy.broker.journal.lines if "cancelled from outside" in line[-1]]
    assert len(lines) == 1


# -- live ----------------------------------------------------------------------------------------


class Listing(FakeBroker):
    """A venue that lists its working orders, under every name that stores have for that."""

    def get_orders_open(self, safe=False):
        return [order.clone() if safe else order for order in self._working]

    @property
    def open_orders(self):
        return self._working

    @property
    def orders(self):
        return OrderedDict((order.info["venue_id"], order) for order in self._working)


def test_a_venue_lists_no_stop_of_bt_risk():
    listed = []

    def look(strategy):
        broker = strategy.broker
        names = broker.get_orders_open, broker.open_orders, broker.orders.values
        listed.append([[o.size for o in (n() if callable(n) else n)] for n in names])

    actions = {
        16: lambda s: s.buy(size=10),
        20: lambda s: s.sell(exectype=bt.Order.Limit, price=130.0, size=4),
        22: look,
    }
    venue = Listing()
    play(guarded(bars(*flat(30)), broker=venue), actions)
    assert listed == [[[-4], [-4], [-4]]]
    assert len(venue._working) == 2


class NeverSells(Listing):
    def _try(self, order):
        if order.isbuy():
            super()._try(order)


@pytest.mark.parametrize("safe", [False, True])
def test_an_exit_that_is_held_back_is_listed_as_the_strategy_knows_it(safe):
    """It waits on bar 25 for the cancel of the stop, and the venue has it from bar 26 on."""
    closed, listed = [], []

    def look(strategy):
        listed.append([o.ref for o in strategy.broker.get_orders_open(safe=safe)])

    actions = {
        20: lambda s: s.buy(size=10),
        25: lambda s: (closed.append(s.close()), look(s)),
        26: look,
        28: lambda s: s.cancel(s.broker.get_orders_open(safe=safe)[0]),
        30: look,
    }
    strategy = play(guarded(bars(*flat(35)), broker=NeverSells()), actions)
    ref = closed[0].ref
    assert listed == [[ref], [ref], []]
    assert [row[2] for row in strategy.orders if row[1] == ref][-1] == "Canceled"


def test_a_venue_that_lists_nothing_has_no_such_method():
    found = []
    actions = {5: lambda s: found.append(hasattr(s.broker, "get_orders_open"))}
    play(guarded(bars(*flat(20)), broker=FakeBroker()), actions)
    assert found == [False]


class FailsToCancel(Listing):
    def cancel(self, order):
        raise ConnectionError("no answer")


def test_a_cancel_that_keeps_failing_is_noted_once():
    engine = guarded(bars(*flat(35)))
    engine.setbroker(bt_risk.RiskBroker(FailsToCancel(), retry_after=0.0))
    actions = {20: lambda s: s.buy(size=10), 25: lambda s: s.close()}
    strategy = play(engine, actions)
    lines = [line for line in strategy.broker.journal.lines if "cancel failed" in line[-1]]
    assert len(lines) == 1
