"""What the desk decides about an order."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from bt_risk.rules.limits import Decision

__all__ = ["VOID", "Asked", "Cut", "Verdict", "losing_side"]

VOID = "trim: {:g} of it were cut from the entry and never bought"


@dataclass(frozen=True)
class Verdict:
    """What may be sent of an order, and the parts that it was judged in."""

    size: float
    decision: Decision
    closing: float = 0.0
    distance: float = math.nan
    void: float = 0.0
    guarded: bool = False
    overlaps: bool = False


class Asked(NamedTuple):
    """What one order asked to open, and what was allowed of it; `rule` is who cut it, if any.

    `step` is what cash would cut it to at the fill; NaN: cash refuses it whole.
    """

    order: object
    opening: float
    allowed: float
    distance: float
    rule: str
    step: float = math.nan


class Cut(NamedTuple):
    """Units taken from an order that was allowed: while it rested, or at the price it filled at."""

    order: object
    units: float
    distance: float
    rule: str
    price: float = math.nan


def losing_side(side, price, stop_price):
    """Return the distance to a stop, NaN for one that does not bound a loss."""
    distance = side * (price - stop_price)
    return distance if distance > 0 else math.nan
