"""From a window of returns to correlations: equal weights, fading weights, shrinkage, falls.

All of them are computed from the rows of the window themselves. Rows are centred and weighted
first, so that sums of products of two of them are covariances; no matrix of names by names is
built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, cast

import numpy as np

from bt_risk.errors import ParameterError, check_choice, check_positive
from bt_risk.rules.frames import BoolArray, FloatArray, IntArray, Numbers

__all__ = [
    "ROLLING",
    "Estimator",
    "centred",
    "centred_row",
    "pearson",
    "semi_correlation",
    "shrinkage",
    "squares",
    "squares_about_the_mean",
]

# The largest standard deviation of differences of log prices that rounding makes of a true zero.
_STILL = 1e-12
# Below this share of the sum of squares, the sum of squares about the mean has lost digits.
_DOUBTFUL = 1e-4

KINDS = ("rolling", "ewm", "ledoit-wolf")


@dataclass(frozen=True)
class Estimator:
    """Turn a window of returns into correlations.

    Parameters
    ----------
    kind : {"rolling", "ewm", "ledoit-wolf"}
        Equal weights; weights that halve every `halflife` returns; equal weights and each
        correlation drawn towards the mean one, see `shrinkage`.
    halflife : float, optional
        In returns, for "ewm" and only for it.
    """

    kind: str = "rolling"
    halflife: float | None = None

    @classmethod
    def checked(cls, component: str, kind: str, halflife: float | None) -> Self:
        """Return an estimator, or raise a ParameterError of `component`."""
        check_choice(component, "estimator", kind, KINDS)
        if kind == "ewm":
            remedy = "63 bars are a lambda of 0.989; 11 and 23 are RiskMetrics' 0.94 and 0.97."
            check_positive(component, "halflife", halflife, remedy=remedy)
        elif halflife is not None:
            constraint = 'None for any estimator but "ewm"'
            raise ParameterError(component, "halflife", constraint, halflife)
        return cls(kind, halflife)

    @property
    def fades(self) -> bool:
        """Return whether older returns count less."""
        return self.kind == "ewm"

    @property
    def shrinks(self) -> bool:
        """Return whether correlations are drawn towards their mean."""
        return self.kind == "ledoit-wolf"

    def weights(self, count: int) -> FloatArray:
        """Return the weights of `count` squares, oldest first, whose sum is a variance.

        Equal ones are 1 / (n - 1); fading ones add up to 1, as in RiskMetrics.
        """
        fading = self._fading(np.arange(count)[::-1])
        return fading / (fading.sum() if self.fades else max(count - 1, 1))

    def weigh(self, steps: FloatArray, counted: BoolArray | None = None) -> FloatArray:
        """Centre and weigh returns, so that sums of products of rows are covariances.

        Parameters
        ----------
        steps : ndarray of shape (n_rows, n_returns)
            Oldest first.
        counted : ndarray of bool, of the same shape, optional
            Which returns there are; all of them when left out.

        Returns
        -------
        ndarray of shape (n_rows, n_returns)
            0 where nothing is counted; weights as of `weights`.
        """
        if counted is None:
            weights = np.broadcast_to(self.weights(steps.shape[1]), steps.shape)
        else:
            counts = counted.sum(axis=1, keepdims=True)
            weights = self._fading(counts - np.cumsum(counted, axis=1)) * counted
            share = weights.sum(axis=1, keepdims=True) if self.fades else counts - 1
            weights = weights / np.where(share > 0, share, 1)
            steps = np.where(counted, steps, 0.0)
        share = weights.sum(axis=1, keepdims=True)
        mean = (steps * weights).sum(axis=1, keepdims=True) / np.where(share > 0, share, 1)
        weighted: FloatArray = (steps - mean) * np.sqrt(weights)
        return weighted

    def _fading(self, age: IntArray) -> FloatArray:
        if not self.fades:
            return np.ones(np.shape(age))
        halflife = cast(float, self.halflife)  # `checked` refuses None where returns fade
        weights: FloatArray = 0.5 ** (age / halflife)
        return weights


ROLLING = Estimator()


def centred(returns: FloatArray) -> FloatArray:
    """Return rows less their mean."""
    mean = np.add.reduce(returns, axis=1, keepdims=True) / max(returns.shape[1], 1)
    rows: FloatArray = returns - mean
    return rows


def centred_row(returns: FloatArray) -> FloatArray:
    """Return one row less its mean, as `centred` does."""
    row: FloatArray = returns - np.add.reduce(returns) / max(len(returns), 1)
    return row


def squares(rows: FloatArray, counts: float) -> FloatArray:
    """Return the sums of squares of centred rows, 0 where the spread is only rounding."""
    total = np.einsum("ij,ij->i", rows, rows)
    return np.where(total <= counts * _STILL**2, 0.0, total)


def squares_about_the_mean(returns: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the sums of squares of rows less their mean, 0 for a still one; NaN with a gap."""
    if weights is None:
        total, share = np.einsum("ij,ij->i", returns, returns), max(returns.shape[1], 1)
        weights = np.ones(returns.shape[1])
    else:
        total, share = returns**2 @ weights, weights.sum()
    about: FloatArray = total - (returns @ weights) ** 2 / share
    doubtful = about < _DOUBTFUL * total
    if doubtful.any():
        rows = returns[doubtful]
        mean = rows @ weights / share
        about[doubtful] = squares((rows - mean[:, None]) * np.sqrt(weights), share)
    return about


def pearson(products: FloatArray, squares: FloatArray, squares_one: Numbers) -> FloatArray:
    """Return correlations from sums of products and of squares; NaN where one name stood still."""
    scale = np.sqrt(squares * squares_one)
    rho = products / np.where(scale > 0, scale, np.nan)
    return np.minimum(np.maximum(rho, -1.0), 1.0)


def semi_correlation(
    rows: FloatArray,
    squares: FloatArray,
    ones: FloatArray,
    squares_one: Numbers,
    side: int,
    sides: IntArray,
) -> FloatArray:
    """Return the correlation over the bars at which two positions of equal risk lose together.

    Parameters
    ----------
    rows, ones : ndarray of shape (n_rows, n_returns) and (n_returns,) or (n_rows, n_returns)
        Centred returns of the others and of the candidate.
    squares, squares_one : ndarray
        Their sums of squares.
    side, sides : int and ndarray of int
        +1 for long, -1 for short, of the candidate and of the others.

    Returns
    -------
    ndarray of shape (n_rows,)
        In [-1, 1]; NaN where there is no such bar or one stood still in all of them.

    Notes
    -----
    ``sum(x y) / sqrt(sum(x^2) sum(y^2))`` over the bars with ``side x / std(x) + side y / std(y) <
    0``, where x and y keep the mean of the whole window. Taken that way it equals the full
    correlation for every distribution that is symmetric about its mean, the normal one included,
    so what it adds is asymmetry. Centring again on those bars would give 0.35 for a normal pair of
    0.7.

    References
    ----------
    Hogan, W. & Warren, J. (1974). Toward the development of an equilibrium capital-market model
    based on semivariance. Estrada, J. (2008). Mean-semivariance optimization: a heuristic
    approach. Ang, A. & Chen, J. (2002). Asymmetric correlations of equity portfolios.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        own = ones * np.expand_dims(side / np.sqrt(squares_one), -1)
        down = rows * (sides / np.sqrt(squares))[:, None] + own < 0
    fallen = np.where(down, rows, 0.0)
    fallen_ones = np.where(down, ones, 0.0)
    products, squares, squares_one = (
        np.einsum("ij,ij->i", x, y)
        for x, y in ((fallen, fallen_ones), (fallen, fallen), (fallen_ones, fallen_ones))
    )
    return pearson(products, squares, squares_one)


def shrinkage(rows: FloatArray) -> tuple[float, float]:
    """Return how far correlations should be drawn towards their mean, and that mean.

    Parameters
    ----------
    rows : ndarray of shape (n_names, n_returns)
        Centred returns, none of them still.

    Returns
    -------
    intensity : float
        delta in [0, 1]: each correlation becomes ``delta * mean + (1 - delta) * rho``.
    mean : float
        Mean of the correlations of all pairs.

    Notes
    -----
    The target has the variances of the sample and one correlation for all pairs; two names have
    nothing to be drawn to. Only sums over names of powers of returns are needed, and the Frobenius
    norm of the covariance, from whichever product of the rows with themselves is smaller: cost is
    linear in the names. The target of scikit-learn's ``LedoitWolf`` is the identity, which makes
    every correlation smaller: the unsafe side for a cap.

    References
    ----------
    Ledoit, O. & Wolf, M. (2004). Honey, I shrunk the sample covariance matrix. Journal of
    Portfolio Management 30(4).
    """
    n_names, n_returns = rows.shape
    if n_names < 3 or n_returns < 2:
        return 0.0, 0.0
    variances = np.einsum("ij,ij->i", rows, rows) / n_returns
    deviations = np.sqrt(variances)
    pairs = n_names * (n_names - 1)
    summed = (rows / deviations[:, None]).sum(axis=0)
    mean = (summed @ summed / n_returns - n_names) / pairs
    gram = rows @ rows.T if n_names <= n_returns else rows.T @ rows
    norm = np.vdot(gram, gram) / n_returns**2  # of the covariance: sum of its squares
    own, fourth = np.vdot(variances, variances), np.einsum("ij,ij->i", rows**2, rows**2) / n_returns
    total = (rows**2).sum(axis=0)
    pi = total @ total / n_returns - norm
    weighted = deviations @ rows
    crossed = (1 / deviations) @ rows**3
    # sum over i != j of sqrt(s_jj / s_ii) theta_ii,ij, from the sums over all i and j.
    weighted_norm = weighted @ weighted / n_returns
    theta = crossed @ weighted / n_returns - weighted_norm - (fourth.sum() - own)
    rho = fourth.sum() - own + mean * theta
    off = variances.sum() ** 2 - own
    gamma = mean**2 * off - 2 * mean * (weighted_norm - own) + norm - own
    if gamma <= 0:
        return 0.0, float(mean)
    return float(np.clip((pi - rho) / gamma / n_returns, 0.0, 1.0)), float(mean)
