"""FloorMonitor: judge an account by its floors, and halt where it touches one."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

from bt_risk.limits.account_floor import AccountFloor
from bt_risk.monitors.account_monitor import AccountMonitor
from bt_risk.monitors.base import LaterDays, Quiet, Sample
from bt_risk.orders import HALTED, REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.worst_equity import best_change, worst_change
from bt_risk.rules.account_floor import BALANCE, DAILY, HALT, INTRADAY, PAUSED, FloorState
from bt_risk.rules.drawdown import ARMED, LOCKED, TRIPPED, taper
from bt_risk.tolerances import LIMIT_EPS

__all__ = ["FloorMonitor"]


class FloorMonitor(AccountMonitor):
    """Follow the account of one gate at every close, and act where it touches a floor.

    Attributes
    ----------
    state : FloorState
    trips : list of dict
        Each trip with its cause, times, floor, and the equity at the trip and once flat;
        ``overshoot`` is by how much that was below the floor.
    levels : list of tuple
        ``(time, floor, amount, daily floor, daily amount)`` in currency of the account, wherever
        one of them changed; an amount is what may be lost above its floor.
    """

    name, state_kind = "AccountFloor", "floor"

    def __init__(self, gate: Any, guard: AccountFloor) -> None:
        self.state = FloorState(guard.rule(gate.venue.min_confirmations))
        super().__init__(gate, guard.reset, guard.flatten)
        self.guard = guard
        self.trips: list[dict[str, Any]] = []
        self.levels: list[tuple[float, ...]] = []
        self._level = math.nan, math.nan, 0.0
        self._intrabar = guard.trigger == "intrabar"
        self._tapers = guard.taper_to_floor is not None
        self._needs_balance, self._needs_day = self.state.needs_balance, self.state.needs_day
        if not self._needs_day:
            self._day = 0.0

    @property
    def status(self) -> str:  # type: ignore[override]  # the state has it
        """Return ARMED, TRIPPED, PAUSED or LOCKED."""
        return self.state.status

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yield ``(key, plain values)`` of the floor."""
        yield (
            "",
            {
                "state": self.state.persist() | {"final": False},
                "account": self.account.persist(),
                "gate": self.halt.state,
                "reason": self.halt.reason,
                "trips": self.trips,
            },
        )

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on in the saved state: a halt lasts until it is re-armed, or the day is over."""
        record = saved.get("")
        if record is None:
            return
        self.state.restore(record["state"])
        self.account.restore(record["account"])
        self.trips = record["trips"]
        self.halt.state = record["gate"]
        status = self.state.status
        self.halt.restore(record["reason"], lasts=status != ARMED, closing=status == TRIPPED)

    # -- hooks of the gate -----------------------------------------------------------------------

    def _judge(self, fresh: list[Instrument], day: float) -> None:
        """Advance the state by a sample of the account."""
        state, account = self.state, self.account
        before = state.status
        equity = worst = best = account.equity
        if self._intrabar and fresh:
            worst += worst_change(self.gate.book, fresh, not self.gate.venue.direct)
            if state.rule.mode == INTRADAY:
                best += best_change(self.gate.book, fresh)
        if state.update(account.balance, equity, day, worst, best):
            self._trip(worst)
        elif before == PAUSED and state.status == ARMED:
            self.halt.end("a new day has begun")
        if self._tapers:
            self.gate.book.set_risk_scale(self, self._scale(equity))
        self._note_levels(self.gate.latest)

    def _quiet(self, rounding: float, until: float) -> Quiet | None:
        """Return on which bars no floor is touched or moves, and risk is not scaled down."""
        scaled = self.gate.book.risk_scales.get(self, 1.0) != 1.0
        limits = None if scaled else self._limits(self.state, rounding)
        if limits is None or (self._intrabar and self.state.rule.mode == INTRADAY):
            return None
        low, high, _ = limits
        return Quiet(
            *limits,
            until,
            ends_with_orders=self._intrabar,
            profit=self._needs_balance,
            worst=self._intrabar,
            trail=high - low - 2.0 * rounding if self._only_trails else math.inf,
        )

    def _limits(self, state: FloorState, rounding: float) -> tuple[float, float, float] | None:
        """Return `low`, `high` and `balance` of what is quiet in a state, with deposits."""
        limits, flows = state.quiet(self.guard.taper_to_floor), self.account.flows
        if limits is None:
            return None
        low, equity, balance = limits
        if flows:  # what is added and taken away again is rounded
            equity, balance = equity + flows - rounding, balance + flows - rounding
        return low + flows + rounding, math.nextafter(equity, math.inf), balance

    @property
    def _only_trails(self) -> bool:
        """Return whether a new high moves the floor by as much at most, and does nothing else."""
        rule, alone = self.state.rule, not (self._needs_day or self.account.flows)
        return rule.mode == INTRADAY and rule.confirmations == 1 and alone

    def rise(self, value: float, time: float) -> None:
        """Raise the floor with a new highest equity."""
        self.state.update(self.account.balance, value, self.state.day)
        self._note_levels(time)

    def later_days(self, sample: Sample) -> LaterDays | None:
        """Return the range of the next day, where no later one can be measured from anything else.

        While it sleeps the balance does not change.
        """
        if self.state.rule.reference != BALANCE:
            return None
        equity, later = sample.value - self.account.flows, copy.copy(self.state)
        later.skip(equity - sample.profit, equity)
        later.begin_day(math.inf)
        limits = self._limits(later, 2.0 * LIMIT_EPS * abs(sample.value))
        return None if limits is None else LaterDays(*limits)

    def _begin_day(self, day: float, time: float) -> bool:
        self.state.begin_day(day)
        self._note_levels(time)
        return True

    def _skip(self) -> None:
        self.state.skip(self.account.balance, self.account.equity)

    def _note_levels(self, time: float) -> None:
        """Note the floors where one of them is another one than before, once for a bar."""
        state, flows = self.state, self.account.flows
        if (state.floor, state.daily, flows) == self._level:
            return
        self._level = state.floor, state.daily, flows
        amount, daily = state.allowances
        if self.levels and self.levels[-1][0] == time:  # its day began with it
            self.levels.pop()
        self.levels.append((time, state.floor + flows, amount, state.daily + flows, daily))

    def _scale(self, equity: float) -> float:
        """Return the share of the risk budget that the room to the nearest floor leaves."""
        used = 1.0 - self.state.room(equity)
        return taper(used, 1.0 - (self.guard.taper_to_floor or 1.0), 1.0)

    def rearm(self) -> None:
        """Watch again, once the account is known: see `FloorState.rearm`."""
        if self.state.status != ARMED and self.account.sample():
            self.state.update(self.account.balance, self.account.equity, self.state.day)
            self.state.rearm()
            self.halt.end("re-armed by hand")

    # -- a halt ----------------------------------------------------------------------------------

    def _trip(self, equity: float) -> None:
        state, guard = self.state, self.guard
        of_day = state.cause == DAILY
        level = state.daily if of_day else state.floor
        for_good = not of_day or guard.on_daily == HALT
        self.halt.state = HALTED if for_good and guard.action == "stop" else REDUCING
        flows = self.account.flows
        self._measured, self._limit = equity + flows, level + flows
        self.trips.append(
            {
                "cause": state.cause,
                "tripped_at": self.gate.latest,
                "flat_at": math.nan,
                "floor": self._limit,
                "equity_at_trip": self._measured,
                "equity_at_flat": math.nan,
                "overshoot": math.nan,
                "flattened": False,
            }
        )
        what = "equity inside the bar" if self._intrabar else "equity"
        word = "the floor of the day" if of_day else "the floor"
        compared = f"{what} {self._measured:,.2f} <= {word} {self._limit:,.2f}"
        self.halt.begin(f"{self.name}: {compared}")

    def _reopen(self) -> None:
        self.state.reopen()

    def _after_flat(self) -> None:
        flat, equity = self.halt.settle(), self.account.equity + self.account.flows
        trip = self.trips[-1]
        trip.update(
            flat_at=self.gate.latest if flat else math.nan,
            equity_at_flat=equity if flat else math.nan,
            overshoot=trip["floor"] - equity if flat else math.nan,
            flattened=flat,
        )
        self.state.after_flat()
        if self.state.status == LOCKED and self.guard.action == "stop" and not self.gate.observe:
            self.halt.finish()
        if flat:
            self._measured = equity
            self._journal("flat", f"flat at an equity of {equity:,.2f}")
        if self.state.status == ARMED:
            self.halt.end("a new day has begun")
