"""How much of a budget a score is worth."""

from __future__ import annotations

import numpy as np

__all__ = ["conviction_scale"]


def conviction_scale(score: float | np.ndarray, s0: float = 20.0) -> float | np.ndarray:
    """Return the share of the risk that a score may take: ``clip((|s| - s0) / (100 - s0), 0, 1)``.

    Parameters
    ----------
    score : float or ndarray
        From -100 to 100.
    s0 : float, default 20.0
        Size of the score up to which nothing may be taken, in [0, 100).

    Returns
    -------
    float or ndarray of the shape of `score`
        From 0 to 1; NaN where the score is NaN or outside of its range.

    Examples
    --------
    >>> conviction_scale(-60.0, s0=20.0)
    0.5
    """
    size = np.abs(np.asarray(score, dtype=float))
    share = np.where(size <= 100.0, np.clip((size - s0) / (100.0 - s0), 0.0, 1.0), np.nan)
    return float(share) if share.ndim == 0 else share
