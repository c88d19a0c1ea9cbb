"""The page of a comparison: one self-contained HTML file in the style of the tear sheet."""

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bt_risk.evidence.attribution import Attribution
from bt_risk.evidence.attribution_table import (
    TOTAL,
    attribution_columns,
    attribution_note,
    pair_rows,
)
from bt_risk.evidence.cost_grid import COST_NOTE, CostGrid, cost_columns
from bt_risk.evidence.ledger_table import LEDGER_NOTE, ledger_cells
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.number_format import (
    format_interval,
    format_measure,
    format_money,
    format_number,
)
from bt_risk.evidence.shadow_book import ShadowBook
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.report.bar_chart import BarChart, bar_chart
from bt_risk.report.labels import rule_label, rules_in_order
from bt_risk.report.line_charts import BLUE, GREEN, GREY, ORANGE, RED, Chart, LineChart
from bt_risk.report.page import write_page
from bt_risk.report.pyfolio import daily_equity
from bt_risk.report.tables import policy_rows
from bt_risk.rules.drawdown import drawdown
from bt_risk.rules.loss_distribution import THRESHOLDS

if TYPE_CHECKING:
    from bt_risk.evidence.comparison import Comparison

__all__ = ["comparison_page"]

Cell = tuple[str, str]

COLORS = {BARE: GREY, PROTECTED: BLUE}  # these two are shown at first
OTHERS = (ORANGE, GREEN, RED, "#8b5cf6", "#0e9aa7", "#b5651d")


def comparison_page(comparison: "Comparison", path: Path, title: str) -> Path:
    """Write the page of a `bt_risk.evidence.Comparison`; return its path."""
    bare = comparison.records[BARE]
    context = {
        "title": title,
        "period": (bare.times[0], bare.times[-1]),
        "mode": f"{bare.strategy} with and without each rule",
        "comparison": comparison,
        "verdicts": comparison.verdicts(),
        "attribution": _attribution(comparison.attribution),
        "main": _main_table(comparison),
        "variants": list(comparison.sharpe.index),
        "values": _value_table(comparison),
        "sharpe": _sharpe_table(comparison),
        "costs": _costs(comparison.costs),
        "losses": _loss_table(comparison),
        "regimes": _regime_table(comparison),
        "trade_orders": _trade_order_table(comparison),
        "ledger_note": LEDGER_NOTE,
        "by_rule": _ledger(comparison.shadow.by_rule().reset_index()),
        "by_feed": _ledger(comparison.shadow.ledger),
        "equity": _equity_chart(comparison),
        "sharpe_chart": _sharpe_chart(comparison),
        "shadow_chart": _shadow_chart(comparison.shadow),
        "policy": policy_rows(comparison.policy),
    }
    return write_page(path, "comparison.html", context)


# -- tables ----------------------------------------------------------------------------------------


def _main_table(comparison: "Comparison") -> list[tuple[str, list[Cell]]]:
    """Return a row for each measure: bare, protected and their differences, with bounds."""
    rows = []
    for measure in MEASURES:
        cells = [_cell(comparison, BARE, measure, "value")]
        for kind in ("value", "difference", "levelled"):
            cells.append(_cell(comparison, PROTECTED, measure, kind))
        rows.append((measure, cells))
    return rows


def _cell(comparison: "Comparison", variant: str, measure: str, kind: str) -> Cell:
    """Return a figure and its bounds, as text."""
    row = comparison.frame.loc[(variant, measure)]
    bounds = format_interval(measure, row[f"{kind}_low"], row[f"{kind}_high"])
    return format_measure(measure, row[kind]), bounds


def _attribution(found: Attribution | None) -> dict[str, Any] | None:
    """Return what each rule is worth: chart, table, note and pairs."""
    if found is None or found.frame.empty:
        return None
    columns = attribution_columns(found)
    names = [*found.frame.index, TOTAL]
    rows = [(name, [column[name] for column in columns.values()]) for name in names]
    return {
        "chart": _attribution_chart(found),
        "columns": list(columns),
        "rows": rows,
        "note": attribution_note(found),
        "pairs": pair_rows(found),
    }


def _costs(found: CostGrid | None) -> dict[str, Any] | None:
    """Return both runs at other costs: sentences, table, note."""
    if found is None:
        return None
    columns = cost_columns(found)
    rows = [
        (name, [(column[name], column[name].startswith("-")) for column in columns.values()])
        for name in next(iter(columns.values()))
    ]
    said = found.sentences()
    return {"said": said, "columns": list(columns), "rows": rows, "note": COST_NOTE}


def _value_table(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    values = comparison.frame["value"]
    return [
        (name, [format_measure(name, values.loc[(v, name)]) for v in comparison.sharpe.index])
        for name in MEASURES
    ]


def _loss_table(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    """Return a row for each protected variant: its losses in R, and why the worst."""
    rows = []
    for variant, row in comparison.losses.iterrows():
        shares = [f"{row[f'Trades beyond {limit:g} R']:.1%}" for limit in THRESHOLDS]
        worst = f"{row['Worst trade, R']:.2f}"
        full = format_number(row["Full stop-out, R"], "{:.2f}")
        entry = format_number(row["Entry bar, R"], "{:.2f}")
        rows.append((str(variant), [*shares, worst, row["cause"], full, entry]))
    return rows


def _sharpe_table(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    rows = []
    for variant, row in comparison.sharpe.iterrows():
        ratio = comparison.frame.loc[(variant, "Sharpe")]
        evidence = "" if variant == BARE else "yes" if row["evidence"] else "none"
        cells = [
            format_measure("Sharpe", ratio["value"]),
            format_interval("Sharpe", ratio["value_low"], ratio["value_high"]),
            "" if variant == BARE else format_number(row["difference"], "{:+.2f}"),
            format_interval("Sharpe", row["low"], row["high"]),
            evidence,
            format_number(row["years"], "{:,.0f}"),
            format_number(row["probabilistic"], "{:.2f}"),
            format_number(row["deflated"], "{:.2f}"),
        ]
        rows.append((variant, cells))
    return rows


def _regime_table(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    """Return a row for each regime: its days, and bare and protected."""
    rows = []
    for regime, runs in comparison.regimes.groupby(level="regime", sort=False):
        both = [runs.xs(label, level="run").iloc[0] for label in (BARE, PROTECTED)]
        cells = [f"{both[0]['days']:,.0f}"]
        for name, measure in _REGIME_MEASURES.items():
            cells += [format_measure(measure, one[name]) for one in both]
        rows.append((str(regime), cells))
    return rows


_REGIME_MEASURES = {"return": "CAGR", "sharpe": "Sharpe", "worst_fall": "Max drawdown"}


def _trade_order_table(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    """Return a row for each run whose trades are enough to come in other sequences."""
    rows = []
    for label, found in comparison.trade_orders.items():
        if np.isfinite(found.median):
            falls = [format_measure("Max drawdown", value) for value in found[1:]]
            rows.append((label, [f"{found.trades:,}", *falls]))
    return rows


def _ledger(frame: pd.DataFrame) -> list[tuple[str, str | None, dict[str, str], bool]]:
    """Return label, data feed, cells by column, and whether the balance is a loss, by rule."""
    knock_on = bool(frame["knock_on"].abs().ge(0.5).any())
    place = {rule: k for k, rule in enumerate(rules_in_order(set(frame["rule"])))}
    ordered, rows = frame.iloc[frame["rule"].map(place).argsort(kind="stable")], []
    for _, row in ordered.iterrows():
        cells = ledger_cells(row, knock_on)
        rows.append((rule_label(row["rule"]), row.get("data"), cells, bool(row["balance"] <= -0.5)))
    return rows


# -- charts ----------------------------------------------------------------------------------------


def _equity_chart(comparison: "Comparison") -> Chart:
    equities = {label: daily_equity(record) for label, record in comparison.records.items()}
    days = reduce(pd.DatetimeIndex.union, (equity.index for equity in equities.values()))
    chart = LineChart(days)
    for pane, form in (("equity", "money"), ("drawdown", "percent")):
        chart.pane(pane, form, height=2 if pane == "equity" else 1, inverted=pane == "drawdown")
        for place, (label, equity) in enumerate(equities.items()):
            marks = np.r_[comparison.records[label].start[0], equity]
            values = equity if pane == "equity" else equity * 0.0 + drawdown(marks)[1:]
            chart.line(
                label,
                values.reindex(days, method="ffill"),
                COLORS.get(label) or OTHERS[place % len(OTHERS)],
                width=2 if label in COLORS else 1,
                hidden=label not in COLORS,
            )
    final = [equities[label].iloc[-1] for label in (BARE, PROTECTED)]
    return chart.chart(
        f"Bare ends with {final[0]:,.0f}, protected with {final[1]:,.0f}. Choose a name above the "
        "chart to show another variant."
    )


def _sharpe_chart(comparison: "Comparison") -> BarChart:
    frame = comparison.sharpe.drop(index=BARE)
    middle = frame["difference"].astype(float)
    known = frame["low"].notna() & np.isfinite(frame["high"])
    low, high = frame["low"].where(known, middle), frame["high"].where(known, middle)
    count = int(frame["evidence"].sum())
    caption = (
        "Annual Sharpe ratio less that of bare, with bounds of "
        f"{100 * comparison.confidence:g} % that hold for all variants at once. "
        + (f"{count} of them leave out zero." if count else "None of them leaves out zero.")
    )
    texts = [format_number(value, "{:+.2f}") for value in middle]
    kinds = ["" if evident else "open" for evident in frame["evidence"]]
    return bar_chart(list(frame.index), texts, (low, high, middle), kinds, caption)


def _attribution_chart(found: Attribution) -> BarChart:
    frame, middle = found.frame, found.frame["shapley"].astype(float)
    known = frame["low"].notna()
    low, high = frame["low"].where(known, middle), frame["high"].where(known, middle)
    caption = (
        f"What each rule is worth in final equity, with bounds of {100 * found.confidence:g} % "
        f"that hold for all rules at once. Together {format_money(found.difference)}: the final "
        "equity of the protected run less that of the bare one."
    )
    texts = [format_money(value) for value in middle]
    kinds = ["" if evident else "open" for evident in frame["evidence"]]
    return bar_chart(list(frame.index), texts, (low, high, middle), kinds, caption)


def _shadow_chart(shadow: ShadowBook) -> BarChart:
    rules = shadow.by_rule()
    rules = rules.loc[rules_in_order(rules.index)]
    balance = rules["balance"].astype(float)
    caption = (
        f"Balances, in currency. Together {format_money(shadow.difference)}: the final equity of "
        "the protected run less that of the bare one. Compounding and knock-on make up "
        f"{format_money(shadow.residual)} of it, which no rule can be charged with."
    )
    names = [rule_label(rule) for rule in rules.index]
    texts = [format_money(value) for value in balance]
    kinds = ["loss" if value < 0 else "" for value in balance]
    reach = balance.clip(upper=0), balance.clip(lower=0), balance
    return bar_chart(names, texts, reach, kinds, caption)
