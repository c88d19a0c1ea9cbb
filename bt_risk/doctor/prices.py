"""Prices: the bars that a data feed brings, and what they show of its tick and its interval."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import backtrader as bt

from bt_risk.portfolio.contract_facts import tick_of

__all__ = ["Prices"]

_SECONDS = {
    bt.TimeFrame.Seconds: 1.0,
    bt.TimeFrame.Minutes: 60.0,
    bt.TimeFrame.Days: 86_400.0,
    bt.TimeFrame.Weeks: 604_800.0,
}
_EPOCH = 719_163.0  # 1970 in Backtrader's days
# Prices as whole numbers of this, and the fraction of a price below which a step is no tick.
_FINEST, _NO_TICK = 1e-8, 1e-7
# So many prices are needed to infer a tick, and so many are looked at.
_ENOUGH, _MOST = 40, 400
# A stop rests this fraction away from the market.
FAR = 0.05


class Prices:
    """Record the bars of one data feed.

    Attributes
    ----------
    arrivals : list of float
        When each bar came, in seconds of the monotonic clock.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.arrivals: list[float] = []
        self._seen: list[float] = []
        self._ranges: list[float] = []
        self._times: list[float] = []

    def bar(self) -> None:
        """Record the bar that has come; another data feed may have come with an old one."""
        if len(self.data) == len(self.arrivals):
            return
        self.arrivals.extend([time.monotonic()] * (len(self.data) - len(self.arrivals)))
        bar = [line[0] for line in (self.data.open, self.data.high, self.data.low, self.data.close)]
        self._seen = [*self._seen, *(price for price in bar if math.isfinite(price))][-_MOST:]
        self._times = [*self._times, self.stamped()][-20:]
        self._ranges = [*self._ranges, bar[1] - bar[2]][-20:]

    @property
    def last(self) -> float:
        """Return the last close, NaN before the first bar."""
        return float(self.data.close[0]) if self.data is not None and len(self.data) else math.nan

    @property
    def tick(self) -> float:
        """Return the tick that the data feed reports, or the prices show; 0 for none."""
        return tick_of(self.data) or self.inferred_tick()

    def inferred_tick(self) -> float:
        """Return the largest step that all prices are whole numbers of; 0 where there is none."""
        if len(self._seen) < _ENOUGH:
            return 0.0
        step = math.gcd(*(round(price / _FINEST) for price in self._seen)) * _FINEST
        return round(step, 8) if _NO_TICK * self.last < step < 0.1 * self.last else 0.0

    def rounded(self, price: float) -> float:
        """Return a price in whole ticks; with six digits where the tick is not known."""
        tick = self.tick
        return round(round(price / tick) * tick, 8) if tick else float(f"{price:.6g}")

    def away(self, fraction: float) -> float:
        """Return a price that far from the market: below it where the fraction is negative."""
        return self.rounded(self.last * (1.0 + fraction))

    def near(self) -> float:
        """Return a price that the market may soon fall to."""
        ranges = [one for one in self._ranges if one > 0.0]
        typical = sum(ranges) / len(ranges) if ranges else 0.001 * self.last
        price = self.rounded(self.last - 0.2 * typical)
        return price if price < self.last else self.rounded(self.last - (self.tick or typical))

    def declared(self) -> float:
        """Return the seconds of a bar by the time frame of the data feed, NaN where it has none."""
        seconds = _SECONDS.get(self.data._timeframe, math.nan)
        return float(seconds * self.data._compression)

    def interval(self) -> float:
        """Return the seconds between two bars by their own times, else by the time frame."""
        gaps = [b - a for a, b in zip(self._times, self._times[1:], strict=False) if b > a]
        return round(statistics.median(gaps), 3) if len(gaps) > 1 else self.declared()

    def longest_gap(self) -> float:
        """Return the longest time between two bars that came after the history."""
        gaps = [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]
        return max([gap for gap in gaps if gap > 0.01], default=math.nan)

    def age(self) -> float:
        """Return for how many seconds the last bar has been over, by its own time in UTC."""
        return time.time() - self.stamped()

    def stamped(self) -> float:
        """Return the time of the last bar in seconds since 1970."""
        return (float(self.data.datetime[0]) - _EPOCH) * _SECONDS[bt.TimeFrame.Days]
