"""The labels of rules and decisions on pages, in charts and in a terminal; rules are in order."""

from collections.abc import Iterable
from itertools import product

import pandas as pd

__all__ = [
    "ACTIONS",
    "COMPOUNDING",
    "DIFFERENCES",
    "KNOCK_ON",
    "RULES",
    "SIZER_SIZES",
    "count_decisions",
    "decisions_in_order",
    "rule_label",
    "rules_in_order",
]

# What two runs of one strategy differ by, beside what rules refused, cut or closed.
SIZER_SIZES, COMPOUNDING, KNOCK_ON = "sizes of the sizer", "compounding", "knock-on"
DIFFERENCES = (SIZER_SIZES, COMPOUNDING, KNOCK_ON)

RULES = {
    "RiskPerTrade": "rule 1, risk per trade",
    "GapLimit": "rule 1, gap",
    "HalfKellySizer": "rule 2, size",
    "NotionalLimit": "rule 2, position value",
    "ATRTrailingStop": "rule 2, stop",
    "ExposureLimit": "rule 3, one direction",
    "GrossLimit": "rule 3, long and short together",
    "NetLimit": "rule 3, long less short",
    "PositionLimit": "rule 3, one instrument",
    "GroupLimit": "rule 3, one group",
    "CorrelationLimit": "rule 4, correlation",
    "VolatilityLimit": "rule 4, volatility",
    "DrawdownBreaker": "rule 5, drawdown",
    "CooldownGuard": "guard, cool-down",
    "StopoutGuard": "guard, stop-outs",
    "LosingStreakGuard": "guard, losing streak",
    "DailyLossLimit": "guard, daily loss",
    "DailyProfitTarget": "guard, daily target",
    "ProfitLock": "guard, profit lock",
    "TradingHours": "guard, trading hours",
    "Blackout": "guard, blackout",
    "OrderRateLimit": "guard, order rate",
    "MinimumEdgeGuard": "guard, edge",
    "AccountFloor": "account floor",
    "MarginAccount": "margin",
    "ProfitTarget": "profit target",
    "MinimumTradingDays": "trading days",
    "Consistency": "consistency",
    "PriceCollar": "guard, price collar",
    "OrderSize": "guard, order size",
    "DuplicateOrder": "guard, duplicates",
    "RepeatedOrders": "guard, repetition",
    "Allow": "guard, allowed names",
    "Deny": "guard, denied names",
    "LongOnly": "guard, long only",
    "MaxPositions": "guard, positions",
    "SignalGate": "signal, direction",
    "ConvictionScale": "signal, conviction",
    "SignalData": "signal, no instrument",
    "TimeExit": "exit, time",
    "TakeProfit": "exit, profit",
    "BreakEven": "stop, break even",
    "RiskBroker": "kill switch",
    "cash": "cash at the fill",
    "execution": "another exit",
    "size": "size",
    "unknown": "unknown price",
}
ACTIONS = {
    "allow": "entry passed whole",
    "exit": "exit passed",
    "trim": "order cut",
    "reject": "order refused",
    "stop": "stopped out",
    "halt": "halt",
    "over": "over for this day or window",
    "close": "position closed",
    "flat": "flat after a halt",
    "rearm": "trading again",
    "reduce": "entries refused",
    "resume": "resumed",
    "open": "left open",
    "starved": "starved",
    "unprotected": "no stop taken",
    "bypass": "not judged",
    "silent": "no order since",
    "margin": "no margin ratio",
    "margin call": "margin call",
    "liquidation": "liquidated",
}


def rule_label(rule: str) -> str:
    """Return the label of a rule; its own name where there is none, as for `DIFFERENCES`."""
    return RULES.get(rule, rule)


def rules_in_order(rules: Iterable[str]) -> list[str]:
    """Return rules in the order of the policy, unknown ones after them, the differences last."""
    place = {rule: k for k, rule in enumerate(RULES)}
    last = {name: len(RULES) + 1 + k for k, name in enumerate(DIFFERENCES)}
    return sorted(rules, key=lambda rule: ((place | last).get(rule, len(RULES)), rule))


def count_decisions(decisions: pd.DataFrame) -> dict[str, int]:
    """Return how often each rule decided what, by label, in the order of the rules.

    Parameters
    ----------
    decisions : DataFrame
        The journal: `bt_risk.RiskJournal.frame`.

    Returns
    -------
    dict of str to int
    """
    counts = decisions.groupby(["rule", "action"]).size()
    labels = {_decision_label(*key): int(counts[key]) for key in counts.index if key[1] in ACTIONS}
    return {name: labels[name] for name in decisions_in_order(labels)}


def decisions_in_order(labels: Iterable[str]) -> list[str]:
    """Sort labels of decisions by rule; what no rule affected comes last."""
    return sorted(labels, key=lambda label: (_ORDER.get(label, len(_ORDER)), label))


def _decision_label(rule: str, action: str) -> str:
    return f"{rule_label(rule)}: {ACTIONS[action]}" if rule else ACTIONS[action]


_ORDER = {_decision_label(*key): place for place, key in enumerate(product(RULES, ACTIONS))}
