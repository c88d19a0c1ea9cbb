"""ClosedBars: the closed bars of one data feed, with indicators of their own that see no others."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import backtrader as bt
import numpy as np
from backtrader.linebuffer import LineBuffer

__all__ = ["ClosedBars", "closed_bars"]


class ClosedBars(bt.feed.DataBase):
    """A copy of the bars that a data feed has delivered, which grows as they close.

    Indicators are computed on it by Backtrader's vectorised methods, in pieces: whatever the engine
    mode, they are the same numbers, and no bar after the last one can be in them. They are no
    indicators of the strategy, and change nothing about it.
    """

    _ltype = None  # not a strategy: indicators look for one above them

    def __init__(self) -> None:
        self._owner = None
        self.datas = [self]
        self.made: list[Any] = []
        self.computed = 0

    def addindicator(self, indicator: Any) -> None:
        """Add an indicator, as Backtrader does where one is made."""
        self.made.append(indicator)

    def make(self, function: Callable[[ClosedBars], Any]) -> Any:
        """Return the indicator or line that a function makes of these bars.

        Backtrader looks for the owner of an indicator among the callers: that is here `self`.
        """
        return function(self)

    def append(self, columns: Iterable[Iterable[float]]) -> None:
        """Add bars: the values of each line, in the sequence of the lines."""
        for line, values in zip(self.lines.lines, columns, strict=True):
            line.array.extend(values)

    def compute(self) -> None:
        """Bring all indicators to the last bar."""
        start, end = self.computed, len(self.lines[0].array)
        if end == start:
            return
        if not start:  # from here on a comparison is one of values
            for one in (self, *self.made):
                one._stage2()
            self._steps = [self._step(indicator) for indicator in self.made]
        unknown = array("d", [math.nan]) * (end - start)
        for step in self._steps:
            step(start, end, unknown)
        self.computed = end

    def _step(self, indicator: Any) -> Callable[[int, int, array[float]], None]:
        """Return what brings an indicator from one bar to another."""
        if not _needs_next(indicator):
            return _Whole(indicator)
        own = {id(line) for line in _lines_below(indicator)}
        return _BarByBar(indicator, [line for line in self.owned() if id(line) not in own])

    def owned(self) -> Iterator[Any]:
        """Yield every line of these bars and of their indicators."""
        yield from self.lines.lines
        for indicator in self.made:
            yield from _lines_below(indicator)


_KINDS: dict[tuple[str, ...], type[ClosedBars]] = {(): ClosedBars}


def closed_bars(data: Any) -> ClosedBars:
    """Return empty bars with the lines of a data feed, its name and its time frame."""
    known = ClosedBars.lines._getlines()
    more = tuple(name for name in data.lines.getlinealiases() if name not in known)
    if more not in _KINDS:
        _KINDS[more] = type("ClosedBars", (ClosedBars,), {"lines": more})
    bars = _KINDS[more]()
    bars._name, bars._tz = getattr(data, "_name", ""), getattr(data, "_tz", None)
    bars._timeframe, bars._compression = data._timeframe, data._compression
    return bars


def _lines_below(indicator: Any) -> Iterator[Any]:
    if isinstance(indicator, LineBuffer):
        yield indicator
        return
    yield from indicator.lines.lines
    for child in indicator.getindicators():
        yield from _lines_below(child)


def _needs_next(indicator: Any) -> bool:
    """Return whether Backtrader cannot compute an indicator, or one in it, as a whole."""
    own = getattr(indicator, "_nextforce", False)
    return own or any(map(_needs_next, indicator.getindicators()))


class _BarByBar:
    """Compute an indicator as in a run without ``runonce``: its values go into its next ones."""

    def __init__(self, indicator: Any, others: list[Any]) -> None:
        self.indicator, self.others = indicator, others

    def __call__(self, start: int, end: int, unknown: array[float]) -> None:
        for place in range(start, end):
            for line in self.others:
                line._idx, line.lencount = place, place + 1
            self.indicator._next()


class _Whole:
    """Do what the ``_once`` of an indicator does, for some bars alone."""

    def __init__(self, indicator: Any) -> None:
        self.indicator, self.lines = indicator, _own_lines(indicator)
        children = indicator.getindicators()
        self.children = [_Whole(child) for child in children]
        self.first = indicator._minperiod - 1
        self.bound = [line for line in self.lines if line.bindings]
        self.once = indicator.once
        if hasattr(indicator, "_tabstract"):
            self.once = self._talib
        # What is computed by `next` reads and writes where the lines stand.
        others = (*getattr(indicator, "datas", ()), *children, indicator)
        self.placed = [line for other in others for line in _own_lines(other)]
        if getattr(type(indicator), "once", None) is not bt.Indicator.once_via_next:
            self.placed = []

    def __call__(self, start: int, end: int, unknown: array[float]) -> None:
        for line in self.lines:
            line.array.extend(unknown)
        for child in self.children:
            child(start, end, unknown)
        for line in self.placed:
            line._idx, line.lencount = start - 1, start
        first = self.first
        if start < first:
            self.indicator.preonce(start, min(first, end))
        if start <= first < end:
            self.indicator.oncestart(first, first + 1)
        if end > first:
            self.once(max(start, first + 1), end)
        for line in self.bound:
            new = line.array[start:end]
            for other in line.bindings:
                other.array[start:end] = new

    def _talib(self, start: int, end: int) -> None:
        """Compute all, as `bt.talib` does, and keep what is new."""
        indicator = self.indicator
        inputs = [np.array(data.lines[0].array) for data in indicator.datas]
        outputs = indicator._tafunc(*inputs, **indicator.p._getkwargs())
        columns = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        start = self.first if start == self.first + 1 else start
        for line, values in zip(self.lines, columns, strict=False):
            new = np.asarray(values[start:end], dtype=float)
            line.array[start:end] = array("d", new.tobytes())


def _own_lines(holder: Any) -> list[Any]:
    if isinstance(holder, LineBuffer):
        return [holder]
    lines: list[Any] = holder.lines.lines
    return lines
