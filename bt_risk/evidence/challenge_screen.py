"""Paths on which no rule can be touched: the state machines need not be asked about them."""

from __future__ import annotations

import math

import numpy as np

from bt_risk.evidence.account_days import BALANCE, BALANCE_HIGH, BARS, CLOSES, END
from bt_risk.evidence.challenge_judge import Judge
from bt_risk.limits.account_floor import AccountFloor
from bt_risk.rules.account_floor import INITIAL, STATIC, in_currency
from bt_risk.rules.challenge import target_level

__all__ = ["eventful"]

NEAR = 1e-9  # of a level: bounds are wider than what arithmetic rounds


def eventful(judge: Judge, columns: np.ndarray) -> np.ndarray:
    """Return for each path whether a rule may be touched on it, or a target reached.

    Parameters
    ----------
    judge : Judge
    columns : ndarray of shape (n_paths, ahead, COLUMNS)
        See `bt_risk.evidence.challenge_paths.path_columns`.

    Returns
    -------
    ndarray of bool of shape (n_paths,)
        False only where nothing happens: without a target such a path is passed, with one it is
        open. A floor lies at most where it would if it trailed the highest of all values so far,
        and a day is measured at most from the higher of balance and equity.

    Notes
    -----
    It only saves time: a path is judged by the state machines wherever a bound is touched.
    """
    rules, own = judge.rules, judge.own
    tapers = own is not None and (
        any(floor.taper_to_floor is not None for floor in own.floors)
        or (own.breaker is not None and own.breaker.taper_from is not None)
    )
    counts = rules.target is None and (rules.minimum or rules.consistency)
    if counts or tapers:
        return np.ones(len(columns), dtype=bool)
    lows = np.minimum(columns[..., BARS.low], columns[..., CLOSES.low])
    begins = _begins(judge.start, columns)
    tops = np.maximum(columns[..., BARS.high], columns[..., BALANCE_HIGH])
    marks = np.maximum(np.maximum.accumulate(tops, axis=1), np.maximum(judge.start, begins))
    levels = np.full(lows.shape, -math.inf)
    for floor in (*rules.floors, *(own.floors if own else ())):
        np.maximum(levels, _floor_level(floor, judge.start, marks, begins), out=levels)
    for loss in rules.losses:
        lost = loss.daily_loss_limit
        by_day = begins * (1.0 - lost) if loss.unit == "fraction" else begins - lost
        np.maximum(levels, by_day, out=levels)
    if own is not None and own.breaker is not None:
        rule = own.breaker.rule
        limit = min(rule.drawdown_limit, rule.lifetime_limit)
        np.maximum(levels, marks * (1.0 - limit), out=levels)
    touched = (lows <= levels + NEAR * np.abs(marks)).any(axis=1)
    for target in (rules.target, own.target if own else None):
        if target is not None:
            initial = judge.start if target.initial_balance is None else target.initial_balance
            value = columns[..., BALANCE_HIGH if target.of == "balance" else CLOSES.high]
            level = target_level(target.amount or 0.0, initial)
            touched |= (value >= level - NEAR * abs(level)).any(axis=1)
    found: np.ndarray = touched
    return found


def _begins(start: float, columns: np.ndarray) -> np.ndarray:
    """Return the higher of balance and equity at the begin of each day."""
    begins = np.empty(columns.shape[:2])
    begins[:, 0] = start
    begins[:, 1:] = np.maximum(columns[:, :-1, END], columns[:, :-1, BALANCE])
    return begins


def _floor_level(
    floor: AccountFloor, start: float, marks: np.ndarray, begins: np.ndarray
) -> np.ndarray:
    """Return the highest level at which a floor can be on each day."""
    initial = start if floor.initial_balance is None else floor.initial_balance
    levels = np.full(marks.shape, -math.inf)
    if floor.amount is not None:
        first = initial - in_currency(floor.amount, initial)
        levels[:] = first
        if floor.mode != STATIC:
            np.maximum(levels, marks - (initial - first), out=levels)
            np.maximum(levels, first, out=levels)
    if floor.daily is not None:
        if floor.daily_base == INITIAL:
            by_day = begins - in_currency(floor.daily, initial)
        else:
            by_day = begins - in_currency(floor.daily, 1.0) * begins
        np.maximum(levels, by_day, out=levels)
    return levels
