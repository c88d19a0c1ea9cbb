"""Which signal counts at which time: bar by bar, and for all bars at once."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np

from bt_risk.feeds.dates import date_numbers
from bt_risk.signals.record import SECOND, Signal

__all__ = ["DAY_SECONDS", "SignalTable", "SignalsAsOf", "known_at", "values_at"]

DAY_SECONDS = 86_400.0
DAY_MILLISECONDS = 86_400_000.0  # Backtrader's numbers of days are no more exact
NONE = (math.nan, math.nan, math.nan, math.nan)


def known_at(signal: Signal, delay: int) -> int:
    """Return when a signal may be acted on, in UTC microseconds since 1970.

    That is `delay` microseconds after it was published, and never before it was received.
    """
    known = signal.published + delay
    return known if signal.received is None else max(known, signal.received)


def values_at(
    score: float, direction: float, conviction: float, age: float, ttl: float
) -> tuple[float, float, float, float]:
    """Return the four lines of a signal of that age, in seconds: NaN once it is older than `ttl`.

    The age itself is never NaN where there has been a signal.
    """
    if age > ttl:
        return math.nan, math.nan, math.nan, age
    return score, direction, conviction, age


class SignalsAsOf:
    """Hand out the signal that counts at one time after the other.

    Of those that are known, the one counts that was published last: one that arrives late never
    replaces a newer one. Of two of one time the later to be known counts, then the later to come.

    Parameters
    ----------
    ttl, delay : float
        Seconds.
    """

    def __init__(self, ttl: float, delay: float) -> None:
        self.ttl, self._delay = ttl, round(delay * SECOND)
        self._pending: list[tuple[float, int, float, Signal]] = []
        self._count = 0
        self._newest: tuple[float, Signal] | None = None
        self.time = -math.inf

    def add(self, signals: Sequence[Signal]) -> None:
        """Add signals, in any order."""
        if not signals:
            return
        known = date_numbers(np.array([known_at(one, self._delay) for one in signals]))
        published = date_numbers(np.array([one.published for one in signals]))
        for at, since, signal in zip(known.tolist(), published.tolist(), signals, strict=True):
            heapq.heappush(self._pending, (at, self._count, since, signal))
            self._count += 1

    def at(self, time: float) -> tuple[float, float, float, float]:
        """Return score, direction, conviction and age at a time, as Backtrader counts days.

        A time before the last one is out of order: it has no signal.
        """
        if not time >= self.time:
            return NONE
        self.time = time
        while self._pending and self._pending[0][0] <= time:
            _, _, since, signal = heapq.heappop(self._pending)
            if self._newest is None or since >= self._newest[0]:
                self._newest = since, signal
        if self._newest is None:
            return NONE
        since, signal = self._newest
        age = round((time - since) * DAY_MILLISECONDS) / 1000.0
        return values_at(signal.score, signal.direction, signal.conviction, age, self.ttl)


class SignalTable:
    """All signals of a file as arrays: what `SignalsAsOf` answers, for many times at once."""

    def __init__(self, signals: Sequence[Signal], ttl: float, delay: float) -> None:
        self.ttl, micros = ttl, round(delay * SECOND)
        known = np.array([known_at(one, micros) for one in signals], dtype=np.int64)
        published = np.array([one.published for one in signals], dtype=np.int64)
        order = np.argsort(known, kind="stable")
        self._known = date_numbers(known[order])
        self._since = date_numbers(published[order])
        rows = [(one.score, one.direction, one.conviction) for one in signals]
        self._values = np.array(rows, dtype=float).reshape(-1, 3)[order]
        # The place of the newest of all signals up to each: a late one does not replace it.
        before = np.r_[-np.inf, np.maximum.accumulate(self._since)[:-1]][: len(order)]
        places = np.where(self._since >= before, np.arange(len(order)), 0)
        self._newest = np.maximum.accumulate(places)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return score, direction, conviction and age at each time, of shape (4, n times)."""
        found = np.full((4, len(times)), np.nan)
        latest = np.maximum.accumulate(np.where(np.isnan(times), -np.inf, times))
        count = np.searchsorted(self._known, times, side="right")
        rows = np.flatnonzero((count > 0) & (times >= latest))
        place = self._newest[count[rows] - 1]
        age = np.rint((times[rows] - self._since[place]) * DAY_MILLISECONDS) / 1000.0
        found[3, rows] = age
        fresh = age <= self.ttl
        found[:3, rows[fresh]] = self._values[place[fresh]].T
        return found
