"""AccountMonitor: the base of rules on the balance and the equity of an account."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.monitors.base import Monitor, Quiet, Sample
from bt_risk.monitors.halt import Halt
from bt_risk.monitors.net_account import NetAccount
from bt_risk.orders import REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.rules.drawdown import ARMED, TRIPPED
from bt_risk.rules.trading_day import TradingDay, check_reset
from bt_risk.tolerances import LIMIT_EPS

__all__ = ["AccountMonitor"]


class AccountMonitor(Monitor):
    """Sample the account of one gate in every round, and carry out a halt.

    A subclass defines `_judge`, which begins a halt and sets `status`, and `_after_flat`.

    Attributes
    ----------
    status : str
        ARMED while it halts nothing, TRIPPED while positions are being closed.
    account : NetAccount
    halt : Halt
    """

    def __init__(self, gate: Any, reset: str, flatten: bool) -> None:
        self.gate = gate
        self.account = NetAccount(gate)
        self.halt = Halt(gate, self, REDUCING, flatten, self._journal)
        self._days: TradingDay | None = check_reset(self.name, "reset", reset)
        self._until = -math.inf
        self._day = math.nan
        self._measured = self._limit = math.nan

    status, sleeps = ARMED, True
    _needs_balance = _needs_day = True

    def on_fill(self, part: OwnerPosition) -> None:
        """Close what fills after everything was flat; the account shows all other fills."""
        if self.status != ARMED and self.halt.reopens(part):
            self._reopen()

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Judge the account, act on a trip, and continue a halt until everything is flat."""
        if self.gate.ending and self.halt.finished:
            self.gate.stop_engine(between_bars=True)
            return
        if self.account.sample(self._needs_balance):
            if self._needs_day and fresh:
                self._find_day(max([instrument.time for instrument in fresh]))
            if self._day == self._day:  # before the first bar there is none
                self._judge(fresh, self._day)
        if self.halt.closing and self.halt.advance():
            self._after_flat()

    def _find_day(self, time: float) -> None:
        """Find the trading day of a bar: its key is when it began. It does not run backwards."""
        if time >= self._until:
            if self._days is None:
                self._days = self.gate.book.instruments[0].day
            self._day, self._until = self._days.span(time)

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return on which of the next bars nothing happens: none while a halt lasts."""
        account = self.account
        known = account.equity == account.equity and self._day == self._day
        if self.status != ARMED or self.halt.closing or not known:
            return None
        if not account.counts_no_flow(sample.shares):
            return None
        until = self._until if self._needs_day else math.inf
        return self._quiet(LIMIT_EPS * abs(sample.value), until)

    def _quiet(self, rounding: float, until: float) -> Quiet | None:
        """Return the same for an account that is known and armed, on the bars of its present day.

        That ends at `until`. A limit that is kept away from by `rounding` is not touched by what
        arithmetic rounds.
        """
        return None

    def skip(self, sample: Sample, bars: int) -> None:
        """Take the last of the bars as a sample that changed nothing."""
        profit = sample.profit if self._needs_balance else None
        self.account.skip(sample.value, sample.unit, profit)
        self._skip()

    def go_on(self, sample: Sample, bars: int, time: float) -> Quiet | None:
        """Begin the day of a bar, where that changes nothing but limits."""
        if bars:
            self.skip(sample, bars)
        self._find_day(time)
        if not self._begin_day(self._day, time):
            return None
        return self._quiet(LIMIT_EPS * abs(sample.value), self._until)

    def pass_day(self, sample: Sample, time: float) -> float:
        """Take the last close of a day, and begin the one of a bar; return when that ends."""
        self.skip(sample, 1)
        self._find_day(time)
        self._begin_day(self._day, time)
        return self._until

    def _begin_day(self, day: float, time: float) -> bool:
        """Begin a trading day with a bar; return whether nothing but limits has changed."""
        return False

    def _skip(self) -> None:
        """Note what the account was worth on a bar that changed nothing."""

    def _judge(self, fresh: list[Instrument], day: float) -> None:
        """Act on a sample of the account on a trading day."""
        raise TypeError(f"{type(self).__name__} judges nothing")

    def _reopen(self) -> None:
        """Wait again until everything is flat."""
        self.status = TRIPPED

    def _after_flat(self) -> None:
        """Go on once nothing is left to be closed."""
        raise TypeError(f"{type(self).__name__} halts nothing")

    def _journal(self, action: str, reason: str) -> None:
        self.gate.journal.account(
            self.name, action, reason, measured=self._measured, limit=self._limit
        )
