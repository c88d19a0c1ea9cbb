"""The loss floors of a run, bar by bar."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bt_risk.monitors.account_floor import FloorMonitor
from bt_risk.report.calendar import timestamps

if TYPE_CHECKING:
    from bt_risk.report.record import RunRecord

__all__ = ["floor_frames", "floor_lines", "floors_used"]

LEVELS = ["time", "floor", "amount", "daily_floor", "daily_amount"]


def floor_frames(monitors: Iterable[Any]) -> list[pd.DataFrame]:
    """Return the levels of each `AccountFloor` as a frame, with the time of each change."""
    floors = [one for one in monitors if isinstance(one, FloorMonitor)]
    frames = [pd.DataFrame(one.levels, columns=LEVELS) for one in floors]
    return [frame.assign(time=timestamps(frame["time"])) for frame in frames]


def floor_lines(record: RunRecord) -> list[pd.Series]:
    """Return the equity at which each floor is touched, at every bar: the nearest of its two."""
    lines = []
    for levels in _at_bars(record):
        line = levels[["floor", "daily_floor"]].max(axis=1)
        lines.append(line.replace(-np.inf, np.nan))
    return lines


def floors_used(record: RunRecord) -> pd.Series:
    """Return the share of what may be lost that is lost at every bar, of the nearest floor."""
    equity = record.bars["equity"]
    shares = []
    for levels in _at_bars(record):
        for floor, amount in (("floor", "amount"), ("daily_floor", "daily_amount")):
            if np.isfinite(levels[amount]).any():
                shares.append((levels[floor] + levels[amount] - equity) / levels[amount])
    return pd.concat(shares, axis=1).max(axis=1).clip(lower=0.0)


def _at_bars(record: RunRecord) -> list[pd.DataFrame]:
    """Return the levels of each floor as they were at every bar."""
    found = []
    for levels in record.floors:
        known = levels.groupby("time").last()
        found.append(known.reindex(record.times, method="ffill").set_axis(record.bars.index))
    return found
