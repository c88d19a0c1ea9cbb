"""The drawdown breaker, bar by bar: when a halt is complete and when a pause ends."""

import itertools

import backtrader as bt
from helpers.fake_broker import FakeBroker
from helpers.recording import play
from helpers.scenarios import bars, cerebro, flat

import bt_risk


def falling(bar):
    """Return an account value that falls by half at this call of the breaker."""
    calls = itertools.count(1)
    return lambda: 100.0 if next(calls) < bar else 50.0


def test_an_entry_that_a_venue_has_not_cancelled_yet_is_waited_for():
    engine = cerebro(bars(*flat(30)))
    venue = FakeBroker()
    engine.setbroker(venue)
    engine.addanalyzer(bt_risk.DrawdownBreaker, equity=falling(10), _name="breaker")
    resting = {"size": 10, "exectype": bt.Order.Limit, "price": 90.0}
    strategy = play(engine, {5: lambda s: s.buy(**resting)})
    assert not venue._working
    assert len(strategy) < 30
    assert strategy.analyzers.breaker.get_analysis()["flattened"]


def test_a_cool_down_counts_bars_of_the_first_data_only():
    """The first data has a bar every second day: 3 bars are 6 days."""
    frame = bars(*flat(40))
    engine = cerebro(frame[::2], frame)
    engine.addanalyzer(bt_risk.DrawdownBreaker, action="pause", cooldown_bars=3, equity=falling(11))
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    strategy = play(engine, {})
    lines = strategy.analyzers.journal.get_analysis()["decisions"]
    halt, rearm = (
        next(line["time"] for line in lines if line["action"] == action)
        for action in ("halt", "rearm")
    )
    assert (rearm - halt).days == 6
