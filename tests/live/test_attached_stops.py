"""A stop that a live broker receives with its entry: one for what is held, and never more."""

import backtrader as bt
import pytest
from helpers.attaching_broker import ATTACHED, AttachingBroker
from helpers.hostile_brokers import Clock, Ticking
from helpers.scenarios import Script, bars, flat

import bt_risk

SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])
FULL = pytest.mark.full
LONG = pytest.mark.parametrize("side", [1, pytest.param(-1, marks=FULL)], ids=["long", "short"])
BESIDE = pytest.param(("reduce_only", "two_exits"), marks=FULL)
CAN = pytest.mark.parametrize("can", [(), ("replace",), BESIDE])


class Venue(AttachingBroker):
    """Take client ids, too."""

    def buy(self, owner, data, size, client_id=None, **kwargs):
        return super().buy(owner, data, size, **kwargs)

    def sell(self, owner, data, size, client_id=None, **kwargs):
        return super().sell(owner, data, size, **kwargs)


def mirrored(rows, side):
    return rows if side > 0 else [(200 - o, 200 - low, 200 - h, 200 - c) for o, h, low, c in rows]


def enter(side, size=100, price=None, **options):
    """Return an action that opens a position; prices are those of a long one."""

    def act(s):
        send = s.buy if side > 0 else s.sell
        at = price if price is None or side > 0 else 200 - price
        return send(size=size, price=at, **options)

    return act


def play(actions, rows, side=1, strategies=1, live=None, oracle=True, **venue):
    """Run scripts behind a gate whose stops are attached; return venue, first strategy, journal."""
    broker = Venue(**venue | {"can": (*ATTACHED, *venue.get("can", ()))})
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(Ticking(dataname=bars(*mirrored(rows, side))), name="D0")
    settings = {"retry_after": 0.0, "clock": Clock(step=0.01)} | (live or {})
    engine.setbroker(bt_risk.RiskBroker(broker, **settings))
    for number in range(strategies):
        engine.addstrategy(Script, actions=actions[number] if strategies > 1 else actions)
    engine.addobserver(bt_risk.ATRTrailingStop, entry_stop="attached")
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = engine.run(quicknotify=True)[0]
    if oracle:
        check(broker, side)
    return broker, strategy, strategy.analyzers.riskjournal.frame()


def check(broker, side):
    """Never a position on the other side, and never two stops for the same units."""
    two = {"reduce_only", "two_exits"} <= set(broker.p.can)
    assert all(side * held >= 0 for held, _ in broker.rounds), "the other side was opened"
    for held, stops in broker.rounds:
        units = sum(size for size, _ in stops)
        assert units <= abs(held) * (2 if two else 1), "two stops for the same units"
    held, stops = broker.rounds[-1]
    assert sum(size for size, _ in stops) == abs(held), "not one stop for what is held"


def guarded(broker):
    """Return whether every round with a position has stops for all of it."""
    return all(sum(size for size, _ in stops) >= abs(held) for held, stops in broker.rounds)


def sent(broker, side):
    return [row[3] for row in broker.requests if row[0] == "send" and row[2] == side]


QUIET = [*flat(30), *flat(6, price=100.0)]
FALL = [*flat(20), (100, 100, 90, 92), *flat(5, price=92.0)]


@LONG
@CAN
def test_the_stop_arrives_with_the_entry_and_moves_to_the_stop_of_the_fill(side, can):
    rows = [*flat(20), (101, 102, 99, 101), *flat(8, price=101.0)]
    broker, strategy, journal = play({20: enter(side)}, rows, side, can=can)
    (_, entry, *_, first), (_, child, *_, second) = broker.requests[:2]
    assert (entry, child) == (1, 2)
    assert first["transmit"] is False
    assert second["parent"].info.number == 1
    assert not second["reduce_only"]
    reason = "entry_stop: the stop of a new position is sent with its entry"
    assert journal.reason.tolist().count(reason) == 1
    first_stop = next(stops for held, stops in broker.rounds if held)
    assert first_stop[0] == (100, pytest.approx(96.0 if side > 0 else 104.0))
    assert abs(broker.rounds[-1][0]) == 100
    assert broker.rounds[-1][1][0][1] == pytest.approx(97.0 if side > 0 else 103.0)
    assert guarded(broker) or not can
    assert len(strategy.broker.book.working) == 1


@SIDES
def test_the_stop_fills_inside_the_bar_of_the_entry(side):
    broker, strategy, _ = play({20: enter(side)}, FALL, side)
    assert [side * size for size in broker.sizes] == [100, 0]
    assert [row[0] for row in broker.requests] == ["send", "send"]
    assert strategy.broker.book.working == {}
    trade = strategy.broker.book.trades[0]
    assert trade.stopped
    assert trade.pnl == pytest.approx(-400.0)


# -- what the broker does with the entry -----------------------------------------------------------


@LONG
@CAN
@pytest.mark.parametrize("fall", [False, True], ids=["flat", "fall"])
def test_an_entry_that_fills_in_parts_has_its_stop_from_the_first_on(side, can, fall):
    """30 fill on the first bar that reaches the limit, the rest on the next."""
    rows = [*flat(20), *flat(3), *([(99, 99, 90, 92), *flat(5, 92.0)] if fall else flat(6))]
    limit = enter(side, price=99.5, exectype=bt.Order.Limit)
    broker, strategy, _ = play({20: limit}, rows, side, can=can, parts={1: 30})
    assert [side * size for size in broker.sizes] == [30, 100, *([0] if fall else [])]
    assert guarded(broker) or "replace" not in can
    first = next((held, stops) for held, stops in broker.rounds if held)
    assert abs(first[0]) == first[1][0][0] == 30
    assert first[1][0][1] == pytest.approx(95.5 if side > 0 else 104.5)
    assert broker.requests[1][2] == -side
    assert len(strategy.broker.book.working) == (0 if fall else 1)


@LONG
@CAN
@pytest.mark.parametrize("filled", [0, 30])
@pytest.mark.parametrize("lag", [0, pytest.param(2, marks=FULL), 5])
def test_an_entry_that_is_cancelled_leaves_a_stop_for_what_it_has_filled(side, can, filled, lag):
    rows = [*flat(20), *flat(9)]
    limit = enter(side, price=99.5 if filled else 97.5, exectype=bt.Order.Limit)
    actions = {20: limit, 21: lambda s: s.cancel(s.made[0])}
    parts = {1: filled} if filled else None
    broker, strategy, _ = play(actions, rows, side, can=can, parts=parts, lag=lag)
    first = strategy.made[0]
    ended = [row[2] for row in strategy.orders if row[1] == first.ref][-1]
    whole = filled and lag == 5  # the rest fills before its cancel arrives
    assert ended == ("Completed" if whole else "Canceled")
    assert abs(broker.rounds[-1][0]) == (100 if whole else filled)
    assert guarded(broker) or "replace" not in can
    stops = [w for w in strategy.broker.book.working.values() if w.own]
    assert [w.remaining for w in stops] == ([abs(broker.rounds[-1][0])] if filled else [])


@SIDES
def test_a_rejected_entry_leaves_no_stop(side):
    broker, strategy, _ = play({20: enter(side)}, QUIET, side, reject=("V1",))
    assert broker.sizes == []
    assert broker._working == []
    assert strategy.broker.book.working == {}
    assert strategy.orders[-1][2] == "Rejected"


@LONG
@CAN
@pytest.mark.parametrize(
    "refuses", ["None", pytest.param("error", marks=FULL), "Rejected", "later"]
)
def test_where_the_broker_refuses_the_child_the_position_gets_its_stop_when_it_is_heard(
    side, can, refuses
):
    actions = {20: enter(side), 26: lambda s: s.close(), 30: enter(side)}
    broker, strategy, journal = play(actions, [*QUIET, *flat(4)], side, can=can, refuses=refuses)
    assert [side * size for size in broker.sizes] == [100, 0, 100]
    assert broker.rounds[-1][1] == [(100, pytest.approx(100 - 4 * side))]
    children = [row for row in broker.requests if row[4].get("parent") is not None]
    assert len(children) + sum(row[0] == "refused" for row in broker.requests) == 1
    notes = [one for one in journal.reason if "the broker took no stop with its entry" in one]
    assert len(notes) == 1
    assert [row[2] for row in strategy.orders].count("Canceled") == 0
    assert "Rejected" not in [row[2] for row in strategy.orders]


@SIDES
def test_an_entry_that_waits_to_be_sent_alone_ends_with_a_halt(side):
    def halt(s):
        enter(side)(s)
        s.broker.halt("lunch")

    broker, strategy, _ = play({20: halt}, QUIET, side, refuses="None", lag=2)
    assert broker.sizes == []
    assert [row[0] for row in broker.requests].count("send") == 1
    assert strategy.broker.book.working == {}


# -- what is heard, and when -----------------------------------------------------------------------


@LONG
@CAN
@pytest.mark.parametrize("late", [1, pytest.param(3, marks=FULL)])
def test_a_stop_that_is_heard_before_its_entry_closes_it_all_the_same(side, can, late):
    broker, strategy, _ = play({20: enter(side)}, FALL, side, can=can, late={1: late})
    assert [side * size for size in broker.sizes] == [100, 0]
    assert sum(row[0] == "send" for row in broker.requests) == 2
    assert strategy.broker.book.working == {}
    assert strategy.broker.book.trades[0].pnl == pytest.approx(-400.0)
    assert strategy.position.size == 0


@SIDES
def test_a_fill_of_the_entry_that_nobody_reports_is_proven_by_its_stop(side):
    live = {"clock": Clock(step=0.5), "retry_after": 1.0, "reconcile_every": 0.0}
    rows = [*FALL, *flat(20, 92.0)]
    broker, strategy, journal = play({20: enter(side)}, rows, side, late={1: 999}, live=live)
    assert [side * size for size in broker.sizes] == [100, 0]
    assert sum(row[0] == "send" for row in broker.requests) == 2
    reason = "entry_stop: the fill of 100 is inferred from that of its stop"
    assert journal.reason.tolist().count(reason) == 1
    assert strategy.broker.book.working == {}
    assert len(strategy.broker.book.trades) == 1


@SIDES
def test_an_open_beyond_the_stop_closes_the_position_at_that_price(side):
    rows = [*flat(20), (94, 95, 93, 94), *flat(6, price=94.0)]
    broker, strategy, _ = play({20: enter(side)}, rows, side)
    assert [side * size for size in broker.sizes] == [100, 0]
    assert strategy.broker.book.trades[0].pnl == 0.0
    assert strategy.broker.book.working == {}


@SIDES
def test_a_limit_beyond_the_market_is_expected_to_fill_at_the_market(side):
    limit = enter(side, price=103.0, exectype=bt.Order.Limit)
    broker, *_ = play({20: limit}, QUIET, side)
    first = next(stops for held, stops in broker.rounds if held)
    assert first == [(100, pytest.approx(96.0 if side > 0 else 104.0))]


@LONG
@CAN
@pytest.mark.parametrize("closes", [True, False], ids=["close", "sell"])
def test_an_exit_of_what_the_gate_has_not_heard_of_waits_for_the_end_of_the_child(
    side, can, closes
):
    """The strategy reads the position of the broker, before the fill is notified."""
    leave = (lambda s: s.close()) if closes else enter(-side)
    rows = [*flat(21), (100, 101, 90, 92), *flat(6, price=92.0)]
    limit = enter(side, price=103.0, exectype=bt.Order.Limit)
    actions = {20: limit, 21: leave}
    broker, strategy, _ = play(actions, rows, side, can=can, late={1: 6}, oracle=False)
    assert [side * size for size in broker.sizes] == [100, 0]
    assert strategy.broker.book.working == {}
    assert strategy.orders[-1][2] == "Completed"


@SIDES
def test_a_position_that_begins_while_the_child_of_the_last_one_leaves_gets_one_stop(side):
    """30 fill and are stopped out; 70 fill while the rest of that stop is being cancelled."""
    rows = [*flat(20), (100, 102, 99.5, 101), (100, 101, 96, 98), (99, 102, 98.5, 101)]
    stop = enter(side, price=101.5, exectype=bt.Order.Stop)
    broker, *_ = play({20: stop}, [*rows, *flat(4, price=101.0)], side, parts={1: 30}, lag=5)
    assert [side * size for size in broker.sizes] == [30, 0, 70]


@SIDES
def test_a_child_that_waits_covers_no_other_entry(side):
    """Its price is 2 ATR below its own limit: 6.5 below the market, and not 4."""
    found = []

    def more(s):
        enter(side, 50)(s)
        orders = [w for w in s.broker.book.working.values() if w.kind == "market"]
        found.extend(w.distance for w in orders)

    limit = enter(side, price=97.5, exectype=bt.Order.Limit)
    play({20: limit, 21: more}, QUIET, side)
    assert found == [pytest.approx(4.0)]


# -- halts, exits, other orders --------------------------------------------------------------------


@LONG
@CAN
@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("lag", [0, pytest.param(2, marks=FULL)])
@pytest.mark.parametrize("filled", [0, 30])
def test_a_halt_while_the_entry_works(side, can, flatten, lag, filled):
    low = 99 if filled else 99.6
    rows = [*flat(20), (100, 101 if filled else 101.6, low, 100), *[(100, 101.6, 99.6, 100)] * 9]
    limit = enter(side, price=99.5, exectype=bt.Order.Limit)
    actions = {20: limit, 21: lambda s: s.broker.halt("lunch", flatten=flatten)}
    parts = {1: filled} if filled else None
    broker, strategy, _ = play(actions, rows, side, can=can, parts=parts, lag=lag)
    assert abs(broker.rounds[-1][0]) == (0 if flatten else filled)
    assert len(broker._working) == (1 if filled and not flatten else 0)
    if not flatten:
        assert guarded(broker) or "replace" not in can


@LONG
@CAN
@pytest.mark.parametrize("lag", [0, pytest.param(2, marks=FULL)])
def test_a_close_while_the_entry_works_leaves_the_rest_a_stop_of_its_own(side, can, lag):
    """30 fill on bar 21 and are closed on 22; the other 70 fill on bar 26."""
    away = [(100, 101.6, 99.6, 100)]
    rows = [*flat(20), *flat(1), *away * 4, *flat(1), *away * 5]
    limit = enter(side, price=99.5, exectype=bt.Order.Limit)
    leave = enter(-side, 30)
    broker, strategy, _ = play({20: limit, 21: leave}, rows, side, can=can, parts={1: 30}, lag=lag)
    assert [side * size for size in broker.sizes] == [30, 0, 70]
    children = [row for row in broker.requests if row[4].get("parent") is not None]
    assert len(children) == 1
    assert [w.remaining for w in strategy.broker.book.working.values()] == [70]


@LONG
@CAN
@pytest.mark.parametrize("lag", [0, pytest.param(2, marks=FULL)])
def test_another_entry_ends_the_child_and_one_stop_is_for_both(side, can, lag):
    """30 of 100 and then 50 of the other fill, then 70: the child would stand for 100 alone."""
    away = [(100, 101.6, 99.6, 100)]
    rows = [*flat(20), *flat(1), *away * 4, *flat(1), *away * 6]
    limit = enter(side, price=99.5, exectype=bt.Order.Limit)
    actions = {20: limit, 21: enter(side, 50)}
    broker, strategy, _ = play(actions, rows, side, can=can, parts={1: 30}, lag=lag)
    assert [side * size for size in broker.sizes] == [30, 80, 150]
    assert [80] in [[units for units, _ in stops] for held, stops in broker.rounds]
    children = [row for row in broker.requests if row[4].get("parent") is not None]
    assert len(children) == 1
    assert [w.remaining for w in strategy.broker.book.working.values()] == [150]


@LONG
@CAN
def test_each_of_two_strategies_has_its_own(side, can):
    actions = [{20: enter(side), 24: enter(-side)}, {20: enter(side, 60)}]
    broker, strategy, _ = play(actions, QUIET, side, strategies=2, can=can)
    assert abs(broker.rounds[-1][0]) == 60
    children = [row[3] for row in broker.requests if row[4].get("parent") is not None]
    assert children == [100, 60]
    assert [w.remaining for w in strategy.broker.book.working.values()] == [60]


@SIDES
def test_beside_a_strategy_on_the_other_side_a_stop_is_sent_as_before(side):
    """One that only reduces the position of the account would be refused there."""
    actions = [{20: enter(side)}, {23: enter(-side, 60)}]
    broker, _, _ = play(actions, QUIET, side, strategies=2, oracle=False)
    children = [row[3] for row in broker.requests if row[4].get("parent") is not None]
    assert children == [100]
    assert sorted(units for units, _ in broker.rounds[-1][1]) == [60, 100]


def test_without_the_capability_nothing_is_a_child():
    broker = Venue(can=("brackets",))
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(Ticking(dataname=bars(*QUIET)), name="D0")
    engine.setbroker(bt_risk.RiskBroker(broker))
    engine.addstrategy(Script, actions={20: enter(1)})
    engine.addobserver(bt_risk.ATRTrailingStop, entry_stop="attached")
    engine.run(quicknotify=True)
    assert [row[4]["parent"] for row in broker.requests] == [None, None]
    assert all(row[4]["transmit"] for row in broker.requests)
