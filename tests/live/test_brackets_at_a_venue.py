"""A bracket at a live broker that knows brackets is judged once, at its own stop."""

import backtrader as bt
import pytest
from helpers.capable_broker import CapableBroker
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import WithIds, run
from helpers.scenarios import flat

import bt_risk

CAN = ("brackets",)
UP = [*flat(30), (100, 107, 99, 106), *flat(5, price=106.0)]
SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])


def bracket(side, size=400, stop=2.0, profit=5.0, **options):
    """Return an action: the stop is nearer than 2 x ATR, which is 4 here."""

    def act(s):
        send = s.buy_bracket if side > 0 else s.sell_bracket
        prices = {"stopprice": 100 - side * stop, "limitprice": 100 + side * profit}
        return send(size=size, exectype=bt.Order.Market, **prices, **options)

    return act


def mirrored(rows, side):
    return rows if side > 0 else [(200 - o, 200 - low, 200 - h, 200 - c) for o, h, low, c in rows]


def play(actions, rows=UP, side=1, limits=None, stop=False, **venue):
    broker = CapableBroker(**{"can": CAN} | venue)
    limits = limits or [bt_risk.RiskPerTrade(0.01)]
    strategy, journal = run(broker, mirrored(rows, side), actions, limits=limits, stop=stop)
    return broker, strategy, journal


def last(strategy, order):
    return [row for row in strategy.orders if row[1] == order.ref][-1]


@SIDES
def test_a_bracket_passes_whole_at_its_own_stop(side):
    venue, strategy, _ = play({20: bracket(side)}, side=side)
    sent = [row for row in venue.requests if row[0] == "send"]
    assert [row[3] for row in sent] == [400, 400, 400]
    parent, stop, limit = strategy.made[0]
    assert last(strategy, parent)[2] == "Completed"
    assert last(strategy, limit)[2] == "Completed"
    assert last(strategy, stop)[2] == "Canceled"
    assert [side * size for size in venue.sizes] == [400, 0]
    assert strategy.broker.book.working == {}


@SIDES
def test_a_bracket_is_cut_with_its_children(side):
    """1 % of 100,000 at a distance of 2 is 500."""
    venue, strategy, _ = play({20: bracket(side, size=800)}, side=side)
    assert [row[3] for row in venue.requests] == [500, 500, 500]
    assert [row[4]["transmit"] for row in venue.requests] == [False, False, True]
    assert [side * size for size in venue.sizes] == [500, 0]
    assert last(strategy, strategy.made[0][0])[3] == side * 500


def test_nothing_of_a_refused_bracket_is_sent():
    limits = [bt_risk.NotionalLimit(1e-9)]
    venue, strategy, _ = play({20: bracket(1)}, limits=limits)
    assert venue.requests == []
    assert [last(strategy, order)[2] for order in strategy.made[0]] == ["Rejected"] * 3
    assert strategy.broker.book.working == {}
    assert not strategy.broker.held_orders


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_half_a_bracket_is_withdrawn_where_the_broker_refuses_the_rest(broken):
    venue, strategy, _ = play({20: bracket(1)}, broken=(broken,))
    assert venue.sizes == []
    assert venue._working == []
    assert {last(strategy, order)[2] for order in strategy.made[0]} <= {"Rejected", "Canceled"}
    assert strategy.broker.book.working == {}


def test_a_bracket_that_waits_for_its_last_child_can_be_cancelled():
    def half(s):
        parent = s.buy(size=100, transmit=False)
        child = s.sell(size=100, exectype=bt.Order.Stop, price=95.0, parent=parent, transmit=False)
        s.cancel(parent)
        return parent, child

    venue, strategy, _ = play({20: half})
    assert venue.requests == []
    assert [last(strategy, order)[2] for order in strategy.made[0]] == ["Canceled"] * 2
    assert strategy.broker.book.working == {}


def test_a_close_over_the_children_of_a_bracket_is_the_exit():
    actions = {20: bracket(1), 25: lambda s: s.close()}
    venue, strategy, _ = play(actions)
    assert venue.sizes == [400, 0]
    assert venue._working == []
    assert [last(strategy, order)[2] for order in strategy.made[0][1:]] == ["Canceled"] * 2


@pytest.mark.parametrize("can", [CAN, ("brackets", "oco"), ("brackets", "replace")])
def test_a_partial_exit_over_the_children_of_a_bracket_leaves_what_is_held(can):
    actions = {20: bracket(1), 25: lambda s: s.sell(size=100)}
    venue, strategy, _ = play(actions, can=can)
    assert venue.sizes == [400, 300, 0]
    assert venue._working == []
    assert strategy.broker.book.working == {}


def test_a_bracket_with_a_child_that_the_broker_lacks_is_refused_whole():
    def trailing(s):
        return s.buy_bracket(
            size=100,
            exectype=bt.Order.Market,
            limitprice=110.0,
            stopexec=bt.Order.StopTrail,
            stopargs={"trailamount": 2.0},
        )

    venue, strategy, _ = play({20: trailing})
    assert venue.requests == []
    assert {last(strategy, order)[2] for order in strategy.made[0]} == {"Rejected"}
    assert any("trailing stops" in row[-1] for row in strategy.orders)


def test_a_broker_without_brackets_refuses_the_parent():
    strategy, _ = run(FakeBroker(), UP, {20: bracket(1)}, limits=[bt_risk.RiskPerTrade(0.01)])
    assert {last(strategy, order)[2] for order in strategy.made[0]} == {"Rejected"}


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_bracket_one_request_of_which_gets_no_answer_leaves_no_half_of_it(number, lost):
    class Both(WithIds):
        capabilities = {"client_ids": True, "brackets": True}

        def _ask(self, send, client_id, *args, parent=None, transmit=True, **kwargs):
            return super()._ask(send, client_id, *args, **kwargs)

    venue = Both(lose={number: lost})
    strategy, _ = run(venue, flat(40), {20: bracket(1)}, limits=[bt_risk.RiskPerTrade(0.01)])
    held = strategy.broker.book.instruments[0].size
    assert held == (venue.sizes or [0])[-1]
    assert {last(strategy, order)[2] for order in strategy.made[0]}


@SIDES
def test_a_late_child_that_adds_claims_nothing_that_its_parent_closes(side):
    """A short of 30 is held, and a parent for 80 rests at 97: its child for 50 only opens."""

    def send(s, size, **options):
        return (s.buy if size * side > 0 else s.sell)(size=abs(size), **options)

    def add(s):
        stop = {"exectype": bt.Order.Stop, "price": 100 + 10 * side}
        return send(s, 50, parent=s.made[1], **stop)

    counted = {}

    def note(s):
        working = s.broker.book.working.values()
        counted.update({w.remaining: (w.closing, w.opening) for w in working})

    actions = {
        18: lambda s: send(s, -30),
        20: lambda s: send(s, 80, exectype=bt.Order.Limit, price=100 - 3 * side),
        21: add,
        22: note,
    }
    rows = [*flat(24), (100, 100, 96, 99), *flat(3), (100, 112, 99, 111), *flat(4, price=111.0)]
    limits = [bt_risk.NotionalLimit(1.0)]
    venue, strategy, _ = play(actions, rows=rows, side=side, limits=limits)
    assert counted == {80: (30, 50), 50: (0, 50)}
    assert [side * size for size in venue.sizes] == [-30, 50, 100]
    assert strategy.held[-1] == (100 * side,)
