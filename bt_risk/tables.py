"""What the demo shows in a terminal: a table of numbers and one of decisions per portfolio."""

import math

from rich.table import Table

from bt_risk.demo import CASH, COMMISSION
from bt_risk.report.decisions import decided, in_order
from bt_risk.summary import summary

__all__ = ["show", "show_legend"]

NONE = "-"
LEGEND = {
    "bare": "the strategy alone, a fixed share of equity in each position, no stop.",
    "protected": "the same strategy after bt_risk.protect(cerebro): all five rules; the breaker "
    "ends the run at a drawdown of 10 %, and equity stays flat from there.",
    "cap 0.5": "protected, with correlation_limit=0.5 in place of 0.7.",
    "groups": "cap 0.5, and limits on what is held together: the two indices, and the four stocks, "
    "may lose 1.5 % of equity at their stops; all of it may move by 10 % a year.",
    "pause": "protected, but the breaker closes everything, pauses for 60 bars and goes on with "
    "what is left.",
}
COSTS = (
    f"Each run starts with {CASH:,.0f}; each side of a trade costs {100 * COMMISSION:g} %. "
    "exposure is the mean value of all positions in equity while the run lasted."
)


def show_legend(console, labels):
    """Say what the columns of the tables mean."""
    for label, meaning in LEGEND.items():
        if label in labels:
            console.print(f"{label}: {meaning}")
    console.print(COSTS, end="\n\n")


def show(console, runs):
    """Print what came of one portfolio.

    Parameters
    ----------
    console : rich.console.Console
    runs : list of bt_risk.demo.Run
        All runs of the portfolio, the bare one first.
    """
    portfolio = runs[0].portfolio
    console.rule(portfolio.title, align="left", characters="-")
    console.print(_notes(portfolio), end="\n\n")
    numbers = {run.label: _formatted(summary(run)) for run in runs}
    _print_table(console, numbers, list(numbers["bare"]))
    decisions = {
        run.label: decided(run.decisions) for run in runs if portfolio.runs[run.label] is not None
    }
    console.print("\nWhat each rule decided:\n")
    rows = in_order({name for column in decisions.values() for name in column})
    _print_table(console, decisions, rows)
    console.print()


def _notes(portfolio):
    bare = f"bare puts {100 * portfolio.fraction:g} % of equity into each position."
    alone = "No cap: one asset is correlated with nothing." if len(portfolio.frames) == 1 else ""
    sharpe = f"Sharpe: returns from close to close of a day, {portfolio.days_per_year} a year."
    return " ".join(filter(None, [portfolio.idea, bare, sharpe, alone]))


def _formatted(numbers):
    return {name: _cell(name, value) for name, value in numbers.items()}


def _cell(name, value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if name == "first trade":
        return f"{value:%Y-%m-%d}"
    if name in ("CAGR", "max drawdown", "exposure"):
        return f"{100 * value:.1f} %"
    return f"{value:.2f}" if name == "Sharpe" else f"{value:,.0f}"


def _print_table(console, columns, rows):
    """Print a table, in two halves where the terminal is too narrow for it."""
    table = Table(show_edge=False)
    table.add_column("", overflow="fold")
    for label in columns:
        table.add_column(label, justify="right", overflow="fold")
    for row in rows:
        table.add_row(row, *(str(column.get(row, 0)) for column in columns.values()))
    labels = list(columns)
    unlimited = console.options.update(width=10 * console.width)
    width = console.measure(table, options=unlimited).maximum
    if width <= console.width or len(labels) == 1:
        console.print(table)
        return
    half = len(labels) // 2
    _print_table(console, {label: columns[label] for label in labels[:half]}, rows)
    console.print()
    _print_table(console, {label: columns[label] for label in labels[half:]}, rows)
