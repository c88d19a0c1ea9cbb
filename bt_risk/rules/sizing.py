"""Position size from risk and stop distance, on the grid that the market trades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import cast, overload

import numpy as np
import pandas as pd

from bt_risk.errors import check_positive, check_whole
from bt_risk.rules.frames import Column, ColumnT, FloatArray, Numbers

__all__ = ["floored_atr", "position_size", "round_down", "volatility_floor"]

_ON_THE_GRID = 1e-12  # relative; closer than this to a whole number of steps is rounding error


@overload
def position_size(
    equity: float,
    risk: float,
    stop_distance: float,
    multiplier: float = 1.0,
    step: float | None = None,
) -> float: ...


@overload
def position_size(
    equity: Numbers,
    risk: Numbers,
    stop_distance: Numbers,
    multiplier: float = 1.0,
    step: float | None = None,
) -> Column: ...


def position_size(
    equity: Numbers,
    risk: Numbers,
    stop_distance: Numbers,
    multiplier: float = 1.0,
    step: float | None = None,
) -> Numbers:
    """Units to hold so that a hit stop costs the given share of equity.

    Parameters
    ----------
    equity : float, ndarray or Series
        Account value in currency.
    risk : float, ndarray or Series
        Share of equity to lose at the stop, as a fraction: 0.01 is 1 %.
    stop_distance : float, ndarray or Series
        Distance from the entry to the stop, in price.
    multiplier : float
        Currency per price point and unit: 1 for stocks, the contract multiplier for futures.
    step : float or None
        Smallest tradable unit; None leaves the size as it is.

    Returns
    -------
    float, ndarray or Series
        Units, a whole number of steps, never negative. 0 where an input is NaN, zero or negative:
        an unknown stop allows no position.

    Raises
    ------
    ParameterError
        If the step is not positive.

    Notes
    -----
    ``round_down(risk * equity / (stop_distance * multiplier), step)``.

    References
    ----------
    R. Vince, "Portfolio Management Formulas", 1990: fixed fractional sizing.

    Examples
    --------
    >>> position_size(100_000, 0.01, 2 * 150.0)
    3.3333333333333335
    >>> position_size(100_000, 0.01, 2 * 150.0, step=1)
    3.0
    >>> position_size(100_000, 0.01, np.array([np.nan, 400.0, 0.0]))
    array([0. , 2.5, 0. ])
    """
    given = (equity, risk, stop_distance, multiplier)
    if all(isinstance(one, float | int) for one in given):
        return round_down(_units_of_one(*[float(one) for one in given]), step)
    usable = np.greater(equity, 0) & np.greater(risk, 0)
    usable = usable & np.greater(stop_distance, 0) & np.greater(multiplier, 0)
    with np.errstate(all="ignore"):
        size = np.divide(np.multiply(risk, equity), np.multiply(stop_distance, multiplier))
        size = size * (usable & np.isfinite(size))  # inf * False is NaN, which is no size below
    return round_down(size, step)


@overload
def round_down(size: float, step: float | None = None) -> float: ...


@overload
def round_down(size: FloatArray, step: float | None = None) -> FloatArray: ...


@overload
def round_down(size: pd.Series, step: float | None = None) -> pd.Series: ...


def round_down(size: Numbers, step: float | None = None) -> Numbers:
    """Largest whole number of steps that is not above the size.

    Parameters
    ----------
    size : float, ndarray or Series
        Units, without a sign.
    step : float or None
        Smallest tradable unit (1, 0.1, 1e-5, 100); None leaves the size as it is.

    Returns
    -------
    float, ndarray or Series
        At most `size`; 0 for NaN and for negative sizes, infinity for infinity. Free of the noise
        of binary fractions: three steps of 0.1 are 0.3, not 0.30000000000000004.

    Raises
    ------
    ParameterError
        If the step is not positive.

    Notes
    -----
    ``floor(size / step) * step``, except that a size within 1e-12 (relative) below a whole number
    of steps is that number: 0.3 is three steps of 0.1 although 0.3 / 0.1 is 2.9999999999999996.

    Examples
    --------
    >>> round_down(0.3, 0.1), round_down(1234.5, 100), round_down(0.123456, 1e-5)
    (0.3, 1200.0, 0.12345)
    """
    if isinstance(size, float | int):
        return _round_one_down(float(size), step)
    values = np.asarray(size, dtype=float)
    values = np.where(values > 0, values, 0.0)
    if step is not None:
        step = float(check_positive("round_down", "step", step, remedy="None switches it off."))
        # Infinity - infinity is NaN, hence not on the grid; so is what is too large for a float.
        with np.errstate(invalid="ignore", over="ignore"):
            values = np.round(_whole_steps(values / step) * step, _decimals(step))
    if isinstance(size, pd.Series):
        return pd.Series(values, index=size.index, name=size.name)
    return values if values.ndim else float(values)


def volatility_floor(atr: ColumnT, atr_floor: float = 0.5, window: int = 100) -> ColumnT:
    """ATR for sizing: never below a share of its own recent median.

    A market that has just fallen asleep would otherwise be given a very large position.

    Parameters
    ----------
    atr : ndarray or Series of shape (n_bars,)
        Average true range in price, oldest first.
    atr_floor : float
        Share of the median, zero or more; 0 switches the floor off.
    window : int
        Number of ATR values in the median, the current one included; fewer at the beginning.

    Returns
    -------
    ndarray or Series of shape (n_bars,)
        In price; type and index of `atr`. NaN stays NaN and is no part of a median.

    Raises
    ------
    ParameterError
        If the floor or the window is outside its range.

    Notes
    -----
    ``max(ATR, atr_floor * median(last window ATR values))``: `floored_atr` on each bar.

    Examples
    --------
    >>> volatility_floor(np.array([np.nan, 4.0, 4.0, 1.0]))
    array([nan,  4.,  4.,  2.])
    """
    check_positive("volatility_floor", "atr_floor", atr_floor, zero=True)
    window = check_whole("volatility_floor", "window", window)
    values = np.array(atr, dtype=float)
    known = ~np.isnan(values)
    median = pd.Series(values[known]).rolling(window, min_periods=1).median().to_numpy()
    values[known] = np.maximum(values[known], atr_floor * median)
    if isinstance(atr, pd.Series):
        return cast(ColumnT, pd.Series(values, index=atr.index, name=atr.name))
    return cast(ColumnT, values)


def floored_atr(recent_atr: Sequence[float] | FloatArray, atr_floor: float = 0.5) -> float:
    """Return the last of the recent ATR values, or the floor under it: `volatility_floor` today.

    Parameters
    ----------
    recent_atr : sequence of float
        The last ATR values (100 by default elsewhere), oldest first.
    atr_floor : float
        Share of their median, zero or more.

    Returns
    -------
    float
        In price. NaN if there is no value or the last one is NaN; other NaNs are left out.

    Notes
    -----
    ``max(ATR, atr_floor * median)``.

    Examples
    --------
    >>> floored_atr([4.0, 4.0, 1.0])
    2.0
    """
    values = np.asarray(recent_atr, dtype=float)
    if not values.size or np.isnan(values[-1]):
        return float("nan")
    return float(max(values[-1], atr_floor * np.nanmedian(values)))


def _units_of_one(equity: float, risk: float, stop_distance: float, multiplier: float) -> float:
    """Return the size for one set of inputs, 0 where one is unusable."""
    loss = stop_distance * multiplier
    if not (equity > 0 and risk > 0 and stop_distance > 0 and multiplier > 0 and loss > 0):
        return 0.0
    size = risk * equity / loss
    return size if size < math.inf else 0.0


def _round_one_down(size: float, step: float | None) -> float:
    """Return one size, rounded down: the same operations, in a fraction of the time."""
    if step is not None and not (type(step) is float and 0.0 < step < math.inf):
        step = float(check_positive("round_down", "step", step, remedy="None switches it off."))
    if not size > 0.0:
        return 0.0
    if step is None or size == math.inf:
        return size
    ratio = size / step
    if ratio == math.inf:
        return ratio
    nearest = float(round(ratio))
    if nearest - ratio > _ON_THE_GRID * nearest:
        nearest = float(math.floor(ratio))
    tens = 10.0 ** _decimals(step)
    scaled = nearest * step * tens
    return scaled if scaled == math.inf else round(scaled) / tens


def _whole_steps(ratio: FloatArray) -> FloatArray:
    nearest = np.rint(ratio)
    return np.where(nearest - ratio <= _ON_THE_GRID * nearest, nearest, np.floor(ratio))


@lru_cache(maxsize=64)
def _decimals(step: float) -> int:
    """Return the digits after the point of the shortest decimal form of the step."""
    exponent = Decimal(repr(step)).normalize().as_tuple().exponent
    return max(0, -int(exponent))
