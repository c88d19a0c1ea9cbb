"""An exit at a venue waits until the stop that it replaces is cancelled."""

from helpers.fake_broker import FakeBroker
from helpers.recording import ends, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk


class Slow(FakeBroker):
    """A venue that takes note of a cancel one tick late."""

    def start(self):
        super().start()
        self._heard = []

    def cancel(self, order):
        self._heard.append(order)

    def next(self):
        super().next()
        for order in self._heard:
            super().cancel(order)
        self._heard.clear()


def test_an_exit_waits_until_a_slow_venue_has_cancelled_the_stop():
    """The cancel of bar 25 is heard on bar 26 and done on bar 27, whose low reaches the stop."""
    rows = [*flat(26), (100, 101, 90, 92), *flat(4, price=92.0)]
    engine = cerebro(bars(*rows))
    venue = Slow()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: lambda s: s.buy(size=10), 25: lambda s: s.close()})
    assert venue.sizes == [10, 0]
    assert strategy.held[-1] == (0,)


def test_an_exit_that_waits_for_a_venue_can_be_cancelled():
    """The stop that made way for it is placed again: it fills on bar 31."""
    rows = [*flat(30), (100, 101, 90, 92), *flat(4, price=92.0)]
    engine = cerebro(bars(*rows))
    venue = FakeBroker()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    actions = {20: lambda s: s.buy(size=10), 25: lambda s: s.cancel(s.close())}
    strategy = play(engine, actions)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Canceled", "Completed"]
    assert strategy.held[29] == (10,)
    assert venue.sizes == [10, 0]


class NeverSells(FakeBroker):
    """A venue where no sell order fills."""

    def _try(self, order):
        if order.isbuy():
            super()._try(order)


def test_an_exit_that_a_venue_has_by_now_can_be_cancelled_by_its_old_number():
    """It is held back on bar 25, sent on bar 26, and the stop is back once it is cancelled."""
    engine = cerebro(bars(*flat(35)))
    venue = NeverSells()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    closed = []
    actions = {
        20: lambda s: s.buy(size=10),
        25: lambda s: closed.append(s.close()),
        26: lambda s: s.cancel(closed[0]),
    }
    strategy = play(engine, actions)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Canceled"]
    (stop,) = venue._working
    assert stop.executed.remsize == -10
