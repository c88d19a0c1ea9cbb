"""The rules that a challenge is judged by: those of the firm, and what a policy ends a run with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bt_risk.errors import ParameterError
from bt_risk.limits.account_floor import AccountFloor
from bt_risk.limits.challenge import PAUSE, REPORT, Consistency, MinimumTradingDays, ProfitTarget
from bt_risk.limits.day_guards import DailyLossLimit
from bt_risk.limits.guard_config import guard_from
from bt_risk.limits.trade_guards import Guard
from bt_risk.monitors.settings import BreakerSettings
from bt_risk.parameters import read_toml
from bt_risk.policy import Policy
from bt_risk.rules.account_floor import FloorState
from bt_risk.rules.trading_day import SESSION

__all__ = ["ChallengeRules", "OwnRules", "own_rules", "rules_of"]

KINDS = (AccountFloor, DailyLossLimit, ProfitTarget, MinimumTradingDays, Consistency)
_NAMES = ", ".join(kind.__name__ for kind in KINDS)


@dataclass(frozen=True)
class ChallengeRules:
    """The rules of a firm, by what they do.

    Attributes
    ----------
    floors : tuple of AccountFloor
    losses : tuple of DailyLossLimit
    target : ProfitTarget or None
    minimum : int
        Days on which a position has to be opened.
    consistency : Consistency or None
    reset : str
        When a day begins, for all of them.
    guards : tuple of Guard
        All of them, as they were given.
    """

    floors: tuple[AccountFloor, ...]
    losses: tuple[DailyLossLimit, ...]
    target: ProfitTarget | None
    minimum: int
    consistency: Consistency | None
    reset: str
    guards: tuple[Guard, ...]


@dataclass(frozen=True)
class OwnRules:
    """What of a policy ends a run, or a part of it, and so is judged on every path anew.

    Attributes
    ----------
    run : Policy
        The policy without them: the days of its run have no such end.
    floors : tuple of AccountFloor
    target : ProfitTarget or None
        One that trades no more once it is reached.
    breaker : BreakerSettings or None
    """

    run: Policy
    floors: tuple[AccountFloor, ...] = ()
    target: ProfitTarget | None = None
    breaker: BreakerSettings | None = None


def rules_of(component: str, rules: Any) -> ChallengeRules:
    """Return the rules of a list of guards, or of a TOML file with a table for each.

    Raises
    ------
    ParameterError
        If one of them is no rule of a challenge, if there are several targets, or days begin at
        different times.
    """
    if isinstance(rules, (str, Path)):
        rules = _from_toml(component, Path(rules))
    if not isinstance(rules, Sequence) or not all(isinstance(one, KINDS) for one in rules):
        constraint = f"a list of {_NAMES}, or the path of a TOML file with [[guards]]"
        raise ParameterError(component, "rules", constraint, rules)
    active = [one for one in rules if one.active]
    if not active:
        remedy = "A challenge without a rule is always passed."
        raise ParameterError(component, "rules", "at least one that is switched on", rules, remedy)
    for one in active:
        _check(component, one)
    days = _one(component, active, MinimumTradingDays)
    return ChallengeRules(
        floors=tuple(one for one in active if isinstance(one, AccountFloor)),
        losses=tuple(one for one in active if isinstance(one, DailyLossLimit)),
        target=_one(component, active, ProfitTarget),
        minimum=0 if days is None else days.days,
        consistency=_one(component, active, Consistency),
        reset=_reset(component, active),
        guards=tuple(active),
    )


def own_rules(component: str, policy: Policy, rules: ChallengeRules) -> OwnRules:
    """Return what of a policy is judged on every path, and the policy that runs without it."""
    apart = [one for one in policy.guards if isinstance(one, (AccountFloor, ProfitTarget))]
    ends = [one for one in apart if one.active and getattr(one, "action", "") != REPORT]
    for one in ends:
        _check_values(f"{component}: policy: {one.name}", one)
    floors = tuple(one for one in ends if isinstance(one, AccountFloor))
    resets = {one.reset for one in floors if _needs_day(one)} - {rules.reset}
    if resets:
        remedy = "Days are drawn whole: let both have the same reset."
        constraint = f"{rules.reset!r}, as in the rules"
        raise ParameterError(
            f"{component}: policy: AccountFloor", "reset", constraint, resets.pop(), remedy
        )
    run = replace(
        policy,
        drawdown_limit=None,
        lifetime_limit=None,
        taper_from=None,
        guards=tuple(one for one in policy.guards if one not in apart),
    )
    return OwnRules(run, floors, _one(component, ends, ProfitTarget), _breaker(component, policy))


def _breaker(component: str, policy: Policy) -> BreakerSettings | None:
    """Return the settings of the breaker, None without one."""
    settings = BreakerSettings(**policy.params(BreakerSettings))
    if math.isinf(min(settings.rule.drawdown_limit, settings.rule.lifetime_limit)):
        return None
    if not settings.flatten:
        remedy = "What happens to positions that stay open is on no drawn path."
        raise ParameterError(f"{component}: policy", "flatten", "True", False, remedy)
    _check_values(f"{component}: policy", settings)
    return settings


def _from_toml(component: str, path: Path) -> list[Guard]:
    missing = ParameterError(component, "rules", "an existing file", str(path))
    values = read_toml(path, ["guards"], missing, "One table for each rule: [[guards]].")
    tables = values.get("guards", [])
    if not isinstance(tables, list):
        raise ParameterError(str(path), "guards", "a list of tables, [[guards]]", tables)
    return [guard_from(str(path), table) for table in tables]


def _check(component: str, guard: Guard) -> None:
    """Raise for a parameter that says nothing where whole days are drawn."""
    name = f"{component}: {guard.name}"
    if isinstance(guard, DailyLossLimit) and (guard.scope != "all" or guard.side_aware):
        remedy = "A firm looks at the whole account."
        raise ParameterError(name, "scope", "'all', without side_aware", guard.scope, remedy)
    if isinstance(guard, Consistency) and guard.action == PAUSE:
        remedy = "Give it to the policy to end such days, and report it in the rules."
        raise ParameterError(name, "action", "'report'", guard.action, remedy)
    if isinstance(guard, AccountFloor) and guard.taper_to_floor is not None:
        remedy = "It scales your own risk: give that floor to the policy."
        raise ParameterError(name, "taper_to_floor", "None", guard.taper_to_floor, remedy)
    _check_values(name, guard)


def _check_values(name: str, settings: Any) -> None:
    """Raise where several values in a row have to agree: a drawn day has one of each kind."""
    count = getattr(settings, "confirmations", 1)
    if count > 1:
        remedy = "A drawn day has one worst value, and no two in a row."
        raise ParameterError(name, "confirmations", "1", count, remedy)


def _one(component: str, guards: Sequence[Guard], kind: type[Any]) -> Any:
    """Return the guard of this class, None without one."""
    found = [one for one in guards if isinstance(one, kind)]
    if len(found) > 1:
        constraint = f"a list with one {kind.__name__} at most"
        raise ParameterError(component, "rules", constraint, f"{len(found)} of them")
    return found[0] if found else None


def _reset(component: str, guards: Sequence[Guard]) -> str:
    """Return when a day begins: for all rules at the same time, because days are drawn whole."""
    resets = sorted({str(one.reset) for one in guards if _needs_day(one)})  # type: ignore[attr-defined]
    if len(resets) > 1:
        constraint = "rules whose days begin at one time"
        remedy = "Give all of them the same reset: whole days are drawn."
        raise ParameterError(component, "rules", constraint, ", ".join(resets), remedy)
    return resets[0] if resets else SESSION


def _needs_day(guard: Guard) -> bool:
    if isinstance(guard, AccountFloor):
        return FloorState(guard.rule()).needs_day
    return isinstance(guard, (DailyLossLimit, MinimumTradingDays, Consistency))
