"""Exits by rule: after some bars, at a profit, and a stop at the price of the entry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_risk.errors import check_choice, check_limit
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import Guard, check_count_limit

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book

__all__ = ["BreakEven", "ExitRule", "TakeProfit", "TimeExit"]

_TRIGGERS = ("intrabar", "close")
_R = "It counts R, the risk at the first stop."


@dataclass(frozen=True)
class ExitRule(Guard):
    """Close positions, or move their stop; entries pass. The base class of such rules."""

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`: all of it."""
        return Decision(request.size)


@dataclass(frozen=True)
class TimeExit(ExitRule):
    """Close every position some bars after its entry.

    The exit is sent at the close of the bar and fills at the next open, as an order of a strategy
    that asks for ``len(self) >= self.bar_executed + bars`` does. The orders that rest behind the
    position are cancelled with it. Adding to a position does not begin anew.

    Parameters
    ----------
    bars : int, default 20
        Bars of the data feed after the one of the first entry; None or infinity switches the rule
        off.
    """

    bars: float = 20

    def __post_init__(self) -> None:
        self._set(bars=check_count_limit(self.name, "bars", self.bars))

    @property
    def active(self) -> bool:
        """Return whether this rule can ever close anything."""
        return not math.isinf(self.bars)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"time exit: every position is closed {self.bars} bars after its entry"


@dataclass(frozen=True)
class TakeProfit(ExitRule):
    """Close every position at a profit of so many R.

    R is the stop distance that the position began with, and the profit that from the average entry
    on. A limit order rests there, beside the stop and from the bar after the entry on. The one that
    fills withdraws the other, and both never close more than is held. Where a bar reaches both, the
    stop counts as first, unless the bar opens at the target or beyond it.

    A live broker gets that order where it declares ``two_exits`` and ``reduce_only`` (see
    `bt_risk.Live`): nothing else keeps two exits that fill at one moment from opening a position.
    At every other one the rule works as with ``trigger="close"``.

    Parameters
    ----------
    r : float, default 2.0
        R; None or infinity switches the rule off.
    trigger : {"intrabar", "close"}, default "intrabar"
        ``"close"``: no order rests. A close that shows the profit sends an exit at the market,
        which fills at the next open and may be worse.
    """

    r: float = 2.0
    trigger: str = "intrabar"

    def __post_init__(self) -> None:
        self._set(r=check_limit(self.name, "r", self.r, remedy=_R))
        check_choice(self.name, "trigger", self.trigger, _TRIGGERS)

    @property
    def rests(self) -> bool:
        """Return whether a limit order is to rest at the target."""
        return self.active and self.trigger == "intrabar"

    @property
    def active(self) -> bool:
        """Return whether this rule can ever close anything."""
        return not math.isinf(self.r)

    def describe(self) -> str:
        """Return the rule in words."""
        at = "at a close" if self.trigger == "close" else "at a limit"
        return f"take profit: every position is closed {at} {self.r:g} R beyond its entry"


@dataclass(frozen=True)
class BreakEven(ExitRule):
    """Move the stop of bt_risk to the average entry once the price has been so many R in profit.

    The high of each bar since the entry counts (the low for shorts), from the close of the bar on.
    The stop never moves back. It needs `ATRTrailingStop`, which `protect` adds.

    Parameters
    ----------
    at_r : float, default 1.0
        R, the stop distance that the position began with; None or infinity switches the rule off.
    """

    at_r: float = 1.0

    def __post_init__(self) -> None:
        self._set(at_r=check_limit(self.name, "at_r", self.at_r, remedy=_R))

    @property
    def active(self) -> bool:
        """Return whether this rule can ever move anything."""
        return not math.isinf(self.at_r)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"break even: the stop moves to the entry once the price was {self.at_r:g} R beyond"
