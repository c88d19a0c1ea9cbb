"""Membership: from when to when a name belongs to what is screened, as of each day."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bt_risk.errors import ParameterError

__all__ = ["Membership"]

_COLUMNS = ["name", "from", "to"]
_TABLE = "a table of name, from and to: a CSV file, a DataFrame or a list of rows"


class Membership:
    """The spans of days in which each name is a member, first and last day included.

    Parameters
    ----------
    component : str
        Who asks, for messages.
    table : path, DataFrame, iterable of (name, from, to), or None
        An empty `from` is since ever, an empty `to` until further notice; a name may have several
        rows. Without a table every name is a member.
    """

    def __init__(self, component: str, table: Any) -> None:
        self._component = component
        self._spans: dict[str, list[tuple[float, float]]] | None = None
        if table is not None:
            self._spans = {}
            for name, first, last in self._rows(table):
                self._spans.setdefault(name, []).append((first, last))

    def check(self, names: Iterable[str]) -> None:
        """Raise a ParameterError for a table in which none of these names is."""
        if self._spans is not None and not set(names) & self._spans.keys():
            listed = ", ".join(names)
            constraint = f"a table with some of the names of the data feeds ({listed})"
            raise ParameterError(self._component, "members", constraint, list(self._spans)[:5])

    def has(self, name: str, time: float) -> bool:
        """Return whether a name is a member on the day of a date number."""
        if self._spans is None:
            return True
        day = math.floor(time)
        return any(first <= day <= last for first, last in self._spans.get(name, ()))

    def _rows(self, table: Any) -> list[tuple[str, float, float]]:
        frame = self._frame(table)
        firsts = self._days(frame["from"], -math.inf)
        lasts = self._days(frame["to"], math.inf)
        rows = list(zip(frame["name"].astype(str), firsts, lasts, strict=True))
        for name, first, last in rows:
            if first > last:
                given = f"the row of {name}"
                raise self._error(given, "The last day of a row is before its first.")
        return rows

    def _frame(self, table: Any) -> pd.DataFrame:
        if isinstance(table, (str, os.PathLike)):
            path = Path(table)
            try:
                table = pd.read_csv(path, dtype=str, skipinitialspace=True)
            except (OSError, ValueError) as error:
                raise self._error(str(path), f"{error}.") from None
        elif not isinstance(table, pd.DataFrame):
            try:
                table = pd.DataFrame([tuple(row) for row in table], columns=_COLUMNS)
            except (TypeError, ValueError):
                raise self._error(table) from None
        frame = table.rename(columns=lambda column: str(column).strip().lower())
        if not set(_COLUMNS) <= set(frame.columns):
            raise self._error(list(frame.columns), "Its columns are name, from and to.")
        return frame

    def _days(self, column: pd.Series, empty: float) -> list[float]:
        """Return the ordinals of days."""
        try:
            times = pd.to_datetime(column.replace("", None))
        except (ValueError, TypeError, OverflowError) as error:
            raise self._error(str(column.name), f"{error}.") from None
        return [empty if pd.isna(time) else float(time.toordinal()) for time in times]

    def _error(self, given: Any, remedy: str = "") -> ParameterError:
        return ParameterError(self._component, "members", _TABLE, given, remedy)
