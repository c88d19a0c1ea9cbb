"""A data feed that reads a frame column by column: with PandasData, half of a run is the feed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.feeds.bulk import BarByBar, bulk_load, column_at
from bt_risk.feeds.sources import as_frame

__all__ = ["FrameData"]


class FrameData(bt.feeds.PandasData):
    """Feed prices to Cerebro: ``PandasData``, the same parameters and values, but quick.

    Where Cerebro preloads, each column goes into its line as a whole, and all dates are converted
    at once. Where bars must come one after the other (filters, ``resample``, ``replay``,
    ``exactbars``, ``preload=False``), or a value or a method is not one that is known, they do, and
    only the cells are read more quickly. A frame must not change during a run.

    Params:

      - those of ``bt.feeds.PandasData``: ``dataname``, ``nocase`` (default: ``True``), and
        ``datetime``, ``open``, ``high``, ``low``, ``close``, ``volume``, ``openinterest`` to name
        columns
      - ``dataname`` is a DataFrame of pandas, its index the time; a DataFrame of polars, where the
        time is the column datetime, date, time, timestamp or open_time, else the first with dates;
        or the path of a CSV or Parquet file, which `read_prices` reads and whose name the feed
        bears unless it is given another
    """

    def __init__(self, *args: Any, **params: Any) -> None:
        given = self.p.dataname
        source = getattr(self.p, "dataframe", None) if given is None else given
        self.p.dataname = self._dataname = as_frame(source)
        if isinstance(source, (str, os.PathLike)) and not self.p.name:
            self._name = Path(source).name.split(".")[0]
        self._columns: list[tuple[Any, Any]] | None = None
        with _as_dataframe(self.p):
            super().__init__(*args, **params)

    def preload(self) -> None:
        """Fill the lines before the run."""
        if bulk_load(self) is not None:
            super().preload()
            self._columns = None

    def _preload(self) -> bool:
        """Leave the lines to `bulk_load` and `_load`: backtrader-next's way knows no `tzinput`."""
        return False

    def _load(self) -> bool:
        """Read the next row; the columns are looked up once in a run."""
        if self._idx < 0 or self._columns is None:
            self._columns = self._look_up()
        if not self._columns:
            return bool(super()._load())
        self._idx += 1
        if self._idx >= len(self.p.dataname):
            return False
        for line, values in self._columns[1:]:
            line[0] = values[self._idx]
        line, times = self._columns[0]
        line[0] = bt.date2num(times[self._idx].to_pydatetime())
        return True

    def _look_up(self) -> list[tuple[Any, Any]]:
        """Return each line with its values, the times first; nothing if cells must be read."""
        frame, places = self.p.dataname, dict(self._colmapping)
        if type(frame) is not pd.DataFrame:
            return []
        time = places.pop("datetime")
        try:
            columns = {name: column_at(frame, at) for name, at in places.items() if at is not None}
            times = frame.index if time is None else _values(column_at(frame, time))
        except BarByBar:
            return []
        lines = [(getattr(self.lines, name), _values(columns[name])) for name in columns]
        return [(self.lines.datetime, times), *lines]


@contextlib.contextmanager
def _as_dataframe(params: Any) -> Iterator[None]:
    """Let backtrader-next, whose PandasData calls its frame `dataframe`, take that of `dataname`.

    It also cuts the frame by the days of `fromdate` and `todate`, whatever the hour. Here bars are
    left out by their times as they are loaded, as Backtrader does.
    """
    if not hasattr(params, "dataframe"):
        yield
        return
    params.dataframe, span = params.dataname, (params.fromdate, params.todate)
    params.fromdate = params.todate = None
    try:
        yield
    finally:
        params.fromdate, params.todate = span


def _values(column: pd.Series) -> Any:
    """Return the values as ``iloc`` hands them out one by one."""
    plain = isinstance(column.dtype, np.dtype) and column.dtype.kind not in "mM"
    return column.to_numpy() if plain else column.array
