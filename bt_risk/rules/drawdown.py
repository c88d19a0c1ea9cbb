"""Rule 5: the fall from the high-water mark, and the breaker that acts on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from bt_risk.errors import check_fraction, check_positive
from bt_risk.rules.frames import ColumnT, FloatArray
from bt_risk.tolerances import RATIO_EPS

__all__ = [
    "ARMED",
    "COOLING",
    "LOCKED",
    "TRIPPED",
    "BreakerRule",
    "BreakerState",
    "RiskManager",
    "drawdown",
    "fall",
    "high_water_mark",
    "rearm",
    "step",
    "taper",
]

ARMED, TRIPPED, COOLING, LOCKED = "ARMED", "TRIPPED", "COOLING", "LOCKED"


def high_water_mark(equity: ColumnT) -> ColumnT:
    """Return the running maximum of `equity`.

    Parameters
    ----------
    equity : Series or ndarray of shape (n_bars,)
        Account value in currency, oldest first.

    Returns
    -------
    Series or ndarray of shape (n_bars,)
        Same type and index. NaN stays NaN and never moves the mark.

    Examples
    --------
    >>> high_water_mark(np.array([100.0, 120.0, 90.0]))
    array([100., 120., 120.])
    """
    values = np.asarray(equity, dtype=float)
    mark: FloatArray = np.fmax.accumulate(values) if len(values) else values.copy()
    mark[np.isnan(values)] = np.nan
    if isinstance(equity, pd.Series):
        return cast(ColumnT, pd.Series(mark, index=equity.index, name=equity.name))
    return cast(ColumnT, mark)


def drawdown(equity: ColumnT) -> ColumnT:
    """Return the fall of `equity` from its high-water mark, as a positive fraction.

    Parameters
    ----------
    equity : Series or ndarray of shape (n_bars,)
        Account value in currency, oldest first; the first value must be positive.

    Returns
    -------
    Series or ndarray of shape (n_bars,)
        0 at a new mark, 0.2 when 20 % below it, above 1 once equity is negative. Same type and
        index as `equity`. NaN stays NaN and never moves the mark.

    Notes
    -----
    ``1 - equity / high_water_mark(equity)``.

    Examples
    --------
    >>> drawdown(np.array([100.0, 120.0, 90.0]))
    array([0.  , 0.  , 0.25])
    """
    values = np.asarray(equity, dtype=float)
    known = values[~np.isnan(values)]
    if len(known):
        check_positive("drawdown", "the first equity", float(known[0]))
    return cast(ColumnT, 1.0 - equity / high_water_mark(equity))


class RiskManager:
    """Track realised capital and report when to stop: the article's class.

    Parameters
    ----------
    capital : float
        Starting capital in currency, positive.
    drawdown_limit : float, default 0.10
        Fraction of the peak. As in the article a loss of exactly the limit still trades (``>``);
        the breaker of the engine trips at the limit itself.

    Examples
    --------
    >>> manager = RiskManager(100_000)
    >>> manager.update(-5_000), manager.update(-5_000), manager.update(-1)
    (True, True, False)
    """

    def __init__(self, capital: float, drawdown_limit: float = 0.10) -> None:
        self.capital = self.peak = check_positive("RiskManager", "capital", capital)
        self.drawdown_limit = check_fraction("RiskManager", "drawdown_limit", drawdown_limit)

    @property
    def drawdown(self) -> float:
        """Return the fall from the peak as a fraction."""
        return (self.peak - self.capital) / self.peak

    def update(self, pnl: float) -> bool:
        """Book a profit or loss in currency; return whether trading may go on. NaN is refused."""
        if math.isnan(pnl):
            check_positive("RiskManager", "pnl", pnl, remedy="Pass the trade's profit or loss.")
        self.capital += pnl
        self.peak = max(self.peak, self.capital)
        return not self.drawdown > self.drawdown_limit


@dataclass(frozen=True)
class BreakerRule:
    """State when a breaker trips and how it is armed again; see `bt_risk.DrawdownBreaker`."""

    drawdown_limit: float = 0.10
    cooldown_bars: int | None = None
    rearm_at: str = "rebase"
    lifetime_limit: float = math.inf
    confirmations: int = 1


@dataclass(frozen=True)
class BreakerState:
    """Hold everything that a breaker remembers from one bar to the next.

    Attributes
    ----------
    status : str
        ARMED (watching), TRIPPED (blocking, waiting until flat), COOLING (blocking for
        `cooldown_left` bars), LOCKED (blocking until `rearm`).
    high_water_mark, lifetime_mark : float
        Highest value since the last re-arming, and ever. NaN before the first value.
    breaches : int
        Consecutive values beyond the limit; `confirmations` of them trip.
    trips : int
        How often it has tripped.
    final : bool
        The lifetime limit was hit: no way back.
    """

    status: str = ARMED
    high_water_mark: float = math.nan
    lifetime_mark: float = math.nan
    breaches: int = 0
    cooldown_left: int = 0
    trips: int = 0
    final: bool = False


def fall(value: float, mark: float) -> float:
    """Return how far a finite `value` is below `mark`, as a positive fraction of it."""
    return 1.0 - value / mark if mark > 0 else math.inf


def step(
    state: BreakerState,
    value: float,
    rule: BreakerRule,
    *,
    worst: float = math.nan,
    flat: bool = False,
    new_bar: bool = True,
) -> BreakerState:
    """Advance a breaker by one value of the account; the only place where it changes.

    Parameters
    ----------
    state : BreakerState
        As the last step left it.
    value : float
        Unit value of the account (unmoved by deposits). NaN or infinite: nothing is concluded.
    rule : BreakerRule
        The limits.
    worst : float
        The lowest value inside the bar that ended with `value`, where bars are judged at their
        worst. It came before the close: it is compared with the marks before that.
    flat : bool
        Whether every position that the breaker closes is closed.
    new_bar : bool
        Whether a bar has closed since the last step; cool-downs count bars.

    Returns
    -------
    BreakerState
        The same object where nothing changes.

    Examples
    --------
    >>> state = step(BreakerState(), 100.0, BreakerRule())
    >>> step(state, 90.0, BreakerRule()).status
    'TRIPPED'
    >>> step(state, 101.0, BreakerRule(), worst=90.0).status
    'TRIPPED'
    """
    if math.isfinite(value):
        if worst < value and state.status == ARMED and not math.isnan(state.high_water_mark):
            state = _mark(_watch(state, worst, rule), value)
        else:
            state = _mark(state, value)
            if state.status == ARMED:
                state = _watch(state, value, rule)
    if state.status == COOLING and new_bar:
        return _cool(state, value, rule)
    if state.status == TRIPPED and flat:
        return _after_flat(state, rule)
    return state


def rearm(state: BreakerState, value: float) -> BreakerState:
    """Return an ARMED state with the mark rebased to `value`.

    A final state stays as it is, and so does one without a value from which anything can be lost:
    a mark of zero or less would trip at once.
    """
    if state.final or not 0.0 < value < math.inf:
        return state
    return replace(state, status=ARMED, high_water_mark=value, cooldown_left=0)


def taper(drawdown: float, taper_from: float, drawdown_limit: float) -> float:
    """Return the share of the risk budget that is left: 1 up to `taper_from`, 0 at the limit.

    Examples
    --------
    >>> taper(0.75, 0.5, 1.0)
    0.5
    """
    if math.isinf(drawdown_limit) or drawdown <= taper_from:
        return 1.0
    return max(0.0, (drawdown_limit - drawdown) / (drawdown_limit - taper_from))


def _mark(state: BreakerState, value: float) -> BreakerState:
    if value <= state.high_water_mark and value <= state.lifetime_mark:
        return state
    mark = value if math.isnan(state.high_water_mark) else max(state.high_water_mark, value)
    ever = value if math.isnan(state.lifetime_mark) else max(state.lifetime_mark, value)
    return replace(state, high_water_mark=mark, lifetime_mark=ever)


def _watch(state: BreakerState, value: float, rule: BreakerRule) -> BreakerState:
    lifetime = rule.lifetime_limit
    final = lifetime < math.inf and fall(value, state.lifetime_mark) >= lifetime - RATIO_EPS
    if not final and fall(value, state.high_water_mark) < rule.drawdown_limit - RATIO_EPS:
        return replace(state, breaches=0) if state.breaches else state
    state = replace(state, breaches=state.breaches + 1)
    if state.breaches < rule.confirmations:
        return state
    return replace(state, status=TRIPPED, breaches=0, trips=state.trips + 1, final=final)


def _after_flat(state: BreakerState, rule: BreakerRule) -> BreakerState:
    if state.final or rule.cooldown_bars is None:
        return replace(state, status=LOCKED)
    return replace(state, status=COOLING, cooldown_left=rule.cooldown_bars)


def _cool(state: BreakerState, value: float, rule: BreakerRule) -> BreakerState:
    left = max(0, state.cooldown_left - 1)
    state = replace(state, cooldown_left=left)
    if left or not math.isfinite(value):
        return state
    if rule.rearm_at == "recovery" and value < state.high_water_mark:
        return state
    return rearm(state, value)
