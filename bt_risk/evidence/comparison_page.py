"""The page of a comparison: the tear sheet's look, one self-contained HTML file."""

import numpy as np
import plotly.graph_objects as go

from bt_risk.evidence.labels import (
    rule_name,
    rules_in_order,
    said,
    shown,
    shown_interval,
    signed,
)
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.report.charts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    blank_figure,
    draw_line,
)
from bt_risk.report.html import embedded_chart, policy_words, write_page
from bt_risk.report.pyfolio import daily_equity
from bt_risk.rules.drawdown import drawdown

__all__ = ["comparison_page"]


def comparison_page(comparison, path, title):
    """Write the page of a `bt_risk.evidence.Comparison`; return its path."""
    bare, arrays = comparison.records[BARE], {}
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
        "verdicts": [comparison.verdict(v) for v in comparison.sharpe.index if v != BARE],
        "main": _main_table(comparison),
        "variants": list(comparison.sharpe.index),
        "values": _value_table(comparison),
        "sharpe": _sharpe_table(comparison),
        "by_rule": _effects(comparison.shadow.by_rule().reset_index()),
        "by_data": _effects(comparison.shadow.effects),
        "charts": {name: embedded_chart(chart, arrays) for name, chart in charts.items()},
        "arrays": arrays,
        "policy": policy_words(comparison.policy),
    }
    return write_page(path, "comparison.html", context)


# -- tables ----------------------------------------------------------------------------------------


def _main_table(comparison):
    """Return a row for each measure: bare, protected and their differences, with bounds."""
    rows = []
    for measure in MEASURES:
        cells = [_cell(comparison, BARE, measure, "value")]
        for kind in ("value", "difference", "levelled"):
            cells.append(_cell(comparison, PROTECTED, measure, kind))
        rows.append((measure, cells))
    return rows


def _cell(comparison, variant, measure, kind):
    row = comparison.frame.loc[(variant, measure)]
    bounds = shown_interval(measure, row[f"{kind}_low"], row[f"{kind}_high"])
    return shown(measure, row[kind]), bounds


def _value_table(comparison):
    return [
        (measure, [shown(measure, comparison.frame.loc[(v, measure), "value"]) for v in variants])
        for variants in [comparison.sharpe.index]
        for measure in MEASURES
    ]


def _sharpe_table(comparison):
    rows = []
    for variant, row in comparison.sharpe.iterrows():
        ratio = comparison.frame.loc[(variant, "Sharpe")]
        evidence = "" if variant == BARE else "yes" if row["evidence"] else "none"
        cells = [
            shown("Sharpe", ratio["value"]),
            shown_interval("Sharpe", ratio["value_low"], ratio["value_high"]),
            "" if variant == BARE else said(row["difference"], "{:+.2f}"),
            shown_interval("Sharpe", row["low"], row["high"]),
            evidence,
            said(row["probabilistic"], "{:.2f}"),
            said(row["deflated"], "{:.2f}"),
        ]
        rows.append((variant, cells))
    return rows


def _effects(frame):
    rows, order = [], rules_in_order(set(frame["rule"]))
    for row in sorted(frame.to_dict("records"), key=lambda row: order.index(row["rule"])):
        money = [said(row[name], "{:,.0f}") for name in ("saved", "missed")]
        numbers = [f"{row['papers']:,}" if row["papers"] else "", *money]
        numbers += [signed(row["effect"]), said(row["effect_r"], "{:+,.1f}")]
        rows.append((rule_name(row["rule"]), row.get("data"), numbers, row["effect"] <= -0.5))
    return rows


# -- charts ----------------------------------------------------------------------------------------


def _equity_chart(comparison):
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
    # The tools that show up at the pointer would cover a legend of two lines.
    figure.update_layout(modebar_orientation="v", margin_r=40)
    final = [daily_equity(comparison.records[label]).iloc[-1] for label in (BARE, PROTECTED)]
    caption = (
        f"Bare ends with {final[0]:,.0f}, protected with {final[1]:,.0f}. Choose a name in the "
        "legend to show another variant."
    )
    return figure, caption


def _sharpe_chart(comparison):
    frame = comparison.sharpe.drop(index=BARE)
    figure = blank_figure(rows=1, dates=False)
    colors = [GREY if not one else GREEN for one in frame["evidence"]]
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


def _shadow_chart(shadow):
    rules = shadow.by_rule()
    rules = rules.loc[rules_in_order(rules.index)]
    names = [rule_name(rule) for rule in rules.index]
    colors = [GREEN if effect >= 0 else RED for effect in rules["effect"]]
    figure = blank_figure(rows=1, dates=False)
    figure.add_bar(
        x=rules["effect"], y=names, orientation="h", marker_color=colors, showlegend=False
    )
    figure.update_xaxes(title_text="effect on final equity, in currency", title_standoff=6)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(hovermode="closest", margin_b=56)
    caption = (
        f"Together {signed(shadow.difference)}: what the protected run ended with more or less "
        f"than the bare one. {signed(shadow.residual)} of it is the residual."
    )
    return figure, caption
