"""halt_probability at the bars of the breaker, and with floors and daily limits."""

import functools
import math
import re

import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import Plan, cerebro, random_walk

import bt_risk
from bt_risk import AccountFloor, DailyLossLimit, ParameterError, Policy, ProfitTarget
from bt_risk.evidence.halt_odds import _Bars, _first_halts_within, halt_probability
from bt_risk.evidence.metrics import days_of
from bt_risk.evidence.runner import run_variant
from bt_risk.report.pyfolio import bar_returns, daily_returns

LIMIT = 0.1


def hourly(seed=3, days=400, drift=0.0, spread=0.004):
    index = pd.date_range("2020-01-01", periods=24 * days, freq="h")
    return pd.Series(np.random.default_rng(seed).normal(drift, spread, len(index)), index)


def by_day(returns):
    return [group.to_numpy() for _, group in returns.groupby(returns.index.normalize())]


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.1])
def test_a_halt_comes_on_the_day_of_the_bar_that_touches_the_limit(limit):
    """Every bar of every path, one after the other."""
    days = by_day(hourly(days=40, spread=0.006))
    bars, rng = _Bars.of(days, limit), np.random.default_rng(4)
    picks = rng.integers(0, len(days), (60, 30))
    found = _first_halts_within(bars.take(picks.T), limit)
    for path, first in zip(picks, found, strict=True):
        wealth = mark = 1.0
        expected = 0
        for number, day in enumerate(path, 1):
            for one in days[day]:
                wealth *= 1.0 + one
                mark = max(mark, wealth)
                if 1.0 - wealth / mark >= limit - 1e-12:
                    expected = expected or number
        assert first == expected
    assert 0 < (found > 0).mean() <= 1


def test_hours_reach_a_limit_that_daily_closes_miss():
    hours = hourly()
    days = (1.0 + hours).groupby(hours.index.normalize()).prod() - 1.0
    options = dict(horizon=30, samples=200, periods_per_year=365)
    fine, coarse = (halt_probability(one, **options) for one in (hours, days))
    assert fine.probability.value > coarse.probability.value + 0.02
    assert "within 30 days" in str(fine)


def test_one_bar_a_day_is_a_day():
    days = hourly(days=300).resample("D").sum()
    index = days.index + pd.Timedelta("17h")
    assert halt_probability(days, samples=200) == halt_probability(
        days.set_axis(index), samples=200
    )


def test_a_fall_within_one_day_is_a_halt_whatever_was_before():
    """Up 20 %, down 15 %, up again: the day ends where it began."""
    index = pd.date_range("2020-01-01", periods=120, freq="8h")
    returns = pd.Series(np.tile([0.2, -0.15, 1 / (1.2 * 0.85) - 1], 40), index)
    odds = halt_probability(returns, horizon=5)
    assert odds.probability == (1.0, 1.0, 1.0)
    assert odds.days.value == 1.0


def test_returns_out_of_order_are_refused():
    with pytest.raises(ParameterError, match="in the order of time"):
        halt_probability(hourly(days=30).iloc[::-1])


def test_compare_judges_the_bars_of_the_run():
    def build():
        engine = cerebro(random_walk(5, 1_200, 0.01, freq="h"))
        plan = [(at, verb, ()) for at in range(5, 1_150, 20) for verb in ("buy",)]
        plan += [(at + 12, "close", ()) for at in range(5, 1_150, 20)]
        engine.addstrategy(Plan, plan=tuple(plan))
        engine.addsizer(bt_risk.demo.portfolios.FractionSizer)
        return engine

    run = run_variant(build, None)
    returns, daily = bar_returns(run.record), daily_returns(run.record)
    assert len(returns) == 1_200
    together = (1.0 + returns).groupby(returns.index.normalize()).prod() - 1.0
    assert together.to_numpy() == pytest.approx(daily.to_numpy(), abs=1e-12)
    policy = Policy(drawdown_limit=0.05)
    found = bt_risk.compare(build, policy, samples=200, workers=1)
    free = found.records["no drawdown"]
    expected = halt_probability(bar_returns(free), policy, periods_per_year=days_of(free)[2])
    assert found.halt == expected


# -- floors and daily limits -----------------------------------------------------------------------


def test_a_floor_halts_too():
    returns = pd.Series(
        np.random.default_rng(6).normal(0.0, 0.01, 500), pd.date_range("2020-01-01", periods=500)
    )
    off = Policy(drawdown_limit=None)
    options = dict(horizon=60, samples=200)
    none = halt_probability(returns, off, **options)
    assert (none.probability.value, none.floors) == (0.0, False)
    floor = halt_probability(returns, off, rules=[AccountFloor(0.1)], **options)
    fall = halt_probability(returns, Policy(), **options)
    both = halt_probability(returns, Policy(), rules=[AccountFloor(0.1)], **options)
    # A fall of 10 % from the beginning is one from a mark, too.
    assert 0.0 < floor.probability.value < fall.probability.value + 0.05
    assert both.probability.value == pytest.approx(fall.probability.value, abs=0.05)
    assert str(floor).startswith("A floor is reached within 60 days with a probability of")
    assert str(both).startswith("A drawdown of 10 %, or a floor, is reached within 60 days")


def test_the_floors_of_the_policy_count_unasked():
    returns = pd.Series(-0.01, pd.date_range("2020-01-01", periods=50))
    policy = Policy(drawdown_limit=None, guards=[AccountFloor(0.05, taper_to_floor=0.5)])
    odds = halt_probability(returns, policy, horizon=20)
    assert odds.probability == (1.0, 1.0, 1.0)
    assert odds.days.value == 6.0  # 0.99 ** 5 is 0.951, 0.99 ** 6 is 0.941
    paused = Policy(drawdown_limit=0.05, action="pause", cooldown_bars=3)
    again = halt_probability(returns, paused, rules=[AccountFloor(0.3)], horizon=20)
    assert again.days == (6.0, 6.0, 6.0)


def test_a_daily_limit_halts_and_amounts_are_those_of_the_account():
    index = pd.date_range("2020-01-01", periods=160, freq="6h")
    returns = pd.Series(np.tile([0.0, -0.03, 0.02, 1 / (0.97 * 1.02) - 1], 40), index)
    off = Policy(drawdown_limit=None)
    odds = functools.partial(halt_probability, returns, off, horizon=5)
    assert odds(rules=[DailyLossLimit(0.03)]).probability.value == 1.0
    assert odds(rules=[DailyLossLimit(0.031)]).probability.value == 0.0
    currency = [AccountFloor(2_900)]
    assert odds(rules=currency).probability.value == 1.0
    assert odds(rules=currency, cash=50_000.0).probability.value == 0.0
    assert math.isnan(odds(rules=currency, cash=50_000.0).days.value)


def test_a_target_is_no_halt():
    with pytest.raises(
        ParameterError, match=re.escape("a list of AccountFloor and DailyLossLimit")
    ):
        halt_probability(np.zeros(50), rules=[ProfitTarget(0.1)], periods_per_year=252)
