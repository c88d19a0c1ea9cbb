"""Guards that end a trading day: at a loss, at a target, or when its profit is given back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_extreme,
    check_flag,
    check_fraction,
    check_limit,
    check_positive,
    check_whole,
)
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import ScopedGuard
from bt_risk.parameters import ceiling
from bt_risk.rules.day_result import BASES, DayResult, gave_back, lost, won
from bt_risk.rules.trading_day import SESSION, TradingDay, check_reset
from bt_risk.tolerances import LIMIT_EPS, RATIO_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.day_results import Key
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["DailyLossLimit", "DailyProfitTarget", "DayGuard", "ProfitLock"]

UNITS, TRIGGERS = ("fraction", "currency"), ("close", "intrabar")
_OF = {
    "equity": "equity",
    "balance": "the balance",
    "higher": "the higher of balance and equity",
}


@dataclass(frozen=True)
class DayGuard(ScopedGuard):
    """Refuse entries for the rest of a trading day; the base class of the guards of a day."""

    scope: str = field(default="all", kw_only=True)
    flatten: bool = field(default=False, kw_only=True)
    base: str = field(default="equity", kw_only=True)
    unit: str = field(default="fraction", kw_only=True)
    reset: str = field(default=SESSION, kw_only=True)
    allow_extreme: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag(self.name, "flatten", self.flatten)
        check_flag(self.name, "allow_extreme", self.allow_extreme)
        check_choice(self.name, "base", self.base, BASES)
        check_choice(self.name, "unit", self.unit, UNITS)
        if self.base != "equity" and (self.scope != "all" or self.side_aware):
            remedy = "A data feed or a side has no balance of its own."
            constraint = "'equity' with scope='data' or side_aware"
            raise ParameterError(self.name, "base", constraint, self.base, remedy)
        self._set(_day=check_reset(self.name, "reset", self.reset))

    def _check_extreme(self, param: str, value: float) -> None:
        """Raise a ParameterError for percent as a number; an amount of currency is none."""
        check_extreme(self.name, param, value, self.allow_extreme or self.unit != "fraction")

    # -- how a day is measured -------------------------------------------------------------------

    @property
    def intrabar(self) -> bool:
        """Return whether a bar is judged at its worst."""
        return False

    def quiet(self, best: float) -> tuple[float, float]:
        """Return two results between which none ends a day whose best one so far is `best`."""
        raise TypeError(f"{self.name} never ends a day")

    def clock(self, instrument: Instrument) -> TradingDay:
        """Return the trading days that count for orders on an instrument."""
        day: TradingDay | None = self._day  # type: ignore[attr-defined]  # set in __post_init__
        return instrument.day if day is None else day

    def key(self, instrument: Instrument, side: int) -> Key:
        """Return whose results count for orders on one side of an instrument."""
        index = None if self.scope == "all" else instrument.lead.index
        return index, side if self.side_aware else 0

    def ends(self, gain: float, best: float) -> bool:
        """Return whether a result ends the day."""
        raise TypeError(f"{self.name} never ends a day")

    def _slack(self, limit: float) -> float:
        return RATIO_EPS if self.unit == "fraction" else LIMIT_EPS * limit

    # -- what it refuses -------------------------------------------------------------------------

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        day = book.days.of(self, request.instrument, request.side)
        if day is None or not self.refuses(day):
            return Decision(request.size)
        return self.refusal(day)

    def refuses(self, day: DayResult) -> bool:
        """Return whether a day lets nothing open any more."""
        return day.over

    def refusal(self, day: DayResult) -> Decision:
        """Return the decision that refuses an entry on a day that is over."""
        raise TypeError(f"{self.name} refuses nothing")

    @property
    def notes(self) -> bool:
        """Return whether the journal has a line when a day is over, before any entry comes."""
        return True

    # -- words -----------------------------------------------------------------------------------

    def _amount(self, value: float) -> str:
        """Return a result in words, with its unit."""
        of = "" if self.unit == "currency" else f" of {_OF[self.base]}"
        return f"{self._number(value)}{of}"

    def _number(self, value: float) -> str:
        return f"{value:.4f}" if self.unit == "fraction" else f"{value:.2f}"

    def _share(self, value: float) -> str:
        """Return a limit in words: in percent, or an amount of currency."""
        if self.unit == "fraction":
            return f"{100 * value:g} % of {_OF[self.base]}"
        return f"{value:g} in currency, from {_OF[self.base]}"

    def _acts(self) -> str:
        return "closes positions, and no entry" if self.flatten else "no entry"

    def _day_in_words(self) -> str:
        return "" if self.reset == SESSION else f", a day from {self.reset}"


@dataclass(frozen=True)
class DailyLossLimit(DayGuard):
    """No new entry for the rest of a day on which the loss has reached a limit.

    Open losses count: the loss is measured at every close, from the last close of the day before.
    Once it has reached the limit there is no entry for the rest of the day, even if the account
    recovers. The loss of the account is the fall of the unit value, which deposits do not move;
    with ``scope="data"`` or `side_aware` it is the loss of those positions, net of commission, as a
    fraction of equity.

    Parameters
    ----------
    daily_loss_limit : float, default 0.03
        Fraction of the base, or an amount with ``unit="currency"``; a loss of exactly the limit
        trips the guard. None or infinity switches it off.
    cooldown_bars : int, default 0
        Bars of any data feed without an entry from the breach on, if the day ends sooner.
    trigger : {"close", "intrabar"}
        "intrabar" judges each bar at its worst for what is held: longs at the low, shorts at the
        high, all of them at once. In a live run two bars have to agree.
    flatten : bool, default False
        Close what is held, too, at the next open. In a live run two closes have to agree.
    base : {"equity", "balance", "higher"}
        The loss is measured from equity at the last close of the day before, from the balance,
        which leaves open profits and losses out, or from the higher of the two.
    unit : {"fraction", "currency"}
        Unit of `daily_loss_limit`.
    reset : str, default "session"
        Beginning of a day: a time and a zone, ``"00:00 Europe/Prague"``. "session" is the day of
        the order's data feed: its session where that runs over midnight (``sessionstart`` after
        ``sessionend``), else the calendar day in its time zone.
    scope : {"all", "data"}
        Whose losses count.
    side_aware : bool, default False
        Whether longs and shorts are measured, and refused, apart.
    allow_extreme : bool, default False
        Take a fraction of 0.5 and more, which is percent by mistake otherwise.
    """

    daily_loss_limit: float = 0.03
    cooldown_bars: int = 0
    trigger: str = field(default="close", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "trigger", self.trigger, TRIGGERS)
        fraction = self.unit == "fraction"
        limit = check_limit(self.name, "daily_loss_limit", self.daily_loss_limit, fraction=fraction)
        self._check_extreme("daily_loss_limit", limit)
        bars = check_whole(self.name, "cooldown_bars", self.cooldown_bars, low=0)
        self._set(daily_loss_limit=limit, cooldown_bars=bars)

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.daily_loss_limit)

    @property
    def intrabar(self) -> bool:
        """Return whether a bar is judged at its worst."""
        return self.trigger == "intrabar"

    def ends(self, gain: float, best: float) -> bool:
        """Return whether a result ends the day."""
        return lost(gain, self.daily_loss_limit, self._slack(self.daily_loss_limit))

    def quiet(self, best: float) -> tuple[float, float]:
        """Return two results between which none ends a day whose best one so far is `best`."""
        return self._slack(self.daily_loss_limit) - self.daily_loss_limit, math.inf

    def refuses(self, day: DayResult) -> bool:
        """Return whether a day lets nothing open any more."""
        return day.over or day.cools(self.cooldown_bars)

    def refusal(self, day: DayResult) -> Decision:
        """Return the decision that refuses an entry on a day that is over."""
        loss, limit = -day.measured, self.daily_loss_limit
        inside = ", inside a bar" if self.intrabar else ""
        reason = f"{self._amount(loss)} lost in a day{inside} >= daily_loss_limit"
        return self._refuse(f"{reason} {self._number(limit)}", loss, limit)

    @property
    def notes(self) -> bool:
        """Return whether the journal has a line when a day is over, before any entry comes."""
        return self.flatten or self.intrabar

    def describe(self) -> str:
        """Return the rule in words."""
        longer = f" (at least {self.cooldown_bars} bars)" if self.cooldown_bars else ""
        inside = ", each bar at its worst" if self.intrabar else ""
        return (
            f"daily loss: {self._acts()} for the rest of a day{longer} that lost "
            f"{self._share(self.daily_loss_limit)}, open losses included{inside}, "
            f"{self._scope_in_words()}{self._day_in_words()}"
        )


@dataclass(frozen=True)
class DailyProfitTarget(DayGuard):
    """No new entry for the rest of a day on which the profit has reached a target.

    Open profits count: the profit is measured at every close, from the last close of the day
    before.

    Parameters
    ----------
    profit_target : float, default 0.03
        Fraction of the base, or an amount with ``unit="currency"``; None or infinity switches it
        off.
    flatten, base, unit, reset, scope, side_aware, allow_extreme
        As for `DailyLossLimit`.
    """

    profit_target: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(profit_target=check_limit(self.name, "profit_target", self.profit_target))
        self._check_extreme("profit_target", self.profit_target)

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.profit_target)

    def ends(self, gain: float, best: float) -> bool:
        """Return whether a result ends the day."""
        return won(gain, self.profit_target, self._slack(self.profit_target))

    def quiet(self, best: float) -> tuple[float, float]:
        """Return two results between which none ends a day whose best one so far is `best`."""
        return -math.inf, self.profit_target - self._slack(self.profit_target)

    def refusal(self, day: DayResult) -> Decision:
        """Return the decision that refuses an entry on a day that is over."""
        target = self.profit_target
        reason = f"{self._amount(day.measured)} won in a day >= profit_target"
        return self._refuse(f"{reason} {self._number(target)}", day.measured, target)

    def describe(self) -> str:
        """Return the rule in words."""
        return (
            f"daily target: {self._acts()} for the rest of a day that won "
            f"{self._share(self.profit_target)}, open profits included, "
            f"{self._scope_in_words()}{self._day_in_words()}"
        )


@dataclass(frozen=True)
class ProfitLock(DayGuard):
    """No new entry for the rest of a day that has given back a share of its best profit.

    The best profit is that at a close of the day, measured from the last close of the day before,
    open profits included. It counts once it has reached `profit_from`.

    Parameters
    ----------
    give_back : float, default 0.5
        Share of the best profit of the day; None switches the guard off.
    profit_from : float, default 0.01
        Fraction of the base, or an amount with ``unit="currency"``, from which on a profit counts.
    trigger : {"close", "intrabar"}
        Whether the profit that is left is judged at the close, or each bar at its worst.
    flatten, base, unit, reset, scope, side_aware, allow_extreme
        As for `DailyLossLimit`.
    """

    give_back: float | None = 0.5
    profit_from: float = 0.01
    trigger: str = field(default="close", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "trigger", self.trigger, TRIGGERS)
        share = math.inf if self.give_back in (None, math.inf) else self.give_back
        if share != math.inf:
            check_fraction(self.name, "give_back", share)
        self._set(give_back=share)
        check_positive(self.name, "profit_from", self.profit_from)
        self._check_extreme("profit_from", self.profit_from)

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return self.give_back != math.inf

    @property
    def intrabar(self) -> bool:
        """Return whether a bar is judged at its worst."""
        return self.trigger == "intrabar"

    def ends(self, gain: float, best: float) -> bool:
        """Return whether a result ends the day."""
        slack = self._slack(self.profit_from)
        return gave_back(gain, best, ceiling(self.give_back), self.profit_from, slack)

    def quiet(self, best: float) -> tuple[float, float]:
        """Return two results between which none ends a day whose best one so far is `best`."""
        slack = self._slack(self.profit_from)
        if best < self.profit_from - slack:
            return -math.inf, self.profit_from - slack
        return best * (1.0 - ceiling(self.give_back)) + slack, best

    def refusal(self, day: DayResult) -> Decision:
        """Return the decision that refuses an entry on a day that is over."""
        share, limit = 1.0 - day.measured / day.best, ceiling(self.give_back)
        inside = ", inside a bar," if self.intrabar else ""
        reason = f"{share:.2f} of a day's profit of {self._amount(day.best)} given back{inside}"
        return self._refuse(f"{reason} >= give_back {limit:.2f}", share, limit)

    def describe(self) -> str:
        """Return the rule in words."""
        inside = ", each bar at its worst" if self.intrabar else ""
        return (
            f"profit lock: {self._acts()} for the rest of a day that gave back "
            f"{100 * ceiling(self.give_back):g} % of a profit of at least "
            f"{self._share(self.profit_from)}{inside}, "
            f"{self._scope_in_words()}{self._day_in_words()}"
        )
