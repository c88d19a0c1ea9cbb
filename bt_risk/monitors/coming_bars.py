"""ComingBars: until which bar a quiet account stays quiet, if nothing but prices moves it.

A backtest by preloaded bars holds all of them. What is read ahead says only how long nobody has to
look; what a monitor decides, it decides on its bar, by the bars up to that one.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from typing import Any

import numpy as np

from bt_risk.monitors.base import LaterDays, Quiet, Sample
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.loaded_instrument import LoadedInstrument
from bt_risk.rules.frames import FloatArray

__all__ = ["ComingBars"]

_INF = math.inf
# So many bars are computed after a change of what is held, and then four times as many each time.
_FEWEST, _MOST = 512, 4096
# NumPy compares more bars than these quicker than Python does.
_FEW = 64
_NONE = array("d")


class ComingBars:
    """Hold the closes of the next bars of the only data feed, and the account value at them.

    Bars are numbered by the length of the data feed on them. The operations on their prices are
    those of BackBroker and of `Rounds`, so that every number is equal to the last bit.

    Attributes
    ----------
    expected : array of float
        The account value on each of the bars that are quiet, and NaN after them.
    """

    def __init__(self, book: Book, broker: Any, instrument: LoadedInstrument) -> None:
        self._book, self._broker, self.instrument = book, broker, instrument
        self.expected = _NONE
        times = np.array(instrument.datetime.array)
        self._in_sequence = bool((times[1:] >= times[:-1]).all())
        # The bars from `_begin` up to `_end`, which is not part of them, are known.
        self._begin = self._end = self._first = 0
        self._changes, self._count = -1, _FEWEST
        self._days = dict[float, int]()
        self._held = list[tuple[float, float, float]]()
        self._closes: FloatArray = np.empty(0)
        self._values = self._prices = _NONE
        self._worst: array[float] | None = None
        self._balances: array[float] | None = None

    @classmethod
    def of(cls, book: Book, broker: Any) -> ComingBars | None:
        """Return the bars of a run with one data feed that holds them all; None for any other."""
        one = book.instruments[0]
        if len(book.instruments) > 1 or not isinstance(one, LoadedInstrument):
            return None
        coming = cls(book, broker, one)
        return coming if coming._in_sequence else None

    def foresee(
        self,
        first: int,
        value: float,
        quiet: Quiet,
        high: float,
        bars: float,
        later: LaterDays | None,
    ) -> bool:
        """Find which bars from the one with number `first` on are quiet.

        Parameters
        ----------
        first : int
        value : float
            What the account was worth on the bar before.
        quiet : Quiet
        high : float
            What no account value may reach.
        bars : float
            The bar that comes so many after that one is not quiet.
        later : LaterDays or None
            What is quiet from the end of the day on; None: nothing.

        Returns
        -------
        bool
            Whether anything is known of the first of them.
        """
        if not self._reach(first, value):
            return False
        begin, last = first - self._begin, self._end - self._begin
        if bars < _INF:
            last = min(last, max(begin, begin + math.ceil(bars) - 1))
        if quiet.trail < _INF:
            last = self._first_fallen(begin, last, quiet.trail)
        end = day_end = min(last, max(begin, self._place_at(quiet.until)))
        end = _first_outside(self._values, quiet.low, high, begin, end)
        if quiet.worst:
            end = _first_outside(self._find_worst(), quiet.low, _INF, begin, end)
        if quiet.balance < _INF:
            most = math.nextafter(quiet.balance, _INF)
            end = _first_outside(self._find_balances(), -_INF, most, begin, end)
        for watch in quiet.watched:
            end = _first_outside(self._prices, watch.low, watch.high, begin, end)
        if later is not None and end == day_end < last:
            before = value if end == begin else self._values[end - 1]
            end += self._later_bars(slice(end, last), before, quiet, later)
        self.expected = self._values[begin:end]
        self.expected.append(math.nan)
        self._first = begin
        return True

    def _place_at(self, time: float) -> int:
        """Return the place of the first bar at a time or after it."""
        if time == _INF:
            return self._end
        times, begin, end = self.instrument.datetime.array, self._begin - 1, self._end - 1
        return bisect_left(times, time, begin, end) - begin

    def _first_fallen(self, begin: int, end: int, trail: float) -> int:
        """Return the first place whose value is `trail` below a highest one; `end` for none."""
        values = np.frombuffer(self._values)[begin:end]
        fallen = np.maximum.accumulate(values) - values >= trail
        return begin + int(fallen.argmax()) if fallen.any() else end

    def _later_bars(self, place: slice, before: float, quiet: Quiet, later: LaterDays) -> int:
        """Return how many bars of later days are quiet; the account was worth `before` the first.

        Which bars begin a day does not matter: no close is far from any that may have done so.
        """
        values = np.frombuffer(self._values)[place]
        closes = np.concatenate(([before], values[:-1]))
        worst = np.frombuffer(self._find_worst())[place] if quiet.worst else values
        inside = (later.low < worst) & (values < later.high)
        closes_of_day = 0 if later.fall == later.rise == _INF else self._of_a_day(later.longest)
        if later.fall < _INF:
            inside &= _of_the_last(closes_of_day, closes, np.maximum) - worst < later.fall
        if later.rise < _INF:
            inside &= values - _of_the_last(closes_of_day, closes, np.minimum) < later.rise
        if later.balance < _INF:
            inside &= np.frombuffer(self._find_balances())[place] <= later.balance
        for watch in later.watched:
            inside &= (watch.low < self._closes[place]) & (self._closes[place] < watch.high)
        return len(inside) if inside.all() else int(inside.argmin())

    def _of_a_day(self, longest: float) -> int:
        """Return how many closes before a bar may be the one that its day is measured from.

        It is the last one before a day, which is not longer than so many days.
        """
        if longest not in self._days:
            times = np.array(self.instrument.datetime.array)
            first = np.searchsorted(times, times - longest)
            self._days[longest] = int((np.arange(len(times)) - first).max()) + 1
        return self._days[longest]

    def time_of(self, count: int) -> float:
        """Return the time of the last of the first `count` bars that were found quiet."""
        return self.instrument.datetime.array[self._begin + self._first + count - 2]

    def first_from(self, time: float, count: int) -> tuple[int, float]:
        """Return how many of the first `count` bars come before a time, and when the next one is.

        Where all of them do, the next one is at no time.
        """
        times, begin = self.instrument.datetime.array, self._begin + self._first - 1
        place = bisect_left(times, time, begin, begin + count) - begin
        return place, times[begin + place] if place < count else math.nan

    def new_highs(self, count: int, least: float) -> list[tuple[float, float]]:
        """Return the new highest values of the first `count` bars, from `least` on, with times."""
        values = np.frombuffer(self._values)[self._first : self._first + count]
        before = np.maximum.accumulate(np.concatenate(([math.nextafter(least, -_INF)], values)))
        times, begin = self.instrument.datetime.array, self._begin + self._first - 1
        places = (values > before[:-1]).nonzero()[0].tolist()
        return [(float(values[place]), times[begin + place]) for place in places]

    def stand_after(self, count: int, quiet: Quiet, sample: Sample) -> None:
        """Let a sample and the watched prices be those of the last of the first `count` bars."""
        if not count:
            return
        place = self._first + count - 1
        sample.value = self._values[place]
        if quiet.profit:
            price, sample.profit = self._prices[place], 0.0
            for size, entry, multiplier in self._held:
                sample.profit += size * (price - entry) * multiplier
        for watch in quiet.watched:
            watch.last = self._prices[place]

    def catch_up(self, begin: int, end: int, quiet: Quiet, sample: Sample) -> None:
        """Let a sample and the watched prices have some of the bars that were found quiet.

        They are counted from the first of these, and `end` is not part of them.
        """
        self.stand_after(end, quiet, sample)
        begin, end = self._first + begin, self._first + end
        for watch in quiet.watched:
            prices = self._prices[begin:end]
            watch.lowest = min(watch.lowest, min(prices))
            watch.highest = max(watch.highest, max(prices))
        if quiet.extremes:
            values = self._values[begin:end]
            low = min(values)
            sample.extend(low, min(self._find_worst()[begin:end]) if quiet.worst else low)
            sample.extend(max(values), _INF)

    # -- what is computed ------------------------------------------------------------------------

    def _reach(self, first: int, value: float) -> bool:
        """Compute the bars from the one with number `first` on, where they are not known yet."""
        same, known = self._book.changes == self._changes, self._begin < first < self._end
        if same and known and self._values[first - 1 - self._begin] == value:
            return True
        self._count = min(4 * self._count, _MOST) if same else _FEWEST
        self._changes = self._book.changes
        self._begin = self._end = 0
        one, parts = self.instrument, self._book.parts.values()
        self._held = [(p.size, p.price, p.instrument.multiplier) for p in parts if p.size]
        if not one.loaded or (self._held and (one.scheme is None or one.rate is not None)):
            return False  # a point is not worth the same on every bar
        end = one.sound_until(first, self._count)
        if end == first or not self._compute(first, end, value):
            return False  # more than prices has moved the account
        self._begin, self._end = first, end
        self._worst = self._balances = None
        return True

    def _compute(self, first: int, end: int, value: float) -> bool:
        """Find what BackBroker would value stocks at; return whether it has on the last bar."""
        broker, data = self._broker, self.instrument.data
        position, scheme = broker.positions.get(data), broker.getcommissioninfo(data)
        size = 0.0 if position is None else position.size
        prices = self.instrument.closes(first - 2, end - first + 1)
        closes = np.frombuffer(prices)
        self._closes, self._prices = closes[1:], prices[1:]
        if not size:
            self._values = array("d", [value]) * (end - first)
            return bool(value == broker.cash)
        mult = getattr(getattr(scheme, "p", None), "mult", None)
        if mult is None or (size < 0 and not broker.p.shortcash):
            return False
        worth = size * closes
        if size > 0:
            gain = size * (closes - position.price) * mult
            worth = (worth - gain) / scheme.get_leverage() + gain
        worth += broker.cash
        self._values = _as_array(worth[1:])
        return bool(worth[0] == value)

    def _find_worst(self) -> array[float]:
        """Return the lowest account value inside each bar."""
        if self._worst is None:
            one, place = self.instrument, slice(self._begin - 1, self._end - 1)
            worst = np.array(np.frombuffer(self._values))
            for size, _, multiplier in self._held:
                extremes = np.frombuffer((one.low if size > 0.0 else one.high).array[place])
                worst += np.minimum(size * (extremes - self._closes) * multiplier, 0.0)
            self._worst = _as_array(worst)
        return self._worst

    def _find_balances(self) -> array[float]:
        """Return the account value at each close without the profit of open positions."""
        if self._balances is None:
            values = np.frombuffer(self._values)
            profit = np.zeros(len(values))
            for size, entry, multiplier in self._held:
                profit += size * (self._closes - entry) * multiplier
            self._balances = _as_array(values - profit)
        return self._balances


def _of_the_last(count: int, values: FloatArray, extreme: np.ufunc) -> FloatArray:
    """Return the extreme of each value and of those before it, `count` in all.

    Each step extends what is known by as many values as it has, so that few steps are enough.
    """
    found, known = values.copy(), 1
    while known < min(count, len(values)):
        step = min(known, count - known)
        found[step:] = extreme(found[step:], found[:-step])
        known += step
    return found


def _as_array(values: FloatArray) -> array[float]:
    """Return the same numbers; one of them is read in half the time."""
    return array("d", values.tobytes())


def _first_outside(values: array[float], low: float, high: float, begin: int, end: int) -> int:
    """Return the first place from `begin` on whose value is not between two, `end` for none."""
    if end - begin > _FEW:
        column = np.frombuffer(values)[begin:end]
        outside = ~((low < column) & (column < high))
        return begin + int(outside.argmax()) if outside.any() else end
    part = values[begin:end]
    if not part or (low < min(part) and max(part) < high):
        return end
    return next(begin + k for k, value in enumerate(part) if not low < value < high)
