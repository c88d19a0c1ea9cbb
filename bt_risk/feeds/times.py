"""The time of each bar, however a file writes it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from bt_risk.errors import DataError
from bt_risk.feeds.pandas_versions import InvalidTimeError

__all__ = ["read_times"]

ZONE = r"\s+([A-Z][A-Za-z]+/[A-Za-z_/]+)$"
HOUR_OF_DAY = r"(\d{4}-\d\d-\d\d) (\d{1,2})-([AP]M)$"


def read_times(
    path: Path, table: pd.DataFrame, name: str, format: str | None, tz: str | None
) -> pd.DatetimeIndex:
    """Return the time of each bar, UTC without zone, in the order of the file."""
    column = table[name]
    if name == "date" and "time" in table:
        column = _joined(column, table["time"])
    if format is not None:
        times = pd.to_datetime(column.astype(str).str.strip(), format=format, errors="coerce")
    elif pd.api.types.is_datetime64_any_dtype(column):
        times = column
    elif pd.notna(pd.to_numeric(column, errors="coerce").iloc[0]):
        times = _numbered(pd.to_numeric(column, errors="coerce"), tz)
    else:
        times, tz = _written(path, name, column.astype(str).str.strip(), tz)
    for row in np.flatnonzero(times.isna()):
        value = column.iloc[row]
        shown = value.item() if isinstance(value, np.generic) else value
        remedy = "format= says how" if format is None else f"format is {format!r}"
        raise DataError(
            f"read_prices: {name} must be a time; got {shown!r} in {table.index.name} "
            f"{table.index[row]} of {path}. Write times like 2024-01-31 14:00 ({remedy})."
        )
    if times.dt.tz is None:
        times = _localized(path, times, tz or "UTC")
    index = pd.DatetimeIndex(times.dt.tz_convert("UTC"), name="datetime")
    return index.tz_localize(None).as_unit("us")


def _joined(date: pd.Series, time: pd.Series) -> pd.Series:
    """Return date and time of day as one text; a number that is no time of day is left out."""
    if not pd.api.types.is_numeric_dtype(time):
        return date.astype(str) + " " + time.astype(str)
    if not time.between(0, 240000).all() or pd.api.types.is_datetime64_any_dtype(date):
        return date
    clock = time.astype("int64").astype(str).str.zfill(6)
    return date.astype(str) + " " + clock


def _numbered(column: pd.Series, tz: str | None) -> pd.Series:
    """Read dates like 20240131, or counts since 1970 with the unit of each inferred from its size.

    Counts of milliseconds and finer are above 1e11 from March 1973 on, where seconds are in the
    year 5138; a number below 1e8 (March 1973 in seconds) is not a time but, say, a row count.
    """
    if column.between(19000101, 21001231).all():
        return pd.to_datetime(column.astype("int64").astype(str), format="%Y%m%d", errors="coerce")
    values = column.to_numpy(float)
    to_microseconds = np.select(
        [values < 1e11, values < 1e14, values < 1e17], [1e6, 1e3, 1.0], 1e-3
    )
    known = (values >= 1e8) & (values < 4e18)
    counts = np.rint(np.where(known, values, 0.0) * to_microseconds).astype("int64")
    read = pd.Series(counts.view("datetime64[us]"), index=column.index)
    return read.where(known).dt.tz_localize("UTC")


def _written(
    path: Path, name: str, text: pd.Series, tz: str | None
) -> tuple[pd.Series, str | None]:
    """Read times written as text, and the zone that they name; one not readable becomes NaT."""
    zones = text.str.extract(ZONE, expand=False) if re.search(ZONE, str(text.iloc[0])) else text[:0]
    if len(zones) and zones.notna().all():
        if zones.nunique() > 1:
            raise DataError(
                f"read_prices: {path} must have times of one zone; got "
                f"{', '.join(sorted(zones.unique()))}. Export it in UTC."
            )
        text, tz = text.str.replace(ZONE, "", regex=True), zones.iloc[0]
    if not text.str.match(r"\d{4}-\d\d-\d\d").all():
        compact = text.str.replace(
            r"^(\d{4})[./]?(\d\d)[./]?(\d\d)(?=\D|$)", r"\1-\2-\3", regex=True
        )
        text = compact.str.replace(r"\s+", " ", regex=True)
        text = text.str.replace(r" (\d\d)(\d\d)(\d\d)$", r" \1:\2:\3", regex=True)
    if text.str.fullmatch(HOUR_OF_DAY).all():
        return pd.to_datetime(text, format="%Y-%m-%d %I-%p", errors="coerce"), tz
    if text.str.match(r"\d{4}-\d\d-\d\d").all():
        return _zoned(text, tz, format="ISO8601"), tz
    day_first = _day_first(path, name, text)
    # A bare time of day would be read as one of today.
    dated = text.where(text.str.contains(r"\d{4}") & ~text.str.match(r"\d{1,2}:"))
    return _zoned(dated, tz, format="mixed", dayfirst=day_first), tz


def _zoned(text: pd.Series, tz: str | None, **options: object) -> pd.Series:
    """Read times with or without an offset; those of a file with both are taken as UTC."""
    if tz is None:
        return pd.to_datetime(text, errors="coerce", utc=True, **options)
    offset = text.str.contains(
        r"(?:Z|UTC|GMT|:\d\d(?:\.\d+)?\s*[+-]\d\d(?::?\d\d)?)$", flags=re.IGNORECASE
    ).fillna(False)
    return pd.to_datetime(text, errors="coerce", utc=bool(offset.any()), **options)


def _localized(path: Path, times: pd.Series, zone: str) -> pd.Series:
    """Return times of a zone as such; the hour that a zone has twice is told by its neighbours."""
    newest_first = len(times) > 1 and times.iloc[0] > times.iloc[-1]
    ordered = times.iloc[::-1] if newest_first else times
    try:
        found = ordered.dt.tz_localize(zone, ambiguous="infer")
    except (ValueError, InvalidTimeError) as error:
        raise DataError(
            f"read_prices: {path} has times that {zone} does not have: {error}. "
            f"Give the zone of the file as tz=, or export it in UTC."
        ) from error
    return found.iloc[::-1] if newest_first else found


def _day_first(path: Path, name: str, text: pd.Series) -> bool:
    """Return whether dates like 13/02/2024 start with the day; raise where both are possible."""
    parts = text.str.extract(r"^(\d{1,2})[/.-](\d{1,2})[/.-]\d{4}").dropna().astype(int)
    first, second = (parts[0] > 12).any(), (parts[1] > 12).any()
    if first == second and (parts[0] != parts[1]).any():
        raise DataError(
            f"read_prices: {name} must say which is the day and which the month; got "
            f"{text[parts.index[0]]!r} in {text.index.name} {parts.index[0]} of {path}. Give "
            f"format='%d/%m/%Y' or '%m/%d/%Y', or write dates like 2024-01-31."
        )
    return bool(first)
