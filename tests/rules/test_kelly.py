import math
from collections import deque

import numpy as np
import pandas as pd
import pytest
from helpers.slices import sliced
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.kelly import (
    empirical_kelly,
    half_kelly_position,
    kelly_criterion,
    kelly_lower_bound,
    kelly_risk,
    two_point_kelly,
)

# 60 wins of 1R, 39 losses of 1R and one gap of 6R.
GAP = [1.0] * 60 + [-1.0] * 39 + [-6.0]

results = st.floats(-8, 8).map(lambda r: round(r, 3))
samples = st.lists(results, min_size=1, max_size=60)


def trades(seed, win_rate, payoff_ratio, n_trades=100):
    wins = np.random.default_rng(seed).random(n_trades) < win_rate
    return np.where(wins, payoff_ratio, -1.0)


def mean_growth(fraction, r_multiples):
    return np.log1p(fraction * np.asarray(r_multiples)).mean()


# ---------------------------------------------------------------- the article


def test_article_row_1_the_example_gives_2000_not_2750():
    # b = 1.5, full = 0.55 - 0.45 / 1.5 = 0.25, half = 0.125 ($12,500), capped at 0.02 ($2,000).
    assert kelly_criterion(0.55, 1.5) == pytest.approx(0.25, abs=1e-15)
    assert half_kelly_position(0.55, 1.5, -1.0, 100000, kelly_limit=None) == pytest.approx(12500)
    assert half_kelly_position(0.55, 1.5, -1.0, 100000) == 2000.0


@pytest.mark.parametrize(("win_rate", "payoff_ratio"), [(0.55, 1.5), (0.4, 3.0), (0.9, 0.5)])
def test_article_row_2_the_criterion_maximises_growth_and_depends_on_the_win_rate(
    win_rate, payoff_ratio
):
    fractions = np.linspace(0, 0.999, 100_000)
    growth = win_rate * np.log1p(payoff_ratio * fractions) + (1 - win_rate) * np.log1p(-fractions)
    best = fractions[growth.argmax()]
    assert kelly_criterion(win_rate, payoff_ratio) == pytest.approx(best, abs=2e-5)
    assert kelly_criterion(win_rate - 0.01, payoff_ratio) < kelly_criterion(win_rate, payoff_ratio)


def test_article_row_3_a_signed_loss_is_the_same_as_an_unsigned_one():
    # Small enough for the cap not to hide a difference: full 0.02, half 0.01.
    # p = 0.51, b = 1: 0.51 - 0.49 = 0.02.
    assert half_kelly_position(0.51, 1.0, -1.0, 1000) == pytest.approx(10.0)
    assert half_kelly_position(0.51, 1.0, 1.0, 1000) == pytest.approx(10.0)


@pytest.mark.parametrize("avg_loss", [0, 0.0, -0.0, math.nan, -math.inf, None])
def test_article_row_3_no_loss_and_an_unknown_loss_are_refused(avg_loss):
    with pytest.raises(ParameterError, match="half_kelly_position: avg_loss must be positive"):
        half_kelly_position(0.55, 1.5, avg_loss, 100000)


def test_article_row_4_a_losing_system_gets_nothing_instead_of_a_negative_size():
    # p = 0.30, b = 1: f* = 0.30 - 0.70 = -0.40, which Backtrader would have bought as +0.40.
    assert kelly_criterion(0.30, 1.0) == pytest.approx(-0.40)
    assert half_kelly_position(0.30, 1.0, -1.0, 100000) == 0.0
    assert half_kelly_position(0.30, 0.0, -1.0, 100000) == 0.0


# ---------------------------------------------------------------- kelly_criterion


def test_criterion_broadcasts_over_arrays():
    result = kelly_criterion(np.array([[0.5], [0.6]]), np.array([1.0, 2.0]))
    # 0.5 - 0.5/1, 0.5 - 0.5/2; 0.6 - 0.4/1, 0.6 - 0.4/2
    np.testing.assert_allclose(result, [[0.0, 0.25], [0.2, 0.4]], atol=1e-15)
    np.testing.assert_allclose(kelly_criterion([0.5, 0.6], 2), [0.25, 0.4])


def test_criterion_keeps_the_index_of_a_series():
    win_rate = pd.Series([0.5, 0.6], index=["a", "b"], name="p")
    expected = pd.Series([0.25, 0.4], index=["a", "b"], name="p")
    pd.testing.assert_series_equal(kelly_criterion(win_rate, 2.0), expected)


def test_criterion_of_nan_is_nan():
    assert math.isnan(kelly_criterion(math.nan, 1.5))
    assert math.isnan(kelly_criterion(0.5, math.nan))


@pytest.mark.parametrize("win_rate", [-1e-9, 1 + 1e-9, 55, [0.5, 1.2]])
def test_criterion_refuses_a_win_rate_outside_zero_and_one(win_rate):
    with pytest.raises(ParameterError, match=r"win_rate must be in \[0, 1\]"):
        kelly_criterion(win_rate, 1.5)


@pytest.mark.parametrize("payoff_ratio", [0, -1.5, np.array([1.0, -2.0])])
def test_criterion_refuses_a_payoff_ratio_that_is_not_positive(payoff_ratio):
    with pytest.raises(ParameterError, match="payoff_ratio must be positive; got (0|-1.5|-2.0)"):
        kelly_criterion(0.5, payoff_ratio)


# ---------------------------------------------------------------- two_point_kelly


def test_two_point_is_per_unit_of_risk_not_per_average_loss():
    # p = .55, W = .75, L = .5: b = 1.5, p - q/b = .25, per 1R: .25 / .5 = .5.
    assert two_point_kelly([0.75] * 55 + [-0.5] * 45) == pytest.approx(0.5)


def test_two_point_averages_uneven_wins_and_losses():
    # p = 1/2, W = (1 + 3)/2 = 2, L = (0.5 + 1.5)/2 = 1: 0.5/1 - 0.5/2 = 0.25.
    assert two_point_kelly([1.0, -0.5, 3.0, -1.5]) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [([0.3, 2.0], 1.0), ([-0.3, -2.0], -1.0), ([0.0, 0.0], 0.0), ([1e-12, -1e-12], 0.0)],
    ids=["no losses", "no wins", "scratch only", "rounding only"],
)
def test_two_point_is_finite_when_a_side_is_missing(sample, expected):
    assert two_point_kelly(sample) == expected


@pytest.mark.parametrize("estimate", [two_point_kelly, empirical_kelly])
def test_scratch_trades_change_no_estimate(estimate):
    assert estimate([*GAP, 0.0, 0.0, 1e-12, -1e-12]) == pytest.approx(estimate(GAP), rel=1e-12)


@pytest.mark.parametrize("estimate", [two_point_kelly, empirical_kelly, kelly_lower_bound])
def test_trades_of_nan_are_left_out(estimate):
    assert estimate([math.nan, *GAP, math.nan]) == estimate(GAP)


@pytest.mark.parametrize("estimate", [two_point_kelly, empirical_kelly, kelly_lower_bound])
@pytest.mark.parametrize("sample", [[], [math.nan]])
def test_nothing_is_known_without_trades(estimate, sample):
    assert math.isnan(estimate(sample))


@pytest.mark.parametrize("estimate", [two_point_kelly, empirical_kelly, kelly_lower_bound])
@pytest.mark.parametrize("sample", [[1.0, math.inf], [[1.0, -1.0]], 1.0])
def test_infinite_and_nested_samples_are_refused(estimate, sample):
    with pytest.raises(ParameterError, match=f"{estimate.__name__}: r_multiples must be one-dim"):
        estimate(sample)


@pytest.mark.parametrize("kind", [list, tuple, deque, np.array, pd.Series])
def test_samples_of_any_kind_give_a_plain_float_and_are_not_changed(kind):
    sample = kind(GAP)
    for estimate in (two_point_kelly, empirical_kelly, kelly_lower_bound):
        assert type(estimate(sample)) is float
        assert estimate(sample) == estimate(GAP)
    assert list(sample) == GAP


# ---------------------------------------------------------------- empirical_kelly


def test_empirical_sees_the_tail_that_two_points_average_away():
    # The root of 60/(1+f) - 39/(1-f) - 6/(1-6f) = 0. Times the denominators that is
    # 60(1-f)(1-6f) - 39(1+f)(1-6f) - 6(1+f)(1-f) = 600 f^2 - 225 f + 15 = 0,
    # i.e. f = (225 - sqrt(225^2 - 36000)) / 1200 = 0.0866667...
    root = (225 - math.sqrt(225**2 - 4 * 600 * 15)) / (2 * 600)
    assert root == pytest.approx(0.0867, abs=5e-5)
    assert empirical_kelly(GAP) == pytest.approx(root, abs=1e-12)
    assert two_point_kelly(GAP) == pytest.approx(0.6 / 1.125 - 0.4 / 1.0)


@given(
    n_wins=st.integers(1, 40),
    n_losses=st.integers(1, 40),
    win=st.floats(0.01, 20),
    loss=st.floats(0.01, 20),
)
def test_empirical_equals_two_point_when_there_are_two_results(n_wins, n_losses, win, loss):
    sample = [win] * n_wins + [-loss] * n_losses
    expected = max(0.0, two_point_kelly(sample))
    assert empirical_kelly(sample) == pytest.approx(expected, rel=1e-9, abs=1e-11 / loss)


@given(samples)
def test_empirical_lies_between_zero_and_ruin_and_no_other_bet_grows_faster(sample):
    fraction = empirical_kelly(sample)
    worst = max(0.0, -min(sample))
    assert fraction >= 0
    if not worst:
        assert fraction == (1.0 if max(sample) > 0 else 0.0)
        return
    assert fraction * worst < 1
    others = np.linspace(0, 1 / worst, 50, endpoint=False)
    best_of_others = max(mean_growth(other, sample) for other in others)
    assert mean_growth(fraction, sample) >= best_of_others - 1e-12


def test_empirical_is_exactly_zero_without_an_edge():
    assert empirical_kelly([1.0, -1.0]) == 0.0
    assert empirical_kelly([1.0, -2.0, 0.5]) == 0.0
    assert empirical_kelly([0.0, 0.0]) == 0.0


def test_empirical_stays_below_ruin_when_a_loss_is_almost_never_seen():
    assert 0.99 < empirical_kelly([1.0] * 100_000 + [-1.0]) < 1


@given(samples, st.floats(0.1, 10))
def test_empirical_of_scaled_results_is_scaled_the_other_way(sample, scale):
    if min(sample) < 0:  # without a loss the answer is 1 in any unit
        scaled = [r * scale for r in sample]
        expected = empirical_kelly(sample) / scale
        assert empirical_kelly(scaled) == pytest.approx(expected, rel=1e-6, abs=1e-9)


# ---------------------------------------------------------------- kelly_lower_bound


@pytest.mark.parametrize(
    ("estimator", "estimate"), [("two-point", two_point_kelly), ("empirical", empirical_kelly)]
)
def test_bound_is_the_quantile_of_a_plain_bootstrap(estimator, estimate):
    sample = trades(3, 0.55, 1.5, n_trades=30) * np.linspace(0.5, 1.5, 30)
    picks = np.random.default_rng(11).integers(30, size=(1000, 30))
    one_by_one = sorted(estimate(sample[pick]) for pick in picks)
    bound = kelly_lower_bound(sample, 0.9, seed=11, estimator=estimator)
    # The 0.1 quantile of 1000 values, the lower neighbour of (1000 - 1) * 0.1 = 99.9.
    assert bound == pytest.approx(one_by_one[99], abs=1e-6)


def test_bound_is_the_same_for_the_same_seed_and_moves_with_another():
    sample = trades(5, 0.5, 1.7) * np.linspace(0.5, 1.5, 100)
    assert kelly_lower_bound(sample, seed=1) == kelly_lower_bound(sample, seed=1)
    assert kelly_lower_bound(sample, seed=1) != kelly_lower_bound(sample, seed=2)


@given(st.integers(0, 10_000), st.sampled_from(["two-point", "empirical"]))
@settings(max_examples=25, deadline=None)
def test_more_confidence_never_gives_a_higher_bound(seed, estimator):
    sample = trades(seed, 0.5, 1.4, n_trades=60)
    bounds = [kelly_lower_bound(sample, c, 0, estimator, 200) for c in (0.5, 0.8, 0.95, 0.99)]
    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("estimator", sliced(["two-point", "empirical"], 2))
def test_bound_seldom_trades_a_system_without_an_edge(estimator):
    # p = 0.40, b = 1.5: 0.40 - 0.60 / 1.5 = 0. The point estimate is positive about half the time.
    sample_of = [trades(seed, 0.40, 1.5) for seed in range(200)]
    point = np.mean([two_point_kelly(sample) > 0 for sample in sample_of])
    bound = np.mean([kelly_lower_bound(s, estimator=estimator) > 0 for s in sample_of])
    assert point > 0.40
    assert bound < 0.10


@pytest.mark.parametrize("estimator", sliced(["two-point", "empirical"], 2))
def test_bound_keeps_trading_an_honest_system(estimator):
    sample_of = [trades(seed, 0.55, 1.5) for seed in range(200)]
    bound = np.mean([kelly_lower_bound(s, estimator=estimator) > 0 for s in sample_of])
    assert bound > 0.85


def test_bound_of_many_trades_comes_near_the_estimate():
    sample = trades(1, 0.55, 1.5, n_trades=20_000)
    bound = kelly_lower_bound(sample, n_resamples=100)
    # The standard error of f* is about (1 + 1/b) sqrt(pq/n) = 0.0059.
    assert 0.0 < two_point_kelly(sample) - bound < 4 * 0.0059


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (dict(confidence=1.0), "confidence"),
        (dict(confidence=95), "confidence"),
        (dict(estimator="bayes"), "estimator"),
        (dict(n_resamples=0), "n_resamples"),
    ],
)
def test_bound_refuses_arguments_outside_their_range(arguments, param):
    with pytest.raises(ParameterError, match=f"kelly_lower_bound: {param} must be"):
        kelly_lower_bound(GAP, **arguments)


# ---------------------------------------------------------------- kelly_risk, half_kelly_position


@given(st.floats(-5, 5), st.floats(0.01, 1), st.floats(0.001, 1))
def test_risk_is_never_negative_never_above_the_limit_and_never_above_the_kelly(full, scale, limit):
    risk = kelly_risk(full, scale, limit)
    assert 0 <= risk <= limit
    assert risk <= max(0.0, full)
    assert risk <= kelly_risk(full, 1.0, limit)


def test_risk_is_scaled_then_capped():
    assert kelly_risk(0.03) == 0.015
    assert kelly_risk(0.04) == 0.02
    assert kelly_risk(0.05) == 0.02
    assert kelly_risk(0.05, kelly_limit=math.inf) == 0.025
    assert kelly_risk(0.05, kelly_scale=1, kelly_limit=None) == 0.05


def test_risk_of_an_unknown_kelly_is_zero():
    assert kelly_risk(math.nan) == 0.0


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (dict(kelly_scale=50), "kelly_scale"),
        (dict(kelly_scale=0), "kelly_scale"),
        (dict(kelly_limit=2), "kelly_limit"),
        (dict(kelly_limit=-0.02), "kelly_limit"),
        (dict(kelly_limit=math.nan), "kelly_limit"),
    ],
)
def test_a_scale_or_limit_that_is_no_fraction_is_refused(arguments, param):
    with pytest.raises(ParameterError, match=f"kelly_risk: {param} must be"):
        kelly_risk(0.25, **arguments)
    with pytest.raises(ParameterError, match=param):
        half_kelly_position(0.55, 1.5, -1.0, 100000, **arguments)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ((55, 1.5, -1.0, 1000), "win_rate"),
        ((math.nan, 1.5, -1.0, 1000), "win_rate"),
        ((0.55, -1.5, -1.0, 1000), "avg_win"),
        ((0.55, math.nan, -1.0, 1000), "avg_win"),
        ((0.55, 1.5, -1.0, -1000), "capital"),
        ((0.55, 1.5, -1.0, math.nan), "capital"),
    ],
)
def test_position_refuses_arguments_outside_their_range(arguments, param):
    with pytest.raises(ParameterError, match=f"half_kelly_position: {param} must be"):
        half_kelly_position(*arguments)


@given(st.floats(0, 1), st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0, 1e9))
def test_half_is_never_more_than_full_and_the_unit_of_the_averages_does_not_matter(
    win_rate, avg_win, avg_loss, capital
):
    half = half_kelly_position(win_rate, avg_win, avg_loss, capital, kelly_limit=None)
    full = half_kelly_position(win_rate, avg_win, avg_loss, capital, 1.0, kelly_limit=None)
    in_cents = half_kelly_position(
        win_rate, 100 * avg_win, -100 * avg_loss, capital, kelly_limit=None
    )
    assert 0 <= half <= full <= capital
    assert in_cents == pytest.approx(half, rel=1e-9, abs=1e-9 * capital)
