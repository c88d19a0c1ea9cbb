"""The judge of a challenge: one path of days, by the state machines that the monitors run on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bt_risk.evidence.account_days import (
    BALANCE,
    BALANCE_HIGH,
    BARS,
    CLOSES,
    COLUMNS,
    END,
    AccountDays,
)
from bt_risk.evidence.challenge_rules import ChallengeRules, OwnRules
from bt_risk.limits.account_floor import AccountFloor
from bt_risk.limits.challenge import REPORT, ProfitTarget
from bt_risk.limits.day_guards import DailyLossLimit
from bt_risk.monitors.settings import BreakerSettings
from bt_risk.rules.account_floor import (
    CLOSED,
    DAILY,
    INTRADAY,
    PAUSE,
    FloorState,
)
from bt_risk.rules.challenge import DayProfits, is_consistent, target_level
from bt_risk.rules.day_result import base_level
from bt_risk.rules.drawdown import ARMED, LOCKED, TRIPPED, BreakerState, fall, step, taper
from bt_risk.tolerances import LIMIT_EPS, RATIO_EPS

__all__ = ["OUTCOMES", "Judge", "Outcome", "Verdict"]


class Outcome:
    """Name how a challenge ends, as places in `OUTCOMES`."""

    PASSED, FLOOR, DAILY, HALTED, INCOMPLETE, OPEN = range(6)


OUTCOMES = ("passed", "floor", "daily loss", "halted", "incomplete", "open")


class Verdict(NamedTuple):
    """Say how one path has ended.

    Attributes
    ----------
    outcome : int
        Place in `OUTCOMES`.
    day : int
        Number of the day on which it ended, from 1 on.
    ends : list of float
        Equity at the end of each day until then.
    """

    outcome: int
    day: int
    ends: list[float]


class Judge:
    """Judge paths of days of one account by the rules of a firm, and by what ends its own run.

    Parameters
    ----------
    rules : ChallengeRules
    account : AccountDays
        The days that paths are made of.
    start : float
        Equity at the begin of a challenge, in currency.
    own : OwnRules, optional
        What of the policy of the run has been left out of its days.
    """

    def __init__(
        self,
        rules: ChallengeRules,
        account: AccountDays,
        start: float,
        own: OwnRules | None = None,
    ) -> None:
        self.rules, self.account, self.start, self.own = rules, account, start, own
        # A floor that pauses cuts the day short, and the others judge what is left of it.
        self.floors = sorted(rules.floors, key=lambda floor: floor.on_daily != PAUSE)
        self.opened = account.opened.tolist()
        lengths = [bars.shape[1] for bars in account.bars]
        self.bars_a_day = float(np.median(lengths)) if lengths else 1.0

    def judge(self, rows: Sequence[list[float]], days: Sequence[int]) -> Verdict:
        """Return how a path ends.

        Parameters
        ----------
        rows : list of list of float
            The columns of each day (`bt_risk.evidence.account_days`), in currency, as if nothing
            had ended or interrupted the run.
        days : list of int
            The place of each day in the history.
        """
        path, ends = _Path(self), list[float]()
        for number, row in enumerate(rows):
            outcome = path.day(number, row, days[number])
            ends.append(path.equity)
            if outcome is not None:
                return Verdict(outcome, number + 1, ends)
        return Verdict(path.at_end(), len(rows), ends)


class _Path:
    """Follow one account day by day."""

    def __init__(self, judge: Judge) -> None:
        rules, own, start = judge.rules, judge.own, judge.start
        self.history, self.opened = judge.account, judge.opened
        self.equity = self.balance = start
        # Equity as a multiple of what it would be had nothing interrupted the run.
        self.factor = 1.0
        self.firm = [_Floor(guard, start) for guard in judge.floors]
        self.own = [_Floor(guard, start) for guard in own.floors] if own else []
        self.losses = [_DayLoss(guard) for guard in rules.losses]
        self.breaker: _Breaker | None = None
        if own is not None and own.breaker is not None:
            self.breaker = _Breaker(own.breaker, start, judge.bars_a_day)
        self.target = None if rules.target is None else _Target(rules.target, start)
        self.own_target: _Target | None = None
        if own is not None and own.target is not None:
            self.own_target = _Target(own.target, start)
        self.minimum, self.consistency = rules.minimum, rules.consistency
        self.profits: DayProfits | None = None
        if self.minimum or self.consistency:
            initial = self.consistency.initial_balance if self.consistency else None
            self.profits = DayProfits(initial)
            self.profits.update(start, -1.0)
        self._tapers = any(floor.guard.taper_to_floor is not None for floor in self.own)
        self._tapers |= self.breaker is not None and self.breaker.taper_from is not None

    def day(self, number: int, row: list[float], place: int) -> int | None:
        """Live through a day; return the outcome if it has ended the challenge."""
        begin, factor = self.equity, self.factor
        if factor != 1.0:
            row = [factor * value for value in row]
        planned, scale, opened = row[END], 1.0, self.opened[place]
        if self._tapers:
            scale = self._scale()
            row = [begin + scale * (value - begin) for value in row]
        whole, halted = row, False
        if self.breaker is not None or self.own or self.own_target is not None:
            row, halted, rests = self._own_rules(number, row, (place, begin, scale))
            opened = opened and not rests
        for floor in self.firm:
            if floor.touched(row, number):
                row = self._left(place, begin, scale, floor)
                if not floor.pauses:
                    self.equity = row[END]
                    return floor.outcome
        for loss in self.losses:
            if loss.touched(row, begin, self.balance):
                self.equity = row[END]
                return Outcome.DAILY
        stops = self.target is not None and self.target.reaches(row)
        if stops and self.target is not None:
            row = self.target.stopped(row)
        self._book(number, row, opened, planned, row is not whole)
        return self._outcome(halted, stops)

    def _own_rules(
        self, number: int, row: list[float], day: tuple[int, float, float]
    ) -> tuple[list[float], bool, bool]:
        """Apply what ends or interrupts the own run.

        Returns
        -------
        (row, halted, rests)
            What is left of the day, whether nothing is traded from now on, and whether nothing was
            traded on this day.
        """
        breaker, halted = self.breaker, False
        if breaker is not None and not breaker.armed:
            row = [self.equity] * COLUMNS
            breaker.rest(self.equity)
            return row, False, True
        if breaker is not None and breaker.touched(row):
            row = self._left(*day, breaker)
            halted = breaker.after_flat(row[END])
        for floor in self.own:
            if floor.touched(row, number):
                row = self._left(*day, floor)
                halted |= not floor.pauses
        if self.own_target is not None and self.own_target.reaches(row):
            row, halted = self.own_target.stopped(row), True
        return row, halted, False

    def _left(
        self, place: int, begin: float, scale: float, machine: _Floor | _Breaker
    ) -> list[float]:
        """Return a day that ends at the close of the bar in which a level was touched."""
        _, closes, worst, _ = self.history.bars[place]
        judged = worst if machine.at is BARS else closes
        level = 1.0 + (machine.level / begin - 1.0) / scale if begin > 0.0 < scale else math.inf
        touched = judged <= level + LIMIT_EPS
        bar = int(touched.argmax()) if touched.any() else len(judged) - 1
        if isinstance(machine, _Floor):
            machine.state.after_flat()
        columns = self.history.left_at(place, bar)
        return [begin * (1.0 + scale * (value - 1.0)) for value in columns]

    def _book(
        self, number: int, row: list[float], opened: bool, planned: float, changed: bool
    ) -> None:
        """Take the end of a day over into everything that goes on from it."""
        self.equity, self.balance = row[END], row[BALANCE]
        if self.equity != planned and planned > 0.0:
            self.factor *= self.equity / planned
        if changed:
            for floor in (*self.firm, *self.own):
                floor.state.skip(self.balance, self.equity)
        if self.profits is not None:
            self.profits.update(self.balance, number, opened)

    def _outcome(self, halted: bool, stops: bool) -> int | None:
        if self.target is not None and self.target.reached:
            if self._complete():
                return Outcome.PASSED
            if stops:
                return Outcome.INCOMPLETE
        return Outcome.HALTED if halted else None

    def at_end(self) -> int:
        """Return the outcome of a challenge that no day has ended."""
        if self.target is not None and not self.target.reached:
            return Outcome.OPEN
        return Outcome.PASSED if self._complete() else Outcome.INCOMPLETE

    def _complete(self) -> bool:
        """Return whether days enough were traded, and none of them was too good."""
        profits = self.profits
        if profits is None:
            return True
        if self.consistency is not None and profits.profit > 0.0:
            consistent = is_consistent(profits.share, self.consistency.best_day_limit)
        else:
            consistent = True
        return consistent and profits.days >= self.minimum

    def _scale(self) -> float:
        """Return the share of the risk that the room to the own floors leaves at the begin."""
        scale = 1.0 if self.breaker is None else self.breaker.scale(self.equity)
        for floor in self.own:
            share = floor.guard.taper_to_floor
            if share is not None:
                used = 1.0 - floor.state.room(self.equity)
                scale = min(scale, taper(used, 1.0 - share, 1.0))
        return scale


class _Floor:
    """Show an `AccountFloor` one day after the other."""

    __slots__ = ("at", "dead", "guard", "mode", "state")

    def __init__(self, guard: AccountFloor, start: float) -> None:
        rule = guard.rule()
        self.guard, self.state, self.mode = guard, FloorState(rule), rule.mode
        self.at = BARS if guard.trigger == "intrabar" else CLOSES
        # An account that was opened with more may be below its floor already.
        self.dead = self.state.update(start, start, -1.0)

    def touched(self, row: list[float], number: int) -> bool:
        """Advance by a day; return whether a floor was touched on it."""
        update, at, balance, end = self.state.update, self.at, row[BALANCE], row[END]
        if self.dead:
            return True
        if self.mode == INTRADAY:  # what was lost before the highest point was lost from less
            if update(balance, end, number, row[at.low_before], row[at.high_before]):
                return True
            return update(balance, end, number, row[at.low_after], row[at.high])
        if self.mode == CLOSED:
            high = row[at.high]
            if update(row[BALANCE_HIGH], high, number, high, high):
                return True
        return update(balance, end, number, row[at.low], row[at.high])

    @property
    def pauses(self) -> bool:
        """Return whether what it was touched by interrupts the run until the next day."""
        return self.state.cause == DAILY and self.guard.on_daily == PAUSE

    @property
    def level(self) -> float:
        """Return the equity that it was touched at."""
        return self.state.daily if self.state.cause == DAILY else self.state.floor

    @property
    def outcome(self) -> int:
        """Return what a touch means for the challenge."""
        return Outcome.DAILY if self.state.cause == DAILY else Outcome.FLOOR


class _DayLoss:
    """Show a `DailyLossLimit` the worst of a day."""

    __slots__ = ("guard", "low")

    def __init__(self, guard: DailyLossLimit) -> None:
        self.guard, self.low = guard, (BARS if guard.intrabar else CLOSES).low

    def touched(self, row: list[float], equity: float, balance: float) -> bool:
        """Return whether a day has lost too much, from what it began with."""
        guard = self.guard
        reference = base_level(guard.base, equity, equity - balance)
        gain = row[self.low] - reference
        if guard.unit == "fraction":
            gain = gain / reference if reference > 0.0 else -math.inf
        return guard.ends(gain, 0.0)


class _Target:
    """Show a `ProfitTarget` one day after the other."""

    __slots__ = ("action", "column", "level", "reached")

    def __init__(self, guard: ProfitTarget, start: float) -> None:
        initial = start if guard.initial_balance is None else guard.initial_balance
        self.level, self.action = target_level(guard.amount or 0.0, initial), guard.action
        self.column = BALANCE_HIGH if guard.of == "balance" else CLOSES.high
        self.reached = False

    def reaches(self, row: list[float]) -> bool:
        """Note whether a day has reached the target; return whether that ends all trading."""
        self.reached = self.reached or row[self.column] >= self.level
        return self.reached and self.action != REPORT

    def stopped(self, row: list[float]) -> list[float]:
        """Return a day on which everything was closed where the target was reached."""
        row = list(row)
        row[END] = row[BALANCE] = row[BALANCE_HIGH] = row[self.column]
        return row


class _Breaker:
    """Show the breaker of a policy one day after the other."""

    def __init__(self, settings: BreakerSettings, start: float, bars_a_day: float) -> None:
        rule, self.taper_from = settings.rule, settings.taper_from
        if rule.cooldown_bars is not None:  # a path has days
            rest = max(1, math.ceil(rule.cooldown_bars / bars_a_day))
            rule = replace(rule, cooldown_bars=rest)
        self.rule, self.state = rule, step(BreakerState(), start, rule)
        self.at = BARS if settings.trigger == "intrabar" else CLOSES
        self.level = math.nan
        one_mark = math.isinf(rule.lifetime_limit)
        self._trips_at = rule.drawdown_limit - RATIO_EPS if one_mark else -math.inf

    @property
    def armed(self) -> bool:
        """Return whether it watches."""
        return self.state.status == ARMED

    def touched(self, row: list[float]) -> bool:
        """Advance by a day; return whether the drawdown has reached a limit on it."""
        mark = self.state.high_water_mark
        if row[CLOSES.high] <= mark and fall(row[self.at.low], mark) < self._trips_at:
            return False
        at = self.at
        values = row[CLOSES.high_before], row[at.low_before], row[CLOSES.high], row[at.low_after]
        for value in (*values, row[END]):
            self.level = self._level()
            self.state = step(self.state, value, self.rule, new_bar=False)
            if self.state.status == TRIPPED:
                return True
        return False

    def _level(self) -> float:
        state, rule = self.state, self.rule
        levels = [state.high_water_mark * (1.0 - min(rule.drawdown_limit, 1.0))]
        levels.append(state.lifetime_mark * (1.0 - min(rule.lifetime_limit, 1.0)))
        return max(levels)

    def after_flat(self, equity: float) -> bool:
        """Go on once everything is closed; return whether it stays so."""
        self.state = step(self.state, equity, self.rule, flat=True, new_bar=False)
        return self.state.status == LOCKED

    def rest(self, equity: float) -> None:
        """Advance by a day on which nothing is held."""
        self.state = step(self.state, equity, self.rule)

    def scale(self, equity: float) -> float:
        """Return the share of the risk that the drawdown leaves."""
        if self.taper_from is None:
            return 1.0
        fallen = fall(equity, self.state.high_water_mark)
        return taper(fallen, self.taper_from, self.rule.drawdown_limit)
