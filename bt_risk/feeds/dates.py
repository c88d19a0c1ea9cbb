"""Backtrader's numbers for many times at once, equal to ``bt.date2num`` to the last bit."""

from __future__ import annotations

import datetime
import math
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

__all__ = ["date_numbers", "localized", "microseconds"]

EPOCH = datetime.date(1970, 1, 1).toordinal()
SECOND, DAY = 1_000_000, 86_400_000_000  # in microseconds
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Conversions to and from a time zone leave datetime's years 1 to 9999 only outside of these.
FIRST, LAST = ((datetime.date(year, 1, 1).toordinal() - EPOCH) * DAY for year in (2, 9999))
# So many rows at once keep the temporary arrays within the cache.
CHUNK = 1 << 14
# A sum is added by `fsum` where it is so near to the middle between two floats, in parts of their
# distance, that the rounding of what its own rounding has lost may count.
TIE = 0.5 * (1 - 1e-9)


def microseconds(times: pd.DatetimeIndex) -> np.ndarray | None:
    """Return the UTC microseconds since 1970, or None where one of `times` is not a number of them.

    That is NaT, a time with nanoseconds, a year below 2 or above 9998, or a time zone of a kind
    that is not known to give the same offsets to pandas and to ``datetime``.
    """
    zone = times.tz
    known = zone is None or isinstance(zone, (datetime.timezone, ZoneInfo)) or _of_pytz(zone)
    stamps: np.ndarray = times.asi8
    unit = PER_SECOND[times.unit]
    if not known or not _within(stamps, FIRST * unit // SECOND, LAST * unit // SECOND):
        return None
    if unit <= SECOND:
        return stamps * (SECOND // unit)
    whole, rest = np.divmod(stamps, unit // SECOND)
    return None if rest.any() else whole


def date_numbers(micros: np.ndarray) -> np.ndarray:
    """Return Backtrader's numbers for UTC microseconds since 1970."""
    numbers = np.empty(len(micros))
    for begin in range(0, len(micros), CHUNK):
        part = slice(begin, begin + CHUNK)
        numbers[part] = _numbers(micros[part])
    return numbers


def localized(numbers: np.ndarray, zone: Any) -> np.ndarray | None:
    """Return `numbers` read as times in `zone`, as UTC; None where that needs one after the other.

    This is what ``tzinput`` does to each bar: ``num2date``, ``localize`` and ``date2num``.
    """
    if not _of_pytz(zone) or not _within(numbers, FIRST / DAY + EPOCH, LAST / DAY + EPOCH):
        return None
    micros = _wall_clock(numbers)
    return date_numbers(micros - _offsets(micros, zone))


def _of_pytz(zone: Any) -> bool:
    return type(zone).__module__.partition(".")[0] == "pytz"


def _within(values: np.ndarray, first: float, last: float) -> bool:
    return not len(values) or (values.min() >= first and values.max() < last)


def _numbers(micros: np.ndarray) -> np.ndarray:
    """Return day, hours, minutes, seconds and microseconds as one sum, rounded once like `fsum`."""
    day, rest = np.divmod(micros, DAY)
    second, micro = np.divmod(rest, SECOND)
    minute, second = np.divmod(second, 60)
    hour, minute = np.divmod(minute, 60)
    terms = (day + float(EPOCH), hour / 24.0, minute / 1440.0, second / 86400.0, micro / float(DAY))
    total: np.ndarray
    total, error = _two_sum(terms[1], terms[2])
    for term in (terms[3], terms[4], terms[0]):
        total, lost = _two_sum(total, term)
        error = error + lost
    distance = total - np.nextafter(total, 0.0)
    for row in np.flatnonzero(np.abs(error) >= TIE * distance):
        total[row] = math.fsum(term[row] for term in terms)
    return total


def _two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum and what its rounding has lost, exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _wall_clock(numbers: np.ndarray) -> np.ndarray:
    """Return the microseconds since 1970 that ``bt.num2date`` reads out of `numbers`."""
    day = np.floor(numbers)
    micros: np.ndarray = (day.astype(np.int64) - EPOCH) * DAY
    rest = numbers - day
    for parts, unit in ((24.0, 3600 * SECOND), (60.0, 60 * SECOND), (60.0, SECOND)):
        rest = parts * rest
        whole = np.floor(rest)
        rest = rest - whole
        micros += whole.astype(np.int64) * unit
    micro = (1e6 * rest).astype(np.int64)
    micro[micro < 10] = 0
    micro[micro > 999_990] = SECOND
    micros += micro
    return micros


def _offsets(micros: np.ndarray, zone: Any) -> np.ndarray | int:
    """Return the microseconds by which the clock of a pytz zone is ahead of UTC at `micros`."""
    changes = getattr(zone, "_utc_transition_times", None)
    if changes is None:
        return int(zone.utcoffset(None) // datetime.timedelta(microseconds=1))
    at = np.array(changes, dtype="datetime64[us]").astype(np.int64)
    ahead = [info[0] // datetime.timedelta(microseconds=1) for info in zone._transition_info]
    before, after = (
        np.maximum(np.searchsorted(at, micros + day, side="right") - 1, 0) for day in (-DAY, DAY)
    )
    offsets = np.array(ahead)[before]
    # pytz looks at the offsets a day before and a day after: where both are one, that is it.
    for row in np.flatnonzero(before != after):
        wall = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=int(micros[row]))
        offset = zone.localize(wall).utcoffset()
        offsets[row] = offset // datetime.timedelta(microseconds=1)
    return offsets
