"""Correlation of returns, and the cap on exposure to names that move alike.

Everything here is computed from the window itself, never from running sums: those still carry a
bad tick after it has left, and lose all digits for a name that stands still.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import overload

import numpy as np
import pandas as pd

from bt_risk.errors import (
    ParameterError,
    check_fraction,
    check_limit,
    check_positive,
    check_whole,
    is_number,
)
from bt_risk.rules.frames import FloatArray, Numbers, Table, as_frame, check_min_periods
from bt_risk.rules.rolling_matrices import rolling_matrices

__all__ = [
    "correlation_exposure",
    "correlation_matrix",
    "rolling_correlation",
    "same_bet",
]

_log = logging.getLogger("bt_risk")


@overload
def same_bet(side_i: float, side_j: float, rho: float) -> float: ...


@overload
def same_bet(side_i: Numbers, side_j: Numbers, rho: Numbers) -> float | FloatArray: ...


def same_bet(side_i: Numbers, side_j: Numbers, rho: Numbers) -> float | FloatArray:
    """Return how far two positions are one bet: 1 is the same bet twice, -1 a perfect hedge.

    Parameters
    ----------
    side_i, side_j : {1, -1} or ndarray
        +1 for long, -1 for short.
    rho : float or ndarray
        Correlation of the returns of the two names, in [-1, 1].

    Returns
    -------
    float or ndarray
        ``side_i * side_j * rho``, in [-1, 1]. An unknown correlation (NaN) counts as 1, whatever
        the sides: what is not known to be a hedge is none.

    Examples
    --------
    >>> float(same_bet(1, -1, -0.9))
    0.9
    >>> float(same_bet(1, -1, math.nan))
    1.0
    """
    return np.where(np.isnan(rho), 1.0, side_i * side_j * np.asarray(rho))[()]


@overload
def correlation_matrix(
    returns: FloatArray, window: int = 252, min_periods: int = 60
) -> FloatArray: ...


@overload
def correlation_matrix(
    returns: pd.DataFrame | Mapping[str, pd.Series], window: int = 252, min_periods: int = 60
) -> pd.DataFrame: ...


def correlation_matrix(
    returns: Table, window: int = 252, min_periods: int = 60
) -> FloatArray | pd.DataFrame:
    """Correlation of all pairs over the last `window` times.

    Parameters
    ----------
    returns : DataFrame, dict of str to Series, or ndarray of shape (n_bars, n_names)
        Returns per bar, oldest first. Series of different calendars are joined on time.
    window : int
        Bars looked back; with fewer, all there are.
    min_periods : int
        Common returns that a pair must have.

    Returns
    -------
    DataFrame or ndarray of shape (n_names, n_names)
        Pearson correlations, 1 on the diagonal. NaN where a pair has fewer than `min_periods`
        common returns or a name stood still.

    Notes
    -----
    ``sum((x - mean x) (y - mean y)) / sqrt(sum((x - mean x)^2) sum((y - mean y)^2))`` over the
    rows where both are finite. Where calendars differ, join prices before taking returns: the
    return of a Monday spans three days of a coin, and one of a coin only one.

    References
    ----------
    Pearson, K. (1895). Notes on regression and inheritance in the case of two parents.

    Examples
    --------
    >>> returns = np.array([[0.01, 0.02], [-0.01, -0.02], [0.02, 0.04]])
    >>> correlation_matrix(returns, window=3, min_periods=3).round(6)
    array([[1., 1.],
           [1., 1.]])
    """
    window = check_whole("correlation_matrix", "window", window, low=2)
    min_periods = check_min_periods("correlation_matrix", min_periods, window)
    frame = as_frame("correlation_matrix", "returns", returns)
    matrix = frame.tail(window).corr(min_periods=min_periods)
    return matrix.to_numpy() if isinstance(returns, np.ndarray) else matrix


@overload
def rolling_correlation(returns: FloatArray, window: int = 252) -> FloatArray: ...


@overload
def rolling_correlation(
    returns: pd.DataFrame | Mapping[str, pd.Series], window: int = 252
) -> pd.DataFrame: ...


def rolling_correlation(returns: Table, window: int = 252) -> FloatArray | pd.DataFrame:
    """Correlation of all pairs over each `window` bars, as ``returns.rolling(window).corr()``.

    Parameters
    ----------
    returns : DataFrame, dict of str to Series, or ndarray of shape (n_bars, n_names)
        Returns per bar, oldest first. Series of different calendars are joined on time.
    window : int
        Bars looked back, the current one included.

    Returns
    -------
    DataFrame of shape (n_bars * n_names, n_names) or ndarray of shape (n_bars, n_names, n_names)
        The frame is indexed by time and name, like that of pandas. NaN before `window` bars, in
        every window that misses a return of the pair, and where a name stood still.

    Notes
    -----
    Equal to pandas, more than twenty times faster with 100 names, beside what the system takes for
    the memory of the result (200 MB for 2,520 bars). What successive windows share is summed once,
    and the rest of each window is added to that, so nothing outside a window can reach the result,
    such as a bad tick that has left it. Windows whose mean is much larger than their spread are
    centred first.

    Examples
    --------
    >>> returns = np.array([[0.01, 0.02], [-0.01, -0.02], [0.02, -0.04]])
    >>> rolling_correlation(returns, window=2)[:, 0, 1].round(6)
    array([nan,  1., -1.])
    """
    window = check_whole("rolling_correlation", "window", window, low=2)
    frame = as_frame("rolling_correlation", "returns", returns)
    matrices = rolling_matrices(frame.to_numpy(dtype=float), window)
    if isinstance(returns, np.ndarray):
        return matrices
    names = [frame.index.name, frame.columns.name]
    index = pd.MultiIndex.from_product([frame.index, frame.columns], names=names)
    cells = matrices.reshape(len(index), len(frame.columns))
    return pd.DataFrame(cells, index=index, columns=frame.columns, copy=False)


def correlation_exposure(
    positions: Mapping[str, float],
    returns: pd.DataFrame | Mapping[str, pd.Series],
    capital: float = 1.0,
    correlation_limit: float | None = 0.7,
    exposure_limit: float | None = 0.05,
    correlated_scale: float = 0.8,
    window: int = 252,
    min_periods: int = 60,
) -> dict[str, float]:
    """Positions with correlated bets cut and the total capped, as a new dict.

    Parameters
    ----------
    positions : dict of str to float
        Exposure per name in the currency of `capital`, negative for short. Left unchanged.
    returns : DataFrame or dict of str to Series
        Returns per bar of at least these names, oldest first.
    capital : float
        Account value.
    correlation_limit : float or None
        Two positions above it are the same bet twice. None: no limit.
    exposure_limit : float or None
        Ceiling of ``sum(abs(position))`` as a fraction of capital. None: no limit.
    correlated_scale : float
        Share of a position that remains if it repeats a later one, in [0, 1].
    window, min_periods : int
        As in `correlation_matrix`.

    Returns
    -------
    dict of str to float
        Same names and signs, never larger. What was cut is logged to ``bt_risk``.

    Notes
    -----
    A pair is the same bet twice when ``side_i * side_j * rho > correlation_limit``; a hedge
    passes. Its first name, in the order of `positions`, is cut once, however many partners it
    has. An unknown correlation (NaN, too few returns) counts as 1 whatever the sides. Then all
    are scaled by ``exposure_limit * capital / total`` if their total is above the ceiling.

    Examples
    --------
    >>> move = np.sin(np.arange(100.0))
    >>> returns = pd.DataFrame({"BTC": move, "ETH": 2 * move})
    >>> correlation_exposure({"BTC": 100.0, "ETH": 50.0}, returns, capital=10_000.0)
    {'BTC': 80.0, 'ETH': 50.0}
    >>> correlation_exposure({"BTC": 100.0, "ETH": -50.0}, returns, capital=10_000.0)
    {'BTC': 100.0, 'ETH': -50.0}
    """
    here = "correlation_exposure"
    check_positive(here, "capital", capital)
    check_fraction(here, "correlated_scale", correlated_scale, zero=True)
    correlation_limit = check_limit(here, "correlation_limit", correlation_limit, fraction=True)
    exposure_limit = check_limit(here, "exposure_limit", exposure_limit)
    sized = _check_positions(here, positions)
    matrix = correlation_matrix(_columns_of(here, returns, sized), window, min_periods)
    for name in _repeated_bets(sized, matrix, correlation_limit):
        sized[name] *= correlated_scale
    return _cap_total(sized, exposure_limit * capital)


def _repeated_bets(
    positions: Mapping[str, float], matrix: pd.DataFrame, correlation_limit: float
) -> list[str]:
    """Return the names that are the same bet as a later one, each once, in order."""
    held = [name for name, value in positions.items() if value]
    repeated = {}
    for first, second in combinations(held, 2):
        rho = matrix.at[first, second]
        sides = np.sign(positions[first]), np.sign(positions[second])
        if same_bet(*sides, rho) > correlation_limit:
            _log.info("%s and %s are one bet: correlation %.2f", first, second, rho)
            repeated[first] = True
    return list(repeated)


def _cap_total(positions: dict[str, float], ceiling: float) -> dict[str, float]:
    total = sum(abs(value) for value in positions.values())
    if total <= ceiling:
        return positions
    _log.info("exposure %g is cut to %g", total, ceiling)
    return {name: value * (ceiling / total) for name, value in positions.items()}


def _check_positions(component: str, positions: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(positions, Mapping):
        remedy = "A Series has to_dict()."
        raise ParameterError(
            component, "positions", "a dict of name to exposure", positions, remedy
        )
    for name, value in positions.items():
        if not is_number(value) or math.isinf(value):
            raise ParameterError(component, f"positions[{name!r}]", "finite", value)
    return {name: float(value) for name, value in positions.items()}


def _columns_of(
    component: str, returns: pd.DataFrame | Mapping[str, pd.Series], names: Iterable[str]
) -> pd.DataFrame:
    frame = as_frame(component, "returns", returns)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        constraint = "a frame with a column for every position"
        raise ParameterError(component, "returns", constraint, f"none for {missing}")
    return frame[list(names)]
