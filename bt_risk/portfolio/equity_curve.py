"""Equity at every close, and the profit of single instruments and sides."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["ACCOUNT", "EquityCurve"]

# Index of an instrument (None: all of them) and a side (0: both).
Key = tuple[int | None, int]
ACCOUNT: Key = (None, 0)


class EquityCurve:
    """Equity at the closes of a run, and the profit of the keys that are tracked.

    Attributes
    ----------
    times : list of float
        Date numbers of the closes, oldest first.
    equity : list of float
        Equity in currency at each of them.
    series : dict of key to list of float
        For `ACCOUNT` the unit value, for other keys net profit in currency since the start, open
        positions included.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.equity: list[float] = []
        self.series: dict[Key, list[float]] = {}
        self._realised: defaultdict[Key, float] = defaultdict(float)
        self._seen = 0

    def track(self, keys: Iterable[Key]) -> None:
        """Compute the series of these keys from now on."""
        for key in keys:
            self.series.setdefault(key, [])

    def mark(self, book: Book, time: float, unit_value: float, equity: float) -> None:
        """Add a close; it is left out where the value of the account is not a finite number."""
        if not (math.isfinite(unit_value) and math.isfinite(equity)):
            return
        self.times.append(time)
        self.equity.append(equity)
        results: Mapping[Key, float] = {}
        if self.series.keys() - {ACCOUNT}:
            results = self._results(book)
        for key, series in self.series.items():
            value = unit_value if key == ACCOUNT else _total(results, *key)
            # A series that is tracked from now on has had this value before.
            series.extend([value] * (len(self.times) - len(series)))

    def _results(self, book: Book) -> Mapping[Key, float]:
        """Return net profit in currency by ``(index, side)``, of closed and of open trades."""
        for trade in book.trades[self._seen :]:
            self._realised[trade.index, trade.side] += trade.pnl
        self._seen = len(book.trades)
        results = self._realised.copy()
        for part in book.parts.values():
            if part.size:
                one = part.instrument
                gain = part.size * (one.price - part.price) * one.multiplier
                results[one.lead.index, part.side] += part.pnl + gain
        return results

    def marks(self, count: int) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the last `count` closes as ``(number, plain values)``, for the state file."""
        for number in range(max(0, len(self.times) - count), len(self.times)):
            values = {
                f"{'' if index is None else index}/{side}": series[number]
                for (index, side), series in self.series.items()
                if number < len(series)
            }
            yield number, {"time": self.times[number], "equity": self.equity[number]} | values

    def restore(self, marks: Sequence[Mapping[str, float]]) -> None:
        """Continue from saved closes; of their series only those that are tracked are restored."""
        if not self.series:
            return
        for mark in marks:
            self.times.append(mark["time"])
            self.equity.append(mark["equity"])
        for (index, side), series in self.series.items():
            key = f"{'' if index is None else index}/{side}"
            series += [mark[key] for mark in marks if key in mark]

    def day_begin(self, place: int, instrument: Instrument) -> int:
        """Return the place of the first close on the day of the close at `place`."""
        begin = instrument.day_begin(self.times[place])
        return bisect_left(self.times, begin, hi=place + 1)

    def loss(self, key: Key, begin: int, first: int, end: int) -> float:
        """Return the largest loss among the closes ``first:end`` of a day that began at `begin`.

        It is a fraction of the equity at the close before the day, negative for a gain.
        """
        series, before = self.series[key], max(begin - 1, 0)
        lost = series[before] - min(series[first:end])
        base = series[before] if key == ACCOUNT else self.equity[before]
        return lost / base if base > 0 else math.inf


def _total(results: Mapping[Key, float], index: int | None, side: int) -> float:
    return sum(
        [
            result
            for (one, its_side), result in results.items()
            if index in (None, one) and side in (0, its_side)
        ]
    )
