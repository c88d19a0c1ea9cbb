"""RiskBroker: what it rejects and trims, what it lets through, and that it is still a broker."""

import dataclasses
import inspect
import itertools
import math

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.fake_broker import FakeBroker
from helpers.recording import ends, fills, limit_orders, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.limits.base import NotionalLimit, RiskPerTrade
from bt_risk.limits.exposure import ExposureLimit

# 100,000 of equity, price 100, ATR(14) 2 from bar 15 on: a stop 4 away (2 x ATR) costs 4 a unit,
# so risk_limit 0.01 is 250 units and notional_limit 0.5 is 500.
CALM = flat(40)


def calm(*limits, rows=CALM, count=1, cash=100_000.0, **options):
    engine = cerebro(*[bars(*rows) for _ in range(count)], cash=cash)
    limit_orders(engine, *limits, **options)
    return engine


def final(strategy):
    return strategy.held[-1][0]


# -- native rejection -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", feeds.MODES)
def test_a_refused_order_arrives_in_notify_order_as_rejected_with_its_reason(mode):
    engine = cerebro(bars(*CALM), **feeds.MODES[mode])
    engine.setbroker(
        bt_risk.CorrelationCap(
            engine.broker, exposure_limit=0.001, exposure_unit="notional", on_exposure="reject"
        )
    )
    strategy = play(engine, {20: lambda s: s.buy(size=10)})
    (row,) = strategy.orders
    assert row[0] == (20 if mode == "quicknotify" else 21)
    assert row[2:6] == ("Rejected", 10, 0, 0.0)
    reason = "ExposureLimit: 0.0100 of equity > exposure_limit 0.0010; at most 1 would pass"
    assert row[6] == reason
    (order,) = strategy.made
    assert order.status == order.Rejected
    assert not order.alive()
    assert order.info["bt_risk"] == row[6]
    assert final(strategy) == 0


def test_a_rejected_order_carries_what_the_user_asked_for():
    engine = calm(NotionalLimit(1e-9))
    day = bt.datetime.datetime(2020, 2, 1)
    asked = {
        "size": 7,
        "exectype": bt.Order.StopLimit,
        "price": 101.0,
        "plimit": 102.0,
        "valid": day,
        "tradeid": 3,
        "note": "mine",
    }
    order = play(engine, {20: lambda s: s.sell(**asked)}).made[0]
    assert (order.size, order.price, order.pricelimit) == (-7, 101.0, 102.0)
    assert (order.exectype, order.tradeid) == (bt.Order.StopLimit, 3)
    assert bt.num2date(order.valid) == day
    assert order.info["note"] == "mine"
    assert order.issell()


def test_no_rule_makes_buy_return_none():
    engine = calm(NotionalLimit(1e-9), RiskPerTrade(1e-9))
    actions = {
        20: lambda s: [
            s.buy(size=1),
            s.sell(size=1),
            s.order_target_percent(target=0.5),
            s.order_target_size(target=-5),
            *s.buy_bracket(size=1, price=100.0, stopprice=95.0, limitprice=105.0),
        ]
    }
    made = play(engine, actions).made[0]
    assert [order.getstatusname() for order in made] == ["Rejected"] * 7


# -- trimming -------------------------------------------------------------------------------------


def test_a_whole_number_is_trimmed_to_a_whole_number():
    engine = calm(NotionalLimit(0.1234))
    strategy = play(engine, {20: lambda s: s.buy(size=500)})
    assert ends(strategy)[0][:2] == ("Completed", 123)
    assert isinstance(strategy.made[0].size, int)
    assert "0.5000 of equity > notional_limit 0.1234" in ends(strategy)[0][3]


def test_a_fraction_is_trimmed_to_a_fraction():
    strategy = play(calm(NotionalLimit(0.12345)), {20: lambda s: s.buy(size=500.5)})
    assert ends(strategy)[0][:2] == ("Completed", pytest.approx(123.45))


def test_a_size_within_the_limits_is_sent_as_it_is():
    strategy = play(calm(NotionalLimit(0.5)), {20: lambda s: (s.buy(size=3), s.buy(size=0.25))})
    assert [order.size for order in strategy.made[0]] == [3, 0.25]
    assert isinstance(strategy.made[0][0].size, int)
    assert [end[3] for end in ends(strategy)] == ["", ""]


def test_a_step_is_what_a_trimmed_size_is_rounded_down_to():
    engine = calm(NotionalLimit(0.1234), instruments={"D0": {"step": 0.5}})
    strategy = play(engine, {20: lambda s: s.buy(size=500.5)})
    assert ends(strategy)[0][1] == 123.0
    engine = calm(NotionalLimit(0.1236), instruments={"D0": {"step": 0.5}})
    assert ends(play(engine, {20: lambda s: s.buy(size=500)}))[0][1] == 123.5


def test_what_is_left_below_one_step_is_rejected():
    engine = calm(NotionalLimit(0.1234), instruments={"D0": {"step": 200}})
    status, size, _, reason = ends(play(engine, {20: lambda s: s.buy(size=500)}))[0]
    assert (status, size) == ("Rejected", 0)
    assert "notional_limit" in reason


def test_what_is_left_below_the_minimum_notional_is_rejected():
    facts = {"D0": {"min_notional": 12_400.0}}
    limit = NotionalLimit(0.1234)
    engine = calm(limit, instruments=facts)
    assert ends(play(engine, {20: lambda s: s.buy(size=500)}))[0][0] == "Rejected"
    facts = {"D0": {"min_notional": 12_300.0}}
    engine = calm(limit, instruments=facts)
    assert ends(play(engine, {20: lambda s: s.buy(size=500)}))[0][:2] == ("Completed", 123)


def test_an_instrument_has_its_own_risk_limit_and_multiple():
    engine = calm(
        RiskPerTrade(0.01),
        count=3,
        instruments={"D1": {"risk_limit": 0.005}, "D2": {"atr_multiple": 4}},
    )
    strategy = play(engine, {20: lambda s: [s.buy(d, size=300) for d in s.datas]})
    assert strategy.held[-1] == (250, 125, 125)


def test_a_fact_for_a_data_that_does_not_exist_raises():
    engine = calm(instruments={"BTC": {"step": 1}})
    with pytest.raises(ParameterError, match="instruments must be named after a data.*D0.*'BTC'"):
        play(engine, {})


def test_the_smallest_answer_counts_and_its_reason_is_given():
    limits = NotionalLimit(0.4), RiskPerTrade(0.01), ExposureLimit(0.3, "notional")
    for order in itertools.permutations(limits):
        status, size, _, reason = ends(play(calm(*order), {20: lambda s: s.buy(size=500)}))[0]
        assert (status, size) == ("Completed", 250)
        assert reason.startswith("RiskPerTrade")


def test_the_boundary_itself_is_allowed():
    strategy = play(calm(RiskPerTrade(0.01)), {20: lambda s: s.buy(size=250)})
    assert ends(strategy)[0][1:] == (250, 100.0, "")
    strategy = play(calm(RiskPerTrade(0.01)), {20: lambda s: s.buy(size=251)})
    assert ends(strategy)[0][1] == 250


# -- exits ----------------------------------------------------------------------------------------


def held_then(action, state=None, **options):
    """Buy 100 on bar 20 and let every limit refuse from bar 25 on; act on bar 30."""

    def refuse(strategy):
        strategy.broker.add_limit(NotionalLimit(1e-9))
        if state:
            strategy.broker.set_state("test", state, "test: halted by hand")

    engine = calm(NotionalLimit(1.0), **options)
    return play(engine, {20: lambda s: s.buy(size=100), 25: refuse, 30: action})


EXITS = {
    "close": (lambda s: s.close(), -100),
    "sell all": (lambda s: s.sell(size=100), -100),
    "sell some": (lambda s: s.sell(size=30), -30),
    "target size": (lambda s: s.order_target_size(target=40), -60),
    "target value": (lambda s: s.order_target_value(target=0.0), -100),
    "target percent": (lambda s: s.order_target_percent(target=0.05), -50),
    "limit": (lambda s: s.sell(size=100, exectype=bt.Order.Limit, price=100.5), -100),
    "stop": (lambda s: s.sell(size=100, exectype=bt.Order.Stop, price=99.5), -100),
}


@pytest.mark.parametrize("name", EXITS)
@pytest.mark.parametrize("state", [None, "REDUCING", "HALTED"])
def test_an_exit_passes_in_every_state_whatever_the_limits_say(name, state):
    action, size = EXITS[name]
    strategy = held_then(action, state)
    assert ends(strategy)[1][:2] == ("Completed", size)
    assert final(strategy) == 100 + size


@pytest.mark.parametrize("state", ["REDUCING", "HALTED"])
def test_entries_are_refused_with_the_reason_of_the_state(state):
    engine = calm()

    def halt(strategy):
        strategy.broker.set_state("test", state, "test: halted by hand")
        assert strategy.broker.state == state

    actions = {
        5: halt,
        6: lambda s: (s.buy(size=1), s.sell(size=1)),
        8: lambda s: s.broker.set_state("test", "ACTIVE"),
        9: lambda s: s.buy(size=1),
    }
    strategy = play(engine, actions)
    assert [end[0] for end in ends(strategy)] == ["Rejected", "Rejected", "Completed"]
    assert ends(strategy)[0][3] == "test: halted by hand"


def test_the_closing_part_of_a_reversal_passes_and_the_opening_part_is_trimmed():
    strategy = play(
        calm(NotionalLimit(0.5)),
        {20: lambda s: s.buy(size=400), 25: lambda s: s.sell(size=2000)},
    )
    assert ends(strategy)[1][:2] == ("Completed", -900)
    assert final(strategy) == -500


@pytest.mark.parametrize("limit", [NotionalLimit(1e-9), RiskPerTrade(1e-9)])
def test_of_a_reversal_that_may_not_open_the_closing_part_is_left(limit):
    strategy = held_then(lambda s: (s.broker.add_limit(limit), s.sell(size=2000)))
    status, size, _, reason = ends(strategy)[1]
    assert (status, size) == ("Completed", -100)
    assert "Limit" in reason or "RiskPerTrade" in reason
    assert final(strategy) == 0


def test_two_closes_of_one_bar_close_once():
    """The second is an exit, too: it has nothing left to close, and ends."""
    strategy = held_then(lambda s: (s.close(), s.close()))
    assert [end[:2] for end in ends(strategy)[1:]] == [("Completed", -100), ("Canceled", 0)]
    assert final(strategy) == 0


@pytest.mark.parametrize("wide", [False, True])
def test_a_take_profit_and_a_stop_without_oco_both_rest_and_never_flip_the_position(wide):
    rows = [*flat(30), (100, 106, 94 if wide else 99, 100), (100, 101, 90, 92), *flat(3, price=92)]

    def protect(strategy):
        strategy.broker.add_limit(NotionalLimit(1e-9))
        return (
            strategy.sell(size=100, exectype=bt.Order.Limit, price=105.0),
            strategy.sell(size=100, exectype=bt.Order.Stop, price=95.0),
        )

    engine = calm(NotionalLimit(1.0), rows=rows)
    strategy = play(engine, {20: lambda s: s.buy(size=100), 25: protect})
    assert "Rejected" not in {end[0] for end in ends(strategy)}
    assert [size for (size,) in strategy.held] == [0] * 20 + [100] * 10 + [0] * 5
    assert {end[0] for end in ends(strategy)[1:]} == {"Completed", "Canceled"}


def test_an_exit_that_fills_in_parts_keeps_saying_what_is_left_of_it():
    """Long 100: the take-profit sells 60 of it in two bars, then the stop of 100 a part of 30.

    It could close the 40 that are held on that bar, but 70 of it are still to be done.
    """
    rows = [*flat(30), *[(105, 106, 104, 105)] * 2, (92, 93, 90, 92), *flat(3, price=92)]
    seen = []

    def exits(strategy):
        strategy.broker.add_limit(NotionalLimit(1e-9))
        strategy.sell(size=100, exectype=bt.Order.Limit, price=105.0)
        seen.append(strategy.sell(size=100, exectype=bt.Order.Stop, price=95.0))

    def look(strategy):
        seen.append((seen[0].executed.size, seen[0].executed.remsize))

    engine = calm(NotionalLimit(1.0), rows=rows)
    engine.broker.set_filler(bt.fillers.FixedSize(size=30))
    strategy = play(engine, {20: lambda s: s.buy(size=100), 29: exits, 33: look})
    assert seen[1:] == [(-30, -70)]
    assert [size for (size,) in strategy.held[30:]] == [70, 40, 10, 0, 0, 0]


def test_exits_of_another_strategy_do_not_count_as_ours():
    engine = calm(NotionalLimit(0.5))
    engine.addstrategy(feeds.Script, actions={20: lambda s: s.buy(size=100)})
    engine.addstrategy(
        feeds.Script, actions={20: lambda s: s.buy(size=50), 25: lambda s: s.close()}
    )
    first, second = engine.run()
    # close() asks for the whole position of the broker, and passes as what reduces that
    assert fills(second)[-1][1] == -150
    assert final(first) == 0


# -- what counts ----------------------------------------------------------------------------------


def test_a_target_on_every_bar_cannot_walk_around_the_risk_limit():
    engine = calm(RiskPerTrade(0.01))

    class EveryBar(feeds.Script):
        def next(self):
            super().next()
            if len(self) >= 16:
                self.order_target_percent(target=0.9)

    strategy = play(engine, {}, EveryBar)
    assert max(size for (size,) in strategy.held) == 250
    assert final(strategy) == 250


def test_small_buys_on_every_bar_cannot_walk_around_the_risk_limit():
    engine = calm(RiskPerTrade(0.01))
    actions = {bar: lambda s: s.buy(size=40) for bar in range(16, 36)}
    assert final(play(engine, actions)) == 250


def test_siblings_of_one_bar_count():
    strategy = play(calm(RiskPerTrade(0.01)), {20: lambda s: [s.buy(size=100) for _ in range(5)]})
    assert [end[1] for end in ends(strategy)] == [100, 100, 50, 0, 0]


def test_siblings_on_other_datas_count_for_the_exposure():
    strategy = play(
        calm(ExposureLimit(0.02), count=4),
        {20: lambda s: [s.buy(d, size=200) for d in s.datas]},
    )
    assert strategy.held[-1] == (200, 200, 100, 0)


def test_a_resting_entry_counts_until_it_is_cancelled():
    resting = {"exectype": bt.Order.Limit, "price": 80.0, "size": 200}
    kept = []

    def free(strategy):
        strategy.cancel(kept[0])

    actions = {
        20: lambda s: kept.append(s.buy(**resting)),
        22: lambda s: s.buy(size=200),
        25: free,
        27: lambda s: s.buy(size=300),
    }
    strategy = play(calm(RiskPerTrade(0.01)), actions)
    assert [end[:2] for end in ends(strategy)] == [
        ("Canceled", 0),
        ("Completed", 50),
        ("Completed", 200),
    ]


def test_a_resting_entry_counts_at_its_own_price():
    resting = {"exectype": bt.Order.Limit, "price": 50.0, "size": 1000}
    strategy = play(
        calm(NotionalLimit(0.6)), {20: lambda s: s.buy(**resting), 22: lambda s: s.buy(size=500)}
    )
    assert [end[1] for end in ends(strategy)] == [0, 100]
    assert ends(strategy)[0][0] == "Accepted"


def test_alternatives_of_one_oco_group_count_once():
    def either(strategy):
        first = strategy.buy(size=250, exectype=bt.Order.Limit, price=98.0)
        other = strategy.buy(size=250, exectype=bt.Order.Stop, price=100.5, oco=first)
        return first, other

    strategy = play(calm(RiskPerTrade(0.01)), {20: either})
    assert [end[:2] for end in ends(strategy)] == [("Canceled", 0), ("Completed", 250)]


def test_exits_do_not_count_as_risk():
    actions = {
        20: lambda s: s.buy(size=200),
        25: lambda s: s.sell(size=200, exectype=bt.Order.Limit, price=150.0),
        30: lambda s: s.buy(size=200),
    }
    assert final(play(calm(RiskPerTrade(0.01)), actions)) == 250


def test_a_short_is_limited_like_a_long():
    strategy = play(calm(RiskPerTrade(0.01)), {20: lambda s: s.sell(size=1000)})
    assert final(strategy) == -250


def test_long_and_short_have_a_direction_each():
    engine = calm(ExposureLimit(0.01), count=3)
    actions = {
        20: lambda s: (
            s.buy(s.data0, size=200),
            s.sell(s.data1, size=200),
            s.buy(s.data2, size=200),
        )
    }
    assert play(engine, actions).held[-1] == (200, -200, 50)


def test_the_multiplier_of_a_future_counts():
    engine = calm(RiskPerTrade(0.01))
    engine.broker.setcommission(margin=1000.0, mult=10.0)
    assert final(play(engine, {20: lambda s: s.buy(size=100)})) == 25


# -- stop_price -----------------------------------------------------------------------------------


def test_stop_price_reaches_the_gate_and_not_the_broker():
    engine = calm(RiskPerTrade(0.01))
    strategy = play(engine, {20: lambda s: s.buy(size=1000, stop_price=98.0)})
    assert ends(strategy)[0][1] == 500
    assert "stop_price" not in strategy.made[0].info
    assert "0.0200 of equity > risk_limit 0.0100" in ends(strategy)[0][3]


def test_stop_price_is_judged_before_the_atr_is_known():
    engine = calm(RiskPerTrade(0.01))
    strategy = play(
        engine, {5: lambda s: s.buy(size=100, stop_price=95.0), 6: lambda s: s.buy(size=100)}
    )
    assert [end[0] for end in ends(strategy)] == ["Completed", "Rejected"]
    assert "ATR(14) needs 15 bars, D0 has 6" in ends(strategy)[1][3]


def test_stop_price_is_where_the_first_stop_goes():
    rows = [*flat(20), (100, 101, 99, 100), (100, 100.5, 97.5, 98), *flat(3)]
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=5.0)
    strategy = play(engine, {20: lambda s: s.buy(size=10, stop_price=98.0)})
    assert fills(strategy) == [(21, 10, 100.0), (22, -10, 98.0)]


# -- what a trimmed entry lost --------------------------------------------------------------------


def test_a_strategy_that_got_half_of_what_it_asked_sells_all_of_it_and_is_flat():
    actions = {20: lambda s: s.buy(size=1000), 25: lambda s: s.sell(size=1000)}
    strategy = play(calm(NotionalLimit(0.5)), actions)
    assert [end[:2] for end in ends(strategy)] == [("Completed", 500), ("Completed", -500)]
    assert final(strategy) == 0
    assert "500" in ends(strategy)[1][3]


def test_what_was_lost_stays_void_while_something_is_held():
    actions = {
        20: lambda s: s.buy(size=1000),
        25: lambda s: s.sell(size=300),
        28: lambda s: s.sell(size=700),
        30: lambda s: s.buy(size=100),
    }
    strategy = play(calm(NotionalLimit(0.5)), actions)
    held = [size for (size,) in strategy.held]
    assert held[20:] == [500] * 5 + [200] * 3 + [0] * 2 + [100] * 10


def test_a_reversal_opens_only_what_exceeds_what_was_asked_for():
    actions = {20: lambda s: s.buy(size=1000), 25: lambda s: s.sell(size=1300)}
    strategy = play(calm(NotionalLimit(0.5)), actions)
    assert final(strategy) == -300


def test_what_was_lost_is_forgotten_once_flat():
    actions = {
        20: lambda s: s.buy(size=1000),
        25: lambda s: s.close(),
        30: lambda s: s.sell(size=400),
    }
    assert final(play(calm(NotionalLimit(0.5)), actions)) == -400


def test_an_entry_that_was_rejected_whole_lost_nothing():
    actions = {20: lambda s: s.buy(size=1000), 25: lambda s: s.sell(size=1000)}
    strategy = play(calm(ExposureLimit(0.5, "notional", "reject")), actions)
    assert [end[0] for end in ends(strategy)] == ["Rejected", "Rejected"]
    assert final(strategy) == 0


# -- still a broker -------------------------------------------------------------------------------


def test_what_is_set_on_the_gate_is_set_on_the_broker_inside():
    inner = bt.brokers.BackBroker()
    gate = bt_risk.RiskBroker(inner)
    gate.setcash(5.0)
    gate.set_coc(True)
    gate.set_slippage_perc(0.25)
    gate.set_fundmode(True, 10.0)
    assert (inner.startingcash, inner.p.coc, inner.p.slip_perc) == (5.0, True, 0.25)
    assert gate.fundmode is inner.fundmode is True
    assert gate.get_cash() == gate.getcash() == 5.0
    assert gate.p is inner.p


def test_commission_set_before_and_after_wrapping_counts():
    class Flat(bt.CommInfoBase):
        params = {"commission": 7.0, "stocklike": True, "commtype": bt.CommInfoBase.COMM_FIXED}

    def paid(before, after):
        engine = cerebro(bars(*flat(5)))
        before(engine.broker)
        engine.setbroker(bt_risk.RiskBroker(engine.broker))
        after(engine.broker)
        strategy = play(engine, {1: lambda s: s.buy(size=1)})
        return 100_000.0 - strategy.broker.getvalue()

    def nothing(broker):
        pass

    def percent(broker):
        broker.setcommission(0.01)

    def fixed(broker):
        broker.addcommissioninfo(Flat(), name="D0")

    assert paid(nothing, nothing) == 0.0
    assert paid(percent, nothing) == paid(nothing, percent) == pytest.approx(1.0)
    assert paid(fixed, nothing) == paid(nothing, fixed) == pytest.approx(7.0)


def test_wrapping_a_gate_joins_it():
    inner = bt.brokers.BackBroker()
    first = bt_risk.RiskBroker(inner)
    cap = bt_risk.CorrelationCap(first, exposure_limit=0.5, exposure_unit="notional")
    assert cap.inner is inner
    assert cap.__dict__ is first.__dict__

    engine = cerebro(bars(*CALM))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, instruments={"D0": {"step": 100}}))
    engine.setbroker(
        bt_risk.CorrelationCap(engine.broker, exposure_limit=0.55, exposure_unit="notional")
    )
    assert not isinstance(engine.broker.inner, bt_risk.RiskBroker)
    assert final(play(engine, {20: lambda s: s.buy(size=700)})) == 500


def test_two_caps_are_both_asked():
    engine = cerebro(bars(*CALM))
    for limit in (0.5, 0.2):
        engine.setbroker(
            bt_risk.CorrelationCap(engine.broker, exposure_limit=limit, exposure_unit="notional")
        )
    assert final(play(engine, {20: lambda s: s.buy(size=700)})) == 200


def test_the_stop_rule_of_a_gate_that_joins_counts():
    engine = cerebro(bars(*CALM))
    engine.setbroker(bt_risk.RiskBroker(engine.broker))
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, exposure_limit=0.01, atr_multiple=4.0))
    assert final(play(engine, {20: lambda s: s.buy(size=700)})) == 125


def test_a_gate_without_a_broker_brings_its_own():
    gate = bt_risk.RiskBroker()
    assert isinstance(gate.inner, bt.brokers.BackBroker)
    assert gate.getcash() == 10_000.0


def test_a_late_gate_takes_itself_away_at_the_end():
    engine = cerebro(bars(*CALM))
    broker = engine.broker
    engine.addsizer(bt_risk.HalfKellySizer)
    play(engine, {20: lambda s: s.buy()})
    assert engine.broker is broker
    assert "_try_exec" not in vars(broker)
    assert "_execute" not in vars(broker)


COMPONENTS = {
    "sizer": lambda c: c.addsizer(bt_risk.HalfKellySizer),
    "stop": lambda c: c.addobserver(bt_risk.ATRTrailingStop),
    "cap": lambda c: c.setbroker(bt_risk.CorrelationCap(c.broker, exposure_limit=0.005)),
    "breaker": lambda c: c.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.001),
}


def combined(names):
    engine = cerebro(bars(*flat(20), (100, 101, 99, 100), (97, 98, 90, 92), *flat(5, price=92.0)))
    for name in names:
        COMPONENTS[name](engine)
    return play(engine, {20: lambda s: s.buy(), 26: lambda s: s.buy()})


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_alone_does_its_own_work_and_no_other(name):
    strategy = combined([name])
    bought = ends(strategy)[0][1]
    assert bought == {"sizer": 250, "stop": 1, "cap": 1, "breaker": 1}[name]
    sold = [fill for fill in fills(strategy) if fill[1] < 0]
    assert sold == {"stop": [(22, -1, 96.0)]}.get(name, [])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_any_set_of_components_works_the_same_in_any_order(count):
    for names in itertools.combinations(COMPONENTS, count):
        seen = [
            [(row[0], *row[2:]) for row in combined(order).orders]
            for order in itertools.permutations(names)
        ]
        assert all(one == seen[0] for one in seen)
        assert seen[0]


# -- a broker that is not BackBroker ---------------------------------------------------------------


def at_venue(rows=CALM, wrap=bt_risk.RiskBroker, reject=(), count=1, **options):
    engine = cerebro(*[bars(*rows) for _ in range(count)])
    venue = FakeBroker(reject=reject)
    engine.setbroker(venue if wrap is None else wrap(venue, **options))
    return engine, venue


def test_a_broker_without_the_usual_extras_works_behind_the_gate():
    engine, _ = at_venue(wrap=None)
    with pytest.raises(AttributeError, match="startingcash"):
        play(engine, {})
    engine, _ = at_venue(wrap=None)
    engine.addanalyzer(bt.analyzers.PyFolio)
    with pytest.raises(AttributeError, match="get_value"):
        play(engine, {})

    engine, venue = at_venue()
    engine.addanalyzer(bt.analyzers.PyFolio, _name="pyfolio")
    strategy = play(engine, {1: lambda s: s.buy(size=10), 5: lambda s: s.close()})
    assert [fill[1:] for fill in fills(strategy)] == [(10, 100.0), (-10, 100.0)]
    assert len(strategy.trades) == 1
    assert strategy.broker.get_value() == strategy.broker.getvalue() == venue.getvalue()
    assert strategy.broker.get_cash() == venue.getcash()
    assert strategy.broker.startingcash == 0.0
    assert strategy.positions[strategy.data].size == 0
    assert strategy.analyzers.pyfolio.get_pf_items()[2] is not None


def test_limits_reject_and_trim_at_a_venue():
    engine, venue = at_venue(
        wrap=bt_risk.CorrelationCap, exposure_limit=0.05, exposure_unit="notional"
    )
    actions = {
        20: lambda s: s.buy(size=70, stop_price=90.0),
        25: lambda s: s.buy(size=10),
        30: lambda s: s.sell(size=70),
    }
    strategy = play(engine, actions)
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 50),
        ("Rejected", 0),
        ("Completed", -50),
    ]
    assert venue.sizes == [50, 0]


RISING = [
    *flat(20),
    *[(p, p + 1, p - 1, p) for p in range(101, 111)],
    (110, 111, 90, 92),
    (92,) * 4,
]


def test_a_stop_at_a_venue_trails_by_cancel_and_replace_and_rests_once():
    engine, venue = at_venue(RISING)
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: lambda s: s.buy(size=10)})
    assert venue.sizes == [10, 0]
    assert min(venue.resting) == -10
    assert fills(strategy)[-1][1] == -10
    assert fills(strategy)[-1][2] > 100.0
    assert [row[2] for row in strategy.orders if row[3] < 0] == ["Completed"]


@pytest.mark.parametrize("last", [(97, 98, 90, 92), (100, 101, 90, 92), (100, 101, 99, 100)])
def test_a_close_at_a_venue_goes_out_behind_the_cancelled_stop(last):
    engine, venue = at_venue([*flat(25), last, *flat(6, price=last[-1])])
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: lambda s: s.buy(size=10), 25: lambda s: s.close()})
    assert min(venue.sizes) == 0
    assert final(strategy) == 0
    assert not venue._working


def test_a_refused_close_at_a_venue_leaves_the_stop_in_its_place():
    """V1 buys, V2 is the stop, V3 the close; the venue refuses V3."""
    rows = [*flat(30), (100, 101, 90, 92), *flat(4, price=92.0)]
    engine, venue = at_venue(rows, reject=("V3",))
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: lambda s: s.buy(size=10), 25: lambda s: s.close()})
    assert venue.sizes == [10, 0]
    assert [fill[:2] for fill in fills(strategy)] == [(21, 10), (31, -10)]


def test_the_breaker_at_a_venue_ends_flat_and_never_flips():
    rows = [*flat(20), *[(p, p + 1, p - 1, p) for p in range(98, 60, -3)]]
    for action in ("stop", "pause"):
        engine, venue = at_venue(rows)
        engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=20.0)
        engine.addanalyzer(bt_risk.DrawdownBreaker, action=action, _name="breaker")
        actions = {20: lambda s: s.buy(size=900), 30: lambda s: s.buy(size=10)}
        strategy = play(engine, actions)
        assert venue.sizes[0] == 900
        assert venue.sizes[-1] == min(venue.sizes) == 0
        assert not venue._working
        assert strategy.analyzers.breaker.get_analysis()["flattened"]


def test_a_venue_that_returns_no_order_leaves_no_reservation():
    class Silent(FakeBroker):
        def buy(self, owner, data, size, **kwargs):
            return None if size == 400 else super().buy(owner, data, size, **kwargs)

    engine = cerebro(bars(*CALM))
    engine.setbroker(Silent())
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, {20: lambda s: s.buy(size=400), 22: lambda s: s.buy(size=500)})
    assert strategy.made[0] is None
    assert ends(strategy)[0][:2] == ("Completed", 500)


# -- bad parameters -------------------------------------------------------------------------------

WHOLE, FRACTION = "a whole number of at least", "in (0, 1"
BAD = [
    (bt_risk.RiskBroker, "atr_period", 0, WHOLE),
    (bt_risk.RiskBroker, "atr_period", 2.5, WHOLE),
    (bt_risk.RiskBroker, "atr_period", True, WHOLE),
    (bt_risk.RiskBroker, "atr_multiple", 0, "positive and finite"),
    (bt_risk.RiskBroker, "atr_multiple", -2.0, "positive and finite"),
    (bt_risk.RiskBroker, "atr_multiple", math.nan, "positive and finite"),
    (bt_risk.RiskBroker, "atr_multiple", math.inf, "positive and finite"),
    (bt_risk.RiskBroker, "atr_multiple", "2", "positive and finite"),
    (bt_risk.RiskBroker, "instruments", {"D0": {"stp": 1}}, "facts named step"),
    (bt_risk.RiskBroker, "instruments", {"D0": {"step": 0}}, "positive and finite"),
    (bt_risk.RiskBroker, "instruments", {"D0": {"min_notional": -1}}, "zero or more"),
    (bt_risk.RiskBroker, "instruments", {"D0": {"atr_multiple": -1}}, "positive and finite"),
    (bt_risk.RiskBroker, "instruments", {"D0": {"risk_limit": 2}}, FRACTION),
    (bt_risk.RiskBroker, "instruments", {"D0": {"currency": 840}}, "a text"),
    (bt_risk.RiskBroker, "rates", {"USD": -1.0}, "positive and finite"),
    (bt_risk.RiskBroker, "instruments", [1, 2], "a dict"),
    (bt_risk.RiskBroker, "instruments", {"D0": 5}, "a dict"),
    (bt_risk.RiskBroker, "broker", bt.brokers.BackBroker, "a broker"),
    (bt_risk.RiskBroker, "broker", "ib", "a broker"),
    (bt_risk.RiskBroker, "guards", bt_risk.CooldownGuard(5), "a list of guards"),
    (bt_risk.RiskBroker, "guards", [bt_risk.CooldownGuard], "a list of guards"),
    (bt_risk.RiskBroker, "limits", 0.7, "a list of limits"),
    (bt_risk.RiskBroker, "limits", [bt_risk.NotionalLimit], "a list of limits"),
    (bt_risk.RiskBroker, "on_bypass", "stop", "one of 'alert', 'halt'"),
    (bt_risk.RiskBroker, "on_bypass", None, "one of 'alert', 'halt'"),
    (bt_risk.RiskBroker, "equity", 5.0, "a callable"),
    (bt_risk.RiskBroker, "flows", 5.0, "a callable"),
    (bt_risk.RiskBroker, "margin_ratio", 0.5, "a callable"),
    (bt_risk.RiskBroker, "rates", 150.0, "a dict of rates by currency, or a callable"),
    (bt_risk.RiskBroker, "account_currency", "", "a text"),
    (bt_risk.RiskBroker, "account_currency", 840, "a text"),
    (bt_risk.RiskBroker, "equity_jump_limit", 10, FRACTION),
    (bt_risk.RiskBroker, "equity_confirmations", 0, WHOLE),
    (bt_risk.RiskBroker, "stale_after", 0, "positive and finite"),
    (bt_risk.RiskBroker, "stale_after", "60", "positive and finite"),
    (bt_risk.RiskBroker, "capabilities", "stops", "a dict of True or False"),
    (bt_risk.RiskBroker, "capabilities", {"stop": 1}, "a dict of True or False"),
    (bt_risk.RiskBroker, "on_stop_rejected", "ignore", "one of 'exit', 'halt'"),
    (bt_risk.RiskBroker, "stop_retries", -1, WHOLE),
    (bt_risk.RiskBroker, "retry_after", -1.0, "zero or more"),
    (bt_risk.RiskBroker, "cancel_tries", 0, WHOLE),
    (bt_risk.RiskBroker, "cancel_tries", 1.5, WHOLE),
    (bt_risk.RiskBroker, "handover_timeout", -1.0, "zero or more"),
    (bt_risk.RiskBroker, "handover_timeout", "5", "zero or more"),
    (bt_risk.RiskBroker, "orders_per_second", 0, "positive and finite"),
    (bt_risk.RiskBroker, "orders_per_second", "10", "positive and finite"),
    (bt_risk.RiskBroker, "reconcile_every", -1, "zero or more"),
    (bt_risk.RiskBroker, "reconcile_every", None, "zero or more"),
    (bt_risk.RiskBroker, "foreign", "cancel", "one of 'count', 'reduce'"),
    (bt_risk.RiskBroker, "notify", [print, 5], "a URL, a callable that takes a sentence"),
    (bt_risk.RiskBroker, "heartbeat", "hc-ping.com/1", "a URL, http or https"),
    (bt_risk.RiskBroker, "heartbeat", 5, "a URL, http or https"),
    (bt_risk.RiskBroker, "heartbeat_every", 0, "positive and finite"),
    (bt_risk.RiskBroker, "clock", 0.0, "a callable"),
    (bt_risk.RiskBroker, "now", 0.0, "a callable"),
    (bt_risk.CorrelationCap, "correlation_limit", 0, "positive, or None"),
    (bt_risk.CorrelationCap, "correlation_limit", -0.7, "positive, or None"),
    (bt_risk.CorrelationCap, "correlation_limit", 70, FRACTION),
    (bt_risk.CorrelationCap, "correlation_limit", math.nan, "positive, or None"),
    (bt_risk.CorrelationCap, "correlation_limit", "0.7", "positive, or None"),
    (bt_risk.CorrelationCap, "window", 0, WHOLE),
    (bt_risk.CorrelationCap, "window", 59, WHOLE + " 60"),
    (bt_risk.CorrelationCap, "window", 252.5, WHOLE),
    (bt_risk.CorrelationCap, "min_periods", 1, WHOLE + " 2"),
    (bt_risk.CorrelationCap, "min_periods", None, WHOLE),
    (bt_risk.CorrelationCap, "exposure_limit", 0.0, "positive, or None"),
    (bt_risk.CorrelationCap, "exposure_limit", -1, "positive, or None"),
    (bt_risk.CorrelationCap, "gross_limit", 0.0, "positive, or None"),
    (bt_risk.CorrelationCap, "net_limit", -1, "positive, or None"),
    (bt_risk.CorrelationCap, "position_limit", math.nan, "positive, or None"),
    (bt_risk.CorrelationCap, "groups", {"majors": "BTC"}, "a dict of lists of data names"),
    (bt_risk.CorrelationCap, "group_limit", -0.1, "positive, or None"),
    (bt_risk.CorrelationCap, "allow_extreme", 1, "True or False"),
    (bt_risk.CorrelationCap, "hysteresis", 0.9, "below correlation_limit, which is 0.7"),
    (bt_risk.CorrelationCap, "hysteresis", -0.1, "zero or more"),
    (bt_risk.CorrelationCap, "estimator", "mean", "one of 'rolling', 'ewm', 'ledoit-wolf'"),
    (bt_risk.CorrelationCap, "halflife", 20, 'None for any estimator but "ewm"'),
    (bt_risk.CorrelationCap, "multi_bar", 0, WHOLE),
    (bt_risk.CorrelationCap, "downside", "yes", "True or False"),
    (bt_risk.CorrelationCap, "max_stale_bars", 0, WHOLE),
    (bt_risk.CorrelationCap, "bar_jump", -20.0, "positive, or None"),
    (bt_risk.RiskBroker, "bar_jump", 0, "positive, or None"),
    (bt_risk.CorrelationCap, "volatility_limit", 0, "positive, or None"),
    (bt_risk.CorrelationCap, "gap_limit", 2, "in (0, 1], or None"),
    (bt_risk.CorrelationCap, "gap_floor", 2, "in [0, 1]"),
    (bt_risk.CorrelationCap, "on_volatility", "drop", "one of 'trim', 'reject'"),
    (bt_risk.CorrelationCap, "periods_per_year", -252, "positive and finite"),
    (bt_risk.CorrelationCap, "exposure_unit", "percent", "one of 'risk', 'notional'"),
    (bt_risk.CorrelationCap, "on_correlation", "drop", "one of 'reject', 'trim'"),
    (bt_risk.CorrelationCap, "on_exposure", None, "one of 'trim', 'reject'"),
    (bt_risk.CorrelationCap, "correlated_scale", 1.0, FRACTION),
    (bt_risk.CorrelationCap, "correlated_scale", 80, FRACTION),
    (bt_risk.CorrelationCap, "history", [1.0, 2.0], "a DataFrame"),
    (bt_risk.CorrelationCap, "history_kind", "closes", "one of 'prices', 'returns'"),
    (bt_risk.CorrelationCap, "unknown", "ignore", "one of 'refuse', 'allow'"),
    (bt_risk.CorrelationCap, "atr_period", -3, WHOLE),
    (bt_risk.RiskBroker, "state", 7, "the path of a file, or None"),
]


@pytest.mark.parametrize(
    ("kind", "name", "value", "constraint"),
    BAD,
    ids=[f"{kind.__name__}-{name}-{value}" for kind, name, value, _ in BAD],
)
def test_a_bad_parameter_is_refused_with_component_name_constraint_and_value(
    kind, name, value, constraint
):
    with pytest.raises(ParameterError) as caught:
        kind(**{name: value})
    error = caught.value
    assert error.component == kind.__name__
    assert error.param.startswith(name)
    assert constraint in error.constraint
    shown = value
    while isinstance(shown, dict):
        shown = next(iter(shown.values()))
    if not isinstance(shown, list):
        assert repr(shown) in str(error) or "facts named" in str(error)
    assert str(error).startswith(f"{kind.__name__}: {name}")


@pytest.mark.parametrize("kind", [bt_risk.RiskBroker, bt_risk.CorrelationCap])
def test_every_parameter_is_in_the_table(kind):
    tested = {name for tested_kind, name, *_ in BAD if issubclass(kind, tested_kind)}
    assert set(inspect.signature(kind).parameters) - {"gate", "live"} <= tested


def test_every_setting_of_live_is_in_the_table():
    tested = {name for _, name, *_ in BAD}
    assert {field.name for field in dataclasses.fields(bt_risk.Live)} <= tested


@pytest.mark.parametrize("nothing", [None, math.inf])
def test_none_and_infinity_switch_a_limit_off(nothing):
    engine = cerebro(bars(*flat(20)))
    engine.setbroker(
        bt_risk.CorrelationCap(engine.broker, correlation_limit=nothing, exposure_limit=nothing)
    )
    strategy = play(engine, {1: lambda s: s.buy(size=990)})
    assert strategy.broker.limits == []
    assert final(strategy) == 990
