"""The figures of a run, computed from its daily returns by the definitions of empyrical.

Importing empyrical takes longer than a page does, because it imports scipy; tests compare both.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from bt_risk.rules.frames import FloatArray
from bt_risk.rules.loss_distribution import THRESHOLDS, LossDistribution

__all__ = ["figures", "loss_figures"]

NAMES = (
    "Total return",
    "CAGR",
    "Volatility",
    "Sharpe",
    "Sortino",
    "Calmar",
    "Max drawdown",
    "Value at risk 5 %",
    "Expected shortfall 5 %",
    "Omega",
    "Tail ratio",
    "Stability",
)


def figures(
    returns: pd.Series, periods_per_year: float, benchmark: pd.Series | None = None
) -> dict[str, float]:
    """Return the figures of daily returns by name; all are fractions or ratios.

    Parameters
    ----------
    returns : Series of shape (n_days,)
        Simple daily returns.
    periods_per_year : float
        365 for a market that never closes, 252 for stocks.
    benchmark : Series, optional
        Simple daily returns with the same index: adds alpha and beta.

    Returns
    -------
    dict of str to float
        Drawdown, value at risk and expected shortfall are positive. NaN where a figure does not
        exist, such as a Sharpe ratio of constant returns.
    """
    days, year = returns.to_numpy(dtype=float), periods_per_year
    known = ~np.isnan(days)
    if not known.any():
        names = (*NAMES, *(() if benchmark is None else ("Alpha", "Beta")))
        return dict.fromkeys(names, math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = dict(zip(NAMES, _figures(days[known], len(days) / year, year), strict=True))
        if benchmark is not None:
            market = benchmark.to_numpy(dtype=float)
            both = known & ~np.isnan(market)
            beta = _beta(days[both], market[both])
            rest = np.mean(days[both] - beta * market[both]) if both.sum() > 1 else math.nan
            found["Alpha"], found["Beta"] = (rest + 1.0) ** year - 1.0, beta
    return {name: float(value) for name, value in found.items()}


def _figures(days: FloatArray, years: float, year: float) -> tuple[Any, ...]:
    """Return the values of `NAMES`, of so many years with `year` days each."""
    wealth = np.cumprod(1.0 + days)
    marks = np.maximum(np.maximum.accumulate(wealth), 1.0)
    growth = wealth[-1] ** (1.0 / years) - 1.0
    fall = float(np.max((marks - wealth) / marks))
    mean, several = np.mean(days), len(days) > 1
    deviation = float(np.std(days, ddof=1)) if several else math.nan
    downside = np.sqrt(np.mean(np.minimum(days, 0.0) ** 2)) if several else math.nan
    moves = 0.0 if np.max(days) == np.min(days) else deviation  # rounding is no spread
    calmar = growth / fall if fall > 0.0 else math.nan
    least, most = np.percentile(days, (5, 95))
    worst = int((len(days) - 1) * 0.05)
    return (
        wealth[-1] - 1.0,
        growth,
        deviation * math.sqrt(year),
        mean / moves * math.sqrt(year) if several else math.nan,
        mean / downside * math.sqrt(year),
        calmar if math.isfinite(calmar) else math.nan,
        fall,
        -least,
        -np.mean(np.partition(days, worst)[: worst + 1]),
        _omega(days),
        abs(most) / abs(least),
        _stability(days),
    )


def _omega(days: FloatArray) -> float:
    """Return the sum of the gains over that of the losses."""
    lost = -float(np.sum(days[days < 0.0]))
    return float(np.sum(days[days > 0.0])) / lost if lost > 0.0 and len(days) > 1 else math.nan


def _stability(days: FloatArray) -> float:
    """Return the share of the spread of the log wealth that a straight line explains."""
    if len(days) < 2:
        return math.nan
    logs = np.cumsum(np.log1p(days))
    line = np.arange(len(logs)) - (len(logs) - 1) / 2.0
    logs = logs - np.mean(logs)
    squares = np.dot(line, line) * np.dot(logs, logs)
    return float(min(np.dot(line, logs) ** 2 / squares, 1.0))


def _beta(days: FloatArray, market: FloatArray) -> float:
    """Return the slope of daily returns over those of a market."""
    if len(market) < 2:
        return math.nan
    moves = market - np.mean(market)
    spread = float(np.mean(moves**2))
    return float(np.mean(moves * days)) / spread if spread >= 1e-30 else math.nan


def loss_figures(losses: LossDistribution) -> dict[str, float]:
    """Return the figures of the losses in R by name.

    Parameters
    ----------
    losses : LossDistribution

    Returns
    -------
    dict of str to float
        Shares of all trades with a known R; the worst trade is an R-multiple, the full stop-out
        and the cost of the entry bar are losses in R. NaN where a figure does not exist.
    """
    shares = {f"Trades beyond {limit:g} R": losses.share(limit) for limit in THRESHOLDS}
    return shares | {
        "Worst trade, R": losses.worst,
        "Full stop-out, R": losses.full_stop_out,
        "Entry bar, R": losses.entry_bar,
    }
