"""Tables of one row per time and one column per name, as users have them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bt_risk.errors import ParameterError, check_whole

__all__ = ["as_frame", "check_min_periods"]


def as_frame(component, param, table):
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


def _join_on_time(component, param, series):
    for name, one in series.items():
        if not isinstance(one, pd.Series) or not one.index.is_unique:
            constraint = "a Series with one value per time"
            raise ParameterError(component, f"{param}[{name!r}]", constraint, type(one).__name__)
    return pd.DataFrame(dict(series)).sort_index()


def check_min_periods(component, min_periods, window):
    """Return `min_periods` as int if a window can ever hold that many returns."""
    min_periods = check_whole(component, "min_periods", min_periods, low=2)
    if min_periods > window:
        constraint = f"at most window, which is {window}"
        remedy = "A shorter window needs its own min_periods."
        raise ParameterError(component, "min_periods", constraint, min_periods, remedy)
    return min_periods
