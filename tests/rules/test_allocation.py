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
