"""The page of a walk-forward: one self-contained HTML file, and the view in a notebook."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bt_risk.errors import is_number
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.number_format import format_measure
from bt_risk.evidence.walk_words import fold_columns
from bt_risk.report.line_charts import BLUE, GREEN, GREY, ORANGE, Chart, LineChart
from bt_risk.report.page import write_page
from bt_risk.report.pyfolio import daily_equity
from bt_risk.report.tables import policy_rows
from bt_risk.rules.drawdown import drawdown

if TYPE_CHECKING:
    from bt_risk.evidence.walk_forward import WalkForward

__all__ = ["walk_html", "walk_page"]

SMALL = 0.1


def walk_page(walk: WalkForward, path: Path, title: str) -> Path:
    """Write the page of a `bt_risk.evidence.WalkForward`; return its path."""
    columns = fold_columns(walk)
    days = walk.returns.index
    context = {
        "title": title,
        "about": (
            f"Out of sample from {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}, in "
            f"{len(walk.frame):,} folds."
        ),
        "walk": walk,
        "sentences": walk.sentences(),
        "equity": _equity_chart(walk),
        "stability": _stability_chart(walk),
        "headings": list(columns),
        "folds": [
            (number, [column[number] for column in columns.values()])
            for number in next(iter(columns.values()))
        ],
        "figures": [(name, format_measure(name, walk.figures[name])) for name in MEASURES],
        "policy": policy_rows(walk.policy),
    }
    return write_page(path, "walk_forward.html", context)


def walk_html(walk: WalkForward) -> str:
    """Return a walk-forward as HTML for a notebook: sentences, and the table of folds."""
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in walk.sentences())
    table: str = pd.DataFrame(fold_columns(walk)).to_html(border=0)
    return f"<ul>{said}</ul>\n{table}"


def _equity_chart(walk: WalkForward) -> Chart:
    equity = daily_equity(walk.record)
    chart = LineChart(equity.index)
    chart.pane("equity", "money", height=2)
    chart.line("out of sample", equity, BLUE)
    chart.pane("drawdown", "percent", inverted=True)
    marks = np.r_[walk.record.start[0], equity]
    chart.line("out of sample", drawdown(marks)[1:], BLUE, fill=True)
    return chart.chart(
        "The account out of sample: each fold begins flat, with what the one before has left."
    )


def _stability_chart(walk: WalkForward) -> Chart:
    """Draw the objective in sample and out of sample, and each parameter that is a number."""
    days = walk.returns.index
    chart = LineChart(days)
    chart.pane(f"objective: {walk.objective.name}", "number", height=2)
    chart.line("in sample", _by_day(walk, "in_sample"), GREY, steps=True)
    chart.line("out of sample", _by_day(walk, "out_of_sample"), BLUE, steps=True)
    drawn = [name for name in walk.parameters if walk.frame[name].dropna().map(is_number).all()]
    for place, name in enumerate(drawn):
        values = _by_day(walk, name)
        # Two decimals of a small number would say nothing; a ratio is small.
        chart.pane(name, "percent" if np.nanmax(np.abs(values)) < SMALL else "number")
        chart.line(name, values, (ORANGE, GREEN)[place % 2], steps=True)
    return chart.chart(
        "For each test the objective that the chosen point had in training, and the one it then "
        "had; below, what was chosen. A line out of sample far below the other one, or "
        "parameters that jump, say that the training has chosen noise."
    )


def _by_day(walk: WalkForward, column: str) -> np.ndarray:
    """Return the value of the fold at each day out of sample."""
    days, begins = walk.returns.index, pd.DatetimeIndex(walk.frame["begin"]).normalize()
    places = np.searchsorted(begins, days, side="right") - 1
    values = pd.to_numeric(walk.frame[column]).to_numpy(dtype=float)
    return np.asarray(values[np.maximum(places, 0)])
