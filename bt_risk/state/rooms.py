"""How much of each limit an account uses, for the heartbeat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from bt_risk.limits.base import Limit, NotionalLimit
from bt_risk.limits.day_guards import DailyLossLimit
from bt_risk.limits.exposure import (
    ExposureLimit,
    GrossLimit,
    GroupLimit,
    NetLimit,
    PositionLimit,
)
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.exposure import Unit
from bt_risk.state.file import Record

__all__ = ["limits_in_use"]

Use = tuple[str, float, float]
_SIDES = ((1, "long"), (-1, "short"))


def limits_in_use(monitors: Iterable[Any], limits: Iterable[Limit], book: Book) -> list[Record]:
    """Return ``{"name", "used", "limit"}`` of each limit that is a number; fractions of equity.

    What is not known is None.
    """
    uses: list[Use] = []
    for monitor in monitors:
        if monitor.state_kind == "breaker":
            uses += _breaker(monitor)
        elif monitor.state_kind == "floor":
            uses += _floor(monitor)
        elif monitor.state_kind == "margin":
            uses += [(name, ratio, monitor.guard.call) for name, ratio in monitor.ratios.items()]
    for limit in limits:
        uses += _limit(limit, book)
    return [
        {"name": name, "used": float(used) if math.isfinite(used) else None, "limit": float(most)}
        for name, used, most in uses
        if math.isfinite(most)
    ]


def _breaker(breaker: Any) -> Iterator[Use]:
    yield "drawdown_limit", breaker.drawdown, breaker.rule.drawdown_limit
    state = breaker.state
    value = state.high_water_mark * (1.0 - breaker.drawdown)
    yield "lifetime_limit", 1.0 - value / state.lifetime_mark, breaker.rule.lifetime_limit


def _floor(monitor: Any) -> Iterator[Use]:
    """Yield what is lost and what may be lost, as fractions of the initial balance."""
    state = monitor.state
    if math.isnan(state.initial):
        return
    levels = ("account_floor", state.floor), ("account_floor of the day", state.daily)
    for (name, floor), allowed in zip(levels, state.allowances, strict=True):
        if math.isfinite(allowed):
            lost = floor + allowed - state.equity
            yield name, lost / state.initial, allowed / state.initial


def _limit(limit: Limit, book: Book) -> Iterator[Use]:
    if isinstance(limit, DailyLossLimit):
        # An amount of currency is a fraction of equity at the begin of the day, as all others are.
        one = 1.0 if limit.unit == "fraction" else book.days.base_equity(limit)
        lost = [-day.low for day in book.days.days(limit)]
        yield "daily_loss_limit", max([0.0, *lost]) / one, limit.daily_loss_limit / one
    elif isinstance(limit, NotionalLimit):
        yield from _of_positions("notional_limit", "notional", limit.limit, book)
    elif isinstance(limit, PositionLimit):
        yield from _of_positions("position_limit", limit.unit, limit.limit, book)
    elif isinstance(limit, ExposureLimit):
        for side, word in _SIDES:
            name = f"exposure_limit {word}"
            yield name, _share(book.exposure.of_side(side, limit.unit), book), limit.limit
    elif isinstance(limit, NetLimit):
        long, short = (book.exposure.of_side(side, limit.unit) for side, _ in _SIDES)
        yield "net_limit", _share(abs(long - short), book), limit.limit
    elif isinstance(limit, GrossLimit):
        yield "gross_limit", _share(_gross(limit.unit, book), book), limit.limit
    elif isinstance(limit, GroupLimit):
        for group, members in limit.groups.items():
            used = _share(_gross(limit.unit, book, members), book)
            yield f"group_limit {group}", used, limit.limit


def _share(value: float, book: Book) -> float:
    return value / book.equity if book.equity > 0 else math.nan


def _of_positions(name: str, unit: Unit, most: float, book: Book) -> Iterator[Use]:
    """Yield the use of a limit on one position, for each that is held or may be."""
    for one in book.exposure.live():
        used = max(book.exposure.of(one, side, unit) for side, _ in _SIDES)
        yield f"{name} {one.name}", _share(used, book), most


def _gross(unit: Unit, book: Book, members: Iterable[str] | None = None) -> float:
    total = 0.0
    for one in {live.copies[0].index: live for live in book.exposure.live()}.values():
        if members is None or any(copy.name in members for copy in one.copies):
            total += max(book.exposure.of(one, side, unit) for side, _ in _SIDES)
    return total
