"""The scans of `stop_scans` bar by bar, compiled by numba: importing this needs the extra `fast`.

There is no branch in the loops: whether a stop is touched cannot be predicted, and a branch that
is predicted wrongly takes four times as long as the rest of a bar.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["closes", "extremes"]

# Nothing is cached on disk: an installed package may be read-only.


@numba.njit
def closes(levels, lows, stops):  # type: ignore[no-untyped-def]  # numba finds the types
    """Write the stop after each bar to `stops`, as `trail_closes`."""
    stop = -np.inf
    for bar in range(levels.size):
        level = levels[bar]
        before = -np.inf if lows[bar] <= stop else stop
        stop = level if level > before else before
        stops[bar] = stop


@numba.njit
def extremes(highs, lows, widths, stops):  # type: ignore[no-untyped-def]
    """Write the stop after each bar to `stops`, as `trail_extremes`."""
    stop = extreme = -np.inf
    for bar in range(highs.size):
        high, touched = highs[bar], lows[bar] <= stop
        best = -np.inf if touched else extreme
        before = -np.inf if touched else stop
        extreme = high if high > best else best
        level = extreme - widths[bar]
        stop = level if level > before else before
        stops[bar] = stop
