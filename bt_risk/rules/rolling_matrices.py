"""Correlation matrices of all windows of a table of returns.

Each is computed from its window itself, never from running sums: those still carry a bad tick after
it has left, and lose all digits for a name that stands still.

A window is the end of one block of bars and the beginning of the next. Sums run backwards through
the first and forwards through the second, so that nothing outside the window is ever added: there
is nothing to subtract, and nothing that drifts. Each pair of names is computed once, in parts that
fit into the caches of a processor.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bt_risk.rules.frames import BoolArray, FloatArray, IntArray

__all__ = ["rolling_matrices"]

# The largest spread that rounding makes of a true zero, as a share of the mean return.
_STILL = 32 * np.finfo(float).eps

# Above this ratio of squared mean to variance, sums of squares lose digits that matter.
_OFF_CENTRE = 1e4
_CHUNK_BYTES = 2**22  # products of pairs that are summed at a time
_FEW_BARS = 32  # bars that are scaled at a time
_FEWER_BARS = 8  # bars that are written at a time


class _Part(NamedTuple):
    """Hold some names, which are paired with themselves and all later ones.

    `place` is where their correlations are among those of all parts.
    """

    names: slice
    later: slice
    place: slice


class _Moments(NamedTuple):
    """Hold what correlations need of each name, for each window that ends in a block.

    All arrays have shape (n_bars, n_names) but `doubtful`, the bars at which rounding could show.
    """

    scale: FloatArray
    offset: FloatArray
    doubtful: BoolArray


def rolling_matrices(values: FloatArray, window: int) -> FloatArray:
    """Return the correlations of all names over each `window` bars; NaN in incomplete windows.

    Parameters
    ----------
    values : ndarray of shape (n_bars, n_names)
        Returns, oldest first. What is not finite is missing.
    window : int

    Returns
    -------
    ndarray of shape (n_bars, n_names, n_names)
        Symmetric to the last bit.
    """
    n_bars, n_names = values.shape
    matrices = np.empty((n_bars, n_names, n_names))
    matrices[: window - 1] = np.nan
    returns = np.where(np.isfinite(values), values, np.nan)
    parts = _parts(n_names, 2 * window)
    where = _places(parts, n_names)
    pairs = np.empty((window, where.max(initial=-1) + 1))
    for start in range(0, n_bars, window):
        # Nothing is before the first block, in which only the last bar has a whole window.
        before, skipped = (window, 0) if start else (0, window - 1)
        span = returns[start - before : start + window]
        moments = _moments(span, before, window)
        for part in parts:
            _correlate(part, span, before, skipped, moments, pairs)
        block = matrices[start : start + window]
        for first in range(skipped, len(block), _FEWER_BARS):
            few = block[first : first + _FEWER_BARS].reshape(-1, n_names**2)
            np.take(pairs[first : first + len(few)], where, axis=1, out=few, mode="clip")
        for bar in np.flatnonzero(moments.doubtful[skipped:]) + skipped:
            end = before + bar + 1
            block[bar] = _one_matrix(span[end - window : end])
    return matrices


def _parts(n_names: int, n_rows: int) -> list[_Part]:
    parts: list[_Part] = []
    first = place = 0
    while first < n_names:
        later = n_names - first
        n_own = min(later, max(1, _CHUNK_BYTES // (8 * n_rows * later)))
        taken = slice(place, place + n_own * later)
        parts.append(_Part(slice(first, first + n_own), slice(first, None), taken))
        first, place = first + n_own, taken.stop
    return parts


def _places(parts: list[_Part], n_names: int) -> IntArray:
    """Return where the correlation of each two names is, of shape (n_names ** 2,)."""
    places = np.empty((n_names, n_names), dtype=np.intp)
    for part in parts:
        block = places[part.names, part.later]
        block[:] = np.arange(part.place.start, part.place.stop).reshape(block.shape)
    below = np.tril_indices(n_names)
    places[below] = places.T[below]
    return places.reshape(-1)


def _moments(span: FloatArray, before: int, window: int) -> _Moments:
    """Return them for the bars of a block; `span` begins with `before` bars of the block before."""
    ends, sums = _running_sums(np.concatenate((span, span**2), axis=1), before)
    sums[: len(ends)] += ends
    means, squares = np.split(sums, 2, axis=1)
    means /= window
    squares -= window * means**2
    with np.errstate(divide="ignore"):
        scale = np.where(squares > 0, 1 / np.sqrt(np.abs(squares)), np.nan)
    doubtful: BoolArray = np.any(window * means**2 > _OFF_CENTRE * squares, axis=1)
    return _Moments(scale, math.sqrt(window) * means * scale, doubtful)


def _correlate(
    part: _Part,
    span: FloatArray,
    before: int,
    skipped: int,
    moments: _Moments,
    pairs: FloatArray,
) -> None:
    """Write the correlations of a part to their place in `pairs`, one row for each bar."""
    products = np.einsum("ti,tj->tij", span[:, part.names], span[:, part.later])
    shape = products.shape[1:]
    ends, sums = _running_sums(products.reshape(len(span), -1), before)
    for first in range(skipped, len(sums), _FEW_BARS):
        bars = slice(first, first + _FEW_BARS)
        few, scale, offset = sums[bars], moments.scale[bars], moments.offset[bars]
        few[: len(ends[bars])] += ends[bars]
        each = few.reshape(-1, *shape)
        each *= scale[:, part.names, None]
        each *= scale[:, None, part.later]
        each -= np.einsum("ti,tj->tij", offset[:, part.names], offset[:, part.later])
        np.clip(few, -1.0, 1.0, out=pairs[first : first + len(few), part.place])


def _running_sums(terms: FloatArray, before: int) -> tuple[FloatArray, FloatArray]:
    """Return the sums from each row to the end of a block, and from the beginning of the next.

    The first block has `before` rows. The sum of a window is one of the latter, and one of the
    former if it begins before. `terms` are overwritten.
    """
    ends, sums = terms[1:before], terms[before:]
    for rows in (ends[::-1], sums):
        for row, following in pairwise(rows):  # np.cumsum along this axis takes four times as long
            following += row
    return ends[: len(sums)], sums


def _one_matrix(returns: FloatArray) -> FloatArray:
    """Return correlations of one window of shape (window, n_names), centred on its own mean."""
    mean = returns.mean(axis=0)
    centred = returns - mean
    squares = np.einsum("ij,ij->j", centred, centred)
    still = squares <= len(returns) * (_STILL * mean) ** 2
    centred /= np.where(still, np.nan, np.sqrt(squares))
    matrix: FloatArray = np.clip(centred.T @ centred, -1.0, 1.0)
    return matrix
