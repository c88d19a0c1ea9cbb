"""Results of the trading day: of the account, of a data feed, or of one side."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bt_risk.portfolio.day_tracker import (
    ACCOUNT,
    DayGuard,
    DayTracker,
    Key,
    LaterCloses,
    QuietDays,
    both,
    total,
)
from bt_risk.rules.day_result import DayResult

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.position import OwnerPosition

__all__ = ["ACCOUNT", "DayResults", "Key", "open_profit"]

_ALWAYS = QuietDays()


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
    with_profit : bool
        Whether a day is measured from the balance.
    """

    def __init__(self) -> None:
        self._guards: list[DayGuard] = []
        self._trackers: dict[tuple[Any, ...], DayTracker] = {}
        self._saved: dict[str, Mapping[str, Any]] = {}
        self._realised: defaultdict[tuple[int, int], float] = defaultdict(float)
        self._seen = self._begun = 0
        self._by_key = self.with_profit = False
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
        profit = open_profit(book) if self.with_profit else 0.0
        account, time = (unit_value, equity, profit), book.latest
        self.any_over = False
        for tracker in self._trackers.values():
            key = tracker.key
            now = account if key == ACCOUNT else (total(results, *key), equity, 0.0)
            change = changes.get(key, 0.0) if changes else 0.0
            tracker.mark(time, now, change, confirmations, closed)
            self.any_over |= tracker.day.over

    def quiet(self, book: Book) -> QuietDays | None:
        """Return which closes change no decision; None: every close may.

        The profit of a data feed or a side depends on prices, of which at most one can be watched.
        """
        if self.any_over or self._begun < len(self._guards):
            return None
        if self._by_key and self._seen < len(book.trades):
            return None  # a trade has been closed since the last bar
        held, all_of = self._held(book), _ALWAYS
        for tracker in self._trackers.values():
            quiet = tracker.quiet(held, self._realised)
            if quiet is None:
                return None
            all_of = both(all_of, quiet)
        return all_of

    def go_on(self, closes: int, now: tuple[float, float, float], time: float) -> QuietDays | None:
        """Take so many closes as `skip` does, and begin the day of `time`; return as `quiet` does.

        All days must have ended by then: see `ended`.
        """
        account = now if self.with_profit else (now[0], now[1], 0.0)
        all_of: QuietDays | None = _ALWAYS
        for tracker in self._trackers.values():
            quiet = tracker.go_on(closes, account, time)
            all_of = None if quiet is None or all_of is None else both(all_of, quiet)
        return all_of

    def later(self, book: Book, value: float, profit: float) -> LaterCloses | None:
        """Return which closes of later days change no decision; None: that is not known.

        The account is worth `value` now, and open positions have gained `profit`. All days must
        begin together.
        """
        held, trackers = self._held(book), list(self._trackers.values())
        if len({tracker.clock.name for tracker in trackers}) > 1:
            return None
        found = [tracker.later(value, profit, held) for tracker in trackers]
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        low, high, fall, rise, _ = zip(*known, strict=True)
        longest = trackers[0].clock.longest(book.latest)
        return LaterCloses(max(low), min(high), min(fall), min(rise), longest)

    def begin_of(self, time: float) -> float | None:
        """Return when the day of a time began, None where nobody follows any day."""
        return next((tracker.clock.begin(time) for tracker in self._trackers.values()), None)

    def ended(self, time: float) -> bool:
        """Return whether every day that was begun has ended at a time."""
        going_on = [1 for tracker in self._trackers.values() if time < tracker.until]
        return not going_on

    def _held(self, book: Book) -> list[OwnerPosition]:
        """Return the open positions, where the level of one is asked for."""
        return [part for part in book.parts.values() if part.size] if self._by_key else []

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
        account = now if self.with_profit else (*now[:2], 0.0)
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
                        tracker = self._trackers[place] = DayTracker(guard, clock, key)
                        saved = self._saved.get(self._name(tracker, book))
                        if saved is not None:
                            tracker.restore(saved)
        for tracker in self._trackers.values():
            self._by_key |= tracker.key != ACCOUNT
            if tracker.guard.intrabar:
                self.worst_keys.add(tracker.key)
            self.with_profit |= tracker.guard.base != "equity"
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

    def _name(self, tracker: DayTracker, book: Book) -> str:
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
