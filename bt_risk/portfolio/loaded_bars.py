"""LoadedBars: what an `Instrument` would know after each bar of a data feed, computed at once.

A backtest holds all bars before the first one closes. The operations are those of `Instrument`, in
the same sequence, so every number is equal to the last bit; bars that it would question are shown
to one, and the others are taken in by columns.
"""

from __future__ import annotations

import copy
import math
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from bt_risk.portfolio.contract_facts import tick_of
from bt_risk.portfolio.instrument import Instrument
from bt_risk.rules.frames import BoolArray, FloatArray
from bt_risk.rules.trailing_stop import WilderATR, true_range

__all__ = ["LoadedBars", "OddBar", "loaded_bars", "wilder_values"]

# Bars that are taken in together; a bar that is questioned makes the next steps short.
_LONGEST, _SHORTEST = 1024, 16
# With more bars to question than this part of all it is quicker to go bar by bar.
_MOST_ODD = 0.05
_LINES = ("open", "high", "low", "close")


class OddBar(NamedTuple):
    """Hold what an instrument knows after a bar that it does not believe as it is."""

    price: float
    closed: float
    top: float
    bottom: float
    suspect: str
    suspect_bars: int


@dataclass
class LoadedBars:
    """Hold all bars of a data feed.

    Attributes
    ----------
    count : int
    atrs : dict of int to array of float
        By period, the ATR after each bar that is part of it, as far as it is known.
    odd : dict of int to OddBar
        By the number of bars up to it.
    breaks, offsets : list of int
        From so many bars on, how many more of them are part of the ATR than there are bars.
    """

    count: int
    atrs: dict[int, array[float]]
    odd: dict[int, OddBar]
    breaks: list[int]
    offsets: list[int]

    def known(self, length: int, period: int) -> int:
        """Return how many values of an ATR there are after so many bars."""
        if self.breaks:
            place = bisect_right(self.breaks, length)
            length += self.offsets[place - 1] if place else 0
        return max(0, length - period)


def loaded_bars(instrument: Instrument) -> LoadedBars | None:
    """Return the bars of an instrument that has met none yet, None where they cannot be read.

    Its lines must hold all of them.
    """
    lines = [getattr(instrument, name) for name in (*_LINES, "datetime")]
    if not (instrument.priced and all(map(_holds_all, lines))):
        return None
    count: int = instrument.data.buflen()
    # Views of the lines themselves: nothing may hold them once a line can grow again.
    *bars, times = (np.frombuffer(line.array, count=count) for line in lines)
    readable = count and np.isfinite(times).all() and _readable(instrument, bars)
    scan = _Scan(instrument, bars) if readable else None
    if scan is None or np.count_nonzero(~scan.sound) > 1 + _MOST_ODD * count:
        return None
    scan.run()
    atrs = {period: atr.values for period, atr in scan.atrs.items()}
    return LoadedBars(count, atrs, scan.odd, scan.breaks, scan.offsets)


def _holds_all(line: Any) -> bool:
    """Return whether a line holds every bar, in the sequence of its index."""
    plain = type(getattr(line, "array", None)) is array and line.array.typecode == "d"
    unbounded = plain and getattr(line, "mode", 0) == getattr(line, "UnBounded", 0)
    return unbounded and line._idx == line.lencount - 1


def _readable(instrument: Instrument, bars: list[FloatArray]) -> bool:
    """Return whether nothing that may change in the run decides what is believed."""
    opened, high, low, close = bars
    if any(np.isinf(column).any() for column in bars) or (close <= 0.0).any():
        return False
    if np.isnan((high + low)[~np.isnan(close)]).any():
        return False
    return bool(instrument.tick or not tick_of(instrument.data))


def wilder_values(wilder: WilderATR, ranges: list[float], close: float) -> list[float]:
    """Take the true ranges of several bars into an ATR; return what is known of it after them.

    `close` is that of the last bar. A value that is not known yet is left out.
    """
    value, _, count, total = wilder.persist()
    period, values = wilder.atr_period, list[float]()
    seed, rest = ranges[: int(period - count)], ranges[int(period - count) :]
    for one in seed:
        total += one
    count += len(seed)
    if seed and count == period:
        value = total / period
        values.append(value)
    if rest:
        smoothed = accumulate(rest, lambda v, one: (v * (period - 1) + one) / period, initial=value)
        values += list(smoothed)[1:]
        value = values[-1]
    wilder.restore([value, close, count, total])
    return values


class _Values:
    """Keep an ATR and all values that it has had; `count` bars are part of it."""

    def __init__(self, period: int) -> None:
        self.wilder, self.values, self.count = WilderATR(period), array("d"), 0

    def update(self, high: float, low: float, close: float) -> None:
        """Take one bar in."""
        value = self.wilder.update(high, low, close)
        self.count += 1
        if value == value:
            self.values.append(value)

    def extend(self, ranges: list[float], close: float) -> None:
        """Take several bars in."""
        self.values.extend(wilder_values(self.wilder, ranges, close))
        self.count += len(ranges)


class _Pointer:
    """Stand for a line whose current bar is set by the caller."""

    def __init__(self, line: Any) -> None:
        self.array, self._idx, self.lencount = line.array, -1, 0

    def move(self, length: int) -> None:
        """Make a bar the present one, by the number of bars up to it."""
        self._idx, self.lencount = length - 1, length


class Replay:
    """Read the bars of another instrument, one after the other, as one of its own would."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = one = copy.copy(instrument)
        self._lines = [_Pointer(getattr(instrument, name)) for name in (*_LINES, "datetime")]
        one.open, one.high, one.low, one.close, one.datetime = self._lines

    def show(self, length: int) -> None:
        """Let the instrument process a bar, by the number of bars up to it."""
        for line in self._lines:
            line.move(length)
        self.instrument.advance()


class _Scan(Replay):
    """Take an instrument through all of its bars."""

    def __init__(self, instrument: Instrument, bars: list[FloatArray]) -> None:
        super().__init__(instrument)
        self.atrs = {period: _Values(period) for period in instrument.atr_periods}
        self.odd: dict[int, OddBar] = {}
        self.breaks: list[int] = []
        self.offsets: list[int] = []
        self._bars = opened, high, low, close = bars
        sound = (low <= close) & (close <= high) & (low <= opened) & (opened <= high)
        self.sound: BoolArray = sound
        self._moves = np.full(len(close), np.nan)
        np.subtract(close[1:], close[:-1], out=self._moves[1:])
        self._ranges = np.full(len(close), np.nan)
        np.maximum(high[1:], close[:-1], out=self._ranges[1:])
        self._ranges[1:] -= np.minimum(low[1:], close[:-1])

    def run(self) -> None:
        """Take all bars in."""
        self.instrument.compute(self.atrs)
        k, length, count = 0, _SHORTEST, len(self.sound)
        while k < count:
            end = min(k + length, count)
            k += self._take(k, end)
            length = min(2 * length, _LONGEST)
            if k < end:
                self._question(k)
                k, length = k + 1, _SHORTEST

    def _take(self, begin: int, end: int) -> int:
        """Take in the bars that are believed at once; return their number."""
        one, (_, high, low, close) = self.instrument, self._bars
        count = _leading(self.sound[begin:end])
        if one.suspect or one.price != one.price or not count:
            return 0
        first = next(iter(self.atrs.values())).wilder
        previous = first.persist()[1]
        ranges = self._ranges[begin : begin + count].tolist()
        ranges[0] = true_range(float(high[begin]), float(low[begin]), previous)
        count = self._believed(begin, copy.copy(first), ranges)
        if not count:
            return 0
        last = begin + count - 1
        for atr in self.atrs.values():
            atr.extend(ranges[:count], float(close[last]))
        one.closed = one.price = float(close[last])
        one.top, one.bottom = float(high[last]), float(low[last])
        one.expect_moves()
        return count

    def _believed(self, begin: int, wilder: WilderATR, ranges: list[float]) -> int:
        """Return how many of these bars in a row are no jump."""
        one, count = self.instrument, len(ranges)
        moved = self._moves[begin : begin + count].copy()
        moved[0] = self._bars[3][begin] - one.price
        known = wilder_values(wilder, ranges, math.nan)
        atrs = np.array([math.nan] * (count - len(known)) + known)[:-1]
        with np.errstate(invalid="ignore"):  # infinity x 0: such a bar is questioned
            jumps = np.where(np.isnan(atrs), math.inf, one.bar_jump * atrs)
        jumps = np.concatenate(([one.jump], jumps))
        return _leading((-jumps <= moved) & (moved <= jumps))

    def _question(self, k: int) -> None:
        """Show one bar to the instrument, and note what it makes of it."""
        one, length = self.instrument, k + 1
        self.show(length)
        _, high, low, close = (float(column[k]) for column in self._bars)
        now = OddBar(one.price, one.closed, one.top, one.bottom, one.suspect, one.suspect_bars)
        if now != (close, close, high, low, "", 0):
            self.odd[length] = now
        offset = next(iter(self.atrs.values())).count - length
        if offset != (self.offsets[-1] if self.offsets else 0):
            self.breaks.append(length)
            self.offsets.append(offset)


def _leading(flags: BoolArray) -> int:
    """Return how many flags are set before the first that is not."""
    return len(flags) if flags.all() else int(np.argmin(flags))
