"""Point value: the currency that one unit earns when its price moves by one."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["is_linear", "least_share", "point_value"]

# Two measurements of a linear scheme differ by rounding alone.
_SAME = 1e-9
# Fractions of the price that a move is measured over: without a stop distance, and at least.
_MOVE, _LEAST = 0.01, 1e-3


def point_value(scheme: Any, price: float, distance: float = math.nan) -> float:
    """Return the currency that one unit loses per point when its price falls by `distance`.

    It is measured from the commission scheme, whose ``profitandloss`` may multiply (futures) or
    convert (a currency pair in an account of its first currency, inverse contracts).

    Parameters
    ----------
    scheme : backtrader.CommInfoBase
        Of the data feed, or any object with ``profitandloss(size, price, new_price)``.
    price : float
        Price at hand; NaN where there is none yet.
    distance : float
        Points to the stop, positive; NaN where it is unknown: 1 % of the price.

    Examples
    --------
    >>> class Converting:
    ...     def profitandloss(self, size, price, new_price):
    ...         return size * (new_price - price) / new_price
    >>> round(point_value(Converting(), 150.0, 30.0), 6)
    0.008333
    """
    linear = _earned(scheme, 0.0, 1.0)
    if math.isnan(price):
        return linear
    move = _move(price, distance)
    measured = _earned(scheme, price, price - move) / -move
    if math.isnan(measured) or abs(measured - linear) <= _SAME * abs(linear):
        return linear
    return measured


def least_share(scheme: Any, price: float, distance: float = math.nan) -> float:
    """Return what a point is worth at least, on a move either way, as a share of `point_value`.

    A position that offsets another counts with that share; 0 where it cannot be measured. The
    parameters are those of `point_value`.

    Examples
    --------
    >>> class Converting:
    ...     def profitandloss(self, size, price, new_price):
    ...         return size * (new_price - price) / new_price
    >>> round(least_share(Converting(), 150.0, 30.0), 6)
    0.666667
    """
    falling, move = point_value(scheme, price, distance), _move(price, distance)
    rising = _earned(scheme, price, price + move) / move
    return min(1.0, rising / falling) if rising > 0.0 and falling > 0.0 else 0.0


def _move(price: float, distance: float) -> float:
    """Return the points to measure over: a move that is tiny beside the price measures rounding."""
    return max(distance if distance > 0.0 else _MOVE * abs(price), _LEAST * abs(price), _SAME)


def is_linear(scheme: Any) -> bool:
    """Return whether a point is worth the same at every price."""
    moves = ((0.0, 1.0), (1.0, 2.0), (100.0, 101.0))
    return len({_earned(scheme, *move) for move in moves}) == 1


def _earned(scheme: Any, price: float, new_price: float) -> float:
    """Return what one unit earns on a move of the price, NaN where the scheme cannot say."""
    try:
        return float(scheme.profitandloss(1.0, price, new_price))
    except ZeroDivisionError:  # a scheme that converts has no answer at a price of zero
        return math.nan
