"""Correlation matrices of all windows of a table of returns.

Each is computed from its window itself, never from running sums: those still carry a bad tick after
it has left, and lose all digits for a name that stands still.

Windows that follow each other share most of their bars, their core. The products of all pairs over
a core are summed once for a group of windows; for each window those of its own other bars are
added. So nothing outside a window is ever added: there is nothing to subtract, and nothing that
drifts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise
from typing import NamedTuple

import numpy as np

from bt_risk.rules.frames import BoolArray, FloatArray, IntArray

__all__ = ["rolling_matrices"]

# The largest spread that rounding makes of a true zero, as a share of the mean return.
_STILL = 32 * np.finfo(float).eps

# Above this ratio of squared mean to variance, sums of squares lose digits that matter.
_OFF_CENTRE = 1e4
_EDGE_CELLS = 25_600  # returns of the bars that the windows of a group do not share
_LEAST_GROUP = 16  # windows
_FEW_BYTES = 2**19  # matrices that are written at a time: they stay in the cache of a processor
_NAMES = 125  # in a part: OpenBLAS shares the products of more among threads


class _Moments(NamedTuple):
    """Hold what correlations need of each name, for each whole window.

    Both arrays of floats have shape (n_windows, n_names): the mean times the root of the window's
    length, and one by the root of the sum of squares. `doubtful` are the windows at which rounding
    could show.
    """

    mean: FloatArray
    scale: FloatArray
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
    whole = matrices[window - 1 :]
    if not whole.size:
        return matrices
    returns = np.array(values, order="C")  # a DataFrame has its columns one after the other
    returns[~np.isfinite(returns)] = np.nan
    with np.errstate(over="ignore", invalid="ignore"):
        moments = _all_moments(returns, window)
        for names, others in combinations_with_replacement(_parts(n_names), 2):
            _fill(whole, names, others, returns, moments)
    for one in np.flatnonzero(moments.doubtful):
        whole[one] = _one_matrix(returns[one : one + window])
    return matrices


def _parts(n_names: int) -> list[slice]:
    """Return the names in parts of about equal size."""
    bounds = np.linspace(0, n_names, -(-n_names // _NAMES) + 1).astype(int).tolist()
    return [slice(*ends) for ends in pairwise(bounds)]


def _fill(
    matrices: FloatArray, names: slice, others: slice, returns: FloatArray, moments: _Moments
) -> None:
    """Write the correlations of two parts of the names, in groups of windows that share a core."""
    n_bars, n_windows = len(returns), len(matrices)
    window, one_part = n_bars - n_windows + 1, names == others
    group = min(window, max(_LEAST_GROUP, math.isqrt(_EDGE_CELLS // (names.stop - names.start))))
    # Of each window the bars before and after the core, and its means, which are subtracted.
    table = np.concatenate((returns[:, names], moments.mean[:, names]))
    opposite = np.concatenate((returns[:, others], -moments.mean[:, others]))
    rows = _edge_rows(group, window, n_bars)
    left, right = (np.empty((*rows.shape, each.shape[1])) for each in (table, opposite))
    few = min(group, max(1, _FEW_BYTES // (8 * table.shape[1] * opposite.shape[1])))
    scales = np.empty((few, table.shape[1], opposite.shape[1]))
    both = np.empty_like(scales[0])
    symmetric = one_part and _makes_symmetric(left, right, scales)
    cores = _cores(returns[:, names], returns[:, others], window, group)
    for first, core in zip(range(0, n_windows, group), cores, strict=True):
        if one_part:
            core = np.add(core, core.T, out=both)
            core /= 2
        np.take(table, rows + first, axis=0, out=left, mode="clip")
        np.take(opposite, rows + first, axis=0, out=right, mode="clip")
        for begin in range(first, min(first + group, n_windows), few):
            windows = slice(begin, min(begin + few, first + group, n_windows))
            taken = slice(begin - first, windows.stop - first)
            out, scale = matrices[windows, names, others], moments.scale[windows]
            np.matmul(left[taken].swapaxes(1, 2), right[taken], out=out)
            out += core
            factors = scales[: len(out)]
            out *= np.einsum("ti,tj->tij", scale[:, names], scale[:, others], out=factors)
            np.clip(out, -1.0, 1.0, out=out)
            if not one_part:
                matrices[windows, others, names] = out.swapaxes(1, 2)
            elif not symmetric:
                _mirror(out)


def _edge_rows(group: int, window: int, n_bars: int) -> IntArray:
    """Return where the edges of the first group are, of shape (windows, rows of a window).

    A later window has one bar less before the core, and one more after it. The row of its means is
    the last; those of all windows follow the `n_bars` returns.
    """
    slot, place = np.arange(group), np.arange(group)[:, None]
    rows = slot + np.where(slot < place, window, 0)
    rows[:, -1] = n_bars + place[:, 0]
    return rows


def _cores(names: FloatArray, others: FloatArray, window: int, group: int) -> Iterator[FloatArray]:
    """Yield for each group the products of all pairs, summed over what its windows share.

    All are written to one array. A core begins with the first bar of the last window, and ends with
    the last bar of the first. Its products are summed by blocks of `group` bars, of which the next
    core has all but one.
    """
    n_groups = -(-(len(names) - window + 1) // group)
    n_blocks, left_over = divmod(window - group + 1, group)
    n_all = n_groups - 1 + n_blocks if n_blocks else 0
    blocks = slice(group - 1, group - 1 + n_all * group)
    products = _products(
        *(each[blocks].reshape(n_all, group, each.shape[1]) for each in (names, others))
    )
    core, rest = np.empty((2, names.shape[1], others.shape[1]))  # of every group: no new memory
    for number in range(n_groups):
        np.add.reduce(products[number : number + n_blocks], axis=0, out=core)
        end = number * group + window
        last = slice(end - left_over, end)
        core += _products(names[last], others[last], rest)
        yield core


def _products(names: FloatArray, others: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """Return the sums of the products of all pairs over the rows of each block."""
    # Of one array twice numpy makes another product, which OpenBLAS shares among threads.
    products: FloatArray = np.matmul(names.swapaxes(-1, -2), others.copy(), out=out)
    return products


def _makes_symmetric(left: FloatArray, right: FloatArray, out: FloatArray) -> bool:
    """Return whether products in these arrays are symmetric, whatever is in them.

    Each sum has the same terms as the one that mirrors it, but where it stands in a matrix, and the
    matrix in memory, may decide in which sequence they are added.
    """
    left[:] = right[:] = np.random.default_rng(0).normal(size=left.shape)
    for begin in range(0, len(left), len(out)):
        taken = slice(begin, begin + len(out))
        products = out[: len(left[taken])]
        np.matmul(left[taken].swapaxes(1, 2), right[taken], out=products)
        if not np.array_equal(products, products.swapaxes(1, 2)):
            return False
    return True


def _mirror(matrices: FloatArray) -> None:
    """Copy what is above the diagonals to below them."""
    for row in range(matrices.shape[1] - 1):
        matrices[:, row + 1 :, row] = matrices[:, row, row + 1 :]


def _all_moments(returns: FloatArray, window: int) -> _Moments:
    """Return them for all whole windows.

    A window is the end of one block of `window` bars and the beginning of the next. Sums run
    backwards through the first and forwards through the second.
    """
    parts = []
    for start in range(0, len(returns), window):
        # Nothing is before the first block, in which only the last bar has a whole window.
        before, skipped = (window, 0) if start else (0, window - 1)
        part = _moments(returns[start - before : start + window], before, window)
        parts.append([column[skipped:] for column in part])
    return _Moments(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


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
    return _Moments(math.sqrt(window) * means, scale, doubtful)


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
