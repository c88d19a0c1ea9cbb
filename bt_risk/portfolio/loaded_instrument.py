"""LoadedInstrument: an instrument whose bars are all loaded, so that a bar costs nothing.

In a backtest the lines of a data feed hold every bar before the first one closes. What `Instrument`
computes on each bar is read out of them here, and only when somebody asks: nothing after the bar
that has closed last is ever read.
"""

from __future__ import annotations

import copy
import math
from array import array
from bisect import bisect_left
from statistics import median
from typing import Any

from bt_risk.portfolio.instrument import ATR_MEDIAN_BARS, Instrument
from bt_risk.portfolio.loaded_bars import LoadedBars, Replay, loaded_bars
from bt_risk.rules.gaps import GapWindow

__all__ = ["LoadedInstrument", "load"]

# What `Instrument` changes on a bar, beside `length` and `round`.
_STATE = (
    *("price", "closed", "top", "bottom", "time", "longest_gap", "shortest_gap"),
    *("suspect", "suspect_bars"),
    *("_held_back", "_jump", "_atrs", "_first", "_updates"),
)


def load(instrument: Instrument) -> bool:
    """Make an instrument without a bar so far a `LoadedInstrument`, if its bars can be read.

    Return whether it is one now.
    """
    new = type(instrument) is Instrument and not instrument.length
    if not new or instrument.forming or instrument.repeats or not instrument.atr_periods:
        return False
    bars = loaded_bars(instrument)
    if bars is None:
        return False
    unread = copy.copy(instrument)
    instrument.__class__ = LoadedInstrument
    assert isinstance(instrument, LoadedInstrument)
    instrument.hold(bars, unread)
    return True


class LoadedInstrument(Instrument):
    """Read the bars of an `Instrument` where they are; `load` makes one of these."""

    loaded = True

    def hold(self, bars: LoadedBars, unread: Instrument) -> None:
        """Begin with all bars; `unread` is the same instrument before it has met any."""
        self._bars, self._unread, self._odd = bars, unread, bars.odd
        self._odd_lengths = sorted(bars.odd)
        self._closes, self._tops = self.close.array, self.high.array
        self._bottoms, self._times = self.low.array, self.datetime.array
        self._gap, self._gap_until = 0.0, 1
        self._least, self._least_until = unread.shortest_gap, 1
        self._gaps, self._gaps_until = unread.gaps, 0

    # -- what `Instrument` stores ----------------------------------------------------------------

    @property
    def closed(self) -> float:  # type: ignore[override]
        """Return the close of the last bar, maybe NaN."""
        length = self.length
        if self._odd and length in self._odd:
            return self._odd[length].closed
        return self._closes[length - 1] if length else math.nan

    @property
    def top(self) -> float:  # type: ignore[override]
        """Return the high of the last bar with a valid close."""
        length = self.length
        if self._odd and length in self._odd:
            return self._odd[length].top
        return self._tops[length - 1] if length else math.nan

    @property
    def bottom(self) -> float:  # type: ignore[override]
        """Return the low of the last bar with a valid close."""
        length = self.length
        if self._odd and length in self._odd:
            return self._odd[length].bottom
        return self._bottoms[length - 1] if length else math.nan

    @property
    def time(self) -> float:  # type: ignore[override]
        """Return the time of the last bar, a date number."""
        return self._times[self.length - 1] if self.length else math.nan

    @property
    def longest_gap(self) -> float:  # type: ignore[override]
        """Return the longest time between two bars so far, in days."""
        times, gap = self._times, self._gap
        for k in range(self._gap_until, self.length):
            gap = max(gap, times[k] - times[k - 1])
        self._gap, self._gap_until = gap, max(self._gap_until, self.length)
        return gap

    @property
    def shortest_gap(self) -> float:  # type: ignore[override]
        """Return the shortest time between two bars so far, in days."""
        times, least = self._times, self._least
        for k in range(self._least_until, self.length):
            gap = times[k] - times[k - 1]
            if 0.0 < gap < least:
                least = gap
        self._least, self._least_until = least, max(self._least_until, self.length)
        return least

    @property
    def gaps(self) -> GapWindow | None:
        """Return the gaps between its bars up to the last one."""
        if self._gaps is not None and self._gaps_until < self.length:
            self._add_gaps(self._gaps)
            self._gaps_until = self.length
        return self._gaps

    @gaps.setter
    def gaps(self, gaps: GapWindow | None) -> None:
        self._gaps, self._gaps_until = gaps, self.length

    def _add_gaps(self, gaps: GapWindow) -> None:
        """Add the bars that nobody has asked for; a bar that is not believed yet is left out."""
        begin, length, opens = self._gaps_until, self.length, self.open.array
        if not self._odd and length - gaps.memory > begin:
            begin = length - gaps.memory  # the gaps before are forgotten by now
            gaps.skip()
        for k in range(begin, length):
            top, bottom, close = self._tops[k], self._bottoms[k], self._closes[k]
            odd = self._odd.get(k + 1)
            if odd is not None:
                _, close, top, bottom, *_ = odd
                if close != close:
                    continue
            gaps.update(opens[k], top, bottom, close)

    def sound_until(self, first: int, count: int) -> int:
        """Return before which bar all from `first` on are believed as they are, at most so many.

        Bars are numbered by the length of the data feed on them.
        """
        end, place = min(first + count, self._bars.count + 1), bisect_left(self._odd_lengths, first)
        return min([end, *self._odd_lengths[place : place + 1]])

    def closes(self, begin: int, count: int) -> array[float]:
        """Return so many closes from the bar with index `begin` on, NaN where none counts."""
        values: array[float] = self._closes[begin : begin + count]
        if self._odd:
            for k in range(count):
                odd = self._odd.get(begin + k + 1)
                values[k] = values[k] if odd is None else odd.closed
        return values

    def last_closes(self, count: int) -> list[float]:
        """Return so many of the last closes that count, oldest first: see `Instrument`."""
        begin = max(self.kept_since, self.length - count - len(self._odd))
        closes = self.closes(begin, self.length - begin)
        return [close for close in closes if close == close][-count:]

    def quote(self) -> float:
        """Return the newest price that an order placed now can know of: see `Instrument`."""
        if self.close.lencount > self.length:
            return float(self.open[0])
        return self.price

    # -- ATRs ------------------------------------------------------------------------------------

    def track_atr(self, atr_period: int) -> None:
        """Compute the ATR of this period from the next bar on."""
        if atr_period not in self._bars.atrs:
            self._unload()
            self.track_atr(atr_period)

    def atr(self, atr_period: int) -> float:
        """Return the ATR of the last closed bar, NaN while it has too little history."""
        bars, known = self._bars, self.length - atr_period
        if bars.breaks:
            known = bars.known(self.length, atr_period)
        return bars.atrs[atr_period][known - 1] if known > 0 else math.nan

    def floored_atr(self, atr_period: int, atr_floor: float) -> float:
        """Return the ATR, or `atr_floor` times its 100-bar median where that is more."""
        known = self._bars.known(self.length, atr_period)
        recent = self._bars.atrs[atr_period][max(0, known - ATR_MEDIAN_BARS) : known]
        return max(recent[-1], atr_floor * median(recent)) if known else math.nan

    # -- bars ------------------------------------------------------------------------------------

    def advance(self, number: int = 0) -> None:
        """Count the bar that has just closed, in round `number` of the book."""
        length = self.close.lencount
        if length != self.length + 1 or length > self._bars.count:
            self._unload()
            self.advance(number)
            return
        self.length, self.round = length, number
        self.price = self._closes[length - 1]
        if self._odd:
            odd = self._odd.get(length)
            self.suspect, self.suspect_bars = ("", 0) if odd is None else odd[4:]
            self.price = self.price if odd is None else odd.price

    def persist(self) -> dict[str, Any]:
        """Return the state of this data feed as plain values."""
        self._unload()
        return self.persist()

    def _unload(self) -> None:
        """Go on bar by bar, with everything as it would be had it been so from the first bar on."""
        replay, gaps = Replay(self._unread), self.gaps
        if self.kept is not None:
            self.kept.extend(self.last_closes(self.kept.maxlen or 0))
        for length in range(1, self.length + 1):
            replay.show(length)
        self.__class__ = Instrument  # type: ignore[assignment]
        for name in _STATE:
            setattr(self, name, getattr(replay.instrument, name))
        self.gaps = gaps
