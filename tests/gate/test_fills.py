"""Fills that a venue reports more than once."""

from helpers.fake_broker import FakeBroker
from helpers.recording import limit_orders, play
from helpers.scenarios import bars, cerebro, flat

from bt_risk.limits.base import NotionalLimit


class Repeating(FakeBroker):
    """A venue that says everything twice."""

    def _notify(self, order):
        super()._notify(order)
        super()._notify(order)


def test_a_fill_that_a_venue_tells_twice_is_booked_once():
    """500 are allowed: 300 and then 200 more."""
    engine = cerebro(bars(*flat(30)))
    engine.setbroker(Repeating())
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, {5: lambda s: s.buy(size=300), 10: lambda s: s.buy(size=300)})
    assert strategy.held[-1] == (500,)
