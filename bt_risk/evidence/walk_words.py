"""What is said of a walk-forward: the result, the choices, and how certain it is."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from bt_risk.evidence.metrics import MEASURES, final_equity
from bt_risk.evidence.number_format import format_measure, format_number
from bt_risk.evidence.sweep_words import EVIDENCE, format_figure, format_value

if TYPE_CHECKING:
    from bt_risk.evidence.walk_forward import WalkForward

__all__ = ["fold_columns", "walk_sentences"]

YEAR = 365.25
NONE = "-"


def walk_sentences(walk: WalkForward) -> list[str]:
    """Return what came of it, how stable the choices were, and how certain it is."""
    said = [_outcome(walk), _decay(walk), *_choices(walk), _certainty(walk)]
    return [*said, *_exceptions(walk)]


def _outcome(walk: WalkForward) -> str:
    days, figures = walk.returns.index, walk.figures
    years = (days[-1] - days[0]).days / YEAR
    made = {name: format_measure(name, figures[name]) for name in MEASURES}
    return (
        f"out of sample {walk.record.start[0]:,.0f} became {final_equity(walk.record):,.0f} in "
        f"{len(walk.frame):,} folds and {years:.1f} years: {made['CAGR']} a year, Sharpe "
        f"{made['Sharpe']}, max drawdown {made['Max drawdown']}"
    )


def _decay(walk: WalkForward) -> str:
    known = walk.frame.dropna(subset=["in_sample", "out_of_sample"])
    name = walk.objective.name
    if known.empty:
        return f"no fold has an objective ({name}) in sample and out of sample"
    inside, outside = known["in_sample"], known["out_of_sample"]
    worse = outside > inside if walk.objective.smallest else outside < inside
    return (
        f"{name} of what was chosen: {format_figure(name, inside.mean())} in sample, "
        f"{format_figure(name, outside.mean())} out of sample, the means of {len(known):,} "
        f"folds; worse than in sample in {int(worse.sum()):,} of them"
    )


def _choices(walk: WalkForward) -> list[str]:
    points = [one.best for one in walk.sweeps if one.best is not None]
    said = []
    for name in walk.parameters:
        values = [format_value(point[name]) for point in points]
        changes = sum(one != other for one, other in pairwise(values))
        often = ", ".join(f"{value} ({count:,})" for value, count in Counter(values).most_common())
        times = "once" if changes == 1 else f"{changes:,} times"
        said.append(f"{name} {f'changed {times}' if changes else 'never changed'}: chosen {often}")
    return said


def _certainty(walk: WalkForward) -> str:
    sure = "evidence" if walk.deflated > EVIDENCE else "no evidence"
    ratios = [format_number(one, "{:.2f}") for one in (walk.deflated, walk.probabilistic)]
    tries = "1 try" if walk.tries == 1 else f"{walk.tries:,} tries"
    return (
        f"{sure} that it is more than the luck of {tries}: the deflated Sharpe ratio "
        f"out of sample is {ratios[0]}, and {EVIDENCE} would be evidence; without any try it is "
        f"{ratios[1]}"
    )


def _exceptions(walk: WalkForward) -> list[str]:
    frame, said = walk.frame, []
    idle = int(frame["in_sample"].isna().sum())
    if idle:
        said.append(
            f"in {idle:,} of {len(frame):,} folds no point had an objective: nothing traded"
        )
    halted = int(frame["halted"].sum())
    if halted:
        said.append(
            f"a halt ended {halted:,} of {len(frame):,} tests early; the next one began with a new "
            "high-water mark"
        )
    failed, runs = int(frame["failed"].sum()), int(frame["runs"].sum())
    if failed:
        first = next(error for one in walk.sweeps for error in one.failed["error"])
        said.append(f"{failed:,} of {runs:,} training runs failed, the first with: {first}")
    return said


def fold_columns(walk: WalkForward) -> dict[str, dict[str, str]]:
    """Return the columns of the table of folds by name, each with a cell for every fold."""
    columns: dict[str, dict[str, str]] = {}
    rows = zip(walk.frame.to_dict("records"), walk.sweeps, strict=True)
    for number, (row, one) in enumerate(rows, 1):
        cells = {"test": f"{row['begin']:%Y-%m-%d} to {row['end']:%Y-%m-%d}"}
        cells |= {
            name: format_value(one.best[name]) if one.best else NONE for name in walk.parameters
        }
        cells |= {
            "in sample": format_figure(walk.objective.name, row["in_sample"]),
            "out of sample": format_figure(walk.objective.name, row["out_of_sample"]),
            "return": format_measure("CAGR", row["return"]),
            "max drawdown": format_measure("Max drawdown", row["max_drawdown"]),
            "trades": f"{row['trades']:,}",
        }
        for name, cell in cells.items():
            columns.setdefault(name, {})[str(number)] = cell
    return columns
