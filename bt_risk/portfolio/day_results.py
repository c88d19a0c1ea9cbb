"""Results of the trading day: of the account, of a data feed, or of one side."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Protocol

from bt_risk.rules.day_result import DayResult, base_level
from bt_risk.rules.trading_day import TradingDay

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["ACCOUNT", "DayResults", "Key", "open_profit"]

# Index of an instrument (None: all of them) and a side (0: both).
Key = tuple[int | None, int]
ACCOUNT: Key = (None, 0)


class DayGuard(Protocol):
    """How a guard measures a day, and what ends it."""

    @property
    def base(self) -> str:
        """``"equity"``, ``"balance"`` or ``"higher"``."""

    @property
    def unit(self) -> str:
        """``"fraction"`` or ``"currency"``."""

    @property
    def intrabar(self) -> bool:
        """Whether a bar is judged at its worst."""

    @property
    def quiet(self) -> tuple[float, float]:
        """The results between these two never end a day."""

    def clock(self, instrument: Instrument) -> TradingDay:
        """Return the trading days that count for orders on an instrument."""

    def key(self, instrument: Instrument, side: int) -> Key:
        """Return whose results count for orders on one side of an instrument."""

    def ends(self, gain: float, best: float) -> bool:
        """Return whether a result ends the day."""


class _Tracker:
    """Follow the days of one clock and one key for one guard."""

    def __init__(self, guard: DayGuard, clock: TradingDay, key: Key) -> None:
        self.guard, self.clock, self.key = guard, clock, key
        self.day = DayResult()
        # What the day is measured from, in the unit of the level, and equity in currency then.
        self.base = self.equity = math.nan
        # Level, equity and open profit at the last close.
        self.last: tuple[float, float, float] | None = None
        # The day that lasts, by its clock, and how it is measured.
        self._begin, self._until = math.inf, -math.inf
        self._intrabar = guard.intrabar
        self._quick = key == ACCOUNT and guard.unit == "fraction" and not guard.intrabar
        self._floor, self._ceiling = guard.quiet

    def passes(self, time: float, now: tuple[float, float, float]) -> bool:
        """Add a close that cannot end the day, if it is one: on most bars nothing more happens."""
        day, base = self.day, self.base
        if not (self._quick and self._begin <= time < self._until and base > 0.0):
            return False
        gain = (now[0] - base) / base
        if not self._floor < gain < self._ceiling or day.over:
            return False
        if gain < day.low:
            day.low = gain
        elif gain > day.best:
            day.best = gain
        day.gain = day.judged = gain
        day.breaches = 0
        day.marks += 1
        self.last = now
        return True

    def mark(
        self,
        time: float,
        now: tuple[float, float, float],
        change: float,
        confirmations: int,
        closed: bool,
    ) -> None:
        """Add a close: level, equity and open profit, and what the bar was worse by inside."""
        level, equity, _ = now
        if not self._begin <= time < self._until:
            begin = self._begin = self.clock.begin(time)
            self._until = self.clock.end(time)
            if self.day.begin != begin:
                self._start(begin, *(self.last or now))
        gain, per_unit = self._gain(level, equity)
        worst = gain + change * per_unit if self._intrabar else None
        self.day.add(self.guard.ends, gain, worst, confirmations, closed)
        if closed:
            self.last = now

    def _start(self, begin: float, level: float, equity: float, profit: float) -> None:
        self.base, self.equity = level, equity
        apart = 0.0
        if self.guard.base != "equity":
            reference = base_level(self.guard.base, equity, profit)
            apart = equity - reference
            if self.guard.unit == "fraction":
                self.base = level * reference / equity if equity > 0.0 else math.nan
                apart = apart / reference if reference > 0.0 else 0.0
        self.day.start(begin, apart)

    def _gain(self, level: float, equity: float) -> tuple[float, float]:
        """Return the result of the day, and what one unit of currency is in its unit."""
        fraction = self.guard.unit == "fraction"
        if self.key != ACCOUNT:
            unit = self.equity if fraction else 1.0
            return _ratio(level - self.base, unit), _ratio(1.0, unit)
        if fraction:
            share = _ratio(level, equity) if equity > 0.0 else 0.0
            return _ratio(level - self.base, self.base), _ratio(share, self.base)
        # Deposits are no gain: what the shares of now have gained since the last close counts.
        before = self.base if self.last is None else self.last[0]
        shares = equity / level if level > 0.0 else 0.0
        return self.day.gain + shares * (level - before), 1.0

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> dict[str, Any]:
        last = list(self.last or ())
        return asdict(self.day) | {"base": self.base, "equity": self.equity, "last": last}

    def restore(self, saved: Mapping[str, Any]) -> None:
        for one in fields(self.day):
            setattr(self.day, one.name, saved[one.name])
        self.base, self.equity = saved["base"], saved["equity"]
        if saved["last"]:
            level, equity, profit = saved["last"]
            self.last = level, equity, profit


def _ratio(value: float, base: float) -> float:
    """Return a fraction of a base; a loss of all where there is no positive base."""
    return value / base if base > 0.0 else -math.inf


class DayResults:
    """Follow the result of the trading day for guards, by clock and by key.

    Data feeds may have days of their own: a guard whose day is the session of the data feed has a
    result for each different one.

    Attributes
    ----------
    worst_keys : set of Key
        Those of the guards that judge bars at their worst.
    any_over : bool
        Whether any day was over at the last close.
    """

    def __init__(self) -> None:
        self._guards: list[DayGuard] = []
        self._trackers: dict[tuple[Any, ...], _Tracker] = {}
        self._saved: dict[str, Mapping[str, Any]] = {}
        self._realised: defaultdict[tuple[int, int], float] = defaultdict(float)
        self._seen = self._begun = 0
        self._by_key = self._with_profit = False
        self.worst_keys: set[Key] = set()
        self.any_over = False

    def __bool__(self) -> bool:
        return bool(self._guards)

    def follow(self, guard: DayGuard) -> None:
        """Follow the days of a guard from now on."""
        if guard not in self._guards:
            self._guards.append(guard)

    def of(self, guard: DayGuard, instrument: Instrument, side: int) -> DayResult | None:
        """Return the result that counts for an order, None before the first close."""
        place = guard, guard.clock(instrument).name, guard.key(instrument, side)
        tracker = self._trackers.get(place)
        return None if tracker is None else tracker.day

    def days(self, guard: DayGuard) -> list[DayResult]:
        """Return all results of a guard."""
        return [one.day for one in self._trackers.values() if one.guard == guard]

    def base_equity(self, guard: DayGuard) -> float:
        """Return equity in currency at the begin of the first of a guard's days."""
        found = (one.equity for one in self._trackers.values() if one.guard == guard)
        return next(found, math.nan)

    def mark(
        self,
        book: Book,
        unit_value: float,
        equity: float,
        changes: Mapping[Key, float] | None = None,
        confirmations: int = 1,
        closed: bool = True,
    ) -> None:
        """Add a close; it is left out where the value of the account is not a finite number.

        `changes` are what each key was worth less inside the bars, in currency.
        """
        if self._begun < len(self._guards):
            self._begin(book)
        if not (math.isfinite(unit_value) and math.isfinite(equity)):
            return
        results = self._results(book) if self._by_key else {}
        profit = open_profit(book) if self._with_profit else 0.0
        account, time = (unit_value, equity, profit), book.latest
        self.any_over, quiet = False, closed and confirmations == 1
        for tracker in self._trackers.values():
            if quiet and tracker.passes(time, account):
                continue
            key = tracker.key
            now = account if key == ACCOUNT else (_total(results, *key), equity, 0.0)
            change = changes.get(key, 0.0) if changes else 0.0
            tracker.mark(time, now, change, confirmations, closed)
            self.any_over |= tracker.day.over

    def _begin(self, book: Book) -> None:
        """Make the trackers of new guards: by now every data feed knows its time zone."""
        for guard in self._guards[self._begun :]:
            for instrument in book.instruments:
                for side in (1, -1):
                    clock, key = guard.clock(instrument), guard.key(instrument, side)
                    place = guard, clock.name, key
                    if place not in self._trackers:
                        tracker = self._trackers[place] = _Tracker(guard, clock, key)
                        saved = self._saved.get(self._name(tracker, book))
                        if saved is not None:
                            tracker.restore(saved)
        for tracker in self._trackers.values():
            self._by_key |= tracker.key != ACCOUNT
            if tracker.guard.intrabar:
                self.worst_keys.add(tracker.key)
            self._with_profit |= tracker.guard.base != "equity"
        self._begun = len(self._guards)

    def _results(self, book: Book) -> Mapping[tuple[int, int], float]:
        """Return net profit in currency by ``(index, side)``, of closed and of open trades."""
        for trade in book.trades[self._seen :]:
            self._realised[trade.index, trade.side] += trade.pnl
        self._seen = len(book.trades)
        results = self._realised.copy()
        for part in book.parts.values():
            if part.size:
                one = part.instrument
                gain = part.size * (one.price - part.price) * one.multiplier
                results[one.lead.index, part.side] += part.pnl + gain
        return results

    # -- a restart -------------------------------------------------------------------------------

    def persist(self, book: Book) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yield ``(key, plain values)`` of every result."""
        for tracker in self._trackers.values():
            yield self._name(tracker, book), tracker.persist()

    def restore(self, saved: Mapping[str, Mapping[str, Any]], book: Book) -> None:
        """Go on from the results of an earlier run."""
        self._saved = dict(saved)
        self._begin(book)
        self.any_over = any(one.day.over for one in self._trackers.values())

    def _name(self, tracker: _Tracker, book: Book) -> str:
        index, side = tracker.key
        place = self._guards.index(tracker.guard)
        data = "" if index is None else book.instruments[index].name
        return f"{place}/{tracker.clock.name}/{data}/{side}"


def open_profit(book: Book) -> float:
    """Return what open positions have gained since their entries, in currency, at the closes.

    Equity less this is the balance: cash and what closed trades have brought, net of commission.
    """
    total = 0.0
    for part in book.parts.values():
        one = part.instrument
        if part.size and one.price == one.price:
            total += part.size * (one.price - part.price) * one.multiplier
    return total


def _total(results: Mapping[tuple[int, int], float], index: int | None, side: int) -> float:
    return sum(
        [
            result
            for (one, its_side), result in results.items()
            if index in (None, one) and side in (0, its_side)
        ]
    )
