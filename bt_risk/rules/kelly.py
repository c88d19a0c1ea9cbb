"""Kelly sizing: how much to risk, how certain the estimate is, and the cap on it.

Every result is a fraction of equity at *risk*: what is lost if the trade loses its planned 1R.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_fraction,
    check_limit,
    check_positive,
    check_whole,
    is_number,
)
from bt_risk.rules.frames import FloatArray, Numbers
from bt_risk.rules.growth import SCRATCH, fastest_growth, rough_fastest_growth

__all__ = [
    "empirical_kelly",
    "half_kelly_position",
    "kelly_criterion",
    "kelly_lower_bound",
    "kelly_risk",
    "two_point_kelly",
]

_CHUNK = 2**14  # resampled trades at a time; keeps the bootstrap inside the processor's cache


@overload
def kelly_criterion(win_rate: float, payoff_ratio: float) -> float: ...


@overload
def kelly_criterion(
    win_rate: Numbers | list[float] | tuple[float, ...],
    payoff_ratio: Numbers | list[float] | tuple[float, ...],
) -> FloatArray | pd.Series: ...


def kelly_criterion(
    win_rate: Numbers | list[float] | tuple[float, ...],
    payoff_ratio: Numbers | list[float] | tuple[float, ...],
) -> Numbers:
    """Fraction to risk that maximises the growth of a bet with two outcomes.

    Parameters
    ----------
    win_rate : float, ndarray or Series
        Share of winning trades, in [0, 1].
    payoff_ratio : float, ndarray or Series
        Mean win divided by mean loss, positive. Broadcast against `win_rate`.

    Returns
    -------
    float, ndarray or Series
        Fraction of equity to lose on a loss; zero or negative when there is no edge. Type and
        index of the input.

    Raises
    ------
    ParameterError
        If a win rate is outside [0, 1] or a payoff ratio is not positive.

    Notes
    -----
    ``f* = p - q / b`` with ``p = win_rate``, ``q = 1 - p`` and ``b = payoff_ratio``. NaN gives NaN.

    References
    ----------
    J. L. Kelly, "A New Interpretation of Information Rate", Bell System Technical Journal, 1956.
    E. O. Thorp, "The Kelly Criterion in Blackjack, Sports Betting and the Stock Market", 2006.

    Examples
    --------
    >>> round(kelly_criterion(0.55, 1.5), 4)
    0.25
    >>> kelly_criterion(np.array([0.3, 0.5, 0.8]), 1.0).round(4)
    array([-0.4,  0. ,  0.6])
    """
    p, b = _numeric(win_rate), _numeric(payoff_ratio)
    _refuse("win_rate", p, (p < 0) | (p > 1), "in [0, 1]", "Ratios are fractions: 55 % is 0.55.")
    _refuse("payoff_ratio", b, b <= 0, "positive", "It is the mean win / the mean loss, unsigned.")
    return p - (1 - p) / b


def two_point_kelly(r_multiples: npt.ArrayLike) -> float:
    """Kelly fraction of a sample of trades, seen as one mean win and one mean loss.

    Parameters
    ----------
    r_multiples : array_like of shape (n_trades,)
        Results in R: net profit divided by the risk planned at entry.

    Returns
    -------
    float
        Fraction of equity to put at 1R; zero or negative when there is no edge. NaN without trades.

    Raises
    ------
    ParameterError
        If the sample is infinite somewhere or not one-dimensional.

    Notes
    -----
    ``(p - q / b) / L = p / L - q / W`` with ``W`` the mean win, ``L`` the mean loss (positive) in
    R, ``b = W / L``, and ``p`` the share of wins among the trades that won or lost: a scratch trade
    of 0R leaves wealth, and hence the optimum, where it was. The division by ``L`` turns a fraction
    per average loss into one per unit of risk: who loses 0.5R on average may risk twice as much.

    A side that the sample lacks counts as the planned 1R with share zero: no losses give 1, no wins
    give -1, and scratch trades only give 0. A trade of NaN is left out.

    References
    ----------
    J. L. Kelly, "A New Interpretation of Information Rate", Bell System Technical Journal, 1956.

    Examples
    --------
    >>> round(two_point_kelly([1.5] * 55 + [-1.0] * 45), 4)
    0.25
    >>> round(two_point_kelly([0.75] * 55 + [-0.5] * 45), 4)
    0.5
    """
    sample = _sample("two_point_kelly", r_multiples)
    return float(_two_point(sample)) if sample.size else math.nan


def empirical_kelly(r_multiples: npt.ArrayLike) -> float:
    """Kelly fraction of a sample of trades as they were, large losses included.

    Parameters
    ----------
    r_multiples : array_like of shape (n_trades,)
        Results in R: net profit divided by the risk planned at entry.

    Returns
    -------
    float
        Fraction of equity to put at 1R, at least 0 and below ``1 / |worst loss|``; 0 when the mean
        is zero or less. NaN without trades.

    Raises
    ------
    ParameterError
        If the sample is infinite somewhere or not one-dimensional.

    Notes
    -----
    ``argmax over f >= 0 of mean log(1 + f r)``: the root of ``mean r / (1 + f r)``, which falls
    with ``f``, by Newton's method with bisection as its safeguard. With two distinct results it
    equals `two_point_kelly`. Growth without losses has no maximum: the answer is then 1, as there.
    A trade of NaN is left out. The order of the trades changes no digit.

    The bound is the worst loss *seen*; the next one may be worse.

    References
    ----------
    E. O. Thorp, "The Kelly Criterion in Blackjack, Sports Betting and the Stock Market", 2006.

    Examples
    --------
    >>> sample = [1.0] * 60 + [-1.0] * 39 + [-6.0]
    >>> round(empirical_kelly(sample), 4), round(two_point_kelly(sample), 4)
    (0.0867, 0.1333)
    """
    sample = np.sort(_known("empirical_kelly", r_multiples))
    return fastest_growth(sample) if sample.size else math.nan


def kelly_lower_bound(
    r_multiples: npt.ArrayLike,
    confidence: float = 0.95,
    seed: int = 0,
    estimator: str = "two-point",
    n_resamples: int = 1000,
) -> float:
    """Kelly fraction that the trades support with the given confidence.

    Parameters
    ----------
    r_multiples : array_like of shape (n_trades,)
        Results in R: net profit divided by the risk planned at entry.
    confidence : float
        One-sided, in (0, 1): 0.95 leaves one honest sample in twenty below the bound.
    seed : int
        Of the resampling: the same seed gives the same bound.
    estimator : {"two-point", "empirical"}
        `two_point_kelly` or `empirical_kelly`.
    n_resamples : int
        Number of bootstrap samples.

    Returns
    -------
    float
        Fraction of equity to put at 1R; may be negative with "two-point". NaN without trades.

    Raises
    ------
    ParameterError
        If an argument is outside its range, or the sample infinite or not one-dimensional.

    Notes
    -----
    The ``1 - confidence`` quantile of the estimate over samples of the same length drawn with
    replacement, trade by trade (percentile bootstrap). Trades are drawn independently, not in
    blocks: both estimates ignore the order of trades, trades from flat to flat hardly depend on
    each other, and 100 of them are too few to estimate a block length. Trades that overlap in
    correlated markets do depend on each other; their true bound is lower.

    A loss that the sample lacks is not invented: a sample without losses gives 1 at any
    confidence, so ask for enough trades. A trade of NaN is left out.

    References
    ----------
    B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    R. D. Baker and I. G. McHale, "Optimal Betting Under Parameter Uncertainty", 2013.

    Examples
    --------
    >>> bound = kelly_lower_bound([1.5] * 55 + [-1.0] * 45)
    >>> 0 < bound < 0.25
    True
    """
    name = "kelly_lower_bound"
    check_fraction(name, "confidence", confidence, one=False)
    n_resamples = check_whole(name, "n_resamples", n_resamples, remedy="Try 1000.")
    check_choice(name, "estimator", estimator, tuple(_ESTIMATORS))
    sample = _sample(name, r_multiples)
    if not sample.size:
        return math.nan
    estimates = _resampled(_ESTIMATORS[estimator], sample, n_resamples, seed)
    return float(np.quantile(estimates, 1 - confidence, method="lower"))


def kelly_risk(
    full_kelly: float, kelly_scale: float = 0.5, kelly_limit: float | None = 0.02
) -> float:
    """Share of equity to risk on one trade: a Kelly fraction, scaled and capped.

    Parameters
    ----------
    full_kelly : float
        Kelly fraction f*, of any of the estimates.
    kelly_scale : float
        Multiplier of f*, in (0, 1]; 0.5 is half Kelly.
    kelly_limit : float or None
        Ceiling of the result, in (0, 1]; None or infinity for none.

    Returns
    -------
    float
        In [0, `kelly_limit`]. Zero when f* is zero, negative or NaN: a Kelly below zero is no bet,
        not a bet the other way round.

    Raises
    ------
    ParameterError
        If the scale or the limit is outside its range.

    Notes
    -----
    ``clip(kelly_scale * f*, 0, kelly_limit)``. Half Kelly keeps three quarters of the growth.

    References
    ----------
    E. O. Thorp, "The Kelly Criterion in Blackjack, Sports Betting and the Stock Market", 2006.

    Examples
    --------
    >>> kelly_risk(0.25), kelly_risk(0.25, kelly_limit=None), kelly_risk(-0.40)
    (0.02, 0.125, 0.0)
    """
    check_fraction("kelly_risk", "kelly_scale", kelly_scale)
    limit = check_limit("kelly_risk", "kelly_limit", kelly_limit, fraction=True)
    return float(min(kelly_scale * full_kelly, limit)) if full_kelly > 0 else 0.0


def half_kelly_position(
    win_rate: float,
    avg_win: float,
    avg_loss: float,
    capital: float,
    kelly_scale: float = 0.5,
    kelly_limit: float | None = 0.02,
) -> float:
    """Amount of money to risk on one trade, by half Kelly with a cap.

    Parameters
    ----------
    win_rate : float
        Share of winning trades, in [0, 1].
    avg_win : float
        Mean win, zero or more, in any unit (R, currency, fraction).
    avg_loss : float
        Mean loss in the same unit, of either sign, not zero.
    capital : float
        Equity in currency, zero or more.
    kelly_scale : float
        Multiplier of the Kelly fraction, in (0, 1].
    kelly_limit : float or None
        Ceiling as a fraction of `capital`, in (0, 1]; None or infinity for none.

    Returns
    -------
    float
        Currency that may be lost if the trade loses, never negative: 0 for a losing system.
        Divide it by the stop distance (`position_size`) for the number of units.

    Raises
    ------
    ParameterError
        If an argument is NaN or outside its range.

    Notes
    -----
    ``kelly_risk(kelly_criterion(win_rate, avg_win / |avg_loss|)) * capital``. Full Kelly is
    `kelly_criterion`; half Kelly without the cap is ``kelly_limit=None``.

    Examples
    --------
    >>> half_kelly_position(0.55, 1.5, -1.0, 100000)
    2000.0
    >>> round(half_kelly_position(0.55, 1.5, -1.0, 100000, kelly_limit=None), 2)
    12500.0
    """
    name = "half_kelly_position"
    check_fraction(name, "win_rate", win_rate, zero=True)
    check_positive(name, "avg_win", avg_win, zero=True)
    check_positive(name, "capital", capital, zero=True)
    loss = -avg_loss if is_number(avg_loss) and avg_loss < 0 else avg_loss
    check_positive(name, "avg_loss", loss, remedy="Either sign will do; leave out scratch trades.")
    full_kelly = kelly_criterion(win_rate, avg_win / loss) if avg_win else 0.0
    return kelly_risk(full_kelly, kelly_scale, kelly_limit) * capital


def _numeric(values: Any) -> Any:
    return np.asarray(values, dtype=float) if isinstance(values, list | tuple) else values


def _refuse(param: str, values: Numbers, bad: Any, constraint: str, remedy: str) -> None:
    bad = np.asarray(bad)
    if bad.any():
        first = np.asarray(values)[bad][0].item()
        raise ParameterError("kelly_criterion", param, constraint, first, remedy)


def _known(component: str, r_multiples: npt.ArrayLike) -> FloatArray:
    """Return the known results as an array."""
    sample: FloatArray = np.asarray(r_multiples, dtype=float)
    if sample.ndim == 1 and math.isfinite(np.add.reduce(sample)):
        return sample  # what holds no NaN and no infinity needs no closer check
    if sample.ndim != 1 or np.isinf(sample).any():
        constraint = "one-dimensional and finite (NaN is left out)"
        raise ParameterError(component, "r_multiples", constraint, r_multiples)
    return sample[~np.isnan(sample)]


def _sample(component: str, r_multiples: npt.ArrayLike) -> FloatArray:
    """Return the known results as an array, with scratch trades at exactly zero."""
    sample = _known(component, r_multiples)
    return np.where(np.abs(sample) < SCRATCH, 0.0, sample)


def _two_point(samples: FloatArray) -> FloatArray:
    """Return the two-point Kelly fraction along the last axis."""
    n_wins = np.count_nonzero(samples > 0, axis=-1)
    n_losses = np.count_nonzero(samples < 0, axis=-1)
    mean_win = _mean_or_planned(np.maximum(samples, 0), n_wins)
    mean_loss = _mean_or_planned(np.maximum(-samples, 0), n_losses)
    decided = np.maximum(n_wins + n_losses, 1)
    fraction: FloatArray = n_wins / decided / mean_loss - n_losses / decided / mean_win
    return fraction


def _mean_or_planned(amounts: FloatArray, count: Any) -> FloatArray:
    return np.where(count > 0, amounts.sum(axis=-1) / np.maximum(count, 1), 1.0)


def _resampled(
    estimate: Callable[[FloatArray], FloatArray], sample: FloatArray, n_resamples: int, seed: int
) -> FloatArray:
    """Return the estimates of `n_resamples` bootstrap samples, in chunks of trades."""
    generator, n_trades = np.random.default_rng(seed), sample.size
    rows = max(1, _CHUNK // n_trades)
    sizes = [min(rows, n_resamples - done) for done in range(0, n_resamples, rows)]
    picks = (generator.integers(n_trades, size=(size, n_trades)) for size in sizes)
    return np.concatenate([estimate(sample[rows_of_trades]) for rows_of_trades in picks])


_ESTIMATORS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "two-point": _two_point,
    "empirical": rough_fastest_growth,
}
