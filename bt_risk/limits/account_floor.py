"""AccountFloor: the equity that an account must not touch, in all and within a day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_flag,
    check_fraction,
    check_positive,
    check_whole,
    is_number,
)
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import Guard
from bt_risk.rules.account_floor import BASES, HALT, MODES, ON_DAILY, REFERENCES, FloorRule
from bt_risk.rules.trading_day import check_reset

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book

__all__ = ["AccountFloor", "check_amount", "in_words"]

ACTIONS, TRIGGERS = ("stop", "pause"), ("close", "intrabar")
_EXTREME, _SMALLEST = 0.5, 100.0
_TRAILING = {
    "trailing_closed": "the highest closed balance",
    "trailing_eod": "the highest {} at the end of a day",
    "trailing_intraday": "the highest equity",
}
_REFERENCES = {
    "balance": "balance",
    "equity": "equity",
    "higher": "higher of balance and equity",
}


@dataclass(frozen=True)
class AccountFloor(Guard):
    """Cancel, close and halt when equity touches a floor, in all or within a day.

    *Balance* is what closed trades have left, *equity* has the profit and loss of open positions,
    too. Both are taken without deposits and withdrawals. Equity is compared with the floor at every
    close; exactly at the floor counts. What is held is then closed at the next open, as by
    `DrawdownBreaker`: after a gap the loss exceeds the floor.

    An amount below 1 is a fraction of the initial balance, any other is currency.

    Parameters
    ----------
    amount : float, optional
        What may be lost in all; None is no such floor.
    mode : {"static", "trailing_closed", "trailing_eod", "trailing_intraday"}
        What the floor lies below: the initial balance; the highest closed balance; the highest
        value at the end of a day (see `reference`); the highest equity. It never falls.
    lock : float, optional
        A floor that trails stops at the initial balance and this much.
    daily : float, optional
        What may be lost within a day, from the value at its begin; None is no such floor.
    daily_base : {"initial", "reference"}
        What a fraction in `daily` is taken of: the initial balance, or the value at the begin of
        the day.
    reset : str, default "00:00 Europe/Prague"
        When a day begins: a time and a zone, or ``"session"`` for the session of the first data
        feed. The last close before it is the end of the day before.
    reference : {"balance", "equity", "higher"}
        The value at the end of a day, from which the next one is measured: balance, equity, or the
        higher of both.
    on_daily : {"halt", "pause"}
        A touched daily floor halts as the other one does, or closes everything and refuses entries
        until the next day.
    trigger : {"close", "intrabar"}
        Judge the equity at every close, or the worst that a bar has shown of what is held.
    action : {"stop", "pause"}
        A halt ends the run once flat, or goes on with entries refused until it is re-armed.
    flatten : bool, default True
        Close every position.
    confirmations : int, default 1
        Consecutive values at or below the floor that trip it; at least 2 behind a live broker.
    taper_to_floor : float, optional
        Share of the room, from which risk is scaled down linearly, to nothing at the nearest floor:
        0.5 begins when half of `amount` or `daily` is left.
    initial_balance : float, optional
        Balance that amounts are fractions of, where the account was opened before this run; the
        balance at the first close where it is not given.
    allow_extreme : bool, default False
        Take a fraction of 0.5 and more, and an amount of currency up to 100: both are percent by
        mistake otherwise.
    """

    amount: float | None = None
    mode: str = "static"
    lock: float | None = None
    daily: float | None = None
    daily_base: str = "initial"
    reset: str = "00:00 Europe/Prague"
    reference: str = "balance"
    on_daily: str = HALT
    trigger: str = "close"
    action: str = "stop"
    flatten: bool = True
    confirmations: int = 1
    taper_to_floor: float | None = None
    initial_balance: float | None = None
    allow_extreme: bool = False

    def __post_init__(self) -> None:
        name = self.name
        check_flag(name, "allow_extreme", self.allow_extreme)
        self._set(
            amount=check_amount(name, "amount", self.amount, self.allow_extreme),
            daily=check_amount(name, "daily", self.daily, self.allow_extreme),
            confirmations=check_whole(name, "confirmations", self.confirmations, remedy=_SAMPLES),
        )
        choices = {
            "mode": MODES,
            "daily_base": BASES,
            "reference": REFERENCES,
            "on_daily": ON_DAILY,
            "trigger": TRIGGERS,
            "action": ACTIONS,
        }
        for param, words in choices.items():
            check_choice(name, param, getattr(self, param), words)
        check_flag(name, "flatten", self.flatten)
        check_reset(name, "reset", self.reset)
        if self.taper_to_floor is not None:
            check_fraction(name, "taper_to_floor", self.taper_to_floor)
        if self.initial_balance is not None:
            check_positive(name, "initial_balance", self.initial_balance)
        self._check_lock()
        self._check_daily()

    def _check_lock(self) -> None:
        if self.lock is None:
            return
        if not is_number(self.lock) or math.isinf(self.lock):
            constraint = "a finite number, or None for a floor that always trails"
            raise ParameterError(self.name, "lock", constraint, self.lock)
        if self.amount is None or self.mode == "static":
            constraint = "None where no floor trails"
            raise ParameterError(self.name, "lock", constraint, self.lock)

    def _check_daily(self) -> None:
        """Raise where a parameter of the day is given and has nothing to act on."""
        if self.daily_base != "initial" and not (self.daily is not None and self.daily < 1.0):
            constraint = "'initial' where daily is no fraction"
            raise ParameterError(self.name, "daily_base", constraint, self.daily_base)
        if self.on_daily != HALT and self.daily is None:
            raise ParameterError(self.name, "on_daily", "'halt' where daily is None", self.on_daily)

    @property
    def active(self) -> bool:
        """Return whether this floor can ever be touched."""
        return self.amount is not None or self.daily is not None

    def rule(self, min_confirmations: int = 1) -> FloorRule:
        """Return the rule that `FloorState` follows."""
        return FloorRule(
            amount=math.inf if self.amount is None else self.amount,
            mode=self.mode,
            lock=self.lock,
            daily=math.inf if self.daily is None else self.daily,
            daily_base=self.daily_base,
            reference=self.reference,
            on_daily=self.on_daily,
            confirmations=max(self.confirmations, min_confirmations),
            initial=self.initial_balance,
        )

    def review(self, request: Request, book: Book) -> Decision:
        """Let the order pass: while a floor is touched, the state of the gate refuses it."""
        return Decision(request.size)

    def describe(self) -> str:
        """Return the rule in words."""
        parts = []
        if self.amount is not None:
            parts.append(self._floor_in_words(self.amount))
        if self.daily is not None:
            base = "the initial balance" if self.daily_base == "initial" else "it"
            what = in_words(self.daily, base)
            from_ = f"the {_REFERENCES[self.reference]} at {self.reset}"
            then = "" if self.on_daily == HALT else " (which refuses entries until the next day)"
            parts.append(f"within a day {what} below {from_}{then}")
        flat = "closes everything and " if self.flatten else ""
        end = "ends the run" if self.action == "stop" else "refuses entries until re-armed"
        tapered = ""
        if self.taper_to_floor is not None:
            tapered = f"; risk is scaled down over the last {100 * self.taper_to_floor:g} % of room"
        return f"account floor: equity {', and '.join(parts)} {flat}{end}{tapered}"

    def _floor_in_words(self, amount: float) -> str:
        what = in_words(amount, "the initial balance")
        if self.mode == "static":
            return f"{what} below it" if amount < 1.0 else f"{what} below the initial balance"
        trailed = _TRAILING[self.mode].format(_REFERENCES[self.reference])
        locked = ""
        if self.lock is not None:
            extra = in_words(self.lock, "it")
            locked = ", up to the initial balance" + (f" and {extra}" if self.lock else "")
        return f"{what} below {trailed}{locked}"


_SAMPLES = "It counts values of the account."


def in_words(amount: float, base: str) -> str:
    """Return an amount in words: a fraction as percent of its base.

    Examples
    --------
    >>> in_words(0.05, "the initial balance"), in_words(2_500.0, "")
    ('5 % of the initial balance', '2,500')
    """
    if abs(amount) < 1.0:
        return f"{100 * amount:g} % of {base}"
    return f"{amount:,.0f}" if amount == round(amount) else f"{amount:,.2f}"


def check_amount(component: str, param: str, value: Any, extreme: bool = False) -> float | None:
    """Return an amount: below 1 a fraction of the initial balance, else currency.

    None and infinity are no amount. Without `extreme` a fraction of 0.5 and more, and currency up
    to 100, are refused: they are percent by mistake.
    """
    if value is None or (is_number(value) and value == math.inf):
        return None
    amount = float(check_positive(component, param, value))
    if not extreme and _EXTREME <= amount <= _SMALLEST:
        constraint = "a fraction below 0.5, or an amount of currency above 100"
        remedy = (
            f"Write {amount / 100:g} for {amount:g} %, or add allow_extreme=True if you mean it."
        )
        raise ParameterError(component, param, constraint, value, remedy)
    return amount
