"""Ranking: the names that can be ranked at a close, best first, and why the others cannot."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import backtrader as bt

from bt_risk.components.closed_bars import ClosedBars
from bt_risk.components.formula import Formula
from bt_risk.components.membership import Membership

__all__ = ["Candidate", "Placed", "ranking"]

_DAYS = (bt.TimeFrame.Days, bt.TimeFrame.Weeks, bt.TimeFrame.Months, bt.TimeFrame.Years)
_INF, _NAN = math.inf, math.nan


class Placed(NamedTuple):
    """A name at one close.

    Attributes
    ----------
    name : str
    rank : int
        1 is the best; 0 for a name that is not ranked.
    score : float
        Value of the rank's expression, NaN where it is not known.
    reason : str
        Why the name is not ranked.
    """

    name: str
    rank: int
    score: float
    reason: str = ""


class Candidate:
    """One name that may be ranked: its bars and the formulas on them.

    Attributes
    ----------
    count : int
        Bars that have closed; those after them, after `load`, are in no number.
    causal : bool
        Whether no formula can look ahead, so that its values may be computed at once.
    """

    def __init__(self, component: str, name: str, bars: ClosedBars, rank: Any, where: Any) -> None:
        self.name, self.bars, self.count = name, bars, 0
        self.rank = Formula(bars, component, "rank", rank)
        self.where = None if where is None else Formula(bars, component, "where", where)
        formulas = [self.rank] if self.where is None else [self.rank, self.where]
        # In this sequence a value that is not known is looked for.
        self._formulas = formulas[::-1]
        self._needs = max(one.needs for one in formulas)
        self.causal = all(one.causal for one in formulas)
        self._datetime, self._close = bars.lines.datetime, bars.lines.close
        self._complete, self._failure = False, ""

    @property
    def time(self) -> float:
        """Return the date number of the last bar, minus infinity before the first."""
        time: float = self._datetime.array[self.count - 1] if self.count else -_INF
        return time

    def take(self, columns: Iterable[Iterable[float]]) -> None:
        """Take bars that have closed: the values of each line, in the sequence of the lines."""
        self.bars.append(columns)
        self.count = len(self._close.array)

    def load(self, columns: Iterable[Iterable[float]], count: int) -> None:
        """Take all bars of a run, of which so many have closed, and compute the formulas at once.

        Raises what an indicator raises at any of them.
        """
        self.bars.append(columns)
        self.bars.compute()
        for formula in self._formulas:
            formula.compute(len(self._close.array))
        self.count, self._complete = count, True

    def place(self, newest: float, max_age_days: float, members: Membership) -> tuple[float, str]:
        """Return the score at the last bar, or why the name is not ranked."""
        if not self._complete:
            self._compute()
        reason = self._why_not(newest, max_age_days, members)
        if reason:
            return _NAN, reason
        last, passes = self.count - 1, 1.0
        for formula in self._formulas:
            value = formula.value(last)
            if not -_INF < value < _INF:
                return _NAN, f"{formula.unknown(last)} has no value"
            if formula is self.where:
                passes = value
        if self.where is not None and not passes:
            return value, f"not {self.where.text}"
        return value, ""

    def _compute(self) -> None:
        if not self._failure:
            try:
                self.bars.compute()
            except Exception as error:  # of an indicator: this name is unknown from here on
                self._failure = f"an indicator failed: {type(error).__name__}: {error}"

    def _why_not(self, newest: float, max_age_days: float, members: Membership) -> str:
        """Return why the name is not ranked, before its score is known."""
        if not members.has(self.name, newest):
            return "not a member on this day"
        count = self.count
        if not count:
            return "no bar yet"
        time = self._datetime.array[count - 1]
        if time != newest and self._age(time, newest) > max_age_days:
            return f"its last bar, of {bt.num2date(time):%Y-%m-%d %H:%M}, is stale"
        if count < self._needs:
            return f"{count} of {self._needs} bars"
        if not -_INF < self._close.array[count - 1] < _INF:
            return "its last close is no number"
        return self._failure

    def _age(self, time: float, newest: float) -> float:
        """Return the age of the last bar in days; bars of days and longer are compared by date."""
        if self.bars._timeframe in _DAYS:
            return math.floor(newest) - math.floor(time)
        return newest - time


def ranking(
    candidates: Iterable[Candidate], newest: float, max_age_days: float, members: Membership
) -> list[Placed]:
    """Return the names that are ranked, best first, and then the others by name.

    The highest score is the best; equal scores are in the sequence of the names.
    """
    ranked: list[tuple[float, str]] = []
    others: list[Placed] = []
    for one in candidates:
        score, reason = one.place(newest, max_age_days, members)
        if reason:
            others.append(Placed(one.name, 0, score, reason))
        else:
            ranked.append((-score, one.name))
    ranked.sort()
    others.sort()
    numbered = [Placed(name, n, -score) for n, (score, name) in enumerate(ranked, 1)]
    return numbered + others
