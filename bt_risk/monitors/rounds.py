"""Rounds: call monitors on the bars of a backtest, but those to which a bar makes no difference."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable
from typing import Any

from bt_risk.monitors.base import Monitor, Quiet, Sample
from bt_risk.monitors.coming_bars import ComingBars
from bt_risk.monitors.quiet_days import catch_up, later_days
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.price_watch import PriceWatch

__all__ = ["Rounds"]

_INF = math.inf
# Bars after which monitors that are all awake are asked again whether they may sleep.
_ASK_AFTER = 8
# Quiet bars after which it may be worth the time to find how many more will be. Where fewer than
# `_PAYS` are, the next look comes after twice as many, at most `_LATEST`.
_LOOK_AFTER, _PAYS, _LATEST = 8, 64, 512
_NONE = array("d")


class Rounds:
    """Call the monitors of one gate on every bar, as calling each of them would.

    Most rules do something only where the account leaves a range, where a day ends, or after a
    fill. Each says so (`Monitor.quiet`), and is left alone until then; one comparison of the
    account answers for all of them. A monitor that wakes up first catches up (`Monitor.skip`).

    That needs an account which nothing but the bars of a simulation moves: a live run, and one
    with a state file, which shows every value of every bar, call all monitors.

    Attributes
    ----------
    on_bar : callable
        Calls the monitors on the instruments that have a new bar; with them it changes.
    sample : Sample
    """

    on_bar: Callable[[list[Instrument]], None]

    def __init__(self, gate: Any) -> None:
        self.gate, self._book, self._broker = gate, gate.book, gate.inner
        self.sample = Sample()
        # What each sleeping monitor has said, and the round in which it was called last.
        self._asleep: dict[Monitor, tuple[Quiet, int]] = {}
        self._awake: list[Monitor] = []
        self._ask_in = 0
        # What is held, where somebody needs its profit, or its worst inside a bar: size and entry.
        self._held, self._changes = list[tuple[Instrument, float, float]](), -1
        # The bars to come, the round of the first one that was found quiet, what is quiet, and
        # after how many bars, and in which round, it is time to look ahead.
        self._coming: ComingBars | None = None
        self._expected, self._first, self._quiet = _NONE, 0, Quiet()
        self._wait, self._look_at = _LOOK_AFTER, sys.maxsize
        self._combine()

    def _combine(self) -> None:
        """Find which monitors are awake, and the range in which the others sleep on."""
        self._find_range()
        self._compare()
        self._awake = [one for one in self.gate.registry.monitors if one not in self._asleep]
        self._find_held()
        self._look_at = self._book.rounds + self._wait

    def _find_range(self) -> None:
        """Find what is quiet for everybody that sleeps, and the round that is not any more."""
        if len(self._asleep) == 1:  # most often
            ((self._quiet, called),) = self._asleep.values()
            self._highest = self._quiet.high if self._quiet.trail == _INF else _INF
            self._due = called + self._quiet.bars
            return
        low, high, balance, until, due = -_INF, _INF, _INF, _INF, _INF
        highest = trail = _INF
        watched = list[PriceWatch]()
        profit = worst = extremes = False
        for quiet, called in self._asleep.values():
            low = quiet.low if quiet.low > low else low
            high = quiet.high if quiet.high < high else high
            balance = quiet.balance if quiet.balance < balance else balance
            until = quiet.until if quiet.until < until else until
            due = called + quiet.bars if called + quiet.bars < due else due
            watched += quiet.watched
            profit |= quiet.profit
            worst |= quiet.worst
            extremes |= quiet.extremes
            trail = quiet.trail if quiet.trail < trail else trail
            if quiet.trail == _INF and quiet.high < highest:
                highest = quiet.high
        low = low if self._asleep else _INF  # nobody sleeps: every bar calls all
        of_all = low, high, balance, until, _INF, tuple(watched), True, profit, worst, extremes
        self._quiet, self._due, self._highest = Quiet(*of_all, trail), due, highest

    def _compare(self) -> None:
        """Compare the account with the range on every bar from now on."""
        self._low, self._high, self._balance, self._until, _, watched, *_ = quiet = self._quiet
        self._watched, self._extremes = watched, quiet.extremes
        self._profit, self._worst = quiet.profit, quiet.worst
        unbound = self._balance == self._due == _INF
        simple = unbound and not (self._profit or self._worst or watched)
        self.on_bar = self._compare_value if simple else self._look_closer

    def _find_held(self) -> None:
        self._held = []
        if self._profit or self._worst:
            parts = self._book.parts.values()
            self._held = [(p.instrument, p.size, p.price) for p in parts if p.size]

    def _compare_value(self, fresh: list[Instrument]) -> None:
        """Do what `on_bar` does where the value of the account tells who sleeps on."""
        book, broker, sample = self._book, self._broker, self.sample
        value = broker._value
        if not (
            self._low < value < self._high
            and book.changes == self._changes
            and broker._fundshares == sample.shares
            and fresh
        ):
            self._look_closer(fresh)
            return
        until = self._until
        for instrument in fresh:
            line = instrument.datetime
            if line.array[line._idx] >= until:
                self._begin_day(fresh)
                return
        sample.value = value
        if self._extremes:  # as `Sample.extend` does, without a call
            if value < sample.lowest:
                sample.lowest = value
            if value > sample.highest:
                sample.highest = value
        for monitor in self._awake:
            monitor.on_bar(fresh)
        if book.rounds >= self._look_at:
            self._foresee(book.rounds)

    def _look_closer(self, fresh: list[Instrument]) -> None:
        """Do what `on_bar` does where the value of the account alone does not tell."""
        book, broker, sample = self._book, self._broker, self.sample
        value = worst = broker._value
        profit = 0.0
        if book.changes != self._changes:
            self._find_held()
        for one, size, entry in self._held:
            price, multiplier = one.price, one.multiplier
            profit += size * (price - entry) * multiplier
            if self._worst and one.round == book.rounds:
                extreme = one.bottom if size > 0.0 else one.top
                change = size * (extreme - price) * multiplier
                if change < 0.0:
                    worst += change
        if not (
            self._low < worst
            and value < self._high
            and value - profit <= self._balance
            and book.changes == self._changes
            and book.rounds < self._due
            and broker._fundshares == sample.shares
            and fresh
        ):
            self._wake(fresh, value, profit, worst)
            return
        until = self._until
        for instrument in fresh:
            line = instrument.datetime
            if line.array[line._idx] >= until:
                self._begin_day(fresh)
                return
        for watch in self._watched:
            if not watch.low < watch.instrument.price < watch.high:
                self._wake(fresh, value, profit, worst)
                return
        for watch in self._watched:  # as `PriceWatch.note` does, without a call
            watch.last = price = watch.instrument.price
            if price < watch.lowest:
                watch.lowest = price
            if price > watch.highest:
                watch.highest = price
        sample.value, sample.profit = value, profit
        if self._extremes and not (
            sample.worst <= worst and sample.lowest <= value <= sample.highest
        ):
            sample.extend(value, worst)
        for monitor in self._awake:
            monitor.on_bar(fresh)
        if book.rounds >= self._look_at:
            self._foresee(book.rounds)

    # -- bars to come ----------------------------------------------------------------------------

    def _foresee(self, last: int) -> bool:
        """Find how many bars after a round are quiet, to see to nothing but what is unexpected.

        Return whether anything is known of the first of them.
        """
        coming = self._coming
        if coming is None:
            coming = self._coming = ComingBars.of(self._book, self._broker)
            if coming is None:
                self._wait = self._look_at = sys.maxsize
                return False
        first = coming.instrument.length + 1 + last - self._book.rounds
        quiet = self._quiet
        later = later_days(self._asleep, self.sample) if quiet.until < _INF else None
        high, bars = self._highest, self._due - last
        if not coming.foresee(first, self.sample.value, quiet, high, bars, later):
            self._wait = min(2 * self._wait, _LATEST)
            self._look_at = self._book.rounds + self._wait
            return False
        self._expected, self._first = coming.expected, last + 1
        self.on_bar = self._expect
        return True

    def _expect(self, fresh: list[Instrument]) -> None:
        """Do what `on_bar` does on a bar that is quiet if the account is worth what it should."""
        book, broker = self._book, self._broker
        if (
            broker._value == self._expected[book.rounds - self._first]
            and book.changes == self._changes
            and broker._fundshares == self.sample.shares
            and fresh
        ):
            for monitor in self._awake:
                monitor.on_bar(fresh)
            return
        place = book.rounds - self._first
        at_end = place < 0 or math.isnan(self._expected[place])
        self._catch_up(place + (not fresh))
        pays = at_end or place >= _PAYS
        self._wait = _LOOK_AFTER if pays else min(2 * self._wait, _LATEST)
        self._look_at = 0 if at_end else book.rounds + self._wait
        known = broker._value == broker._value  # no monitor begins a day with a NaN
        usual = at_end and known and book.changes == self._changes
        usual = usual and broker._fundshares == self.sample.shares
        if usual and fresh and _time(fresh) >= self._quiet.until:
            self._begin_day(fresh)
            return
        self._compare()
        self.on_bar(fresh)

    def _catch_up(self, count: int) -> None:
        """Take so many bars at once that were as expected, and the days that have begun."""
        count = min(count, len(self._expected) - 1)
        if self._coming is not None and count > 0:
            catch_up(self._coming, self._asleep, self.sample, self._first, count)
            self._find_range()
        self._expected = _NONE

    # -- bars that make a difference -------------------------------------------------------------

    def _begin_day(self, fresh: list[Instrument]) -> None:
        """Let monitors begin the day of a bar with which a quiet time ends, and call all on it."""
        last, time, all_sleep = self._book.rounds - 1, _time(fresh), True
        for monitor, (quiet, called) in list(self._asleep.items()):
            if time >= quiet.until:
                found = monitor.go_on(self.sample, last - called, time)
                if found is not None and time < found.until and found.low < found.high:
                    self._asleep[monitor] = found, last
                else:
                    del self._asleep[monitor]
                    all_sleep, self._ask_in = False, 0
        self._find_range()
        if all_sleep and not self._look_at and self._foresee(last):
            self._expect(fresh)
            return
        self._compare()
        if all_sleep:
            self.on_bar(fresh)
        else:
            self._low = _INF
            self._look_closer(fresh)

    def _wake(self, fresh: list[Instrument], value: float, profit: float, worst: float) -> None:
        """Call the monitors to which this bar makes a difference, and ask them for their range."""
        gate, book, sample = self.gate, self._book, self.sample
        if not self._asleep and self._ask_in:
            self._ask_in -= 1
            for monitor in gate.registry.monitors:
                monitor.on_bar(fresh)
            return
        plain = gate.venue.plain_account() and not book.suspects
        usual = plain and bool(fresh) and self._broker._fundshares == sample.shares
        same, self._changes = book.changes == self._changes, book.changes
        time = _time(fresh) if fresh else math.nan
        for monitor, (quiet, called) in list(self._asleep.items()):
            sleeps_on = usual and (same or not quiet.ends_with_orders) and time < quiet.until
            inside = quiet.low < worst and value < quiet.high and value - profit <= quiet.balance
            inside = inside and all(watch.inside for watch in quiet.watched)
            if not (sleeps_on and inside and book.rounds < called + quiet.bars):
                self._rouse(monitor, book.rounds - bool(fresh))
                continue
            for watch in quiet.watched:
                watch.note()
        sample.value, sample.profit = value, profit
        sample.shares = self._broker._fundshares
        sample.extend(value, worst)
        awake = [one for one in gate.registry.monitors if one not in self._asleep]
        for monitor in awake:
            monitor.on_bar(fresh)
        # An account that is unknown, at a close that is NaN, is in no range; a NaN compares false.
        for monitor in awake if plain and worst == worst else ():
            quiet = monitor.quiet(sample)
            if quiet is not None and quiet.low < quiet.high and quiet.balance + quiet.until > -_INF:
                self._asleep[monitor] = quiet, book.rounds
        self._ask_in = _ASK_AFTER
        self._combine()
        if same and self._quiet.trail < _INF and self._wait == _LOOK_AFTER:
            self._foresee(book.rounds)  # another new high may follow on the next bar

    def _rouse(self, monitor: Monitor, until: int) -> None:
        """Let a monitor catch up with the quiet bars before and in a round."""
        _, called = self._asleep.pop(monitor)
        if until > called:
            monitor.skip(self.sample, until - called)

    def wake_all(self) -> None:
        """Let all monitors catch up; the next bar calls each of them."""
        self._catch_up(self._book.rounds + 1 - self._first)
        for monitor in list(self._asleep):
            self._rouse(monitor, self._book.rounds)
        self._combine()


def _time(fresh: list[Instrument]) -> float:
    """Return the time of the newest of these bars, of which there is one at least."""
    time = -_INF
    for one in fresh:
        line = one.datetime
        if line.array[line._idx] > time:
            time = line.array[line._idx]
    return time
