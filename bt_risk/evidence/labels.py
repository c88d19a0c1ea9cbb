"""What a comparison is called and how its numbers are written, on the page and in a terminal."""

import math

from bt_risk.evidence.metrics import FRACTIONS
from bt_risk.evidence.shadow_book import OTHER, SIZES
from bt_risk.report.rule_labels import RULES

__all__ = ["rule_name", "rules_in_order", "said", "shown", "shown_interval", "signed"]

OTHERS = {SIZES: "other sizes, same side", OTHER: "residual: other orders"}
_ORDER = [*RULES, SIZES, OTHER]


def rule_name(rule):
    """Return what a rule of the shadow book is called in tables."""
    return OTHERS.get(rule) or RULES.get(rule, rule)


def rules_in_order(rules):
    """Return rules of the shadow book in the order of the policy, the residual last."""
    place = {rule: k for k, rule in enumerate(_ORDER)}
    return sorted(rules, key=lambda rule: (place.get(rule, len(RULES) - 0.5), rule))


def said(value, form):
    """Return a number in words, a dash where there is none; nothing is -0."""
    if not math.isfinite(value):
        return "-"
    text = form.format(value)
    return text if any(digit in text for digit in "123456789") else form.format(0.0).lstrip("+")


def signed(value):
    """Return money with its sign."""
    return said(value, "{:+,.0f}")


def shown(measure, value):
    """Return a value of a measure as tables show it."""
    if measure == "Trades":
        return said(value, "{:,.0f}")
    return said(100 * value, "{:,.1f} %") if measure in FRACTIONS else said(value, "{:,.2f}")


def shown_interval(measure, low, high):
    """Return bounds as tables show them, nothing where there are none."""
    return f"{shown(measure, low)} to {shown(measure, high)}" if math.isfinite(low + high) else ""
