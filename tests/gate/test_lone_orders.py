"""An order that ends leaves BackBroker as it would be left without our calls, family or not."""

import random
from functools import lru_cache

import backtrader as bt
import pytest
from helpers.scenarios import cerebro, random_walk

import bt_risk
from bt_risk.gate.lone_orders import install_quick_ends

ORDER = bt.Order
SEEDS = 8


def refs(broker):
    """Return what a BackBroker remembers of orders, by their numbers from the first one on."""
    first = min(broker._ocos, default=0)
    number = {ref: ref - first for ref in range(first, first + 10_000)}
    families = {ref: [order.ref for order in family] for ref, family in broker._pchildren.items()}
    return (
        [number[order.ref] for order in (*broker.pending, *broker.submitted)],
        {number[ref]: [number[one] for one in group] for ref, group in broker._ocol.items()},
        {number[ref]: [number[one] for one in family] for ref, family in families.items()},
    )


class AnyOrders(bt.Strategy):
    """Send and cancel orders of every kind at random."""

    params = dict(seed=0)

    def __init__(self):
        self.rng, self.sent, self.heard, self.left = random.Random(self.p.seed), [], [], []
        self.answers = []

    def next(self):
        for _ in range(self.rng.randrange(4)):
            self.rng.choice((self.send, self.send, self.send_bracket, self.withdraw))()
        self.left.append(refs(self.broker))

    def send(self):
        rng, price = self.rng, self.data.close[0] * (1 + self.rng.uniform(-0.02, 0.02))
        kind = rng.choice((ORDER.Market, ORDER.Limit, ORDER.Stop))
        oco = rng.choice([None, None, *self.sent[-3:]])
        valid = rng.choice((None, None, self.data.datetime.date()))
        order = rng.choice((self.buy, self.sell))(
            size=rng.choice((1, 50)), price=price, exectype=kind, oco=oco, valid=valid
        )
        self.sent.append(order)

    def send_bracket(self):
        price = self.data.close[0]
        self.sent += self.buy_bracket(
            size=1, price=price * 0.99, stopprice=price * 0.97, limitprice=price * 1.02
        )

    def withdraw(self):
        if self.sent:
            order = self.rng.choice(self.sent)
            copied = order.clone() if self.rng.random() < 0.3 else order
            self.answers.append(self.broker.cancel(copied))

    def notify_order(self, order):
        self.heard.append((order.ref - self.sent[0].ref, order.status, order.executed.size))


@lru_cache
def run(seed, quick):
    """Return what a strategy hears, what it is answered and what the broker is left with."""
    engine = cerebro(random_walk(seed, 60))
    engine.addstrategy(AnyOrders, seed=seed)
    engine.broker.setcash(3000.0)
    if quick:
        assert len(install_quick_ends(engine.broker)) == 4
    strategy = engine.run()[0]
    return strategy.heard, strategy.answers, strategy.left, engine.broker.getvalue()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_an_order_leaves_behind_is_the_same(seed):
    plain = run(seed, quick=False)
    assert run(seed, quick=True) == plain


def test_orders_of_every_end_and_family_are_among_them():
    statuses, answers, alternatives, families = set(), set(), 0, 0
    for seed in range(SEEDS):
        heard, answered, left, _ = run(seed, quick=True)
        statuses |= {status for _, status, _ in heard}
        answers |= set(answered)
        alternatives = max([alternatives, *(len(g) for _, ocol, _ in left for g in ocol.values())])
        families = max([families, *(len(f) for *_, all_ in left for f in all_.values())])
    ends = {ORDER.Completed, ORDER.Canceled, ORDER.Expired, ORDER.Margin}
    assert ends <= statuses
    assert answers == {True, False}
    assert min(alternatives, families) > 1


def test_a_broker_with_calls_of_somebody_else_keeps_them():
    broker, cancelled = bt.brokers.BackBroker(), []
    broker.cancel = cancelled.append
    assert install_quick_ends(broker) == ["notify", "_ococheck", "_bracketize"]
    broker.cancel("order")
    assert cancelled == ["order"]


def test_a_broker_of_another_class_keeps_its_own_calls():
    class Own(bt.brokers.BackBroker):
        pass

    broker = Own()
    assert install_quick_ends(broker) == []
    assert not {"cancel", "notify"} & vars(broker).keys()


def protected(*strategies, **policy):
    """Return a Cerebro whose account is protected, with one data feed."""
    engine = cerebro(random_walk(3, 60))
    for strategy in strategies:
        engine.addstrategy(strategy)
    bt_risk.protect(engine, bt_risk.Policy(atr_period=3, **policy), fast=False)
    return engine


class BuysAndSells(bt.Strategy):
    def __init__(self):
        self.heard = []

    def next(self):
        if len(self) % 5 == 0:
            (self.close if self.position else self.buy)()

    def notify_order(self, order):
        self.heard.append((order.ref, order.getstatusname()))


def test_the_broker_is_left_as_it_was_found():
    engine = protected(BuysAndSells)
    inner = engine.broker.inner if isinstance(engine.broker, bt_risk.RiskBroker) else engine.broker
    before = set(vars(inner))
    engine.run()
    assert set(vars(inner)) - before <= {"startingcash", "cash"}


def test_strategies_hear_of_their_orders_and_of_none_of_ours():
    strategy = protected(BuysAndSells).run()[0]
    kinds = {name for _, name in strategy.heard}
    assert {"Submitted", "Accepted", "Completed"} <= kinds
    assert strategy.broker.own
    assert {name for ref, name in strategy.heard if ref in strategy.broker.own} <= {"Completed"}
