"""Behind a live broker an entry waits for the exit that makes room for it."""

import backtrader as bt
import pytest
from helpers.capable_broker import CapableBroker
from helpers.hostile_brokers import Clock, Ticking, reasons
from helpers.scenarios import Script, bars, flat

import bt_risk

WAITS = "entry handover: waits for the exit of A"


def rotate(actions, limits, *, rows=40, clock=None, timeout=5.0, **venue):
    engine = bt.Cerebro(stdstats=False)
    for name in ("A", "B"):
        engine.adddata(Ticking(dataname=bars(*flat(rows))), name=name)
    broker = CapableBroker(**venue)
    live = {"clock": clock or Clock(), "handover_timeout": timeout, "retry_after": 0.0}
    engine.setbroker(bt_risk.RiskBroker(broker, limits=limits, **live))
    engine.addstrategy(Script, actions=actions)
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = engine.run(quicknotify=True)[0]
    return broker, strategy, strategy.analyzers.riskjournal.frame()


def swap(s):
    return s.close(data=s.data0), s.buy(data=s.data1, size=400)


BUY = {20: lambda s: s.buy(data=s.data0, size=400)}
FULL = {20: lambda s: s.buy(data=s.data0, size=500)}
LIMITS = [bt_risk.GrossLimit(0.5, exposure_unit="notional")]


def last(strategy, order):
    return [row for row in strategy.orders if row[1] == order.ref][-1]


def test_a_rotation_waits_and_is_then_sent_whole():
    venue, strategy, journal = rotate(BUY | {25: swap}, LIMITS)
    assert venue.sizes == [400, 0, 400]
    assert WAITS in reasons(journal, "note")
    assert last(strategy, strategy.made[-1][1])[2] == "Completed"
    assert strategy.held[-1] == (0, 400)
    assert strategy.broker.book.working == {}
    # Nothing of the entry was sent before the exit had filled.
    assert [row[3] for row in venue.requests] == [400, 400, 400]


def test_an_entry_that_fits_beside_the_position_does_not_wait():
    def hedge(s):
        return s.close(data=s.data0), s.buy(data=s.data1, size=100)

    venue, _, journal = rotate(BUY | {25: hedge}, LIMITS)
    assert WAITS not in reasons(journal, "note")
    assert sorted(venue.sizes) == [0, 100, 400]


def test_an_entry_that_would_be_refused_anyway_does_not_wait():
    def swap_too_large(s):
        s.broker.reduce_only("by hand")
        return s.close(data=s.data0), s.buy(data=s.data1, size=400)

    venue, strategy, journal = rotate(BUY | {25: swap_too_large}, LIMITS)
    assert WAITS not in reasons(journal, "note")
    assert venue.sizes == [400, 0]
    assert last(strategy, strategy.made[-1][1])[2] == "Rejected"


def test_where_the_exit_does_not_come_the_entry_is_judged_as_things_are():
    """The exit fills on bar 35; the entry waits 5 seconds of a clock that counts each question."""
    clock = Clock(step=0.05)
    venue, strategy, _ = rotate(FULL | {25: swap}, LIMITS, clock=clock, slow={2: 35})
    assert venue.sizes == [500, 0]
    entry = last(strategy, strategy.made[-1][1])
    assert entry[2] == "Rejected"
    assert entry[-1].startswith("GrossLimit")


def test_where_the_exit_does_not_come_the_entry_is_cut_to_what_is_left():
    def smaller(s):
        return s.close(data=s.data0), s.buy(data=s.data1, size=400)

    actions = {20: lambda s: s.buy(data=s.data0, size=200), 25: smaller}
    venue, strategy, _ = rotate(actions, LIMITS, clock=Clock(step=0.05), slow={2: 35})
    assert venue.sizes == [200, 300, 0]
    assert last(strategy, strategy.made[-1][1])[2] == "Completed"


def test_an_exit_that_is_rejected_ends_the_waiting_at_once():
    venue, strategy, _ = rotate(FULL | {25: swap}, LIMITS, reject=("V2",))
    assert venue.sizes == [500]
    assert last(strategy, strategy.made[-1][1])[2] == "Rejected"


def test_an_entry_that_waits_can_be_cancelled():
    def cancels(s):
        s.cancel(swap(s)[1])

    venue, strategy, _ = rotate(BUY | {25: cancels}, LIMITS)
    assert venue.sizes == [400, 0]
    assert strategy.orders
    assert strategy.broker.book.working == {}


def test_a_halt_ends_the_waiting():
    def halts(s):
        made = swap(s)
        s.broker.halt("by hand")
        return made

    venue, strategy, _ = rotate(BUY | {25: halts}, LIMITS, slow={2: 30})
    assert venue.sizes == [400, 0]
    assert last(strategy, strategy.made[-1][1])[2] == "Rejected"


@pytest.mark.parametrize("can", [("brackets",)])
def test_a_bracket_waits_with_its_children(can):
    def bracket(s):
        s.close(data=s.data0)
        market = bt.Order.Market
        return s.buy_bracket(
            data=s.data1, size=400, exectype=market, stopprice=95.0, limitprice=110.0
        )

    venue, strategy, journal = rotate(BUY | {25: bracket}, LIMITS, can=can)
    assert WAITS in reasons(journal, "note")
    assert venue.sizes == [400, 0, 400]
    assert sorted(order.executed.remsize for order in venue._working) == [-400, -400]
    entry, *_ = strategy.made[-1]
    assert last(strategy, entry)[2] == "Completed"


def test_a_second_entry_that_waits_finds_the_room_taken():
    def two(s):
        return (*swap(s), s.buy(data=s.data1, size=200))

    venue, strategy, _ = rotate(BUY | {25: two}, LIMITS)
    assert venue.sizes == [400, 0, 400, 500]
    assert last(strategy, strategy.made[-1][2])[2] == "Completed"
