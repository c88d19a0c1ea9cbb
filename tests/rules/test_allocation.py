import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.allocation import inverse_volatility, risk_parity


def shares(covariance, weights):
    """Share of the portfolio's variance that each name contributes."""
    contribution = weights * (covariance @ weights)
    return contribution / contribution.sum()


def random_covariance(seed, n_names):
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(3 * n_names, n_names)) + rng.normal(size=(3 * n_names, 1))
    return np.cov(returns * 10 ** rng.uniform(-3, 1, n_names), rowvar=False).reshape(
        n_names, n_names
    )


def one_market(n_returns, n_names):
    rng = np.random.default_rng(3)
    returns = rng.normal(size=(n_returns, n_names)) + 3 * rng.normal(size=(n_returns, 1))
    return np.cov(returns, rowvar=False)


def from_correlation(correlation, volatility):
    return np.asarray(correlation) * np.outer(volatility, volatility)


def test_one_name_gets_everything():
    assert risk_parity(np.array([[0.04]])).tolist() == [1.0]
    assert inverse_volatility(np.array([[0.04]])).tolist() == [1.0]


@pytest.mark.parametrize("rho", [-0.999, -0.5, 0.0, 0.7, 0.999, 1.0])
def test_two_names_get_inverse_volatility_whatever_their_correlation(rho):
    # Equal contributions: w1^2 s1^2 + w1 w2 c = w2^2 s2^2 + w1 w2 c, so w1 s1 = w2 s2.
    # Volatilities 10 % and 30 %: weights 3/4 and 1/4.
    covariance = from_correlation([[1, rho], [rho, 1]], [0.1, 0.3])
    np.testing.assert_allclose(risk_parity(covariance), [0.75, 0.25], rtol=1e-6)
    np.testing.assert_allclose(inverse_volatility(covariance), [0.75, 0.25], rtol=1e-12)


def test_three_names_by_hand():
    # Unit variances, rho(A, B) = 0.5, C alone. By symmetry a = b: a (a + a / 2) = c^2, so
    # c = a sqrt(1.5). Weights: 1, 1 and 1.224745 over their sum.
    covariance = np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])
    expected = np.array([1, 1, math.sqrt(1.5)]) / (2 + math.sqrt(1.5))
    np.testing.assert_allclose(risk_parity(covariance), expected, rtol=1e-9)
    np.testing.assert_allclose(inverse_volatility(covariance), [1 / 3] * 3, rtol=1e-12)


def test_budgets_by_hand():
    # Uncorrelated: w_i^2 s_i^2 goes as b_i, so w_i goes as sqrt(b_i) / s_i = 2 / 0.1, 1 / 0.2.
    covariance = np.diag([0.01, 0.04])
    np.testing.assert_allclose(risk_parity(covariance, [0.8, 0.2]), [0.8, 0.2], rtol=1e-9)
    np.testing.assert_allclose(risk_parity(covariance, [4, 1]), [0.8, 0.2], rtol=1e-9)


def test_equal_correlations_give_inverse_volatility():
    covariance = from_correlation(np.full((4, 4), 0.3) + 0.7 * np.eye(4), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(risk_parity(covariance), inverse_volatility(covariance), rtol=1e-9)


@pytest.mark.parametrize(
    "covariance",
    [
        from_correlation([[1, 0.6, 0.2], [0.6, 1, -0.3], [0.2, -0.3, 1]], [1e-6, 10, 0.2]),
        from_correlation(np.full((5, 5), 0.999) + 0.001 * np.eye(5), [0.1, 0.2, 0.3, 0.4, 0.5]),
        from_correlation(np.ones((3, 3)), [0.1, 0.2, 0.4]),
        from_correlation([[1, -0.99999, 0], [-0.99999, 1, 0], [0, 0, 1]], [0.1, 0.2, 0.3]),
        one_market(n_returns=20, n_names=100),  # of rank 19
        1e-14 * np.eye(3),
        np.diag([1e200, 1.0, 1e-200]),
    ],
    ids=["badly scaled", "0.999", "rank one", "near hedge", "rank 19 of 100", "tiny", "huge"],
)
def test_shares_are_equal_on_awkward_matrices(covariance):
    weights = risk_parity(covariance)
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    volatility = np.sqrt(covariance.diagonal())
    correlation = covariance / volatility[:, None] / volatility
    got = shares(correlation, weights * volatility / (weights * volatility).max())
    np.testing.assert_allclose(got, 1 / len(weights), rtol=1e-6)


def test_very_unequal_budgets_are_met_each():
    budgets = np.array([1e-6, 1, 10, 1000])
    covariance = random_covariance(7, 4)
    weights = risk_parity(covariance, budgets)
    np.testing.assert_allclose(shares(covariance, weights), budgets / budgets.sum(), rtol=1e-6)


def test_frame_in_series_out_and_budgets_follow_their_labels():
    names = ["BTC", "ETH"]
    covariance = pd.DataFrame(np.diag([0.01, 0.04]), index=names, columns=names)
    weights = risk_parity(covariance, {"ETH": 1, "BTC": 4})
    pd.testing.assert_series_equal(weights, pd.Series([0.8, 0.2], index=names))
    pd.testing.assert_series_equal(
        risk_parity(covariance, pd.Series([1, 4], ["ETH", "BTC"])), weights
    )
    pd.testing.assert_series_equal(
        inverse_volatility(covariance), pd.Series([2 / 3, 1 / 3], index=names)
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n_names=st.integers(1, 12))
def test_every_name_contributes_its_budget(seed, n_names):
    covariance = random_covariance(seed, n_names)
    budgets = np.random.default_rng(seed).uniform(0.05, 1, n_names)
    for wanted in (None, budgets):
        weights = risk_parity(covariance, wanted)
        target = np.ones(n_names) if wanted is None else budgets
        np.testing.assert_allclose(shares(covariance, weights), target / target.sum(), rtol=1e-6)
        assert (weights > 0).all()
        assert weights.sum() == pytest.approx(1)


def by_coordinates(covariance, budgets, sweeps=20_000):
    """The weights by another method and in longer floats: each x in turn solves its equation."""
    matrix = np.asarray(covariance, dtype=np.longdouble)
    volatility = np.sqrt(matrix.diagonal())
    correlation = matrix / volatility[:, None] / volatility
    shares_of_risk = np.asarray(budgets, dtype=np.longdouble) / np.sum(budgets)
    x = np.sqrt(shares_of_risk)
    for _ in range(sweeps):
        before = x.copy()
        for i in range(len(x)):
            others = correlation[i] @ x - correlation[i, i] * x[i]
            x[i] = (np.sqrt(others**2 + 4 * shares_of_risk[i]) - others) / 2
        if np.abs(x / before - 1).max() < 1e-18:
            break
    weights = x / volatility
    return (weights / weights.sum()).astype(float)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_names=st.integers(1, 7), hedged=st.booleans())
def test_weights_are_those_of_another_method_in_longer_floats(seed, n_names, hedged):
    signs = np.random.default_rng(seed).choice([-1, 1], n_names) if hedged else np.ones(n_names)
    covariance = random_covariance(seed, n_names) * np.outer(signs, signs)
    budgets = np.random.default_rng(seed).uniform(0.05, 1, n_names)
    expected = by_coordinates(covariance, budgets)
    np.testing.assert_allclose(risk_parity(covariance, budgets), expected, rtol=1e-11)


def plain_newton(covariance, budgets):
    """Return how many linear systems Newton's method solves from where names are uncorrelated."""
    volatility = np.sqrt(covariance.diagonal())
    correlation = covariance / np.outer(volatility, volatility)
    x = np.sqrt(budgets)
    for steps in range(100):
        gradient = correlation @ x - budgets / x
        if np.abs(gradient * x / budgets).max() < 1e-6:
            return steps
        step = -np.linalg.solve(correlation + np.diag(budgets / x**2), gradient)
        largest = np.abs(step / x).max()
        x = x + (step if largest < 0.36 else step / (1 + largest))
    return 100


def steps_taken(monkeypatch, covariance, budgets):
    """Return how many linear systems `risk_parity` solves; it computes no eigenvalues."""
    solved, solve = [], np.linalg.solve
    with monkeypatch.context() as patch:
        patch.setattr(np.linalg, "solve", lambda *a: solved.append(1) or solve(*a))
        patch.setattr(np.linalg, "eigvalsh", None)
        risk_parity(covariance, budgets)
    return len(solved)


@pytest.mark.parametrize("n_names", [2, 10, 100])
def test_ordinary_names_take_three_steps_where_a_plain_newton_takes_six(monkeypatch, n_names):
    for seed in range(10):
        covariance = random_covariance(seed, n_names)
        for budgets in (np.ones(n_names), np.arange(1.0, n_names + 1)):
            assert steps_taken(monkeypatch, covariance, budgets) <= 4
    plain = plain_newton(covariance, budgets / budgets.sum())
    assert steps_taken(monkeypatch, covariance, budgets) < plain
    assert n_names == 2 or plain >= 6


@pytest.mark.parametrize("n_names", [2, 10, 100])
def test_hedges_take_no_more_than_half_as_many_steps_again_as_a_plain_newton(monkeypatch, n_names):
    for seed in range(10):
        signs = np.random.default_rng(seed).choice([-1, 1], n_names)
        covariance = random_covariance(seed, n_names) * np.outer(signs, signs)
        equal = np.full(n_names, 1 / n_names)
        most = 1.5 * plain_newton(covariance, equal)
        assert steps_taken(monkeypatch, covariance, equal) <= most


@pytest.mark.parametrize("shift", [0.0, -1e-9, 0.5e-8, 0.999e-8, 1.001e-8, 2e-8, 1e-3])
def test_the_smallest_eigenvalue_decides_to_the_same_digit(shift):
    # Two names of correlation 1 + shift * 2 have the eigenvalue -2 shift; up to -2e-8 is rounding.
    covariance = np.array([[1, 1 + 2 * shift], [1 + 2 * shift, 1]])
    if shift > 1e-8:
        with pytest.raises(ParameterError, match="positive semi-definite"):
            risk_parity(covariance)
    else:
        np.testing.assert_allclose(risk_parity(covariance), [0.5, 0.5], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), power=st.integers(-12, 12))
@pytest.mark.parametrize("function", [risk_parity, inverse_volatility])
def test_weights_do_not_depend_on_the_scale_of_the_covariance(function, seed, power):
    covariance = random_covariance(seed, 5)
    np.testing.assert_allclose(function(covariance * 10.0**power), function(covariance), rtol=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(6)))
@pytest.mark.parametrize("function", [risk_parity, inverse_volatility])
def test_order_of_the_names_does_not_matter(function, seed, order):
    covariance = random_covariance(seed, 6)
    moved = function(covariance[np.ix_(order, order)])
    np.testing.assert_allclose(moved, function(covariance)[order], rtol=1e-8)


LABELLED = pd.DataFrame(np.eye(2), index=["A", "B"], columns=["B", "A"])


@pytest.mark.parametrize("function", [risk_parity, inverse_volatility])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.ones((2, 3)), r"square; got \(2, 3\)"),
        (np.ones(3), "square"),
        (np.empty((0, 0)), "square"),
        (np.array([[1, 0.5], [0.2, 1]]), "symmetric; got 'a difference of 0.3'"),
        (np.array([[1, math.nan], [math.nan, 1]]), "finite; got '2 values that are not'"),
        (np.array([[1, math.inf], [math.inf, 1]]), "finite"),
        (np.diag([1.0, 0.0]), "positive on the diagonal; got 0.0. Leave out names that stood"),
        (np.diag([1.0, -1.0]), "positive on the diagonal; got -1.0"),
        (LABELLED, "labelled alike on rows and columns"),
    ],
)
def test_what_is_no_covariance_raises(function, bad, words):
    with pytest.raises(ParameterError, match=words):
        function(bad)


def test_an_indefinite_matrix_raises():
    # Eigenvalues 1 - 0.9 * 2 = -0.8 and 1.9 twice: no three names can all oppose each other so.
    opposed = np.full((3, 3), -0.9) + 1.9 * np.eye(3)
    with pytest.raises(ParameterError, match=r"positive semi-definite .*; got -0\.8"):
        risk_parity(opposed)


def test_names_that_cancel_each_other_raise():
    # Twenty returns cannot tell a hundred independent names from a riskless mixture of them.
    mirrored = np.array([[1.0, -1.0], [-1.0, 1.0]])
    few = np.cov(np.random.default_rng(3).normal(size=(20, 100)), rowvar=False)
    for covariance in (mirrored, few):
        with pytest.raises(ParameterError, match="such that every long-only portfolio has risk"):
            risk_parity(covariance)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([1, 0], "budgets must be positive"),
        ([1, -1], "budgets must be positive"),
        ([1, math.nan], "budgets must be positive"),
        ([1, math.inf], "budgets must be positive"),
        ([1, 1, 1], "budgets must be 2 numbers"),
        (1.0, "budgets must be 2 numbers"),
    ],
)
def test_bad_budgets_raise(budgets, words):
    with pytest.raises(ParameterError, match=words):
        risk_parity(np.eye(2), budgets)


def test_a_budget_for_another_name_raises():
    covariance = pd.DataFrame(np.eye(2), index=["A", "B"], columns=["A", "B"])
    with pytest.raises(ParameterError, match="budgets must be positive, one per name"):
        risk_parity(covariance, {"A": 1, "C": 1})
