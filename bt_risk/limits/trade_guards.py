"""Guards: rules that refuse entries for a while after losses, stop-outs or too many orders.

A guard is a limit that decides all or nothing. It has no state: the past that it needs (closed
trades, equity at every close, orders sent) is in the book.

`scope` states whose past counts: ``"data"``, that of the instrument of the order, or ``"all"``,
that of the account. With `side_aware` only the past of the same side counts: losses of long
positions refuse long entries. A cool-down of n bars begins with the bar in which the guard trips:
orders are refused at its close and at the n - 1 closes that follow. They are bars of the data feed,
or with ``scope="all"`` of any data feed, where bars of one time count once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_flag,
    check_whole,
    is_number,
)
from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.tolerances import RATIO_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.position import ClosedTrade, SentOrder

__all__ = [
    "CooldownGuard",
    "Guard",
    "LosingStreakGuard",
    "MinimumEdgeGuard",
    "ScopedGuard",
    "StopoutGuard",
    "check_count_limit",
]

SCOPES = ("data", "all")


@dataclass(frozen=True)
class Guard(Limit):
    """Refuse entries for a while; the base class of all guards."""

    @property
    def by_size(self) -> bool:
        """Return False: it decides all or nothing."""
        return False

    def describe(self) -> str:
        """Return the rule in words."""
        return self.name

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _refuse(self, reason: str, measured: float, limit: float) -> Decision:
        return Decision(0.0, f"{self.name}: {reason}", self.name, float(measured), float(limit))


@dataclass(frozen=True)
class ScopedGuard(Guard):
    """Refuse entries because of the past of one instrument, or of one side; a base class."""

    scope: str = field(default="data", kw_only=True)
    side_aware: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_choice(self.name, "scope", self.scope, SCOPES)
        check_flag(self.name, "side_aware", self.side_aware)

    def _concerns(self, event: ClosedTrade | SentOrder, request: Request) -> bool:
        """Return whether the past event counts for a request."""
        same_side = not self.side_aware or event.side == request.side
        return same_side and (self.scope == "all" or event.index == request.instrument.lead.index)

    def _bar(self, event: ClosedTrade | SentOrder) -> int:
        """Return the number of the bar of a past event."""
        return event.round if self.scope == "all" else event.bar

    def _now(self, request: Request, book: Book) -> int:
        """Return the number of the present bar."""
        return book.rounds if self.scope == "all" else request.instrument.lead.length

    def _whose(self, request: Request) -> str:
        side = {1: "long ", -1: "short "}[request.side] if self.side_aware else ""
        where = "any data feed" if self.scope == "all" else request.instrument.name
        return f"{side}trades of {where}"

    def _scope_in_words(self) -> str:
        where = "of the account" if self.scope == "all" else "of the same data feed"
        return where + (", on the same side" if self.side_aware else "")


class _TradeGuard(ScopedGuard):
    """Trip when a trade closes, if `_tripped` refuses because of the trades up to it."""

    cooldown_bars: int

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        now = self._now(request, book)
        for end in range(len(book.trades), 0, -1):
            trade = book.trades[end - 1]
            if not self._concerns(trade, request):
                continue
            if now - self._bar(trade) >= self.cooldown_bars:
                break
            refusal = self._tripped(request, self._back(request, book.trades, end))
            if refusal:
                return refusal
        return Decision(request.size)

    def _tripped(self, request: Request, trades: Iterator[ClosedTrade]) -> Decision | None:
        """Return the refusal if the guard trips on these trades, the newest first."""
        raise TypeError(f"{self.name} never trips")

    def _back(
        self, request: Request, trades: Sequence[ClosedTrade], end: int
    ) -> Iterator[ClosedTrade]:
        """Yield the trades that count, the newest first."""
        for place in range(end - 1, -1, -1):
            if self._concerns(trades[place], request):
                yield trades[place]


@dataclass(frozen=True)
class CooldownGuard(_TradeGuard):
    """No new entry for some bars after an exit.

    An exit is a position that has become flat. An order that reverses a position is judged before
    it fills, as one decision: its opening part passes.

    Parameters
    ----------
    cooldown_bars : int, default 5
        Bars without an entry; None or 0 switches the guard off.
    scope : {"data", "all"}
        Whose exits count.
    side_aware : bool, default False
        Whether only an entry on the side of the closed position is refused.
    """

    cooldown_bars: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        bars = 0 if self.cooldown_bars is None else self.cooldown_bars
        self._set(cooldown_bars=check_whole(self.name, "cooldown_bars", bars, low=0))

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return self.cooldown_bars > 0

    def _tripped(self, request: Request, trades: Iterator[ClosedTrade]) -> Decision | None:
        left = next(trades).instrument
        bars = self.cooldown_bars
        reason = f"a position in {left} was closed less than cooldown_bars {bars} ago"
        return self._refuse(reason, math.nan, bars)

    def describe(self) -> str:
        """Return the rule in words."""
        return (
            f"cool-down: no entry for {self.cooldown_bars} bars after an exit "
            f"{self._scope_in_words()}"
        )


@dataclass(frozen=True)
class StopoutGuard(_TradeGuard):
    """No new entry for some bars after several trades were stopped out.

    A stop-out is a trade that a stop order has closed at a loss: the strategy's own stop, or that
    of `ATRTrailingStop`. A trade that a trailing stop closes at a profit is none.

    Parameters
    ----------
    stopout_limit : int, default 3
        Stop-outs that trip the guard; None or infinity switches the guard off.
    lookback : int, default 100
        Bars within which they must lie.
    cooldown_bars : int, default 50
        Bars without an entry from the last of them on.
    scope : {"all", "data"}
        Whose trades count.
    side_aware : bool, default False
        Whether longs and shorts are counted, and refused, apart.
    """

    stopout_limit: float = 3
    lookback: int = 100
    cooldown_bars: int = 50
    scope: str = field(default="all", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(
            stopout_limit=check_count_limit(self.name, "stopout_limit", self.stopout_limit),
            lookback=check_whole(self.name, "lookback", self.lookback),
            cooldown_bars=check_whole(self.name, "cooldown_bars", self.cooldown_bars),
        )

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.stopout_limit)

    def _tripped(self, request: Request, trades: Iterator[ClosedTrade]) -> Decision | None:
        newest = next(trades)
        if not _stopped_out(newest):
            return None
        count = 1
        for trade in trades:
            if self._bar(newest) - self._bar(trade) >= self.lookback:
                break
            count += _stopped_out(trade)
        if count < self.stopout_limit:
            return None
        reason = (
            f"{count} {self._whose(request)} stopped out within {self.lookback} bars "
            f">= stopout_limit {self.stopout_limit}"
        )
        return self._refuse(reason, count, self.stopout_limit)

    def describe(self) -> str:
        """Return the rule in words."""
        return (
            f"stop-outs: no entry for {self.cooldown_bars} bars after {self.stopout_limit} within "
            f"{self.lookback} bars {self._scope_in_words()}"
        )


def _stopped_out(trade: ClosedTrade) -> bool:
    return trade.stopped and trade.pnl < 0


@dataclass(frozen=True)
class LosingStreakGuard(_TradeGuard):
    """No new entry for some bars after several losing trades in a row.

    After the cool-down the streak goes on: one more loss trips the guard again, and a trade
    without a loss ends the streak. Results are net of commission.

    Parameters
    ----------
    streak_limit : int, default 4
        Losses in a row that trip the guard; None or infinity switches the guard off.
    cooldown_bars : int, default 50
        Bars without an entry from the last of them on.
    scope : {"all", "data"}
        Whose trades count.
    side_aware : bool, default False
        Whether longs and shorts are counted, and refused, apart.
    """

    streak_limit: float = 4
    cooldown_bars: int = 50
    scope: str = field(default="all", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(
            streak_limit=check_count_limit(self.name, "streak_limit", self.streak_limit),
            cooldown_bars=check_whole(self.name, "cooldown_bars", self.cooldown_bars),
        )

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.streak_limit)

    def _tripped(self, request: Request, trades: Iterator[ClosedTrade]) -> Decision | None:
        streak = 0
        for trade in trades:
            if not trade.pnl < 0:
                break
            streak += 1
        if streak < self.streak_limit:
            return None
        reason = (
            f"{streak} {self._whose(request)} lost in a row >= streak_limit {self.streak_limit}"
        )
        return self._refuse(reason, streak, self.streak_limit)

    def describe(self) -> str:
        """Return the rule in words."""
        return (
            f"losing streak: no entry for {self.cooldown_bars} bars after {self.streak_limit} "
            f"losses in a row {self._scope_in_words()}"
        )


@dataclass(frozen=True)
class MinimumEdgeGuard(_TradeGuard):
    """No new entry for some bars while the last trades have earned too little for their risk.

    The sum of the R-multiples (net result divided by the amount risked) of the last trades must not
    be below a floor. Trades of unknown risk are left out, and the guard passes everything until
    there are `lookback` others. After the cool-down one more trade is possible; its result counts.

    Parameters
    ----------
    edge_floor : float, default 0.0
        R; a sum below it trips the guard. None or minus infinity switches it off.
    lookback : int, default 20
        Closed trades that are summed up.
    cooldown_bars : int, default 50
        Bars without an entry from the last of them on.
    scope : {"data", "all"}
        Whose trades count.
    side_aware : bool, default False
        Whether longs and shorts are summed up, and refused, apart.
    """

    edge_floor: float = 0.0
    lookback: int = 20
    cooldown_bars: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        floor = -math.inf if self.edge_floor is None else self.edge_floor
        if not is_number(floor) or floor == math.inf:
            constraint = "a number of R, or None for no floor"
            raise ParameterError(self.name, "edge_floor", constraint, floor)
        trades = "It counts closed trades."
        self._set(
            edge_floor=float(floor),
            lookback=check_whole(self.name, "lookback", self.lookback, remedy=trades),
            cooldown_bars=check_whole(self.name, "cooldown_bars", self.cooldown_bars),
        )

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.edge_floor)

    def _tripped(self, request: Request, trades: Iterator[ClosedTrade]) -> Decision | None:
        known = (trade.r_multiple for trade in trades if not math.isnan(trade.r_multiple))
        sample = list(islice(known, self.lookback))
        edge = math.fsum(sample)
        if len(sample) < self.lookback or edge >= self.edge_floor - RATIO_EPS:
            return None
        reason = (
            f"{edge:.2f} R from the last {self.lookback} {self._whose(request)} "
            f"< edge_floor {self.edge_floor:.2f}"
        )
        return self._refuse(reason, edge, self.edge_floor)

    def describe(self) -> str:
        """Return the rule in words."""
        return (
            f"edge: no entry for {self.cooldown_bars} bars after {self.lookback} trades that sum "
            f"up to less than {self.edge_floor:g} R {self._scope_in_words()}"
        )


def check_count_limit(component: str, param: str, value: Any) -> float:
    """Return a ceiling on a count: whole and positive; None or infinity is no limit."""
    if value is None or (is_number(value) and value == math.inf):
        return math.inf
    return check_whole(component, param, value, remedy="None is no limit.")
