"""What a trading firm asks of a candidate: a profit, some days, and no single lucky one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_flag,
    check_fraction,
    check_positive,
    check_whole,
)
from bt_risk.limits.account_floor import check_amount, in_words
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import Guard
from bt_risk.rules.trading_day import check_reset

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book

__all__ = ["Consistency", "MinimumTradingDays", "ProfitTarget"]

REPORT, PAUSE, STOP = "report", "pause", "stop"
OF = ("balance", "equity")


@dataclass(frozen=True)
class ProfitTarget(Guard):
    """Report that a profit is reached, and refuse entries from then on if asked to.

    Profit is measured from the initial balance, without deposits and withdrawals.

    Parameters
    ----------
    amount : float
        Fraction of the initial balance below 1, else currency.
    of : {"balance", "equity"}
        What has to be that high: what closed trades have left, or with open positions.
    action : {"report", "pause", "stop"}
        Write a line; also refuse entries until re-armed; or end the run once flat.
    flatten : bool, default True
        Close every position where it acts.
    confirmations : int, default 1
        Consecutive values that reach it; at least 2 behind a live broker.
    initial_balance : float, optional
        See `AccountFloor`.
    """

    amount: float | None = None
    of: str = "balance"
    action: str = REPORT
    flatten: bool = True
    confirmations: int = 1
    initial_balance: float | None = None

    def __post_init__(self) -> None:
        name = self.name
        self._set(
            amount=check_amount(name, "amount", self.amount),
            confirmations=check_whole(
                name, "confirmations", self.confirmations, remedy="It counts values of the account."
            ),
        )
        check_choice(name, "of", self.of, OF)
        check_choice(name, "action", self.action, (REPORT, PAUSE, STOP))
        check_flag(name, "flatten", self.flatten)
        if self.initial_balance is not None:
            check_positive(name, "initial_balance", self.initial_balance)

    @property
    def active(self) -> bool:
        """Return whether there is a target."""
        return self.amount is not None

    def review(self, request: Request, book: Book) -> Decision:
        """Let the order pass: once the target acts, the state of the gate refuses it."""
        return Decision(request.size)

    def describe(self) -> str:
        """Return the rule in words."""
        what = in_words(self.amount or 0.0, "the initial balance")
        then = {
            REPORT: "is reported",
            PAUSE: f"{_closes(self.flatten)}refuses entries until re-armed",
            STOP: f"{_closes(self.flatten)}ends the run",
        }[self.action]
        return f"profit target: {what} in {self.of} {then}"


@dataclass(frozen=True)
class MinimumTradingDays(Guard):
    """Count the days on which a position was opened, and report when they are enough.

    Parameters
    ----------
    days : int, default 4
        Days that are asked for.
    reset : str, default "00:00 Europe/Prague"
        When a day begins: see `AccountFloor`.
    """

    days: int = 4
    reset: str = "00:00 Europe/Prague"

    def __post_init__(self) -> None:
        self._set(days=check_whole(self.name, "days", self.days, remedy="It counts days."))
        check_reset(self.name, "reset", self.reset)

    @property
    def active(self) -> bool:
        """Return whether it counts."""
        return True

    def review(self, request: Request, book: Book) -> Decision:
        """Let the order pass: it only counts."""
        return Decision(request.size)

    def describe(self) -> str:
        """Return the rule in words."""
        days = f"at least {self.days} on which a position is opened"
        return f"trading days: {days}, each from {self.reset}"


@dataclass(frozen=True)
class Consistency(Guard):
    """Report whether the best day is at most a share of all profit, and end days that are too good.

    The profit of a day is that of closed trades. More profit on a day that is the best one already
    only raises what the other days have to bring.

    Parameters
    ----------
    best_day_limit : float, default 0.5
        Share of all profit.
    target : float, optional
        Profit at which the share is looked at, a fraction of the initial balance or currency: with
        it a day can end once it has brought `best_day_limit` of that.
    action : {"report", "pause"}
        Write a line whenever a day ends and the answer has changed; or also refuse entries for the
        rest of a day that has brought so much.
    flatten : bool, default True
        Close every position on such a day.
    reset : str, default "00:00 Europe/Prague"
        When a day begins: see `AccountFloor`.
    initial_balance : float, optional
        See `AccountFloor`.
    """

    best_day_limit: float = 0.5
    target: float | None = None
    action: str = REPORT
    flatten: bool = True
    reset: str = "00:00 Europe/Prague"
    initial_balance: float | None = None

    def __post_init__(self) -> None:
        name = self.name
        check_fraction(name, "best_day_limit", self.best_day_limit)
        self._set(target=check_amount(name, "target", self.target))
        check_choice(name, "action", self.action, (REPORT, PAUSE))
        check_flag(name, "flatten", self.flatten)
        check_reset(name, "reset", self.reset)
        if self.initial_balance is not None:
            check_positive(name, "initial_balance", self.initial_balance)
        if self.action == PAUSE and self.target is None:
            constraint = "given with action='pause'"
            remedy = "Of the first day every profit is all of it."
            raise ParameterError(name, "target", constraint, self.target, remedy)

    @property
    def active(self) -> bool:
        """Return whether the best day can be too good."""
        return self.best_day_limit < 1.0

    def review(self, request: Request, book: Book) -> Decision:
        """Let the order pass: on a day that has ended, the state of the gate refuses it."""
        return Decision(request.size)

    def describe(self) -> str:
        """Return the rule in words."""
        share = f"{100 * self.best_day_limit:g} %"
        ends = ""
        if self.action == PAUSE:
            what = in_words(self.target or 0.0, "the initial balance")
            ends = f"; a day that has brought {share} of {what} {_closes(self.flatten)}ends"
        return f"consistency: the best day is at most {share} of the profit{ends}"


def _closes(flatten: bool) -> str:
    return "closes everything and " if flatten else ""
