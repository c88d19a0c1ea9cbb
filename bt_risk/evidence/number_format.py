"""The number formats of a comparison, on the page and in a terminal."""

import math

from bt_risk.evidence.metrics import FRACTIONS

__all__ = ["format_interval", "format_measure", "format_money", "format_number"]


def format_number(value: float, form: str) -> str:
    """Return a number in this form, a dash where there is none; zero has no sign."""
    if not math.isfinite(value):
        return "-"
    text = form.format(value)
    return text if any(digit in text for digit in "123456789") else form.format(0.0).lstrip("+")


def format_money(value: float) -> str:
    """Return an amount of money with its sign."""
    return format_number(value, "{:+,.0f}")


def format_measure(measure: str, value: float) -> str:
    """Return a value of a measure as tables show it."""
    if measure == "Trades":
        return format_number(value, "{:,.0f}")
    if measure in FRACTIONS:
        return format_number(100 * value, "{:,.1f} %")
    return format_number(value, "{:,.2f}")


def format_interval(measure: str, low: float, high: float) -> str:
    """Return bounds as tables show them, nothing where there are none."""
    if not math.isfinite(low + high):
        return ""
    return f"{format_measure(measure, low)} to {format_measure(measure, high)}"
