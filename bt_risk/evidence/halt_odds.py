"""The odds of the first halt: the probability that a drawdown limit is reached, and how soon."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bt_risk.errors import ParameterError, check_positive, check_whole
from bt_risk.evidence.account_days import account_of_returns
from bt_risk.evidence.bootstrap import (
    Interval,
    block_length,
    chance_interval,
    check_bootstrap,
    future_days,
    resampled_days,
)
from bt_risk.evidence.challenge_judge import Judge, Outcome
from bt_risk.evidence.challenge_paths import drawn_days, judged
from bt_risk.evidence.challenge_rules import own_rules, rules_of
from bt_risk.limits.account_floor import AccountFloor
from bt_risk.limits.trade_guards import Guard
from bt_risk.policy import Policy, policy_of
from bt_risk.report.calendar import check_periods_per_year
from bt_risk.tolerances import RATIO_EPS

__all__ = ["LEAST", "HaltOdds", "halt_probability"]

COMPONENT = "halt_probability"
LEAST = 20  # the fewest returns that say anything
CHUNK = 20  # histories at a time, whose paths fit into the cache of a processor
PATHS = 200  # futures of each resampled history: their error is small beside that of the history
JUDGED = 25  # of them where floors are judged, one path after the other


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
    floors : bool
        Whether a floor or a daily limit may be what halts.
    """

    drawdown_limit: float
    horizon: int
    year: float
    confidence: float
    probability: Interval
    days: Interval
    floors: bool = False

    def __str__(self) -> str:
        if math.isinf(self.drawdown_limit) and not self.floors:
            return "No drawdown limit: nothing halts this run."
        chance, days = self.probability, self.days
        ahead = f"{self.horizon} days" + (" (a year)" if self.horizon == self.year else "")
        text = (
            f"{self._what()} is reached within {ahead} with a "
            f"probability of {100 * chance.value:.0f} % ({100 * self.confidence:g} %: "
            f"{100 * chance.low:.0f} to {100 * chance.high:.0f} %)"
        )
        if math.isnan(days.value):
            return f"{text}."
        when = f"{days.value:.0f} days ({days.low:.0f} to {days.high:.0f})"
        return f"{text}; then in the median after {when}."

    def _what(self) -> str:
        fall = f"A drawdown of {100 * self.drawdown_limit:g} %"
        if not self.floors:
            return fall
        return "A floor" if math.isinf(self.drawdown_limit) else f"{fall}, or a floor,"

    def _repr_html_(self) -> str:
        """Return the sentence, for a notebook."""
        return f"<p>{self}</p>"


def halt_probability(
    returns: pd.Series | np.ndarray,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    *,
    rules: Sequence[Guard] | str | Path = (),
    horizon: int | None = None,
    confidence: float = 0.95,
    samples: int = 400,
    seed: int = 0,
    periods_per_year: float | None = None,
    cash: float = 100_000.0,
) -> HaltOdds:
    """Return the odds that the breaker of a policy halts within a year, and how soon.

    Parameters
    ----------
    returns : Series or ndarray of shape (n_days,)
        Simple daily returns of a run that no breaker has ended. A Series with several returns on
        one date has those of bars: its days are drawn whole, and each bar is judged.
    policy : Policy, dict or path, optional
        Its `drawdown_limit`, or its `lifetime_limit` if that is tighter; the default policy when
        left out.
    rules : list of guards, or path
        `AccountFloor` and `DailyLossLimit` that halt as well, as for `challenge`, beside the floors
        among the guards of the policy. Returns have no worst inside a bar, and no balance: a floor
        is judged at closes, by equity.
    horizon : int, optional
        Days to look ahead; a year when left out.
    confidence : float
    samples : int
        Resampled histories, each with 200 futures; with 25 where there are floors.
    seed : int
    periods_per_year : float, optional
        365 or 252; derived from the index of `returns` when left out.
    cash : float
        Equity at the begin, of which amounts in currency are a part.

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
    history is luck. Drawdowns are those of the closes that `returns` has, which should be the bars
    that the breaker sees: those of daily closes miss what happens within a day.

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
    check_positive(COMPONENT, "cash", cash)
    days, year = _checked_returns(returns, periods_per_year)
    ahead = check_whole(COMPONENT, "horizon", year if horizon is None else horizon, remedy="Days.")
    limits = [one for one in (policy.drawdown_limit, policy.lifetime_limit) if one is not None]
    limit = min(limits, default=math.inf)
    floors = any(isinstance(one, AccountFloor) and one.active for one in policy.guards)
    if floors or rules:
        values, firsts = _judged(days, policy, rules, (ahead, samples, seed), cash)
        chance = chance_interval(values, confidence)
        return HaltOdds(
            limit, ahead, year, confidence, chance, _when(firsts, confidence), floors=True
        )
    if math.isinf(limit):
        return HaltOdds(limit, ahead, year, confidence, Interval(0.0, 0.0, 0.0), Interval(math.nan))
    if all(len(of_day) == 1 for of_day in days):
        chances, firsts = _simulate(np.concatenate(days), limit, ahead, samples, seed)
    else:
        chances, firsts = _simulate_bars(_Bars.of(days, limit), limit, ahead, samples, seed)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(chances, [tail, 1.0 - tail])
    chance = Interval(float(np.mean(chances)), float(low), float(high))
    return HaltOdds(limit, ahead, year, confidence, chance, _when(firsts, confidence))


def _when(firsts: np.ndarray, confidence: float) -> Interval:
    """Return the median day of the first halts, and bounds that contain most of them."""
    if not len(firsts):
        return Interval(math.nan)
    tail = (1.0 - confidence) / 2
    soon, median, late = np.quantile(firsts, [tail, 0.5, 1.0 - tail])
    return Interval(float(median), float(soon), float(late))


def _checked_returns(
    returns: pd.Series | np.ndarray, year: float | None
) -> tuple[list[np.ndarray], float]:
    """Return the returns of each day, and the days a year."""
    values = np.asarray(returns, dtype=float)
    index = getattr(returns, "index", None)
    dates = index.normalize() if isinstance(index, pd.DatetimeIndex) else None
    firsts = np.arange(len(values))
    if dates is not None:
        if not dates.is_monotonic_increasing:
            raise ParameterError(COMPONENT, "returns", "in the order of time", str(dates[0]))
        firsts = np.flatnonzero(~dates.duplicated())
        dates = dates[firsts]
    if values.ndim != 1 or len(firsts) < LEAST or not np.isfinite(values).all():
        constraint = f"at least {LEAST} finite daily returns"
        raise ParameterError(
            COMPONENT, "returns", constraint, f"{np.isfinite(values).sum()} of them"
        )
    if year is None and dates is None:
        remedy = "An array has no dates: 365 for a market that never closes, 252 for stocks."
        raise ParameterError(COMPONENT, "periods_per_year", "given with an array", year, remedy)
    days = np.split(values, firsts[1:])
    return days, check_periods_per_year(COMPONENT, year, dates)


def _judged(
    days: list[np.ndarray],
    policy: Policy,
    rules: Sequence[Guard] | str | Path,
    drawn: tuple[int, int, int],
    cash: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each future halts, a row for each history, and the days of all first halts."""
    ahead, samples, seed = drawn
    floors = [
        replace(one, taper_to_floor=None)
        for one in policy.guards
        if isinstance(one, AccountFloor) and one.active
    ]
    firm = rules_of(COMPONENT, rules or floors)
    if firm.target or firm.minimum or firm.consistency:
        constraint = "a list of AccountFloor and DailyLossLimit"
        raise ParameterError(COMPONENT, "rules", constraint, [one.name for one in firm.guards])
    own = own_rules(COMPONENT, replace(policy, guards=tuple(floors) if rules else ()), firm)
    if own.breaker is not None:  # that it would go on later is no matter: the first halt counts
        stops = replace(own.breaker, action="stop", cooldown_bars=None, taper_from=None)
        own = replace(own, breaker=stops)
    account = account_of_returns(days, cash)
    picks = drawn_days(len(days), ahead, block_length(account.returns), samples, JUDGED, seed)
    found = judged(Judge(firm, account, cash, own), picks)
    halted = found.outcomes != Outcome.PASSED
    return halted.astype(float).reshape(samples, JUDGED), found.days[halted]


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
            future = np.tile(growth[days], laps)[future_days(rng, PATHS, count, ahead, block)]
            futures[:, place * PATHS : (place + 1) * PATHS] = future.T
        first = _first_halts(futures[:, : len(histories) * PATHS], limit)
        chances.append((first.reshape(-1, PATHS) > 0).mean(axis=1))
        firsts.append(first[first > 0])
    return np.concatenate(chances), np.concatenate(firsts)


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


class _Bars(NamedTuple):
    """Hold days of several bars, as arrays by day.

    `growth`, `low` and `high` are equity at the end of a day, and at its lowest and highest close,
    as multiples of equity at its begin. `sure` says that a fall within the day reaches the limit,
    whatever was before.
    """

    growth: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sure: np.ndarray

    @classmethod
    def of(cls, days: Sequence[np.ndarray], limit: float) -> "_Bars":
        """Return the arrays of the returns of each day."""
        rows = []
        for returns in days:
            wealth = np.cumprod(np.maximum(1.0 + returns, 0.0))
            tops = np.maximum.accumulate(wealth)
            deepest = 1.0 - np.min(np.divide(wealth, tops, out=np.ones_like(tops), where=tops > 0))
            rows.append((wealth[-1], wealth.min(), wealth.max(), deepest >= limit - RATIO_EPS))
        growth, low, high, sure = np.array(rows).T
        return cls(growth, low, high, sure.astype(bool))

    def take(self, places: np.ndarray) -> "_Bars":
        """Return the days at these places, an array of any shape."""
        return _Bars(*(values[places] for values in self))


def _simulate_bars(
    bars: _Bars, limit: float, ahead: int, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_simulate` returns, with every bar of a day judged."""
    count = len(bars.growth)
    block = block_length(bars.growth - 1.0)
    days = drawn_days(count, ahead, block, samples, PATHS, seed)
    firsts = []
    for begin in range(0, len(days), CHUNK * PATHS):
        firsts.append(_first_halts_within(bars.take(days[begin : begin + CHUNK * PATHS].T), limit))
    first = np.concatenate(firsts)
    return (first.reshape(-1, PATHS) > 0).mean(axis=1), first[first > 0]


def _first_halts_within(bars: _Bars, limit: float) -> np.ndarray:
    """Return the day of the first halt of each path, 0 without one; arrays are (days, paths)."""
    paths = bars.growth.shape[1]
    wealth, marks, first = np.ones(paths), np.ones(paths), np.zeros(paths, dtype=np.int64)
    for day, (growth, low, high, sure) in enumerate(zip(*bars, strict=True), start=1):
        # A fall is one from an earlier mark, or one within the day from a higher one.
        halted = ((1.0 - wealth * low / marks >= limit - RATIO_EPS) | sure) & (first == 0)
        first[halted] = day
        np.maximum(marks, wealth * high, out=marks)
        wealth *= growth
    return first
