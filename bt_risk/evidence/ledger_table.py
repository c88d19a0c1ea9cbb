"""The table of a shadow book, as text: for a page, a notebook and a terminal."""

import math

import pandas as pd

from bt_risk.evidence.number_format import format_money, format_number
from bt_risk.evidence.shadow_book import ShadowBook
from bt_risk.report.labels import rule_label, rules_in_order

__all__ = ["LEDGER_NOTE", "TOTAL", "ledger_cells", "ledger_columns"]

TOTAL = "total"
LEDGER_NOTE = (
    "The ledger of orders: every order that was refused, cut or closed is followed as a paper "
    "trade. The balance is what these trades would have lost, less what they would have made. It "
    "is no measure of what a rule is worth: with those orders filled, others would have followed."
)


def ledger_cells(row: pd.Series, knock_on: bool) -> dict[str, str]:
    """Return the cells of one row by column; `knock_on` tells whether the table has that column."""
    cells = {
        "paper trades": f"{row['paper_trades']:,.0f}" if row["paper_trades"] else "",
        "would have lost": _amount(row["lost"]),
        "would have made": _amount(row["made"]),
    }
    if knock_on:
        cells["knock-on"] = "" if math.isnan(row["knock_on"]) else format_money(row["knock_on"])
    cells["balance"] = format_money(row["balance"])
    cells["R"] = "" if math.isnan(row["balance_r"]) else f"{row['balance_r']:+,.1f}"
    return cells


def ledger_columns(book: ShadowBook) -> dict[str, dict[str, str]]:
    """Return the columns of the table, each by label of the rule, and the total."""
    rules = book.by_rule()
    knock_on = bool(rules["knock_on"].abs().ge(0.5).any())
    columns: dict[str, dict[str, str]] = {}
    for rule in rules_in_order(rules.index):
        for name, cell in ledger_cells(rules.loc[rule], knock_on).items():
            columns.setdefault(name, {})[rule_label(rule)] = cell
    for name, column in columns.items():
        column[TOTAL] = format_money(book.difference) if name == "balance" else ""
    return columns


def _amount(value: float) -> str:
    return "" if math.isnan(value) else format_number(value, "{:,.0f}")
