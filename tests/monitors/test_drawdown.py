"""The drawdown breaker, bar by bar: when a halt is complete and when a pause ends."""

import itertools

import backtrader as bt
import pytest
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


@pytest.mark.parametrize("confirmations", [1, 3])
@pytest.mark.parametrize(
    "wrong", [(100, 101, 99, 0.0), (100, 1000, 99, 1000.0), (100, 99, 101, 50)]
)
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_one_close_of_zero_or_of_ten_times_the_price_trips_nothing(side, wrong, confirmations):
    rows = flat(60)
    rows[40] = wrong
    engine = cerebro(bars(*rows))
    engine.addanalyzer(bt_risk.DrawdownBreaker, confirmations=confirmations)
    strategy = play(engine, {30: lambda s: getattr(s, side)(size=250)})
    halt = strategy.analyzers.drawdownbreaker.get_analysis()
    assert (halt["state"], len(strategy)) == ("ARMED", 60)
    assert halt["high_water_mark"] == pytest.approx(100.0)


def test_a_fall_that_lasts_trips_on_the_bar_after_it():
    rows = [*flat(40), *flat(20, price=50.0)]
    engine = cerebro(bars(*rows))
    engine.addanalyzer(bt_risk.DrawdownBreaker)
    strategy = play(engine, {30: lambda s: s.buy(size=500)})
    halt = strategy.analyzers.drawdownbreaker.get_analysis()
    assert halt["state"] == "LOCKED"
    assert len(strategy) == 43  # the fall on bar 41, the trip on 42, flat on 43


def test_deposits_by_set_cash_hide_no_loss():
    """1,000 on every bar while a position loses half: the drawdown is that of the unit value."""
    falling = [(100 - k * 0.9, 100.2 - k * 0.9, 99 - k * 0.9, 99.1 - k * 0.9) for k in range(60)]
    engine = cerebro(bars(*flat(30), *falling))
    engine.addanalyzer(bt_risk.DrawdownBreaker)
    engine.addstrategy(Saving)
    (strategy,) = engine.run()
    assert strategy.analyzers.drawdownbreaker.get_analysis()["state"] == "LOCKED"


def test_a_withdrawal_by_set_cash_is_no_drawdown():
    engine = cerebro(bars(*flat(60)))
    engine.addanalyzer(bt_risk.DrawdownBreaker)
    take = {40: lambda s: s.broker.set_cash(s.broker.get_cash() - 30_000.0)}
    strategy = play(engine, {30: lambda s: s.buy(size=250)} | take)
    halt = strategy.analyzers.drawdownbreaker.get_analysis()
    assert (halt["state"], halt["max_drawdown"]) == ("ARMED", pytest.approx(0.0, abs=1e-12))


class Saving(bt.Strategy):
    """Pay in on every bar, and buy once."""

    def next(self):
        self.broker.set_cash(self.broker.get_cash() + 1000.0)
        if len(self) == 30:
            self.buy(size=900)
