"""Guards as tables of a TOML file, and the check of a list of guards."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from bt_risk.errors import ParameterError, raised_as
from bt_risk.limits.account_floor import AccountFloor
from bt_risk.limits.challenge import Consistency, MinimumTradingDays, ProfitTarget
from bt_risk.limits.clock_guards import OrderRateLimit
from bt_risk.limits.day_guards import DailyLossLimit, DailyProfitTarget, ProfitLock
from bt_risk.limits.exit_rules import BreakEven, TakeProfit, TimeExit
from bt_risk.limits.hours_guards import Blackout, TradingHours
from bt_risk.limits.margin_account import MarginAccount
from bt_risk.limits.name_guards import Allow, Deny, LongOnly, MaxPositions
from bt_risk.limits.order_guards import DuplicateOrder, OrderSize, PriceCollar, RepeatedOrders
from bt_risk.limits.signal_guards import ConvictionScale, SignalGate
from bt_risk.limits.trade_guards import (
    CooldownGuard,
    Guard,
    LosingStreakGuard,
    MinimumEdgeGuard,
    StopoutGuard,
)

__all__ = ["GUARDS", "check_guards", "guard_from", "guard_table"]

GUARDS: dict[str, type[Guard]] = {
    kind.__name__: kind
    for kind in (
        CooldownGuard,
        StopoutGuard,
        LosingStreakGuard,
        DailyLossLimit,
        DailyProfitTarget,
        ProfitLock,
        TradingHours,
        Blackout,
        OrderRateLimit,
        MinimumEdgeGuard,
        AccountFloor,
        ProfitTarget,
        MinimumTradingDays,
        Consistency,
        MarginAccount,
        PriceCollar,
        OrderSize,
        DuplicateOrder,
        RepeatedOrders,
        Allow,
        Deny,
        LongOnly,
        MaxPositions,
        TimeExit,
        TakeProfit,
        BreakEven,
        SignalGate,
        ConvictionScale,
    )
}


def check_guards(component: str, guards: Any) -> tuple[Guard, ...]:
    """Return the guards as a tuple, or raise ParameterError for an object that is no guard."""
    if not isinstance(guards, (list, tuple)) or not all(isinstance(g, Guard) for g in guards):
        constraint = "a list of guards, such as [bt_risk.DailyLossLimit(0.03)]"
        raise ParameterError(component, "guards", constraint, guards)
    return tuple(guards)


def guard_from(component: str, table: Any) -> Guard:
    """Return the guard of a table in a TOML file: the name of its class, and its parameters."""
    kind = GUARDS.get(table.get("guard", "")) if isinstance(table, dict) else None
    if kind is None:
        constraint = f"tables with guard = one of {', '.join(GUARDS)}"
        raise ParameterError(component, "guards", constraint, table)
    values = {key: value for key, value in table.items() if key != "guard"}
    known = [one.name for one in fields(kind)]
    for key in values:
        if key not in known:
            raise ParameterError(
                component, f"guards: {kind.__name__}", f"one of {', '.join(known)}", key
            )
    with raised_as(f"{component}: {kind.__name__}"):
        return kind(**values)


def guard_table(guard: Guard) -> dict[str, Any]:
    """Return the table from which `guard_from` makes the same guard; TOML has no None."""
    values = {one.name: getattr(guard, one.name) for one in fields(guard)}
    if not values.get("allow_extreme"):
        values.pop("allow_extreme", None)
    return {"guard": guard.name, **{key: v for key, v in values.items() if v is not None}}
