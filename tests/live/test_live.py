"""A live feed has ticks of the loop without a bar: fills and halts come between bars, too."""

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.scenarios import Script, bars, flat

import bt_risk


def live(rows, actions, **breaker):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(LiveFrame(dataname=bars(*rows)), name="D0")
    engine.setbroker(FakeBroker())
    engine.addstrategy(Script, actions=actions)
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addanalyzer(bt_risk.DrawdownBreaker, **breaker)
    return engine, engine.run()[0]


CRASH = [*flat(25), (80, 81, 79, 80), *flat(4, price=80.0)]


def test_a_halt_ends_between_bars_once_the_venue_has_closed_everything():
    engine, strategy = live(CRASH, {20: lambda s: s.buy(size=1000)}, drawdown_limit=0.1)
    halt = strategy.analyzers.drawdownbreaker.get_analysis()
    assert halt["state"] == "LOCKED"
    assert halt["flattened"]
    assert engine.broker.getposition(strategy.data).size == 0
    assert len(strategy) == 26  # the bar of the trip was the last: no later one was waited for


def test_the_last_fill_is_delivered_before_the_engine_stops():
    _, strategy = live(CRASH, {20: lambda s: s.buy(size=1000)}, drawdown_limit=0.1)
    assert [row[2] for row in strategy.orders][-1] == "Completed"
    assert len(strategy.trades) == 1


def test_a_paused_run_goes_on_between_bars_and_stays_flat():
    engine, strategy = live(
        CRASH,
        {20: lambda s: s.buy(size=1000), 28: lambda s: s.buy(size=10)},
        drawdown_limit=0.1,
        action="pause",
    )
    assert len(strategy) == len(CRASH)
    assert strategy.held[-1] == (0,)
    assert strategy.orders[-1][2] == "Rejected"
    assert "drawdown" in strategy.orders[-1][-1]


@pytest.mark.parametrize("idle", [0, 1, 6])
def test_a_stop_follows_a_position_whatever_the_rhythm_of_the_feed(idle):
    rows = [*flat(25), (100, 106, 100, 106), (106, 110, 106, 110), (100, 100, 95, 96), *flat(3)]
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(LiveFrame(dataname=bars(*rows), idle=idle), name="D0")
    engine.setbroker(FakeBroker())
    engine.addstrategy(Script, actions={20: lambda s: s.buy(size=10)})
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = engine.run()[0]
    fills = [row for row in strategy.orders if row[2] == "Completed"]
    assert [row[4] for row in fills] == [10, -10]
    assert max(engine.broker.resting) == 0
    assert min(engine.broker.resting) == -10
    assert strategy.held[-1] == (0,)


class LateContract(FakeBroker):
    """Know the contract of a data feed only once that has a bar, as Interactive Brokers' broker."""

    def getcommissioninfo(self, data):
        assert len(data), "no contract yet"
        return super().getcommissioninfo(data)


def test_a_broker_may_know_a_contract_only_once_its_feed_has_started():
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(LiveFrame(dataname=bars(*flat(30))), name="D0")
    engine.setbroker(LateContract())
    engine.addstrategy(Script, actions={20: lambda s: s.buy(size=10)})
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.run()
    assert engine.broker.getposition(engine.datas[0]).size == 10
