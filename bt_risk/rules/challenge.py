"""The profit of an account by trading day: a target, days that count, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bt_risk.rules.account_floor import in_currency
from bt_risk.tolerances import RATIO_EPS

__all__ = ["DayProfits", "is_consistent", "target_level"]

_SAVED = ("initial", "balance", "day", "begin", "best", "days")


class DayProfits:
    """Follow the closed profit of an account, trading day by trading day.

    Attributes
    ----------
    initial, balance : float
        Balance that profit is measured from, and that of the last sample. NaN before it.
    day : float
        Key of the present day.
    begin : float
        Balance at the end of the day before.
    best : float
        The highest profit of a day that is over.
    days : int
        Days on which a position was opened.

    Examples
    --------
    >>> profits = DayProfits()
    >>> for balance, day in [(100.0, 1), (103.0, 1), (104.0, 2), (106.0, 3)]:
    ...     profits.update(balance, day, opened=True)
    >>> profits.profit, profits.best_day, profits.days
    (6.0, 3.0, 3)
    >>> profits.share
    0.5
    """

    def __init__(self, initial: float | None = None) -> None:
        self.initial = math.nan if initial is None else initial
        self.balance = self.day = self.begin = math.nan
        self.best, self.days = 0.0, 0
        self._traded_on = math.nan

    def update(self, balance: float, day: float, opened: bool = False) -> None:
        """Advance by one sample of the closed balance; `opened` says that a position was opened."""
        if not math.isfinite(balance):
            return
        if math.isnan(self.begin):
            self.begin, self.day = balance, day
            if math.isnan(self.initial):
                self.initial = balance
        elif day != self.day:
            self.begin_day(day)
        self.balance = balance
        if opened and day != self._traded_on:
            self.days, self._traded_on = self.days + 1, day

    def begin_day(self, day: float) -> None:
        """Begin another day before its first sample."""
        gained = self.balance - self.begin
        if gained > self.best:
            self.best = gained
        self.begin, self.day = self.balance, day

    @property
    def profit(self) -> float:
        """Return the profit of all days."""
        return self.balance - self.initial

    @property
    def earned(self) -> bool:
        """Return whether there is a profit, and not only what arithmetic rounds."""
        return self.profit > self._rounding

    @property
    def _rounding(self) -> float:
        return RATIO_EPS * abs(self.initial)

    def near(self, share: float) -> bool:
        """Return whether rounding might change `earned`, or put the best day on another side."""
        if abs(self.profit - self._rounding) < 0.5 * self._rounding:
            return True
        return self.earned and abs(self.best_day - share * self.profit) < 2.0 * self._rounding

    @property
    def today(self) -> float:
        """Return the profit of the present day."""
        return self.balance - self.begin

    @property
    def best_day(self) -> float:
        """Return the highest profit of a day, the present one included."""
        return max(self.best, self.today)

    @property
    def share(self) -> float:
        """Return the best day as a share of all profit, NaN without a profit."""
        return self.best_day / self.profit if self.profit > 0.0 else math.nan

    def restart(self) -> None:
        """Measure profit from the present balance on; the days that were traded stay."""
        self.initial = self.begin = self.balance
        self.best = 0.0

    def persist(self) -> dict[str, Any]:
        """Return everything that must survive the process, as plain values."""
        return {name: getattr(self, name) for name in _SAVED} | {"traded_on": self._traded_on}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from the values that `persist` returned."""
        for name in _SAVED:
            setattr(self, name, saved[name])
        self._traded_on = saved["traded_on"]


def target_level(amount: float, initial: float) -> float:
    """Return the balance at which a profit is reached; exactly the profit counts.

    Examples
    --------
    >>> round(target_level(0.1, 50_000.0), 6), round(target_level(3_000.0, 50_000.0), 6)
    (55000.0, 53000.0)
    """
    goal = initial + in_currency(amount, initial)
    return goal - RATIO_EPS * abs(goal)


def is_consistent(share: float, limit: float) -> bool:
    """Return whether the best day is at most this share of the profit; exactly the limit is.

    Examples
    --------
    >>> is_consistent(0.5, 0.5), is_consistent(0.6, 0.5)
    (True, False)
    """
    return share <= limit + RATIO_EPS
