"""Guards of a day and of hours behind a live broker: what one bar may do, and what two may."""

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.recording import ends, play
from helpers.scenarios import bars, flat

import bt_risk
from bt_risk import DailyLossLimit, DailyProfitTarget, ProfitLock, TradingHours


def live(guard, rows, actions, freq="min", stop=False, **venue):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(LiveFrame(dataname=bars(*rows, freq=freq)), name="D0")
    broker = FakeBroker(**venue)
    engine.setbroker(bt_risk.RiskBroker(broker, guards=[guard]))
    if stop:
        engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=20.0)
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = play(engine, actions)
    return strategy, strategy.analyzers.riskjournal.frame(), broker


def buy(size):
    return lambda s: s.buy(size=size)


GUARDS = [
    DailyLossLimit(0.03, flatten=True),
    DailyLossLimit(0.03, flatten=True, trigger="intrabar"),
    DailyLossLimit(3000, unit="currency", base="balance", flatten=True, trigger="intrabar"),
    DailyProfitTarget(0.03, flatten=True),
    ProfitLock(0.5, flatten=True, trigger="intrabar"),
]
WRONG = [
    (100, 101, 1.0, 100),
    (100, 900, 99, 100),
    (100, 99, 101, 100),
    (100, 100, 50, 50),
    (100, 150, 100, 150),
    (0, 0, 0, 0),
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda g: f"{g.name}-{g.unit}-{g.intrabar}")
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("side", [1, -1])
def test_one_wrong_bar_closes_nothing(guard, wrong, side):
    rows = [*flat(40), wrong, *flat(8)]
    enter = {30: lambda s: (s.buy if side > 0 else s.sell)(size=400)}
    strategy, journal, _ = live(guard, rows, enter)
    assert strategy.held[-1] == (side * 400,)
    assert (journal.action == "flat").sum() == 0


@pytest.mark.parametrize("wrong", [(100, 101, 1.0, 100), (100, 101, 60.0, 100)])
def test_one_wrong_low_refuses_nothing_either(wrong):
    guard = DailyLossLimit(0.03, trigger="intrabar")
    rows = [*flat(40), wrong, *flat(8)]
    strategy, _, _ = live(guard, rows, {30: buy(400), 44: buy(1)})
    assert strategy.held[-1] == (401,)


@pytest.mark.parametrize("guard", GUARDS[:3], ids=lambda g: f"{g.name}-{g.unit}-{g.intrabar}")
@pytest.mark.parametrize("stop", [False, True])
def test_a_loss_that_lasts_closes_everything_once_and_leaves_no_stop(guard, stop):
    rows = [*flat(40), (100, 100, 92, 92), *flat(8, price=92.0)]
    strategy, journal, broker = live(guard, rows, {30: buy(400), 46: buy(1)}, stop=stop)
    assert strategy.held[-1] == (0,)
    assert broker.sizes == [400, 0]
    assert not broker._working
    assert journal[journal.action.isin(["over", "flat"])].action.tolist() == ["over", "flat"]
    assert [row[0] for row in ends(strategy)][-1] == "Rejected"


def test_a_window_that_ends_closes_behind_a_live_broker():
    """Minutes from 00:00 on; flat by the open of 00:40."""
    guard = TradingHours(["00:00-00:45"], flat_before=5)
    strategy, journal, broker = live(guard, flat(60), {20: buy(10), 50: buy(1)}, stop=True)
    assert broker.sizes == [10, 0]
    assert not broker._working
    over = journal[journal.action == "over"].iloc[0]
    assert (over.time.minute, over.data) == (39, "D0")
    assert [row[0] for row in ends(strategy)][-1] == "Rejected"
