"""A user's own prices: one file of bars, as vendors, platforms and spreadsheets write it.

What can be read in one way only is read, and what changes no bar is repaired and said; anything
else is refused with one DataError.
"""

from __future__ import annotations

import csv
import logging
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from bt_risk.errors import DataError, ParameterError, check_choice
from bt_risk.feeds.formats import COLUMNS, PRICES, TIMES, Layout, named_layout, plain_name
from bt_risk.feeds.numbers import check_points, marks, plain_numbers
from bt_risk.feeds.repairs import drop_null_rows, drop_repeated_rows, put_in_order
from bt_risk.feeds.text import Text, open_text
from bt_risk.feeds.times import read_times

__all__ = ["TIMES", "read_prices"]

_log = logging.getLogger("bt_risk")

Columns = Mapping[str, str | None] | Sequence[str]
KNOWN = ["datetime", *COLUMNS]
INSTRUMENTS = ["symbol", "ticker"]
PARQUET = (".parquet", ".pq")

# Bars are called impossible beyond a billionth: adjusted prices carry float noise.
NOISE = 1e-9


def read_prices(
    path: str | PathLike[str],
    format: str | None = None,
    columns: Columns | None = None,
    tz: str | None = None,
    decimal: str | None = None,
    sort: bool | None = None,
) -> pd.DataFrame:
    """Read a file of OHLC prices, with or without volume, and refuse what cannot be true.

    Parameters
    ----------
    path : str or path
        Text (UTF-8 or UTF-16, packed by gzip or zip too; separated by comma, semicolon, tab or
        bar) or Parquet (``.parquet``, ``.pq``; needs pyarrow). Known are the files of Yahoo and
        yfinance, Binance (klines), ccxt, CryptoDataDownload, MetaTrader 4 and 5, Polygon, Alpaca,
        Alpha Vantage, Nasdaq, Investing.com, Interactive Brokers, Stooq, HistData and Excel. In any
        other file the columns are found by name without regard to case, and others are ignored, an
        adjusted close included. The time is the column datetime, date (with time beside it: both),
        time, timestamp or open_time, else the first column; in Parquet an index of times as well.
    format : str, optional
        How times are written, as `strptime` has it: ``"%d/%m/%Y"``. Date and time in two columns
        have one space between them.
    columns : dict or list of str, optional
        Dict: the name in the file by the name in the frame (datetime, open, high, low, close,
        volume); None leaves volume out. List: the name of each column, for a file without names,
        or in place of them.
    tz : str, optional
        Zone of times that name none: ``"America/New_York"``. None: UTC.
    decimal : str, optional
        ``","`` or ``"."``. None: what the prices of the file can be read as.
    sort : bool, optional
        True sorts by time. None turns round a file that has the newest bar first, and False
        refuses it too.

    Returns
    -------
    DataFrame of shape (n_bars, 5) or (n_bars, 4)
        Columns open, high, low, close and volume, float64, without NaN; index `datetime`, oldest
        first, UTC without zone. No volume in the file: no column volume, since none is known.
        ``attrs["format"]`` names the kind of file, ``attrs["repairs"]`` lists what was repaired.

    Raises
    ------
    DataError
        For the first of these found: no such file, not readable, empty, a column that is missing or
        there twice, more than one instrument, a time or comma that cannot be read in one way, a
        value that is no number, infinite or missing, unsorted times, one time with two bars, a
        price of zero or less, a volume below zero, high below low, open or close outside of low to
        high. It names file, column, line (row in Parquet; the first is row 1), time, value and
        remedy.

    Notes
    -----
    Three things are repaired, and said by the log `bt_risk` (WARNING): the newest bar comes first,
    a row repeats another one whole, a row has no price at all.

    Numbers in the time column are seconds, milliseconds, microseconds or nanoseconds since 1970,
    each by its own magnitude (one file may hold two units), or dates like 20240131. Times with
    a zone are converted to UTC. Dates like 01/02/2024 are read when some date of the file can only
    be read in one way; `format` settles it. The volume of Investing.com (82.49M) is in units. A bar
    is impossible when it is wrong by more than a billionth of the price; less than that is float
    noise, and accepted.

    Examples
    --------
    >>> try:
    ...     read_prices("no-such-file.csv")
    ... except DataError as error:
    ...     print(error)
    read_prices: no-such-file.csv does not exist. Check the path.
    """
    path = Path(path)
    _check_parameters(columns, tz, decimal)
    said: list[str] = []
    given = tuple(columns) if columns is not None and not isinstance(columns, Mapping) else None
    table, text = _table(path, given)
    table, layout = _named(path, table, text, columns)
    time = _time_column(path, table)
    _check_columns(path, table)
    names = list(table.columns)
    frame = table[[name for name in COLUMNS if name in table]]
    written = partial(_written, text, names, frame)
    mark, thousands = marks(path, frame, decimal, layout.grouped, written)
    if text is not None and (mark, thousands) != (".", None):
        if mark == ",":
            check_points(path, written())
        again = text.table(decimal=mark, thousands=thousands).set_axis(names, axis=1)
        frame = again[frame.columns]
    frame = frame.apply(_without_dash)
    frame = drop_null_rows(frame, said)
    if "volume" in frame and frame["volume"].isna().all():
        frame = frame.drop(columns="volume")
        said.append("left out the column volume, which has no value")
    times = read_times(path, table.loc[frame.index], time, format, tz)
    frame = _numbers(path, frame, times, mark, thousands)
    frame.insert(0, "datetime", times)
    frame = put_in_order(path, drop_repeated_rows(frame, said), sort, said)
    _check_bars(path, frame)
    for sentence in said:
        _log.warning("read_prices: %s: %s", path, sentence)
    frame = frame.set_index("datetime")
    frame.attrs = {"format": layout.name, "repairs": said}
    return frame


def _check_parameters(columns: Columns | None, tz: str | None, decimal: str | None) -> None:
    if decimal is not None:
        check_choice("read_prices", "decimal", decimal, (".", ","))
    if isinstance(columns, str):
        raise ParameterError("read_prices", "columns", "a dict or a list", columns)
    if isinstance(columns, Mapping):
        for name in columns:
            check_choice("read_prices", "columns", name, KNOWN)
    if tz is not None:
        try:
            ZoneInfo(tz)
        except (ValueError, OSError, KeyError) as error:
            remedy = "For example 'America/New_York'."
            raise ParameterError("read_prices", "tz", "a time zone", tz, remedy) from error


def _table(path: Path, names: tuple[str, ...] | None) -> tuple[pd.DataFrame, Text | None]:
    """Return the content of the file as it is, with the line or row of each bar as its index."""
    if not path.exists():
        raise DataError(f"read_prices: {path} does not exist. Check the path.")
    text = None
    try:
        if path.suffix.lower() in PARQUET:
            table = _parquet(path)
        else:
            text = open_text(path, names)
            table = text.table()
    except ImportError as error:
        raise DataError(f"read_prices: {path} needs pyarrow. pip install pyarrow") from error
    except DataError:
        raise
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (OSError, EOFError, ValueError, zlib.error, csv.Error, BadZipFile) as error:
        raise DataError(
            f"read_prices: {path} cannot be read: {error}. Save it as CSV in UTF-8."
        ) from error
    if table.empty:
        raise DataError(f"read_prices: {path} is empty. It must hold one line per bar.")
    return table, text


def _parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file; an index of times becomes a column."""
    table = pd.read_parquet(path)
    if table.index.name is not None or isinstance(table.index, pd.DatetimeIndex):
        table = table.rename_axis(table.index.name or "datetime").reset_index()
    table.index = pd.RangeIndex(1, len(table) + 1, name="row")
    return table


def _named(
    path: Path, table: pd.DataFrame, text: Text | None, columns: Columns | None
) -> tuple[pd.DataFrame, Layout]:
    """Return the table with the names that a frame has, and the layout of the file."""
    table = table.rename(columns=plain_name)
    _check_twice(path, table)
    layout, renamed = named_layout(table)
    if text is not None and text.layout is not None:
        layout, renamed = text.layout, {}
    if isinstance(columns, Mapping):
        chosen = {str(old).strip().lower(): new for new, old in columns.items() if old is not None}
        unknown = [name for name in chosen if name not in table]
        if unknown:
            raise DataError(
                f"read_prices: {path} has no column {unknown[0]!r}; got "
                f"{', '.join(map(repr, table.columns))}. Change columns=."
            )
        # A column that is chosen takes the place of the one that has its name.
        taken = {name: f"({name})" for name in table if name in columns and name not in chosen}
        renamed = {old: new for old, new in renamed.items() if new not in columns} | taken | chosen
    table = table.rename(columns=renamed)
    _check_twice(path, table)
    for name in INSTRUMENTS:
        if name in table and table[name].nunique() > 1:
            found = ", ".join(map(str, table[name].unique()[:5]))
            raise DataError(
                f"read_prices: {path} must hold one instrument; got {table[name].nunique()} in the "
                f"column {name} ({found}). Write a file for each."
            )
    return table, layout


def _check_twice(path: Path, table: pd.DataFrame) -> None:
    found = list(table.columns)
    # pandas calls the second of two equal names "close.1".
    twice = [n for n in [*COLUMNS, *TIMES] if found.count(n) > 1 or f"{n}.1" in found]
    if twice:
        raise DataError(f"read_prices: {path} has two columns named {twice[0]}. Keep one of them.")


def _check_columns(path: Path, table: pd.DataFrame) -> None:
    missing = [name for name in PRICES if name not in table]
    if missing:
        raise DataError(
            f"read_prices: {path} must have a column {', '.join(missing)}; got "
            f"{', '.join(map(repr, table.columns))}. Name the columns in the first line, or give "
            f"columns=."
        )


def _time_column(path: Path, table: pd.DataFrame) -> str:
    """Return the name of the column that holds the times."""
    others = [name for name in table if name not in INSTRUMENTS] or list(table)
    name = next((name for name in TIMES if name in table), str(others[0]))
    if name in COLUMNS and all(price in table for price in PRICES):
        raise DataError(
            f"read_prices: {path} must have a column of times; got "
            f"{', '.join(map(repr, table.columns))}. Call it datetime."
        )
    return name


def _written(text: Text | None, names: list[str], frame: pd.DataFrame) -> pd.DataFrame:
    """Return the values of `frame` as the file writes them."""
    if text is None:
        return frame.astype(str)
    return text.table(dtype=str).set_axis(names, axis=1)[frame.columns]


def _without_dash(column: pd.Series) -> pd.Series:
    """Return a column in which a dash is a missing value."""
    return column if pd.api.types.is_numeric_dtype(column) else column.mask(column == "-")


def _numbers(
    path: Path,
    frame: pd.DataFrame,
    times: pd.DatetimeIndex,
    decimal: str,
    thousands: str | None,
) -> pd.DataFrame:
    """Return `frame` as float64; a value that is no finite number is refused."""
    numbers = frame.apply(plain_numbers, decimal=decimal, thousands=thousands)
    shown = frame.assign(datetime=times)
    for column in frame:
        wrong = ~np.isfinite(numbers[column])
        remedy = "Repair or remove the row."
        if column == "volume":
            remedy = "Repair the row, or leave it out: columns={'volume': None}."
        _refuse(path, shown, column, wrong, "a number", remedy)
    return numbers


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
            f"in {frame.index.name} {frame.index[row]} ({frame['datetime'].iloc[row]}) of {path}. "
            f"{remedy}"
        )


def _plain(value: Any) -> Any:
    """Return a numpy scalar as the Python one, which prints without its type."""
    return value.item() if isinstance(value, np.generic) else value
