"""Scans of a trailing stop over whole series: bar by bar, in lanes, or compiled by numba.

All three return the same numbers, to the last bit. They are for a long position: a short one is
the same with all prices negated, which is exact in floating point.

Lanes are parts of equal length that numpy moves on side by side, one bar of all lanes in a few
calls. A lane begins some bars early and without a stop, because a stop soon forgets how it began:
at the latest when it is touched. Where the lane before ends with another stop all the same, the
bars after that seam are scanned again, one by one, until both agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bt_risk.rules.frames import FloatArray, IntArray

__all__ = ["trail_closes", "trail_extremes"]

_Columns: TypeAlias = tuple[FloatArray, ...]
_State: TypeAlias = tuple[float, ...]

_INF = math.inf
_SHORT = 3000  # fewer bars take less time one by one than in lanes
_EARLY = 64  # bars that a lane begins before its own
_LONGEST = 125  # bars of its own that a lane has at most
_BLOCK = 1000 * _LONGEST  # bars in lanes at a time: what they need stays in the cache
_PART = 64  # bars that are scanned again at a time
# numba compiles for a second, and then halves the time of a bar: nothing for a few short series.
_BARS_UNTIL_COMPILED = 2_000_000


def trail_closes(levels: FloatArray, lows: FloatArray) -> None:
    """Replace each level by the stop after its bar: the highest level since the last touch.

    Parameters
    ----------
    levels : ndarray of shape (n_bars,)
        Where a stop set on each bar would stand. Overwritten.
    lows : ndarray of shape (n_bars,)
        A low at or below the stop of the bar before touches it: a new run begins with the level of
        the low's own bar.
    """
    _scan(_CLOSES, (levels, lows), out=levels)


def trail_extremes(highs: FloatArray, lows: FloatArray, widths: FloatArray) -> None:
    """Replace each width by the stop after its bar, which hangs from the highest high of the run.

    Parameters
    ----------
    highs, lows : ndarray of shape (n_bars,)
    widths : ndarray of shape (n_bars,)
        Distance from that high to the level of each bar. Overwritten.
    """
    _scan(_EXTREMES, (highs, lows, widths), out=widths)


class _Kind(NamedTuple):
    """Hold the two ways to scan one kind of stop.

    Both return the state after each bar, which is all that the next bar depends on: the stop, and
    what it hangs from.

    Attributes
    ----------
    begin : tuple of float
        The state before the first bar.
    idle : tuple of float
        A bar that changes no state.
    """

    name: str
    by_bar: Callable[[_Columns, _State], _Columns]
    side_by_side: Callable[..., _Columns]
    begin: _State
    idle: tuple[float, ...]


class _Compiler:
    """Compile the scans once a process goes through many bars, if numba is installed."""

    def __init__(self) -> None:
        self.bars = 0.0

    def scans(self, n_bars: int) -> Any:
        """Return the module of compiled scans for a scan of `n_bars` more bars, else None."""
        self.bars += n_bars
        if self.bars < _BARS_UNTIL_COMPILED:
            return None
        try:
            from bt_risk.rules import compiled_scans
        except ImportError:  # numba is not installed, or does not fit this numpy
            self.bars = -_INF
            return None
        return compiled_scans


_compiler = _Compiler()


def _scan(kind: _Kind, columns: _Columns, out: FloatArray) -> None:
    compiled = _compiler.scans(out.size) if out.size >= _SHORT else None
    if compiled is not None:
        getattr(compiled, kind.name)(*columns, out)
        return
    state = kind.begin
    for begin in range(0, out.size, _BLOCK):
        block = tuple(column[begin : begin + _BLOCK] for column in columns)
        short = block[0].size < _SHORT
        states = kind.by_bar(block, state) if short else _in_lanes(kind, block, state)
        out[begin : begin + _BLOCK] = states[0]
        state = _last(states)


def _last(states: _Columns) -> _State:
    return tuple(float(one[-1]) for one in states)


def _in_lanes(kind: _Kind, columns: _Columns, begin: _State) -> _Columns:
    """Return what `kind.by_bar` does."""
    n_bars = columns[0].size
    length = min(_LONGEST, max(_EARLY, math.isqrt(n_bars // 4)))
    n_lanes = n_bars // length
    grids = [_grid(*pair, length) for pair in zip(columns, kind.idle, strict=True)]
    before = [np.full(n_lanes, nothing) for nothing in kind.begin]
    for one, known in zip(before, begin, strict=True):
        one[0] = known  # the first lane has no bars before its own
    with np.errstate(invalid="ignore"):  # zero times infinity
        lanes = kind.side_by_side(*grids, *before)
    states = tuple(np.empty(n_bars) for _ in lanes)
    met = np.ones(n_lanes - 1, dtype=bool)
    for one, lane in zip(states, lanes, strict=True):
        one[: n_lanes * length].reshape(n_lanes, length)[:] = lane[_EARLY:].T
        met &= lane[_EARLY - 1, 1:] == lane[-1, :-1]
    _scan_again(kind, columns, states, (np.flatnonzero(~met) + 1) * length, n_lanes * length)
    return states


def _grid(column: FloatArray, idle: float, length: int) -> FloatArray:
    """Return a column as lanes, of shape (_EARLY + length, n_lanes): each with its early bars."""
    n_lanes = column.size // length
    grid = np.empty((_EARLY + length, n_lanes))
    grid[_EARLY:] = column[: n_lanes * length].reshape(n_lanes, length).T
    grid[:_EARLY, 0] = idle
    grid[:_EARLY, 1:] = grid[length:, :-1]
    return grid


def _scan_again(
    kind: _Kind, columns: _Columns, states: _Columns, seams: IntArray, end: int
) -> None:
    """Correct the states from each of the seams on until they agree, and add those from `end` on.

    A lane is right from where one of its states is, and so are the lanes behind it that met it.
    """
    done = 0
    for seam in [*seams.tolist(), end]:
        agree, done = seam < min(done, end), max(seam, done)
        while not agree and done < states[0].size:
            part = slice(done, done + _PART)
            before = tuple(float(one[done - 1]) for one in states)
            known = _last(tuple(one[part] for one in states))
            scanned = kind.by_bar(tuple(column[part] for column in columns), before)
            for one, new in zip(states, scanned, strict=True):
                one[part] = new
            agree = seam < end and _last(scanned) == known
            done = part.stop


def _closes_by_bar(columns: _Columns, begin: _State) -> _Columns:
    (stop,), stops = begin, []
    for level, low in zip(*(column.tolist() for column in columns), strict=True):
        if low <= stop or level > stop:
            stop = level
        stops.append(stop)
    return (np.array(stops),)


def _extremes_by_bar(columns: _Columns, begin: _State) -> _Columns:
    (stop, extreme), stops, extremes = begin, [], []
    for high, low, width in zip(*(column.tolist() for column in columns), strict=True):
        if low <= stop:
            extreme = high
            stop = high - width
        else:
            if high > extreme:
                extreme = high
            if extreme - width > stop:
                stop = extreme - width
        stops.append(stop)
        extremes.append(extreme)
    return np.array(stops), np.array(extremes)


def _closes_side_by_side(levels: FloatArray, lows: FloatArray, stop: FloatArray) -> _Columns:
    """Return the stops of lanes, in place of the levels.

    The stop goes on to the next bar unless the low touches it. Arithmetic with infinity says so in
    a third of the time of a mask: `minimum` hands NaN on, and `fmax` drops it for the level.
    """
    kept = np.empty_like(stop)
    for level, low in zip(levels, lows, strict=True):
        # Infinity where the low is above the stop; where it touches, minus infinity or NaN.
        np.subtract(low, stop, out=kept)
        np.multiply(kept, _INF, out=kept)
        np.minimum(stop, kept, out=kept)
        stop = np.fmax(level, kept, out=level)
    return (levels,)


def _extremes_side_by_side(
    highs: FloatArray, lows: FloatArray, widths: FloatArray, stop: FloatArray, extreme: FloatArray
) -> _Columns:
    """Return the stops of lanes, in place of the widths, and their extremes, of the highs."""
    kept, best = np.empty_like(stop), np.empty_like(stop)
    for high, low, width in zip(highs, lows, widths, strict=True):
        np.subtract(low, stop, out=kept)
        np.multiply(kept, _INF, out=kept)
        np.minimum(extreme, kept, out=best)
        np.minimum(stop, kept, out=kept)
        extreme = np.fmax(high, best, out=high)
        np.subtract(extreme, width, out=width)
        stop = np.fmax(width, kept, out=width)
    return widths, highs


_CLOSES = _Kind("closes", _closes_by_bar, _closes_side_by_side, (-_INF,), (-_INF, _INF))
_EXTREMES = _Kind(
    "extremes", _extremes_by_bar, _extremes_side_by_side, (-_INF, -_INF), (-_INF, _INF, _INF)
)
