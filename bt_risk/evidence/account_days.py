"""The days of an account: its value at the end of each, and how low and high it was within."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import backtrader as bt
import numpy as np

from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence.runner import built, quiet
from bt_risk.evidence.variants import RULES, without
from bt_risk.gate.broker import RiskBroker
from bt_risk.monitors.account_monitor import AccountMonitor
from bt_risk.monitors.base import Quiet, Sample
from bt_risk.policy import Policy
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.portfolio.worst_equity import best_change, worst_change
from bt_risk.protection import protect

__all__ = [
    "BALANCE",
    "BALANCE_HIGH",
    "BARS",
    "CLOSES",
    "COLUMNS",
    "END",
    "AccountDays",
    "account_of_returns",
    "days_run",
]

# Columns of a day: equity and balance at its end, the highest balance, and twice five extremes, of
# the closes and of the bars: see `Extremes`.
END, BALANCE, BALANCE_HIGH = range(3)
COLUMNS = 13


@dataclass(frozen=True)
class Extremes:
    """Name the columns of the extremes of a day.

    `low` and `high` are those of the whole day. The others cut it where it is highest:
    `low_before` and `high_before` are of the bars before, `low_after` is of that bar and the rest.
    """

    low: int
    high: int
    low_before: int
    high_before: int
    low_after: int


CLOSES, BARS = Extremes(3, 4, 5, 6, 7), Extremes(8, 9, 10, 11, 12)
_NAME = "evidence_days"


@dataclass(frozen=True)
class AccountDays:
    """Keep the days of one run, oldest first.

    Attributes
    ----------
    keys : ndarray of shape (n_days,)
        Date number at which each day began.
    begin : ndarray of shape (n_days,)
        Equity at the end of the day before, in currency.
    ratios : ndarray of shape (n_days, COLUMNS)
        The columns of each day, as multiples of `begin`.
    opened : ndarray of shape (n_days,)
        Whether a position was opened.
    open_profit, trades, sizes : ndarray of shape (n_days, n_parts)
        What each open position had gained at the end of the day since its entry, in currency; the
        number of its trade, 0 while flat; and its signed units.
    bars : tuple of ndarray of shape (4, n_bars)
        Balance, equity, and the lowest and highest equity of each bar of a day, as multiples of
        `begin`.
    """

    keys: np.ndarray
    begin: np.ndarray
    ratios: np.ndarray
    opened: np.ndarray
    open_profit: np.ndarray
    trades: np.ndarray
    sizes: np.ndarray
    bars: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def returns(self) -> np.ndarray:
        """Return the simple return of each day; a ruined account has one of -1."""
        ends: np.ndarray = np.maximum(self.ratios[:, END], 0.0) - 1.0
        return ends

    @property
    def trade_days(self) -> float:
        """Return how many days a trade lasts in the mean, at least one."""
        held = self.trades > 0.0
        trades = sum(len(np.unique(part[part > 0.0])) for part in self.trades.T)
        return max(1.0, float(held.sum()) / trades) if trades else 1.0

    def scaled(self, leverage: float) -> AccountDays:
        """Return the days with `leverage` times the positions, at the same prices."""
        if leverage == 1.0:
            return self
        return replace(
            self,
            ratios=1.0 + leverage * (self.ratios - 1.0),
            open_profit=leverage * self.open_profit,
            bars=tuple(1.0 + leverage * (bars - 1.0) for bars in self.bars),
        )

    def part(self, first: int, end: int | None = None) -> AccountDays:
        """Return the days from the place `first` on, up to the one before `end`."""
        days = slice(first, end)
        return AccountDays(
            self.keys[days],
            self.begin[days],
            self.ratios[days],
            self.opened[days],
            self.open_profit[days],
            self.trades[days],
            self.sizes[days],
            self.bars[days],
        )

    def left_at(self, day: int, bar: int) -> list[float]:
        """Return the columns of a day that ended flat at the close of one of its bars."""
        columns = _columns(self.bars[day][:, : bar + 1])
        columns[BALANCE] = columns[BALANCE_HIGH] = columns[END]
        return columns


def _columns(bars: np.ndarray) -> list[float]:
    """Return the columns of a day from its bars: balance, equity, lowest and highest equity."""
    balance, equity, worst, best = bars
    found = [float(equity[-1]), float(balance[-1]), float(balance.max())]
    for lows, highs in ((equity, equity), (worst, best)):
        top = int(np.argmax(highs))
        before = float(lows[:top].min(initial=1.0)), float(highs[:top].max(initial=1.0))
        found += [float(lows.min()), float(highs[top]), *before, float(lows[top:].min())]
    return found


class DayRecorder(AccountMonitor):
    """Record an account as `bt_risk.AccountFloor` is shown it, bar by bar.

    Attributes
    ----------
    samples : list of tuple
        Day, balance, equity, and the lowest and highest equity of each bar.
    """

    name, sleeps = _NAME, False

    def __init__(self, gate: Any, reset: str) -> None:
        super().__init__(gate, reset, False)
        self.samples: list[tuple[float, ...]] = []
        self._opened: set[float] = set()
        self._fresh_trade = False
        self._numbers: dict[int, int] = {}
        # The open positions at the end of each day: number of the trade, profit, units.
        self._held: dict[float, dict[int, tuple[int, float, float]]] = {}

    def on_fill(self, part: OwnerPosition) -> None:
        """Note that a position was opened; the bar that it was filled in has the day."""
        if part.number != self._numbers.get(id(part), 0):
            self._numbers[id(part)] = part.number
            self._fresh_trade = True

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return None: it wants to see every bar."""
        return None

    def _judge(self, fresh: list[Instrument], day: float) -> None:
        equity, book = self.account.equity, self.gate.book
        worst = best = equity
        if fresh:
            worst += worst_change(book, fresh, not self.gate.venue.direct)
            best += best_change(book, fresh)
        self.samples.append((day, self.account.balance, equity, worst, best))
        if self._fresh_trade:
            self._opened.add(day)
            self._fresh_trade = False
        self._held[day] = {
            place: (part.number, _profit(part), part.size)
            for place, part in enumerate(book.parts.values())
            if part.size
        }

    def days(self, component: str) -> AccountDays:
        """Return the days of the run so far; the first begins with the first sample."""
        if not self.samples:
            raise DataError(f"{component}: the run had no bar with a known equity.")
        samples = np.array(self.samples)
        firsts = np.flatnonzero(np.diff(samples[:, 0], prepend=-math.inf))
        keys = samples[firsts, 0]
        ends = np.r_[firsts[1:], len(samples)] - 1
        begin = np.r_[samples[0, 2], samples[ends[:-1], 2]]
        alive = int(np.argmax(np.r_[begin, 0.0] <= 0.0))  # a ruined account has no days
        spans = [samples[a : b + 1, 1:].T for a, b in zip(firsts, ends, strict=True)][:alive]
        bars = tuple(span / value for span, value in zip(spans, begin, strict=False))
        places = 1 + max((max(one) for one in self._held.values() if one), default=0)
        held = np.zeros((3, alive, places))
        for day, key in enumerate(keys[:alive]):
            for place, values in self._held[key].items():
                held[:, day, place] = values
        return AccountDays(
            keys[:alive],
            begin[:alive],
            np.array([_columns(one) for one in bars]).reshape(-1, COLUMNS),
            np.array([key in self._opened for key in keys[:alive]]),
            held[1],
            held[0],
            held[2],
            bars,
        )


def _profit(part: OwnerPosition) -> float:
    """Return what an open position has gained since its entry, in currency, at the last close."""
    one = part.instrument
    return part.size * (one.price - part.price) * one.multiplier


class DayLog(QuietAnalyzer):
    """Record the days of the account of a gate."""

    params = dict(reset="session", component="challenge")

    def __init__(self) -> None:
        registry = RiskBroker.of(self.strategy).registry
        self._recorder: Any = registry.monitor(DayRecorder)
        if self._recorder is None:
            self._recorder = DayRecorder(registry.gate, self.p.reset)
            registry.add_monitor(self._recorder)
        self.days: AccountDays | None = None

    def stop(self) -> None:
        """Convert everything to plain values."""
        self.days = self._recorder.days(self.p.component)
        self._recorder = None


def days_run(
    component: str, build: Callable[[], bt.Cerebro], policy: Policy | None, reset: str
) -> AccountDays:
    """Return the days of the Cerebro that `build` returns, with a policy or bare where it is None.

    A bare run is observed by a gate without any limit, which changes nothing of it.
    """
    cerebro = built(build, component, mark=_NAME)
    if policy is None:
        protect(cerebro, without(Policy(), *RULES), "observe")
    else:
        protect(cerebro, policy)
    cerebro.addanalyzer(DayLog, reset=reset, component=component, _name=_NAME)
    with quiet():
        strategies = cerebro.run()
    if not strategies:
        raise ParameterError(component, "build", "a Cerebro with a strategy", cerebro)
    days: AccountDays = strategies[0].analyzers.getbyname(_NAME).days
    return days


def account_of_returns(days: Sequence[np.ndarray], cash: float) -> AccountDays:
    """Return the days of an account of which nothing but returns is known, bar by bar of each day.

    Its balance is its equity, and no bar was lower or higher than its close.
    """
    closes = [np.cumprod(np.maximum(1.0 + returns, 0.0)) for returns in days]
    growth = np.array([one[-1] for one in closes])
    begin = cash * np.r_[1.0, np.cumprod(growth)[:-1]]
    bars = tuple(np.tile(one, (4, 1)) for one in closes)
    nothing = np.zeros((len(days), 1))
    return AccountDays(
        keys=np.arange(len(days), dtype=float),
        begin=begin,
        ratios=np.array([_columns(one) for one in bars]),
        opened=np.zeros(len(days), dtype=bool),
        open_profit=nothing,
        trades=nothing,
        sizes=nothing,
        bars=bars,
    )
