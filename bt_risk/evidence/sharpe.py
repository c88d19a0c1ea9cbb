"""The significance of a Sharpe ratio: after its own uncertainty, and after the number of tries."""

import math
from collections.abc import Iterable
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from bt_risk.tolerances import RATIO_EPS

__all__ = ["deflated_sharpe", "deflated_significance", "distinct_ratios", "probabilistic_sharpe"]

_NORMAL = NormalDist()
EULER = 0.5772156649015329


def probabilistic_sharpe(returns: np.ndarray, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio exceeds a benchmark.

    Parameters
    ----------
    returns : ndarray of shape (n_days,)
        Simple returns.
    benchmark : float
        Sharpe ratio per day, not per year.

    Returns
    -------
    float
        NaN without any spread.

    Notes
    -----
    ``Phi((SR - benchmark) sqrt(T - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2))`` with the Sharpe
    ratio per day, skewness g3 and kurtosis g4 (3 for a normal distribution).

    References
    ----------
    Bailey & Lopez de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15 (2012).
    """
    returns = np.asarray(returns, dtype=float)
    spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
    if not spread > 0:
        return math.nan
    ratio = returns.mean() / spread
    scaled = (returns - returns.mean()) / returns.std()
    skewness, kurtosis = float((scaled**3).mean()), float((scaled**4).mean())
    return significance(float(ratio), len(returns), skewness, kurtosis, benchmark)


def significance(
    ratio: float, count: int, skewness: float, kurtosis: float, benchmark: float = 0.0
) -> float:
    """Return `probabilistic_sharpe` from the moments of `count` returns."""
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    if not variance > 0:
        return math.nan
    return _NORMAL.cdf((ratio - benchmark) * math.sqrt((count - 1) / variance))


def deflated_sharpe(returns: np.ndarray, tried: Iterable[float], trials: int = 0) -> float:
    """Return the probability that the true Sharpe ratio exceeds the best of so many lucky tries.

    Parameters
    ----------
    returns : ndarray of shape (n_days,)
        Simple returns.
    tried : sequence of float
        Sharpe ratios per day of every variant tried, this one included. Equal ones are one try: a
        copy is no further chance to be lucky.
    trials : int
        Tries beside them, of which only the number is known. They are taken to spread as much.

    Returns
    -------
    float
        NaN without any spread, or with fewer than two distinct tries.

    Notes
    -----
    `probabilistic_sharpe` against ``sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e)))``,
    with V the variance of the ratios tried, N their number and g Euler's constant. Tries that
    resemble each other, without being equal, count in full, which is on the safe side.

    References
    ----------
    Bailey & Lopez de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management 40 (2014).
    """
    return probabilistic_sharpe(returns, _luck(tried, trials))


def deflated_significance(
    ratio: float,
    count: int,
    skewness: float,
    kurtosis: float,
    tried: Iterable[float],
    trials: int = 0,
) -> float:
    """Return `deflated_sharpe` from the moments of `count` returns."""
    return significance(ratio, count, skewness, kurtosis, _luck(tried, trials))


def _luck(tried: Iterable[float], trials: int) -> float:
    """Return the ratio that the best of all tries is expected to have; NaN for fewer than two."""
    distinct = distinct_ratios(tried)
    if len(distinct) < 2:
        return math.nan
    return expected_best(float(np.std(distinct, ddof=1)), len(distinct) + trials)


def distinct_ratios(ratios: Iterable[float]) -> list[float]:
    """Return the finite ratios, without those that equal another one but for rounding."""
    known = sorted(ratio for ratio in ratios if math.isfinite(ratio))
    return known[:1] + [b for a, b in pairwise(known) if b - a > RATIO_EPS]


def expected_best(spread: float, count: int) -> float:
    """Return the Sharpe ratio that the best of `count` tries without skill is expected to have."""
    if count < 2:  # the mean of one, whose quantile the formula does not have
        return 0.0 * spread
    high = _NORMAL.inv_cdf(1.0 - 1.0 / count)
    higher = _NORMAL.inv_cdf(1.0 - 1.0 / (count * math.e))
    return float(spread) * ((1.0 - EULER) * high + EULER * higher)
