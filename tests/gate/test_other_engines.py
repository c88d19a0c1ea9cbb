"""An engine in Backtrader's place finds in the gate what it takes for granted."""

from types import SimpleNamespace

import backtrader as bt
import pytest
from helpers.recording import play
from helpers.scenarios import bars, cerebro, flat, random_walk

import bt_risk
from bt_risk.gate.other_engines import HeldFeeds, list_observer, order_held_feeds


class Empties(bt.Cerebro):
    """Empty the queue of the broker, as backtrader-next does, in place of asking it."""

    def _brokernotify(self):
        self._broker.next()
        queue = self._broker.notifs
        while queue:
            order = queue.popleft()
            order.owner._addnotification(order, quicknotify=self.p.quicknotify)


class Heard(bt.Strategy):
    def __init__(self):
        self.heard = []

    def notify_order(self, order):
        reason = order.info.get("bt_risk", "")
        self.heard.append((len(self), order.getstatusname(), order.executed.size, reason))

    def next(self):
        if len(self) in (10, 16):  # the ATR is unknown on the first
            self.buy(size=10)
        if len(self) == 24:
            self.close()


def heard(kind, **mode):
    engine = kind(stdstats=False, **mode)
    engine.adddata(bt_risk.FrameData(dataname=bars(*flat(30))), name="D0")
    engine.broker.setcash(100_000.0)
    bt_risk.protect(engine)
    engine.addstrategy(Heard)
    return engine.run()[0].heard


@pytest.mark.parametrize("mode", [{}, {"runonce": False}, {"quicknotify": True}])
def test_an_engine_that_empties_the_queue_itself_gets_every_notification(mode):
    found = heard(Empties, **mode)
    assert found == heard(bt.Cerebro, **mode)
    assert [status for _, status, _, _ in found if status == "Completed"] == ["Completed"] * 2
    assert any(reason for _, status, _, reason in found if status == "Rejected")


def test_the_queue_is_the_gates_and_that_of_the_wrapped_broker_is_left_alone():
    gate = bt_risk.RiskBroker()
    assert not gate.notifs
    assert len(gate.notifs) == 0
    with pytest.raises(IndexError):
        gate.notifs.popleft()
    assert gate.notifs is not gate.inner.notifs


class Feed:
    """A data feed by name."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


def test_held_feeds_come_in_the_order_of_the_positions():
    feeds = [Feed(f"D{number}") for number in range(20)]
    positions = dict.fromkeys(feeds)
    held = HeldFeeds(positions, {feeds[7], feeds[2]})
    for number in (11, 3, 19, 0, 3):
        held.add(feeds[number])
    held.discard(feeds[11])
    held.discard(feeds[12])
    assert list(held) == [feeds[number] for number in (0, 2, 3, 7, 19)]
    assert held
    assert not HeldFeeds(positions, ())


def test_only_a_broker_with_a_set_of_held_feeds_is_changed():
    feeds = [Feed(f"D{number}") for number in range(3)]
    broker = SimpleNamespace(positions=dict.fromkeys(feeds), _open_data=set(feeds[1:]))
    order_held_feeds(broker)
    ordered = broker._open_data
    assert list(ordered) == feeds[1:]
    order_held_feeds(broker)
    assert broker._open_data is ordered
    plain = SimpleNamespace(positions={})
    order_held_feeds(plain)
    assert vars(plain) == {"positions": {}}


def results(number):
    """Return journal and values of a protected run over ten data feeds, as text."""
    engine = cerebro(*(random_walk(seed, bars=120) for seed in range(10)))
    policy = bt_risk.Policy(exposure_limit=0.04, warmup_risk=0.003)
    bt_risk.protect(engine, policy)
    engine.addanalyzer(bt.analyzers.TimeReturn)
    trade = {day: lambda s, day=day: s.buy(s.datas[day % 10]) for day in range(20, 110, 3)}
    leave = {day: lambda s, day=day: s.close(s.datas[day % 10]) for day in range(31, 110, 7)}
    strategy = play(engine, leave | trade)
    journal = strategy.analyzers.riskjournal.get_analysis()
    return repr(journal), repr(strategy.analyzers.timereturn.get_analysis())


def test_ten_data_feeds_give_the_same_digits_wherever_they_are_in_memory():
    first, ballast = results(0), []
    assert len(first[0]) > 10_000
    for number in range(1, 6):
        ballast.append([bytearray(number * 100) for _ in range(number * 37)])
        assert results(number) == first


def observer_of(indicators, observers):
    strategy = SimpleNamespace(_ind_iterator=indicators, _obs_iterator=observers)
    return strategy, SimpleNamespace(_owner=strategy)


def test_an_observer_is_listed_among_the_observers_once():
    strategy, observer = observer_of(["an indicator"], [])
    strategy._ind_iterator.append(observer)
    before = strategy._ind_iterator
    list_observer(observer)
    list_observer(observer)
    assert strategy._ind_iterator == ["an indicator"]
    assert strategy._obs_iterator == [observer]
    assert before == ["an indicator", observer]


def test_the_lines_of_our_observers_are_drawn():
    engine = cerebro(bars(*flat(30)))
    bt_risk.protect(engine, bt_risk.Policy(correlation_limit=None))
    for kind in (bt_risk.observers.Drawdown, bt_risk.observers.Exposure):
        engine.addobserver(kind)
    strategy = play(engine, {18: lambda s: s.buy(size=10)})
    assert strategy.stats.drawdown.lines.drawdown[0] == 0.0
    assert strategy.stats.exposure.lines.long[0] > 0.0
    assert strategy.stats.atrtrailingstop.lines.stop[0] == 96.0
