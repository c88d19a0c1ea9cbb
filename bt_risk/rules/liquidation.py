"""Where inside a bar the equity of positions falls to their maintenance margin.

A bar is taken at its worst: from a price that is known (its open, or the fill of an entry inside
it) straight to its worst price against the position, for all positions at once. Stops on the way
fill first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bt_risk.rules.margin import MarginTiers, maintenance_margin

__all__ = ["Leg", "first_breach"]

# Halvings of an interval of doubles.
_HALVINGS = 200


@dataclass(frozen=True, slots=True)
class Leg:
    """One position on its way through a bar.

    Attributes
    ----------
    side : int
        +1 for long, -1 for short.
    units : float
        Currency per price point: size times multiplier.
    start, worst : float
        Prices at the begin and at the end of the way.
    tiers : MarginTiers
    stops : tuple of (float, float)
        Price and units of the stops behind it, the nearest first.
    """

    side: int
    units: float
    start: float
    worst: float
    tiers: MarginTiers
    stops: tuple[tuple[float, float], ...] = ()

    def price(self, t: float) -> float:
        """Return the price at `t`, which is 0 at the start and 1 at the worst."""
        return self.start + t * (self.worst - self.start)

    def times(self) -> list[float]:
        """Return when its stops are reached, those at the start left out."""
        way = self.worst - self.start
        found = [(level - self.start) / way for level, _ in self.stops] if way else []
        return [t for t in found if 0.0 < t < 1.0]

    def left(self, t: float, reached: bool = True) -> float:
        """Return the units that no stop has closed at `t`.

        A stop that is reached exactly then has filled if `reached`.
        """
        return self._after(t, reached)[0]

    def state(self, t: float, reached: bool = True) -> tuple[float, float]:
        """Return what it has gained since the start, and its maintenance margin, in currency."""
        left, gain = self._after(t, reached)
        price = self.price(t)
        gain += self.side * left * (price - self.start)
        return gain, maintenance_margin(left * price, self.tiers)

    def _after(self, t: float, reached: bool) -> tuple[float, float]:
        price, left, gain = self.price(t), self.units, 0.0
        for level, units in self.stops:
            beyond = self.side * (level - price)
            if beyond < 0.0 or (beyond == 0.0 and not reached):
                break
            part = min(units, left)
            fill = min(level, self.start) if self.side > 0 else max(level, self.start)
            gain += self.side * part * (fill - self.start)
            left -= part
        return left, gain


def first_breach(balance: float, legs: Sequence[Leg], own: bool = False) -> float | None:
    """Return when equity first is at or below the maintenance margin of all legs, or None.

    Parameters
    ----------
    balance : float
        Equity that secures the legs, at their starts, in currency.
    legs : sequence of Leg
    own : bool
        Whether the balance is the margin of the only leg (isolated): what a stop closes takes its
        share of the margin along. Else it is that of an account, which bears the loss.

    Returns
    -------
    float or None
        From 0 (the starts) to 1 (the worst prices). At a price where a stop rests, the stop is
        first.

    Examples
    --------
    A long of 10 from 100 down to 90, with 50 of equity and 0.5 % of maintenance margin, is
    liquidated at 950 / 9.95; a stop at 96 comes before that.

    >>> leg = Leg(1, 10.0, 100.0, 90.0, MarginTiers.flat(0.005))
    >>> round(leg.price(first_breach(50.0, [leg])), 6), round(950 / 9.95, 6)
    (95.477387, 95.477387)
    >>> first_breach(50.0, [Leg(1, 10.0, 100.0, 90.0, MarginTiers.flat(0.005), ((96.0, 10.0),))])
    """

    def excess_of_account(t: float, reached: bool) -> float:
        total = balance
        for leg in legs:
            gain, needed = leg.state(t, reached)
            total += gain - needed
        return total if any(leg.left(t, reached) for leg in legs) else math.inf

    def excess_of_leg(t: float, reached: bool) -> float:
        (leg,) = legs
        left, price = leg.left(t, reached), leg.price(t)
        if not left:
            return math.inf
        gain = leg.side * left * (price - leg.start)
        return balance * left / leg.units + gain - maintenance_margin(left * price, leg.tiers)

    excess = excess_of_leg if own else excess_of_account
    low = 0.0
    if excess(low, True) <= 0.0:
        return low
    for high in [*sorted({t for leg in legs for t in leg.times()}), 1.0]:
        # Between two stops equity less margin only falls; a stop that fills frees its margin.
        over = excess(high, high == 1.0)
        if over < 0.0 or (over == 0.0 and high == 1.0):
            return _between(excess, low, high)
        low = high
    return None


def _between(excess: Callable[[float, bool], float], low: float, high: float) -> float:
    """Return where `excess` falls to zero between two times without a stop in between."""
    for _ in range(_HALVINGS):
        middle = low + (high - low) / 2.0
        if middle in (low, high):
            break
        if excess(middle, False) > 0.0:
            low = middle
        else:
            high = middle
    return high
