"""Registry: the limits that are asked before an order opens anything, and the monitors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from bt_risk.known_engine import other_engine
from bt_risk.limits.account_floor import AccountFloor
from bt_risk.limits.base import Limit, RiskPerTrade
from bt_risk.limits.challenge import Consistency, MinimumTradingDays, ProfitTarget
from bt_risk.limits.exit_rules import BreakEven, ExitRule, TakeProfit
from bt_risk.limits.margin_account import MarginAccount
from bt_risk.limits.order_guards import RepeatedOrders
from bt_risk.limits.taper import Taper
from bt_risk.limits.trade_guards import Guard
from bt_risk.monitors.account_floor import FloorMonitor
from bt_risk.monitors.base import Monitor
from bt_risk.monitors.challenge import (
    ConsistencyMonitor,
    ProfitTargetMonitor,
    TradingDaysMonitor,
)
from bt_risk.monitors.exits import ExitMonitor
from bt_risk.monitors.guards import GuardMonitor
from bt_risk.monitors.margin import MarginMonitor
from bt_risk.monitors.repeats import RepeatMonitor
from bt_risk.monitors.rounds import Rounds
from bt_risk.monitors.take_profit import TakeProfitMonitor

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["Registry"]

# The monitors of the guards that have one of their own.
_MONITORS: dict[type[Limit], type[Monitor]] = {
    AccountFloor: FloorMonitor,
    Consistency: ConsistencyMonitor,
    MarginAccount: MarginMonitor,
    MinimumTradingDays: TradingDaysMonitor,
    ProfitTarget: ProfitTargetMonitor,
}

M = TypeVar("M", bound=Monitor)


class Registry:
    """The limits and monitors of one `RiskBroker`.

    `limits` and `monitors` are those of the run; `permanent` are the limits of every run, and
    `bind` names those of the next run alone. `budgets` says that one of `limits` is a risk budget,
    and `break_even` has the rules by which a stop moves to the entry. `rounds` calls the monitors
    where some of them may be left out; it is None where none may.
    """

    def __init__(self, gate: RiskBroker) -> None:
        self.gate = gate
        self.permanent: list[Limit] = []
        self._bound: list[Limit] = []
        self.limits: list[Limit] = []
        self.monitors: list[Monitor] = []
        self.budgets = False
        self.break_even: list[BreakEven] = []
        self.rounds: Rounds | None = None

    def bind(self, limits: Iterable[Limit]) -> None:
        """Ask these limits too, in the next run."""
        self._bound = list(limits)

    def clear(self) -> None:
        """Forget the limits and monitors of the last run."""
        self.limits, self.monitors, self.budgets = [], [], False
        self.break_even = []
        self.rounds = None

    def begin(self, instruments: dict[str, dict[str, Any]]) -> None:
        """Add the limits of this run; `instruments` are the facts by name."""
        for limit in self.permanent + self._bound:
            self.add_limit(limit)
        self._bound = []
        own_limits = any("risk_limit" in facts for facts in instruments.values())
        if own_limits and not self.budgets:
            self.limits.append(RiskPerTrade(None))
            self.budgets = True
            self.gate.venue.clamp_fills()

    def add_limit(self, limit: Limit) -> None:
        """Ask this limit before anything opens in this run."""
        if self.rounds is not None:
            self.rounds.wake_all()
        if isinstance(limit, RiskPerTrade):
            self.gate.book.risk_limit = min(self.gate.book.risk_limit, limit.limit)
            if limit.costs is not None:
                self.gate.book.costs = limit.costs
        if isinstance(limit, ExitRule):
            self._add_exit(limit)
        elif limit.active:
            self.limits.append(limit)
            self.budgets |= isinstance(limit, RiskPerTrade)
            limit.prepare(self.gate.book)
            monitor: Any = _MONITORS.get(type(limit))
            if monitor is not None:
                self.add_monitor(monitor(self.gate, limit))
                if getattr(limit, "taper_to_floor", None) is not None:
                    self.add_taper()
            elif isinstance(limit, Guard):
                self._guard_monitor().add(limit)
            if isinstance(limit, RepeatedOrders):
                self.add_monitor(RepeatMonitor(self.gate, limit))
            self.gate.venue.clamp_fills()

    def _add_exit(self, rule: ExitRule) -> None:
        """Carry out a rule that closes positions or moves their stop; no order is judged by it."""
        if isinstance(rule, TakeProfit) and rule.rests and self.gate.venue.rests_targets:
            self._add_target(rule)
        elif rule.active:
            monitor = self.monitor(ExitMonitor)
            if monitor is None:
                monitor = ExitMonitor(self.gate)
                self.add_monitor(monitor)
            monitor.add(rule)
            if isinstance(rule, BreakEven):
                self.break_even.append(rule)

    def _add_target(self, rule: TakeProfit) -> None:
        """Let a limit rest at the target of every position."""
        targets = self.monitor(TakeProfitMonitor)
        if targets is not None:
            targets.add(rule)
            return
        self.add_monitor(TakeProfitMonitor(self.gate, rule))
        self.gate.venue.pair_exits()

    def add_taper(self) -> None:
        """Scale orders that no risk budget limits by what tapering monitors leave."""
        if not any(isinstance(limit, Taper) for limit in self.limits):
            self.add_limit(Taper())

    def _guard_monitor(self) -> GuardMonitor:
        """Return the monitor that works for the guards, made on first use."""
        monitor = self.monitor(GuardMonitor)
        if monitor is None:
            monitor = GuardMonitor(self.gate)
            self.add_monitor(monitor)
        return monitor

    def add_monitor(self, monitor: Monitor) -> None:
        """Call its hooks on every bar and fill of this run."""
        self.monitors.append(monitor)
        if self.rounds is not None:
            self.rounds.wake_all()
        elif monitor.sleeps and not other_engine() and self.gate.venue.plain_account():
            self.rounds = Rounds(self.gate)
        self.gate.venue.clamp_fills()

    def monitor(self, kind: type[M]) -> M | None:
        """Return the monitor of this class, or None."""
        return next((one for one in self.monitors if isinstance(one, kind)), None)
