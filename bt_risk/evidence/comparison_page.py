"""The page of a comparison: one self-contained HTML file in the style of the tear sheet."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.number_format import (
    format_interval,
    format_measure,
    format_money,
    format_number,
)
from bt_risk.evidence.shadow_book import ShadowBook
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.report.charts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Chart,
    blank_figure,
    draw_line,
)
from bt_risk.report.html import embedded_chart, policy_rows, write_page
from bt_risk.report.labels import rule_label, rules_in_order
from bt_risk.report.pyfolio import daily_equity
from bt_risk.rules.drawdown import drawdown

if TYPE_CHECKING:
    from bt_risk.evidence.compare import Comparison

__all__ = ["comparison_page"]

Cell = tuple[str, str]


def comparison_page(comparison: "Comparison", path: Path, title: str) -> Path:
    """Write the page of a `bt_risk.evidence.Comparison`; return its path."""
    bare, arrays = comparison.records[BARE], dict[str, Any]()
    charts = {
        "equity": _equity_chart(comparison),
        "sharpe": _sharpe_chart(comparison),
        "shadow": _shadow_chart(comparison.shadow),
    }
    context = {
        "title": title,
        "period": (bare.times[0], bare.times[-1]),
        "mode": f"{bare.strategy} with and without each rule",
        "comparison": comparison,
        "verdicts": comparison.verdicts(),
        "main": _main_table(comparison),
        "variants": list(comparison.sharpe.index),
        "values": _value_table(comparison),
        "sharpe": _sharpe_table(comparison),
        "by_rule": _effects(comparison.shadow.by_rule().reset_index()),
        "by_feed": _effects(comparison.shadow.effects),
        "charts": {name: embedded_chart(chart, arrays) for name, chart in charts.items()},
        "arrays": arrays,
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


def _value_table(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    values = comparison.frame["value"]
    return [
        (name, [format_measure(name, values.loc[(v, name)]) for v in comparison.sharpe.index])
        for name in MEASURES
    ]


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
            format_number(row["probabilistic"], "{:.2f}"),
            format_number(row["deflated"], "{:.2f}"),
        ]
        rows.append((variant, cells))
    return rows


def _effects(frame: pd.DataFrame) -> list[tuple[str, str | None, list[str], bool]]:
    """Return label, data feed, numbers as text, and whether the effect is a loss, by rule."""
    rows, order = [], rules_in_order(set(frame["rule"]))
    for row in sorted(frame.to_dict("records"), key=lambda row: order.index(row["rule"])):
        money = [format_number(row[name], "{:,.0f}") for name in ("saved", "missed")]
        numbers = [f"{row['paper_trades']:,}" if row["paper_trades"] else "", *money]
        numbers += [format_money(row["effect"]), format_number(row["effect_r"], "{:+,.1f}")]
        rows.append((rule_label(row["rule"]), row.get("data"), numbers, row["effect"] <= -0.5))
    return rows


# -- charts ----------------------------------------------------------------------------------------


def _equity_chart(comparison: "Comparison") -> Chart:
    figure = blank_figure(rows=2, row_heights=[0.62, 0.38])
    for label, record in comparison.records.items():
        color, width = {BARE: (GREY, 2), PROTECTED: (BLUE, 2.5)}.get(label, (ORANGE, 0.8))
        hidden = None if label in (BARE, PROTECTED) else "legendonly"
        equity = daily_equity(record)
        marks = np.r_[record.start[0], equity]
        fall = drawdown(marks)[1:]
        first = len(figure.data)
        draw_line(figure, equity.index, equity, label, color, row=1, width=width)
        draw_line(figure, equity.index, fall, label, color, row=2, width=width)
        for trace in figure.data[first:]:
            trace.update(legendgroup=label, visible=hidden or True)
        figure.data[first + 1].update(showlegend=False)
    figure.update_yaxes(title_text="equity", row=1)
    figure.update_yaxes(title_text="drawdown", tickformat=".0%", autorange="reversed", row=2)
    # Plotly's toolbar would cover a legend of two lines.
    figure.update_layout(modebar_orientation="v", margin_r=40)
    final = [daily_equity(comparison.records[label]).iloc[-1] for label in (BARE, PROTECTED)]
    caption = (
        f"Bare ends with {final[0]:,.0f}, protected with {final[1]:,.0f}. Choose a name in the "
        "legend to show another variant."
    )
    return figure, caption


def _sharpe_chart(comparison: "Comparison") -> Chart:
    frame = comparison.sharpe.drop(index=BARE)
    figure = blank_figure(rows=1, dates=False)
    colors = [GREEN if evident else GREY for evident in frame["evidence"]]
    known = frame["low"].notna() & np.isfinite(frame["high"])
    reach = {
        "array": (frame["high"] - frame["difference"]).where(known),
        "arrayminus": (frame["difference"] - frame["low"]).where(known),
    }
    figure.add_trace(
        go.Scatter(
            x=frame["difference"],
            y=list(frame.index),
            mode="markers",
            marker={"color": colors, "size": 9},
            error_x={"type": "data", "symmetric": False, "color": GREY, **reach},
            showlegend=False,
        )
    )
    figure.add_vline(x=0, line={"color": RED, "dash": "dash", "width": 1})
    figure.update_xaxes(title_text="annual Sharpe ratio less that of bare", title_standoff=6)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(hovermode="closest", margin_b=56)
    count = int(frame["evidence"].sum())
    caption = (
        f"Bounds of {100 * comparison.confidence:g} % that hold for all variants at once. "
        + (f"{count} of them leave out zero." if count else "None of them leaves out zero.")
    )
    return figure, caption


def _shadow_chart(shadow: ShadowBook) -> Chart:
    rules = shadow.by_rule()
    rules = rules.loc[rules_in_order(rules.index)]
    names = [rule_label(rule) for rule in rules.index]
    colors = [GREEN if effect >= 0 else RED for effect in rules["effect"]]
    figure = blank_figure(rows=1, dates=False)
    figure.add_bar(
        x=rules["effect"], y=names, orientation="h", marker_color=colors, showlegend=False
    )
    figure.update_xaxes(title_text="effect on final equity, in currency", title_standoff=6)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(hovermode="closest", margin_b=56)
    caption = (
        f"Together {format_money(shadow.difference)}: the final equity of the protected run less "
        f"that of the bare one. Path differences make up {format_money(shadow.residual)} of it."
    )
    return figure, caption
