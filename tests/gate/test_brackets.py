"""Brackets at the gate: the parent is judged, the children follow it, half of one never works."""

import math

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.fake_broker import FakeBroker
from helpers.recording import breaker_out_of_reach, ends, fills, limit_orders, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk.limits.base import NotionalLimit, RiskPerTrade

# 100,000 of equity, price 100, ATR(14) 2 from bar 15 on: a stop 4 away (2 x ATR).
CALM = flat(30)
UP = [*flat(25), (100, 106, 99, 105), *flat(4, price=105.0)]
DOWN = [*flat(25), (100, 101, 94, 95), *flat(4, price=95.0)]


def limited(*limits, rows=CALM, **options):
    engine = cerebro(bars(*rows))
    limit_orders(engine, *limits, **options)
    return engine


def bracket(size, stop=95.0, profit=105.0, **options):
    return lambda s: s.buy_bracket(
        size=size, exectype=bt.Order.Market, stopprice=stop, limitprice=profit, **options
    )


def short_bracket(size, stop=105.0, profit=95.0):
    return lambda s: s.sell_bracket(
        size=size, exectype=bt.Order.Market, stopprice=stop, limitprice=profit
    )


def final(strategy):
    return strategy.held[-1][0]


@pytest.mark.parametrize("mode", feeds.MODES)
@pytest.mark.parametrize(("rows", "price", "which"), [(UP, 105.0, 2), (DOWN, 95.0, 1)])
def test_a_bracket_within_the_limits_works_as_without_them(mode, rows, price, which):
    def run(*limits):
        engine = cerebro(bars(*rows), **feeds.MODES[mode])
        if limits:
            limit_orders(engine, *limits)
        return play(engine, {20: bracket(100)})

    bare, strategy = run(), run(NotionalLimit(1.0), RiskPerTrade(0.01))
    assert ends(strategy) == ends(bare)
    assert ends(strategy)[which][:3] == ("Completed", -100, price)
    assert final(strategy) == 0


def test_children_of_a_trimmed_parent_have_its_size():
    strategy = play(limited(NotionalLimit(0.05), rows=UP), {20: bracket(100)})
    assert [order.size for order in strategy.made[0]] == [50, -50, -50]
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 50),
        ("Canceled", 0),
        ("Completed", -50),
    ]
    assert final(strategy) == 0


@pytest.mark.parametrize("rows", [UP, DOWN])
def test_children_with_sizes_of_their_own_never_exceed_a_trimmed_parent(rows):
    def by_hand(strategy):
        parent = strategy.buy(size=100, transmit=False)
        stop = strategy.sell(
            size=100, exectype=bt.Order.Stop, price=95.0, parent=parent, transmit=False
        )
        limit = strategy.sell(size=100, exectype=bt.Order.Limit, price=105.0, parent=parent)
        return parent, stop, limit

    strategy = play(limited(NotionalLimit(0.05), rows=rows), {20: by_hand})
    assert [order.size for order in strategy.made[0]] == [50, -50, -50]
    assert min(size for (size,) in strategy.held) == 0
    assert final(strategy) == 0


def test_children_that_are_smaller_than_their_parent_stay_so():
    def by_hand(strategy):
        parent = strategy.buy(size=100, transmit=False)
        limit = strategy.sell(size=30, exectype=bt.Order.Limit, price=105.0, parent=parent)
        return parent, limit

    strategy = play(limited(NotionalLimit(0.05), rows=UP), {20: by_hand})
    assert [order.size for order in strategy.made[0]] == [50, -30]
    assert final(strategy) == 20


def test_children_are_no_orders_to_a_limit():
    """Neither exit of the bracket counts as exposure or is judged itself."""
    actions = {20: bracket(250, stop=96.0), 24: lambda s: s.sell(size=250)}
    strategy = play(limited(RiskPerTrade(0.01)), actions)
    assert ends(strategy)[0][:2] == ("Completed", 250)
    assert "Rejected" not in {end[0] for end in ends(strategy)}


# -- rejected together ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bracket, short_bracket])
@pytest.mark.parametrize("mode", feeds.MODES)
def test_a_rejected_parent_rejects_the_whole_bracket(mode, make):
    engine = cerebro(bars(*CALM), **feeds.MODES[mode])
    limit_orders(engine, NotionalLimit(1e-9))
    strategy = play(engine, {20: make(100)})
    assert [end[:2] for end in ends(strategy)] == [("Rejected", 0)] * 3
    assert "notional_limit" in ends(strategy)[0][3]
    for _, _, _, reason in ends(strategy)[1:]:
        assert reason.startswith("bracket: ")
        assert "notional_limit" in reason
    assert strategy.broker.inner.get_orders_open() == []
    assert strategy.broker.book.working == {}
    assert final(strategy) == 0


def test_a_strategy_may_keep_the_refs_of_a_rejected_bracket():
    class Keeper(feeds.Script):
        refs = ()

        def next(self):
            super().next()
            if len(self) == 20:
                self.refs = [o.ref for o in self.buy_bracket(size=10, price=100.0, stopprice=95.0)]

        def notify_order(self, order):
            super().notify_order(order)
            if not order.alive() and order.ref in self.refs:
                self.refs.remove(order.ref)

    strategy = play(limited(NotionalLimit(1e-9)), {}, Keeper)
    assert strategy.refs == []
    assert len(strategy.orders) == 3


def test_only_the_child_that_is_wanted_is_rejected_with_its_parent():
    for options in ({"stopexec": None}, {"limitexec": None}):
        strategy = play(limited(NotionalLimit(1e-9)), {20: bracket(10, **options)})
        assert [end[0] for end in ends(strategy)] == ["Rejected"] * 2
        assert strategy.broker.inner.get_orders_open() == []


def test_a_parent_that_is_rejected_has_a_native_status_for_all_three():
    made = play(limited(NotionalLimit(1e-9)), {20: bracket(10)}).made[0]
    assert [order.status for order in made] == [bt.Order.Rejected] * 3


# -- judged once, at the stop's own distance ------------------------------------------------------


@pytest.mark.parametrize(("make", "sign"), [(bracket, 1), (short_bracket, -1)])
def test_a_bracket_is_judged_at_its_own_stop_before_it_is_cut(make, sign):
    """1 % of 100,000 at a stop 2 away is 500 units, 10 away 100; at the ATR distance 250."""
    for distance, size in ((2.0, 500), (10.0, 100)):
        engine = limited(RiskPerTrade(0.01))
        engine.broker.setcommission(leverage=10)
        stop = 100.0 - sign * distance
        strategy = play(engine, {20: make(1200, stop=stop, profit=100.0 + 20 * sign)})
        sizes = [sign * size, -sign * size, -sign * size]
        assert [order.size for order in strategy.made[0]] == sizes
        assert final(strategy) == sign * size
        assert "> risk_limit 0.0100" in ends(strategy)[0][3]
        passed = play(
            limited(RiskPerTrade(0.01)), {20: make(size // 10, stop=stop, profit=100.0 + 20 * sign)}
        )
        assert final(passed) == sign * size // 10


@pytest.mark.parametrize(("make", "price", "stop"), [("buy", 90.0, 88.0), ("sell", 110.0, 112.0)])
def test_a_bracket_that_waits_for_a_price_risks_from_there_to_its_stop(make, price, stop):
    """1 % of 100,000 at 2 points is 500 units; from the market to that stop it is 12 points."""
    sign = 1 if make == "buy" else -1

    def rest(strategy):
        place = getattr(strategy, f"{make}_bracket")
        return place(size=1200, price=price, stopprice=stop, limitprice=100.0 + 20 * sign)

    strategy = play(limited(RiskPerTrade(0.01)), {20: rest})
    assert [order.size for order in strategy.made[0]] == [500 * sign, -500 * sign, -500 * sign]


def whole(strategy):
    return strategy.buy_bracket(size=100, price=90.0, stopprice=88.0, limitexec=None)


def one_by_one(strategy):
    entry = strategy.buy(size=100, exectype=bt.Order.Limit, price=90.0)
    return entry, strategy.sell(size=100, exectype=bt.Order.Stop, price=88.0, parent=entry)


@pytest.mark.parametrize("family", [whole, one_by_one])
def test_a_bracket_at_a_venue_is_judged_at_the_price_of_its_entry(family):
    """100 at 90 are the 9 % that are allowed; the market, at 100, is where the stop would sell."""
    venue = FakeBroker()
    engine = limited()
    gate = bt_risk.RiskBroker(venue, limits=[NotionalLimit(0.09)], capabilities={"brackets": True})
    engine.setbroker(gate)
    strategy = play(engine, {20: family})
    assert [(o.size, o.created.price) for o in venue._working] == [(100, 90.0), (-100, 88.0)]
    assert "Rejected" not in {end[0] for end in ends(strategy)}


def test_a_trailing_child_is_a_stop_at_its_distance():
    trailing = {"stopexec": bt.Order.StopTrail, "stopargs": {"trailamount": 10.0}}
    strategy = play(limited(RiskPerTrade(0.01)), {20: bracket(250, stop=None, **trailing)})
    assert [order.size for order in strategy.made[0]] == [100, -100, -100]


def test_a_family_counts_as_nothing_before_it_is_judged():
    """Its parent of 900 is never sent, and the order after it may use the whole limit."""
    actions = {
        20: lambda s: (s.buy(size=900, transmit=False), s.buy(size=900), s.buy(size=200)),
    }
    strategy = play(limited(NotionalLimit(1.0)), actions)
    assert [order.size for order in strategy.made[0]] == [900, 900, 100]
    assert final(strategy) == 1000
    assert strategy.made[0][0].status == bt.Order.Created


def test_nothing_of_a_family_that_was_rejected_counts_afterwards():
    actions = {
        20: bracket(250, stop=110.0),
        22: lambda s: s.buy(size=1000),
    }
    strategy = play(limited(RiskPerTrade(0.01)), actions)
    assert [end[0] for end in ends(strategy)][:3] == ["Rejected"] * 3
    assert strategy.broker.book.working.keys() == set()
    assert final(strategy) == 250


def test_a_nearer_stop_passes_the_second_judgement():
    strategy = play(limited(RiskPerTrade(0.01)), {20: bracket(250, stop=97.0)})
    assert ends(strategy)[0][:2] == ("Completed", 250)
    assert [end[0] for end in ends(strategy)[1:]] == ["Accepted", "Accepted"]


def test_the_named_stop_price_is_what_a_bracket_is_judged_with_at_once():
    strategy = play(
        limited(RiskPerTrade(0.01)),
        {20: bracket(250, stop=90.0, oargs={"stop_price": 90.0})},
    )
    assert [order.size for order in strategy.made[0]] == [100, -100, -100]
    assert ends(strategy)[0][:2] == ("Completed", 100)


def test_the_position_is_judged_at_the_bracket_stop_that_covers_it():
    """A stop 2 away: 500 units would be allowed, 300 are held, 200 more at that distance."""
    actions = {
        20: bracket(250, stop=98.0),
        25: lambda s: s.buy(size=1000, stop_price=98.0),
    }
    assert final(play(limited(RiskPerTrade(0.01)), actions)) == 500


def test_a_short_bracket_is_judged_at_its_stop_too():
    strategy = play(limited(RiskPerTrade(0.01)), {20: short_bracket(250, stop=110.0)})
    assert final(strategy) == -100
    strategy = play(limited(RiskPerTrade(0.01)), {20: short_bracket(250, stop=103.0)})
    assert final(strategy) == -250


# -- brackets and the other components ------------------------------------------------------------


@pytest.mark.parametrize("state", ["REDUCING", "HALTED"])
@pytest.mark.parametrize(("rows", "price"), [(UP, 105.0), (DOWN, 95.0)])
def test_the_exits_of_a_bracket_work_in_every_state(state, rows, price):
    actions = {
        20: bracket(100),
        23: lambda s: s.broker.set_state("test", state, "test: halted by hand"),
    }
    strategy = play(limited(NotionalLimit(1.0), rows=rows), actions)
    assert fills(strategy)[-1] == (26, -100, price)
    assert final(strategy) == 0


def test_a_breaker_closes_a_bracket_position_and_leaves_no_child_behind():
    rows = [*flat(20), *[(p, p + 1, p - 1, p) for p in range(100, 80, -2)], *flat(5, price=110.0)]
    engine = cerebro(bars(*rows))
    engine.addanalyzer(bt_risk.DrawdownBreaker, action="pause")
    strategy = play(engine, {20: bracket(900, stop=60.0, profit=109.0)})
    assert final(strategy) == 0
    assert min(size for (size,) in strategy.held) == 0
    assert strategy.broker.inner.get_orders_open() == []


@pytest.mark.parametrize("rows", [UP, DOWN, [*flat(25), (100, 106, 94, 100), *flat(4)]])
def test_a_trailing_stop_and_a_bracket_leave_the_account_flat(rows):
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: bracket(100, stop=95.5, profit=104.5)})
    assert [size for (size,) in strategy.held] == [0] * 20 + [100] * 5 + [0] * 5
    assert strategy.broker.inner.get_orders_open() == []


def test_the_children_wait_for_their_parent_under_a_trailing_stop():
    """The limit of 104 is there before the entry; it must not sell what is not held."""
    rows = [*flat(22), (100, 105, 99, 100), *flat(7)]
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop)
    resting = {
        20: lambda s: s.buy_bracket(size=10, price=90.0, stopprice=85.0, limitprice=104.0),
    }
    strategy = play(engine, resting)
    assert final(strategy) == 0
    assert fills(strategy) == []


def test_an_unaffordable_parent_ends_margin_and_its_children_are_rejected():
    def end(*components):
        engine = cerebro(bars(*CALM))
        for add in components:
            add(engine)
        return [row[0] for row in ends(play(engine, {20: bracket(100_000)}))]

    assert end() == end(breaker_out_of_reach) == ["Margin", "Rejected", "Rejected"]


def test_the_half_kelly_sizer_sizes_all_of_a_bracket():
    engine = cerebro(bars(*UP))
    engine.addsizer(bt_risk.HalfKellySizer)
    strategy = play(engine, {20: bracket(None)})
    assert [order.size for order in strategy.made[0]] == [250, -250, -250]
    assert final(strategy) == 0


@pytest.mark.parametrize("value", [0.0, math.nan, -5.0])
def test_a_bracket_of_no_size_is_rejected_with_a_reason(value):
    class Wrong(bt.Sizer):
        def _getsizing(self, comminfo, cash, data, isbuy):
            return value

    if value == 0.0:
        engine = limited(NotionalLimit(1.0))
        engine.addsizer(bt_risk.HalfKellySizer, probe_risk=0, win_rate=0.1, payoff_ratio=1.0)
    else:
        engine = limited(NotionalLimit(1.0))
        engine.addsizer(Wrong)
    strategy = play(engine, {20: bracket(None)})
    if value == -5.0:  # Backtrader takes the absolute value of a size
        assert ends(strategy)[0][:2] == ("Completed", 5)
        return
    assert [end[0] for end in ends(strategy)] == ["Rejected"] * 3
    assert ends(strategy)[0][3]


def test_cancelling_the_parent_cancels_the_children():
    kept = []

    def place(strategy):
        kept.extend(strategy.buy_bracket(size=100, price=90.0, stopprice=85.0, limitprice=95.0))

    actions = {20: place, 23: lambda s: s.cancel(kept[0]), 26: lambda s: s.buy(size=1000)}
    strategy = play(limited(NotionalLimit(0.5)), actions)
    assert [end[0] for end in ends(strategy)] == ["Canceled"] * 3 + ["Completed"]
    assert final(strategy) == 500


def test_cancelling_one_child_cancels_the_other_as_in_backtrader():
    def run(engine):
        kept = []
        actions = {
            20: lambda s: kept.extend(bracket(100)(s)),
            23: lambda s: s.cancel(kept[1]),
        }
        return ends(play(engine, actions))

    assert run(limited(NotionalLimit(0.5), rows=DOWN)) == run(cerebro(bars(*DOWN)))


AFTER_TWO_PARTS = {
    "on upwards": [(100, 106, 99, 105)] * 4,
    "then down": [(92, 93, 90, 92)] * 6,
}


@pytest.mark.parametrize("then", AFTER_TWO_PARTS)
def test_partial_fills_of_a_bracket_end_flat_with_a_trailing_stop(then):
    """The take-profit fills in parts, our stop takes a part between them, a child the rest."""
    rows = [*flat(26), *[(100, 106, 99, 105)] * 2, *AFTER_TWO_PARTS[then], *flat(4)]
    engine = cerebro(bars(*rows))
    engine.broker.set_filler(bt.fillers.FixedSize(size=30))
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: bracket(100)})
    held = [size for (size,) in strategy.held]
    assert held[20:27] == [30, 60, 90, 100, 100, 100, 70]
    assert min(held) == 0
    assert held[-1] == 0
    assert strategy.broker.inner.get_orders_open() == []


def test_one_child_that_fills_in_parts_leaves_the_other_too_large_in_backtrader():
    """The trap behind the test above: without a stop of ours the bare engine ends short."""
    rows = [*flat(26), *[(100, 106, 99, 105)] * 2, *[(92, 93, 90, 92)] * 6]
    engine = cerebro(bars(*rows))
    engine.broker.set_filler(bt.fillers.FixedSize(size=30))
    assert final(play(engine, {20: bracket(100)})) == -60


# -- late children ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "size"), [(lambda s: None, 20), (lambda s: s.broker.halt("news"), 10)]
)
def test_a_child_of_a_filled_parent_is_an_order_of_its_own(make, size):
    """Of the 50,000 an exit closes the 10 held; the rest is an entry: 1 % of equity is 10 units."""
    made = {}

    def enter(strategy):
        made["parent"] = strategy.buy(size=10)

    def late(strategy):
        make(strategy)
        stop = {"exectype": bt.Order.Stop, "price": 95.0}
        return strategy.sell(size=50_000, parent=made["parent"], **stop)

    strategy = play(limited(NotionalLimit(1e-2), rows=DOWN), {10: enter, 20: late})
    assert strategy.made[1].size == -size
    assert fills(strategy) == [(11, 10, 100.0), (26, -size, 95.0)]
    assert final(strategy) == 10 - size


@pytest.mark.parametrize("how", ["cancelled", "rejected", "of another broker"])
def test_a_child_whose_parent_never_filled_opens_nothing(how):
    made = {}

    def begin(strategy):
        options = {"exectype": bt.Order.Limit, "price": 90.0}
        made["parent"] = strategy.buy(size=5_000 if how == "rejected" else 10, **options)

    def late(strategy):
        parent = made["parent"]
        if how == "of another broker":
            parent = bt.order.BuyOrder(data=strategy.data, size=1, simulated=True)
        return strategy.sell(size=10, exectype=bt.Order.Stop, price=95.0, parent=parent)

    actions = {10: begin, 12: lambda s: s.cancel(made["parent"]), 20: late}
    strategy = play(limited(NotionalLimit(1.0), rows=DOWN), actions)
    assert strategy.made[-1].getstatusname() == "Rejected"
    assert "bracket: " in strategy.made[-1].info.bt_risk
    assert final(strategy) == 0


def test_a_late_child_does_not_send_its_parent_again():
    """BackBroker would have the parent twice, and fill it twice in a bar by volume."""
    made = {}

    def begin(strategy):
        made["parent"] = strategy.buy(size=10, exectype=bt.Order.Limit, price=99.5)

    def late(strategy):
        return strategy.sell(size=10, exectype=bt.Order.Stop, price=95.0, parent=made["parent"])

    rows = [*[(100, 101, 99.8, 100)] * 22, *flat(6), (100, 100, 90, 91), *flat(2, price=91.0)]
    engine = limited(NotionalLimit(1.0), rows=rows)
    engine.broker.set_filler(bt.fillers.FixedSize(size=4))
    strategy = play(engine, {10: begin, 12: late})
    assert [held for (held,) in strategy.held][22:26] == [4, 8, 10, 10]
    accepted = [row for row in strategy.orders if row[1] == made["parent"].ref]
    assert [row[2] for row in accepted].count("Accepted") == 1


def test_a_family_that_only_closes_what_is_held_has_no_child_that_adds():
    """Of 1,000 bought 50 are held; the sale of 1,000 closes them, and the rest was never bought."""

    def family(strategy):
        parent = strategy.sell(size=1000, transmit=False)
        stop = {"exectype": bt.Order.Stop, "parent": parent}
        strategy.buy(size=1000, price=105.0, transmit=False, **stop)
        return strategy.sell(size=50, price=95.0, **stop)

    actions = {10: lambda s: s.buy(size=1000), 20: family}
    strategy = play(limited(NotionalLimit(0.05), rows=DOWN), actions)
    assert strategy.made[1].getstatusname() == "Rejected"
    reasons = [end[3] for end in ends(strategy)[2:]]
    assert all(len(reason) > len("bracket: ") for reason in reasons)
    assert final(strategy) == 0


def test_a_child_that_adds_to_an_exit_is_judged_with_it():
    """The parent closes what is held and goes alone; the child would open 600, and may not."""

    def family(strategy):
        parent = strategy.sell(size=100, transmit=False)
        return strategy.sell(size=600, exectype=bt.Order.Stop, price=95.0, parent=parent)

    actions = {10: lambda s: s.buy(size=100), 20: family}
    strategy = play(limited(NotionalLimit(0.5), rows=DOWN), actions)
    assert strategy.made[1].getstatusname() == "Rejected"
    assert "notional_limit" in strategy.made[1].info.bt_risk
    assert strategy.held[-1] == (0,)


@pytest.mark.parametrize("side", [1, -1])
def test_a_child_that_adds_leaves_the_position_to_the_exits_of_a_later_one(side):
    """The child that adds was sent beside a short of 30, which its parent has turned to 50 long.

    It closes nothing of the short of 25 after that: the stop at 108 does, and is gone once a
    market exit has closed the 25 before it. At 109 it would open a position that nobody wanted.
    """

    def send(strategy, direction, size, **args):
        return (strategy.buy if direction * side > 0 else strategy.sell)(size=size, **args)

    def family(strategy):
        parent = send(strategy, 1, 80, transmit=False)
        stops = {"exectype": bt.Order.Stop, "parent": parent}
        send(strategy, -1, 40, price=100 - 10 * side, transmit=False, **stops)
        return send(strategy, 1, 50, price=100 + 10 * side, **stops)

    actions = {
        18: lambda s: send(s, -1, 30),
        20: family,
        22: lambda s: send(s, -1, 75),
        24: lambda s: send(s, 1, 25, exectype=bt.Order.Stop, price=100 + 8 * side),
        25: lambda s: s.close(),
    }
    up, down = (100, 109, 99, 105), (100, 101, 91, 95)
    strategy = play(
        limited(NotionalLimit(1.0), rows=[*flat(27), up if side > 0 else down]), actions
    )

    held = [size * side for (size,) in strategy.held]
    assert held[18:28] == [-30, -30, 50, 50, -25, -25, -25, 0, 0, 0]
    adds, leaves = strategy.made[1], strategy.made[3]
    assert (adds.getstatusname(), leaves.getstatusname()) == ("Accepted", "Canceled")
    assert "the position it was to close is gone" in leaves.info.bt_risk


@pytest.mark.parametrize("side", [1, -1])
def test_a_late_child_that_adds_leaves_the_position_to_the_exits_of_a_later_one(side):
    """The same where the child is sent once its parent rests, at a limit that bar 22 reaches."""

    def send(strategy, direction, size, **args):
        return (strategy.buy if direction * side > 0 else strategy.sell)(size=size, **args)

    def add(strategy):
        stop = {"exectype": bt.Order.Stop, "price": 100 + 10 * side, "parent": strategy.made[1]}
        return send(strategy, 1, 50, **stop)

    actions = {
        17: lambda s: send(s, -1, 30),
        19: lambda s: send(s, 1, 80, exectype=bt.Order.Limit, price=100 - 3 * side),
        20: add,
        23: lambda s: send(s, -1, 75),
        25: lambda s: send(s, 1, 25, exectype=bt.Order.Stop, price=100 + 8 * side),
        26: lambda s: s.close(),
    }
    dip, rise = ((100, 101, 96, 100), (100, 109, 99, 105))
    if side < 0:
        dip, rise = ((100, 104, 99, 100), (100, 101, 91, 95))
    rows = [*flat(21), dip, *flat(6), rise]
    strategy = play(limited(NotionalLimit(1.0), rows=rows), actions)

    held = [size * side for (size,) in strategy.held]
    assert held[18:29] == [-30, -30, -30, 50, 50, -25, -25, -25, 0, 0, 0]
    adds, leaves = strategy.made[2], strategy.made[4]
    assert (adds.getstatusname(), leaves.getstatusname()) == ("Accepted", "Canceled")
    assert "the position it was to close is gone" in leaves.info.bt_risk


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_child_that_is_an_exit_of_something_else_survives_a_halt(beside, place):
    """It closes 80 of another data feed, or what its parent leaves of a short: 80 of 110."""

    def family(strategy):
        parent = strategy.buy(size=30, transmit=False)
        data, side = (strategy.data1, "sell") if beside else (strategy.data0, "buy")
        stop = {"exectype": bt.Order.Stop, "parent": parent, "data": data, "size": 80}
        price = 95 if beside else 105
        child = getattr(strategy, side)(price=price, transmit=place == "last", **stop)
        if place == "first":
            strategy.sell(size=5, exectype=bt.Order.Stop, price=50, parent=parent)
        return child

    actions = {
        18: lambda s: s.buy(data=s.data1, size=80) if beside else s.sell(size=110),
        20: family,
        23: lambda s: s.broker.halt("by hand"),
    }
    engine = cerebro(bars(*UP), bars(*DOWN))
    limit_orders(engine, NotionalLimit(1.0))
    strategy = play(engine, actions)

    assert strategy.made[1].getstatusname() == "Completed"
    assert strategy.held[24] == ((30, 80) if beside else (-80, 0))
    assert strategy.held[-1] == ((30, 0) if beside else (0, 0))
