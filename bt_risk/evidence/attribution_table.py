"""The tables of an attribution, as text: for a page, a notebook and a terminal."""

import math

import pandas as pd

from bt_risk.evidence.attribution import Attribution
from bt_risk.evidence.number_format import format_money, format_number

__all__ = ["TOTAL", "attribution_columns", "attribution_note", "pair_rows"]

TOTAL = "together"


def attribution_columns(attribution: Attribution) -> dict[str, dict[str, str]]:
    """Return the columns of the table by name, each with a cell for every rule and the total."""
    frame = attribution.frame
    names = ["Shapley", f"{100 * attribution.confidence:g} % bounds", "left out", "alone"]
    names += ["max drawdown", *(["standard error"] if attribution.permutations else [])]
    columns: dict[str, dict[str, str]] = {name: {} for name in names}
    for rule, row in frame.iterrows():
        cells = [format_money(row["shapley"]), _bounds(row)]
        cells += [format_money(row["leave_one_out"]), format_money(row["alone"])]
        cells += [_points(row["drawdown"]), format_number(row["error"], "{:,.0f}")]
        for name, cell in zip(names, cells, strict=False):  # no error where all subsets ran
            columns[name][str(rule)] = cell
    total = dict.fromkeys(names, "") | {"Shapley": format_money(attribution.difference)}
    total["max drawdown"] = _points(frame["drawdown"].sum())
    for name, cell in total.items():
        columns[name][TOTAL] = cell
    return columns


def attribution_note(attribution: Attribution) -> str:
    """Return what the columns are, in one paragraph."""
    runs = f"{attribution.runs:,} runs"
    how = f"{attribution.permutations} random permutations ({runs})"
    how = how if attribution.permutations else f"all subsets of the rules ({runs})"
    return (
        "Currency of final equity. Shapley: the mean of what a rule adds, over all orders in which "
        f"the rules can be switched on, from {how}; the sum is the final equity of the protected "
        "run less that of the bare one. Bounds hold for all rules at once. Left out: protected "
        "less the run without the rule. Alone: the run with that rule only, less bare. Max "
        "drawdown: its Shapley value in percentage points at ends of days; below zero is shallower."
    )


def pair_rows(attribution: Attribution) -> list[tuple[str, str, bool]]:
    """Return every pair of rules that interacts, the largest first, and whether it is named."""
    pairs = attribution.pairs
    if pairs.empty:
        return []
    order = pairs["interaction"].abs().sort_values(ascending=False, kind="stable").index
    rows = ((" and ".join(pair), pairs.loc[pair]) for pair in order)
    return [
        (name, format_money(row["interaction"]), bool(row["named"]))
        for name, row in rows
        if abs(row["interaction"]) >= 0.5
    ]


def _bounds(row: pd.Series) -> str:
    if not math.isfinite(row["low"]):
        return "-"
    return f"{format_money(row['low'])} to {format_money(row['high'])}"


def _points(value: float) -> str:
    return format_number(100 * value, "{:+.1f}")
