"""Faults of a policy: limits that never bind, contradict each other, or are out of reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bt_risk.evidence.price_headroom import Asked
from bt_risk.limits.clock_guards import OrderRateLimit
from bt_risk.limits.day_guards import DailyLossLimit
from bt_risk.limits.margin_account import MarginAccount
from bt_risk.limits.name_guards import Allow, Deny, LongOnly
from bt_risk.limits.trade_guards import Guard
from bt_risk.parameters import ceiling
from bt_risk.policy import Policy

__all__ = [
    "CONTRADICTION",
    "NEVER_BINDS",
    "OUT_OF_REACH",
    "Finding",
    "findings_on_prices",
    "policy_findings",
]

NEVER_BINDS, CONTRADICTION, OUT_OF_REACH = "never binds", "contradiction", "out of reach"


@dataclass(frozen=True)
class Finding:
    """One fault of a policy: its kind, the parameter or rule, and why."""

    kind: str
    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.key}: {self.why}"


def policy_findings(policy: Policy) -> list[Finding]:
    """Return the faults that a policy has whatever the prices are."""
    return [*_never_binding(policy), *_sizes(policy), *_guards(policy), *_contradictions(policy)]


def _never_binding(policy: Policy) -> Iterator[Finding]:
    """Yield the limits on exposure that another limit reaches first."""
    unit, limits = policy.exposure_unit, {name: ceiling(getattr(policy, name)) for name in _LIMITS}
    one = "risk_limit" if unit == "risk" else "notional_limit"
    names = {"one": one, "side": "exposure_limit", "all": "gross_limit", "both": "exposure_limit"}
    values = {"one": limits[one], "side": limits["exposure_limit"], "all": limits["gross_limit"]}
    values["both"] = 2.0 * values["side"]
    for name, bounds in _BOUNDED.items():
        if not math.isfinite(limits[name]):
            continue
        for bound in bounds:
            first = names[bound]
            if first != name and limits[name] >= values[bound]:
                twice = "twice " if bound == "both" else ""
                why = f"{limits[name]:g} is not below {twice}{first} {limits[first]:g}"
                yield Finding(NEVER_BINDS, name, f"{why}, which cuts the order first")
                break
    if one in ("risk_limit", "notional_limit") and math.isfinite(limits[one]):
        for first in ("position_limit", "exposure_limit", "gross_limit"):
            if limits[first] < limits[one]:
                why = f"{limits[one]:g} is above {first} {limits[first]:g}, which cuts the order"
                yield Finding(NEVER_BINDS, one, f"{why} first")
                break
    if ceiling(policy.correlation_limit) == 1.0:
        yield Finding(NEVER_BINDS, "correlation_limit", "no correlation is above 1")


_LIMITS = (
    "risk_limit",
    "notional_limit",
    "exposure_limit",
    "gross_limit",
    "net_limit",
    "position_limit",
    "group_limit",
)
# What is never more than which others: one position, one side, both sides, everything.
_BOUNDED = {
    "position_limit": ("one", "side", "all"),
    "net_limit": ("side", "all"),
    "exposure_limit": ("all",),
    "group_limit": ("all", "both"),
    "gross_limit": ("both",),
}


def _sizes(policy: Policy) -> Iterator[Finding]:
    """Yield what the sizer proposes and rule 1 always cuts."""
    limit = ceiling(policy.risk_limit)
    for name in ("kelly_limit", "warmup_risk", "probe_risk") if policy.sizer else ():
        if getattr(policy, name) > limit:
            why = f"{getattr(policy, name):g} is above risk_limit {limit:g}, which cuts the order"
            yield Finding(NEVER_BINDS, name, why)


def _guards(policy: Policy) -> Iterator[Finding]:
    """Yield the guards that something else forestalls."""
    drawdown = ceiling(policy.drawdown_limit)
    for guard in policy.guards:
        if not guard.active:
            yield Finding(NEVER_BINDS, guard.name, "it is switched off")
        elif isinstance(guard, DailyLossLimit):
            if guard.unit == "fraction" and guard.daily_loss_limit >= drawdown:
                why = f"{guard.daily_loss_limit:g} is not below drawdown_limit {drawdown:g}"
                yield Finding(NEVER_BINDS, guard.name, f"{why}: the breaker trips first")
        elif isinstance(guard, MarginAccount):
            if guard.leverage > ceiling(policy.notional_limit):
                why = f"notional_limit {policy.notional_limit:g} is below its leverage"
                yield Finding(NEVER_BINDS, guard.name, f"{why}, {guard.leverage:g}")
        elif isinstance(guard, OrderRateLimit):
            longer = min(guard.minute_limit or math.inf, guard.day_limit or math.inf)
            if math.isfinite(guard.bar_limit or math.inf) and (guard.bar_limit or 0) > longer:
                why = f"bar_limit {guard.bar_limit} is above the limit of a minute or a day"
                yield Finding(NEVER_BINDS, guard.name, f"{why}, {longer:g}")


def _contradictions(policy: Policy) -> Iterator[Finding]:
    """Yield what cannot be meant together."""
    yield from _shut(policy.guards)
    grouped = {name for members in (policy.groups or {}).values() for name in members}
    if policy.groups and policy.group_limit is None:
        why = "without group_limit the groups limit nothing"
        yield Finding(CONTRADICTION, "groups", why)
    for name, facts in (policy.instruments or {}).items():
        own = facts.get("risk_limit", 0.0)
        total = ceiling(policy.exposure_limit if policy.exposure_unit == "risk" else None)
        if name in grouped and policy.exposure_unit == "risk":
            total = min(total, ceiling(policy.group_limit))
        if own > total:
            why = f"{own:g} of one instrument is above the limit of all, {total:g}"
            yield Finding(CONTRADICTION, f"instruments.{name}.risk_limit", why)


def _shut(guards: Sequence[Guard]) -> Iterator[Finding]:
    """Yield the guards that together let nothing open."""
    sides = {1, -1}
    names: set[str] | None = None
    for guard in guards:
        if isinstance(guard, LongOnly):
            sides &= {1}
        if isinstance(guard, Allow):
            sides &= {1, -1} if guard.side is None else {guard.side}
            names = set(guard.names) if names is None else names & set(guard.names)
    if not sides:
        yield Finding(CONTRADICTION, "guards", "neither long nor short entries are allowed")
    for side in sides if names is not None else ():
        denying = [g for g in guards if isinstance(g, Deny) and g.side in (None, side)]
        denied = {name for guard in denying for name in guard.names}
        if names is not None and names <= denied and len(sides) == 1 or not names:
            yield Finding(CONTRADICTION, "guards", "no name is both allowed and not denied")
            break


def findings_on_prices(
    policy: Policy, asked: Mapping[str, Sequence[Sequence[Asked]]], equity: float
) -> list[Finding]:
    """Return the faults that a policy has on prices, in an account that holds nothing.

    Parameters
    ----------
    policy : Policy
    asked : dict of str to list of list of Asked
        What would pass at some closes of each data feed, the last of them at the end.
    equity : float
    """
    found = [*_unknown_names(policy, list(asked))]
    for moments in asked.values():
        found += _out_of_reach(policy, moments[-1], equity)
    return [*found, *_outrun([moment for moments in asked.values() for moment in moments])]


def _unknown_names(policy: Policy, names: Sequence[str]) -> Iterator[Finding]:
    """Yield the names of the policy that no data feed has."""
    listed = {f"groups.{group}": list(of) for group, of in (policy.groups or {}).items()}
    listed["instruments"] = list(policy.instruments or {})
    for key, members in listed.items():
        missing = [name for name in members if name not in names]
        if missing:
            yield Finding(CONTRADICTION, key, f"no data feed is named {', '.join(missing)}")


def _out_of_reach(policy: Policy, last: Sequence[Asked], equity: float) -> Iterator[Finding]:
    """Yield the limits below what the smallest order of an instrument needs."""
    seen = set()
    for one in last:
        unit = "unit" if one.step == 1.0 else f"{one.step:g}"
        for answer in one.room.answers:
            if answer.size == 0.0 and answer.rule not in seen:
                seen.add(answer.rule)
                why = f"not one {unit} of {one.name} passes at {one.price:g}"
                yield Finding(OUT_OF_REACH, answer.rule, f"{why} ({answer.reason})")
    one = last[0]
    risk = one.step * one.distance * one.multiplier / equity
    for name in ("kelly_limit", "warmup_risk", "probe_risk") if policy.sizer else ():
        if 0.0 < getattr(policy, name) < risk:
            least = "unit" if one.step == 1.0 else f"{one.step:g}"
            why = f"one {least} of {one.name} risks {risk:.4f} of {equity:,.0f}: the sizer has no"
            yield Finding(OUT_OF_REACH, name, f"{why} size for {getattr(policy, name):g}")


def _outrun(asked: Sequence[Sequence[Asked]]) -> Iterator[Finding]:
    """Yield the limits of a single position that another one always reaches first."""
    rooms = [one.room for moment in asked for one in moment if len(one.room.answers) > 1]
    if len(asked) < _ENOUGH:
        return
    for rule, key in _SINGLE.items():
        answers = [[a.size for a in room.answers if a.rule == rule] for room in rooms]
        finite = [
            (size, room) for sizes, room in zip(answers, rooms, strict=True) for size in sizes
        ]
        if finite and all(math.isfinite(size) and size > room.size for size, room in finite):
            first = {room.rule for _, room in finite}
            why = f"at {len(asked)} closes of these prices {', '.join(sorted(first))} cut first"
            yield Finding(NEVER_BINDS, key, why)


# The rules of a single position, and the least number of closes at which one must never bind.
_SINGLE = {"RiskPerTrade": "risk_limit", "NotionalLimit": "notional_limit"}
_ENOUGH = 20
