"""The rules of a policy one by one: each alone, and each left out of the whole.

One table, `RULES`, lists the fields of `Policy` that are one rule, and their values while it is
off. A rule is off everywhere it acts: without ``notional`` neither the gate nor the sizer limits
the notional. Guards on signals are a rule of their own, so that a comparison tells what the signals
added, and so is `MarginAccount`: it tells what liquidation did. The other rules do not change:
without ``stop`` the gate still judges risk at the distance where the stop would be; without
``size`` the strategy's own sizer proposes.
"""

from dataclasses import replace
from typing import Any

from bt_risk.errors import check_choice
from bt_risk.limits.margin_account import MarginAccount
from bt_risk.limits.signal_guards import SignalGuard
from bt_risk.limits.trade_guards import Guard
from bt_risk.policy import Policy

__all__ = [
    "BARE",
    "PROTECTED",
    "RULES",
    "active",
    "alone",
    "only_rule",
    "variants",
    "without",
]

BARE, PROTECTED = "bare", "protected"

RULES: dict[str, dict[str, Any]] = {
    "risk per trade": {"risk_limit": None},
    "size": {"sizer": False},
    "stop": {"trailing_stop": False},
    "notional": {"notional_limit": None},
    "one direction": {"exposure_limit": None},
    "gross": {"gross_limit": None},
    "net": {"net_limit": None},
    "one instrument": {"position_limit": None},
    "group": {"group_limit": None},
    "correlation": {"correlation_limit": None},
    "volatility": {"volatility_limit": None},
    "gap": {"gap_limit": None, "gap_floor": 0.0},
    "drawdown": {"drawdown_limit": None, "lifetime_limit": None, "taper_from": None},
    "guards": {"guards": ()},
    "margin": {"guards": ()},
    "signals": {"guards": ()},
}
# What the journal calls these rules; guards have names of their own.
JOURNAL_NAMES = {
    "risk per trade": "RiskPerTrade",
    "size": "HalfKellySizer",
    "stop": "ATRTrailingStop",
    "notional": "NotionalLimit",
    "one direction": "ExposureLimit",
    "gross": "GrossLimit",
    "net": "NetLimit",
    "one instrument": "PositionLimit",
    "group": "GroupLimit",
    "correlation": "CorrelationLimit",
    "volatility": "VolatilityLimit",
    "gap": "GapLimit",
    "drawdown": "DrawdownBreaker",
}
# Rules without which a policy always runs: the odds of a halt come from the one, and what the
# signals added is the other.
ALWAYS = ("drawdown", "signals")


def active(policy: Policy) -> list[str]:
    """Return the names of the rules that this policy has switched on."""
    return [rule for rule in RULES if without(policy, rule) != policy]


def only_rule(policy: Policy) -> str | None:
    """Return the name in the journal of the one rule that is on, None where several are, or none.

    Each guard counts as a rule.
    """
    names = {JOURNAL_NAMES.get(rule) for rule in active(policy) if RULES[rule] != {"guards": ()}}
    names |= {guard.name for guard in policy.guards}
    return names.pop() if len(names) == 1 else None


def without(policy: Policy, *rules: str) -> Policy:
    """Return the policy with these rules off and every other as it was."""
    changes: dict[str, Any] = {}
    for rule in rules:
        changes |= RULES[rule]
    kept = [guard for guard in policy.guards if _rule_of(guard) not in rules]
    if "guards" in changes:
        changes["guards"] = tuple(kept)
    if "risk per trade" in rules and policy.instruments:  # a data feed may have its own limit
        changes["instruments"] = {
            name: {fact: value for fact, value in facts.items() if fact != "risk_limit"}
            for name, facts in policy.instruments.items()
        }
    return replace(policy, **changes)


def _rule_of(guard: Guard) -> str:
    if isinstance(guard, MarginAccount):
        return "margin"
    return "signals" if isinstance(guard, SignalGuard) else "guards"


def alone(policy: Policy, rule: str) -> Policy:
    """Return the policy with this rule as it was and every other off."""
    return without(policy, *(other for other in RULES if other != rule))


def variants(policy: Policy, rules: str = "each") -> dict[str, Policy | None]:
    """Return the policies to run by label, None for the bare run.

    Parameters
    ----------
    policy : Policy
    rules : {"each", "leave-one-out", "all"}
        Every rule alone, every rule left out of the whole, or both.

    Returns
    -------
    dict of str to Policy
        ``bare`` and ``protected`` first. ``no drawdown`` is always among them, because the odds of
        a halt come from a run that the breaker has not ended, and so is ``no signals``.
    """
    check_choice("compare", "rules", rules, ("each", "leave-one-out", "all"))
    on = active(policy)
    made: dict[str, Policy | None] = {BARE: None, PROTECTED: policy}
    if rules != "leave-one-out":
        made |= {f"only {rule}": alone(policy, rule) for rule in on}
    left_out = on if rules != "each" else [rule for rule in on if rule in ALWAYS]
    return made | {f"no {rule}": without(policy, rule) for rule in left_out}
