"""Tables of one row per time and one column per name, as users have them, and their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bt_risk.errors import ParameterError, check_whole

__all__ = [
    "BoolArray",
    "Column",
    "ColumnT",
    "FloatArray",
    "IntArray",
    "Numbers",
    "Table",
    "Time",
    "as_frame",
    "check_min_periods",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

# One value per bar. A function of `ColumnT` returns the type and the index of what it gets.
Column: TypeAlias = FloatArray | pd.Series
ColumnT = TypeVar("ColumnT", bound=FloatArray | pd.Series)
# One value or many.
Numbers: TypeAlias = float | FloatArray | pd.Series
# One row per time and one column per name.
Table: TypeAlias = pd.DataFrame | Mapping[str, pd.Series] | FloatArray
# A float, datetime or Timestamp: of one kind throughout a run.
Time: TypeAlias = Any


def as_frame(component: str, param: str, table: Table) -> pd.DataFrame:
    """Return a table of one row per time and one column per name as a DataFrame, checked."""
    if isinstance(table, Mapping):
        table = _join_on_time(component, param, table)
    elif isinstance(table, np.ndarray) and table.ndim == 2:
        table = pd.DataFrame(table)
    if not isinstance(table, pd.DataFrame):
        constraint = "a DataFrame, a dict of Series or an ndarray of shape (n_bars, n_names)"
        raise ParameterError(component, param, constraint, type(table).__name__)
    if not table.columns.is_unique:
        raise ParameterError(component, param, "one column per name", list(table.columns))
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes):
        remedy = "Times belong into the index: read_csv(path, index_col=0, parse_dates=True)."
        raise ParameterError(component, param, "numeric", list(map(str, table.dtypes)), remedy)
    if not table.index.is_monotonic_increasing:
        remedy = "Parse the dates and sort_index()."
        raise ParameterError(component, param, "sorted, oldest first", table.index[:2], remedy)
    return table


def _join_on_time(component: str, param: str, series: Mapping[str, pd.Series]) -> pd.DataFrame:
    for name, one in series.items():
        if not isinstance(one, pd.Series) or not one.index.is_unique:
            constraint = "a Series with one value per time"
            raise ParameterError(component, f"{param}[{name!r}]", constraint, type(one).__name__)
    return pd.DataFrame(dict(series)).sort_index()


def check_min_periods(component: str, min_periods: int, window: int) -> int:
    """Return `min_periods` as int if a window can hold that many returns."""
    min_periods = check_whole(component, "min_periods", min_periods, low=2)
    if min_periods > window:
        constraint = f"at most window, which is {window}"
        remedy = "A shorter window needs its own min_periods."
        raise ParameterError(component, "min_periods", constraint, min_periods, remedy)
    return min_periods
