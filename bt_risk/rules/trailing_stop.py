"""Average true range, and stops that follow the price and never step back.

The one-bar forms (`true_range`, `atr_step`, `WilderATR`, `ratchet`) run live; the forms for whole
series give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import talib

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_positive,
    check_whole,
)
from bt_risk.rules.frames import BoolArray, Column, ColumnT, FloatArray
from bt_risk.rules.stop_scans import trail_closes, trail_extremes

__all__ = ["WilderATR", "atr", "atr_step", "atr_stop", "ratchet", "trail", "true_range"]

_INF = math.inf


def true_range(high: float, low: float, previous_close: float) -> float:
    """Range of one bar, including the gap from the close before it.

    Parameters
    ----------
    high, low, previous_close : float
        Prices.

    Returns
    -------
    float
        In price, zero or more.

    Notes
    -----
    ``max(high, previous_close) - min(low, previous_close)``. For known prices only; `WilderATR`
    keeps NaN away from it.

    References
    ----------
    J. W. Wilder, "New Concepts in Technical Trading Systems", 1978.

    Examples
    --------
    >>> true_range(105.0, 103.0, 100.0)
    5.0
    """
    top = high if high > previous_close else previous_close
    return top - (low if low < previous_close else previous_close)


def atr_step(previous_atr: float, true_range: float, atr_period: int) -> float:
    """Average true range after one more bar, by Wilder's smoothing.

    Parameters
    ----------
    previous_atr, true_range : float
        In price.
    atr_period : int
        Look-back in bars.

    Returns
    -------
    float
        In price. NaN gives NaN.

    Notes
    -----
    ``(previous_atr * (atr_period - 1) + true_range) / atr_period``.

    References
    ----------
    J. W. Wilder, "New Concepts in Technical Trading Systems", 1978.

    Examples
    --------
    >>> atr_step(2.0, 16.0, 14)
    3.0
    """
    return (previous_atr * (atr_period - 1) + true_range) / atr_period


class WilderATR:
    """Average true range, one bar at a time; equal to `atr` on every bar.

    Parameters
    ----------
    atr_period : int
        Look-back in bars.

    Attributes
    ----------
    value : float
        The current average true range in price; NaN during the first `atr_period` bars.

    Notes
    -----
    The seed is the plain mean of the true ranges of the bars 1 to `atr_period`; bar 0 has no close
    before it, hence no true range. A bar with a NaN or infinite price is skipped: the value stays
    as it was, and later bars are not touched by it.

    Examples
    --------
    >>> average = WilderATR(atr_period=2)
    >>> [average.update(*bar) for bar in [(9, 8, 8), (10, 8, 9), (13, 9, 12), (12, 11, 12)]]
    [nan, nan, 3.0, 2.0]
    """

    __slots__ = ("_n_ranges", "_previous_close", "_sum", "atr_period", "value")

    def __init__(self, atr_period: int = 14) -> None:
        self.atr_period = check_whole("WilderATR", "atr_period", atr_period)
        self.value = math.nan
        self._previous_close, self._n_ranges, self._sum = math.nan, 0, 0.0

    def persist(self) -> list[float]:
        """Return the state as plain numbers, for `restore` of another one."""
        return [self.value, self._previous_close, self._n_ranges, self._sum]

    def restore(self, saved: Sequence[Any]) -> None:
        """Take over the state that `persist` of another one returned."""
        self.value, self._previous_close, self._n_ranges, self._sum = saved

    def update(self, high: float, low: float, close: float) -> float:
        """Take one closed bar in, and return the value after it."""
        if not -_INF < high + low + close < _INF:
            return self.value
        previous, self._previous_close = self._previous_close, close
        if previous != previous:
            return self.value
        if self._n_ranges == self.atr_period:
            self.value = atr_step(self.value, true_range(high, low, previous), self.atr_period)
        else:
            self._seed(true_range(high, low, previous))
        return self.value

    def _seed(self, one_range: float) -> None:
        self._sum += one_range
        self._n_ranges += 1
        if self._n_ranges == self.atr_period:
            self.value = self._sum / self.atr_period


def atr(high: Column, low: Column, close: ColumnT, atr_period: int = 14) -> ColumnT:
    """Average true range of a whole price series (Wilder's, by TA-Lib).

    Parameters
    ----------
    high, low, close : Series or ndarray of shape (n_bars,)
        Prices, oldest first.
    atr_period : int
        Look-back in bars.

    Returns
    -------
    Series or ndarray of shape (n_bars,)
        In price; type and index of `close`. NaN in the first `atr_period` bars. A bar with a NaN or
        infinite price is skipped: it shows the value before it and changes none after it.

    Raises
    ------
    ParameterError
        If the period is not a whole number or the lengths differ.

    Notes
    -----
    `atr_step` over `true_range`, seeded with the mean of the true ranges of the bars 1 to
    `atr_period`. Nothing is filled backwards.

    References
    ----------
    J. W. Wilder, "New Concepts in Technical Trading Systems", 1978.

    Examples
    --------
    >>> high, low = np.array([9.0, 10.0, 13.0, 12.0]), np.array([8.0, 8.0, 9.0, 11.0])
    >>> atr(high, low, np.array([8.0, 9.0, 12.0, 12.0]), atr_period=2)
    array([nan, nan,  3.,  2.])
    """
    atr_period = check_whole("atr", "atr_period", atr_period)
    bars, known = _known_bars("atr", high, low, close)
    return _like(close, _on_all_bars(_wilder(bars, atr_period), known))


def ratchet(stop_price: float, level: float, side: int) -> float:
    """Stop after one more bar: it moves with the position and never against it.

    Parameters
    ----------
    stop_price : float
        The stop so far, in price; NaN if there is none yet.
    level : float
        Where the stop would stand if it were set anew; NaN if unknown.
    side : int
        +1 behind a long position, -1 behind a short one.

    Returns
    -------
    float
        The higher of the two for a long position, the lower for a short one; of a known and an
        unknown price the known one.

    Raises
    ------
    ParameterError
        If the side has no sign.

    Notes
    -----
    ``max(stop_price, level)`` for `side` +1, ``min(stop_price, level)`` for -1.

    Examples
    --------
    >>> ratchet(106.0, 104.0, +1), ratchet(106.0, 104.0, -1)
    (106.0, 104.0)
    """
    if stop_price != stop_price:
        return level
    if side > 0:  # an unknown level is neither above nor below
        return level if level > stop_price else stop_price
    if side < 0:
        return level if level < stop_price else stop_price
    raise ParameterError("ratchet", "side", "+1 (long) or -1 (short)", side)


def trail(levels: ColumnT, touch: Column | None = None, side: int = 1) -> ColumnT:
    """Run `ratchet` over a series of stop levels.

    Parameters
    ----------
    levels : Series or ndarray of shape (n_bars,)
        Where a stop set on each bar would stand, in price.
    touch : Series or ndarray of shape (n_bars,), optional
        Prices that hit the stop: the lows for a long position, the highs for a short one. On a bar
        that reaches the stop of the bar before, the stop starts anew at that bar's level. Without
        them it never does.
    side : int
        +1 behind a long position, -1 behind a short one.

    Returns
    -------
    Series or ndarray of shape (n_bars,)
        The stop after each bar, in price; type and index of `levels`. A bar with a NaN keeps the
        stop of the bar before it; NaN before the first level.

    Raises
    ------
    ParameterError
        If the side is not +1 or -1 or the lengths differ.

    Examples
    --------
    >>> trail(np.array([96.0, 106.0, 103.0, 104.0, 100.5]))
    array([ 96., 106., 106., 106., 106.])
    >>> trail(np.array([96.0, 106.0, 103.0]), touch=np.array([99.0, 109.0, 105.0]))
    array([ 96., 106., 103.])
    """
    side = check_choice("trail", "side", side, (1, -1))
    prices, known = _known_bars("trail", levels, levels if touch is None else touch)
    level, reached = (side * price for price in prices)
    if touch is None:
        np.maximum.accumulate(level, out=level)
    else:
        trail_closes(level, reached)
    return _like(levels, _on_all_bars(side * level, known))


def atr_stop(
    high: Column,
    low: Column,
    close: ColumnT,
    atr_period: int = 14,
    atr_multiple: float = 2.0,
    anchor: str = "close",
    side: int = 1,
    buffer: float = 0.0,
) -> ColumnT:
    """Trailing stop a few average true ranges behind the price.

    Parameters
    ----------
    high, low, close : Series or ndarray of shape (n_bars,)
        Prices, oldest first.
    atr_period : int
        Look-back of the average true range, in bars.
    atr_multiple : float
        Distance of the stop in average true ranges (elsewhere also: mult, atr_multiplier).
    anchor : {"close", "extreme", "high"}
        What the distance is measured from: the close, or the highest high (for a short position the
        lowest low) since the run began, which is the chandelier exit. "high" means "extreme".
    side : int
        +1 behind a long position, -1 behind a short one.
    buffer : float
        Further distance beyond the level, in average true ranges.

    Returns
    -------
    Series or ndarray of shape (n_bars,)
        The stop after each bar, in price, valid from the next bar on; type and index of `close`.
        NaN in the first `atr_period` bars. A bar with a NaN or infinite price is skipped: it shows
        the stop before it and changes none after it.

    Raises
    ------
    ParameterError
        If a parameter is outside its range or the lengths differ.

    Notes
    -----
    ``level = anchor - side * (atr_multiple + buffer) * ATR``, then `ratchet`. On a bar that reaches
    the stop of the bar before (long: ``low <= stop``) the run ends and a new one begins with that
    bar's own level. A bar never touches the stop that it sets itself.

    References
    ----------
    J. W. Wilder, "New Concepts in Technical Trading Systems", 1978. The chandelier exit is
    C. LeBeau's; its high counts from the entry here, not from a rolling window whose high can fall.

    Examples
    --------
    >>> close = np.array([100.0, 102.0, 104.0, 103.0, 99.0])
    >>> atr_stop(close + 1, close - 1, close, atr_period=2)
    array([ nan,  nan, 98. , 98. , 91.5])
    """
    atr_period = check_whole("atr_stop", "atr_period", atr_period)
    check_positive("atr_stop", "atr_multiple", atr_multiple)
    check_positive("atr_stop", "buffer", buffer, zero=True)
    check_choice("atr_stop", "anchor", anchor, ("close", "extreme", "high"))
    check_choice("atr_stop", "side", side, (1, -1))
    bars, known = _known_bars("atr_stop", high, low, close)
    # One array is widths, then levels, then stops: memory costs more time than arithmetic.
    result = _wilder(bars, atr_period)
    stops = result[atr_period:]
    stops *= atr_multiple + buffer
    highs, lows, closes = (prices[atr_period:] for prices in bars)
    if anchor != "close":
        trail_extremes(*((highs, lows) if side > 0 else (-lows, -highs)), stops)
    elif side > 0:
        trail_closes(np.subtract(closes, stops, out=stops), lows)
    else:
        stops += closes
        trail_closes(np.negative(stops, out=stops), -highs)
    if side < 0:
        np.negative(stops, out=stops)
    return _like(close, _on_all_bars(result, known))


def _known_bars(component: str, *columns: Column) -> tuple[list[FloatArray], BoolArray]:
    """Return the columns without the bars where one of them is unknown, and which bars stayed."""
    arrays = [np.ascontiguousarray(column, dtype=float) for column in columns]
    if any(array.ndim != 1 or array.size != arrays[0].size for array in arrays):
        shapes = [array.shape for array in arrays]
        raise ParameterError(component, "prices", "one-dimensional and of one length", shapes)
    total = arrays[0] + arrays[1]
    for array in arrays[2:]:
        total += array
    known = np.isfinite(total)
    return (arrays if known.all() else [array[known] for array in arrays]), known


def _on_all_bars(values: FloatArray, known: BoolArray) -> FloatArray:
    """Spread the values of the known bars: an unknown bar shows the value before it."""
    return values if known.all() else np.concatenate(([np.nan], values))[np.cumsum(known)]


def _wilder(bars: list[FloatArray], atr_period: int) -> FloatArray:
    high, low, close = bars
    if close.size <= atr_period:
        return np.full(close.size, np.nan)
    return talib.ATR(high, low, close, timeperiod=atr_period)


def _like(template: ColumnT, values: FloatArray) -> ColumnT:
    if isinstance(template, pd.Series):
        return cast(ColumnT, pd.Series(values, index=template.index))
    return cast(ColumnT, values)
