"""How alike names move: correlation of returns, and what it does to exposure.

Everything here is computed from the window itself, never from running sums: those still carry a
bad tick after it has left, and lose all digits for a name that stands still.
"""

import logging
import math
from collections.abc import Mapping
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_fraction,
    check_limit,
    check_positive,
    check_whole,
    is_number,
)

__all__ = [
    "ReturnWindow",
    "correlation_exposure",
    "correlation_matrix",
    "rolling_correlation",
    "same_bet",
]

_log = logging.getLogger("bt_risk")

# What rounding leaves of a spread that is truly zero: as a share of the mean return, and as the
# standard deviation of differences of log prices.
_ROUNDING = 32 * np.finfo(float).eps
_STILL = 1e-12

# Above this ratio of squared mean to variance, sums of squares lose digits that matter.
_OFF_CENTRE = 1e4
_ONE_CLOCK = (
    "Times are of one kind (dates parsed, zones alike) and history ends before the run: "
    "seed(history, before=first_time)."
)
_CHUNK_BYTES = 2**22  # what rolling_correlation works on at a time


def same_bet(side_i, side_j, rho):
    """How far two positions are one bet: 1 is the same bet twice, -1 a perfect hedge.

    Parameters
    ----------
    side_i, side_j : {1, -1} or ndarray
        +1 for long, -1 for short.
    rho : float or ndarray
        Correlation of the returns of the two names, in [-1, 1].

    Returns
    -------
    float or ndarray
        ``side_i * side_j * rho``, in [-1, 1]. An unknown correlation (NaN) counts as 1, whatever
        the sides: what is not known to be a hedge is none.

    Examples
    --------
    >>> float(same_bet(1, -1, -0.9))
    0.9
    >>> float(same_bet(1, -1, math.nan))
    1.0
    """
    return np.where(np.isnan(rho), 1.0, side_i * side_j * np.asarray(rho))[()]


def correlation_matrix(returns, window=252, min_periods=60):
    """Correlation of all pairs over the last `window` times.

    Parameters
    ----------
    returns : DataFrame, dict of str to Series, or ndarray of shape (n_bars, n_names)
        Returns per bar, oldest first. Series of different calendars are joined on time.
    window : int
        Bars looked back; with fewer, all there are.
    min_periods : int
        Common returns that a pair must have.

    Returns
    -------
    DataFrame or ndarray of shape (n_names, n_names)
        Pearson correlations, 1 on the diagonal. NaN where a pair has fewer than `min_periods`
        common returns or a name stood still.

    Notes
    -----
    ``sum((x - mean x) (y - mean y)) / sqrt(sum((x - mean x)^2) sum((y - mean y)^2))`` over the
    rows where both are finite. Where calendars differ, join prices before taking returns: the
    return of a Monday spans three days of a coin, and one of a coin only one.

    References
    ----------
    Pearson, K. (1895). Notes on regression and inheritance in the case of two parents.

    Examples
    --------
    >>> returns = np.array([[0.01, 0.02], [-0.01, -0.02], [0.02, 0.04]])
    >>> correlation_matrix(returns, window=3, min_periods=3).round(6)
    array([[1., 1.],
           [1., 1.]])
    """
    window = check_whole("correlation_matrix", "window", window, low=2)
    min_periods = _check_min_periods("correlation_matrix", min_periods, window)
    frame = _as_frame("correlation_matrix", "returns", returns)
    matrix = frame.tail(window).corr(min_periods=min_periods)
    return matrix.to_numpy() if isinstance(returns, np.ndarray) else matrix


def rolling_correlation(returns, window=252):
    """Correlation of all pairs over each `window` bars, as ``returns.rolling(window).corr()``.

    Parameters
    ----------
    returns : DataFrame, dict of str to Series, or ndarray of shape (n_bars, n_names)
        Returns per bar, oldest first. Series of different calendars are joined on time.
    window : int
        Bars looked back, the current one included.

    Returns
    -------
    DataFrame of shape (n_bars * n_names, n_names) or ndarray of shape (n_bars, n_names, n_names)
        The frame is indexed by time and name, like that of pandas. NaN before `window` bars, in
        every window that misses a return of the pair, and where a name stood still.

    Notes
    -----
    Equal to pandas, five to ten times faster. A window is summed as the end of one block of
    `window` bars plus the beginning of the next, so nothing outside it (a bad tick that has left,
    say) can reach the result; windows whose mean dwarfs their spread are centred first.

    Examples
    --------
    >>> returns = np.array([[0.01, 0.02], [-0.01, -0.02], [0.02, -0.04]])
    >>> rolling_correlation(returns, window=2)[:, 0, 1].round(6)
    array([nan,  1., -1.])
    """
    window = check_whole("rolling_correlation", "window", window, low=2)
    frame = _as_frame("rolling_correlation", "returns", returns)
    matrices = _rolling_matrices(frame.to_numpy(dtype=float), window)
    if isinstance(returns, np.ndarray):
        return matrices
    names = [frame.index.name, frame.columns.name]
    index = pd.MultiIndex.from_product([frame.index, frame.columns], names=names)
    cells = matrices.reshape(len(index), len(frame.columns))
    return pd.DataFrame(cells, index=index, columns=frame.columns, copy=False)


def correlation_exposure(
    positions,
    returns,
    capital=1.0,
    correlation_limit=0.7,
    exposure_limit=0.05,
    correlated_scale=0.8,
    window=252,
    min_periods=60,
):
    """Positions with correlated bets cut and the total capped, as a new dict.

    Parameters
    ----------
    positions : dict of str to float
        Exposure per name in the currency of `capital`, negative for short. Left unchanged.
    returns : DataFrame or dict of str to Series
        Returns per bar of at least these names, oldest first.
    capital : float
        Account value.
    correlation_limit : float or None
        Two positions above it are the same bet twice. None: no limit.
    exposure_limit : float or None
        Ceiling of ``sum(abs(position))`` as a fraction of capital. None: no limit.
    correlated_scale : float
        What is kept of a position that repeats a later one, in [0, 1].
    window, min_periods : int
        As in `correlation_matrix`.

    Returns
    -------
    dict of str to float
        Same names and signs, never larger. What was cut is logged to ``bt_risk``.

    Notes
    -----
    A pair is the same bet twice when ``side_i * side_j * rho > correlation_limit``; a hedge
    passes. Its first name, in the order of `positions`, is cut once, however many partners it
    has. An unknown correlation (NaN, too few returns) counts as 1 whatever the sides. Then all
    are scaled by ``exposure_limit * capital / total`` if their total is above the ceiling.

    Examples
    --------
    >>> move = np.sin(np.arange(100.0))
    >>> returns = pd.DataFrame({"BTC": move, "ETH": 2 * move})
    >>> correlation_exposure({"BTC": 100.0, "ETH": 50.0}, returns, capital=10_000.0)
    {'BTC': 80.0, 'ETH': 50.0}
    >>> correlation_exposure({"BTC": 100.0, "ETH": -50.0}, returns, capital=10_000.0)
    {'BTC': 100.0, 'ETH': -50.0}
    """
    here = "correlation_exposure"
    check_positive(here, "capital", capital)
    check_fraction(here, "correlated_scale", correlated_scale, zero=True)
    correlation_limit = check_limit(here, "correlation_limit", correlation_limit, fraction=True)
    exposure_limit = check_limit(here, "exposure_limit", exposure_limit)
    sized = _check_positions(here, positions)
    matrix = correlation_matrix(_columns_of(here, returns, sized), window, min_periods)
    for name in _repeated_bets(sized, matrix, correlation_limit):
        sized[name] *= correlated_scale
    return _cap_total(sized, exposure_limit * capital)


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
        self.min_periods = _check_min_periods("ReturnWindow", min_periods, self.window)
        self.last_time = None
        # Twice the depth: the axis slides along it and is moved back once per window.
        self._logs = np.full((len(self.names), 2 * self.window + 2), np.nan)
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

    def _append(self, time):
        if self._stop == self._logs.shape[1]:
            moved = self._stop - self.window
            self._logs[:, : self.window] = self._logs[:, moved:]
            self._start, self._stop = 0, self.window
            self._seam = 0  # at most window + 1 columns were seeded: it has left long ago
        self._logs[:, self._stop] = np.nan
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
        frame = _as_frame(here, "history", history)
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


def _rolling_matrices(values, window):
    """Correlations of shape (n_bars, n_names, n_names); NaN where a window is not complete."""
    n_bars, n_names = values.shape
    matrices = np.full((n_bars, n_names, n_names), np.nan)
    # A window before the first bar, of NaN: sums that reach into it are NaN.
    padded = np.full((window + n_bars, n_names), np.nan)
    np.copyto(padded[window:], values, where=np.isfinite(values))
    for start in range(0, n_bars, window):
        span = padded[start : start + 2 * window]
        doubtful = _fill_block(matrices[start : start + window], span, window)
        for bar in np.flatnonzero(doubtful):
            matrices[start + bar] = _one_matrix(span[bar + 1 : bar + 1 + window])
    return matrices


def _fill_block(matrices, span, window):
    """Fill the bars of one block; say at which ones rounding could show.

    `span` holds the returns of the block and of the `window` bars before it.
    """
    mean = _window_sums(span.copy(), window) / window
    squares = _window_sums(span**2, window) - window * mean**2
    with np.errstate(divide="ignore"):
        scale = np.where(squares > 0, 1 / np.sqrt(np.abs(squares)), np.nan)
    offset = math.sqrt(window) * mean * scale
    step = max(1, _CHUNK_BYTES // max(8 * span.size, 1))
    for first in range(0, matrices.shape[1], step):
        rows = slice(first, first + step)
        block = _window_sums(span[:, rows, None] * span[:, None, :], window)
        block *= scale[:, rows, None]
        block *= scale[:, None, :]
        block -= offset[:, rows, None] * offset[:, None, :]
        np.clip(block, -1.0, 1.0, out=matrices[:, rows])
    return (window * mean**2 > _OFF_CENTRE * squares).any(axis=1)


def _window_sums(terms, window):
    """Sum of each window that ends after the first `window` rows of `terms`, which it uses up.

    It is the end of the first block plus the beginning of the second: nothing outside the window
    is ever added, so there is nothing to subtract and nothing that drifts.
    """
    ends, sums = terms[1:window], terms[window:]
    for rows in (ends[::-1], sums):
        for row, following in pairwise(rows):  # np.cumsum along this axis takes four times as long
            following += row
    ends = ends[: len(sums)]
    sums[: len(ends)] += ends
    return sums


def _one_matrix(returns):
    """Correlations of one window of shape (window, n_names), centred on its own mean."""
    mean = returns.mean(axis=0)
    centred = returns - mean
    squares = np.einsum("ij,ij->j", centred, centred)
    still = squares <= len(returns) * (_ROUNDING * mean) ** 2
    centred /= np.where(still, np.nan, np.sqrt(squares))
    return np.clip(centred.T @ centred, -1.0, 1.0)


def _repeated_bets(positions, matrix, correlation_limit):
    """Names that are the same bet as a later one, each once, in order."""
    held = [name for name, value in positions.items() if value]
    repeated = {}
    for first, second in combinations(held, 2):
        rho = matrix.at[first, second]
        sides = np.sign(positions[first]), np.sign(positions[second])
        if same_bet(*sides, rho) > correlation_limit:
            _log.info("%s and %s are one bet: correlation %.2f", first, second, rho)
            repeated[first] = True
    return list(repeated)


def _cap_total(positions, ceiling):
    total = sum(abs(value) for value in positions.values())
    if total <= ceiling:
        return positions
    _log.info("exposure %g is cut to %g", total, ceiling)
    return {name: value * (ceiling / total) for name, value in positions.items()}


def _check_positions(component, positions):
    if not isinstance(positions, Mapping):
        remedy = "A Series has to_dict()."
        raise ParameterError(
            component, "positions", "a dict of name to exposure", positions, remedy
        )
    for name, value in positions.items():
        if not is_number(value) or math.isinf(value):
            raise ParameterError(component, f"positions[{name!r}]", "finite", value)
    return {name: float(value) for name, value in positions.items()}


def _columns_of(component, returns, names):
    frame = _as_frame(component, "returns", returns)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        constraint = "a frame with a column for every position"
        raise ParameterError(component, "returns", constraint, f"none for {missing}")
    return frame[list(names)]


def _as_frame(component, param, table):
    """Return a table of one row per time and one column per name as a DataFrame, checked."""
    if isinstance(table, Mapping):
        table = _join_on_time(component, param, table)
    elif isinstance(table, np.ndarray) and table.ndim == 2:
        table = pd.DataFrame(table)
    if not isinstance(table, pd.DataFrame):
        constraint = "a DataFrame, a dict of Series or an ndarray of shape (n_bars, n_names)"
        raise ParameterError(component, param, constraint, type(table).__name__)
    if not table.columns.is_unique:
        raise ParameterError(component, param, "one column per name", list(table.columns))
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes):
        remedy = "Times belong into the index: read_csv(path, index_col=0, parse_dates=True)."
        raise ParameterError(component, param, "numeric", list(map(str, table.dtypes)), remedy)
    if not table.index.is_monotonic_increasing:
        remedy = "Parse the dates and sort_index()."
        raise ParameterError(component, param, "sorted, oldest first", table.index[:2], remedy)
    return table


def _join_on_time(component, param, series):
    for name, one in series.items():
        if not isinstance(one, pd.Series) or not one.index.is_unique:
            constraint = "a Series with one value per time"
            raise ParameterError(component, f"{param}[{name!r}]", constraint, type(one).__name__)
    return pd.DataFrame(dict(series)).sort_index()


def _check_min_periods(component, min_periods, window):
    min_periods = check_whole(component, "min_periods", min_periods, low=2)
    if min_periods > window:
        constraint = f"at most window, which is {window}"
        remedy = "A shorter window needs its own min_periods."
        raise ParameterError(component, "min_periods", constraint, min_periods, remedy)
    return min_periods
