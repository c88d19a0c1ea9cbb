"""Times of bars as datetimes, many at once."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

__all__ = ["datetimes"]

_EPOCH = datetime.date(1970, 1, 1).toordinal()


def datetimes(numbers: Any) -> list[datetime.datetime]:
    """Return what ``backtrader.num2date`` returns for each number of days, without a zone.

    Parameters
    ----------
    numbers : sequence of float, shape (n,)
        Days, counted as Backtrader does.

    Returns
    -------
    list of n datetime
        Naive. Equal to the last microsecond: the operations are the same, on arrays.
    """
    values = np.asarray(numbers, dtype=float)
    days = values.astype(np.int64)
    hours, rest = np.divmod(24.0 * (values - days), 1.0)
    minutes, rest = np.divmod(60.0 * rest, 1.0)
    seconds, rest = np.divmod(60.0 * rest, 1.0)
    micros = (1e6 * rest).astype(np.int64)
    micros[micros < 10] = 0
    micros[micros > 999990] = 1_000_000
    whole = (days - _EPOCH) * 86_400 + (hours * 3600 + minutes * 60 + seconds).astype(np.int64)
    found: list[datetime.datetime] = (whole * 1_000_000 + micros).astype("datetime64[us]").tolist()
    return found
