"""GapLimit by hand: what a gap like the worst of the window may cost, and what is unknown.

The market stands still at 100; bar 6 opens at 96 and comes back, a gap of 4 %. With 100,000 a
`gap_limit` of 1 % is 1,000: 250 units lose that in the same gap.
"""

import backtrader as bt
import pytest
from helpers.scenarios import MODES, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.rules.gaps import GapWindow

OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
POLICY = dict(
    **OFF, atr_period=3, sizer=False, trailing_stop=False, gap_limit=0.01, window=10, min_periods=5
)
GAPPED = [*flat(5), (96, 101, 95, 100), *flat(4)]


def market(rows=GAPPED, margin=None, **changed):
    engine = cerebro(bars(*rows))
    if margin:
        engine.broker.setcommission(margin=margin, mult=10.0)
    bt_risk.protect(engine, bt_risk.Policy(**POLICY | changed))
    return engine


def opened(result):
    return [size for _, _, size, _ in tape_of(result)["fills"]]


def refused(result):
    return [reason.partition(";")[0] for _, reason in tape_of(result)["reasons"]]


BUY, SELL = (8, "buy", {"size": 900}), (8, "sell", {"size": 900})
RESTS = {"size": 50, "exectype": bt.Order.Limit, "price": 98.0}
FILLED, WORKING = (7, "buy", {"size": 100}), (7, "buy", RESTS)
FAR = (7, "buy", {"size": 4, "exectype": bt.Order.Stop, "price": 1000.0})
# name: changes, orders, units that were opened
SIZES = {
    "4 % of 100": ({}, [BUY], [250]),
    "a rise may be as large": ({}, [SELL], [-250]),
    "a floor of 5 %": ({"gap_floor": 0.05}, [BUY], [200]),
    "a floor below the worst gap": ({"gap_floor": 0.02}, [BUY], [250]),
    "100 are held": ({}, [FILLED, BUY], [100, 150]),
    "a limit for 50 at 98 rests": ({}, [WORKING, BUY], [201]),
    "40 points of a contract": ({"margin": 100.0}, [BUY], [25]),
    # 2 % of 1,000 are 20 points, 800 for four contracts; at 100 they would be the worst gap, 160.
    "a stop for 4 contracts at 1,000 rests": (
        {"margin": 100.0, "gap_floor": 0.02},
        [FAR, BUY],
        [5],
    ),
    "the gap has left the window": ({"window": 5, "gap_floor": 0.02}, [(12, *BUY[1:])], [500]),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_position_loses_at_most_the_limit_in_the_worst_gap(name):
    changed, orders, units = SIZES[name]
    result = taped(market([*GAPPED, *flat(4)], **changed), orders)
    assert opened(result) == units


@pytest.mark.parametrize("mode", MODES)
def test_every_engine_mode_knows_the_same_gaps(mode):
    result = taped(market(), [BUY], mode)
    assert opened(result) == [250]
    decisions = result.analyzers.riskjournal.get_analysis()["decisions"]
    (line,) = [line for line in decisions if line["action"] == "trim"]
    assert line["reason"] == "GapLimit: 0.0360 of equity in a gap of 4 > gap_limit 0.0100"


def test_a_gap_of_that_size_loses_what_was_allowed():
    engine = market([*GAPPED, (96, 101, 95, 96), *flat(2, 96)])
    result = taped(engine, [(9, "buy", {"size": 900}), (10, "close", {})])
    assert opened(result) == [250, -250]
    assert engine.broker.getvalue() == 100_000 - 250 * 4


def test_too_few_gaps_are_unknown():
    early = [(4, "buy", {"size": 1})]
    assert refused(taped(market(), early)) == ["GapLimit: gap unknown: 3 of 5 bars"]
    assert opened(taped(market(unknown="allow"), early)) == [1]


STANDS = [*flat(7), *[(100, 100, 100, 100)] * 3]


def test_bars_without_a_range_are_unknown_and_not_safe():
    reason = "GapLimit: ATR(3) of D0 has collapsed: 2 of 3 bars have no range"
    assert refused(taped(market(STANDS), [(9, "buy", {"size": 1})])) == [reason]
    assert opened(taped(market(STANDS), [(7, "buy", {"size": 1})])) == [1]
    without = market(STANDS, gap_limit=None)
    assert opened(taped(without, [(9, "buy", {"size": 1})])) == [1]


def test_an_atr_far_below_its_median_is_unknown_too():
    rows = [*flat(20, width=5.0), *flat(8, width=0.1)]
    (reason,) = refused(taped(market(rows), [(26, "buy", {"size": 1})]))
    assert reason.startswith("GapLimit: ATR(3) of D0 has collapsed: 1.06")
    assert reason.endswith(" is 0.11 of its 100-bar median")


def test_a_feed_without_opens_has_the_gaps_of_its_closes():
    window = GapWindow(10, 3)
    for close in (100.0, 97.0, 98.0):
        window.update(float("nan"), close, close, close)
    assert (window.worst(), window.worst(relative=True)) == (3.0, 0.03)


def test_a_window_goes_on_after_a_restart_and_skips_missing_bars():
    window, other = GapWindow(10, 3), GapWindow(10, 3)
    for bar in GAPPED:
        window.update(*bar)
    other.restore(window.persist())
    assert other.persist() == window.persist()
    other.skip()
    other.update(50.0, 51.0, 49.0, 50.0)
    assert (other.count, other.worst()) == (window.count, 4.0)


def test_it_is_off_by_default_and_in_words():
    policy = bt_risk.Policy(**POLICY, gap_floor=0.02)
    line = next(line for line in policy.describe().splitlines() if line.startswith("gap"))
    assert line == (
        "gap: at most 1 % of equity lost in a gap like the worst of 10 bars, 2 % of the price at "
        "least"
    )
    assert "gap" not in bt_risk.Policy().describe()
    with pytest.raises(ParameterError, match="gap_floor must be 0 without gap_limit"):
        bt_risk.CorrelationCap(gap_floor=0.02)
    cap = bt_risk.CorrelationCap(gap_limit=0.02, gap_floor=0.02)
    assert any(isinstance(limit, bt_risk.GapLimit) for limit in cap.registry.permanent)
