"""Closes of data feeds of different time frames: a pair is compared on the coarser one's bars.

A window of 252 bars is ten days of hours and a year of days. Each time frame has a window of its
own, in which finer names appear with their last close at or before the end of each bar.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from bt_risk.rules.covariance import Covariance
from bt_risk.rules.estimators import ROLLING, Estimator
from bt_risk.rules.frames import BoolArray, FloatArray, IntArray, Table, Time
from bt_risk.rules.history import check_history
from bt_risk.rules.return_window import ReturnWindow, Rows, Sides, sides_of

__all__ = ["TimeFrames"]

# Two bar lengths are of one time frame up to this ratio: months of 28 and 31 days, days of 23 h.
_SAME = 1.25
_DAY = 1.0


class TimeFrames:
    """Keep the last closes of many names, on the bars of each time frame that they have.

    Parameters
    ----------
    names : sequence of str
        The names, in the order in which `update` gets their closes.
    window, min_periods, multi_bar : int
        As of `ReturnWindow`; in bars of the coarser of two names.

    Notes
    -----
    The time frame of a name is the shortest time between two of its bars so far: what a feed
    declares is often only a default. A daily or longer bar that is stamped at midnight ends with
    that day, any other bar at its stamp. What a finer name closed at by then is taken when a later
    bar (or one at that very time) has come, never before; a finer name that had no bar since the
    end of the bar before has no close at this one.

    A price that is truly at or below zero has no log return. What is left of the others would show
    none of the moves there, so that correlation and covariance of a name are unknown until its
    last such close has left the window.

    Examples
    --------
    >>> frames = TimeFrames(["day", "hour"], window=5, min_periods=2)
    >>> for hour in range(97):
    ...     price = 100 + hour % 7
    ...     daily = price if hour % 24 == 0 else math.nan
    ...     frames.update(700_000.7 + hour / 24, [daily, price])
    >>> rho, counts = frames.correlations(0, [1])
    >>> rho.round(6), counts
    (array([1.]), array([4]))
    """

    def __init__(
        self, names: Sequence[str], window: int = 252, min_periods: int = 60, multi_bar: int = 1
    ) -> None:
        self.names = tuple(names)
        self.last_time = -math.inf
        returns = ReturnWindow(names, window, min_periods, multi_bar)
        self._axes = [_Axis(math.inf, returns)]  # from the coarsest on
        self._axis_of = np.zeros(len(names), dtype=np.intp)
        self._times = np.full(len(names), np.nan)
        # When each name has closed at or below zero last, and whether any has.
        self._below, self._was_below = np.full(len(names), -np.inf), False

    def update(self, time: float, closes: npt.ArrayLike) -> None:
        """Add the closes of one time.

        Parameters
        ----------
        time : float
            In days. A time before the last one is late and left out.
        closes : sequence of float, of length len(names)
            NaN for a name without a bar at this time.
        """
        closes = np.asarray(closes, dtype=float)
        known = (closes > 0) & (closes < np.inf)
        whole = known.all()
        if not whole:
            self._note_below(time, closes)
        if time < self.last_time or not (whole or known.any()):
            return
        self.last_time = time
        self._learn(known, time - self._times)
        self._times[known] = time
        if len(self._axes) == 1:
            self._axes[0].returns.update(time, closes)
            return
        for axis in self._axes:
            axis.update(time, np.where(known, closes, np.nan))

    def _note_below(self, time: float, closes: FloatArray) -> None:
        below = closes <= 0
        if below.any():
            self._was_below = True
            self._below[below] = np.maximum(self._below[below], time)

    def below_zero(self, rows: Rows) -> BoolArray:
        """Return which of some names have closed at or below zero within their window.

        It is that on the coarsest bars of them. Their returns are unknown.
        """
        axis: _Axis = self._axes[self._axis_of[rows].min()]
        oldest = axis.returns.oldest
        within: BoolArray = self._below[rows] >= (-np.inf if oldest is None else oldest)
        return within & (self._below[rows] > -np.inf)

    def extend(self, times: Sequence[float], closes: FloatArray) -> None:
        """Add the closes of several times; the same as `update` with one after the other.

        Parameters
        ----------
        times : sequence of float
            In days, each later than the one before.
        closes : ndarray of shape (len(times), len(names))
            Positive and finite.
        """
        if self._learns_nothing(times):
            self.last_time = times[-1]
            self._times[:] = times[-1]
            self._axes[0].returns.extend(times, closes)
            return
        for time, row in zip(times, closes, strict=True):
            self.update(time, row)

    def _learns_nothing(self, times: Sequence[float]) -> bool:
        """Return whether bars of all names at these times are of the one time frame there is."""
        if len(self._axes) > 1 or not times[0] > self.last_time:
            return False
        length = self._axes[0].length
        if any((later - one) * _SAME < length for one, later in pairwise(times)):
            return False
        return not ((times[0] - self._times) * _SAME < length).any()

    def seed(self, history: Table, kind: str = "prices", before: Time = None) -> None:
        """Fill the windows with history from before the run: see `ReturnWindow.seed`."""
        frame = check_history("TimeFrames.seed", self.names, history, kind, before)
        times = frame.index.to_numpy(dtype=float)
        known = frame.notna().to_numpy().T
        gaps = np.array([_shortest(times[row]) for row in known])
        self._learn(~np.isnan(gaps), gaps)
        if len(times):
            self.last_time = times[-1]
            self._times = np.array([times[row][-1] if row.any() else np.nan for row in known])
            for axis in self._axes:
                axis.seed(frame, kind)

    def expect(self, gaps: npt.ArrayLike) -> None:
        """Set, before the first close, how far apart the bars of each name are.

        Parameters
        ----------
        gaps : sequence of float, of length len(names)
            In days; NaN where that is unknown.
        """
        gaps = np.asarray(gaps, dtype=float)
        self._learn(~np.isnan(gaps), gaps)

    def correlations(
        self,
        candidate: int,
        others: Rows,
        estimator: Estimator = ROLLING,
        sides: Sides | None = None,
    ) -> tuple[FloatArray, IntArray]:
        """Return correlations of one name with each of `others`, as `ReturnWindow` does."""
        if len(self._axes) == 1:
            found = self._axes[0].returns.correlations(candidate, others, estimator, sides)
        else:
            found = self._joined(candidate, np.asarray(others, dtype=np.intp), estimator, sides)
        if self._was_below:
            for k, other in enumerate(others):
                if self.below_zero([candidate, other]).any():
                    found[0][k] = np.nan
        return found

    def _joined(
        self, candidate: int, others: IntArray, estimator: Estimator, sides: Sides | None
    ) -> tuple[FloatArray, IntArray]:
        """Return correlations of one name with others, each on the coarser bars of the two."""
        rho, counts = np.full(len(others), np.nan), np.zeros(len(others), dtype=int)
        coarser = np.minimum(self._axis_of[others], self._axis_of[candidate])
        for k in np.unique(coarser):
            part = coarser == k
            returns, some = self._axes[k].returns, sides_of(sides, part)
            rho[part], counts[part] = returns.correlations(candidate, others[part], estimator, some)
        return rho, counts

    def row(self, candidate: int) -> list[float] | None:
        """Return correlations of one name with each name, as `ReturnWindow` does, or None."""
        if len(self._axes) > 1 or self._was_below:
            return None
        return self._axes[0].returns.row(candidate)

    def covariance(
        self, rows: Rows, estimator: Estimator = ROLLING
    ) -> tuple[Covariance | None, int]:
        """Return the covariance of some names on their coarsest bars, as `ReturnWindow` does."""
        axis: _Axis = self._axes[self._axis_of[rows].min()]
        covariance, count = axis.returns.covariance(rows, estimator)
        if self._was_below and self.below_zero(rows).any():
            covariance = None
        return covariance, count

    def closes(self, rows: Rows) -> IntArray:
        """Return how many closes of each of some names are on the coarsest bars of them."""
        axis: _Axis = self._axes[self._axis_of[rows].min()]
        return axis.returns.closes(rows)

    def _learn(self, known: BoolArray, gaps: FloatArray) -> None:
        """Move the names whose bars turn out to be closer than those of their time frame."""
        lengths = np.array([axis.length for axis in self._axes])[self._axis_of]
        closer = known & (gaps > 0) & (gaps * _SAME < lengths)
        if closer.any():
            own = [self._axes[k] for k in self._axis_of]
            for i in np.flatnonzero(closer):
                own[i] = self._axis_for(gaps[i], own[i])
            self._assign(own)

    def _axis_for(self, length: float, old: _Axis) -> _Axis:
        for axis in self._axes:
            if length / _SAME <= axis.length <= length * _SAME:
                return axis
        new = old.of_length(length)  # with the closes of the name so far
        self._axes.append(new)
        return new

    def _assign(self, own: Sequence[_Axis]) -> None:
        ranked = sorted(self._axes, key=lambda axis: -axis.length)
        used = {id(axis) for axis in own}
        self._axes = [axis for axis in ranked if id(axis) in used]
        rank = {id(axis): k for k, axis in enumerate(self._axes)}
        self._axis_of = np.array([rank[id(axis)] for axis in own], dtype=np.intp)
        for k, axis in enumerate(self._axes):
            axis.assign(own=self._axis_of == k, finer=self._axis_of > k)


class _Axis:
    """Keep the bars of one time frame, and the closes of finer names at the end of each bar."""

    def __init__(self, length: float, returns: ReturnWindow) -> None:
        self.length, self.returns = length, returns
        self._own = np.ones(len(returns.names), dtype=bool)
        self._finer = ~self._own
        self._closes = np.full(len(returns.names), np.nan)  # of finer names, since the last bar
        self._waits = False  # for the end of the newest bar

    def update(self, time: float, closes: FloatArray) -> None:
        """Add the closes of one time: to the bar before, if that has not ended, or to a new one."""
        if self._waits and time > self._end():
            self._sample()
        new_bar = self._finer & ~np.isnan(closes)
        self._closes[new_bar] = closes[new_bar]
        if self._waits and time >= self._end():
            self._sample()
        # Closes of coarser names are stored too: their bars may turn out to be of this time frame.
        if time == self.returns.last_time or not np.isnan(closes[self._own]).all():
            self.returns.update(time, np.where(self._finer, np.nan, closes))
            self._waits = True
            if time >= self._end():
                self._sample()

    def seed(self, frame: pd.DataFrame, kind: str) -> None:
        """Fill the window with the rows of this time frame, finer names at their last closes."""
        if self._finer.any():
            frame = self._sampled(frame, kind)
        self.returns.seed(frame, kind)

    def of_length(self, length: float) -> _Axis:
        """Return a copy for bars of another length."""
        new = copy.deepcopy(self)
        new.length = length
        if self._waits and new._end() != self._end():
            new._closes[:], new._waits = np.nan, False
        return new

    def assign(self, own: BoolArray, finer: BoolArray) -> None:
        """Set which names are of this time frame, and which are sampled from now on."""
        left = finer & ~self._finer
        if left.any():
            self._closes[left] = self.returns.blank(left)
            self._waits = self.returns.last_time is not None
        self._own, self._finer = own, finer

    def _end(self) -> float:
        return _end_of(self.returns.last_time, self.length)

    def _sample(self) -> None:
        self.returns.update(self.returns.last_time, self._closes)
        self._closes[:] = np.nan
        self._waits = False

    def _sampled(self, frame: pd.DataFrame, kind: str) -> pd.DataFrame:
        names = np.array(self.returns.names)
        path = frame if kind == "prices" else (1 + frame).cumprod()
        rows = frame[names[self._own]].notna().any(axis=1)
        table = path[rows]
        ends = [_end_of(time, self.length) for time in table.index]
        sampled = {name: _as_of(path[name].dropna(), ends) for name in names[self._finer]}
        table = table.assign(**sampled)
        if kind == "prices":
            return table
        return table.apply(lambda column: column.dropna().pct_change()).reindex(table.index)


def _end_of(time: float, length: float) -> float:
    """Return when a bar ends: a daily one of midnight with its day, any other at its stamp."""
    return time + _DAY if length > 0.9 * _DAY and time == int(time) else time


def _as_of(prices: pd.Series, ends: Sequence[float]) -> FloatArray | float:
    """Return the last of `prices` by each end, NaN where there was none since the end before."""
    last = np.searchsorted(prices.index, ends, side="right") - 1
    new_bar = last > np.concatenate([[-1], last[:-1]])
    return np.where(new_bar, prices.to_numpy()[last], np.nan) if len(prices) else np.nan


def _shortest(times: FloatArray) -> float:
    return np.diff(times).min() if len(times) > 1 else np.nan
