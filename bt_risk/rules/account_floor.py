"""Loss floors: the equity below which an account must not fall, in all and within a day."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bt_risk.rules.drawdown import ARMED, LOCKED, TRIPPED
from bt_risk.tolerances import RATIO_EPS

__all__ = [
    "BALANCE",
    "BASES",
    "DAILY",
    "FLOOR",
    "HALT",
    "INTRADAY",
    "MODES",
    "ON_DAILY",
    "PAUSED",
    "REFERENCES",
    "FloorRule",
    "FloorState",
    "in_currency",
    "reference_value",
]

# How the floor moves: never, or with the highest closed balance, the highest value at the end of a
# day, or the highest equity at any time.
STATIC, CLOSED, EOD, INTRADAY = "static", "trailing_closed", "trailing_eod", "trailing_intraday"
MODES = (STATIC, CLOSED, EOD, INTRADAY)
BALANCE, EQUITY, HIGHER = "balance", "equity", "higher"
REFERENCES = (BALANCE, EQUITY, HIGHER)
INITIAL, REFERENCE = "initial", "reference"
BASES = (INITIAL, REFERENCE)
HALT, PAUSE = "halt", "pause"
ON_DAILY = (HALT, PAUSE)
# What a state was tripped by, and the status of one that waits for the next day.
FLOOR, DAILY, PAUSED = "floor", "daily", "PAUSED"

_INF = math.inf
# What is saved of a state.
_SAVED = (
    "status",
    "cause",
    "initial",
    "mark",
    "day",
    "reference",
    "balance",
    "equity",
    "breaches",
    "tripped_on",
    "trips",
)


def in_currency(amount: float, base: float) -> float:
    """Return an amount in currency: one between -1 and 1 is a fraction of `base`.

    Examples
    --------
    >>> in_currency(0.1, 50_000.0), in_currency(2_000.0, 50_000.0)
    (5000.0, 2000.0)
    """
    return amount * base if abs(amount) < 1.0 else amount


def reference_value(balance: float, equity: float, reference: str) -> float:
    """Return what a day is measured from: the balance, the equity, or the higher of both."""
    if reference == HIGHER:
        return max(balance, equity)
    return balance if reference == BALANCE else equity


@dataclass(frozen=True)
class FloorRule:
    """State where the floors of an account are; see `bt_risk.AccountFloor`.

    An amount below 1 is a fraction of the initial balance (`daily`: of what `daily_base` says), any
    other is currency. Infinity is no floor.
    """

    amount: float = math.inf
    mode: str = STATIC
    lock: float | None = None
    daily: float = math.inf
    daily_base: str = INITIAL
    reference: str = BALANCE
    on_daily: str = HALT
    confirmations: int = 1
    initial: float | None = None


class FloorState:
    """Follow an account sample by sample, and trip where it touches a floor.

    Parameters
    ----------
    rule : FloorRule

    Attributes
    ----------
    status : str
        ARMED (watching), TRIPPED (blocking, waiting until flat), PAUSED (blocking until the next
        day), LOCKED (blocking until `rearm`).
    cause : str
        FLOOR or DAILY once it has tripped.
    initial : float
        Balance that amounts are fractions of, and that the floor begins from. NaN at first.
    mark : float
        The highest value that the floor trails.
    day : float
        Key of the present day.
    reference : float
        Value at the begin of the day, from which the daily loss is measured.
    balance, equity : float
        Of the last sample.
    floor, daily : float
        Equity at which the account, and the day, have lost all they may lose; minus infinity
        without such a rule.
    breaches : int
        Consecutive samples at or below a floor; `confirmations` of them trip.
    tripped_on : float
        Key of the day on which it has tripped last.
    trips : int
        How often it has tripped.

    Examples
    --------
    >>> state = FloorState(FloorRule(amount=0.1, daily=0.05))
    >>> state.update(100_000.0, 100_000.0, day=1.0)
    False
    >>> state.update(98_000.0, 96_000.0, day=1.0), state.floor, state.daily
    (False, 90000.0, 95000.0)
    >>> state.update(98_000.0, 96_000.0, day=2.0), state.daily
    (False, 93000.0)
    >>> state.update(98_000.0, 92_500.0, day=2.0), state.status, state.cause
    (True, 'TRIPPED', 'daily')
    """

    def __init__(self, rule: FloorRule) -> None:
        self.rule = rule
        self.status, self.cause = ARMED, ""
        self.initial = self.mark = self.reference = self.balance = self.equity = math.nan
        self.day = self.tripped_on = math.nan
        self.breaches = self.trips = 0
        self.floor = self.daily = self._trips_at = -math.inf
        self._trails = rule.mode != STATIC and rule.amount != math.inf
        self._several = rule.confirmations > 1

    def update(
        self,
        balance: float,
        equity: float,
        day: float,
        worst: float | None = None,
        best: float | None = None,
    ) -> bool:
        """Advance by one sample of the account; return whether it has tripped.

        Parameters
        ----------
        balance : float
            What closed trades have left, in currency, without deposits and withdrawals.
        equity : float
            The same with the profit and loss of open positions.
        day : float
            A key that is another one on every trading day.
        worst, best : float, optional
            The lowest and the highest equity since the last sample, where more is known than
            `equity`. It counts as highest first: that is the order in which a trailing floor is
            touched sooner.

        Nothing is concluded from a sample with a NaN.
        """
        if worst is None:
            worst = equity
        if best is None:
            best = equity
        if not (-_INF < worst < _INF and -_INF < best < _INF and -_INF < balance < _INF):
            return False
        if day != self.day:
            self._begin(balance, equity, day)
        if self._trails:
            self._trail(balance, best)
        self.balance, self.equity = balance, equity
        if worst > self._trips_at:
            self.breaches = 0
            return False
        return self._touch()

    def quiet(self, taper: float | None = None) -> tuple[float, float, float] | None:
        """Return where a sample of the same day changes nothing but `balance` and `equity`.

        Parameters
        ----------
        taper : float, optional
            `room` below which something changes, too.

        Returns
        -------
        (low, equity, balance) or None
            The lowest equity is above the first, the highest at most the second, and the balance
            at most the third. None: every sample may change something.

        Examples
        --------
        >>> state = FloorState(FloorRule(amount=0.1, mode="trailing_intraday"))
        >>> _ = state.update(100.0, 102.0, day=1.0)
        >>> [round(limit, 6) for limit in state.quiet()]
        [92.0, 102.0, inf]
        """
        if self.status != ARMED or self.breaches or math.isnan(self.initial):
            return None
        low, mode = self._trips_at, self.rule.mode if self._trails else STATIC
        if taper is not None:
            amount, daily = self.allowances
            tapers = (self.floor, amount), (self.daily, daily)
            low = max([low, *(floor + taper * lost for floor, lost in tapers if lost != _INF)])
        equity = self.mark if mode == INTRADAY else _INF
        return low, equity, self.mark if mode == CLOSED else _INF

    def begin_day(self, day: float) -> None:
        """Begin another day before its first sample; `update` does it with that otherwise."""
        if day != self.day:
            self._begin(self.balance, self.equity, day)

    def skip(self, balance: float, equity: float) -> None:
        """Take the last of several samples that changed nothing."""
        self.balance, self.equity = balance, equity

    def _begin(self, balance: float, equity: float, day: float) -> None:
        """Begin the account, or a day: it is measured from the last sample of the day before."""
        rule = self.rule
        if math.isnan(self.initial):
            self.initial = self.mark = balance if rule.initial is None else rule.initial
            self.reference = reference_value(balance, equity, rule.reference)
        else:
            self.reference = reference_value(self.balance, self.equity, rule.reference)
            if rule.mode == EOD and self.reference > self.mark:
                self.mark = self.reference
        self.day = day
        if self.status == PAUSED and day != self.tripped_on:
            self.status, self.cause = ARMED, ""
        self._set_levels()

    def _trail(self, balance: float, best: float) -> None:
        """Raise the mark to the balance or the equity.

        Where one sample may be wrong, two have to be that high.
        """
        mode = self.rule.mode
        if mode == CLOSED:
            value, before = balance, self.balance
        elif mode == INTRADAY:
            value, before = best, self.equity
        else:
            return
        if self._several and not value <= before:
            value = before
        if value > self.mark:
            self.mark = value
            self._set_levels()

    def _set_levels(self) -> None:
        """Compute the floors, and the equity at which the nearest of those that count trips."""
        rule = self.rule
        if rule.amount != math.inf:
            amount = in_currency(rule.amount, self.initial)
            level = self.mark - amount
            if rule.lock is not None:
                level = min(level, self.initial + in_currency(rule.lock, self.initial))
            first = self.initial - amount
            self.floor = first if rule.mode == STATIC else max(first, level)
        if rule.daily != math.inf:
            self.daily = self.reference - self._daily_amount()
        counts = max(self.floor, self.daily) if self.status == ARMED else self.floor
        rounding = RATIO_EPS * abs(self.initial)
        self._trips_at = -math.inf if self.cause == FLOOR else counts + rounding

    def _daily_amount(self) -> float:
        base = self.initial if self.rule.daily_base == INITIAL else self.reference
        return in_currency(self.rule.daily, base)

    def _touch(self) -> bool:
        """Count a sample at or below a floor; return whether that trips."""
        self.breaches += 1
        if self.breaches < self.rule.confirmations:
            return False
        of_day = self.status == ARMED and self.daily > self.floor  # it was touched first
        self.cause = DAILY if of_day else FLOOR
        if self.status != LOCKED:
            self.status = TRIPPED
        self.breaches, self.tripped_on, self.trips = 0, self.day, self.trips + 1
        self._set_levels()
        return True

    def after_flat(self) -> None:
        """Go on once nothing is left to be closed: locked, or paused until the next day."""
        if self.status != TRIPPED:
            return
        if self.cause == FLOOR or self.rule.on_daily == HALT:
            self.status = LOCKED
        elif self.day == self.tripped_on:
            self.status = PAUSED
        else:  # the day has ended while positions were being closed
            self.status, self.cause = ARMED, ""
        self._set_levels()

    def reopen(self) -> None:
        """Wait again until everything is flat."""
        self.status = TRIPPED
        self._set_levels()

    def rearm(self) -> None:
        """Watch again: the day begins anew, and after a touched floor the account does, too.

        It begins with the last sample; before the first one nothing changes.
        """
        if math.isnan(self.initial):
            return
        if self.cause == FLOOR:
            self.initial = self.mark = self.balance
        self.reference = reference_value(self.balance, self.equity, self.rule.reference)
        self.status, self.cause, self.breaches = ARMED, "", 0
        self._set_levels()

    @property
    def needs_day(self) -> bool:
        """Return whether days count: without them one key for all samples does."""
        return self.rule.daily != math.inf or self.rule.mode == EOD

    @property
    def needs_balance(self) -> bool:
        """Return whether every sample needs the balance: a static floor needs that of the first."""
        return self.rule.mode == CLOSED or (self.needs_day and self.rule.reference != EQUITY)

    @property
    def allowances(self) -> tuple[float, float]:
        """Return what may be lost in all and within the day, in currency; infinite without it."""
        rule = self.rule
        amount = daily = math.inf
        if rule.amount != math.inf:
            amount = in_currency(rule.amount, self.initial)
        if rule.daily != math.inf:
            daily = self._daily_amount()
        return amount, daily

    def room(self, equity: float) -> float:
        """Return the distance to the nearest floor as a share of what that floor allows to lose.

        It is above 1 where that floor is farther away, infinite without a floor.

        Examples
        --------
        >>> state = FloorState(FloorRule(amount=0.1, daily=0.05))
        >>> _ = state.update(98_000.0, 98_000.0, day=1.0)
        >>> state.room(95_550.0)
        0.5
        """
        amount, daily = self.allowances
        shares = [math.inf]
        if amount != math.inf:
            shares.append((equity - self.floor) / amount)
        if daily != math.inf:
            shares.append((equity - self.daily) / daily)
        return min(shares)

    def persist(self) -> dict[str, Any]:
        """Return everything that must survive the process, as plain values."""
        return {name: getattr(self, name) for name in _SAVED}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from the values that `persist` returned."""
        for name in _SAVED:
            setattr(self, name, saved[name])
        if not math.isnan(self.initial):
            self._set_levels()
