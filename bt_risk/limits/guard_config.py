"""Guards as tables of a TOML file, and the check of a list of them."""

from dataclasses import fields

from bt_risk.errors import ParameterError, raised_as
from bt_risk.limits.clock_guards import DailyLossLimit, OrderRateLimit
from bt_risk.limits.trade_guards import (
    CooldownGuard,
    Guard,
    LosingStreakGuard,
    MinimumEdgeGuard,
    StopoutGuard,
)

__all__ = ["GUARDS", "check_guards", "guard_from", "guard_table"]

GUARDS = {
    kind.__name__: kind
    for kind in (
        CooldownGuard,
        StopoutGuard,
        LosingStreakGuard,
        DailyLossLimit,
        OrderRateLimit,
        MinimumEdgeGuard,
    )
}


def check_guards(component, guards):
    """Return the guards as a tuple, or raise ParameterError for what is none."""
    if not isinstance(guards, (list, tuple)) or not all(isinstance(g, Guard) for g in guards):
        constraint = "a list of guards, such as [bt_risk.DailyLossLimit(0.03)]"
        raise ParameterError(component, "guards", constraint, guards)
    return tuple(guards)


def guard_from(component, table):
    """Return the guard that a table of a TOML file describes: its class by name, its parameters."""
    kind = GUARDS.get(table.get("guard")) if isinstance(table, dict) else None
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


def guard_table(guard):
    """Return the table that `guard_from` makes the same guard of."""
    values = {one.name: getattr(guard, one.name) for one in fields(guard)}
    return {"guard": guard.name, **values}
