"""The ring buffer of closes that the gate computes correlations from.

Everything is computed from the window itself, never from running sums: those still carry a bad
tick after it has left, and lose all digits for a name that stands still.
"""

import numpy as np

from bt_risk.errors import ParameterError, check_choice, check_whole
from bt_risk.rules.frames import as_frame, check_min_periods

__all__ = ["ReturnWindow"]

# What rounding leaves of a spread that is truly zero: the standard deviation of differences of log
# prices.
_STILL = 1e-12
_ONE_CLOCK = (
    "Times are of one kind (dates parsed, zones alike) and history ends before the run: "
    "seed(history, before=first_time)."
)


class ReturnWindow:
    """The last closes of many names on one time axis, and their correlations on demand.

    Parameters
    ----------
    names : sequence of str
        The names, in the order in which `update` gets their closes.
    window : int
        Returns looked back on the shared axis; ``window + 1`` times are kept.
    min_periods : int
        Common returns that a pair must have for its correlation to be known.

    Attributes
    ----------
    names : tuple of str
    window, min_periods : int
    last_time : object
        Newest time on the axis, None while it is empty.

    Notes
    -----
    ``len()`` is the number of returns on the axis. An update is one write of a column; returns
    are derived when correlations are asked for, and kept until the next update.

    Examples
    --------
    >>> returns = ReturnWindow(["BTC", "ETH"], window=5, min_periods=3)
    >>> for time, closes in enumerate([(10, 20), (11, 22), (12, 24), (11, 22)]):
    ...     returns.update(time, closes)
    >>> rho, counts = returns.correlations(0, [1])
    >>> rho.round(6), counts
    (array([1.]), array([3]))
    """

    def __init__(self, names, window=252, min_periods=60):
        self.names = tuple(names)
        self.window = check_whole("ReturnWindow", "window", window, low=2)
        self.min_periods = check_min_periods("ReturnWindow", min_periods, self.window)
        self.last_time = None
        # Twice the depth: the axis slides along it and is moved back once per window.
        self._logs = np.full((len(self.names), 2 * self.window + 2), np.nan)
        self._times = [None] * (2 * self.window + 2)
        self._start = self._stop = 0
        self._seam = 0  # no return spans the columns before and from here on
        self._centred = np.zeros((len(self.names), self.window))
        self._squares = np.zeros(len(self.names))
        self._fresh = np.zeros(len(self.names), dtype=bool)

    def __len__(self):
        return max(self._stop - self._start - 1 - (self._start < self._seam < self._stop), 0)

    def update(self, time, closes):
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
        np.log(closes, out=self._logs[:, self._stop - 1], where=known)
        self._fresh[:] = False

    def seed(self, history, kind="prices", before=None):
        """Fill the window with what is known from before the run.

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
        check_choice("ReturnWindow.seed", "kind", kind, ("prices", "returns"))
        if self._stop:
            remedy = "Seed a new ReturnWindow, before its first update."
            raise ParameterError(
                "ReturnWindow.seed", "history", "given to an empty window", self.last_time, remedy
            )
        frame = self._check_history(history, before)
        self._check_values(frame, kind)
        if len(frame):
            logs = _log_path(frame, kind)[:, -self.window - 1 :]
            self._stop = logs.shape[1]
            self._logs[:, : self._stop] = logs
            self._times[: self._stop] = [None, *frame.index][-self._stop :]
            self._seam = self._stop if kind == "returns" else 0
            self.last_time = frame.index[-1]

    def correlations(self, candidate, others):
        """Correlation of one name with each of `others` over the window.

        Parameters
        ----------
        candidate : int
            Position in `names`.
        others : sequence of int
            Positions in `names`.

        Returns
        -------
        rho : ndarray of shape (len(others),)
            Pearson correlation of the log returns between consecutive common times: prices are
            joined on time first. NaN below `min_periods` and where a name stood still.
        counts : ndarray of int, of shape (len(others),)
            Common returns of each pair.
        """
        others = np.asarray(others, dtype=np.intp)
        self._refresh(np.append(others, candidate))
        rho, counts = np.full(len(others), np.nan), np.full(len(others), len(self))
        gaps = np.isnan(self._squares[others] + self._squares[candidate])
        whole = others[~gaps]
        rho[~gaps] = _pearson(
            self._centred[whole, : len(self)],
            self._squares[whole],
            self._centred[candidate, : len(self)],
            self._squares[candidate],
        )
        if gaps.any():
            rho[gaps], counts[gaps] = self._joined(candidate, others[gaps])
        rho[counts < self.min_periods] = np.nan
        return rho, counts

    def counts(self, rows):
        """Return how many closes of each of `rows` are in the window."""
        return np.isfinite(self._logs[rows, self._start : self._stop]).sum(axis=1)

    def common_returns(self, rows):
        """Return the log returns of some names between the times that all of them have.

        Returns
        -------
        returns : ndarray of shape (len(rows), n_returns)
        times : list
            The common times, oldest first.
        """
        logs = self._logs[rows, self._start : self._stop]
        whole = np.flatnonzero(np.isfinite(logs).all(axis=0))
        returns = np.diff(logs[:, whole], axis=1)
        seam = np.searchsorted(whole, self._seam - self._start)
        if 0 < seam < len(whole):
            returns = np.delete(returns, seam - 1, axis=1)
        return returns, [self._times[self._start + place] for place in whole]

    def _append(self, time):
        if self._stop == self._logs.shape[1]:
            moved = self._stop - self.window
            self._logs[:, : self.window] = self._logs[:, moved:]
            self._times[: self.window] = self._times[moved:]
            self._start, self._stop = 0, self.window
            self._seam = 0  # at most window + 1 columns were seeded: it has left long ago
        self._logs[:, self._stop] = np.nan
        self._times[self._stop] = time
        self._stop += 1
        self._start = max(self._start, self._stop - self.window - 1)
        self.last_time = time

    def _refresh(self, names):
        """Bring the centred returns of `names` up to date; their squares are NaN with a gap."""
        stale = names[~self._fresh[names]]
        logs = self._logs[stale, self._start : self._stop]
        centred, self._squares[stale] = _centred_returns(logs, self._seam - self._start)
        self._centred[stale, : len(self)] = centred
        self._fresh[stale] = True

    def _joined(self, candidate, others):
        """Correlations and counts of pairs with gaps: the returns between their common times."""
        axis = slice(self._start, self._stop)
        one, logs = self._logs[candidate, axis], self._logs[others, axis]
        common = np.isfinite(logs) & np.isfinite(one)
        before = _common_time_before(common)
        counted = common & (before >= 0)
        if self._start < self._seam < self._stop:
            after = np.arange(logs.shape[1]) >= self._seam - self._start
            counted &= after == (before >= self._seam - self._start)
        counts = counted.sum(axis=1)
        steps = logs - np.take_along_axis(logs, before, axis=1), one - one[before]
        rows, ones = (_centred_where(counted, step, counts) for step in steps)
        squares, squares_one = (_squares(row, counts) for row in (rows, ones))
        return _pearson(rows, squares, ones, squares_one), counts

    def _check_time(self, time):
        try:
            ahead = bool(time == time if self.last_time is None else time >= self.last_time)
        except TypeError:  # a float against a date, naive against aware
            ahead = False
        if time is None or not ahead:
            constraint = "a time" if self.last_time is None else f"{self.last_time!r} or later"
            raise ParameterError("ReturnWindow.update", "time", constraint, time, _ONE_CLOCK)

    def _check_history(self, history, before):
        here, columns = "ReturnWindow.seed", list(self.names)
        frame = as_frame(here, "history", history)
        if not frame.index.is_unique:
            twice = str(frame.index[frame.index.duplicated()][0])
            raise ParameterError(here, "history", "one row per time", twice)
        if not frame.columns.isin(columns).any():
            constraint = f"a frame with a column for at least one of {columns}"
            raise ParameterError(here, "history", constraint, list(frame.columns))
        try:
            frame = frame if before is None else frame[frame.index < before]
        except TypeError:
            constraint = f"comparable with the index of history, {frame.index.dtype}"
            raise ParameterError(here, "before", constraint, before, _ONE_CLOCK) from None
        return frame.reindex(columns=columns).astype(float).dropna(how="all")

    def _check_values(self, frame, kind):
        values, floor = frame.to_numpy(), 0.0 if kind == "prices" else -1.0
        bad = values[(values <= floor) | np.isinf(values)]
        if bad.size:
            remedy = (
                'kind="returns" takes returns.' if kind == "prices" else "A loss of 3 % is -0.03."
            )
            constraint = f"{kind} above {floor:g} and finite, or NaN"
            raise ParameterError("ReturnWindow.seed", "history", constraint, float(bad[0]), remedy)


def _log_path(frame, kind):
    """Log prices of shape (n_names, n_times) of a frame of prices or of simple returns."""
    if kind == "prices":
        return np.log(frame.to_numpy().T)
    steps = np.log1p(frame.to_numpy().T)
    # The time before the first row. A name that begins later has no known time to start from.
    origin = np.where(np.isnan(steps[:, :1]), np.nan, 0.0)
    path = np.where(np.isnan(steps), np.nan, np.nancumsum(steps, axis=1))
    return np.column_stack([origin, path])


def _centred_returns(logs, seam):
    """Return the returns of log prices less their mean, and the sums of their squares.

    `logs` has shape (n_names, n_times); no return is taken into the column `seam`.
    """
    returns = np.diff(logs, axis=1)
    if 0 < seam < logs.shape[1]:
        returns = np.delete(returns, seam - 1, axis=1)
    n_returns = returns.shape[1]
    returns -= np.add.reduce(returns, axis=1, keepdims=True) / max(n_returns, 1)
    return returns, _squares(returns, n_returns)


def _common_time_before(common):
    """Per row, the column of the last common time before each column; -1 before the first."""
    last = np.where(common, np.arange(common.shape[1]), -1)
    np.maximum.accumulate(last, axis=1, out=last)
    return np.column_stack([np.full(len(last), -1), last[:, :-1]])


def _centred_where(counted, steps, counts):
    """Return `steps` less their mean where `counted`, else 0."""
    steps = np.where(counted, steps, 0.0)
    mean = steps.sum(axis=1) / np.maximum(counts, 1)
    return np.where(counted, steps - mean[:, None], 0.0)


def _squares(centred, counts):
    squares = np.einsum("ij,ij->i", centred, centred)
    return np.where(squares <= counts * _STILL**2, 0.0, squares)


def _pearson(centred, squares, ones, squares_one):
    """Correlation of each row of `centred` with `ones` (or its row); NaN where one stood still."""
    products = np.einsum("ij,j->i" if ones.ndim == 1 else "ij,ij->i", centred, ones)
    scale = np.sqrt(squares * squares_one)
    rho = np.divide(products, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return np.clip(rho, -1.0, 1.0)
