"""Regimes of the market, and trades in other sequences: by hand, and where they cannot be told."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import Plan, bars, cerebro, random_walk

import bt_risk
from bt_risk.evidence.regimes import by_regime, market_returns
from bt_risk.evidence.trade_order import closed_trades, trade_order
from bt_risk.report.pyfolio import daily_returns
from bt_risk.report.record import ReportData, record_of


def recorded(*frames, plan=(), commission=0.0, protect=False):
    """Return the record of a run with this plan."""
    engine = cerebro(*frames)
    engine.broker.setcommission(commission)
    engine.addstrategy(Plan, plan=plan)
    engine.addanalyzer(ReportData)
    if protect:
        bt_risk.protect(engine, sizer=False, trailing_stop=False, risk_limit=None)
    return record_of(engine.run()[0])


def buy(bar, size=100):
    return (bar, "buy", (("size", size),))


def at(*closes):
    """Return bars without a range, at these prices."""
    return bars(*((close, close, close, close) for close in closes))


# -- regimes ---------------------------------------------------------------------------------------


def test_the_market_is_the_mean_of_the_data_feeds():
    record = recorded(at(100, 110, 110), at(100, 100, 50))
    assert market_returns(record).tolist()[1:] == pytest.approx([0.05, -0.25])


def test_terciles_are_those_of_the_days_before_and_returns_add_up():
    """Ten quiet weeks, ten wild ones: volatility of 21 days, known on the day before."""
    rng = np.random.default_rng(3)
    closes = 100 * np.cumprod(1 + np.r_[rng.normal(0, 0.001, 70), rng.normal(0, 0.03, 70)])
    record = recorded(at(*closes), plan=[buy(2)])
    found = by_regime({"bare": record}, 365)
    returns, market = daily_returns(record), market_returns(record)
    known = market.rolling(21).std().shift(1)
    terciles = [f"{name} volatility" for name in ("low", "middle", "high")]
    days = found.xs("bare", level="run").loc[terciles, "days"]
    assert days.sum() == known.notna().sum() == 118
    total = found.xs("bare", level="run").loc[terciles, "return"].sum()
    assert total == pytest.approx(returns[known.notna()].sum())
    wild = returns[known > known.quantile(2 / 3)]
    row = found.loc[("high volatility", "bare")]
    assert row["days"] == len(wild)
    assert row["sharpe"] == pytest.approx(wild.mean() / wild.std() * math.sqrt(365))
    wealth = np.r_[1.0, np.cumprod(1 + wild)]
    assert row["worst_fall"] == pytest.approx((1 - wealth / np.maximum.accumulate(wealth)).max())


def test_years_rise_or_fall_with_the_market_and_not_with_the_run():
    days = pd.date_range("2022-07-01", "2024-03-31")
    up = pd.Series(np.where(days.year == 2023, -0.001, 0.001), days)
    frame = random_walk(1, len(days)).set_axis(days)
    closes = 100 * (1 + up).cumprod()
    frame = frame.assign(open=closes, high=closes, low=closes, close=closes)
    record = recorded(frame, plan=[(20, "sell", (("size", 1),))])
    found = by_regime({"bare": record}, 365).xs("bare", level="run")
    assert found.loc["falling years", "days"] == 365
    assert found.loc["rising years", "days"] == len(days) - 365
    assert found.loc["falling years", "return"] > 0 > found.loc["rising years", "return"]


def test_a_regime_of_a_few_days_is_left_out():
    record = recorded(random_walk(2, 25))
    assert by_regime({"bare": record}, 365).index.get_level_values("regime").unique().tolist() in (
        ["rising years"],
        ["falling years"],
    )


# -- trades in other sequences ---------------------------------------------------------------------


def test_trades_are_those_of_the_fills_by_hand():
    """100 from 100 to 110, and 100 short from 110 to 105: each a fraction of equity before it."""
    prices = at(100, 100, 100, 110, 110, 110, 105, 105, 105)
    plan = [buy(1), (3, "close", ()), (5, "sell", (("size", 100),)), (6, "close", ())]
    record = recorded(prices, plan=plan, commission=0.001)
    first = 1000 - 10 - 11
    second = 500 - 11 - 10.5
    made = closed_trades(record)
    assert made == pytest.approx([first / 100_000, second / (100_000 + first)])
    end = record.bars["equity"].iloc[-1]
    assert 100_000 * np.prod(1 + made) == pytest.approx(end)


def test_an_order_that_changes_sides_ends_one_trade_and_begins_another():
    """Long 100 from 100, at 110 sell 200: short 100, bought back at 105; commission in shares."""
    prices = at(100, 100, 100, 110, 110, 105, 105)
    plan = [buy(1), (3, "sell", (("size", 200),)), (5, "close", ())]
    record = recorded(prices, plan=plan, commission=0.001)
    made = closed_trades(record) * (100_000 + np.r_[0, 1000 - 10 - 11])
    assert made == pytest.approx([1000 - 10 - 11, 500 - 11 - 10.5])


def test_a_position_that_stays_open_is_no_trade():
    assert closed_trades(recorded(at(100, 100, 100, 120), plan=[buy(1)])).tolist() == []
    assert math.isnan(trade_order(recorded(at(100, 100, 100))).median)


@pytest.mark.parametrize("protect", [False, True])
def test_a_run_with_a_gate_and_one_without_have_the_same_trades(protect):
    plan = [one for bar in range(20, 90, 6) for one in (buy(bar, 10), (bar + 3, "close", ()))]
    made = closed_trades(recorded(random_walk(7, 120), plan=plan, protect=protect))
    assert made.tolist() == closed_trades(recorded(random_walk(7, 120), plan=plan)).tolist()
    assert len(made) == 12


def test_other_sequences_have_other_drawdowns():
    """Ten gains and ten losses of 0.1 % that take turns: never two losses in a row."""
    closes = [price for _ in range(10) for last in (101, 99) for price in (100, 100, last)]
    plan = [order for k in range(20) for order in (buy(3 * k + 1), (3 * k + 2, "close", ()))]
    record = recorded(at(*closes, 100), plan=plan)
    found = trade_order(record, samples=500)
    assert found.trades == 20
    assert found.drawdown == pytest.approx(0.001, rel=0.01)
    assert found.drawdown < found.low < found.median < found.high < 1 - 0.999**10
    assert found == trade_order(record, samples=500)
