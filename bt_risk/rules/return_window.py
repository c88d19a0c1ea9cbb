"""The ring buffer of closes that the gate computes correlations from.

Everything is computed from the window itself, never from running sums: those still carry a bad
tick after it has left, and lose all digits for a name that stands still.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bt_risk.errors import ParameterError, check_whole
from bt_risk.rules.common_times import common_times_before, log_returns
from bt_risk.rules.covariance import Covariance
from bt_risk.rules.estimators import (
    ROLLING,
    Estimator,
    centred,
    centred_row,
    pearson,
    semi_correlation,
    shrinkage,
    squares,
    squares_about_the_mean,
)
from bt_risk.rules.frames import (
    BoolArray,
    FloatArray,
    IntArray,
    Numbers,
    Table,
    Time,
    check_min_periods,
)
from bt_risk.rules.history import ONE_CLOCK, check_history, log_path

__all__ = ["ReturnWindow", "Rows", "Sides", "sides_of"]

# Positions in `names`.
Rows: TypeAlias = Sequence[int] | IntArray
# +1 or -1 of the candidate and of each of the others.
Sides: TypeAlias = tuple[int, IntArray]

# The table of all pairs costs as much as the correlations of one in so many names with all others,
# and a little more; of more names than `_TABLED` it would take too long at once.
_ONE_IN, _TABLED = 16, 256


class ReturnWindow:
    """Keep the last closes of many names on one time axis; compute correlations on demand.

    Parameters
    ----------
    names : sequence of str
        The names, in the order in which `update` gets their closes.
    window : int
        Returns looked back on the shared axis; ``window + multi_bar`` times are stored.
    min_periods : int
        Common returns that a pair must have for its correlation to be known.
    multi_bar : int
        Bars that a return spans. Returns of more than one bar overlap, one for each bar, and show
        how names move together whose closes are hours apart.

    Attributes
    ----------
    names : tuple of str
    window, min_periods, multi_bar : int
    last_time : object
        Newest time on the axis, None while it is empty.

    Notes
    -----
    ``len()`` is the number of returns on the axis. An update writes one column of log closes and
    one of returns; all else is computed on request.

    Examples
    --------
    >>> returns = ReturnWindow(["BTC", "ETH"], window=5, min_periods=3)
    >>> for time, closes in enumerate([(10, 20), (11, 22), (12, 24), (11, 22)]):
    ...     returns.update(time, closes)
    >>> rho, counts = returns.correlations(0, [1])
    >>> rho.round(6), counts
    (array([1.]), array([3]))
    """

    def __init__(
        self, names: Iterable[str], window: int = 252, min_periods: int = 60, multi_bar: int = 1
    ) -> None:
        self.names = tuple(names)
        self.window = check_whole("ReturnWindow", "window", window, low=2)
        self.min_periods = check_min_periods("ReturnWindow", min_periods, self.window)
        self.multi_bar = check_whole("ReturnWindow", "multi_bar", multi_bar)
        self.last_time: Time = None
        self._depth = self.window + self.multi_bar
        # Twice the depth: the axis slides along it and is moved back once per window.
        self._logs = np.full((len(self.names), 2 * self._depth), np.nan)
        self._steps = np.full_like(self._logs, np.nan)  # from `multi_bar` columns before to each
        self._times: list[Time] = [None] * (2 * self._depth)
        self._start = self._stop = 0
        self._seam = 0  # no return spans the columns before and from here on
        self._spread: FloatArray | None = None  # of every name, None after a change
        self._table: FloatArray | None = None  # of all pairs, None after a change
        self._asked = 0  # rows since then

    @property
    def oldest(self) -> Time:
        """Return the first time on the axis; None where it is empty or that time is not known."""
        return self._times[self._start] if self._stop > self._start else None

    def __len__(self) -> int:
        first, last = self._across()
        return max(self._stop - self._start - self.multi_bar, 0) - (last - first)

    def _across(self) -> tuple[int, int]:
        """Return the first and the end of the columns whose return would span the seam."""
        if not self._start < self._seam < self._stop:
            return 0, 0
        first = max(self._seam, self._start + self.multi_bar)
        return first, max(min(self._seam + self.multi_bar, self._stop), first)

    def update(self, time: Time, closes: npt.ArrayLike) -> None:
        """Add the closes of one time; at the time of the last call, merge them into it.

        Parameters
        ----------
        time : float, datetime or Timestamp
            Of one kind throughout; never goes back.
        closes : sequence of float, of length len(names)
            NaN for a name without a bar at this time; so count closes that are not positive and
            finite. A time at which no name has a close does not enter the axis.
        """
        closes = np.asarray(closes, dtype=float)
        if closes.shape != (len(self.names),):
            constraint = f"one price for each of {len(self.names)} names"
            raise ParameterError("ReturnWindow.update", "closes", constraint, closes.shape)
        self._check_time(time)
        known = (closes > 0) & (closes < np.inf)
        if not known.any():
            return
        if time != self.last_time or self._seam == self._stop:
            self._append(time)
        self._forget()
        last, before = self._stop - 1, self._stop - 1 - self.multi_bar
        np.log(closes, out=self._logs[:, last], where=known)
        if before >= 0:
            np.subtract(self._logs[:, last], self._logs[:, before], out=self._steps[:, last])

    def extend(self, times: Sequence[Time], closes: FloatArray) -> None:
        """Add the closes of several times; the same as `update` with one after the other.

        Parameters
        ----------
        times : sequence of float, datetime or Timestamp
            Each later than the one before.
        closes : ndarray of shape (len(times), len(names))
            Positive and finite.
        """
        logs, steps, every = self._logs, self._steps, np.ones(len(self.names), dtype=bool)
        self._forget()
        for time, row in zip(times, closes, strict=True):
            self._append(time)
            last, before = self._stop - 1, self._stop - 1 - self.multi_bar
            np.log(row, out=logs[:, last], where=every)
            if before >= 0:
                np.subtract(logs[:, last], logs[:, before], out=steps[:, last])

    def seed(self, history: Table, kind: str = "prices", before: Time = None) -> None:
        """Fill the window with prices or returns from before the run.

        Parameters
        ----------
        history : DataFrame or dict of str to Series
            Prices or returns, oldest first, indexed by the kind of time that `update` gets.
            Columns are found by name, others are ignored; a name without one stays unknown.
        kind : {"prices", "returns"}
            Simple returns are chained to a price path; a NaN is a time without a bar, which the
            next return spans. The level of the path is arbitrary, so no return is taken from its
            end to the first close of the run; from a price one is.
        before : float, datetime or Timestamp, optional
            Use only what is earlier: the time of the first bar of the run.
        """
        if self._stop:
            remedy = "Seed a new ReturnWindow, before its first update."
            raise ParameterError(
                "ReturnWindow.seed", "history", "given to an empty window", self.last_time, remedy
            )
        frame = check_history("ReturnWindow.seed", self.names, history, kind, before)
        if len(frame):
            logs = log_path(frame, kind)[:, -self._depth :]
            self._stop = logs.shape[1]
            self._logs[:, : self._stop] = logs
            step = self.multi_bar
            self._steps[:, step : self._stop] = logs[:, step:] - logs[:, :-step]
            times = [None, *frame.index][-self._stop :]
            self._times[: self._stop] = times
            self._seam = self._stop if kind == "returns" else 0
            self.last_time = frame.index[-1]

    def blank(self, rows: BoolArray) -> FloatArray | float:
        """Forget the closes of some names, a mask; return those of the last time, NaN for none.

        Times at the end at which no other name has a close leave the axis.
        """
        last = np.exp(self._logs[rows, self._stop - 1]) if self._stop else np.nan
        self._logs[rows] = self._steps[rows] = np.nan
        self._forget()
        while self._stop > self._start and np.isnan(self._logs[:, self._stop - 1]).all():
            self._stop -= 1
        self.last_time = self._times[self._stop - 1] if self._stop > self._start else None
        return last

    def correlations(
        self,
        candidate: int,
        others: Rows,
        estimator: Estimator = ROLLING,
        sides: Sides | None = None,
    ) -> tuple[FloatArray, IntArray]:
        """Return the correlation of one name with each of `others` over the window.

        Parameters
        ----------
        candidate : int
            Position in `names`.
        others : sequence of int
            Positions in `names`.
        estimator : Estimator
            How returns become correlations. Names are drawn towards the mean correlation of
            those that have a close at the same times; a pair with gaps is not drawn at all.
        sides : (int, ndarray of int), optional
            +1 or -1 of the candidate and of each of the others. When given, the correlation is
            the worse of the full one and that of the bars at which the two positions lose.

        Returns
        -------
        rho : ndarray of shape (len(others),)
            Correlation of the log returns between consecutive common times: prices are joined on
            time first. NaN below `min_periods` and where a name stood still.
        counts : ndarray of int, of shape (len(others),)
            Common returns of each pair.
        """
        others = np.asarray(others, dtype=np.intp)
        names = np.concatenate((others, [candidate]))
        every = 4 * len(names) > len(self.names)  # then copying rows takes longer than it saves
        steps = self._returns(slice(None) if every else names)
        if every:
            if self._spread is None:  # several orders may come between two bars
                self._spread = squares_about_the_mean(steps)
            spread = self._spread[names]
        else:
            spread = squares_about_the_mean(steps)
        plain = sides is None and not (estimator.fades or estimator.shrinks)
        if not plain or math.isnan(np.add.reduce(spread)):
            rows = steps[names] if every else steps
            rho, counts = self._estimate(names, rows, spread, estimator, sides)
            rho[counts < self.min_periods] = np.nan
            return rho, counts
        count = steps.shape[1]
        counts = np.full(len(others), count)
        if count < self.min_periods:
            return np.full(len(others), np.nan), counts
        # Centred twice: the others' means would multiply the rounding error of its mean.
        products = steps @ centred_row(centred_row(steps[candidate if every else -1]))
        products = products[others] if every else products[:-1]
        return pearson(products, spread[:-1], spread[-1]), counts

    def row(self, candidate: int) -> list[float] | None:
        """Return the correlation of one name with each name, NaN where `correlations` must say.

        Returns count alike, and the figures differ from those of `correlations` by rounding. All
        pairs are computed together, once so many rows are asked for between two changes that this
        takes less time. Until then, and of names too many or with too short a history, it is None.
        """
        if self._table is None:
            self._asked += 1
            if not 2 + len(self.names) // _ONE_IN < self._asked or len(self.names) > _TABLED:
                return None
            steps = self._returns(slice(None))
            if steps.shape[1] < self.min_periods:
                return None
            if self._spread is None:
                self._spread = squares_about_the_mean(steps)
            rows = centred(centred(steps))
            self._table = pearson(rows @ rows.T, self._spread, self._spread[:, None])
        row: list[float] = self._table[candidate].tolist()
        return row

    def covariance(
        self, rows: Rows, estimator: Estimator = ROLLING
    ) -> tuple[Covariance | None, int]:
        """Return the covariance per bar of the returns of some names, over their common times.

        Parameters
        ----------
        rows : sequence of int
            Positions in `names`.
        estimator : Estimator

        Returns
        -------
        Covariance or None
            None when fewer than `min_periods` returns are common to all of them.
        count : int
            Returns that are common to all.
        """
        returns, times = self._common(np.asarray(rows, dtype=np.intp))
        count = returns.shape[1]
        if count < self.min_periods:
            return None, count
        per_year = _bars_per_year(times)
        return Covariance(returns, estimator, self.multi_bar, per_year), count

    def closes(self, rows: Rows) -> IntArray:
        """Return how many closes of each of some names are in the window."""
        counts: IntArray = np.isfinite(self._logs[rows, self._start : self._stop]).sum(axis=1)
        return counts

    def _common(self, rows: IntArray) -> tuple[FloatArray, list[Time]]:
        """Return the returns of some names between the times that all of them have, and these."""
        returns, times = self._returns(rows), self._times[self._start : self._stop]
        if not np.isnan(returns).any():
            return returns, times
        logs = self._logs[rows, self._start : self._stop]
        whole = np.flatnonzero(np.isfinite(logs).all(axis=0))
        seam = int(np.searchsorted(whole, self._seam - self._start))
        return log_returns(logs[:, whole], seam, self.multi_bar), [times[k] for k in whole]

    def _forget(self) -> None:
        """Forget what was computed from the closes so far."""
        self._spread = self._table = None
        self._asked = 0

    def _append(self, time: Time) -> None:
        if self._stop == self._logs.shape[1]:
            kept = self._depth - 1
            for table in (self._logs, self._steps):
                table[:, :kept] = table[:, -kept:]
            self._times[:kept] = self._times[-kept:]
            self._start, self._stop = 0, kept
            self._seam = 0  # the seeded columns have left the window before
        self._logs[:, self._stop] = self._steps[:, self._stop] = np.nan
        self._times[self._stop] = time
        self._stop += 1
        self._start = max(self._start, self._stop - self._depth)
        self.last_time = time

    def _returns(self, rows: slice | IntArray) -> FloatArray:
        """Return the returns in the window of some names: a view for a slice without a seam."""
        begin = self._start + self.multi_bar
        steps = self._steps[rows, begin : max(self._stop, begin)]
        first, last = self._across()
        return np.delete(steps, slice(first - begin, last - begin), axis=1) if last else steps

    def _estimate(
        self,
        names: IntArray,
        rows: FloatArray,
        spread: FloatArray,
        estimator: Estimator,
        sides: Sides | None,
    ) -> tuple[FloatArray, IntArray]:
        """Return correlations and counts of all but the last of `names` with it, whatever the gaps.

        `rows` are their returns, `spread` the sums of squares of these about the mean.
        """
        gaps = np.isnan(spread[:-1] + spread[-1])
        rho, counts = np.empty(len(gaps)), np.full(len(gaps), rows.shape[1])
        rho[~gaps] = _whole(rows[np.append(~gaps, True)], estimator, sides_of(sides, ~gaps))
        if gaps.any():
            rho[gaps], counts[gaps] = self._joined(
                names[-1], names[:-1][gaps], estimator, sides_of(sides, gaps)
            )
        return rho, counts

    def _joined(
        self, candidate: int, others: IntArray, estimator: Estimator, sides: Sides | None
    ) -> tuple[FloatArray, IntArray]:
        """Return correlations and counts of pairs with gaps, from their common times."""
        axis = slice(self._start, self._stop)
        one, logs = self._logs[candidate, axis], self._logs[others, axis]
        common = np.isfinite(logs) & np.isfinite(one)
        before = common_times_before(common, self.multi_bar)
        counted = common & (before >= 0)
        if self._start < self._seam < self._stop:
            after = np.arange(logs.shape[1]) >= self._seam - self._start
            counted &= after == (before >= self._seam - self._start)
        steps = logs - np.take_along_axis(logs, before, axis=1), one - one[before]
        rows, ones = (estimator.weigh(step, counted) for step in steps)
        spread, spread_one = (squares(row, 1) for row in (rows, ones))
        rho = pearson(np.einsum("ij,ij->i", rows, ones), spread, spread_one)
        return _worse(rho, rows, spread, ones, spread_one, sides), counted.sum(axis=1)

    def _check_time(self, time: Time) -> None:
        try:
            ahead = bool(time == time if self.last_time is None else time >= self.last_time)
        except TypeError:  # a float against a date, naive against aware
            ahead = False
        if time is None or not ahead:
            constraint = "a time" if self.last_time is None else f"{self.last_time!r} or later"
            raise ParameterError("ReturnWindow.update", "time", constraint, time, ONE_CLOCK)


def _whole(rows: FloatArray, estimator: Estimator, sides: Sides | None) -> FloatArray:
    """Return correlations of all but the last row with it; there are no gaps."""
    count = rows.shape[1]
    rows = centred(rows)
    rows = estimator.weigh(rows) if estimator.fades else rows
    spread = squares(rows, count)
    rho = pearson(rows[:-1] @ rows[-1], spread[:-1], spread[-1])
    if estimator.shrinks:
        intensity, mean = shrinkage(rows[spread > 0])
        rho += intensity * (mean - rho)
    return _worse(rho, rows[:-1], spread[:-1], rows[-1], spread[-1], sides)


def sides_of(sides: Sides | None, part: BoolArray) -> Sides | None:
    """Return the sides of the candidate and of a part of the others, None where none are given."""
    return None if sides is None else (sides[0], sides[1][part])


def _worse(
    rho: FloatArray,
    rows: FloatArray,
    spread: FloatArray,
    ones: FloatArray,
    spread_one: Numbers,
    sides: Sides | None,
) -> FloatArray:
    """Return the correlation, or that of the falls where it makes the two more of one bet."""
    if sides is None:
        return rho
    down = semi_correlation(rows, spread, ones, spread_one, *sides)
    sign = sides[0] * sides[1]
    return np.where(np.isnan(rho), rho, sign * np.fmax(sign * rho, sign * down))


def _bars_per_year(times: Sequence[Time]) -> float:
    """Return how many of these bars a year has, by the calendar; NaN where no time passes."""
    first, last = times[1] if times[0] is None else times[0], times[-1]
    count = len(times) - 1 - (times[0] is None)
    elapsed = last - first
    days = elapsed / np.timedelta64(1, "D") if hasattr(elapsed, "total_seconds") else elapsed
    return count / days * 365.25 if days > 0 else np.nan
