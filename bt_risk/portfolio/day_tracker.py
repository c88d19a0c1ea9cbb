"""DayTracker: follow the trading days of one guard for the account, a data feed, or a side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bt_risk.portfolio.price_watch import PriceWatch
from bt_risk.rules.day_result import DayResult, base_level
from bt_risk.rules.trading_day import TradingDay
from bt_risk.tolerances import LIMIT_EPS, RATIO_EPS

# As a share of what the account is worth now: with less, later days are looked at one by one.
_LEAST = 0.9

if TYPE_CHECKING:
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.position import OwnerPosition

__all__ = ["ACCOUNT", "DayGuard", "DayTracker", "Key", "LaterCloses", "QuietDays", "both", "total"]

# Index of an instrument (None: all of them) and a side (0: both).
Key = tuple[int | None, int]
ACCOUNT: Key = (None, 0)


class QuietDays(NamedTuple):
    """Say which closes change no decision: see `bt_risk.monitors.base.Quiet`.

    `low` and `high` are unit values.
    """

    low: float = -math.inf
    high: float = math.inf
    until: float = math.inf
    watched: tuple[PriceWatch, ...] = ()


class LaterCloses(NamedTuple):
    """Say which closes of later days change no decision, in currency.

    They are between `low` and `high`, and none is `fall` below or `rise` above one before it that
    its day may be measured from. No day is longer than `longest`, in days.
    """

    low: float = -math.inf
    high: float = math.inf
    fall: float = math.inf
    rise: float = math.inf
    longest: float = 0.0


def both(one: QuietDays, other: QuietDays) -> QuietDays:
    """Return the closes that change no decision of either."""
    if one.low == -math.inf and one.high == one.until == math.inf and not one.watched:
        return other  # most often there is one
    return QuietDays(
        max(one.low, other.low),
        min(one.high, other.high),
        min(one.until, other.until),
        one.watched + other.watched,
    )


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


class DayTracker:
    """Follow the days of one clock and one key for one guard; the present one ends at `until`."""

    def __init__(self, guard: DayGuard, clock: TradingDay, key: Key) -> None:
        self.guard, self.clock, self.key = guard, clock, key
        self.day = DayResult()
        # What the day is measured from, in the unit of the level, and equity in currency then.
        self.base = self.equity = math.nan
        # Level, equity and open profit at the last close.
        self.last: tuple[float, float, float] | None = None
        # The day that lasts, by its clock, and how it is measured.
        self._begin, self.until = math.inf, -math.inf
        self._intrabar, self._fraction = guard.intrabar, guard.unit == "fraction"
        # Level, result and shares from which a result in currency of the account is counted.
        self._from = math.nan, 0.0, math.nan
        # Computes the level of a data feed or a side from the price of its only position.
        self._open: _OpenLevel | None = None

    def quiet(
        self, held: Sequence[OwnerPosition], realised: Mapping[tuple[int, int], float]
    ) -> QuietDays | None:
        """Return which closes change no decision; None: every close may.

        `held` are the open positions, and `realised` what closed trades have brought.
        """
        self._open = None
        if self.key != ACCOUNT:
            held = [one for one in held if _concerns(self.key, one.instrument.lead.index, one.side)]
            if len(held) > 1 or (held and self._intrabar):
                return None
            if held:
                if held[0].instrument.scheme is None:  # a point is not worth the same everywhere
                    return None
                self._open = _OpenLevel(realised, self.key, held[0])
        return self._quiet()

    def _quiet(self) -> QuietDays | None:
        """Return the same for positions as they were when `quiet` was asked."""
        if self.guard.refuses(self.day):
            return None
        floor, ceiling = self.guard.quiet(self.day.best)
        if self.key != ACCOUNT:
            return self._quiet_price(floor, ceiling)
        if not self._fraction:
            level, gain, shares = self._from
            if not shares > 0.0:
                return None
            low, high = level + (floor - gain) / shares, level + (ceiling - gain) / shares
            return QuietDays(low, high, self.until)
        if not self.base > 0.0:
            return None
        return QuietDays(self.base * (1.0 + floor), self.base * (1.0 + ceiling), self.until)

    def _quiet_price(self, floor: float, ceiling: float) -> QuietDays | None:
        """Return between which prices the only position that counts keeps the day in its range."""
        unit = self.equity if self._fraction else 1.0
        if self.last is None or not unit > 0.0:
            return None
        if self._open is None:
            return QuietDays(until=self.until)
        level, equity, _ = self.last
        rounding = LIMIT_EPS * abs(equity)
        low, high = self.base + unit * floor + rounding, self.base + unit * ceiling - rounding
        self._open.begin(low - level, high - level)
        return QuietDays(until=self.until, watched=(self._open.watch,))

    def later(
        self, value: float, profit: float, held: Sequence[OwnerPosition]
    ) -> LaterCloses | None:
        """Return which closes of later days change no decision; None: that is not known.

        The account is worth `value` now, and open positions, of which `held` are those that may
        count, have gained `profit`.
        """
        guard, of_account, slack = self.guard, self.key == ACCOUNT, 4.0 * LIMIT_EPS * abs(value)
        floor, ceiling = guard.quiet(0.0)
        if not value > 0.0:
            return None
        if of_account and guard.base == "balance":
            # Every day is measured from the same balance, but may begin with a profit.
            unit = value - profit if self._fraction else 1.0
            if not unit > 0.0 or guard.quiet(math.inf) != (floor, ceiling):
                return None
            base = value - profit
            return LaterCloses(base + unit * floor + slack, base + unit * ceiling - slack)
        if of_account and guard.base != "equity":
            return None
        if not of_account and (len(held) > 1 or (held and held[0].instrument.scheme is None)):
            return None
        # No close that a day begins with is lower than this.
        least = _LEAST * value
        unit = least if self._fraction else 1.0
        return LaterCloses(least, math.inf, -floor * unit - slack, ceiling * unit - slack)

    def skip(
        self, closes: int, now: tuple[float, float, float], low: float, high: float, worst: float
    ) -> None:
        """Take so many closes at once that change no decision, up to the one of `now`.

        `low` and `high` are the lowest and highest unit value, and `worst` that inside the bars.
        """
        day, level, equity = self.day, now[0], now[1]
        if self.key != ACCOUNT:
            low = high = level = self._level()
            if self._open is not None:
                low, high = self._open.extremes()
            worst, now = low, (level, equity, 0.0)
        gain = day.gain = day.judged = self._result(level)
        day.low = min(day.low, self._result(worst if self._intrabar else low), gain)
        day.best = max(day.best, self._result(high))
        day.marks += closes
        day.breaches = 0
        self.last = now

    def _result(self, level: float) -> float:
        """Return the result of the day at a level, while nothing is paid in or out."""
        if self.key != ACCOUNT:
            return (level - self.base) / (self.equity if self._fraction else 1.0)
        if self._fraction:
            return (level - self.base) / self.base
        before, gain, shares = self._from
        return gain + shares * (level - before)

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
        if not self._begin <= time < self.until:
            self._find_day(time, now)
        gain, per_unit = self._gain(level, equity)
        worst = gain + change * per_unit if self._intrabar else None
        self.day.add(self.guard.ends, gain, worst, confirmations, closed)
        if closed:
            self.last = now

    def go_on(self, closes: int, now: tuple[float, float, float], time: float) -> QuietDays | None:
        """Take so many closes as `skip` does, and begin the day of `time`; return as `quiet` does.

        What these closes were best and worst is forgotten with their day.
        """
        if closes:
            if self.key != ACCOUNT:
                now = self._level(), now[1], 0.0
            self.day.marks += closes
            self.last = now
        self._find_day(time, now)
        return self._quiet()

    def _level(self) -> float:
        """Return the level of a data feed or a side at the last of several quiet closes."""
        if self._open is not None:
            return self._open.last()
        return self.base if self.last is None else self.last[0]

    def _find_day(self, time: float, now: tuple[float, float, float]) -> None:
        """Begin the day of a time, if it is another one."""
        begin, self.until = self.clock.span(time)
        self._begin = begin
        if self.day.begin != begin:
            self._start(begin, *(self.last or now))

    def _start(self, begin: float, level: float, equity: float, profit: float) -> None:
        self.base, self.equity = level, equity
        apart = 0.0
        if self.guard.base != "equity":
            reference = base_level(self.guard.base, equity, profit)
            apart = equity - reference
            if self._fraction:
                self.base = level * reference / equity if equity > 0.0 else math.nan
                apart = apart / reference if reference > 0.0 else 0.0
        self.day.start(begin, apart)
        self._from = level, apart, equity / level if level > 0.0 else 0.0

    def _gain(self, level: float, equity: float) -> tuple[float, float]:
        """Return the result of the day, and what one unit of currency is in its unit."""
        fraction = self._fraction
        if self.key != ACCOUNT:
            unit = self.equity if fraction else 1.0
            return _ratio(level - self.base, unit), _ratio(1.0, unit)
        if fraction:
            share = _ratio(level, equity) if equity > 0.0 else 0.0
            return _ratio(level - self.base, self.base), _ratio(share, self.base)
        # Deposits are no gain: what they have bought counts from the last close on.
        shares = equity / level if level > 0.0 else 0.0
        if not abs(shares - self._from[2]) <= RATIO_EPS * shares:  # NaN after a restart
            before = self.base if self.last is None else self.last[0]
            self._from = before, self.day.gain, shares
        return self._result(level), 1.0

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> dict[str, Any]:
        """Return plain values of the day, and what it is measured from."""
        last = list(self.last or ())
        return asdict(self.day) | {"base": self.base, "equity": self.equity, "last": last}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from saved values."""
        for one in fields(self.day):
            setattr(self.day, one.name, saved[one.name])
        self.base, self.equity = saved["base"], saved["equity"]
        if saved["last"]:
            level, equity, profit = saved["last"]
            self.last = level, equity, profit


class _OpenLevel:
    """Compute the level of a data feed or a side from the price of its only position.

    The operations are those of `DayResults.mark`, so that the level is equal to the last bit.
    """

    def __init__(
        self, realised: Mapping[tuple[int, int], float], key: Key, part: OwnerPosition
    ) -> None:
        one = part.instrument
        self._place, self.watch = (one.lead.index, part.side), PriceWatch(one)
        self._results = {at: profit for at, profit in realised.items() if _concerns(key, *at)}
        self._results.setdefault(self._place, 0.0)
        self._position = part.size, part.price, one.multiplier, part.pnl

    def begin(self, low: float, high: float) -> None:
        """Watch from the last price on until the level has moved to one of two others."""
        size, _, multiplier, _ = self._position
        watch, points = self.watch, size * multiplier
        price = watch.lowest = watch.highest = watch.last
        ends = price + low / points, price + high / points
        watch.low, watch.high = ends if points > 0.0 else ends[::-1]

    def last(self) -> float:
        """Return the level at the last price that was watched."""
        return self._at(self.watch.last)

    def extremes(self) -> tuple[float, float]:
        """Return the lowest and the highest level since the watch began."""
        ends = self._at(self.watch.lowest), self._at(self.watch.highest)
        return min(ends), max(ends)

    def _at(self, price: float) -> float:
        size, entry, multiplier, pnl = self._position
        gain = size * (price - entry) * multiplier
        results = {**self._results, self._place: self._results[self._place] + (pnl + gain)}
        return sum(list(results.values()))


def _concerns(key: Key, index: int, side: int) -> bool:
    """Return whether what is held of an instrument on a side counts for a key."""
    return key[0] in (None, index) and key[1] in (0, side)


def _ratio(value: float, base: float) -> float:
    """Return a fraction of a base; a loss of all where there is no positive base."""
    return value / base if base > 0.0 else -math.inf


def total(results: Mapping[tuple[int, int], float], index: int | None, side: int) -> float:
    """Return the profit of a data feed and a side; None and 0 stand for all of them."""
    return sum(
        [
            result
            for (one, its_side), result in results.items()
            if index in (None, one) and side in (0, its_side)
        ]
    )
