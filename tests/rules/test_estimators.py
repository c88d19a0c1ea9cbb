"""Estimators of correlation and covariance, against pandas, numpy and the published formulas."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.covariance import Covariance, effective_bets, risk_shares
from bt_risk.rules.estimators import (
    ROLLING,
    Estimator,
    pearson,
    semi_correlation,
    shrinkage,
)
from bt_risk.rules.return_window import ReturnWindow

EWM = Estimator("ewm", 20.0)
LEDOIT_WOLF = Estimator("ledoit-wolf")


def market(n_names, n_returns, seed=0, common=0.5):
    """Return log returns of shape (n_names, n_returns) with a common move and own volatilities."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.01, (n_names, n_returns)) * rng.uniform(0.5, 3, (n_names, 1))
    return common * rng.normal(0, 0.02, n_returns) + own


def window_of(returns, min_periods=2, **options):
    """Return a window that holds just these returns."""
    n_names, n_returns = returns.shape
    step = options.get("multi_bar", 1)
    window = ReturnWindow(
        [f"N{i}" for i in range(n_names)], n_returns + 1 - step, min_periods, **options
    )
    path = np.column_stack([np.zeros(n_names), returns.cumsum(axis=1)])
    for time, closes in enumerate(100 * np.exp(path.T)):
        window.update(float(time), closes)
    return window


def rho_of(returns, estimator=ROLLING, sides=None, **options):
    window = window_of(returns, **options)
    return window.correlations(0, range(1, len(returns)), estimator, sides)[0]


# -- fading weights ------------------------------------------------------------------------------


def test_fading_weights_are_those_of_pandas():
    returns = market(3, 120)
    expected = pd.DataFrame(returns.T).ewm(halflife=20).corr().loc[119].iloc[0, 1:]
    np.testing.assert_allclose(rho_of(returns, EWM), expected, atol=1e-12)


def test_fading_weights_by_hand():
    """Half-life 1: weights 1/7, 2/7, 4/7. x = 7, 0, 0; y = 0, 7, 0: means 1 and 2.

    cov = (6 x -2 + 2 x -1 x 5 + 4 x -1 x -2) / 7 = -14 / 7 = -2; var x = (36 + 2 + 4) / 7 = 6,
    var y = (4 + 50 + 16) / 7 = 10.
    """
    returns = np.array([[7.0, 0.0, 0.0], [0.0, 7.0, 0.0]]) / 100
    rho = rho_of(returns, Estimator("ewm", 1.0))
    assert rho[0] == pytest.approx(-2 / math.sqrt(60), abs=1e-12)


def test_fading_weights_where_a_bar_is_missing_count_the_common_returns():
    returns = market(2, 60)
    closes = 100 * np.exp(np.column_stack([np.zeros(2), returns.cumsum(axis=1)]))
    closes[1, [20, 40, 41]] = math.nan
    window = ReturnWindow("AB", 60, 2)
    for time, row in enumerate(closes.T):
        window.update(float(time), row)
    joined = pd.DataFrame(np.log(closes.T)).dropna().diff().dropna()
    expected = joined.ewm(halflife=20).corr().iloc[-2, 1]
    assert window.correlations(0, [1], EWM)[0][0] == pytest.approx(expected, abs=1e-12)


# -- shrinkage -----------------------------------------------------------------------------------


def published(returns):
    """Ledoit & Wolf (2004), appendix B, with loops over i and j as it is printed."""
    y = returns - returns.mean(axis=1, keepdims=True)
    n, t = y.shape
    s = y @ y.T / t
    root = np.sqrt(np.diag(s))
    r = s / np.outer(root, root)
    mean = sum(r[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    target = mean * np.outer(root, root)
    target[np.diag_indices(n)] = np.diag(s)
    pi = [[np.mean((y[i] * y[j] - s[i, j]) ** 2) for j in range(n)] for i in range(n)]
    theta = [
        [np.mean((y[i] ** 2 - s[i, i]) * (y[i] * y[j] - s[i, j])) for j in range(n)]
        for i in range(n)
    ]
    rho = sum(pi[i][i] for i in range(n))
    for i in range(n):
        for j in range(n):
            if i != j:
                halves = root[j] / root[i] * theta[i][j] + root[i] / root[j] * theta[j][i]
                rho += mean / 2 * halves
    gamma = ((target - s) ** 2).sum()
    intensity = max(0.0, min(1.0, (np.sum(pi) - rho) / gamma / t))
    return intensity, mean, intensity * target + (1 - intensity) * s


@pytest.mark.parametrize(("names", "count"), [(3, 20), (5, 252), (10, 60), (30, 12)])
@pytest.mark.parametrize("common", [0.0, 0.2, 1.0])
def test_shrinkage_is_that_of_the_paper(names, count, common):
    returns = market(names, count, common=common)
    intensity, mean, _ = published(returns)
    centred = returns - returns.mean(axis=1, keepdims=True)
    assert shrinkage(centred) == (pytest.approx(intensity, abs=1e-9), pytest.approx(mean))


def test_correlations_are_drawn_to_the_mean_of_all_that_is_asked_about():
    returns = market(6, 80, common=0.4)
    _, _, matrix = published(returns)
    root = np.sqrt(np.diag(matrix))
    expected = (matrix / np.outer(root, root))[0, 1:]
    np.testing.assert_allclose(rho_of(returns, LEDOIT_WOLF), expected, atol=1e-9)
    assert not np.allclose(expected, rho_of(returns), atol=1e-3)


def test_two_names_have_nothing_to_be_drawn_to():
    returns = market(2, 80)
    assert rho_of(returns, LEDOIT_WOLF)[0] == pytest.approx(rho_of(returns)[0], abs=1e-12)


def test_a_name_that_stands_still_leaves_the_others_as_they_are():
    returns = market(4, 80)
    returns[3] = 0.0
    rho = rho_of(returns, LEDOIT_WOLF)
    assert np.isnan(rho[2])
    np.testing.assert_allclose(rho[:2], rho_of(returns[:3], LEDOIT_WOLF), atol=1e-12)


def test_the_target_does_not_make_what_is_alike_look_different():
    """The identity would: it multiplies every correlation by what is left of the sample."""
    returns = market(8, 40, common=2.0)
    full, drawn = rho_of(returns), rho_of(returns, LEDOIT_WOLF)
    assert full.min() > 0.7
    assert drawn.mean() > 0.99 * full.mean()


# -- falls ---------------------------------------------------------------------------------------


def test_the_correlation_of_falls_by_hand():
    """Four bars of mean 0. Together down only in (-3, -3): falls are bars 2 and 4 (-1, 1 is even).

    Full: x = 3, -3, 1, -1 and y = 1, -3, 1, 1: rho = (3 + 9 + 1 - 1) / sqrt(20 x 12) = 0.775.
    Falls (x / sd + y / sd < 0): x + 1.29 y: 4.3, -6.9, 2.3, 0.29: bar 2 alone, rho = 1.
    """
    x, y = np.array([3.0, -3.0, 1.0, -1.0]), np.array([1.0, -3.0, 1.0, 1.0])
    squares = np.array([12.0]), 20.0
    full = pearson(np.array([x @ y]), *squares)
    down = semi_correlation(y[None], squares[0], x, squares[1], 1, np.array([1]))
    assert full[0] == pytest.approx(12 / math.sqrt(240))
    assert down[0] == pytest.approx(1.0)
    # Short both, and what hurts is bars 1, 3 and 4.
    up = semi_correlation(y[None], squares[0], x, squares[1], -1, np.array([-1]))
    assert up[0] == pytest.approx((3 + 1 - 1) / math.sqrt(11 * 3))


@pytest.mark.parametrize("sides", [(1, 1), (-1, -1), (1, -1), (-1, 1)])
def test_the_correlation_of_falls_is_the_full_one_where_ups_and_downs_are_alike(sides):
    """Each bar and its mirror image: symmetric about the mean by construction."""
    half = market(2, 100)
    returns = np.concatenate([half, -half], axis=1)
    x, y = returns
    squares = np.array([y @ y]), x @ x
    down = semi_correlation(y[None], squares[0], x, squares[1], sides[0], np.array([sides[1]]))
    assert down[0] == pytest.approx(pearson(np.array([x @ y]), *squares)[0], abs=1e-12)


def crash(seed=0):
    """Return two names that have nothing in common but their worst days."""
    returns = market(2, 250, seed, common=0.0)
    returns[:, ::25] -= 0.06
    return returns


@pytest.mark.parametrize("side", [1, -1])
def test_names_that_fall_together_are_more_of_one_bet_when_held_long(side):
    returns = crash()
    full = rho_of(returns)[0]
    both = rho_of(returns, ROLLING, (side, np.array([side])))[0]
    assert both > full + 0.1 if side > 0 else both == pytest.approx(full)


def test_what_falls_with_its_hedge_is_less_of_a_hedge():
    """Long one, short the other that rises when it falls: -rho is what counts, and it grows."""
    returns = crash()
    returns[1] *= -1
    full = rho_of(returns)[0]
    assert rho_of(returns, ROLLING, (1, np.array([-1])))[0] < full - 0.1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, -1]), st.sampled_from([1, -1]))
def test_falls_never_make_a_pair_less_of_one_bet(seed, side, other):
    returns = crash(seed)
    sign = side * other
    worse = rho_of(returns, ROLLING, (side, np.array([other])))[0]
    assert sign * worse >= sign * rho_of(returns)[0] - 1e-12
    assert -1 <= worse <= 1


# -- returns of several bars ---------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("missing", [(), (17, 18, 40)])
def test_returns_of_several_bars_overlap_and_are_joined_on_time_first(step, missing):
    returns = market(2, 80)
    closes = 100 * np.exp(np.column_stack([np.zeros(2), returns.cumsum(axis=1)]))
    closes[1, list(missing)] = math.nan
    window = ReturnWindow("AB", 50, 10, step)
    for time, row in enumerate(closes.T):
        window.update(float(time), row)
    axis = pd.DataFrame(np.log(closes.T)).tail(50 + step).dropna()
    expected = axis.diff(step).dropna()
    rho, counts = window.correlations(0, [1])
    assert counts[0] == len(expected) == 50 - sum(m > 81 - 50 - step for m in missing)
    assert rho[0] == pytest.approx(expected.corr().iloc[0, 1], abs=1e-9)


def test_five_bars_see_through_closes_that_are_half_a_bar_apart():
    rng = np.random.default_rng(3)
    moves = rng.normal(0, 0.01, 2001)
    one, other = moves[0:-1:2] + moves[1::2], moves[1::2] + moves[2::2]  # half of each bar shared
    returns = np.array([one, other])
    assert rho_of(returns)[0] == pytest.approx(0.5, abs=0.06)
    assert rho_of(returns, multi_bar=5)[0] > 0.8


@pytest.mark.parametrize("live", [1, 3, 5, 6, 40])
def test_no_return_of_several_bars_spans_the_end_of_seeded_returns(live):
    history = pd.DataFrame(market(2, 30).T, columns=["A", "B"])
    window = ReturnWindow("AB", 30, 2, 5)
    window.seed(np.expm1(history), kind="returns")
    more = market(2, live, seed=9)
    closes = 5000 * np.exp(more.cumsum(axis=1))
    for time, row in enumerate(closes.T):
        window.update(100 + time, row)
    path = np.vstack([[0, 0], history.cumsum()])
    old = path[5:] - path[:-5]
    live_logs = np.log(closes.T)
    new = live_logs[5:] - live_logs[:-5]
    columns = min(31, 35 - live)  # of history that are still in the window
    both = np.vstack([old[len(old) - max(columns - 5, 0) :], new[-30:]])
    rho, counts = window.correlations(0, [1])
    assert counts[0] == len(window)
    if len(both) >= 2:
        assert counts[0] == len(both)
        assert rho[0] == pytest.approx(np.corrcoef(both.T)[0, 1], abs=1e-9)


# -- covariance ----------------------------------------------------------------------------------

WEIGHTS = np.array([0.5, -0.3, 0.2, 0.1])


@pytest.mark.parametrize("estimator", [ROLLING, EWM, LEDOIT_WOLF], ids=lambda e: e.kind)
@pytest.mark.parametrize("step", [1, 3])
def test_what_the_matrix_does_to_weights_needs_no_matrix(estimator, step):
    returns = market(4, 90)
    frame = pd.DataFrame(returns.T).rolling(step).sum().dropna()
    if estimator is EWM:
        matrix = frame.ewm(halflife=20).cov(bias=True).iloc[-4:].to_numpy()
    elif estimator is LEDOIT_WOLF:
        matrix = published(frame.to_numpy().T)[2] * len(frame) / (len(frame) - 1)
    else:
        matrix = frame.cov().to_numpy()
    covariance, count = window_of(returns, multi_bar=step).covariance([0, 1, 2, 3], estimator)
    assert count == len(frame)
    np.testing.assert_allclose(covariance.times(WEIGHTS), matrix @ WEIGHTS / step, rtol=1e-9)
    np.testing.assert_allclose(covariance.variances, np.diag(matrix) / step, rtol=1e-9)
    root = np.sqrt(np.diag(matrix))
    np.testing.assert_allclose(covariance.correlations(), matrix / np.outer(root, root), atol=1e-9)


def test_a_name_far_from_its_mean_loses_no_digits():
    """A drift of 1 % a bar with moves of a millionth: sums of squares alone would be noise."""
    returns = 1e-6 * market(2, 200) / 0.01
    shifted = returns + 0.01
    np.testing.assert_allclose(
        Covariance(shifted).variances, np.var(shifted, axis=1, ddof=1), rtol=1e-6
    )
    assert rho_of(shifted)[0] == pytest.approx(rho_of(returns)[0], abs=1e-6)


def test_volatility_is_of_the_times_that_all_have():
    returns = market(3, 60)
    closes = 100 * np.exp(np.column_stack([np.zeros(3), returns.cumsum(axis=1)]))
    closes[2, [10, 11, 50]] = math.nan
    window = ReturnWindow("ABC", 60, 5)
    for time, row in enumerate(closes.T):
        window.update(float(time), row)
    joined = pd.DataFrame(np.log(closes.T)).dropna().diff().dropna()
    covariance, count = window.covariance([0, 1, 2])
    assert count == len(joined) == 57
    expected = joined.cov().to_numpy() @ WEIGHTS[:3]
    np.testing.assert_allclose(covariance.times(WEIGHTS[:3]), expected, rtol=1e-9)
    assert covariance.bars_per_year == pytest.approx(57 / 60 * 365.25)


def test_too_few_common_returns_are_no_covariance():
    window = window_of(market(2, 30), min_periods=31 - 1)
    assert window.covariance([0, 1])[0] is not None
    window = ReturnWindow("AB", 40, 31)
    for time in range(31):
        window.update(float(time), [100 + time % 3, 100 + time % 5])
    assert window.covariance([0, 1]) == (None, 30)


@pytest.mark.parametrize(
    ("times", "per_year"),
    [
        (pd.date_range("2020-01-01", periods=101, freq="D"), 365.25),
        (pd.date_range("2020-01-06", periods=506, freq="B"), 260.9),  # 5 of 7 days
        (pd.date_range("2020-01-01", periods=101, freq="h"), 8766.0),
    ],
)
def test_bars_of_a_year_are_counted_by_the_calendar(times, per_year):
    window = ReturnWindow("A", len(times) - 1, 2)
    for time, move in zip(times, market(1, len(times))[0], strict=True):
        window.update(time, [100 * math.exp(move)])
    assert window.covariance([0])[0].bars_per_year == pytest.approx(per_year, rel=1e-3)


# -- whose risk it is ----------------------------------------------------------------------------


def orthogonal(count, sizes=None):
    """Return the covariance of names without any correlation, of equal or given deviations."""
    rows = np.kron(np.eye(count), [1.0, -1.0])
    return Covariance(rows * np.reshape(sizes or [1.0] * count, (-1, 1)))


def test_shares_of_risk_by_hand():
    """Deviations 1 and 2, weights 2 and 1: variances 4 and 4, half each. Alone: all of it."""
    np.testing.assert_allclose(risk_shares(np.array([2.0, 1.0]), orthogonal(2, [1, 2])), [0.5, 0.5])
    np.testing.assert_allclose(risk_shares(np.array([2.0, 0.0]), orthogonal(2)), [1.0, 0.0])


def test_a_hedge_has_a_negative_share():
    """Long 2 of A, short 1 of its twin: variance 1; A has 2 x 1, the hedge -1 x 1."""
    twin = Covariance(np.array([[1.0, -1.0], [1.0, -1.0]]))
    np.testing.assert_allclose(risk_shares(np.array([2.0, -1.0]), twin), [2.0, -1.0])
    assert np.isnan(risk_shares(np.array([1.0, -1.0]), twin)).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_bets_without_correlation_are_as_many_as_there_are(count):
    assert effective_bets(np.ones(count), orthogonal(count)) == pytest.approx(count)


@pytest.mark.parametrize(("rho", "bets"), [(1.0, 1.0), (0.5, 4 / 3), (0.0, 2.0), (-0.5, 2.0)])
def test_two_equal_bets_are_fewer_the_more_they_are_alike(rho, bets):
    root = math.sqrt(1 - rho * rho)
    rows = np.array([[1.0, -1.0, 0.0, 0.0], [rho, -rho, root, -root]])
    assert effective_bets(np.ones(2), Covariance(rows)) == pytest.approx(bets)


def test_a_large_bet_hides_the_small_and_a_perfect_hedge_has_no_number():
    assert effective_bets(np.array([1.0, 1e-9]), orthogonal(2)) == pytest.approx(1.0)
    twin = Covariance(np.array([[1.0, -1.0], [1.0, -1.0]]))
    assert math.isnan(effective_bets(np.array([1.0, -1.0]), twin))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 8))
def test_bets_lie_between_one_and_the_number_of_names(seed, count):
    covariance = Covariance(market(count, 100, seed))
    weights = np.random.default_rng(seed).normal(size=count)
    assert 1 - 1e-9 <= effective_bets(weights, covariance) <= count + 1e-9
    assert risk_shares(weights, covariance).sum() == pytest.approx(1.0)


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "halflife", "words"),
    [
        ("identity", None, "estimator must be one of 'rolling', 'ewm', 'ledoit-wolf'"),
        ("ewm", None, "halflife must be positive and finite; got None. 63 bars"),
        ("ewm", 0, "halflife must be positive"),
        ("rolling", 20, 'halflife must be None for any estimator but "ewm"; got 20'),
        ("ledoit-wolf", 20, 'halflife must be None for any estimator but "ewm"'),
    ],
)
def test_an_estimator_that_cannot_be_meant_raises(kind, halflife, words):
    with pytest.raises(ParameterError, match=words):
        Estimator.checked("CorrelationCap", kind, halflife)
