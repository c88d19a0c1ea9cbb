"""The columns of a frame go into the lines of a feed at once, where a cell was read at a time.

Every value equals what ``bt.feeds.PandasData`` loads bar by bar, to the last bit. Where that is not
certain, the feed loads bar by bar.
"""

from __future__ import annotations

from array import array
from functools import partial
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
from backtrader.linebuffer import LineBuffer

from bt_risk.feeds.dates import date_numbers, localized, microseconds
from bt_risk.known_engine import other_engine

__all__ = ["BarByBar", "bulk_load", "column_at", "undo_bulk_preload", "use_bulk_preload"]

# The methods that load bars, and the modules whose versions of them `bulk_load` stands for.
METHODS = ("preload", "load", "_load", "_last", "_fromstack", "forward", "backwards", "home")
LINE_METHODS = ("__setitem__", "forward", "backwards", "home", "set_idx")
ENGINES = ("backtrader", "backtrader_next")
MODULES = ("feed", "feeds.pandafeed", "linebuffer", "lineseries")
NATIVE = {f"{engine}.{module}" for engine in ENGINES for module in MODULES} | {
    "bt_risk.feeds.frame"
}


class BarByBar(Exception):
    """Report why bars must be loaded one after the other."""


def use_bulk_preload(data: Any) -> str | None:
    """Let the next ``preload`` of a plain ``bt.feeds.PandasData`` load whole columns.

    Parameters
    ----------
    data : data feed
        Whatever Cerebro has. Only an object of exactly this class changes, and only by an instance
        attribute ``preload``, which removes itself when it is called. Another engine than the one
        that is known has a preload of its own.

    Returns
    -------
    str or None
        Why the data feed stays as it is; None if its next preload is in bulk. That preload checks
        all the rest (filters, bindings, the kinds of the columns), and loads bar by bar in doubt.
    """
    undo_bulk_preload(data)
    if other_engine():
        return f"the engine is {other_engine()}"
    if type(data) is not bt.feeds.PandasData:
        return f"{type(data).__name__} is not bt.feeds.PandasData"
    reason = _overridden(data)
    if reason is None:
        data.preload = partial(_preload, data)
    return reason


def undo_bulk_preload(data: Any) -> None:
    """Take back `use_bulk_preload` where no preload has followed, as in a run without one."""
    own = vars(data).get("preload")
    if isinstance(own, partial) and own.func is _preload:
        del data.preload


def _preload(data: Any) -> None:
    del data.preload
    if bulk_load(data) is not None:
        data.preload()


def bulk_load(data: Any) -> str | None:
    """Preload a started ``PandasData`` column by column.

    Returns
    -------
    str or None
        Why the bars must be loaded one after the other, nothing being changed; None if the lines
        are filled. They, and all attributes, are then as after ``data.preload()``.
    """
    try:
        frame = _frame(data)
        dates = _dates(data, frame)
        columns = _columns(data, frame)
    except BarByBar as reason:
        return str(reason)
    _fill(data, dates, columns)
    return None


def _frame(data: Any) -> pd.DataFrame:
    """Return the frame of a data feed that loads it unchanged."""
    reason = _overridden(data)
    if reason is not None:
        raise BarByBar(reason)
    if not data._started or data._idx != -1:
        raise BarByBar("the data feed is not at its start")
    if data._filters or data._ffilters or data._barstack or data._barstash:
        raise BarByBar("a filter changes the bars")
    for line in data.lines:
        if type(line) is not LineBuffer or line.mode != LineBuffer.UnBounded or line.bindings:
            raise BarByBar("a line has a binding or a buffer of limited length")
        if line.idx != -1 or line.lencount or len(line.array) != line.extension:
            raise BarByBar("a line is not empty")
    if type(data.p.dataname) is not pd.DataFrame:
        raise BarByBar(f"{type(data.p.dataname).__name__} is not a pandas.DataFrame")
    return data.p.dataname


def _overridden(data: Any) -> str | None:
    """Return which method that loads bars is not Backtrader's (or that of `FrameData`)."""
    for name in METHODS:
        if name in vars(data) or _module(type(data), name) not in NATIVE:
            return f"{type(data).__name__}.{name} is overridden"
    for name in LINE_METHODS:
        if _module(LineBuffer, name) not in NATIVE:
            return f"LineBuffer.{name} is overridden"
    return None


def _module(owner: type, name: str) -> Any:
    return getattr(getattr(owner, name, None), "__module__", None)


def _dates(data: Any, frame: pd.DataFrame) -> np.ndarray:
    """Return the number of every bar's time, before `fromdate` and `todate`."""
    column = data._colmapping["datetime"]
    times = frame.index if column is None else column_at(frame, column)
    if isinstance(times.dtype, (np.dtypes.DateTime64DType, pd.DatetimeTZDtype)):
        times = pd.DatetimeIndex(times) if isinstance(times, pd.Series) else times
    if type(times) is not pd.DatetimeIndex:
        raise BarByBar("the times are not a pandas.DatetimeIndex")
    micros = microseconds(times)
    if micros is None:
        raise BarByBar("a time is missing, has nanoseconds or a time zone of an unknown kind")
    numbers = date_numbers(micros)
    if data._tzinput:
        read = localized(numbers, data._tzinput)
        if read is None:
            raise BarByBar("tzinput is not a time zone of pytz")
        return read
    return numbers


def _columns(data: Any, frame: pd.DataFrame) -> list[tuple[LineBuffer, np.ndarray]]:
    """Return the values of every line that has a column, except the times."""
    columns = []
    for name in data.getlinealiases():
        place = data._colmapping[name]
        if name != "datetime" and place is not None:
            columns.append((getattr(data.lines, name), _floats(column_at(frame, place))))
    return columns


def column_at(frame: pd.DataFrame, place: Any) -> pd.Series:
    """Return the column at `place`, if that is a place of a column."""
    whole = isinstance(place, (int, np.integer)) and not isinstance(place, bool)
    if not whole or not -frame.shape[1] <= place < frame.shape[1]:
        raise BarByBar(f"{place!r} is not the place of a column")
    return frame.iloc[:, place]


def _floats(column: pd.Series) -> np.ndarray:
    """Return the values of a column as they arrive in a line."""
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "fiub" and kind.itemsize <= 8:
        return np.asarray(column.to_numpy(dtype=np.float64))
    try:
        return np.frombuffer(array("d", column.tolist()))
    except (TypeError, ValueError, OverflowError):
        raise BarByBar(f"the column {column.name!r} has values that are no numbers") from None


def _fill(data: Any, dates: np.ndarray, columns: list[tuple[LineBuffer, np.ndarray]]) -> None:
    """Write the bars from `fromdate` to `todate` into the lines."""
    early = dates < data.fromdate
    late = ~early & (dates > data.todate)
    # The first bar beyond `todate` ends the feed, whatever follows it.
    end = int(late.argmax()) if late.any() else len(dates)
    rows = np.flatnonzero(~early[:end])
    # Bars that are discarded at the end stay in the room that `lookahead` adds behind the last bar.
    rest = [min(end, len(dates) - 1)] if len(dates) and (end < len(dates) or early[-1]) else []
    values = {id(line): column for line, column in columns}
    values[id(data.lines.datetime)] = dates
    for line in data.lines:
        block = np.full(len(rows) + line.extension, np.nan)
        if id(line) in values:
            column = values[id(line)]
            block[: len(rows)] = column[rows]
            if line.extension:
                block[len(rows) : len(rows) + len(rest)] = column[rest]
        # A copy has no room for bars that never come.
        line.array = array("d", block.tobytes())[:]
    data._idx = end
