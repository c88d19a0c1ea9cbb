"""The odds of the first halt: the probability that a drawdown limit is reached, and how soon."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bt_risk.errors import ParameterError, check_whole
from bt_risk.evidence.bootstrap import (
    Interval,
    block_length,
    check_bootstrap,
    resampled_days,
)
from bt_risk.policy import Policy, policy_of
from bt_risk.report.calendar import check_periods_per_year
from bt_risk.tolerances import RATIO_EPS

__all__ = ["LEAST", "HaltOdds", "halt_probability"]

COMPONENT = "halt_probability"
LEAST = 20  # the fewest returns that say anything
CHUNK = 20  # histories at a time, whose paths fit into the cache of a processor
PATHS = 200  # futures of each resampled history: their error is small beside that of the history


@dataclass(frozen=True)
class HaltOdds:
    """The probability of a first halt, and the days until it.

    Attributes
    ----------
    drawdown_limit : float
        Fraction of the high-water mark; infinite where there is no breaker.
    horizon : int
        Number of days that the odds cover.
    year : float
        Days a year.
    confidence : float
    probability : Interval
        Of a halt within the horizon; the bounds are for what so few returns leave open.
    days : Interval
        Days to the first halt of those futures that have one: median, and the bounds that contain
        `confidence` of them. NaN where none has.
    """

    drawdown_limit: float
    horizon: int
    year: float
    confidence: float
    probability: Interval
    days: Interval

    def __str__(self) -> str:
        if math.isinf(self.drawdown_limit):
            return "No drawdown limit: nothing halts this run."
        chance, days = self.probability, self.days
        ahead = f"{self.horizon} days" + (" (a year)" if self.horizon == self.year else "")
        text = (
            f"A drawdown of {100 * self.drawdown_limit:g} % is reached within {ahead} with a "
            f"probability of {100 * chance.value:.0f} % ({100 * self.confidence:g} %: "
            f"{100 * chance.low:.0f} to {100 * chance.high:.0f} %)"
        )
        if math.isnan(days.value):
            return f"{text}."
        when = f"{days.value:.0f} days ({days.low:.0f} to {days.high:.0f})"
        return f"{text}; then in the median after {when}."

    def _repr_html_(self) -> str:
        """Return the sentence, for a notebook."""
        return f"<p>{self}</p>"


def halt_probability(
    returns: pd.Series | np.ndarray,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    *,
    horizon: int | None = None,
    confidence: float = 0.95,
    samples: int = 400,
    seed: int = 0,
    periods_per_year: float | None = None,
) -> HaltOdds:
    """Return the odds that the breaker of a policy halts within a year, and how soon.

    Parameters
    ----------
    returns : Series or ndarray of shape (n_days,)
        Simple daily returns of a run that no breaker has ended.
    policy : Policy, dict or path, optional
        Its `drawdown_limit`, or its `lifetime_limit` if that is tighter; the default policy when
        left out.
    horizon : int, optional
        Days to look ahead; a year when left out.
    confidence : float
    samples : int
        Resampled histories, each with 200 futures.
    seed : int
    periods_per_year : float, optional
        365 or 252; derived from the index of `returns` when left out.

    Returns
    -------
    HaltOdds

    Raises
    ------
    ParameterError
        If there are fewer than 20 returns, or one of them is not a number.

    Notes
    -----
    Two stages of the stationary block bootstrap: a history is resampled, and futures are drawn
    from it. The spread between histories is what so few returns leave open, the spread within a
    history is luck. Drawdowns are those of daily closes, as the breaker of a daily run has them.

    Examples
    --------
    >>> import numpy as np
    >>> calm = np.random.default_rng(1).normal(0.0004, 0.01, 1000)
    >>> odds = halt_probability(calm, periods_per_year=252)
    >>> 0.3 < odds.probability.value < 0.9
    True
    """
    policy = policy_of(COMPONENT, policy)
    check_bootstrap(COMPONENT, confidence, samples, seed)
    values, year = _checked_returns(returns, periods_per_year)
    ahead = check_whole(COMPONENT, "horizon", year if horizon is None else horizon, remedy="Days.")
    limits = [one for one in (policy.drawdown_limit, policy.lifetime_limit) if one is not None]
    limit = min(limits, default=math.inf)
    if math.isinf(limit):
        return HaltOdds(limit, ahead, year, confidence, Interval(0.0, 0.0, 0.0), Interval(math.nan))
    chances, firsts = _simulate(values, limit, ahead, samples, seed)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(chances, [tail, 1.0 - tail])
    days = Interval(math.nan)
    if len(firsts):
        soon, median, late = np.quantile(firsts, [tail, 0.5, 1.0 - tail])
        days = Interval(float(median), float(soon), float(late))
    chance = Interval(float(np.mean(chances)), float(low), float(high))
    return HaltOdds(limit, ahead, year, confidence, chance, days)


def _checked_returns(
    returns: pd.Series | np.ndarray, year: float | None
) -> tuple[np.ndarray, float]:
    """Return the returns as an array, and the days a year."""
    values = np.asarray(returns, dtype=float)
    if values.ndim != 1 or len(values) < LEAST or not np.isfinite(values).all():
        constraint = f"at least {LEAST} finite daily returns"
        raise ParameterError(
            COMPONENT, "returns", constraint, f"{np.isfinite(values).sum()} of them"
        )
    index = getattr(returns, "index", None)
    if year is None and not isinstance(index, pd.DatetimeIndex):
        remedy = "An array has no dates: 365 for a market that never closes, 252 for stocks."
        raise ParameterError(COMPONENT, "periods_per_year", "given with an array", year, remedy)
    return values, check_periods_per_year(COMPONENT, year, index)


def _simulate(
    values: np.ndarray, limit: float, ahead: int, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of futures that halt, for each history, and the days of all first halts."""
    block, count = block_length(values), len(values)
    picks = resampled_days(count, block, samples, seed)
    rng = np.random.default_rng([seed, 1])
    growth, laps = 1.0 + values, 1 + -(-ahead // count)
    futures = np.empty((ahead, CHUNK * PATHS))
    chances, firsts = [], []
    for begin in range(0, samples, CHUNK):
        histories = picks[begin : begin + CHUNK]
        for place, days in enumerate(histories):
            future = np.tile(growth[days], laps)[_futures(rng, count, ahead, block)]
            futures[:, place * PATHS : (place + 1) * PATHS] = future.T
        first = _first_halts(futures[:, : len(histories) * PATHS], limit)
        chances.append((first.reshape(-1, PATHS) > 0).mean(axis=1))
        firsts.append(first[first > 0])
    return np.concatenate(chances), np.concatenate(firsts)


def _futures(rng: np.random.Generator, count: int, ahead: int, block: float) -> np.ndarray:
    """Return the days of `PATHS` futures: the stationary bootstrap, of another length.

    Days from `count` on are those from the first day of the history on.
    """
    jumps = rng.random((PATHS, ahead)) < 1.0 / block
    jumps[:, 0] = True
    starts = rng.integers(0, count, (PATHS, ahead))
    begins = np.flatnonzero(jumps)
    lengths = np.diff(begins, append=jumps.size)
    days = np.repeat(starts.ravel()[begins] - begins, lengths)
    days += np.arange(jumps.size)
    return days.reshape(PATHS, ahead)


def _first_halts(growth: np.ndarray, limit: float) -> np.ndarray:
    """Return the day of the first halt of each path, 0 without one.

    `growth` is the factor of each day, of shape (days, paths).
    """
    paths = growth.shape[1]
    wealth, marks, first = np.ones(paths), np.ones(paths), np.zeros(paths, dtype=np.int64)
    # A drawdown is computed where it is about that deep, and then to the last bit.
    near, bounds = 1.0 - limit + 1e-6, np.empty(paths)
    for day, of_day in enumerate(growth, start=1):
        wealth *= of_day
        np.maximum(marks, wealth, out=marks)
        np.multiply(marks, near, out=bounds)
        low = wealth <= bounds
        if low.any():
            deep = np.flatnonzero(low)
            halted = deep[1.0 - wealth[deep] / marks[deep] >= limit - RATIO_EPS]
            first[halted] = day
            wealth[halted] = math.nan  # the first halt ends a path
    return first
