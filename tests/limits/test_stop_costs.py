"""Costs as part of the risk: sizes, the R of a stop-out, and what cannot be known.

The market stands still at 100 with a range of 2: the ATR is 2, the stop 4 away. 1 % of 100,000 is
1,000, which buys 250 units without costs.
"""

import dataclasses
import math

import backtrader as bt
import pytest
from helpers.books import ME, book_of
from helpers.scenarios import MODES, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.rules.stop_costs import largest_within, stop_out_cost
from bt_risk.state.records import part_record, restore_part

CALM = flat(8)
OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
COSTS = bt_risk.Policy(**OFF | {"risk_limit": 0.01}, atr_period=3, sizer=False, costs_in_risk=True)


class Least(bt.CommInfoBase):
    """0.1 % of the value, at least 50."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC))

    def _getcommission(self, size, price, pseudoexec):
        return max(50.0, 0.001 * abs(size) * price)


class Duty(bt.CommInfoBase):
    """1 % of what is sold, nothing of what is bought."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC))

    def _getcommission(self, size, price, pseudoexec):
        return 0.01 * -size * price if size < 0 else 0.0


class Rebate(Duty):
    """The venue pays for orders."""

    def _getcommission(self, size, price, pseudoexec):
        return -abs(size)


class Unknown(Duty):
    """A scheme that does not know."""

    def _getcommission(self, size, price, pseudoexec):
        return math.nan if pseudoexec else 0.0


def percent(broker):
    broker.setcommission(commission=0.001)


def futures(broker):
    broker.setcommission(commission=2.0, margin=100.0, mult=10.0)


def scheme(kind):
    return lambda broker: broker.addcommissioninfo(kind())


def market(charge, rows=CALM, policy=COSTS, cash=100_000.0, **kwargs):
    engine = cerebro(bars(*rows), cash=cash, **kwargs)
    charge(engine.broker)
    bt_risk.protect(engine, policy)
    return engine


def opened(result):
    return [size for _, _, size, _ in tape_of(result)["fills"]][:1]


# name: scheme, slippage, side, units
SIZES = {
    "0.1 % of 100 and of 96": (percent, 0.0, "buy", 238),  # 1,000 / 4.196
    "0.1 % of 100 and of 104": (percent, 0.0, "sell", -237),  # 1,000 / 4.204
    "2 a contract of 10 points, both ways": (futures, 0.0, "buy", 22),  # 1,000 / (40 + 4)
    "a contract sold": (futures, 0.0, "sell", -22),
    "at least 50, twice": (scheme(Least), 0.0, "buy", 225),  # (1,000 - 100) / 4
    "only the sale of a long costs": (scheme(Duty), 0.0, "buy", 201),  # 1,000 / (4 + 0.96)
    "only the entry of a short costs": (scheme(Duty), 0.0, "sell", -200),  # 1,000 / (4 + 1)
    "slippage of 1 % at 96": (lambda broker: None, 0.01, "buy", 201),  # 1,000 / 4.96
    "slippage of 1 % at 104": (lambda broker: None, 0.01, "sell", -198),  # 1,000 / 5.04
    "slippage of contracts": (futures, 0.01, "buy", 18),  # 1,000 / (40 + 9.6 + 4)
    "a rebate makes no room": (scheme(Rebate), 0.0, "buy", 250),
}


@pytest.mark.parametrize("name", SIZES)
def test_rule_1_cuts_to_what_a_stop_out_may_cost(name):
    charge, slippage, method, units = SIZES[name]
    policy = dataclasses.replace(COSTS, slippage=slippage)
    result = taped(market(charge, policy=policy, cash=100_000.0), [(5, method, {"size": 900})])
    assert opened(result) == [units]


@pytest.mark.parametrize("name", SIZES)
def test_the_sizer_proposes_what_rule_1_lets_pass(name):
    charge, slippage, method, units = SIZES[name]
    policy = dataclasses.replace(COSTS, slippage=slippage, sizer=True, notional_limit=None)
    result = taped(market(charge, policy=policy), [(5, method, {})])
    assert opened(result) == [units]
    counts = result.analyzers.riskjournal.counts()
    assert counts["RiskPerTrade", "trim"] == 0


def test_a_sizer_alone_counts_costs_too():
    engine = cerebro(bars(*CALM))
    percent(engine.broker)
    engine.addsizer(bt_risk.HalfKellySizer, atr_period=3, costs_in_risk=True)
    assert opened(taped(engine, [(5, "buy", {})])) == [238]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("method", "row"), [("buy", (99, 99, 95, 97)), ("sell", (101, 105, 101, 103))]
)
def test_a_full_stop_out_loses_what_was_planned(mode, method, row):
    rows = [*CALM[:6], row, *flat(3, 97)]
    result = taped(market(percent, rows), [(5, method, {"size": 900})], mode)
    (multiple,) = result.analyzers.riskjournal.r_multiples()
    assert multiple == pytest.approx(-1.0)
    bare = taped(
        market(percent, rows, dataclasses.replace(COSTS, costs_in_risk=False)),
        [(5, method, {"size": 900})],
        mode,
    )
    cost = 0.196 if method == "buy" else 0.204
    assert bare.analyzers.riskjournal.r_multiples() == pytest.approx([-1.0 - cost / 4])


def test_what_is_held_and_what_rests_counts_with_its_costs():
    # 100 held lose 100 x 4.196, a limit at 100 for 50 loses 50 x 4.196: 88 of 238 are left.
    rows = [*CALM, *flat(3)]
    limit = {"size": 50, "exectype": bt.Order.Limit, "price": 98.5}
    plan = [(5, "buy", {"size": 100}), (7, "buy", limit), (8, "buy", {"size": 900})]
    policy = dataclasses.replace(COSTS, trailing_stop=False)
    result = taped(market(percent, rows, policy), plan)
    cut = result.analyzers.riskjournal.frame().iloc[-1]
    # Equity is 99,990 after commission. The limit loses 4, and 0.1 % of 98.5 and of 94.5.
    left = (999.9 - 100 * 4.196 - 50 * (4 + 0.0985 + 0.0945)) / 4.196
    assert (cut.action, cut.allowed) == ("trim", math.floor(left))


def test_fees_above_the_budget_refuse_and_say_so():
    result = taped(market(scheme(Least), cash=8_000.0), [(5, "buy", {"size": 10})])
    (reason,) = [reason for _, reason in tape_of(result)["reasons"]]
    expected = "RiskPerTrade: 0.0175 of equity with costs > risk_limit 0.0100"
    assert reason == f"{expected}; at most 0 would pass"


def test_a_commission_that_is_no_number_is_unknown():
    result = taped(market(scheme(Unknown)), [(5, "buy", {"size": 10})])
    (reason,) = [reason for _, reason in tape_of(result)["reasons"]]
    assert reason == (
        "RiskPerTrade: risk_limit cannot be judged: its commission scheme answers no number"
        "; at most 0 would pass"
    )


def test_one_direction_counts_costs_too():
    policy = dataclasses.replace(COSTS, risk_limit=None, exposure_limit=0.01)
    result = taped(market(percent, policy=policy), [(5, "buy", {"size": 900})])
    assert opened(result) == [238]


def test_off_changes_nothing_and_slippage_alone_is_refused():
    off = dataclasses.replace(COSTS, costs_in_risk=False)
    assert opened(taped(market(percent, policy=off), [(5, "buy", {"size": 900})])) == [250]
    with pytest.raises(ParameterError, match="slippage must be 0 with costs_in_risk=False"):
        bt_risk.Policy(slippage=0.001)


def test_words():
    policy = dataclasses.replace(COSTS, slippage=0.002)
    first = policy.describe().splitlines()[0]
    assert first.endswith("at its stop, commission and slippage of 0.2 % included")
    assert "included" not in bt_risk.Policy().describe()


def test_by_hand():
    assert stop_out_cost(lambda size, price: math.nan, 1, 1, 1, 1)[0] != 0.0
    assert math.isnan(stop_out_cost(lambda size, price: math.nan, 1, 1, 1, 1)[0])
    assert largest_within(1.0, lambda size: math.nan, 5.0) == 0.0


def test_a_position_of_an_older_state_file_has_paid_nothing():
    book = book_of()
    part = book.part(book.instruments[0], ME)
    book.fill(part, 10.0, 100.0, 2.0, 1.0, 4.0)
    record = part_record(part, 0)
    other = book_of().part(book.instruments[0], ME)
    restore_part(other, record)
    assert (other.paid, other.size) == (2.0, 10.0)
    del record["paid"]
    older = book_of().part(book.instruments[0], ME)
    restore_part(older, record)
    assert (older.paid, older.size) == (0.0, 10.0)


def test_a_fill_above_the_price_of_the_review_is_a_full_stop_out_all_the_same():
    rows = [*CALM[:5], (101, 102, 100, 100), (99, 99, 96, 97), *flat(2, 97)]
    result = taped(market(percent, rows), [(5, "buy", {"size": 900})])
    assert result.analyzers.riskjournal.r_multiples() == pytest.approx([-1.0], abs=1e-12)
    assert result.analyzers.riskjournal.losses().share(1.0) == 0.0
