"""The cost grid: what other costs change by hand, and at which the edge and the rules are gone."""

import math

import backtrader as bt
import pandas as pd
import pytest
from helpers.scenarios import Plan, bars, cerebro, flat, random_walk
from helpers.shadow_runs import building, only, order
from hypothesis import given
from hypothesis import strategies as st

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.evidence import runner
from bt_risk.evidence.cost_grid import _sign_change, cost_columns, plan_costs
from bt_risk.evidence.costs import UNCHANGED, CostChange

# 600 are bought at 100; the stop at 96 is hit in bar 7, and the strategy leaves at 110 in bar 9.
DIP = bars(*flat(6), (100, 101, 90, 95), (95, 112, 94, 110), *flat(22, 110))
BOUGHT = (order(5, "buy", size=600), order(8, "close"))
STOP = only(trailing_stop=True)
HALF = 0.005  # of the price, as commission on each side


def final(build, costs=UNCHANGED):
    """Return the final equity of a bare run at these costs."""
    strategy = costs.apply(build()).run()[0]
    return strategy.broker.getvalue()


def at(*closes):
    """Return bars without a range, at these prices."""
    return bars(*((close, close, close, close) for close in closes))


# -- what costs change, by hand --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "paid"),
    [
        (CostChange(), 0.001 * (100 + 110)),
        (CostChange(3.0), 0.003 * (100 + 110)),
        (CostChange(0.0), 0.0),
        # Bought at 101, sold at 108.90; commission is on these prices.
        (CostChange(1.0, 0.01), 1 + 1.1 + 0.001 * (101 + 108.9)),
        (CostChange(0.0, 0.01), 1 + 1.1),
    ],
)
def test_each_side_pays_by_hand(costs, paid):
    """100 units from 100 to 110, at the open of bars that have no range: all slippage is paid."""
    plan = (order(1, "buy", size=100), order(3, "close"))
    build = building(at(100, 100, 100, 110, 110), plan=plan, commission=0.001)
    assert final(build, costs) == pytest.approx(100_000 + 100 * (10 - paid))


def test_slippage_is_added_to_that_of_the_user():
    def build():
        engine = building(at(100, 100, 100), plan=(order(1, "buy", size=100),))()
        engine.broker.set_slippage_fixed(1.0, slip_out=True)
        return engine

    assert final(build) == pytest.approx(100_000 - 100)
    assert final(build, CostChange(1.0, 0.01)) == pytest.approx(100_000 - 100 * 2.01)


def test_a_short_at_a_negative_price_pays_too():
    plan = (order(1, "sell", size=100),)
    build = building(at(-10, -10, -10), plan=plan)
    assert final(build, CostChange(1.0, 0.01)) == pytest.approx(100_000 - 100 * 0.1)


def test_a_limit_order_pays_its_limit_and_a_stop_slips_from_its_price():
    prices = bars(*flat(2), (100, 101, 98, 100), *flat(2))
    limit = (order(1, "buy", size=100, exectype=bt.Order.Limit, price=98.5),)
    stop = (order(1, "sell", size=100, exectype=bt.Order.Stop, price=98.5),)
    assert final(building(prices, plan=limit), CostChange(1, 0.01)) == pytest.approx(100_150)
    assert final(building(prices, plan=stop), CostChange(1, 0.01)) == pytest.approx(
        100_000 - 100 * (1.5 + 0.985)
    )


def test_a_limit_order_that_opens_better_keeps_its_price():
    prices = bars(*flat(2), (97, 99, 96, 98), *flat(2))
    limit = (order(1, "buy", size=100, exectype=bt.Order.Limit, price=98.0),)
    assert final(building(prices, plan=limit), CostChange(1, 0.01)) == pytest.approx(100_300)


class Tiered(bt.CommInfoBase):
    """Charge 5, and 1 once something was executed: a scheme that has a state."""

    executed = 0

    def _getcommission(self, size, price, pseudoexec):
        if not pseudoexec:
            self.executed += 1
        return 1.0 if self.executed else 5.0


def test_a_scheme_of_the_user_keeps_its_own_state_and_is_not_changed():
    scheme = Tiered(stocklike=True)
    plan = (order(1, "buy", size=1), order(2, "close"))

    def build():
        engine = building(at(*[100] * 5), plan=plan)()
        engine.broker.addcommissioninfo(scheme)
        return engine

    assert final(build, CostChange(2.0)) == 100_000 - 2 * (5 + 1)
    assert (scheme.executed, scheme.getcommission(1, 100)) == (0, 5.0)


def test_a_gate_has_no_costs_to_change():
    def build():
        engine = cerebro(random_walk(1, 60))
        engine.addstrategy(Plan)
        engine.setbroker(bt_risk.RiskBroker(engine.broker))
        return engine

    with pytest.raises(ParameterError, match="a broker of Backtrader's own"):
        bt_risk.compare(build, STOP, samples=200, workers=1, costs=True)


# -- a grid ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dip():
    grid = {"commission": [0, 1, 20], "slippage": [0.0, 0.01, 0.06]}
    build = building(DIP, plan=BOUGHT, commission=HALF)
    return bt_risk.compare(build, STOP, samples=200, workers=1, costs=grid)


def test_both_runs_by_hand(dip):
    """600 from 100 to 110 bare, and from 100 to the stop at 96 protected; 0.5 % a side."""
    frame = dip.costs.frame
    bare = {m: 6000 - 600 * m * HALF * 210 for m in (0, 1, 20)}
    stopped = {m: -2400 - 600 * m * HALF * 196 for m in (0, 1, 20)}
    for multiple in bare:
        row = frame.loc[(multiple, 0.0)]
        assert row["worth"] == pytest.approx(stopped[multiple] - bare[multiple])
        for run, made in (("bare", bare), ("protected", stopped)):
            growth = (1 + made[multiple] / 100_000) ** (dip.year / 30) - 1
            assert row[run] == pytest.approx(growth)
    # The entry fills at 101, its stop is 4 below, and it slips 1 % from there.
    made = 600 * (97 * 0.99 - 101), 600 * (110 * 0.99 - 101)
    assert frame.loc[(0, 0.01), "worth"] == pytest.approx(made[0] - made[1])
    assert dip.costs.runs == 16


def test_the_usual_costs_are_those_of_the_comparison(dip):
    row, values = dip.costs.frame.loc[(1.0, 0.0)], dip.frame["value"]
    for run in ("bare", "protected"):
        assert row[run] == values[run, "CAGR"]
        assert row[f"{run}_sharpe"] == values[run, "Sharpe"]
    assert row["worth"] == dip.shadow.difference


def test_the_costs_at_which_the_edge_and_the_worth_are_gone(dip):
    found = dip.costs.break_even
    assert list(found.index) == ["bare", "protected", "worth"]
    # 6000 = 600 x 0.005 x 210 x 9.52; interpolated between the log returns at 1 and at 20.
    low, high = math.log(1.06 - 0.0063), math.log(1.06 - 0.126)
    assert found.loc["bare", "commission"] == pytest.approx(1 + 19 * low / (low - high))
    assert found.loc["bare", "commission"] == pytest.approx(9.52, rel=0.05)
    assert 0.01 < found.loc["bare", "slippage"] < 0.06
    assert found.loc["protected"].isna().all()
    assert found.loc["worth"].isna().all()
    bare, protected, worth = dip.costs.sentences()
    row = dip.costs.break_even.loc["bare"]
    assert bare.endswith(
        f", and nothing any more at about {row['commission']:.3g} times the commission or at about "
        f"a slippage of {100 * row['slippage']:.3g} %"
    )
    assert protected.startswith("protected earns nothing at the costs as they are: -")
    now, dearest = (dip.costs.frame.loc[(m, 0.0), "worth"] for m in (1, 20))
    assert worth.startswith(
        f"the rules together are worth {now:+,.0f} at the costs as they are, {dearest:+,.0f} at "
        "20 times the commission and "
    )


def test_an_edge_without_costs_and_a_worth_that_turns_are_said():
    """10 turns of 1 % up: nothing is left of it at 1 % a side; the limit trades a tenth of it."""
    prices = at(*[100, 100, 101] * 10, 100, 100)
    plan = tuple(
        one
        for k in range(10)
        for one in (order(3 * k + 1, "buy", size=500), order(3 * k + 2, "close"))
    )
    small = only(exposure_limit=0.05, exposure_unit="notional")
    build = building(prices, plan=plan, commission=0.01)
    grid = {"commission": [0, 1], "slippage": [0.0]}
    found = bt_risk.compare(build, small, samples=200, workers=1, costs=grid).costs
    bare, _, worth = found.sentences()
    assert bare.startswith("bare earns nothing at the costs as they are: -")
    assert bare.endswith(" a year at the lowest costs of the grid")
    assert found.break_even.loc["bare"].isna().all()  # it is no edge that is gone
    assert found.frame.loc[(0.0, 0.0), "bare"] > 0 > found.frame.loc[(1.0, 0.0), "bare"]
    assert worth.startswith("the rules together are worth +")  # only less of what loses
    build = building(prices, plan=plan, commission=0.001)
    grid = {"commission": [1, 10]}
    found = bt_risk.compare(build, small, samples=200, workers=1, costs=grid).costs
    assert found.frame.loc[(1.0, 0.0), "worth"] < 0 < found.frame.loc[(10.0, 0.0), "worth"]
    assert "; that changes sign at about " in found.sentences()[2]
    assert 1 < found.break_even.loc["worth", "commission"] < 10


def test_a_multiple_of_no_commission_is_not_spoken_of():
    build = building(DIP, plan=BOUGHT)
    found = bt_risk.compare(
        build, STOP, samples=200, workers=1, costs={"slippage": [0, 0.001]}
    ).costs
    bare, _, worth = found.sentences()
    assert "times the commission" not in bare + worth
    assert " and still " in bare
    assert bare.endswith(" at a slippage of 0.1 %")


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True).map(sorted),
    st.floats(0.1, 10),
    st.floats(-1000, 1000),
)
def test_a_straight_line_changes_sign_where_it_is_zero(costs, slope, zero):
    values = pd.Series([slope * (zero - cost) for cost in costs], [float(c) for c in costs])
    found = _sign_change(values)
    if costs[0] < zero <= costs[-1]:
        assert found == pytest.approx(zero, abs=1e-6)
    else:
        assert math.isnan(found)


def test_runs_of_several_processes_are_those_of_one(monkeypatch):
    build = building(DIP, plan=BOUGHT, commission=HALF)
    grid = {"commission": [0, 2], "slippage": [0.01]}
    one = bt_risk.compare(build, STOP, samples=200, workers=1, costs=grid)
    monkeypatch.setattr(runner, "can_fork", lambda: True)
    two = bt_risk.compare(build, STOP, samples=200, workers=2, costs=grid, attribution=True)
    pd.testing.assert_frame_equal(one.costs.frame, two.costs.frame)
    assert two.attribution is not None
    assert list(two.records) == list(one.records)


# -- what is said, and what is refused -------------------------------------------------------------


def test_it_is_part_of_the_verdicts_and_of_each_view(dip, tmp_path):
    said = dip.costs.sentences()
    assert dip.verdicts()[1:4] == said
    columns = cost_columns(dip.costs)
    assert list(columns["bare, a year"])[:2] == [
        "0 x commission, slippage 0 %",
        "0 x commission, slippage 1 %",
    ]
    page = dip.write(tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<section id="costs"' in page
    for text in (page, dip._repr_html_()):
        for column in columns.values():
            assert all(f">{cell}</td>" in text for cell in column.values())
    assert '<td class="loss">-' in page


def test_nothing_runs_and_nothing_is_said_unless_it_is_asked(tmp_path):
    build = building(DIP, plan=BOUGHT)
    found = bt_risk.compare(build, STOP, samples=200, workers=1)
    assert found.costs is None
    assert 'id="costs"' not in found.write(tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("costs", "match"),
    [
        (3, "True, False or a dict"),
        ({"commission": 3}, r"costs\['commission'\] must be a list"),
        ({"commission": [-1]}, r"costs\['commission'\] must be zero or more"),
        ({"slippage": [1.0]}, r"costs\['slippage'\] must be in \[0, 1\)"),
        ({"commission": [1], "slippage": [0]}, "a grid of 2 to 100 costs"),
        ({"commission": list(range(60)), "slippage": [0, 0.1]}, "a grid of 2 to 100 costs"),
    ],
)
def test_a_grid_that_makes_no_sense_raises(costs, match):
    with pytest.raises(ParameterError, match=match):
        plan_costs("compare", costs)


def test_a_misspelt_cost_is_answered_with_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'slippage'"):
        plan_costs("compare", {"slipage": [0, 0.1]})
