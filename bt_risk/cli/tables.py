"""The tables in a terminal: figures, decisions and ledgers of the demo and of a comparison."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from bt_risk.demo.portfolios import Portfolio
from bt_risk.demo.runs import CASH, COMMISSION, PAGE, DemoRun
from bt_risk.demo.summary import leverage_summary, summary
from bt_risk.evidence.attribution import Attribution, outcome_said
from bt_risk.evidence.attribution_table import attribution_columns, attribution_note
from bt_risk.evidence.challenge import Challenge
from bt_risk.evidence.challenge_words import HEADINGS, challenge_cells
from bt_risk.evidence.comparison import Comparison
from bt_risk.evidence.cost_grid import COST_NOTE, cost_columns
from bt_risk.evidence.halt_odds import LEAST, halt_probability
from bt_risk.evidence.ledger_table import LEDGER_NOTE, TOTAL, ledger_columns
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.number_format import (
    format_interval,
    format_measure,
    format_money,
    format_number,
)
from bt_risk.evidence.shadow_book import ShadowBook, shadow_book
from bt_risk.evidence.sweep import Sweep
from bt_risk.evidence.sweep_words import best_cells
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.evidence.walk_forward import WalkForward
from bt_risk.evidence.walk_words import fold_columns
from bt_risk.report.labels import (
    count_decisions,
    decisions_in_order,
    rule_label,
    rules_in_order,
)
from bt_risk.report.pyfolio import bar_returns
from bt_risk.rules.loss_distribution import THRESHOLDS

__all__ = [
    "print_challenge",
    "print_comparison",
    "print_halt_odds",
    "print_ledgers",
    "print_legend",
    "print_leverage",
    "print_portfolio",
    "print_sweep",
    "print_walk",
    "shadow_books",
]

NONE = "-"
ODDS_SAMPLES = 200  # histories for the odds of a halt: fewer than usual, to save time
BRIEF = ["CAGR", "Sharpe", "Max drawdown", "Exposure", "Turnover", "Costs", "Trades", "deflated"]
LEGEND = {
    "bare": "the strategy alone, a fixed share of equity in each position, no stop.",
    "protected": "the same strategy after bt_risk.protect(cerebro): all five rules; the breaker "
    "ends the run at a drawdown of 10 %, and equity stays flat from there.",
    "cap 0.5": "protected, with correlation_limit=0.5 in place of 0.7.",
    "groups": "cap 0.5, and limits on groups: the two indices together, and the four stocks "
    "together, may lose 1.5 % of equity at their stops; the volatility of all positions may be "
    "10 % a year.",
    "pause": "protected, but the breaker closes everything, pauses for 60 bars and then allows "
    "entries again.",
    "rules": "pause, and rules that people trade under: commission is part of what a position may "
    "lose, its stop is active from the fill of the entry on, a gap like the worst of the window "
    "loses at most 3 % of equity, and a day that has lost 2 % inside a bar is closed.",
}
TOTALS = "Balances in currency; the total is the final equity less that of bare:"
LEVERAGE = {
    "bare": "the strategy on Backtrader's own broker with this leverage, which lends without end "
    "and liquidates nothing.",
    "isolated": "the same strategy with bt_risk.MarginAccount and no other rule: what falls to its "
    "maintenance margin is liquidated inside the bar, and a position loses its own margin at most.",
    "cross": "isolated, but the whole account secures each position.",
    "protected": "all five rules with a pause, and MarginAccount: stops lie inside liquidation.",
}
COSTS = (
    f"Each run starts with {CASH:,.0f}; each side of a trade costs {100 * COMMISSION:g} %. "
    "exposure is the mean value of all positions, as a share of equity, while the run lasted."
)


def print_legend(console: Console, labels: Iterable[str]) -> None:
    """Print what the columns of the tables mean."""
    for label, meaning in LEGEND.items():
        if label in labels:
            console.print(f"{label}: {meaning}")
    console.print(COSTS, end="\n\n")


def print_portfolio(
    console: Console, runs: Sequence[DemoRun], worth: Attribution | None = None
) -> None:
    """Print the results of one portfolio.

    Parameters
    ----------
    console : rich.console.Console
    runs : list of bt_risk.demo.DemoRun
        All runs of the portfolio, the bare one first.
    worth : Attribution, optional
        What each rule of the run with a pause is worth.
    """
    portfolio = runs[0].portfolio
    console.rule(portfolio.title, align="left", characters="-")
    console.print(_description(portfolio), end="\n\n")
    figures = {run.label: summary(run) for run in runs}
    for sentence in _outcomes(figures, worth):
        console.print(f"- {sentence}", markup=False)
    console.print()
    numbers = {label: _formatted(values) for label, values in figures.items()}
    _print_table(console, numbers, list(numbers["bare"]))
    if worth is not None:
        console.print(f"\nWhat each rule of {PAGE} is worth:\n")
        _print_table(console, attribution_columns(worth))
        console.print(f"\n{attribution_note(worth)}")
    decisions = {
        run.label: count_decisions(run.decisions)
        for run in runs
        if portfolio.runs[run.label] is not None
    }
    console.print("\nWhat each rule decided:\n")
    rows = decisions_in_order({name for column in decisions.values() for name in column})
    _print_table(console, decisions, rows)
    console.print(f"\n{LEDGER_NOTE} {TOTALS}\n")
    print_ledgers(console, shadow_books(runs))
    console.print()


def _outcomes(figures: Mapping[str, Mapping[str, Any]], worth: Attribution | None) -> list[str]:
    """Return what each run ends with in place of the bare one, and what its rules are worth."""
    said, bare = [], figures["bare"]
    for label, values in figures.items():
        if label != "bare":
            finals = values["final equity"], bare["final equity"]
            falls = values["max drawdown"], bare["max drawdown"]
            said.append(outcome_said(label, finals, falls))
        if label == PAGE and worth is not None:
            said += worth.sentences()
    return said


def print_leverage(console: Console, runs: Sequence[DemoRun]) -> None:
    """Print what leverage does without and with liquidation; the bare run comes first."""
    portfolio = runs[0].portfolio
    for label, meaning in LEVERAGE.items():
        console.print(f"{label}: {meaning}")
    costs = f"each side of a trade costs {100 * COMMISSION:g} %."
    console.print(f"Each run starts with {CASH:,.0f}; {costs}", end="\n\n")
    console.rule(portfolio.title, align="left", characters="-")
    notional = f"Each position of bare, isolated and cross is {portfolio.fraction:.3g} x equity."
    console.print(f"{portfolio.idea} {notional}", end="\n\n")
    numbers = {run.label: _formatted(leverage_summary(run)) for run in runs}
    _print_table(console, numbers)
    console.print()


def shadow_books(runs: Sequence[DemoRun]) -> dict[str, ShadowBook]:
    """Return the shadow book of each protected run of a portfolio by label."""
    bare, *others = runs
    books = {}
    for run in others:
        policy = run.portfolio.policy(run.label)
        if policy is not None:
            books[run.label] = shadow_book(bare.record, run.record, run.order_log, policy)
    return books


def print_halt_odds(console: Console, results: Iterable[Sequence[DemoRun]]) -> None:
    """Print the odds that the default policy's breaker halts each bare strategy within a year."""
    console.print("How likely the breaker is to halt the bare strategy, from its own returns:")
    for runs in results:
        returns = bar_returns(runs[0].record)
        few = len(runs[0].record.days) < LEAST
        odds = "too few days to say." if few else halt_probability(returns, samples=ODDS_SAMPLES)
        console.print(f"- {runs[0].portfolio.title}: {odds}")
    console.print()


def print_ledgers(console: Console, books: Mapping[str, ShadowBook]) -> None:
    """Print the balance of each rule, with a column for each shadow book by label."""
    columns = {label: book.by_rule()["balance"] for label, book in books.items()}
    names = {rule for column in columns.values() for rule in column.index}
    cells = {
        label: {rule_label(rule): format_money(value) for rule, value in column.items()}
        | {TOTAL: format_money(books[label].difference)}
        for label, column in columns.items()
    }
    _print_table(console, cells, [*map(rule_label, rules_in_order(names)), TOTAL])


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print a `bt_risk.evidence.Comparison`: odds, verdicts, figures, ledger."""
    console.print(f"{comparison.halt}\n")
    for verdict in comparison.verdicts():
        console.print(f"- {verdict}", markup=False)
    if comparison.attribution is not None and not comparison.attribution.frame.empty:
        console.print("\nWhat each rule is worth:\n")
        _print_table(console, attribution_columns(comparison.attribution))
        console.print(f"\n{attribution_note(comparison.attribution)}")
    bounds = f"{100 * comparison.confidence:g} % bounds"
    console.print(f"\nBare and protected, with {bounds}; at equal volatility the bare run has the")
    console.print("constant leverage that gives it the protected run's volatility:\n")
    kinds = {"bare": (BARE, "value"), "protected": (PROTECTED, "value")}
    kinds |= {"difference": (PROTECTED, "difference"), "equal vol.": (PROTECTED, "levelled")}
    columns = {name: _bounded(comparison.frame.loc[v], kind) for name, (v, kind) in kinds.items()}
    _print_table(console, columns, list(MEASURES))
    console.print("\nEvery variant; deflated is the probability that its Sharpe ratio is not luck")
    console.print(f"after {comparison.tries} tries:\n")
    variants = {v: _variant(comparison, v) for v in comparison.sharpe.index}
    rows = list(variants)
    _print_table(console, {name: {v: variants[v][name] for v in rows} for name in BRIEF}, rows)
    if comparison.costs is not None:
        console.print(f"\nBare and protected at other costs. {COST_NOTE}\n")
        _print_table(console, cost_columns(comparison.costs))
    if len(comparison.losses):
        console.print("\nTrades that lost more than they risked, and why the worst:\n")
        _print_table(console, _loss_columns(comparison), list(comparison.losses.index))
    console.print(f"\n{LEDGER_NOTE}\n")
    _print_table(console, ledger_columns(comparison.shadow))


def print_challenge(console: Console, challenge: Challenge) -> None:
    """Print a `bt_risk.evidence.Challenge`: the odds in words and as a table, and by risk."""
    for sentence in challenge.sentences():
        console.print(f"- {sentence}", markup=False)
    bounds = f"{100 * challenge.confidence:g} % bounds"
    console.print(f"\nHow the paths end, with {bounds}; less bare is in percentage points:\n")
    cells = challenge_cells(challenge)
    columns = {
        heading: {label: "\n".join(filter(None, of_one[name])) for label, of_one in cells.items()}
        for name, heading in HEADINGS.items()
    }
    _print_table(console, columns, list(cells))
    console.print("\nOdds by multiple of the protected sizes:\n")
    rows = [f"{multiple:g}" for multiple in challenge.by_risk.index]
    risk = [format_number(100 * one, "{:.2g} %") for one in challenge.by_risk["risk"]]
    passed = [f"{one:.0%}" for one in challenge.by_risk["passed"]]
    by_risk = {"risk per trade": risk, "passed": passed}
    by_row = {name: dict(zip(rows, texts, strict=True)) for name, texts in by_risk.items()}
    _print_table(console, by_row, rows)


def print_sweep(console: Console, sweep: Sweep) -> None:
    """Print a `bt_risk.evidence.Sweep`: what was found in words, and its ten best points."""
    for sentence in sweep.sentences():
        console.print(f"- {sentence}", markup=False)
    cells = best_cells(sweep, 10)
    if len(cells):
        console.print("\nThe best points:\n")
        cells.index = [str(place) for place in range(1, len(cells) + 1)]
        _print_table(console, cells.to_dict())


def print_walk(console: Console, walk: WalkForward) -> None:
    """Print a `bt_risk.evidence.WalkForward`: what came of it in words, and its folds."""
    for sentence in walk.sentences():
        console.print(f"- {sentence}", markup=False)
    console.print("\nThe folds, each with what its training has chosen:\n")
    _print_table(console, fold_columns(walk))


def _bounded(frame: pd.DataFrame, kind: str) -> dict[str, str]:
    """Return each measure with its bounds below it."""
    columns = [kind, f"{kind}_low", f"{kind}_high"]
    cells = {}
    for measure, value, low, high in frame[columns].itertuples(name=None):
        bounds, text = format_interval(measure, low, high), format_measure(measure, value)
        cells[measure] = f"{text}\n{bounds}" if bounds else text
    return cells


def _variant(comparison: Comparison, variant: str) -> dict[str, str]:
    figures = comparison.frame.loc[variant]["value"]
    cells = {name: format_measure(name, figures[name]) for name in BRIEF[:-1]}
    deflated = comparison.sharpe.loc[variant, "deflated"]
    return cells | {"deflated": format_measure("Sharpe", deflated)}


def _loss_columns(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Return the columns of the table of losses in R, each by variant."""
    columns: dict[str, dict[str, str]] = {}
    for variant, row in comparison.losses.iterrows():
        cells = {f"beyond {r:g} R": f"{row[f'Trades beyond {r:g} R']:.1%}" for r in THRESHOLDS}
        cells |= {"worst": f"{row['Worst trade, R']:.2f}", "why": row["cause"]}
        cells["full stop-out"] = format_number(row["Full stop-out, R"], "{:.2f}")
        for name, cell in cells.items():
            columns.setdefault(name, {})[str(variant)] = cell
    return columns


def _description(portfolio: Portfolio) -> str:
    bare = f"bare puts {100 * portfolio.fraction:g} % of equity into each position."
    alone = "No cap: one asset is correlated with nothing." if len(portfolio.frames) == 1 else ""
    sharpe = f"Sharpe: returns from close to close of a day, {portfolio.days_per_year} a year."
    return " ".join(filter(None, [portfolio.idea, bare, sharpe, alone]))


def _formatted(numbers: Mapping[str, Any]) -> dict[str, str]:
    return {name: _cell(name, value) for name, value in numbers.items()}


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if name == "first trade":
        return f"{value:%Y-%m-%d}"
    if name in ("CAGR", "max drawdown", "exposure", "beyond 1 R"):
        return f"{100 * value:.1f} %"
    return f"{value:.2f}" if name in ("Sharpe", "worst trade, R") else f"{value:,.0f}"


def _print_table(
    console: Console,
    columns: Mapping[str, Mapping[str, Any]],
    rows: Sequence[str] | None = None,
) -> None:
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
