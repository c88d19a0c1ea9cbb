"""How sure: measures against empyrical, bounds against theory, and no more claims than promised."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from helpers.benchmark_package import load
from helpers.plain_evidence import simulated
from helpers.scenarios import Plan, bars, cerebro, flat, random_walk
from helpers.slices import sliced

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.evidence.bootstrap import (
    block_length,
    future_days,
    intervals,
    resampled_days,
    wideness,
)
from bt_risk.evidence.halt_odds import CHUNK, _simulate, halt_probability
from bt_risk.evidence.metrics import (
    MEASURES,
    Days,
    days_of,
    measures,
    volatility,
)
from bt_risk.evidence.runner import run_variant
from bt_risk.evidence.sharpe import (
    deflated_sharpe,
    expected_best,
    probabilistic_sharpe,
    significance,
)
from bt_risk.evidence.sharpe_test import sharpe_test
from bt_risk.report.statistics import figures

NAN = math.nan
coverage = load("coverage")


def days(returns):
    returns = np.asarray(returns, dtype=float)
    return Days(returns, *(np.zeros_like(returns) for _ in range(4)))


@pytest.mark.parametrize("seed", range(5))
def test_the_measures_are_those_of_the_tear_sheet(seed):
    rng = np.random.default_rng(seed)
    returns = rng.standard_t(4, 400 + seed) * 0.01 * (rng.random(400 + seed) < 0.7)
    dates = pd.date_range("2020-01-01", periods=len(returns))
    expected = figures(pd.Series(returns, dates), 252)
    found = measures(days(returns), 252)
    for name in ("CAGR", "Sharpe", "Sortino", "Calmar", "Max drawdown"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9), name
    assert found["CVaR 5 %"] == pytest.approx(expected["Expected shortfall 5 %"], rel=1e-9)


def test_the_other_measures_by_hand():
    """Wealth 1.1, 0.99, 1.188, 1.188: below its mark on one day, by 10 %."""
    returns = np.array([0.1, -0.1, 0.2, 0.0])
    run = Days(
        returns, np.array([1.0, 0.5, 0.5, 0.0]), *np.array([[1.0, 0, 0, 1]] * 2), returns > 0
    )
    found = measures(run, 2)
    assert found["Average drawdown"] == pytest.approx(0.025)
    assert found["Time under water"] == pytest.approx(0.25)
    assert found["Exposure"] == pytest.approx(0.5)
    assert (found["Turnover"], found["Costs"], found["Trades"]) == pytest.approx((1.0, 1.0, 2))
    assert found["CAGR"] == pytest.approx(math.sqrt(1.1 * 0.9 * 1.2) - 1)


def test_a_history_of_histories_is_each_of_them():
    rng = np.random.default_rng(3)
    returns = rng.normal(0, 0.01, 60)
    picks = resampled_days(60, 5.0, 20, 0)
    together = measures(days(returns).take(picks), 252)
    for place, pick in enumerate(picks):
        alone = measures(days(returns[pick]), 252)
        assert all(together[name][place] == pytest.approx(alone[name]) for name in MEASURES)


def test_an_account_that_never_moved_has_no_ratio():
    found = measures(days(np.zeros(30)), 365)
    assert [math.isnan(found[name]) for name in ("Sharpe", "Sortino", "Calmar")] == [True] * 3
    assert found["CAGR"] == found["Max drawdown"] == 0.0


def test_days_are_read_from_a_run():
    frame = bars(*flat(5), (100, 111, 100, 110), *flat(4, 110))
    engine_plan = ((5, "buy", (("size", 500),)), (7, "close", ()))

    def build():
        engine = cerebro(frame)
        engine.broker.setcommission(0.001)
        engine.addstrategy(Plan, plan=engine_plan)
        return engine

    found, index, year = days_of(run_variant(build, None).record)
    assert (len(index), year) == (10, 365)
    assert found.returns.sum() == pytest.approx((5000 - 50) / 100_000 - 55 / 104_950)
    assert found.exposure[5] == pytest.approx(55_000 / 104_950)
    assert found.turnover[5] == pytest.approx(50_000 / 104_950)
    assert found.costs[5] == pytest.approx(50 / 104_950)
    assert found.trades.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]


# -- bounds ----------------------------------------------------------------------------------------


def test_the_days_of_a_history_come_in_blocks_of_the_length_asked_for():
    picks = resampled_days(1000, 20.0, 50, 4)
    assert picks.shape == (50, 1000)
    breaks = (np.diff(picks, axis=1) % 1000 != 1).mean()
    assert breaks == pytest.approx(1 / 20, rel=0.1)
    assert (picks == resampled_days(1000, 20.0, 50, 4)).all()


def test_dependent_returns_need_longer_blocks():
    noise = np.random.default_rng(5).normal(size=1000)
    dependent = np.convolve(noise, np.ones(20) / 20, mode="same")
    assert block_length(noise) == pytest.approx(10)
    assert 20 < block_length(dependent) <= 250
    assert block_length(np.zeros(125)) == pytest.approx(5)


def test_the_bounds_of_a_mean_are_those_of_theory():
    """The Sharpe ratio of n independent days has a standard error of sqrt(year / n)."""
    returns = np.random.default_rng(6).normal(0.0005, 0.01, 1000)
    found = intervals({"bare": days(returns)}, "bare", resampled_days(1000, 1.0, 800, 0), 252, 1.0)
    value = found["bare"]["Sharpe"][0]
    width = 2 * 1.96 * math.sqrt(252 / 1000)
    assert value.high - value.low == pytest.approx(width, rel=0.1)
    assert value.low < value.value < value.high


def test_leverage_alone_is_no_difference_at_equal_volatility():
    returns = np.random.default_rng(8).normal(0.0005, 0.01, 500)
    runs = {"bare": days(returns), "half": days(returns / 2)}
    picks = resampled_days(500, 3.0, 200, 0)
    found = intervals(runs, "bare", picks, 252, 3.0)["half"]
    for name in ("CAGR", "Max drawdown", "Average drawdown"):
        raw, levelled = found[name][1], found[name][2]
        assert raw.value < 0
        assert levelled == pytest.approx((0, 0, 0), abs=1e-12)
    assert not sharpe_test(runs, "bare", 3.0, 252)["half"].evidence


def test_what_is_there_is_found():
    rng = np.random.default_rng(9)
    noise = rng.normal(0, 0.01, 1000)
    runs = {"bare": days(noise), "better": days(noise + 0.0005 + rng.normal(0, 0.002, 1000))}
    found = sharpe_test(runs, "bare", 10.0, 252)["better"]
    assert found.evidence
    assert 0 < found.low < found.difference < found.high


def test_a_run_that_does_not_differ_is_no_evidence():
    returns = np.random.default_rng(10).normal(0, 0.01, 200)
    runs = {"bare": days(returns), "same": days(returns), "flat": days(np.zeros(200))}
    found = sharpe_test(runs, "bare", 6.0, 252)
    assert [found[name].evidence for name in ("same", "flat")] == [False, False]
    assert math.isnan(found["same"].low)


def walk_without_an_edge(rng):
    """Return the days of a bare run and of three overlays, none of which knows anything."""
    market = rng.standard_t(5, 600) * 0.01
    bare = market * np.repeat(rng.random(60) < 0.6, 10)
    lost = np.r_[0.0, np.cumsum(bare)[:-1]]  # known before the day
    return {
        "bare": days(bare),
        "half of it": days(bare * np.repeat(rng.random(60) < 0.5, 10)),
        "breaker": days(np.where(lost < -0.05, 0.0, bare)),
        "some": days(0.5 * bare * (rng.random(600) < 0.9)),
    }


@pytest.mark.parametrize(("confidence", "most"), sliced([(0.95, 0.0722), (0.8, 0.2408)], 2))
def test_without_an_edge_evidence_is_claimed_as_often_as_the_level_says(confidence, most):
    """Of 600 walks, and any of three overlays; `most` is the level and 2.5 standard errors."""
    rng = np.random.default_rng(2024)
    claims = 0
    for seed in range(600):
        runs = walk_without_an_edge(rng)
        block = block_length(runs["bare"].returns)
        tests = sharpe_test(runs, "bare", block, 252, confidence, 400, seed)
        claims += any(test.evidence for test in tests.values())
    assert claims / 600 <= most
    assert claims > 0


def test_bounds_are_wider_than_percentiles_by_student_s_distribution():
    """By tables: t of 9 degrees is 2.262 at 97.5 %, 1.960 of a normal; ten blocks of ten days."""
    assert wideness(100, 10.0, 0.95) == pytest.approx(
        math.sqrt(10 / 9) * 2.2622 / 1.95996, abs=1e-4
    )
    assert wideness(10**9, 10.0, 0.95) == pytest.approx(1.0)
    assert wideness(20, 20.0, 0.95) == wideness(40, 20.0, 0.95)


def test_the_error_of_a_difference_is_that_of_the_sums_of_blocks():
    """Days that take turns cancel out in a block of two; Student's t of 99 degrees by tables."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0.001, 0.01, 400) + np.tile([0.02, -0.02], 200)
    runs = {"bare": days(rng.normal(0, 0.01, 400)), "other": days(noise)}
    one, other = (run.returns / volatility(run.returns) for run in runs.values())
    added = [z - 0.5 * z.mean() * (z - z.mean()) ** 2 for z in (one, other)]
    sums = (added[1] - added[0]).reshape(-1, 4).sum(axis=1)
    error = math.sqrt(((sums - sums.mean()) ** 2).sum() * 100 / 99) / 400
    found = sharpe_test(runs, "bare", 4.0, 1.0, 0.9, samples=5000)["other"]
    assert found.difference == pytest.approx(other.mean() - one.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.660 * error, rel=0.05)


def test_years_needed_are_those_of_the_normal_distribution():
    """(1.960 + 0.842) standard errors; a quarter of the difference needs 16 times the years."""
    rng = np.random.default_rng(5)
    noise, more = rng.normal(0, 0.01, 504), rng.normal(0, 0.001, 504)
    runs = {"bare": days(noise), "more": days(noise + more + 0.0008)}
    found = sharpe_test(runs, "bare", 1.0, 252)["more"]
    one, other = (run.returns / volatility(run.returns) for run in runs.values())
    added = (other - 0.5 * other.mean() * (other - other.mean()) ** 2) - (
        one - 0.5 * one.mean() * (one - one.mean()) ** 2
    )
    errors_away = (other.mean() - one.mean()) / (added.std(ddof=1) / math.sqrt(504))
    assert found.years == pytest.approx(2 * (2.8016 / errors_away) ** 2, rel=1e-3)
    assert math.isnan(
        sharpe_test({"bare": runs["bare"], "a": runs["bare"]}, "bare", 1, 252)["a"].years
    )


def test_a_rule_that_acted_on_four_days_is_no_evidence():
    """All of four signs are equal in one draw of eight, whatever the days brought."""
    bare = np.random.default_rng(4).normal(0, 0.01, 500)
    acted = np.where(np.arange(500) % 125 == 50, bare + 0.02, bare)
    found = sharpe_test({"bare": days(bare), "rule": days(acted)}, "bare", 8.0, 252)["rule"]
    assert found.difference > 0
    assert not found.evidence
    acted = np.where(np.arange(500) % 50 == 25, bare + 0.02, bare)
    assert sharpe_test({"bare": days(bare), "rule": days(acted)}, "bare", 8.0, 252)["rule"].evidence


@pytest.mark.parametrize("market", coverage.MARKETS)
def test_the_size_of_the_test_in_short(market):
    """Of 400 at 5 %: 20, and three standard errors of 4.4. The benchmark has the long table."""
    assert 400 * coverage.size(market, 250, 1, 400) <= 33


def test_the_coverage_of_intervals_in_short():
    """Of 150 at 95 %: three standard errors are 5 %."""
    found = coverage.coverage("ar and t4", 250, 150)
    for name in ("Sharpe", "CAGR", "Sortino", "Sharpe difference"):
        assert 0.89 <= found[name] <= 0.99, name


@pytest.mark.soak
@pytest.mark.parametrize("variants", coverage.VARIANTS)
@pytest.mark.parametrize("days", coverage.DAYS)
@pytest.mark.parametrize("market", coverage.MARKETS)
def test_the_size_of_the_test(market, days, variants):
    assert 0.035 <= coverage.size(market, days, variants, 2000) <= 0.07


@pytest.mark.soak
@pytest.mark.parametrize("days", coverage.DAYS)
@pytest.mark.parametrize("market", coverage.MARKETS[:-1])
def test_the_coverage_of_intervals(market, days):
    found = coverage.coverage(market, days, 2000)
    for name in ("Sharpe", "CAGR", "Sortino", "Sharpe difference"):
        assert 0.93 <= found[name] <= 0.97, name


# -- Sharpe ratios ---------------------------------------------------------------------------------


def exactly(sharpe, count=365):
    """Return normal returns with just this annual Sharpe ratio."""
    normal = np.array([NormalDist().inv_cdf((k + 0.5) / count) for k in range(count)])
    normal = normal / normal.std(ddof=1)
    return normal + sharpe / math.sqrt(count)


def test_a_sharpe_ratio_of_the_article_over_one_year():
    """Of 1.2: above zero with 0.88; deflated 0.35, 0.14, 0.09 for 10, 50, 100 tries."""
    returns = exactly(1.2)
    assert probabilistic_sharpe(returns) == pytest.approx(0.884, abs=0.002)
    for tries, expected in ((10, 0.35), (50, 0.145), (100, 0.09)):
        best = expected_best(1 / math.sqrt(365), tries)
        assert probabilistic_sharpe(returns, best) == pytest.approx(expected, abs=0.006)


def test_a_fat_tail_makes_a_sharpe_ratio_less_certain():
    """By hand: 9 days of 1 % and one of -4 %; SR 0.3162, skewness -2.667, kurtosis 8.111."""
    returns = np.array([0.01] * 9 + [-0.04])
    ratio = 0.005 / 0.015811388
    variance = 1 + 2.6666667 * ratio + 7.1111111 / 4 * ratio**2
    expected = NormalDist().cdf(ratio * 3 / math.sqrt(variance))
    assert probabilistic_sharpe(returns) == pytest.approx(expected, rel=1e-6)


def test_the_significance_that_its_authors_published():
    """Bailey & Lopez de Prado (2012): 24 months at 0.458, if normal, and as skewed as they were."""
    assert significance(0.458, 24, 0.0, 3.0) == pytest.approx(0.982, abs=5e-4)
    assert significance(0.458, 24, -2.448, 10.164) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(("tries", "expected"), [(100, 0.9004), (46, 0.9505)])
def test_the_deflation_that_its_authors_published(tries, expected):
    """Bailey & Lopez de Prado (2014): 1,250 days at 2.5 a year, tries of variance 1/2 a year."""
    best = expected_best(math.sqrt(0.5 / 250), tries)
    found = significance(2.5 / math.sqrt(250), 1250, -3.0, 10.0, best)
    assert found == pytest.approx(expected, abs=5e-4)


def test_a_copy_of_a_try_is_no_further_try():
    returns = exactly(1.2)
    ratio = 1.2 / math.sqrt(365)
    tried = [ratio, 0.0, 0.03]
    assert deflated_sharpe(returns, tried + [ratio + 1e-13] * 100) == deflated_sharpe(
        returns, tried
    )
    assert math.isnan(deflated_sharpe(returns, [ratio] * 100))


def test_tries_elsewhere_deflate_too():
    returns, tried = exactly(1.2), [1.2 / math.sqrt(365), 0.0, 0.03]
    spread = float(np.std(tried, ddof=1))
    expected = probabilistic_sharpe(returns, expected_best(spread, 3 + 97))
    assert deflated_sharpe(returns, tried, trials=97) == expected
    assert expected < deflated_sharpe(returns, tried)


def test_the_best_of_ten_without_skill():
    """The expected largest of ten normals is 1.5388 (tables); the formula's is near it."""
    assert expected_best(1.0, 10) == pytest.approx(1.5746, abs=1e-4)


def test_deflation_uses_every_try():
    returns = exactly(1.2)
    ratio = 1.2 / math.sqrt(365)
    few, many = [ratio, 0.0], [*np.linspace(0.0, ratio, 11)]
    assert deflated_sharpe(returns, many) < deflated_sharpe(returns, few)
    assert deflated_sharpe(returns, few) < probabilistic_sharpe(returns)
    assert math.isnan(deflated_sharpe(returns, [ratio]))
    assert math.isnan(probabilistic_sharpe(np.zeros(50)))


# -- halts -----------------------------------------------------------------------------------------


def test_the_odds_of_a_halt_are_those_of_a_simulation():
    """Independent normal days: the share of simulated years that fall 10 % is the probability."""
    returns = np.random.default_rng(12).normal(0.0004, 0.01, 5000)
    paths = np.random.default_rng(13).choice(returns, (4000, 252))
    wealth = np.cumprod(1 + paths, axis=1)
    fall = 1 - wealth / np.maximum(np.maximum.accumulate(wealth, axis=1), 1)
    expected = (fall.max(axis=1) >= 0.1).mean()
    first = np.median((fall >= 0.1).argmax(axis=1)[fall.max(axis=1) >= 0.1]) + 1
    odds = halt_probability(returns, periods_per_year=252, samples=200)
    assert odds.probability.value == pytest.approx(expected, abs=0.06)
    assert odds.probability.low < expected < odds.probability.high
    assert odds.days.value == pytest.approx(first, rel=0.15)
    assert odds.horizon == 252
    assert "A drawdown of 10 % is reached within 252 days (a year)" in str(odds)


def test_a_sure_halt_and_an_impossible_one():
    falling = pd.Series(-0.02, pd.date_range("2020-01-01", periods=40))
    odds = halt_probability(falling)
    # 0.98 ** 5 is 0.904, 0.98 ** 6 is 0.886.
    assert odds.probability == (1.0, 1.0, 1.0)
    assert odds.days == (6.0, 6.0, 6.0)
    rising = halt_probability(-falling)
    assert rising.probability == (0.0, 0.0, 0.0)
    assert math.isnan(rising.days.value)
    off = bt_risk.Policy(drawdown_limit=None)
    assert str(halt_probability(falling, off)) == "No drawdown limit: nothing halts this run."
    tight = bt_risk.Policy(drawdown_limit=None, lifetime_limit=0.05)
    assert halt_probability(falling, tight).days.value == 3.0


@pytest.mark.parametrize(
    ("count", "ahead", "limit"),
    [
        (366, 365, 0.1),
        (366, 365, 0.03),
        (30, 200, 0.05),
        (250, 20, 0.2),
        (30, 1, 0.001),
        (40, 9, 9),
    ],
)
def test_halts_are_those_of_every_history_on_its_own(count, ahead, limit):
    values = np.random.default_rng(count).normal(0.0005, 0.01, count)
    samples = CHUNK + 3
    chances, firsts = _simulate(values, limit, ahead, samples, 5)
    expected, days = simulated(values, limit, ahead, samples, 5)
    assert np.array_equal(chances, expected)
    assert np.array_equal(firsts, days)


def test_intervals_are_those_of_every_history_at_once():
    """In chunks, and with what the runs share computed once, the figures are the same."""
    rng = np.random.default_rng(3)
    runs = {name: Days(*rng.normal(0.001, 0.01, (5, 90))) for name in ("bare", "one", "two")}
    picks = resampled_days(90, 4.0, 250, 1)
    found, tail = intervals(runs, "bare", picks, 252, 4.0, 0.9), (1.0 - 0.9) / 2
    wide = wideness(90, 4.0, 0.9)
    base = runs["bare"].take(picks)
    for label, one in runs.items():
        every, of_base = measures(one.take(picks), 252), measures(base, 252)
        spread, other = (volatility(d.returns) for d in (one.take(picks), base))
        levelled = measures(base.scaled((spread / other)[:, None]), 252)
        for name in MEASURES:
            for place, drawn in enumerate(
                (every[name], every[name] - of_base[name], every[name] - levelled[name])
            ):
                known, (value, *bounds) = drawn[np.isfinite(drawn)], found[label][name][place]
                if len(known) >= len(drawn) / 2:
                    expected = value + wide * (np.quantile(known, [tail, 1.0 - tail]) - value)
                    lowest, highest = min(value, known.min()), max(value, known.max())
                    assert bounds == [max(expected[0], lowest), min(expected[1], highest)]


def test_futures_come_in_blocks_too():
    picks = future_days(np.random.default_rng(1), 200, 300, 400, 10.0)
    assert ((picks >= 0) & (picks < 700)).all()
    assert (np.diff(picks, axis=1) % 300 != 1).mean() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (dict(returns=[0.1] * 19), "returns"),
        (dict(returns=[0.1] * 30 + [NAN]), "returns"),
        (dict(returns=np.zeros(50)), "periods_per_year"),
        (dict(policy=3), "policy"),
        (dict(confidence=95), "confidence"),
        (dict(samples=10), "samples"),
        (dict(samples=150, confidence=0.95), "samples"),
        (dict(seed=-1), "seed"),
        (dict(horizon=0), "horizon"),
    ],
)
def test_what_makes_no_sense_raises(arguments, param):
    returns = pd.Series(0.0, pd.date_range("2020-01-01", periods=50))
    with pytest.raises(ParameterError) as caught:
        halt_probability(**({"returns": returns} | arguments))
    assert caught.value.param == param


def test_the_same_seed_gives_the_same_odds():
    returns = random_walk(1, 200).close.pct_change().dropna()
    assert halt_probability(returns, samples=200) == halt_probability(returns, samples=200)
