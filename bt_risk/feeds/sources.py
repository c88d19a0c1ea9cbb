"""What `FrameData` takes besides a DataFrame of pandas: the path of a file, a frame of polars."""

from __future__ import annotations

import os
import sys
from typing import Any

import pandas as pd

from bt_risk.errors import DataError
from bt_risk.feeds.files import TIMES, read_prices

__all__ = ["as_frame"]


def as_frame(source: Any) -> Any:
    """Return the DataFrame that a feed reads: of a path or of polars; anything else as it is."""
    if isinstance(source, (str, os.PathLike)):
        return read_prices(source)
    polars = sys.modules.get("polars")  # there is no object of polars before somebody imports it
    if polars is None or not isinstance(source, (polars.DataFrame, polars.LazyFrame)):
        return source
    table = source.lazy().collect()
    columns = {series.name: _column(series) for series in table.get_columns()}
    dated = [one.name for one in table.get_columns() if isinstance(one.dtype, _dates(polars))]
    if not dated:
        raise DataError(
            f"FrameData: a polars frame must have a column of dates or times; got "
            f"{', '.join(f'{name} ({kind})' for name, kind in table.schema.items())}. "
            f"Convert it with str.to_datetime()."
        )
    rank = {name: place for place, name in enumerate(TIMES)}
    time = min(dated, key=lambda name: rank.get(name.lower(), len(rank)))
    index = pd.DatetimeIndex(columns[time], name=time)
    return pd.DataFrame({name: values.array for name, values in columns.items()}, index=index)


def _dates(polars: Any) -> tuple[type, type]:
    return polars.Date, polars.Datetime


def _column(series: Any) -> pd.Series:
    """Return a column of polars as one of pandas; missing values are NaN, NaT or None."""
    values = pd.Series(series.to_numpy())
    zone = getattr(series.dtype, "time_zone", None)
    return values if zone is None else values.dt.tz_localize("UTC").dt.tz_convert(zone)
