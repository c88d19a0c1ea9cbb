"""What the desk decides about an order."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from bt_risk.rules.limits import Decision

__all__ = ["VOID", "Asked", "Verdict", "losing_side"]

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
    """What one order asked to open, and what was allowed of it; `rule` is who cut it, if any."""

    instrument: object
    side: int
    kind: str
    price: float
    opening: float
    allowed: float
    distance: float
    rule: str


def losing_side(side, price, stop_price):
    """Return the distance to a stop, NaN for one that does not bound a loss."""
    distance = side * (price - stop_price)
    return distance if distance > 0 else math.nan
