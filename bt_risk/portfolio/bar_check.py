"""Bar check: whether the prices of a bar can be true, given the bars before it."""

from __future__ import annotations

__all__ = ["BAR_JUMP", "SAME_PRICE", "suspicion"]

# ATRs that a close may be away from the close before it. A larger move waits for the next bar.
BAR_JUMP = 20.0
# Fraction of the price by which high, low, open and close may miss each other: adjusted prices are
# rounded.
SAME_PRICE = 1e-4
# Ratios of two closes that a split explains better than a move does.
_SPLITS = (2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 1.5)
_SPLIT_TOLERANCE = 0.02


def suspicion(
    prices: tuple[float, float, float, float],
    before: float,
    atr: float,
    tick: float = 0.0,
    bar_jump: float = BAR_JUMP,
    negative_prices: bool = False,
) -> str:
    """Return why a bar cannot be believed before the next one agrees, or nothing.

    Parameters
    ----------
    prices : tuple of four floats
        Open (NaN where the data feed has none), high, low and close.
    before : float
        The last close that was believed, NaN before the first.
    atr : float
        Average true range in price, NaN while it is unknown.
    tick : float
        Smallest step of the price; with `SAME_PRICE` the tolerance of all comparisons.
    bar_jump : float
        ATRs that a close may be away from `before`.
    negative_prices : bool
        Whether prices at and below zero are real.

    Examples
    --------
    >>> suspicion((100.0, 101.0, 99.0, 100.5), before=100.0, atr=2.0)
    ''
    >>> suspicion((100.0, 99.0, 101.0, 100.5), before=100.0, atr=2.0)
    'its high 99 is below its low 101'
    >>> suspicion((50.0, 51.0, 49.0, 50.0), before=100.0, atr=2.0)
    'its close 50 is 25 ATR away from 100: a split of 2 to 1?'
    """
    first, high, low, close = prices
    tolerance = max(tick, SAME_PRICE * abs(close))
    if not negative_prices and not close > 0.0:
        return f"its close {close:g} is not above zero"
    if high < low - tolerance:
        return f"its high {high:g} is below its low {low:g}"
    for name, price in (("open", first), ("close", close)):
        if price > high + tolerance or price < low - tolerance:
            return f"its {name} {price:g} is outside {low:g} to {high:g}"
    if abs(close - before) > max(bar_jump * atr, tolerance):
        moved = f"its close {close:g} is {abs(close - before) / max(atr, tolerance):.0f} ATR"
        return f"{moved} away from {before:g}{_split(close, before)}"
    return ""


def _split(close: float, before: float) -> str:
    """Return the split that a move looks like, or nothing."""
    if not (close > 0.0 and before > 0.0):
        return ""
    ratio = max(close, before) / min(close, before)
    for split in _SPLITS:
        if abs(ratio / split - 1.0) <= _SPLIT_TOLERANCE:
            kind = "split" if before > close else "reverse split"
            return f": a {kind} of {split:g} to 1?"
    return ""
