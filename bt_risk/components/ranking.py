"""Ranking: the names that can be ranked at a close, best first, and why the others cannot."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import backtrader as bt

from bt_risk.components.closed_bars import ClosedBars
from bt_risk.components.formula import Formula
from bt_risk.components.membership import Membership

__all__ = ["Candidate", "Placed", "ranking"]

_DAYS = (bt.TimeFrame.Days, bt.TimeFrame.Weeks, bt.TimeFrame.Months, bt.TimeFrame.Years)


@dataclass(frozen=True)
class Placed:
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
    """One name that may be ranked: its bars and the formulas on them."""

    def __init__(self, component: str, name: str, bars: ClosedBars, rank: Any, where: Any) -> None:
        self.name, self.bars = name, bars
        self.rank = Formula(bars, component, "rank", rank)
        self.where = None if where is None else Formula(bars, component, "where", where)
        self._failure = ""

    @property
    def time(self) -> float:
        """Return the date number of the last bar, minus infinity before the first."""
        times = self.bars.lines.datetime.array
        return times[-1] if times else -math.inf

    def place(self, newest: float, max_age_days: float, members: Membership) -> Placed:
        """Return the score at the last bar, or why there is none; the rank is still open."""
        self._compute()
        reason = self._why_not(newest, max_age_days, members)
        if reason:
            return Placed(self.name, 0, math.nan, reason)
        last = len(self.bars.lines.close.array) - 1
        score = self.rank.value(last)
        for formula, value in ((self.where, self._passes(last)), (self.rank, score)):
            if formula is not None and not math.isfinite(value):
                return Placed(self.name, 0, math.nan, f"{formula.unknown(last)} has no value")
        if self.where is not None and not self._passes(last):
            return Placed(self.name, 0, score, f"not {self.where.text}")
        return Placed(self.name, 0, score)

    def _passes(self, last: int) -> float:
        return 1.0 if self.where is None else self.where.value(last)

    def _compute(self) -> None:
        if not self._failure:
            try:
                self.bars.compute()
            except Exception as error:  # of an indicator: this name is unknown from here on
                self._failure = f"an indicator failed: {type(error).__name__}: {error}"

    def _why_not(self, newest: float, max_age_days: float, members: Membership) -> str:
        """Return why the name is not ranked, before its score is known."""
        closes = self.bars.lines.close.array
        if not members.has(self.name, newest):
            return "not a member on this day"
        if not closes:
            return "no bar yet"
        age = self._age(newest)
        if age > max_age_days:
            return f"its last bar, of {bt.num2date(self.time):%Y-%m-%d %H:%M}, is stale"
        needs = max(one.needs for one in (self.rank, self.where) if one is not None)
        if len(closes) < needs:
            return f"{len(closes)} of {needs} bars"
        if not math.isfinite(closes[-1]):
            return "its last close is no number"
        return self._failure

    def _age(self, newest: float) -> float:
        """Return the age of the last bar in days; bars of days and longer are compared by date."""
        if self.bars._timeframe in _DAYS:
            return math.floor(newest) - math.floor(self.time)
        return newest - self.time


def ranking(
    candidates: Iterable[Candidate], newest: float, max_age_days: float, members: Membership
) -> list[Placed]:
    """Return the names that are ranked, best first, and then the others by name.

    The highest score is the best; equal scores are in the sequence of the names.
    """
    placed = [one.place(newest, max_age_days, members) for one in candidates]
    ranked = sorted((one for one in placed if not one.reason), key=lambda o: (-o.score, o.name))
    others = sorted((one for one in placed if one.reason), key=lambda one: one.name)
    numbered = [Placed(one.name, n, one.score) for n, one in enumerate(ranked, 1)]
    return numbered + others
