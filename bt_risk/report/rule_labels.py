"""What the rules decided, in words and in the order of the rules."""

from itertools import product

__all__ = ["ACTIONS", "RULES", "decided", "in_order"]

RULES = {
    "RiskPerTrade": "rule 1, risk per trade",
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
    "OrderRateLimit": "guard, order rate",
    "MinimumEdgeGuard": "guard, edge",
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
    "flat": "flat after a halt",
    "rearm": "trading again",
    "reduce": "entries refused",
    "resume": "resumed",
    "open": "left open",
    "starved": "starved",
    "unprotected": "no stop taken",
}


def decided(decisions):
    """Return how often each rule decided what, in words, in the order of the rules.

    Parameters
    ----------
    decisions : DataFrame
        The journal: `bt_risk.RiskJournal.frame`.

    Returns
    -------
    dict of str to int
    """
    counts = decisions.groupby(["rule", "action"]).size()
    words = {_words(*key): int(counts[key]) for key in counts.index if key[1] in ACTIONS}
    return {name: words[name] for name in in_order(words)}


def in_order(names):
    """Sort decisions in words by rule; what no rule touched comes last."""
    return sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))


def _words(rule, action):
    return f"{RULES.get(rule, rule)}: {ACTIONS[action]}" if rule else ACTIONS[action]


_ORDER = {_words(*key): place for place, key in enumerate(product(RULES, ACTIONS))}
