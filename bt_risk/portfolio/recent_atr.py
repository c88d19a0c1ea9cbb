"""RecentATR: the ATR of one instrument, and what it was lately."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from bt_risk.rules.trailing_stop import WilderATR

__all__ = ["ATR_MEDIAN_BARS", "RecentATR"]

ATR_MEDIAN_BARS = 100


class RecentATR:
    """A Wilder ATR with its last values, whose median is the floor of a sizer's ATR."""

    __slots__ = ("count", "recent", "wilder")

    def __init__(self, period: int) -> None:
        self.wilder = WilderATR(period)
        self.recent: list[float] = []
        self.count = 0

    def update(self, high: float, low: float, close: float) -> None:
        """Process a closed bar."""
        value = self.wilder.update(high, low, close)
        if value != value:
            return
        if self.count < ATR_MEDIAN_BARS:
            self.recent.append(value)
        else:
            self.recent[self.count % ATR_MEDIAN_BARS] = value
        self.count += 1

    def floored(self, atr_floor: float) -> float:
        """Return the ATR, or `atr_floor` times its median where that is more; NaN without one."""
        if not self.recent:
            return math.nan
        value: float = self.wilder.value
        return max(value, atr_floor * median(self.recent))

    def persist(self) -> dict[str, Any]:
        """Return its state as plain values."""
        return {"wilder": self.wilder.persist(), "recent": self.recent, "count": self.count}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.wilder.restore(saved["wilder"])
        self.recent, self.count = list(saved["recent"]), saved["count"]
