"""Covariance of the names held: volatility, each name's share of it, how many bets there are.

No matrix of names by names is built: its product with weights is computed from the returns.
"""

from __future__ import annotations

import math

import numpy as np

from bt_risk.rules.estimators import (
    ROLLING,
    Estimator,
    centred,
    shrinkage,
    squares_about_the_mean,
)
from bt_risk.rules.frames import FloatArray

__all__ = ["Covariance", "effective_bets", "risk_shares"]


class Covariance:
    """Compute the covariance matrix of some returns, or what it does to weights.

    Parameters
    ----------
    returns : ndarray of shape (n_names, n_returns)
        Log returns, oldest first, without gaps.
    estimator : Estimator
        The weights of the returns, and the shrinkage.
    multi_bar : int
        Bars that a return spans; covariances are per bar.
    bars_per_year : float
        Of these bars, by the calendar.

    Attributes
    ----------
    variances : ndarray of shape (n_names,)
        Per bar; 0 for a name that stood still.
    bars_per_year : float

    Examples
    --------
    >>> covariance = Covariance(np.array([[0.1, -0.1, 0.0], [0.1, 0.1, -0.2]]))
    >>> covariance.times(np.array([1.0, 1.0])).round(4)
    array([0.01, 0.03])
    """

    def __init__(
        self,
        returns: FloatArray,
        estimator: Estimator = ROLLING,
        multi_bar: int = 1,
        bars_per_year: float = math.nan,
    ) -> None:
        self._returns, self._estimator, self._multi_bar = returns, estimator, multi_bar
        self.bars_per_year = bars_per_year
        self._weights = estimator.weights(returns.shape[1])
        if estimator.fades:
            self.variances = squares_about_the_mean(returns, self._weights) / multi_bar
        else:
            self.variances = squares_about_the_mean(returns) * self._weights[0] / multi_bar
        self._drawn = shrinkage(centred(returns)) if estimator.shrinks else (0.0, 0.0)

    def times(self, weights: FloatArray) -> FloatArray:
        """Return the matrix times `weights`, of shape (n_names,): per bar, in their unit."""
        path = weights @ self._returns
        path = path - path @ self._weights / self._weights.sum()
        product = self._returns @ (path * self._weights) / self._multi_bar
        intensity, mean = self._drawn
        deviations = np.sqrt(self.variances)
        target = mean * deviations * (deviations @ weights)
        target += (1 - mean) * self.variances * weights
        mixed: FloatArray = intensity * target + (1 - intensity) * product
        return mixed

    def matrix(self) -> FloatArray:
        """Return the matrix itself, of shape (n_names, n_names), per bar.

        For allocation, which needs it once a week; no decision of the gate does.
        """
        return np.column_stack([self.times(unit) for unit in np.eye(len(self.variances))])

    def correlations(self) -> FloatArray:
        """Return all correlations, of shape (n_names, n_names); NaN where a name stood still.

        For reports; no decision needs them.
        """
        rows = self._estimator.weigh(self._returns)
        still = self.variances <= 0
        scale = np.sqrt(np.where(still, np.nan, np.einsum("ij,ij->i", rows, rows)))
        rows = rows / scale[:, None]
        intensity, mean = self._drawn
        matrix = np.clip(rows @ rows.T, -1.0, 1.0)
        matrix += intensity * (mean - matrix)
        matrix[np.diag_indices_from(matrix)] = np.where(still, np.nan, 1.0)
        return matrix


def risk_shares(weights: FloatArray, covariance: Covariance) -> FloatArray:
    """Return each name's share of the variance of a portfolio, adding up to 1 (Euler).

    Parameters
    ----------
    weights : ndarray of shape (n_names,)
        Signed value of each position, fraction of equity.
    covariance : Covariance

    Returns
    -------
    ndarray of shape (n_names,)
        Negative for a hedge; NaN where the portfolio does not move.

    Notes
    -----
    ``w_i (S w)_i / w'S w``: the volatility is homogeneous of degree one in the weights.

    References
    ----------
    Tasche, D. (1999). Risk contributions and performance measurement.
    """
    parts = weights * covariance.times(weights)
    total = parts.sum()
    return parts / total if total > 0 else np.full(len(parts), math.nan)


def effective_bets(weights: FloatArray, covariance: Covariance) -> float:
    """Return how many uncorrelated bets of equal size a portfolio is worth: 1 to its names.

    Parameters
    ----------
    weights : ndarray of shape (n_names,)
        Signed value of each position, fraction of equity.
    covariance : Covariance

    Returns
    -------
    float
        NaN where the portfolio does not move.

    Notes
    -----
    The square of the diversification ratio, ``(sum |w_i| s_i)^2 / w'S w`` with s the volatilities,
    and not more than there are names: hedges can make it any number. Two equal positions of
    correlation rho are ``2 / (1 + rho)``. Counts from entropy over uncorrelated factors say 2 for
    two equal positions whatever rho is (minimum torsion), or 1 (principal components).

    References
    ----------
    Choueifaty, Y., Froidure, T. & Reynier, J. (2013). Properties of the most diversified
    portfolio. Journal of Investment Strategies 2(2).

    Examples
    --------
    >>> twins = Covariance(np.array([[0.1, -0.1], [0.1, -0.1]]))
    >>> round(effective_bets(np.array([0.5, 0.5]), twins), 6)
    1.0
    """
    total = float(weights @ covariance.times(weights))
    apart = float(np.abs(weights) @ np.sqrt(covariance.variances))
    return min(float(np.count_nonzero(weights)), apart**2 / total) if total > 0 else math.nan
