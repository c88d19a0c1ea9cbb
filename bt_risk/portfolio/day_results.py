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

    def quiet(self, best: float) -> tuple[float, float]:
        """Return two results between which none ends a day whose best one so far is `best`."""

    def refuses(self, day: DayResult) -> bool:
        """Return whether a day lets nothing open any more."""

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
        self._can_skip = key == ACCOUNT and guard.unit == "fraction"

    def quiet(self) -> tuple[float, float, float] | None:
        """Return two unit values between which a close changes no decision, and until when.

        None: every close may. That of one data feed or side is the sum of its trades, and one in
        currency goes on from close to close.
        """
        day, base = self.day, self.base
        if not self._can_skip or not base > 0.0 or self.guard.refuses(day):
            return None
        floor, ceiling = self.guard.quiet(day.best)
        return base * (1.0 + floor), base * (1.0 + ceiling), self._until

    def skip(
        self, closes: int, now: tuple[float, float, float], low: float, high: float, worst: float
    ) -> None:
        """Take so many closes at once that change no decision, up to the one of `now`.

        `low` and `high` are the lowest and highest unit value, and `worst` that inside the bars.
        """
        day, base = self.day, self.base
        gain = day.gain = day.judged = (now[0] - base) / base
        day.low = min(day.low, ((worst if self._intrabar else low) - base) / base, gain)
        day.best = max(day.best, (high - base) / base)
        day.marks += closes
        day.breaches = 0
        self.last = now

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
        self.any_over = False
        for tracker in self._trackers.values():
            key = tracker.key
            now = account if key == ACCOUNT else (_total(results, *key), equity, 0.0)
            change = changes.get(key, 0.0) if changes else 0.0
            tracker.mark(time, now, change, confirmations, closed)
            self.any_over |= tracker.day.over

    @property
    def with_profit(self) -> bool:
        """Return whether a day is measured from the balance."""
        return self._with_profit

    def quiet(self) -> tuple[float, float, float] | None:
        """Return two unit values between which a close changes no decision, and until when.

        It is None where every close may: see `_Tracker.quiet`.
        """
        if self.any_over or self._begun < len(self._guards):
            return None
        low, high, until = -math.inf, math.inf, math.inf
        for tracker in self._trackers.values():
            quiet = tracker.quiet()
            if quiet is None:
                return None
            low, high, until = max(low, quiet[0]), min(high, quiet[1]), min(until, quiet[2])
        return low, high, until

    def skip(
        self, closes: int, now: tuple[float, float, float], low: float, high: float, worst: float
    ) -> None:
        """Take so many closes at once that `quiet` has announced, up to the one of `now`.

        Parameters
        ----------
        closes : int
        now : (float, float, float)
            Unit value, equity and open profit at the last of them.
        low, high : float
            The lowest and the highest unit value of these closes.
        worst : float
            The lowest unit value inside their bars, where a guard judges that.
        """
        account = now if self._with_profit else (*now[:2], 0.0)
        for tracker in self._trackers.values():
            tracker.skip(closes, account, low, high, worst)

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
