"""VenueMargin: the margin ratio that a live venue reports, where it can be one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["VenueMargin", "is_margin_ratio"]

# A venue liquidates at 1. What is far beyond that is percent, or equity / maintenance margin.
_MOST = 2.0


class VenueMargin:
    """Ask for the margin ratio of the account: maintenance margin / equity that secures it.

    It comes from ``margin_ratio=``, or from the broker's method ``margin_ratio()``.

    Attributes
    ----------
    exists : bool
        Whether there is anybody to ask.
    ratio : float
        The last answer, NaN while it is not known: before the first, after an error, and where it
        can be no margin ratio.
    answer : str
        What the last answer was, for a sentence.
    """

    def __init__(self, gate: Gate) -> None:
        own, given = getattr(gate.inner, "margin_ratio", None), gate.live.margin_ratio
        self._live, self._view = gate.live, gate.venue.view
        self._ask = own if given is None and callable(own) else given
        self.exists = self._ask is not None
        self.ratio, self.answer = math.nan, "nothing yet"
        self._next_at = -math.inf

    def sample(self) -> bool:
        """Ask again where the last answer is `retry_after` seconds old; return whether it did."""
        now = self._live.clock()
        if self._ask is None or now < self._next_at:
            return False
        self._next_at = now + self._live.retry_after
        answer = self._view.number(self._ask)
        self.ratio = answer if is_margin_ratio(answer) else math.nan
        self.answer = self._view.error or f"{answer:g}"
        return True


def is_margin_ratio(answer: float) -> bool:
    """Return whether a number can be a margin ratio: 0 is nothing needed, 1 is liquidated.

    Examples
    --------
    >>> is_margin_ratio(0.4), is_margin_ratio(40.0), is_margin_ratio(float("nan"))
    (True, False, False)
    """
    return 0.0 <= answer <= _MOST
