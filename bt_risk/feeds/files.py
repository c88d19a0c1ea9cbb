"""A user's own prices: one file of bars, read strictly.

A file is used as it is or refused with one DataError; nothing is sorted, filled or dropped.
"""

from __future__ import annotations

import gzip
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bt_risk.errors import DataError

__all__ = ["read_prices"]

PRICES = ["open", "high", "low", "close"]
COLUMNS = [*PRICES, "volume"]
TIMES = ["datetime", "date", "time", "timestamp", "open_time", "open time"]
KLINES = [
    "open_time",
    *COLUMNS,
    "close_time",
    "quote_volume",
    "trades",
    "taker_base",
    "taker_quote",
    "ignored",
]

# Bars are called impossible beyond a billionth: adjusted prices carry float noise.
NOISE = 1e-9


def read_prices(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a file of OHLC prices, with or without volume, and refuse what cannot be true.

    Parameters
    ----------
    path : str or path
        CSV (separated by comma, semicolon or tab; ``.gz`` too) or Parquet (``.parquet``, ``.pq``;
        needs pyarrow). Columns are found without regard to case; others are ignored, an adjusted
        close included. The time is the column datetime, date (with time beside it: both), time,
        timestamp or open_time, else the first column; in Parquet an index of times as well.
        A file without names and of 12 columns is taken as Binance klines.

    Returns
    -------
    DataFrame of shape (n_bars, 5) or (n_bars, 4)
        Columns open, high, low, close and volume, float64, without NaN; index `datetime`, oldest
        first, UTC without zone. No volume in the file: no column volume, since none is known.

    Raises
    ------
    DataError
        For the first of these found: no such file, not readable, empty, a column that is missing or
        there twice, a time that cannot be read, a value that is no number, infinite or missing,
        unsorted or repeated times, a price of zero or less, a volume below zero, high below low,
        open or close outside of low to high. It names file, column, row (the first bar is row 1),
        time, value and remedy.

    Notes
    -----
    Numbers in the time column are seconds, milliseconds, microseconds or nanoseconds since 1970,
    each by its own magnitude (one file may hold two units), or dates like 20240131. Times with
    a zone are converted to UTC, times without one are taken as UTC. Dates like 01/02/2024 are read
    when some date of the file can only be read in one way. A bar is impossible when it is wrong by
    more than a billionth of the price; less than that is float noise, and accepted.

    Examples
    --------
    >>> read_prices("no-such-file.csv")
    Traceback (most recent call last):
    bt_risk.errors.DataError: read_prices: no-such-file.csv does not exist. Check the path.
    """
    path = Path(path)
    table = _table(path)
    frame = _columns(path, table)
    frame.index = _times(path, table)
    frame = _numbers(path, frame)
    _check_order(path, frame)
    _check_bars(path, frame)
    return frame


def _table(path: Path) -> pd.DataFrame:
    """Return the content of the file as it is, with lower-case names."""
    if not path.exists():
        raise DataError(f"read_prices: {path} does not exist. Check the path.")
    try:
        table = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    except ImportError as error:
        raise DataError(f"read_prices: {path} needs pyarrow. pip install pyarrow") from error
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"read_prices: {path} cannot be read: {error}. Save it as CSV in UTF-8."
        ) from error
    if table.empty:
        raise DataError(f"read_prices: {path} is empty. It must hold one line per bar.")
    return table.rename(columns=lambda name: str(name).strip().lower())


def _parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file; an index of times becomes a column."""
    table = pd.read_parquet(path)
    if table.index.name is None and not isinstance(table.index, pd.DatetimeIndex):
        return table
    return table.rename_axis(table.index.name or "datetime").reset_index()


def _csv(path: Path) -> pd.DataFrame:
    """Read a CSV file by the separator of its first line; add the names of klines."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        line = file.readline()
        file.seek(0)
        separator = max(",;\t", key=line.count)
        cells = line.split(separator)
        bare = len(cells) == len(KLINES) and all(_is_float(cell) for cell in cells)
        names = dict(header=None, names=KLINES) if bare else {}
        table = pd.read_csv(file, sep=separator, low_memory=False, **names)
    # pandas takes values that have no name for an index, and moves the names by one column.
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("the lines have more values than the first line has names")
    return table


def _is_float(text: str) -> bool:
    """Return whether `text` reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return the price columns, and volume where there is one, as the file has them."""
    found = list(table.columns)
    # pandas calls the second of two equal names "close.1".
    twice = [n for n in [*COLUMNS, *TIMES] if found.count(n) > 1 or f"{n}.1" in found]
    if twice:
        raise DataError(f"read_prices: {path} has two columns named {twice[0]}. Keep one of them.")
    missing = [name for name in PRICES if name not in found]
    if missing:
        raise DataError(
            f"read_prices: {path} must have a column {', '.join(missing)}; got "
            f"{', '.join(map(repr, found))}. Name the columns in the first line."
        )
    return table[[name for name in COLUMNS if name in found]]


def _times(path: Path, table: pd.DataFrame) -> pd.DatetimeIndex:
    """Return the time of each bar, UTC without zone, in the order of the file."""
    name = next((name for name in TIMES if name in table), table.columns[0])
    if name in COLUMNS:
        raise DataError(
            f"read_prices: {path} must have a column of times; got "
            f"{', '.join(map(repr, table.columns))}. Call it datetime."
        )
    column = table[name]
    if name == "date" and "time" in table and not pd.api.types.is_numeric_dtype(table["time"]):
        column = column.astype(str) + " " + table["time"].astype(str)
    if pd.api.types.is_datetime64_any_dtype(column):
        times = pd.to_datetime(column, utc=True)
    elif pd.notna(pd.to_numeric(column, errors="coerce").iloc[0]):
        times = _numbered_times(pd.to_numeric(column, errors="coerce"))
    else:
        times = _written_times(path, name, column.astype(str).str.strip())
    for row in np.flatnonzero(times.isna()):
        raise DataError(
            f"read_prices: {name} must be a time; got {_plain(column.iloc[row])!r} in row "
            f"{row + 1} of {path}. Write times like 2024-01-31 14:00."
        )
    return pd.DatetimeIndex(times, name="datetime").tz_localize(None).as_unit("us")


def _numbered_times(column: pd.Series) -> pd.Series:
    """Read dates like 20240131, or counts since 1970 with the unit of each inferred from its size.

    Counts of milliseconds and finer are above 1e11 from March 1973 on, where seconds are in the
    year 5138; a number below 1e8 (March 1973 in seconds) is not a time but, say, a row count.
    """
    if column.between(19000101, 21001231).all():
        return pd.to_datetime(
            column.astype("int64").astype(str), format="%Y%m%d", errors="coerce", utc=True
        )
    values = column.to_numpy(float)
    to_microseconds = np.select(
        [values < 1e11, values < 1e14, values < 1e17], [1e6, 1e3, 1.0], 1e-3
    )
    known = (values >= 1e8) & (values < 4e18)
    counts = np.rint(np.where(known, values, 0.0) * to_microseconds).astype("int64")
    return pd.Series(counts.view("datetime64[us]")).where(known).dt.tz_localize("UTC")


def _written_times(path: Path, name: str, text: pd.Series) -> pd.Series:
    """Read times written as text; one without a year or not readable becomes NaT."""
    if text.str.match(r"\d{4}-\d\d-\d\d").all():
        return pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    day_first = _day_first(path, name, text)
    # A bare time of day would be read as one of today.
    dated = text.where(text.str.contains(r"\d{4}") & ~text.str.match(r"\d{1,2}:"))
    return pd.to_datetime(dated, format="mixed", dayfirst=day_first, errors="coerce", utc=True)


def _day_first(path: Path, name: str, text: pd.Series) -> bool:
    """Return whether dates like 13/02/2024 start with the day; raise where both are possible."""
    parts = text.str.extract(r"^(\d{1,2})[/.-](\d{1,2})[/.-]\d{4}").dropna().astype(int)
    first, second = (parts[0] > 12).any(), (parts[1] > 12).any()
    if first == second and (parts[0] != parts[1]).any():
        raise DataError(
            f"read_prices: {name} must say which is the day and which the month; got "
            f"{text[parts.index[0]]!r} in {path}. Write dates like 2024-01-31."
        )
    return bool(first)


def _numbers(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` as float64; a value that is no finite number is refused."""
    numbers = frame.apply(pd.to_numeric, errors="coerce").astype(float)
    for column in frame:
        wrong = ~np.isfinite(numbers[column])
        _refuse(path, frame, column, wrong, "a number", "Repair or remove the row.")
    return numbers


def _check_order(path: Path, frame: pd.DataFrame) -> None:
    """Refuse times that go back or repeat."""
    steps = np.diff(frame.index.to_numpy()).astype("int64")
    for row in np.flatnonzero(steps < 0):
        raise DataError(
            f"read_prices: datetime must ascend; got {frame.index[row + 1]} in row {row + 2} of "
            f"{path} after {frame.index[row]}. Sort the file by time, oldest first."
        )
    for row in np.flatnonzero(steps == 0):
        raise DataError(
            f"read_prices: datetime must be unique; got {frame.index[row + 1]} again in row "
            f"{row + 2} of {path}. Remove the repeated row, and keep one instrument per file."
        )


def _check_bars(path: Path, frame: pd.DataFrame) -> None:
    """Refuse prices and volumes that no market has."""
    for column in PRICES:
        remedy = "A missing price is not a price of zero: remove the row."
        _refuse(path, frame, column, frame[column] <= 0, "above zero", remedy)
    if "volume" in frame:
        remedy = "Repair the row, or leave the column out."
        _refuse(path, frame, "volume", frame["volume"] < 0, "zero or more", remedy)
    low, high = frame["low"] * (1 - NOISE), frame["high"] * (1 + NOISE)
    remedy = "Repair or remove the row, or check which column is which."
    _refuse(path, frame, "high", high < low, "at least low", remedy)
    for column in ("open", "close"):
        outside = (frame[column] < low) | (frame[column] > high)
        _refuse(path, frame, column, outside, "between low and high", remedy)


def _refuse(
    path: Path, frame: pd.DataFrame, column: str, wrong: pd.Series, constraint: str, remedy: str
) -> None:
    """Raise for the first row of `frame` that is `wrong`, if there is one."""
    for row in np.flatnonzero(wrong):
        raise DataError(
            f"read_prices: {column} must be {constraint}; got {_plain(frame[column].iloc[row])!r} "
            f"in row {row + 1} ({frame.index[row]}) of {path}. {remedy}"
        )


def _plain(value: Any) -> Any:
    """Return a numpy scalar as the Python one, which prints without its type."""
    return value.item() if isinstance(value, np.generic) else value
