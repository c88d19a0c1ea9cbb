"""Funding rates by time, and what they sum up to between two times."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pandas as pd

from bt_risk.errors import ParameterError, is_number

__all__ = ["FundingRates"]

# The first day of 1970, in days since the first of the year 1, as Backtrader counts them.
_EPOCH = 719_163.0
_ROWS = "rows of a time and a rate, as a Series, a frame, or the path of a CSV file"


class FundingRates:
    """The rate of each payment, a fraction of the value of a position, by its time.

    Attributes
    ----------
    rows : tuple of (str, float)
        Time in ISO form and rate, the oldest first.
    """

    def __init__(self, rows: Iterable[tuple[pd.Timestamp, float]]) -> None:
        ordered = sorted(rows)
        self.rows = tuple((time.isoformat(), float(rate)) for time, rate in ordered)
        self._times = [_number(time) for time, _ in ordered]
        self._sums = [0.0]
        for _, rate in ordered:
            self._sums.append(self._sums[-1] + float(rate))

    @classmethod
    def read(cls, component: str, funding: Any) -> Self:
        """Return the rates of a Series by time, a frame with one column, rows, or a CSV file.

        A file has a time and a rate in its first two columns. Times with a zone are taken in UTC.
        Raises ParameterError for anything else, a time twice, and a rate that is no number in
        (-1, 1).
        """
        rows = list(_pairs(component, funding))
        times = [time for time, _ in rows]
        if len(set(times)) < len(times):
            raise ParameterError(component, "funding", "one rate for each time", "a time twice")
        for _, rate in rows:
            if not (is_number(rate) and abs(rate) < 1.0):
                remedy = "Rates are fractions: 0.01 % is 0.0001."
                raise ParameterError(component, "funding", "rates in (-1, 1)", rate, remedy)
        return cls(rows)

    def between(self, after: float, until: float) -> float:
        """Return the sum of the rates later than `after` and up to `until`, both date numbers.

        Examples
        --------
        >>> rates = FundingRates.read("it", [("1970-01-02", 0.0001), ("1970-01-03", 0.0002)])
        >>> round(rates.between(719_163.0, 719_165.0), 6), rates.between(719_165.0, 719_170.0)
        (0.0003, 0.0)
        """
        first, last = bisect_right(self._times, after), bisect_right(self._times, until)
        return self._sums[last] - self._sums[first] if last > first else 0.0


def _pairs(component: str, funding: Any) -> Iterable[tuple[pd.Timestamp, float]]:
    """Yield time and rate of whatever holds them."""
    if isinstance(funding, str | Path):
        path = Path(funding)
        if not path.is_file():
            raise ParameterError(component, "funding", "an existing file", str(path))
        frame = pd.read_csv(path)
        funding = list(zip(frame.iloc[:, 0], frame.iloc[:, 1], strict=True))
    elif isinstance(funding, pd.DataFrame) and funding.shape[1] == 1:
        funding = funding.iloc[:, 0]
    if isinstance(funding, pd.Series):
        funding = list(funding.items())
    if not isinstance(funding, list | tuple) or not all(_is_pair(row) for row in funding):
        raise ParameterError(component, "funding", _ROWS, funding)
    for time, rate in funding:
        yield _time(component, time), rate


def _is_pair(row: Any) -> bool:
    return isinstance(row, list | tuple) and len(row) == 2


def _time(component: str, time: Any) -> pd.Timestamp:
    try:
        stamp = pd.Timestamp(time)
    except (ValueError, TypeError):
        stamp = pd.NaT
    if stamp is pd.NaT or isinstance(time, float | int):
        raise ParameterError(component, "funding", "dates and times", time)
    return stamp.tz_convert(None) if stamp.tzinfo is not None else stamp


def _number(time: pd.Timestamp) -> float:
    """Return a time as a date number; rounding must not move it behind a bar of the same time."""
    days = float((time - pd.Timestamp(0)) / pd.Timedelta(days=1))
    return math.floor((_EPOCH + days) * 86_400_000.0 + 0.5) / 86_400_000.0
