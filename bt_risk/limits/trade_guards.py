"""Guards: rules that refuse entries for a while after something went wrong.

A guard answers the same question as a limit, ``review(request, book) -> Decision``, and answers
it with all or nothing. It keeps nothing itself: what it needs of the past (closed trades, equity at
every close, orders sent) is in the book, so a new run begins clean.

`scope` says whose past counts: ``"data"``, that of the instrument that the order is for, or
``"all"``, that of the account. With `side_aware` only the same side's past counts: longs that
lost refuse longs. A cool-down of n bars begins with the bar in which the guard trips: orders are
refused at its close and at the n - 1 closes that follow (bars of the data, or with
``scope="all"`` of any data; bars of one time are one).
"""

import math
from dataclasses import dataclass, field
from itertools import islice

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_flag,
    check_whole,
    is_number,
)
from bt_risk.limits.base import Decision, Limit
from bt_risk.tolerances import RATIO_EPS

__all__ = [
    "CooldownGuard",
    "Guard",
    "LosingStreakGuard",
    "MinimumEdgeGuard",
    "StopoutGuard",
    "check_count_limit",
]

SCOPES = ("data", "all")


@dataclass(frozen=True)
class Guard(Limit):
    """What all guards have in common: whose past counts, and how to say no."""

    scope: str = field(default="data", kw_only=True)
    side_aware: bool = field(default=False, kw_only=True)

    def __post_init__(self):
        check_choice(self.name, "scope", self.scope, SCOPES)
        check_flag(self.name, "side_aware", self.side_aware)

    def _set(self, **values):
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _refuse(self, reason, measured, limit):
        return Decision(0.0, f"{self.name}: {reason}", self.name, float(measured), float(limit))

    def _concerns(self, event, request):
        same_side = not self.side_aware or event.side == request.side
        return same_side and (self.scope == "all" or event.index == request.instrument.lead.index)

    def _bar(self, event):
        return event.round if self.scope == "all" else event.bar

    def _now(self, request, book):
        return book.rounds if self.scope == "all" else request.instrument.lead.length

    def _whose(self, request):
        side = {1: "long ", -1: "short "}[request.side] if self.side_aware else ""
        where = "any data" if self.scope == "all" else request.instrument.name
        return f"{side}trades of {where}"

    def _scope_in_words(self):
        where = "of the account" if self.scope == "all" else "of the same data"
        return where + (", on the same side" if self.side_aware else "")


class _TradeGuard(Guard):
    """A guard that trips when a trade closes: what `_tripped` says of the trades up to it."""

    def review(self, request, book):
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

    def _back(self, request, trades, end):
        """Yield the trades that count, the newest first."""
        for place in range(end - 1, -1, -1):
            if self._concerns(trades[place], request):
                yield trades[place]


@dataclass(frozen=True)
class CooldownGuard(_TradeGuard):
    """No new entry for some bars after an exit.

    An exit is a position that has become flat. An order that turns a position round is judged
    before it fills, as one decision: its opening part passes.

    Parameters
    ----------
    cooldown_bars : int, default 5
        Bars without an entry; None or 0 switches the guard off.
    scope : {"data", "all"}
        Whose exits count.
    side_aware : bool, default False
        Whether only an entry on the side that was left is refused.
    """

    cooldown_bars: int = 5

    def __post_init__(self):
        super().__post_init__()
        bars = 0 if self.cooldown_bars is None else self.cooldown_bars
        self._set(cooldown_bars=check_whole(self.name, "cooldown_bars", bars, low=0))

    @property
    def active(self):
        """Whether this guard can ever refuse anything."""
        return self.cooldown_bars > 0

    def _tripped(self, request, trades):
        left = next(trades).instrument
        bars = self.cooldown_bars
        reason = f"a position in {left} was closed less than cooldown_bars {bars} ago"
        return self._refuse(reason, math.nan, bars)

    def describe(self):
        """Return the rule in words."""
        return (
            f"cool-down: no entry for {self.cooldown_bars} bars after an exit "
            f"{self._scope_in_words()}"
        )


@dataclass(frozen=True)
class StopoutGuard(_TradeGuard):
    """No new entry for some bars after several trades were stopped out.

    A stop-out is a trade that a stop order has closed at a loss: the user's, or that of
    `ATRTrailingStop`. A trailing stop that takes a profit is none.

    Parameters
    ----------
    stopout_limit : int, default 3
        Stop-outs that trip it; None or infinity switches the guard off.
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

    def __post_init__(self):
        super().__post_init__()
        self._set(
            stopout_limit=check_count_limit(self.name, "stopout_limit", self.stopout_limit),
            lookback=check_whole(self.name, "lookback", self.lookback),
            cooldown_bars=check_whole(self.name, "cooldown_bars", self.cooldown_bars),
        )

    @property
    def active(self):
        """Whether this guard can ever refuse anything."""
        return not math.isinf(self.stopout_limit)

    def _tripped(self, request, trades):
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

    def describe(self):
        """Return the rule in words."""
        return (
            f"stop-outs: no entry for {self.cooldown_bars} bars after {self.stopout_limit} within "
            f"{self.lookback} bars {self._scope_in_words()}"
        )


def _stopped_out(trade):
    return trade.stopped and trade.pnl < 0


@dataclass(frozen=True)
class LosingStreakGuard(_TradeGuard):
    """No new entry for some bars after several losing trades in a row.

    After the cool-down the streak goes on: one more loss trips it again, and a trade that does
    not lose ends it. Results are net of commission.

    Parameters
    ----------
    streak_limit : int, default 4
        Losses in a row that trip it; None or infinity switches the guard off.
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

    def __post_init__(self):
        super().__post_init__()
        self._set(
            streak_limit=check_count_limit(self.name, "streak_limit", self.streak_limit),
            cooldown_bars=check_whole(self.name, "cooldown_bars", self.cooldown_bars),
        )

    @property
    def active(self):
        """Whether this guard can ever refuse anything."""
        return not math.isinf(self.streak_limit)

    def _tripped(self, request, trades):
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

    def describe(self):
        """Return the rule in words."""
        return (
            f"losing streak: no entry for {self.cooldown_bars} bars after {self.streak_limit} "
            f"losses in a row {self._scope_in_words()}"
        )


@dataclass(frozen=True)
class MinimumEdgeGuard(_TradeGuard):
    """No new entry for some bars in what has not paid for its risk lately.

    The sum of the R-multiples (net result over what was risked) of the last trades must not be
    below a floor. Trades whose risk is unknown are left out, and nothing is said before there are
    `lookback` of the others. After the cool-down one trade may show whether that has changed.

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

    def __post_init__(self):
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
    def active(self):
        """Whether this guard can ever refuse anything."""
        return not math.isinf(self.edge_floor)

    def _tripped(self, request, trades):
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

    def describe(self):
        """Return the rule in words."""
        return (
            f"edge: no entry for {self.cooldown_bars} bars after {self.lookback} trades that sum "
            f"up to less than {self.edge_floor:g} R {self._scope_in_words()}"
        )


def check_count_limit(component, param, value):
    """Return a ceiling on a number of things: whole and positive; None or infinity is none."""
    if value is None or (is_number(value) and value == math.inf):
        return math.inf
    return check_whole(component, param, value, remedy="None is no limit.")
