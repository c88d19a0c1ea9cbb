"""Monitors of a profit target, of the days that were traded, and of the best of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

from bt_risk.limits.challenge import (
    PAUSE,
    REPORT,
    STOP,
    Consistency,
    MinimumTradingDays,
    ProfitTarget,
)
from bt_risk.monitors.account_monitor import AccountMonitor
from bt_risk.monitors.base import LaterDays, Quiet, Sample
from bt_risk.orders import HALTED, REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.rules.account_floor import PAUSED, in_currency
from bt_risk.rules.challenge import DayProfits, is_consistent, target_level
from bt_risk.rules.drawdown import ARMED, LOCKED, TRIPPED
from bt_risk.tolerances import LIMIT_EPS, RATIO_EPS

__all__ = ["ConsistencyMonitor", "ProfitTargetMonitor", "TradingDaysMonitor"]

_ANY_DAY = "00:00 UTC"


class _ProfitMonitor(AccountMonitor):
    """Follow the profit of an account by day; the base class of the others."""

    def __init__(self, gate: Any, reset: str, flatten: bool, initial: float | None) -> None:
        super().__init__(gate, reset, flatten)
        self.status = ARMED
        self.profits = DayProfits(initial)

    def _skip(self) -> None:
        self.profits.update(self.account.balance, self.profits.day)

    def _begin_day(self, day: float, time: float) -> bool:
        if day != self.profits.day:
            self.profits.begin_day(day)
        return True

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yield ``(key, plain values)`` of the rule."""
        yield "", self._record()

    def _record(self) -> dict[str, Any]:
        return {
            "state": {"status": self.status, "final": False},
            "gate": self.halt.state,
            "reason": self.halt.reason,
            "account": self.account.persist(),
            "profits": self.profits.persist(),
        }

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on in the saved state."""
        if "" in saved:
            self._restore(saved[""])

    def _restore(self, record: dict[str, Any]) -> None:
        self.account.restore(record["account"])
        self.profits.restore(record["profits"])
        self.halt.state = record["gate"]
        self.status = record["state"]["status"]
        closing = self.status == TRIPPED
        self.halt.restore(record["reason"], lasts=self.status != ARMED, closing=closing)


class ProfitTargetMonitor(_ProfitMonitor):
    """Report that a profit is reached, and act on it."""

    name, state_kind = "ProfitTarget", "target"

    def __init__(self, gate: Any, guard: ProfitTarget) -> None:
        super().__init__(gate, _ANY_DAY, guard.flatten, guard.initial_balance)
        self._needs_day, self._day = False, 0.0
        self.guard = guard
        self.reached, self._values = False, 0
        self._confirmations = max(guard.confirmations, gate.venue.min_confirmations)
        self.halt.state = HALTED if guard.action == STOP else REDUCING

    def _record(self) -> dict[str, Any]:
        return super()._record() | {"reached": self.reached}

    def _restore(self, record: dict[str, Any]) -> None:
        super()._restore(record)
        self.reached = record["reached"]

    @property
    def amount(self) -> float:
        """Return the profit that is asked for, in currency; NaN before the first sample."""
        return in_currency(self.guard.amount or 0.0, self.profits.initial)

    def _judge(self, fresh: list[Instrument], day: float) -> None:
        account, profits = self.account, self.profits
        profits.update(account.balance, day)
        if self.reached:
            return
        value = account.balance if self.guard.of == "balance" else account.equity
        if value < target_level(self.guard.amount or 0.0, profits.initial):
            self._values = 0
            return
        self._values += 1
        if self._values >= self._confirmations:
            goal = profits.initial + self.amount
            self._reach(value + account.flows, goal + account.flows)

    def _quiet(self, rounding: float, until: float) -> Quiet | None:
        """Return on which bars the target is not reached: on all once it has been."""
        if self.reached:
            return Quiet(until=until, profit=True)
        if self._values:
            return None
        level = target_level(self.guard.amount or 0.0, self.profits.initial)
        below = level + self.account.flows - rounding
        if self.guard.of == "balance":
            return Quiet(balance=below, until=until, profit=True)
        return Quiet(high=below, until=until, profit=True)

    def _reach(self, value: float, goal: float) -> None:
        self.reached, self._measured, self._limit = True, value, goal
        reason = f"{self.name}: {self.guard.of} {value:,.2f} >= {goal:,.2f}"
        if self.guard.action == REPORT:
            self._journal("note", reason)
            return
        self.status = TRIPPED
        self.halt.begin(reason)

    def _after_flat(self) -> None:
        flat, self.status = self.halt.settle(), LOCKED
        if flat:
            self._measured = self.account.equity + self.account.flows
            self._journal("flat", f"flat at an equity of {self._measured:,.2f}")
        if self.guard.action == STOP and not self.gate.observe:
            self.halt.finish()

    def rearm(self) -> None:
        """Measure the profit from the balance of now on, and allow entries."""
        if self.status == ARMED or not self.account.sample():
            return
        self.profits.update(self.account.balance, self.profits.day)
        self.profits.restart()
        self.status, self.reached, self._values = ARMED, False, 0
        self.halt.end("re-armed by hand")


class TradingDaysMonitor(_ProfitMonitor):
    """Count the days on which a position was opened."""

    name, state_kind = "MinimumTradingDays", "trading_days"

    def __init__(self, gate: Any, guard: MinimumTradingDays) -> None:
        super().__init__(gate, guard.reset, False, None)
        self.guard = guard
        self._opened = False
        self._trades: dict[int, int] = {}

    def _restore(self, record: dict[str, Any]) -> None:
        super()._restore(record)
        self._trades = {id(part): part.number for part in self.gate.book.parts.values()}

    def on_fill(self, part: OwnerPosition) -> None:
        """Note that a position was opened; the bar that it was filled in has the day."""
        if part.number != self._trades.get(id(part), 0):
            self._trades[id(part)] = part.number
            self._opened = True

    def _judge(self, fresh: list[Instrument], day: float) -> None:
        before, profits = self.profits.days, self.profits
        profits.update(self.account.balance, day, self._opened)
        self._opened = False
        if before < self.guard.days <= profits.days:
            self._measured, self._limit = profits.days, self.guard.days
            self._journal("note", f"{self.name}: {profits.days} trading days >= {self.guard.days}")

    def _quiet(self, rounding: float, until: float) -> Quiet | None:
        """Return the bars of a day on which no position is opened."""
        return Quiet(until=until, ends_with_orders=True, profit=True)

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return on which of the next bars nothing happens: a position has its own bar."""
        return None if self._opened else super().quiet(sample)

    def later_days(self, sample: Sample) -> LaterDays | None:
        """Return all of them: on a day without a new position nothing happens."""
        return LaterDays()


class ConsistencyMonitor(_ProfitMonitor):
    """Compare the best day with all profit, and end a day that has brought enough."""

    name, state_kind = "Consistency", "consistency"

    def __init__(self, gate: Any, guard: Consistency) -> None:
        super().__init__(gate, guard.reset, guard.flatten, guard.initial_balance)
        self.guard = guard
        self.consistent: bool | None = None
        self._paused_on = self._released_on = math.nan

    def _record(self) -> dict[str, Any]:
        return super()._record() | {"consistent": self.consistent, "paused_on": self._paused_on}

    def _restore(self, record: dict[str, Any]) -> None:
        super()._restore(record)
        self.consistent, self._paused_on = record["consistent"], record["paused_on"]

    def _judge(self, fresh: list[Instrument], day: float) -> None:
        profits = self.profits
        if day != profits.day and profits.earned:
            self._end_day()
        profits.update(self.account.balance, day)
        if self.status == PAUSED and day != self._paused_on:
            self.status = ARMED
            self.halt.end("a new day has begun")
        if self.guard.action == PAUSE and self.status == ARMED and day != self._released_on:
            self._watch(day)

    def _begin_day(self, day: float, time: float) -> bool:
        profits = self.profits
        ends = day != profits.day and profits.earned
        if ends and is_consistent(profits.share, self.guard.best_day_limit) is not self.consistent:
            return False  # `_judge` writes so
        return super()._begin_day(day, time)

    def _end_day(self) -> None:
        """Write whether the best day is a share that is allowed, where the answer is new."""
        profits, limit = self.profits, self.guard.best_day_limit
        consistent = is_consistent(profits.share, limit)
        if consistent is self.consistent:
            return
        self.consistent = consistent
        self._measured, self._limit = profits.share, limit
        sign = "<=" if consistent else ">"
        share = f"{profits.share:.4f} of the profit {sign} best_day_limit {limit:.4f}"
        self._journal("note", f"{self.name}: the best day is {share}")

    def _watch(self, day: float) -> None:
        """End a day that has brought its share of the target."""
        profits = self.profits
        target = max(in_currency(self.guard.target or 0.0, profits.initial), profits.profit)
        most = self.guard.best_day_limit * target
        if profits.today < most - RATIO_EPS * most:
            return
        self._measured, self._limit, self._paused_on = profits.today, most, day
        self.status = TRIPPED
        what = f"{profits.today:,.2f} earned in a day >= {most:,.2f}"
        self.halt.begin(f"{self.name}: {what}, which is best_day_limit of the target")

    def _quiet(self, rounding: float, until: float) -> Quiet | None:
        """Return on which bars of a day it does not bring its share of the target."""
        guard, profits = self.guard, self.profits
        if guard.action != PAUSE or profits.day == self._released_on:
            return Quiet(until=until, profit=True)
        # The target is higher once all profit is.
        most = guard.best_day_limit * in_currency(guard.target or 0.0, profits.initial)
        below = profits.begin + most - RATIO_EPS * most + self.account.flows - rounding
        return Quiet(balance=below, until=until, profit=True)

    def later_days(self, sample: Sample) -> LaterDays | None:
        """Return on which bars the balance of now gives the same answer, and ends no day."""
        guard, now, flows = self.guard, copy.copy(self.profits), self.account.flows
        now.balance = sample.value - flows - sample.profit
        answer = is_consistent(now.share, guard.best_day_limit) if now.earned else self.consistent
        if answer is not self.consistent or now.near(guard.best_day_limit):
            return None
        if guard.action != PAUSE:
            return LaterDays()
        most = guard.best_day_limit * in_currency(guard.target or 0.0, now.initial)
        rounding = RATIO_EPS * most + 2.0 * LIMIT_EPS * abs(sample.value)
        return LaterDays(balance=now.balance + most + flows - rounding)

    def _after_flat(self) -> None:
        self.halt.settle()
        self.status = PAUSED

    def rearm(self) -> None:
        """Allow entries again on the present day."""
        if self.status != ARMED:
            self.status, self._released_on = ARMED, self.profits.day
            self.halt.end("re-armed by hand")
