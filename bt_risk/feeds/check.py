"""What a file of prices holds: its interval, its gaps, and the bars to check before a backtest."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
import talib

from bt_risk.feeds.files import read_prices

__all__ = ["check_file"]

DAY = pd.Timedelta(days=1)
LONG_WEEKEND = pd.Timedelta(days=4)
WEEK = pd.Timedelta(weeks=1)
ATR_BARS = 14
JUMP = 10.0  # ATR
SPLITS = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 100.0)
SPLIT_NOISE = 0.03
SHOWN = 5  # examples of each kind


def check_file(path: str | PathLike[str], **options: Any) -> dict[str, Any]:
    """Return what `read_prices` makes of a file, and what to check in it.

    Parameters
    ----------
    path : str or path
        The file.
    **options
        As `read_prices` takes them; None is left out of the call that is shown.

    Returns
    -------
    dict
        ``file``, ``format``, ``bars``, ``first``, ``last``, ``interval`` (the most frequent step,
        as text), ``volume`` (whether there is one), ``repairs`` (list of str), ``call`` (the
        Python that reads the file), and four findings, each ``{"count": int, "examples": list}``
        with at most five examples: ``gaps`` (longest first, in time from bar to bar),
        ``zero_ranges`` (high equal to low), ``jumps`` (close to close by more than 10 ATR of the
        14 bars before, largest first) and ``splits`` (a move from close to open by the ratio of a
        usual split, within 3 %).

    Raises
    ------
    DataError
        If the file cannot be read.

    Notes
    -----
    A step that comes at least every second week (nights, weekends) is no gap, nor are up to four
    days between daily bars of a market that closes at weekends.
    """
    given = {name: value for name, value in options.items() if value is not None}
    prices = read_prices(path, **given)
    arguments = [repr(str(path)), *(f"{name}={value!r}" for name, value in given.items())]
    steps = prices.index.to_series().diff()
    interval = steps.mode().iloc[0] if len(prices) > 1 else None
    flat = prices.index[prices["high"] == prices["low"]]
    return {
        "file": str(path),
        "format": prices.attrs["format"],
        "bars": len(prices),
        "first": str(prices.index[0]),
        "last": str(prices.index[-1]),
        "interval": None if interval is None else _length(interval),
        "volume": "volume" in prices,
        "repairs": prices.attrs["repairs"],
        "gaps": _gaps(steps, interval),
        "zero_ranges": _finding([{"time": str(time)} for time in flat]),
        "jumps": _jumps(prices),
        "splits": _splits(prices),
        "call": f"bt_risk.read_prices({', '.join(arguments)})",
    }


def _finding(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"count": len(examples), "examples": examples[:SHOWN]}


def _length(step: pd.Timedelta) -> str:
    """Return a length of time as 1 day, 4 hours or 5 minutes."""
    for name, seconds in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, rest = divmod(step.total_seconds(), seconds)
        if count and not rest:
            return f"{count:.0f} {name}{'s' * (count > 1)}"
    return str(step)


def _gaps(steps: pd.Series, interval: pd.Timedelta | None) -> dict[str, Any]:
    """Find the steps that are longer than the interval and than the usual breaks of the market."""
    if interval is None:
        return _finding([])
    longer = steps[steps > interval]
    fortnights = (steps.index[-1] - steps.index[0]) / (2 * WEEK)
    counts = longer.value_counts()
    usual = counts.index[counts >= max(fortnights, 2)]
    if interval == DAY and len(usual):
        longer = longer[longer > LONG_WEEKEND]
    found = longer[~longer.isin(usual)].sort_values(ascending=False, kind="stable")
    rows = [
        {"from": str(time - step), "to": str(time), "length": _length(step)}
        for time, step in found.items()
    ]
    return _finding(rows)


def _jumps(prices: pd.DataFrame) -> dict[str, Any]:
    """Find the moves from close to close that are above 10 times the ATR before them."""
    close, ratio = prices["close"], _in_atr(prices)
    large = ratio[ratio.abs() > JUMP].sort_values(key=np.abs, ascending=False, kind="stable")
    change = close.pct_change()
    rows = [
        {"time": str(time), "atr": round(float(size), 1), "change": round(float(change[time]), 4)}
        for time, size in large.items()
    ]
    return _finding(rows)


def _in_atr(prices: pd.DataFrame) -> pd.Series:
    """Return each move from close to close in ATR of the bars before; NaN where there is none."""
    if len(prices) <= ATR_BARS + 1:
        return pd.Series(np.nan, prices.index)
    high, low, close = (prices[name].to_numpy() for name in ("high", "low", "close"))
    atr = pd.Series(talib.ATR(high, low, close, timeperiod=ATR_BARS), prices.index).shift()
    return prices["close"].diff() / atr.where(atr > 0)


def _splits(prices: pd.DataFrame) -> dict[str, Any]:
    """Find moves from close to open by a usual ratio that the close of that bar confirms."""
    before = prices["close"].shift()
    rows = []
    for time in prices.index[(before / prices["open"]).map(_split_ratio).notna()]:
        ratio = _split_ratio(before[time] / prices["open"][time])
        if ratio and _split_ratio(before[time] / prices["close"][time], 0.15) == ratio:
            rows.append({"time": str(time), "ratio": _as_ratio(ratio)})
    return _finding(rows)


def _split_ratio(moved: float, noise: float = SPLIT_NOISE) -> float | None:
    """Return the split that is within `noise` of a ratio of two prices; below 1 it is a reverse."""
    near = [one for split in SPLITS for one in (split, 1 / split) if abs(moved / one - 1) < noise]
    return min(near, key=lambda one: abs(moved / one - 1)) if near else None


def _as_ratio(split: float) -> str:
    return f"{split:g}:1" if split > 1 else f"1:{1 / split:g}"
