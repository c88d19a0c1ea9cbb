"""What a sweep has found in words, and as cells of a table."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.number_format import format_measure, format_number
from bt_risk.evidence.sweep_space import FINAL

if TYPE_CHECKING:
    from bt_risk.evidence.sweep import Sweep

__all__ = ["best_cells", "format_figure", "format_value", "sweep_html", "sweep_sentences"]

EVIDENCE = 0.95
# Figures of a table that has room for some.
SHOWN = ("Sharpe", "CAGR", "Max drawdown", "Trades", FINAL)


def sweep_sentences(sweep: Sweep) -> list[str]:
    """Return how many points have run, which is best, and whether that is more than luck."""
    found = [_counted(sweep)]
    row = sweep.best_row
    if sweep.best is None or row is None:
        return [*found, f"no point has a finite {sweep.objective.name}"]
    point = ", ".join(f"{name} {format_value(value)}" for name, value in sweep.best.items())
    names = [name for name in ("Sharpe", "CAGR", "Max drawdown") if name != sweep.objective.name]
    figures = "; ".join(f"{name} {format_figure(name, row[name])}" for name in names)
    value = format_figure(sweep.objective.name, row["objective"])
    found.append(f"best {sweep.objective.name} {value} at {point}; {figures}")
    found.append(_luck(sweep))
    found.append(
        "the parameters were chosen on the bars that they are measured on: walk_forward shows what "
        "such a choice is worth on later ones"
    )
    return found


def _counted(sweep: Sweep) -> str:
    failed = len(sweep.failed)
    text = f"{len(sweep.frame):,} of {sweep.asked:,} points have run"
    if failed:
        first = sweep.failed["error"].iloc[0]
        text += f"; {failed:,} raised an error, the first {first}"
    return text if sweep.complete else f"{text}; interrupted: the same call goes on with the rest"


def _luck(sweep: Sweep) -> str:
    if math.isnan(sweep.deflated):
        return "no deflated Sharpe ratio: that needs two tries whose Sharpe ratios differ"
    word = "evidence" if sweep.deflated >= EVIDENCE else "no evidence"
    return (
        f"{word} that the best is more than the luck of {sweep.tries:,} distinct tries: its "
        f"deflated Sharpe ratio is {sweep.deflated:.2f}, and {EVIDENCE:.2f} would be evidence"
    )


def format_figure(name: str, value: float) -> str:
    """Return a figure as tables show it."""
    if name in MEASURES:
        return format_measure(name, value)
    return format_number(value, "{:,.0f}" if name == FINAL else "{:,.4g}")


def format_value(value: Any) -> str:
    """Return the value of a parameter as tables show it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e9:
        return f"{value:.0f}"  # a column with whole numbers and None has floats
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best_cells(sweep: Sweep, count: int) -> pd.DataFrame:
    """Return the best rows as text: parameters, objective, and some figures."""
    known = sweep.frame.dropna(subset=["objective"])
    ordered = known.sort_values("objective", ascending=sweep.objective.smallest, kind="stable")
    rows = ordered.head(count)
    columns = {name: [format_value(one) for one in rows[name]] for name in sweep.space.names}
    objective = sweep.objective.name
    columns[objective] = [format_figure(objective, one) for one in rows["objective"]]
    for name in SHOWN:
        columns[name] = [format_figure(name, one) for one in rows[name]]
    return pd.DataFrame(columns, index=rows.index)


def sweep_html(sweep: Sweep) -> str:
    """Return sentences and the ten best points as HTML, for a notebook."""
    sentences = "".join(f"<li>{escape(one)}</li>" for one in sweep_sentences(sweep))
    table: str = best_cells(sweep, 10).to_html(border=0, index=False)
    return f"<ul>{sentences}</ul>\n{table}"
