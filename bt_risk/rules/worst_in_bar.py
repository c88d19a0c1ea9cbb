"""The worst value of a position inside a bar: longs at the low, shorts at the high."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["worst_in_bar"]


def worst_in_bar(
    size: float,
    opened: float,
    high: float,
    low: float,
    close: float,
    stops: Iterable[tuple[float, float]] = (),
) -> float:
    """Return how much less a position was worth at the worst point of a bar than at its close.

    Parameters
    ----------
    size : float
        Units that were held through the bar, negative for short.
    opened, high, low, close : float
        Prices of the bar; the open may be NaN.
    stops : iterable of (float, float)
        Price and units of each stop order that rested before the bar began. What it covers is
        worth no less than its fill: its price, or the open where the bar begins beyond it.

    Returns
    -------
    float
        Zero or less, in price times units. NaN where the bar does not tell: a high, low or close
        that is not finite, or a high below the low.

    Examples
    --------
    >>> worst_in_bar(10, 100.0, 102.0, 90.0, 101.0)
    -110.0
    >>> worst_in_bar(10, 100.0, 102.0, 90.0, 101.0, [(95.0, 10)])
    -60.0
    >>> worst_in_bar(10, 93.0, 102.0, 90.0, 101.0, [(95.0, 4)])
    -98.0
    """
    if not (math.isfinite(high) and math.isfinite(low) and math.isfinite(close)) or high < low:
        return math.nan
    side = 1 if size > 0 else -1
    extreme = min(low, close) if side > 0 else max(high, close)  # adjusted prices are rounded
    left, change = abs(size), 0.0
    for price, units in sorted(stops, key=lambda stop: -side * stop[0]):  # the nearest first
        if side * (extreme - price) > 0.0:
            break  # the bar did not reach it
        # Where the open is unknown so is the fill: it may have been as bad as the bar was.
        first = opened if math.isfinite(opened) else extreme
        fill = min(price, first) if side > 0 else max(price, first)
        part = min(units, left)
        change, left = change + part * side * (fill - close), left - part
    return min(0.0, change + left * side * (extreme - close))
