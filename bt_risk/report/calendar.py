"""Bars, days and years: the day that a bar belongs to, and the number of days in a year."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.errors import check_positive
from bt_risk.rules.trading_hours import sessions

__all__ = ["last_of_days", "periods_per_year", "remaining_times", "timestamps"]

CALENDARS = (365, 252, 52, 12)
# A count is that of a calendar up to 2 %, and up to two days of a short sample.
_ABOUT, _ABOUT_DAYS = 0.02, 2.0
EPOCH = date(1970, 1, 1).toordinal()
SECOND, DAY = 1_000_000, 86_400_000_000  # in microseconds


def timestamps(numbers: Iterable[float]) -> pd.DatetimeIndex:
    """Return Backtrader's date numbers as naive UTC timestamps, NaT for NaN."""
    values = np.asarray(numbers, dtype=float)
    known = ~np.isnan(values)
    times = np.full(len(values), np.datetime64("NaT", "us"))
    if known.any():
        times[known] = _wall_clock(values[known])
    # A date number is a float: its time of day is exact to some ten microseconds.
    return pd.DatetimeIndex(times).round("ms")


def _wall_clock(numbers: np.ndarray) -> np.ndarray:
    """Return the times that ``bt.num2date`` gives, in steps of microseconds."""
    days = np.floor(numbers)
    times, rest = (days.astype(np.int64) - EPOCH) * DAY, numbers - days
    for parts, unit in ((24.0, 3600 * SECOND), (60.0, 60 * SECOND), (60.0, SECOND)):
        rest = parts * rest
        whole = np.floor(rest)
        rest -= whole
        times += whole.astype(np.int64) * unit
    micros = (1e6 * rest).astype(np.int64)
    micros[micros < 10] = 0
    micros[micros > 999_990] = SECOND
    return (times + micros).view("datetime64[us]")


def last_of_days(times: pd.DatetimeIndex) -> pd.Series:
    """Return the place of the last bar of each day, by day.

    Parameters
    ----------
    times : DatetimeIndex of shape (n_bars,)
        Naive UTC, not decreasing.

    Returns
    -------
    Series of int, of shape (n_days,)
        Indexed by midnight of the day.
    """
    days = times.normalize()
    return pd.Series(range(len(times)), days).groupby(level=0).last()


def periods_per_year(days: pd.DatetimeIndex) -> int:
    """Return how many days with a bar a year has: those there are, by the time that has elapsed.

    Parameters
    ----------
    days : DatetimeIndex of shape (n_days,)
        Days with a bar, in order.

    Returns
    -------
    int
        365, 252, 52 (weeks) or 12 (months) where the count is that but for holidays, holes and the
        few days that a short sample has too many or too few of; else the count: some 260 for a
        market of 24 hours on five days, 313 where Sunday evening is a day of its own. Fewer than
        ten days give 365 with a weekend, else 252.
    """
    days = pd.DatetimeIndex(days).normalize().unique()
    if len(days) < 10:
        return 365 if (days.day_of_week >= 5).any() else 252
    counted = (len(days) - 1) / ((days[-1] - days[0]).days / 365.25)
    nearest = min(CALENDARS, key=lambda one: abs(one - counted) / one)
    near = abs(nearest - counted) / nearest <= _ABOUT + _ABOUT_DAYS / len(days)
    return nearest if near else round(counted)


def sessions_per_year(component: str, name: str, days: pd.DatetimeIndex) -> int:
    """Return how many sessions a year of an exchange has, around the time of these days.

    Raises
    ------
    ParameterError
        If exchange_calendars is not installed, or has no calendar of this name.
    """
    begin, end = (days[place].date() for place in (0, -1))
    end = max(end, begin + timedelta(days=365))
    return round(len(sessions(component, name, begin, end)) / ((end - begin).days / 365.25))


def check_periods_per_year(
    component: str, value: float | str | None, days: pd.DatetimeIndex
) -> float:
    """Return the days a year: `value`, or the sessions of the exchange that it names.

    Where it is None they are counted in `days`.
    """
    if value is None:
        return periods_per_year(days)
    if isinstance(value, str):
        return sessions_per_year(component, value, days)
    remedy = "365 for a market that never closes, 252 for stocks, or the name of an exchange."
    return check_positive(component, "periods_per_year", value, remedy=remedy)


def remaining_times(cerebro: bt.Cerebro, feeds: Iterable[bt.AbstractDataBase]) -> pd.DatetimeIndex:
    """Return the times of the bars that the feeds have beyond the end of a run that was stopped.

    They are known where Cerebro loaded them before the run, and where a feed reads a DataFrame. A
    live feed has none.
    """
    rest = pd.DatetimeIndex([])
    if cerebro._event_stop:
        for feed in feeds:
            rest = rest.union(_remaining(feed))
    return rest


def _remaining(feed: bt.AbstractDataBase) -> pd.DatetimeIndex:
    line = feed.datetime
    if len(feed) and len(line.array) > len(feed):
        rest = np.array(list(line.array)[len(feed) :])
        return timestamps(rest[rest > 0])
    # backtrader-next has its frame under another name.
    frames: list[Any] = [getattr(feed.p, name, None) for name in ("dataname", "dataframe")]
    index = next((frame.index for frame in frames if hasattr(frame, "index")), None)
    if not isinstance(index, pd.DatetimeIndex) or not len(feed):
        return pd.DatetimeIndex([])
    index = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
    last = bt.num2date(line[0])
    return pd.DatetimeIndex(index[(index > last) & (index <= _end(feed))]).round("ms")


def _end(feed: bt.AbstractDataBase) -> pd.Timestamp:
    return pd.Timestamp.max if feed.todate in (None, float("inf")) else bt.num2date(feed.todate)
