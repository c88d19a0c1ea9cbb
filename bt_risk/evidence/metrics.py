"""The measures of a comparison, for one history of a run or for thousands of resampled ones.

Every function takes arrays whose last axis is days, so that a bootstrap is one call. What
`bt_risk.report.statistics` gives too has the same definition here: that of empyrical, which a test
compares.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from bt_risk.report.calendar import periods_per_year
from bt_risk.report.pyfolio import daily_equity, daily_returns
from bt_risk.report.record import RunRecord
from bt_risk.tolerances import RATIO_EPS, SIZE_EPS

__all__ = [
    "FRACTIONS",
    "MEASURES",
    "Days",
    "annual_growth",
    "annual_sharpe",
    "days_of",
    "final_equity",
    "measures",
    "volatility",
]

TAIL = 0.05
MEASURES = (
    "CAGR",
    "Sharpe",
    "Sortino",
    "Calmar",
    "Max drawdown",
    "Average drawdown",
    "CVaR 5 %",
    "Time under water",
    "Exposure",
    "Turnover",
    "Costs",
    "Trades",
)
FRACTIONS = {
    "CAGR",
    "Max drawdown",
    "Average drawdown",
    "CVaR 5 %",
    "Time under water",
    "Exposure",
    "Costs",
}


class Days(NamedTuple):
    """Keep one run day by day, in arrays whose last axis is days.

    Attributes
    ----------
    returns : ndarray
        Simple returns, zero after a halt.
    exposure : ndarray
        Gross notional at the end of the day, fraction of equity.
    turnover, costs : ndarray
        Notional traded and commission paid, fractions of equity.
    trades : ndarray
        How many were closed, flat to flat.
    """

    returns: np.ndarray
    exposure: np.ndarray
    turnover: np.ndarray
    costs: np.ndarray
    trades: np.ndarray

    def take(self, days: np.ndarray) -> "Days":
        """Return the run on these days, an array of indices of any shape."""
        return Days(*(values[days] for values in self))

    def scaled(self, leverage: np.ndarray) -> "Days":
        """Return the run with `leverage` times the position, at the same prices."""
        returns, exposure, turnover, costs = (values * leverage for values in self[:-1])
        return Days(returns, exposure, turnover, costs, self.trades)


def days_of(record: RunRecord) -> tuple[Days, pd.DatetimeIndex, int]:
    """Return the `Days` of a record, their index, and how many of them are a year."""
    returns = daily_returns(record)
    equity = daily_equity(record).clip(lower=np.finfo(float).tiny)
    index = returns.index
    # Without any fill the columns have no type.
    fills = record.fills.astype(dict.fromkeys(["size", "price", "multiplier", "commission"], float))
    day = fills["time"].dt.normalize()
    notional = (fills["size"].abs() * fills["price"] * fills["multiplier"]).abs()
    bars = record.bars.assign(day=record.times.normalize())
    gross = (bars["long_notional"] + bars["short_notional"]).groupby(bars["day"]).last()

    def daily(values: pd.Series) -> pd.Series:
        return values.groupby(day).sum().reindex(index).fillna(0.0)

    days = Days(
        returns.to_numpy(),
        gross.reindex(index).fillna(0.0).to_numpy(),
        (daily(notional) / equity).to_numpy(),
        (daily(fills["commission"]) / equity).to_numpy(),
        _closed(fills).reindex(index).fillna(0.0).to_numpy(),
    )
    return days, index, periods_per_year(index)


def final_equity(record: RunRecord) -> float:
    """Return the last known equity of a run, in currency."""
    return float(record.bars["equity"].ffill().iloc[-1])


def _closed(fills: pd.DataFrame) -> pd.Series:
    """Return how many trades ended on each day: positions that became flat or changed sides."""
    held = fills.groupby("name")["size"].cumsum()
    held = held.where(held.abs() > SIZE_EPS, 0.0)
    before = held - fills["size"]
    before = before.where(before.abs() > SIZE_EPS, 0.0)
    ends = (before != 0.0) & (np.sign(held) != np.sign(before))
    return ends.astype(float).groupby(fills["time"].dt.normalize()).sum()


def volatility(returns: np.ndarray) -> np.ndarray:
    """Return the standard deviation of daily returns, along the last axis."""
    return returns.std(axis=-1, ddof=1)


def annual_growth(returns: np.ndarray, year: float) -> np.ndarray:
    """Return the compound annual return of simple daily returns, along the last axis."""
    growth: np.ndarray = np.prod(1.0 + returns, axis=-1) ** (year / returns.shape[-1]) - 1.0
    return growth


def annual_sharpe(returns: np.ndarray, year: float) -> np.ndarray:
    """Return the annual Sharpe ratio of daily returns, along the last axis; NaN without spread."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _finite(returns.mean(axis=-1) / volatility(returns) * np.sqrt(year))


def measures(days: Days, year: float) -> dict[str, np.ndarray]:
    """Return every measure of `MEASURES` by name; one value for each history.

    Parameters
    ----------
    days : Days
    year : float
        Days a year.

    Returns
    -------
    dict of str to ndarray
        Ratios are fractions, drawdowns and CVaR positive. Average drawdown is the mean over all
        days (the pain index), time under water the share of days below the high-water mark.
        Exposure is the mean over days, turnover and costs are sums a year as multiples and
        fractions of equity, trades are counted. NaN where a ratio does not exist.
    """
    returns, count = days.returns, days.returns.shape[-1]
    wealth = np.cumprod(1.0 + returns, axis=-1)
    marks = np.maximum(np.maximum.accumulate(wealth, axis=-1), 1.0)
    fall = 1.0 - wealth / marks
    deepest, mean = fall.max(axis=-1), returns.mean(axis=-1)
    growth = annual_growth(returns, year)
    downside = np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2, axis=-1))
    tail = int((count - 1) * TAIL) + 1
    worst = np.partition(returns, tail - 1, axis=-1)[..., :tail]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (
            growth,
            annual_sharpe(returns, year),
            _finite(mean / downside * np.sqrt(year)),
            _finite(growth / deepest),
            deepest,
            fall.mean(axis=-1),
            -worst.mean(axis=-1),
            (fall > RATIO_EPS).mean(axis=-1),
            days.exposure.mean(axis=-1),
            days.turnover.mean(axis=-1) * year,
            days.costs.mean(axis=-1) * year,
            days.trades.sum(axis=-1),
        )
    return dict(zip(MEASURES, values, strict=True))


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)
