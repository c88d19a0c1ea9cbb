"""A venue that answers later: what is closed there is closed once, and not too often tried."""

import backtrader as bt
import pytest
from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.scenarios import flat

from bt_risk.limits.base import NotionalLimit


@pytest.mark.parametrize("side", [1, -1])
def test_what_a_market_exit_of_the_user_closes_is_left_out_of_a_flatten(side):
    """10 are held and 4 are on their way out when the halt comes: 6 are left to close."""
    venue = FakeBroker()

    def enter(strategy):
        return strategy.buy(size=10) if side > 0 else strategy.sell(size=10)

    def leave_and_halt(strategy):
        out = strategy.sell if side > 0 else strategy.buy
        out(size=4)
        strategy.broker.halt("enough", flatten=True)

    run(venue, flat(30), {20: enter, 25: leave_and_halt}, stop=False)
    assert venue.sizes == [side * 10, side * 6, 0]


class Refusing(FakeBroker):
    """Refuse every sale before `clock` is at `until`, and note when each was tried."""

    params = (("clock", None), ("until", 0.0))

    def start(self):
        super().start()
        self.tried = []

    def sell(self, owner, data, size, **kwargs):
        self.tried.append(self.p.clock.now)
        if self.p.clock.now < self.p.until:
            raise ValueError("the market is closed")
        return super().sell(owner, data, size, **kwargs)


def in_seconds(clock, actions):
    """Return actions that let a bar, which has four rounds of the loop, take a second."""

    def at(bar):
        def act(strategy):
            clock.now = float(bar)
            return actions[bar](strategy) if bar in actions else None

        return act

    return {bar: at(bar) for bar in range(1, 40)}


def halt(strategy):
    strategy.broker.halt("enough", flatten=True)


def test_a_refused_exit_is_tried_again_after_a_while_and_not_at_once():
    clock = Clock()
    venue = Refusing(clock=clock, until=34.0)
    actions = in_seconds(clock, {20: lambda s: s.buy(size=10), 25: halt})
    run(venue, flat(40), actions, stop=False, clock=clock, retry_after=5.0)
    assert venue.tried == [25.0, 30.0, 35.0]
    assert venue.sizes == [10, 0]


def rest(strategy):
    return strategy.buy(size=10, price=50.0, exectype=bt.Order.Limit)


def test_a_cancel_without_an_answer_is_sent_again_after_a_while_and_not_at_once():
    """On bars 25, 30 and 35 of 39."""
    clock, venue = Clock(), hostile.Deaf(fails=100, silent=True)
    actions = in_seconds(clock, {20: rest, 25: halt})
    run(venue, flat(39), actions, stop=False, clock=clock, retry_after=5.0)
    assert venue.cancels == 3


class Doubted(hostile.Replacing, hostile.WithIds):
    """Report nothing of an order whose answer is lost before it is found by its id.

    `knows` notes of every order that is cancelled or replaced whether it is one of the broker's.
    """

    capabilities = {"replace": True, "client_ids": True}

    def start(self):
        super().start()
        self.knows = []

    def _notify(self, order):
        lost = order.info["venue_id"] in [f"V{number}" for number in self.p.lose]
        if not lost or self.asked > self.p.deaf:
            super()._notify(order)

    def _look_for(self, order):
        self.knows.append(order.ref in [one.ref for one in self._working])

    def cancel(self, order):
        self._look_for(order)
        super().cancel(order)

    def replace(self, order, size, price):
        self._look_for(order)
        return super().replace(order, size, price)


def test_an_order_in_doubt_is_cancelled_once_it_is_found():
    """Its answer is lost on bar 20, it is cancelled on bar 21, and found on bar 24."""
    clock, venue = Clock(), Doubted(lose={1: "answer"}, deaf=2)
    actions = in_seconds(clock, {20: rest, 21: halt})
    limits = [NotionalLimit(1.0)]
    run(venue, flat(30), actions, stop=False, limits=limits, clock=clock, retry_after=2.0)
    assert venue.knows == [True]
    assert not venue._working


def test_a_stop_in_doubt_is_moved_once_it_is_found():
    """Prices rise from bar 26 on; the answer about the stop, sent on bar 21, is there on 31."""
    rows = [*flat(25), *[(100 + k, 102 + k, 99 + k, 101 + k) for k in range(15)]]
    clock, venue = Clock(), Doubted(lose={2: "answer"}, deaf=2)
    actions = in_seconds(clock, {20: lambda s: s.buy(size=10)})
    run(venue, rows, actions, clock=clock, retry_after=5.0)
    assert venue.replaced == len(venue.knows) > 5
    assert all(venue.knows)
    (stop,) = venue._working
    assert stop.created.price > 105.0


def test_the_exit_of_the_next_trade_does_not_wait_for_that_of_the_last():
    """Both stops are emulated, and the clock stands still: 96 is reached, then 88 of 92."""

    class Plain(FakeBroker):
        capabilities = {"stop": False}

    rows = [*flat(22), (100, 101, 92, 92), *flat(3, price=92.0), (92, 93, 70, 80)]
    venue = Plain()
    actions = {20: lambda s: s.buy(size=10), 25: lambda s: s.buy(size=20)}
    _, journal = run(venue, [*rows, *flat(4, price=80.0)], actions, clock=Clock())
    assert venue.sizes == [10, 0, 20, 0]
    assert reasons(journal, "emulated")
