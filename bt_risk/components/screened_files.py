"""Rank files of prices at one close, without a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.components.closed_bars import ClosedBars
from bt_risk.components.membership import Membership
from bt_risk.components.ranking import Candidate, ranking
from bt_risk.errors import ParameterError
from bt_risk.feeds.dates import date_numbers
from bt_risk.feeds.files import read_prices

__all__ = ["ScreenedFile", "files_in", "screen_files"]

_SUFFIXES = (".csv", ".gz", ".zip", ".parquet", ".pq", ".txt")
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class ScreenedFile:
    """A file of prices at the close that was asked about.

    Attributes
    ----------
    name : str
    rank : int
        1 is the best; 0 for a name that is not ranked.
    score, close : float
        NaN where they are not known.
    time : str
        Time of the last bar (UTC), empty before the first.
    reason : str
        Why the name is not ranked.
    """

    name: str
    rank: int
    score: float
    close: float
    time: str
    reason: str


def files_in(command: str, given: Sequence[Path]) -> dict[str, Path]:
    """Return the files of prices by name; a folder stands for all that are in it."""
    found: dict[str, Path] = {}
    for path in given:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [one for one in inside if one.is_file() and one.name.lower().endswith(_SUFFIXES)]
        for file in files if path.is_dir() else inside:
            name = file.name.split(".")[0]
            if name in found:
                both = [str(found[name]), str(file)]
                raise ParameterError(command, "--data", "files with different names", both)
            found[name] = file
    if not found:
        listed = [str(path) for path in given]
        remedy = f"Prices are in {', '.join(_SUFFIXES)}: --data DIR, or --data FILE ..."
        raise ParameterError(command, "--data", "a folder or files of prices", listed, remedy)
    return found


def screen_files(
    command: str,
    files: dict[str, Path],
    rank: Any,
    where: Any = None,
    *,
    at: str | None = None,
    members: Any = None,
    max_age_days: float = 0.0,
) -> list[ScreenedFile]:
    """Return the names that are ranked at a close, best first, and then the others by name.

    Parameters
    ----------
    command : str
        Who asks, for messages.
    files : dict of str to Path
        As `files_in` returns them.
    rank, where, members, max_age_days
        As of `bt_risk.Screener`.
    at : str, optional
        A date, or a time (UTC): the newest bar up to there counts. Default: the newest bar.
    """
    end, table = _end(command, at), Membership(command, members)
    table.check(files)
    names = {name: _Name(command, name, rank, where) for name in files}
    for name, file in files.items():  # only now: a mistake in an expression comes at once
        names[name].take(read_prices(file), end)
    candidates = [one.candidate for one in names.values()]
    newest = max(one.time for one in candidates)
    if newest == -math.inf:
        raise ParameterError(command, "--at", "on or after the first bar of a file", at)
    placed = ranking(candidates, newest, max_age_days, table)
    return [
        ScreenedFile(one.name, one.rank, one.score, *names[one.name].last(), one.reason)
        for one in placed
    ]


def _end(command: str, at: str | None) -> pd.Timestamp | None:
    """Return the last time that counts; that of a date is its end."""
    if at is None:
        return None
    try:
        time = pd.Timestamp(at)
    except ValueError:
        time = pd.NaT
    if pd.isna(time):
        constraint = "a date or a time, such as 2024-06-28 or '2024-06-28 15:00'"
        raise ParameterError(command, "--at", constraint, at)
    if time.tzinfo is not None:
        time = time.tz_convert("UTC").tz_localize(None)
    whole = ":" not in at and time == time.normalize()
    return time + _DAY - pd.Timedelta(1, "us") if whole else time


class _Name:
    """One name, and its bars up to the close that is asked about."""

    def __init__(self, command: str, name: str, rank: Any, where: Any) -> None:
        self.bars = ClosedBars()
        self.candidate = Candidate(command, name, self.bars, rank, where)
        self._frame = pd.DataFrame()

    def take(self, frame: pd.DataFrame, end: pd.Timestamp | None) -> None:
        """Take the bars of a frame up to a time."""
        self._frame = frame = frame if end is None else frame.loc[:end]
        times = pd.DatetimeIndex(frame.index)
        daily = bool((times == times.normalize()).all())
        self.bars._timeframe = bt.TimeFrame.Days if daily else bt.TimeFrame.Minutes
        micros = times.as_unit("us").asi8
        columns: dict[str, Any] = {"datetime": date_numbers(micros)}
        for name in self.bars.lines.getlinealiases():
            given = frame[name] if name in frame else np.zeros(len(frame))
            columns.setdefault(name, np.asarray(given, dtype=float))
        self.candidate.take(columns[name] for name in self.bars.lines.getlinealiases())

    def last(self) -> tuple[float, str]:
        """Return the last close and the time of its bar."""
        if not len(self._frame):
            return math.nan, ""
        return float(self._frame["close"].iloc[-1]), str(self._frame.index[-1])
