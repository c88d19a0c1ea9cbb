"""What a stop-out costs beside the distance to the stop: commission of both orders, and slippage.

Nothing here knows Backtrader: a commission is any function of signed units and a price.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["largest_within", "stop_out_cost"]

# Halvings of an interval: what is left of it is below the rounding of a float.
_HALVINGS = 60


def stop_out_cost(
    commission: Callable[[float, float], float],
    side: int,
    size: float,
    price: float,
    stop_price: float,
    slippage: float = 0.0,
) -> tuple[float, float]:
    """Return what it costs to open a position and to lose it at its stop, beside the distance.

    Parameters
    ----------
    commission : callable
        Takes signed units and the price of one, returns the commission in currency: percent, per
        unit, or with a minimum, as ``getcommission`` of a Backtrader scheme does.
    side : int
        +1 for a long position, -1 for a short one.
    size : float
        Units, without a sign.
    price, stop_price : float
        Where the position is opened, and where its stop rests.
    slippage : float
        How far beyond its price the stop fills, as a fraction of that price.

    Returns
    -------
    tuple of float
        The commission of both orders in currency, a rebate counted as nothing, and the slippage
        in points of price for each unit. NaN where the scheme answers NaN.

    Notes
    -----
    ``max(0, c(side x size, price)) + max(0, c(-side x size, stop_price))`` and
    ``slippage x |stop_price|``. A rebate is counted as nothing: a stop takes liquidity.

    Examples
    --------
    >>> cost, slip = stop_out_cost(lambda size, price: 0.001 * abs(size) * price, 1, 10, 100, 95)
    >>> round(cost, 9), slip
    (1.95, 0.0)
    >>> stop_out_cost(lambda size, price: max(5.0, 0.01 * abs(size)), -1, 10, 50, 60, 0.001)
    (10.0, 0.06)
    """
    opens, closes = commission(side * size, price), commission(-side * size, stop_price)
    # NaN is no rebate: it stays, and what it is a part of is unknown.
    paid = sum(0.0 if one < 0.0 else float(one) for one in (opens, closes))
    return paid, slippage * abs(stop_price)


def largest_within(budget: float, loss: Callable[[float], float], size: float) -> float:
    """Return the largest size, up to `size`, that loses no more than a budget.

    Parameters
    ----------
    budget : float
        In currency.
    loss : callable
        Takes a size, returns what it loses in currency, not less for a larger size. A minimum
        commission makes it no multiple of the size.
    size : float
        The size requested.

    Returns
    -------
    float
        `size` itself where it fits; 0 where nothing does, or where the loss is unknown. The loss
        of what is returned was computed and is within the budget.

    Examples
    --------
    >>> largest_within(100.0, lambda size: 2.0 * size, 80.0)
    50.0
    >>> round(largest_within(100.0, lambda size: 2.0 * size + max(20.0, 0.1 * size), 80.0), 6)
    40.0
    >>> largest_within(10.0, lambda size: 2.0 * size + 20.0, 80.0)
    0.0
    """
    if loss(size) <= budget:
        return size
    fits, exceeds = 0.0, size
    for _ in range(_HALVINGS):
        middle = (fits + exceeds) / 2
        if loss(middle) <= budget:
            fits = middle
        else:
            exceeds = middle
    return fits
