"""GuardMonitor: follow the day for the guards, cancel entries that they refuse, close positions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from bt_risk.limits.base import Request
from bt_risk.limits.clock_guards import OrderRateLimit
from bt_risk.limits.day_guards import DayGuard
from bt_risk.limits.hours_guards import HoursGuard
from bt_risk.limits.order_guards import DuplicateOrder, RepeatedOrders
from bt_risk.limits.trade_guards import Guard
from bt_risk.monitors.base import LaterDays, Monitor, Quiet, Sample
from bt_risk.portfolio.day_tracker import QuietDays
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.worst_equity import worst_change
from bt_risk.rules.day_result import DayResult
from bt_risk.tolerances import LIMIT_EPS, SIZE_EPS

__all__ = ["GuardMonitor"]


class GuardMonitor(Monitor):
    """Work for the guards of one gate; it is added with the first of them."""

    name, state_kind = "guards", "day"
    sleeps = True

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self._guards: list[Guard] = []
        self._noting: list[DayGuard] = []
        self._leaving: list[HoursGuard] = []
        self._left: dict[tuple[str, int, object], OwnerPosition] = {}
        self._between_bars = self._follows_days = False

    def add(self, guard: Guard) -> None:
        """Work for this guard from now on."""
        book = self.gate.book
        if isinstance(guard, DayGuard):
            book.days.follow(guard)
            self._follows_days = True
            if guard.notes:
                self._noting.append(guard)
            self._between_bars |= guard.intrabar and not self.gate.venue.direct
        if isinstance(guard, (OrderRateLimit, DuplicateOrder, RepeatedOrders)):
            book.count_orders()
        if isinstance(guard, HoursGuard) and guard.flat_before is not None:
            self._leaving.append(guard)
        self._guards.append(guard)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Add the close to the day; cancel entries and close positions that a guard forbids."""
        gate, book = self.gate, self.gate.book
        if self._follows_days and (fresh or self._between_bars):
            self._mark(fresh)
        if book.working and not gate.observe:
            cancels = False
            for working in list(book.working.values()):
                if not working.own and working.opening > SIZE_EPS:
                    cancels |= self._judge(working)
            if cancels:
                gate.process_notifications()  # what is cancelled makes room at once
        for guard in self._noting:
            self._end_day(guard)
        for one in self._leaving:
            self._leave(one)

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return on which of the next bars no day ends and nothing is to be cancelled or closed."""
        sample.begin_extremes()
        book = self.gate.book
        entries = any(not w.own and w.opening > SIZE_EPS for w in book.working.values())
        if self._left or (entries and not self.gate.observe):
            return None
        until = min(
            [
                guard.leaves_at(part.instrument, book.latest)
                for guard in self._leaving
                for part in book.parts.values()
                if part.size
            ],
            default=math.inf,
        )
        if not self._follows_days:
            return Quiet(until=until, ends_with_orders=True)
        return self._quiet_days(sample, book.days.quiet(book), until)

    def go_on(self, sample: Sample, bars: int, time: float) -> Quiet | None:
        """Begin the day of a bar, where no guard has to look at a position on it."""
        days = self.gate.book.days
        if self._leaving or not self._follows_days or not days.ended(time):
            return super().go_on(sample, bars, time)
        now = sample.value / sample.shares, sample.value, sample.profit
        found = days.go_on(bars, now, time)
        sample.begin_extremes()
        return self._quiet_days(sample, found, math.inf)

    def later_days(self, sample: Sample) -> LaterDays | None:
        """Return on which bars of later days none of them ends."""
        if self._leaving or not self._follows_days:
            return None
        days = self.gate.book.days.later(self.gate.book, sample.value, sample.profit)
        if days is None:
            return None
        low, high, fall, rise, longest = days
        return LaterDays(low, high, fall=fall, rise=rise, longest=longest)

    def day_begin(self, time: float) -> float | None:
        """Return when the day of a time began: of days that are over only their closes count."""
        return self.gate.book.days.begin_of(time)

    def _quiet_days(self, sample: Sample, days: QuietDays | None, until: float) -> Quiet | None:
        """Return what `quiet` does of the days."""
        if days is None:
            return None
        book, rounding = self.gate.book, LIMIT_EPS * abs(sample.value)
        return Quiet(
            low=days.low * sample.shares + rounding,
            high=days.high * sample.shares - rounding,
            until=until if until < days.until else days.until,
            watched=days.watched,
            ends_with_orders=True,
            profit=book.days.with_profit,
            worst=bool(book.days.worst_keys),
            extremes=True,
        )

    def skip(self, sample: Sample, bars: int) -> None:
        """Add the closes of these bars to the day."""
        if self._follows_days:
            extremes = sample.lowest, sample.highest, sample.worst
            low, high, worst = (value / sample.shares for value in extremes)
            now = sample.unit, sample.value, sample.profit
            self.gate.book.days.skip(bars, now, low, high, worst)

    def _mark(self, fresh: list[Instrument]) -> None:
        gate, book = self.gate, self.gate.book
        doubted = book.suspects and book.doubt(bars=1)
        value = math.nan if doubted else gate.unit_value()
        venue, days = gate.venue, book.days
        changes = None
        if days.worst_keys:
            resting = not venue.direct
            changes = {key: worst_change(book, fresh, resting, key) for key in days.worst_keys}
        days.mark(book, value, gate.equity(), changes, venue.min_confirmations, bool(fresh))

    def _judge(self, working: WorkingOrder) -> bool:
        """Ask the guards about an entry that was allowed when it was placed.

        Return whether it was to be cancelled.
        """
        size, distance = working.opening, working.distance
        request = Request(
            working.instrument, working.side, size, working.price, distance, again=True
        )
        for guard in self._guards:
            decision, closing = guard.review(request, self.gate.book), working.closing
            if decision.size <= SIZE_EPS:
                if self.gate.exit_orders.cancel_entry(working, decision.rule):
                    self.gate.journal.order(
                        working.handle, decision.rule, "trim", decision.reason, closing
                    )
                return True
        return False

    # -- a day that is over ----------------------------------------------------------------------

    def _end_day(self, guard: DayGuard) -> None:
        """Write that a day is over, once, and close what is held on it if the guard flattens."""
        if not self.gate.book.days.any_over:
            return
        for day in self.gate.book.days.days(guard):
            if not day.over:
                continue
            decision = guard.refusal(day)
            if not day.noted:
                day.noted = True
                self._journal(guard, "over", day, decision.reason)
            if guard.flatten and day.confirmed and not self.gate.observe:
                self._close(guard, day, decision.reason)

    def _close(self, guard: DayGuard, day: DayResult, reason: str) -> None:
        """Close what is held on a day that is over, as often as it takes."""
        held = self._held(guard, day)
        for part in held:
            self.gate.exit_orders.close(part, guard.name, reason)
        if held:
            day.exits = "closing"
        elif day.exits == "closing":
            day.exits = "flat"
            self._journal(guard, "flat", day, f"flat: {reason}")

    def _held(self, guard: DayGuard, day: DayResult) -> list[OwnerPosition]:
        """Return the positions on which a guard lets nothing open because of this day."""
        book = self.gate.book
        return [
            part
            for part in book.parts.values()
            if part.size and book.days.of(guard, part.instrument, part.side) is day
        ]

    def _journal(self, guard: DayGuard, action: str, day: DayResult, reason: str) -> None:
        decision = guard.refusal(day)
        numbers = {"measured": decision.measured, "limit": decision.limit}
        self.gate.journal.account(guard.name, action, reason, **numbers)

    # -- trading hours ---------------------------------------------------------------------------

    def _leave(self, guard: HoursGuard) -> None:
        """Close what must not be held any more, as often as it takes."""
        gate, now = self.gate, self.gate.book.latest
        for key in [key for key, part in self._left.items() if not part.size]:
            part = self._left.pop(key)
            gate.journal.instrument(part.instrument, key[0], "flat", f"{key[0]}: flat")
        for part in list(gate.book.parts.values()):
            instrument = part.instrument
            why = guard.leaves(instrument, now) if part.size else ""
            if not why:
                continue
            coarse, reason = guard.coarse(instrument), f"{guard.name}: {why}"
            if coarse and gate.journal.once((guard.name, instrument.index, "coarse")):
                line = f"{guard.name}: {coarse}"
                gate.journal.instrument(instrument, guard.name, "note", line)
            if gate.journal.once((guard.name, instrument.index, part.owner, part.number)):
                gate.journal.instrument(instrument, guard.name, "over", reason)
            if not gate.observe:
                gate.exit_orders.close(part, guard.name, reason)
                self._left[guard.name, instrument.index, part.owner] = part

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Return ``(key, plain values)`` of the days of the guards."""
        return self.gate.book.days.persist(self.gate.book)

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on with the days of an earlier run; positions that it was closing get no stop."""
        book = self.gate.book
        if not book.days:
            return
        book.days.restore(saved, book)
        for guard in self._noting:
            for day in book.days.days(guard) if guard.flatten else ():
                if day.confirmed:
                    for part in self._held(guard, day):
                        self.gate.venue.mark_closing(part)
