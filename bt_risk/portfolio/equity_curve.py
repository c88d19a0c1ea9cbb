"""What the account earned at every close, open positions included, and what single names did."""

import math
from bisect import bisect_left
from collections import Counter

__all__ = ["ACCOUNT", "EquityCurve"]

# Key of the account; others are the index of an instrument (None: of all) and a side (0: of both).
ACCOUNT = (None, 0)


class EquityCurve:
    """Equity at the closes of a run, and the results of those names and sides that are watched.

    Attributes
    ----------
    times : list of float
        Date numbers of the closes, oldest first.
    series : dict of key to list of float
        Of `ACCOUNT` the unit value, of other keys net profit in currency since the start.
    """

    def __init__(self):
        self.times, self.equity = [], []
        self.series = {}
        self._realised, self._seen = Counter(), 0

    def track(self, keys):
        """Keep the series of these keys from now on."""
        for key in keys:
            self.series.setdefault(key, [])

    def mark(self, book, time, unit_value, equity):
        """Take in a close; an account whose value is not a number says nothing."""
        if not (math.isfinite(unit_value) and math.isfinite(equity)):
            return
        self.times.append(time)
        self.equity.append(equity)
        results = self._results(book) if self.series.keys() - {ACCOUNT} else {}
        for key, series in self.series.items():
            value = unit_value if key == ACCOUNT else _total(results, *key)
            # A series that is watched from now on has stood where it is.
            series.extend([value] * (len(self.times) - len(series)))

    def _results(self, book):
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

    def marks(self, count):
        """Yield the last closes as ``(number, plain values)``, for the next run."""
        for number in range(max(0, len(self.times) - count), len(self.times)):
            values = {
                f"{'' if index is None else index}/{side}": series[number]
                for (index, side), series in self.series.items()
                if number < len(series)
            }
            yield number, {"time": self.times[number], "equity": self.equity[number]} | values

    def restore(self, marks):
        """Go on from the closes that an earlier run has kept, those of the series watched here."""
        if not self.series:
            return
        for mark in marks:
            self.times.append(mark["time"])
            self.equity.append(mark["equity"])
        for (index, side), series in self.series.items():
            key = f"{'' if index is None else index}/{side}"
            series += [mark[key] for mark in marks if key in mark]

    def day_begin(self, place, instrument):
        """Return the place of the first close on the day of the close at `place`."""
        begin = instrument.day_begin(self.times[place])
        return bisect_left(self.times, begin, hi=place + 1)

    def loss(self, key, begin, first, end):
        """Return the largest loss among the closes ``first:end`` of a day that began at `begin`.

        It is a fraction of what was there at the close before, and negative for a gain.
        """
        series, before = self.series[key], max(begin - 1, 0)
        lost = series[before] - min(series[first:end])
        base = series[before] if key == ACCOUNT else self.equity[before]
        return lost / base if base > 0 else math.inf


def _total(results, index, side):
    return sum(
        [
            result
            for (one, its_side), result in results.items()
            if index in (None, one) and side in (0, its_side)
        ]
    )
