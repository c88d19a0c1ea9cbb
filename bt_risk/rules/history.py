"""Prices or returns from before a run, as users have them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from bt_risk.errors import ParameterError, check_choice
from bt_risk.rules.frames import FloatArray, Table, Time, as_frame

__all__ = ["ONE_CLOCK", "check_history", "log_path"]

ONE_CLOCK = (
    "Times are of one kind (dates parsed, zones alike) and history ends before the run: "
    "seed(history, before=first_time)."
)


def check_history(
    component: str, names: Iterable[str], history: Table, kind: str, before: Time = None
) -> pd.DataFrame:
    """Return prices or returns from before the run as a frame with a column for every name."""
    check_choice(component, "kind", kind, ("prices", "returns"))
    frame, columns = as_frame(component, "history", history), list(names)
    if not frame.index.is_unique:
        twice = str(frame.index[frame.index.duplicated()][0])
        raise ParameterError(component, "history", "one row per time", twice)
    if not frame.columns.isin(columns).any():
        constraint = f"a frame with a column for at least one of {columns}"
        raise ParameterError(component, "history", constraint, list(frame.columns))
    try:
        frame = frame if before is None else frame[frame.index < before]
    except TypeError:
        constraint = f"comparable with the index of history, {frame.index.dtype}"
        raise ParameterError(component, "before", constraint, before, ONE_CLOCK) from None
    frame = frame.reindex(columns=columns).astype(float).dropna(how="all")
    _check_values(component, frame, kind)
    return frame


def _check_values(component: str, frame: pd.DataFrame, kind: str) -> None:
    values, floor = frame.to_numpy(), 0.0 if kind == "prices" else -1.0
    bad = values[(values <= floor) | np.isinf(values)]
    if bad.size:
        remedy = 'kind="returns" takes returns.' if kind == "prices" else "A loss of 3 % is -0.03."
        constraint = f"{kind} above {floor:g} and finite, or NaN"
        raise ParameterError(component, "history", constraint, float(bad[0]), remedy)


def log_path(frame: pd.DataFrame, kind: str) -> FloatArray:
    """Return log prices of shape (n_names, n_times) of a frame of prices or of simple returns."""
    if kind == "prices":
        logs: FloatArray = np.log(frame.to_numpy().T)
        return logs
    steps: FloatArray = np.log1p(frame.to_numpy().T)
    # The time before the first row. A name that begins later has no known time to start from.
    origin = np.where(np.isnan(steps[:, :1]), np.nan, 0.0)
    path = np.where(np.isnan(steps), np.nan, np.nancumsum(steps, axis=1))
    return np.column_stack([origin, path])
