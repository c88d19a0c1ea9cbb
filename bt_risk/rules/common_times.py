"""Returns between the times at which several names have a close."""

from __future__ import annotations

import numpy as np

from bt_risk.rules.frames import BoolArray, FloatArray, IntArray

__all__ = ["common_times_before", "log_returns"]


def log_returns(logs: FloatArray, seam: int, step: int) -> FloatArray:
    """Return the log returns over `step` columns; none spans the column `seam` and the one before.

    `logs` has shape (n_names, n_times).
    """
    returns = logs[:, step:] - logs[:, :-step]
    if 0 < seam < logs.shape[1]:
        returns = np.delete(returns, slice(max(seam - step, 0), seam), axis=1)
    return returns


def common_times_before(common: BoolArray, step: int) -> IntArray:
    """Return, per row, the column `step` common times before each column; -1 for none."""
    last = np.where(common, np.arange(common.shape[1]), -1)
    np.maximum.accumulate(last, axis=1, out=last)
    last = np.column_stack([np.full(len(last), -1), last[:, :-1]])
    before = last
    for _ in range(step - 1):
        before = np.where(before >= 0, np.take_along_axis(last, before, axis=1), -1)
    return before
