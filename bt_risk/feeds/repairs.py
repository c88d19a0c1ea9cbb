"""Repairs that change no bar: each is made and said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bt_risk.errors import DataError
from bt_risk.feeds.formats import PRICES

__all__ = ["drop_null_rows", "drop_repeated_rows", "put_in_order"]


def drop_null_rows(table: pd.DataFrame, said: list[str]) -> pd.DataFrame:
    """Return `table` without the rows that have no price at all."""
    empty = table[PRICES].isna().all(axis=1)
    return _without(table, empty, "rows without any price", said)


def drop_repeated_rows(frame: pd.DataFrame, said: list[str]) -> pd.DataFrame:
    """Return `frame`, which has a column datetime, without rows that repeat a whole earlier row."""
    return _without(frame, frame.duplicated(), "rows that repeat a whole row", said)


def _without(table: pd.DataFrame, wrong: pd.Series, kind: str, said: list[str]) -> pd.DataFrame:
    count = int(wrong.sum())
    if not count or count == len(table):
        return table
    place = f"the first is {table.index.name} {table.index[wrong.argmax()]}"
    said.append(f"left out {kind}: {count} ({place})")
    return table[~wrong]


def put_in_order(
    path: Path, frame: pd.DataFrame, sort: bool | None, said: list[str]
) -> pd.DataFrame:
    """Return `frame`, which has a column datetime, oldest first; refuse what is in no order."""
    times = frame["datetime"]
    back = times.diff() < pd.Timedelta(0)
    if back.any():
        if sort:
            said.append("sorted the rows by time")
            frame = frame.sort_values("datetime", kind="stable")
        elif sort is None and times.is_monotonic_decreasing:
            said.append("turned the rows round: the file has the newest first")
            frame = frame.iloc[::-1]
        else:
            row = int(back.argmax())
            raise DataError(
                f"read_prices: datetime must ascend; got {times.iloc[row]} in "
                f"{frame.index.name} {frame.index[row]} of {path} after {times.iloc[row - 1]}. "
                f"Sort the file by time, oldest first, or read it with sort=True."
            )
    again = frame["datetime"].diff() == pd.Timedelta(0)
    if again.any():
        row = int(again.argmax())
        raise DataError(
            f"read_prices: datetime must be unique; got {frame['datetime'].iloc[row]} again in "
            f"{frame.index.name} {frame.index[row]} of {path} with other values. Remove one of the "
            f"rows, and keep one instrument per file."
        )
    return frame
