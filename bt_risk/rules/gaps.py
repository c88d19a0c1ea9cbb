"""The gaps of one market: what a close may lose until the next open, where no stop can fill.

Nothing here knows Backtrader: bars come in one by one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

__all__ = ["GapWindow"]

# Share of the bars of an ATR from which on those without a range make it say nothing.
_STALE = 0.5


class GapWindow:
    """Collect the gaps of the last bars, and those bars that have no range.

    Parameters
    ----------
    window : int
        Gaps that count.
    atr_period : int
        Bars in which those without a range are counted.

    Examples
    --------
    >>> window = GapWindow(252, 14)
    >>> for bar in [(100, 101, 99, 100), (96, 98, 95, 97), (97, 98, 96, 97.5)]:
    ...     window.update(*map(float, bar))
    >>> window.count, window.worst(), window.worst(relative=True)
    (2, 4.0, 0.04)
    """

    def __init__(self, window: int, atr_period: int) -> None:
        self.window = window
        self._points: deque[float] = deque(maxlen=window)
        self._shares: deque[float] = deque(maxlen=window)
        self._still: deque[bool] = deque(maxlen=atr_period)
        self._before = math.nan

    @property
    def memory(self) -> int:
        """Return how many bars decide everything that it knows."""
        return 1 + max(self.window, self._still.maxlen or 0)

    @property
    def count(self) -> int:
        """Return how many gaps are known."""
        return len(self._points)

    def update(self, opened: float, high: float, low: float, close: float) -> None:
        """Add a bar; the close counts as its open where that is NaN."""
        before = self._before
        if before == before:
            gap = abs((close if opened != opened else opened) - before)
            self._points.append(gap)
            self._shares.append(gap / abs(before) if before else math.inf)
            self._still.append(max(high, before) <= min(low, before))
        self._before = close

    def skip(self) -> None:
        """Measure no gap to the next bar: bars are missing before it."""
        self._before = math.nan

    def worst(self, relative: bool = False) -> float:
        """Return the largest gap in points, or as a fraction of the close before it; 0 for none.

        Up and down count alike: the window of a fall says what a rise may be.
        """
        return max(self._shares if relative else self._points, default=0.0)

    def still(self) -> tuple[int, int]:
        """Return how many of the last bars have no range, and of how many."""
        return sum(self._still), len(self._still)

    @property
    def stale(self) -> bool:
        """Return whether so many of the last bars have no range that their ATR says nothing."""
        still, bars = self.still()
        return still > 0 and still >= _STALE * bars

    def persist(self) -> dict[str, Any]:
        """Return plain values for a state file."""
        return {
            "points": list(self._points),
            "shares": list(self._shares),
            "still": list(self._still),
            "before": self._before,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from saved values."""
        for own, name in (
            (self._points, "points"),
            (self._shares, "shares"),
            (self._still, "still"),
        ):
            own.clear()
            own.extend(saved[name])
        self._before = saved["before"]
