"""What a screener has done in a run, by name, for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

__all__ = ["ScreenedName", "ScreenedNames", "screened_names"]

_MOST = 50  # names on a page


@dataclass(frozen=True)
class ScreenedName:
    """How often a name was picked and ranked, and its last row."""

    name: str
    picked: int
    ranked: int
    rank: int
    score: float
    reason: str


@dataclass(frozen=True)
class ScreenedNames:
    """The names of a screener, those that were picked most often first.

    Attributes
    ----------
    rebalances : int
        Closes at which names were ranked.
    time : datetime or None
        The last of them.
    rows : list of ScreenedName
    left_out : int
        Names that have no row because there are so many.
    """

    rebalances: int
    time: Any
    rows: list[ScreenedName]
    left_out: int


def screened_names(rows: pd.DataFrame) -> ScreenedNames:
    """Sum up the rows of `bt_risk.Screener.frame`."""
    found = [_sum_up(str(name), group) for name, group in rows.groupby("data")]
    found.sort(key=lambda one: (-one.picked, -one.ranked, one.name))
    last = rows["time"].max() if len(rows) else None
    return ScreenedNames(rows["time"].nunique(), last, found[:_MOST], len(found[_MOST:]))


def _sum_up(name: str, rows: pd.DataFrame) -> ScreenedName:
    last = rows.iloc[-1]
    picked, ranked = int(rows["picked"].sum()), int((rows["rank"] > 0).sum())
    return ScreenedName(
        name, picked, ranked, int(last["rank"]), float(last["score"]), last["reason"]
    )
