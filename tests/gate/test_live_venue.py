"""A venue that answers later: what is closed there is closed once, and not too often tried."""

import pytest
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.scenarios import flat


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


def test_a_refused_exit_is_tried_again_after_a_while_and_not_at_once():
    """There are four rounds of the loop in every bar, and a bar takes one second."""
    clock = Clock()
    venue = Refusing(clock=clock, until=34.0)

    def at(bar):
        def tell(strategy):
            clock.now = float(bar)
            if bar == 25:
                strategy.broker.halt("enough", flatten=True)

        return tell

    actions = {bar: at(bar) for bar in range(1, 40)} | {20: lambda s: s.buy(size=10)}
    run(venue, flat(40), actions, stop=False, clock=clock, retry_after=5.0)
    assert venue.tried == [25.0, 30.0, 35.0]
    assert venue.sizes == [10, 0]


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
