"""What the demo shows in a terminal: a table of numbers and one of decisions per portfolio."""

import math

from rich.table import Table

from bt_risk.demo.runs import CASH, COMMISSION
from bt_risk.demo.summary import summary
from bt_risk.evidence.halt_odds import LEAST, halt_probability
from bt_risk.evidence.labels import (
    rule_name,
    rules_in_order,
    said,
    shown,
    shown_interval,
    signed,
)
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.shadow_book import shadow_book
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.report.pyfolio import daily_returns
from bt_risk.report.rule_labels import decided, in_order

__all__ = [
    "shadow_books",
    "show",
    "show_comparison",
    "show_effects",
    "show_legend",
    "show_odds",
]

NONE = "-"
TOGETHER = "together"
ODDS = 200  # histories for the odds of a halt: a quick look
BRIEF = ["CAGR", "Sharpe", "Max drawdown", "Exposure", "Turnover", "Costs", "Trades", "deflated"]
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
EFFECTS = (
    "What each rule cost (-) and saved (+), in currency, from every order that was refused, cut or "
    "closed, followed on paper; together it is what the run ended with less or more than bare:"
)
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
    console.print(f"\n{EFFECTS}\n")
    show_effects(console, shadow_books(runs))
    console.print()


def shadow_books(runs):
    """Return the shadow book of each protected run of a portfolio by label."""
    bare, *others = runs
    return {
        run.label: shadow_book(bare.record, run.record, run.tape, run.portfolio.policy(run.label))
        for run in others
    }


def show_odds(console, results):
    """Say how likely a breaker of the default policy halts each strategy, as it is, in a year."""
    console.print("How likely the breaker is to halt the bare strategy, from its own returns:")
    for runs in results:
        returns = daily_returns(runs[0].record)
        few = len(returns) < LEAST
        odds = "too few days to say." if few else halt_probability(returns, samples=ODDS)
        console.print(f"- {runs[0].portfolio.title}: {odds}")
    console.print()


def show_effects(console, books):
    """Print what each rule cost and saved, a column for each shadow book by label."""
    columns = {label: book.by_rule()["effect"] for label, book in books.items()}
    names = {rule for column in columns.values() for rule in column.index}
    shown = {
        label: {rule_name(rule): signed(value) for rule, value in column.items()}
        | {TOGETHER: signed(books[label].difference)}
        for label, column in columns.items()
    }
    _print_table(console, shown, [*map(rule_name, rules_in_order(names)), TOGETHER])


def show_comparison(console, comparison):
    """Print a `bt_risk.evidence.Comparison`: odds, verdicts, figures, and what each rule did."""
    console.print(f"{comparison.halt}\n")
    for variant in comparison.sharpe.index.drop(BARE):
        console.print(f"- {comparison.verdict(variant)}")
    bounds = f"{100 * comparison.confidence:g} % bounds"
    console.print(f"\nBare and protected, with {bounds}; at equal volatility bare is held at the")
    console.print("leverage that gives it the protected run's volatility:\n")
    kinds = {"bare": (BARE, "value"), "protected": (PROTECTED, "value")}
    kinds |= {"difference": (PROTECTED, "difference"), "equal vol.": (PROTECTED, "levelled")}
    columns = {name: _bounded(comparison.frame.loc[v], kind) for name, (v, kind) in kinds.items()}
    _print_table(console, columns, list(MEASURES))
    console.print("\nEvery variant; deflated is the probability that its Sharpe ratio is not luck")
    console.print(f"after {len(comparison.sharpe)} tries:\n")
    variants = {v: _variant(comparison, v) for v in comparison.sharpe.index}
    rows = list(variants)
    _print_table(console, {name: {v: variants[v][name] for v in rows} for name in BRIEF}, rows)
    console.print("\nWhat each rule cost (-) and saved (+), in currency and in R:\n")
    _print_table(console, _shadow_columns(comparison.shadow))


def _bounded(frame, kind):
    columns = [kind, f"{kind}_low", f"{kind}_high"]
    cells = {}
    for measure, value, low, high in frame[columns].itertuples(name=None):
        bounds = shown_interval(measure, low, high)
        cells[measure] = f"{shown(measure, value)}\n{bounds}" if bounds else shown(measure, value)
    return cells


def _variant(comparison, variant):
    figures = comparison.frame.loc[variant]["value"]
    cells = {name: shown(name, figures[name]) for name in BRIEF[:-1]}
    return cells | {"deflated": shown("Sharpe", comparison.sharpe.loc[variant, "deflated"])}


def _shadow_columns(book):
    rules = book.by_rule()
    columns = {"followed": {}, "saved": {}, "missed": {}, "effect": {}, "R": {}}
    for rule in rules_in_order(rules.index):
        row = rules.loc[rule]
        cells = f"{row['papers']:,.0f}", *(said(row[n], "{:,.0f}") for n in ("saved", "missed"))
        cells = *cells, signed(row["effect"]), said(row["effect_r"], "{:+,.1f}")
        for name, cell in zip(columns, cells, strict=True):
            columns[name][rule_name(rule)] = cell
    blank = dict.fromkeys(columns, "")
    for name, cell in (blank | {"effect": signed(book.difference)}).items():
        columns[name][TOGETHER] = cell
    return columns


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


def _print_table(console, columns, rows=None):
    """Print a table, in two halves where the terminal is too narrow for it."""
    rows = list(next(iter(columns.values()))) if rows is None else rows
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
