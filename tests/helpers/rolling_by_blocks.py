"""The rolling correlation by running sums of the products of every pair, from a window alone."""

import math
from itertools import pairwise

import numpy as np

from bt_risk.rules.rolling_matrices import _OFF_CENTRE, _one_matrix


def matrices_by_blocks(values, window):
    """Return correlations of shape (n_bars, n_names, n_names)."""
    n_bars, n_names = values.shape
    matrices = np.full((n_bars, n_names, n_names), np.nan)
    padded = np.full((window + n_bars, n_names), np.nan)
    np.copyto(padded[window:], values, where=np.isfinite(values))
    for start in range(0, n_bars, window):
        span = padded[start : start + 2 * window]
        doubtful = _fill_block(matrices[start : start + window], span, window)
        for bar in np.flatnonzero(doubtful):
            matrices[start + bar] = _one_matrix(span[bar + 1 : bar + 1 + window])
    return matrices


def _fill_block(matrices, span, window):
    mean = _window_sums(span.copy(), window) / window
    squares = _window_sums(span**2, window) - window * mean**2
    with np.errstate(divide="ignore"):
        scale = np.where(squares > 0, 1 / np.sqrt(np.abs(squares)), np.nan)
    offset = math.sqrt(window) * mean * scale
    block = _window_sums(span[:, :, None] * span[:, None, :], window)
    block *= scale[:, :, None]
    block *= scale[:, None, :]
    block -= offset[:, :, None] * offset[:, None, :]
    np.clip(block, -1.0, 1.0, out=matrices)
    return np.any(window * mean**2 > _OFF_CENTRE * squares, axis=1)


def _window_sums(terms, window):
    ends, sums = terms[1:window], terms[window:]
    for rows in (ends[::-1], sums):
        for row, following in pairwise(rows):
            following += row
    ends = ends[: len(sums)]
    sums[: len(ends)] += ends
    return sums
