"""Behind a live broker entries wait where it would get too many requests a second."""

import backtrader as bt
import pytest
from helpers.capable_broker import CapableBroker
from helpers.frames import PandasData
from helpers.hostile_brokers import Clock, Ticking, reasons
from helpers.scenarios import Script, bars, flat

import bt_risk

ROUND = 0.125  # seconds; a bar has four rounds of the loop


class Timed(CapableBroker):
    """Let a round of the loop take `ROUND` seconds, and note when each request came."""

    params = (("clock", None),)

    def start(self):
        super().start()
        self.log = []

    def next(self):
        self.p.clock.now += ROUND
        super().next()

    def note(self, verb, order, size=0.0):
        self.log.append((self.p.clock.now, verb, order.data._name, size))

    def _request(self, kind, owner, data, size, *args, **kwargs):
        order = super()._request(kind, owner, data, size, *args, **kwargs)
        self.note("buy" if order.isbuy() else "sell", order, size)
        return order

    def cancel(self, order):
        self.note("cancel", order)
        super().cancel(order)

    def replace(self, order, size, price):
        self.note("replace", order, size)
        return super().replace(order, size, price)


def run(actions, rate=2, *, feeds=3, limits=None, stop=False, rows=None, **venue):
    engine, clock = bt.Cerebro(stdstats=False), Clock()
    for number in range(feeds):
        engine.adddata(Ticking(dataname=bars(*(rows or flat(40)))), name=f"D{number}")
    broker = Timed(clock=clock, **venue)
    limits = [bt_risk.GrossLimit(0.5, exposure_unit="notional")] if limits is None else limits
    live = {"clock": clock, "retry_after": 100.0, "reconcile_every": 0}
    engine.setbroker(bt_risk.RiskBroker(broker, limits=limits, orders_per_second=rate, **live))
    engine.addstrategy(Script, actions=actions)
    if stop:
        engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = engine.run(quicknotify=True)[0]
    return broker, strategy, strategy.analyzers.riskjournal.frame()


def times(broker, verb):
    return [row[0] for row in broker.log if row[1] == verb]


def last(strategy, order):
    return [row for row in strategy.orders if row[1] == order.ref][-1]


def most_in(moments, seconds=1.0):
    return max(sum(0 <= other - one < seconds for other in moments) for one in moments)


def buy_each(size=100, times=1):
    def act(s):
        return [s.buy(data=data, size=size) for _ in range(times) for data in s.datas]

    return act


def test_entries_wait_until_the_broker_takes_another_request():
    broker, strategy, journal = run({20: buy_each(times=2)}, rate=2)
    assert len(times(broker, "buy")) == 5  # the sixth is beyond the limit of exposure
    assert most_in(times(broker, "buy")) == 2
    noted = [reason for reason in reasons(journal, "note") if "orders_per_second" in reason]
    assert noted == ["orders_per_second: waits, 2 requests were sent in the last 1 s"] * 4
    assert strategy.held[-1] == (200, 200, 100)
    assert strategy.broker.book.working == {}


def test_an_entry_is_judged_again_when_it_is_sent():
    """Six of 100 units would be 60 % of equity: the sixth is refused when its turn comes."""
    _, strategy, _ = run({20: buy_each(times=2)}, rate=2)
    *others, sixth = strategy.made[-1]
    assert last(strategy, sixth)[2] == "Rejected"
    assert last(strategy, sixth)[-1].startswith("GrossLimit")
    assert {last(strategy, order)[2] for order in others} == {"Completed"}


def test_without_the_setting_nothing_waits():
    broker, _, journal = run({20: buy_each(times=2)}, rate=None)
    assert len(set(times(broker, "buy"))) == 1
    assert not [reason for reason in reasons(journal, "note") if "orders_per_second" in reason]


@pytest.mark.parametrize(
    ("rate", "most", "seconds"), [(0.5, 1, 2.0), (1, 1, 1.0), (1.6, 1, 0.625), (2.5, 2, 0.8)]
)
def test_the_rate_may_be_any_number(rate, most, seconds):
    broker, _, _ = run({20: buy_each()}, rate=rate)
    moments = times(broker, "buy")
    assert len(moments) == 3
    assert most_in(moments, seconds) == most
    assert moments[-1] <= moments[0] + 3 / rate  # and nothing waits for longer


def test_exits_never_wait_and_go_before_the_entries():
    def rotate(s):
        entries = [s.buy(data=s.datas[2], size=50), s.buy(data=s.datas[2], size=50)]
        return [*entries, s.close(data=s.datas[0]), s.close(data=s.datas[1])]

    actions = {20: lambda s: [s.buy(data=d, size=100) for d in s.datas[:2]], 25: rotate}
    broker, strategy, _ = run(actions, rate=1)
    sells = times(broker, "sell")
    assert len(sells) == 2
    assert sells[0] == sells[1]
    entries = [row[0] for row in broker.log if row[1:3] == ("buy", "D2")]
    assert entries[0] == sells[0]  # the first request of its second
    assert entries[1] >= sells[1] + 1.0
    assert strategy.held[-1] == (0, 0, 100)


def test_the_stop_behind_a_position_never_waits():
    broker, _, _ = run({20: buy_each()}, rate=1, stop=True)
    for name in ("D0", "D1", "D2"):
        bought = next(t for t, verb, data, _ in broker.log if (verb, data) == ("buy", name))
        stopped = next(t for t, verb, data, _ in broker.log if (verb, data) == ("sell", name))
        assert stopped <= bought + 5 * ROUND  # the fill comes with the next bar


def test_the_moves_of_stops_count_and_never_wait():
    rise = [(100 + k, 102 + k, 99 + k, 101 + k) for k in range(20)]
    rows = [*flat(20), *rise]
    broker, strategy, _ = run(
        {20: buy_each(), 30: lambda s: s.buy(data=s.datas[0], size=10)},
        rate=1,
        stop=True,
        rows=rows,
        can=("replace",),
        limits=[bt_risk.GrossLimit(0.9, exposure_unit="notional")],
    )
    moved = times(broker, "replace")
    assert most_in(moved) == 2  # on each bar of half a second
    assert len(times(broker, "buy")) == 1  # no other entry has a turn
    assert last(strategy, strategy.made[-1])[2] == "Submitted"


def test_an_exit_that_comes_with_an_entry_that_waits_closes_that_entry_alone():
    def guarded(s):
        made = buy_each()(s)
        stop = s.sell(data=s.datas[1], size=100, exectype=bt.Order.Stop, price=95.0)
        return [*made, stop]

    rows = [*flat(32), (100, 101, 90, 91), *flat(7, 91.0)]
    broker, strategy, _ = run({20: guarded}, rate=0.5, feeds=2, rows=rows)
    assert strategy.held[-1] == (100, 0)
    assert min(size for row in strategy.held for size in row) == 0
    bought = next(t for t, verb, data, _ in broker.log if (verb, data) == ("buy", "D1"))
    stopped = next(t for t, verb, data, _ in broker.log if (verb, data) == ("sell", "D1"))
    assert bought < stopped <= bought + 6 * ROUND


def test_an_entry_that_waits_can_be_cancelled_without_a_request():
    def cancels(s):
        made = buy_each()(s)
        s.cancel(made[2])
        return made

    broker, strategy, _ = run({20: cancels}, rate=2)
    assert times(broker, "cancel") == []
    assert len(times(broker, "buy")) == 2
    assert last(strategy, strategy.made[-1][2])[2] == "Canceled"


def limit(data, price=50.0):
    return dict(data=data, size=10, exectype=bt.Order.Limit, price=price)


def test_the_cancel_of_an_entry_waits_and_that_of_an_exit_does_not():
    def place(s):
        return [s.buy(**limit(s.datas[0])), s.buy(**limit(s.datas[1]))]

    def both(s):
        exit_ = s.sell(**limit(s.datas[2], 150.0))
        for order in [*s.made[-1], exit_]:
            s.cancel(order)
        return exit_

    actions = {18: lambda s: [s.buy(data=s.datas[2], size=10)], 20: place, 25: both}
    broker, strategy, journal = run(actions, rate=1)
    cancelled = {data: moment for moment, verb, data, _ in broker.log if verb == "cancel"}
    sent = next(t for t, verb, data, _ in broker.log if (verb, data) == ("sell", "D2"))
    assert cancelled["D2"] == sent
    assert cancelled["D0"] >= sent + 1.0
    assert cancelled["D1"] >= cancelled["D0"] + 1.0
    assert sum("its cancel waits" in reason for reason in reasons(journal, "note")) == 2
    assert strategy.broker.book.working == {}


def test_a_cancel_that_waits_is_dropped_where_the_order_has_filled():
    rows = [*flat(25), (100, 101, 45, 46), *flat(14, 100.0)]

    def place(s):
        return [s.buy(**limit(s.datas[0])), s.buy(**limit(s.datas[1]))]

    def cancel(s):
        for order in s.made[-1]:
            s.cancel(order)

    broker, strategy, _ = run({20: place, 24: cancel}, rate=0.25, rows=rows)
    assert len(times(broker, "cancel")) <= 1
    assert strategy.broker.book.working == {}


def test_a_halt_ends_the_waiting_and_its_own_cancels_do_not_wait():
    def place(s):
        return [s.buy(**limit(data)) for data in s.datas]

    def halt(s):
        s.broker.halt("by hand")

    broker, strategy, _ = run({20: place, 21: halt}, rate=1)
    assert len(times(broker, "buy")) == 1
    assert len(times(broker, "cancel")) == 1
    assert times(broker, "cancel")[0] < times(broker, "buy")[0] + 1.0
    assert [last(strategy, o)[2] for o in strategy.made[0]] == ["Canceled", "Rejected", "Rejected"]


def test_a_bracket_waits_whole():
    def brackets(s):
        options = dict(size=100, exectype=bt.Order.Market, stopprice=95.0, limitprice=110.0)
        return [order for data in s.datas[:2] for order in s.buy_bracket(data=data, **options)]

    broker, strategy, _ = run({20: brackets}, rate=3, can=("brackets", "oco"))
    moments = [row[0] for row in broker.log]
    assert len(moments) == 6
    assert moments[:3] == moments[:1] * 3
    assert moments[3:] == moments[3:4] * 3
    assert moments[3] >= moments[0] + 1.0
    assert strategy.held[-1] == (100, 100, 0)


def test_the_simulation_takes_any_number_of_orders():
    engine = bt.Cerebro(stdstats=False)
    for number in range(3):
        engine.adddata(PandasData(dataname=bars(*flat(40))), name=f"D{number}")
    engine.setbroker(bt_risk.RiskBroker(engine.broker, orders_per_second=1))
    engine.addstrategy(Script, actions={20: buy_each(size=10)})
    strategy = engine.run()[0]
    assert strategy.held[-1] == (10, 10, 10)


def test_no_entry_overtakes_one_that_waits():
    """The window has room again while the strategy still orders: the second entry waits first."""

    def slowly(s):
        made = buy_each(size=10)(s)
        s.broker.live.clock.now += 1.5
        return [*made, s.buy(data=s.datas[0], size=20)]

    broker, _, _ = run({20: slowly}, rate=2)
    assert [row[2:] for row in broker.log] == [("D0", 10), ("D1", 10), ("D2", 10), ("D0", 20)]
