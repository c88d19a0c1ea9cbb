"""An exit at a venue waits until the stop that it replaces is cancelled."""

from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.recording import ends, play
from helpers.scenarios import Script, bars, cerebro, flat

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


def test_a_reversal_waits_for_the_stop_and_then_opens_what_it_was_allowed():
    """25 are sold against 10 that are held, behind a stop that is cancelled first."""
    engine = cerebro(bars(*flat(35)))
    venue = FakeBroker()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: lambda s: s.buy(size=10), 25: lambda s: s.sell(size=25)})
    assert venue.sizes == [10, -15]
    (stop,) = venue._working
    assert (stop.executed.remsize, strategy.held[-1]) == (15, (-15,))


def test_an_exit_whose_answer_is_lost_keeps_the_number_that_the_strategy_has():
    """Request 1 is the entry, 2 its stop, 3 the exit that has waited for the cancel of the stop."""
    venue = hostile.WithIds(lose={3: "answer"})
    actions = {20: lambda s: s.buy(size=10), 25: lambda s: s.close()}
    strategy, journal = hostile.run(venue, flat(35), actions, retry_after=0.0)
    assert len(hostile.reasons(journal, "doubt")) == 1
    assert venue.sizes == [10, 0]
    of_exits = [row for row in strategy.orders if row[3] < 0]
    assert {row[1] for row in of_exits} == {strategy.made[-1].ref}
    assert of_exits[-1][2] == "Completed"


def test_an_exit_that_the_broker_refuses_says_so_and_the_stop_is_back():
    """The second sale is the exit; the stop was the first, and is the third."""
    venue = hostile.Raising(error=ValueError("the market is closed"), at=(2,))
    actions = {20: lambda s: s.buy(size=10), 25: lambda s: s.close()}
    strategy, _ = hostile.run(venue, flat(35), actions)
    assert strategy.orders[-1][2] == "Rejected"
    assert strategy.orders[-1][-1] == "broker: ValueError: the market is closed"
    (stop,) = venue._working
    assert stop.executed.remsize == -10


def test_the_exit_of_one_strategy_leaves_the_stop_of_the_other_alone():
    """Two entries, two stops and one exit are sent; a stop that had to go would be a sixth."""
    engine = cerebro(bars(*flat(35)))
    venue = FakeBroker()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Script, actions={20: lambda s: s.buy(size=5)})
    play(engine, {20: lambda s: s.buy(size=10), 25: lambda s: s.sell(size=10)})
    assert venue.sizes == [5, 15, 5]
    assert [order.executed.remsize for order in venue._working] == [-5]
    assert venue._orders == 5
