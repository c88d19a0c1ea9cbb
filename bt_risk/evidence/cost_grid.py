"""The cost grid: the bare and the protected run at other commissions and slippages.

An edge that is gone at costs which one may well meet is none, and a rule that trades more pays more
of them. The grid says at which costs both change sign.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bt_risk.errors import DataError, ParameterError, check_fraction, check_names, check_positive
from bt_risk.evidence.costs import UNCHANGED, CostChange
from bt_risk.evidence.metrics import annual_growth, annual_sharpe
from bt_risk.evidence.number_format import format_measure, format_money, format_number
from bt_risk.evidence.runner import RunEnd
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.policy import Policy

__all__ = ["CostGrid", "CostPlan", "RunsByCost", "cost_columns", "cost_grid", "plan_costs"]

COMMISSION = (0.0, 1.0, 2.0, 5.0)  # times what build() sets
SLIPPAGE = (0.0, 0.0005, 0.001, 0.0025)  # of the price, beside what build() sets
MOST = 100  # costs: twice as many runs, each a process with a pipe of its own
WORTH = "worth"
AXES = {"commission": "the commission", "slippage": "slippage"}
COST_NOTE = (
    "Commission is a multiple of what the broker charges; slippage is the share of the price by "
    "which market and stop orders fill worse, beside what the broker has. A year: the annual "
    "return. Protected less bare: the difference of the final equities. Where a figure changes "
    "sign between two costs of the grid, the cost is interpolated."
)


class CostPlan(NamedTuple):
    """The costs that are tried, those of `build` among them."""

    changes: tuple[CostChange, ...]

    def labels(self) -> dict[str, tuple[str, CostChange]]:
        """Return label, bare or protected, and costs of every run but the two at usual costs."""
        runs = product(self.changes, (BARE, PROTECTED))
        return {_label(run, one): (run, one) for one, run in runs if one != UNCHANGED}

    def policies(self, policy: Policy) -> dict[str, Policy | None]:
        """Return the policy of each of these runs, None for a bare one."""
        return {
            label: policy if run == PROTECTED else None for label, (run, _) in self.labels().items()
        }

    def costs(self) -> dict[str, CostChange]:
        """Return the costs of each of these runs."""
        return {label: one for label, (_, one) in self.labels().items()}


def _label(run: str, costs: CostChange) -> str:
    return run if costs == UNCHANGED else f"{run}, {costs}"


def plan_costs(component: str, costs: bool | Mapping[str, Sequence[float]]) -> CostPlan | None:
    """Return which costs are tried, None where ``costs=False``."""
    if costs is False:
        return None
    given = {} if costs is True else costs
    if not isinstance(given, Mapping):
        remedy = 'Like {"commission": [0, 1, 3], "slippage": [0, 0.001]}.'
        raise ParameterError(component, "costs", "True, False or a dict", costs, remedy)
    check_names(f"{component}(costs=)", given, list(AXES))
    multiples = _axis(component, given, "commission", COMMISSION)
    shares = _axis(component, given, "slippage", SLIPPAGE)
    changes = tuple(CostChange(*one) for one in product(multiples, shares))
    if not 1 < len(changes) <= MOST:
        constraint = f"a grid of 2 to {MOST} costs, those of build among them"
        raise ParameterError(component, "costs", constraint, len(changes))
    return CostPlan(changes)


def _axis(
    component: str, given: Mapping[str, Any], name: str, usual: Sequence[float]
) -> list[float]:
    """Return the values of one axis in ascending order, that of `build` among them."""
    values = given.get(name, usual)
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ParameterError(component, f"costs[{name!r}]", "a list of numbers", values)
    for value in values:
        if name == "slippage":
            check_fraction(component, "costs['slippage']", value, zero=True, one=False)
        else:
            check_positive(component, "costs['commission']", value, zero=True)
    return sorted({float(value) for value in values} | {getattr(UNCHANGED, name)})


class RunsByCost(NamedTuple):
    """Hold the plan of a cost grid and the `RunEnd` of each run by label."""

    plan: CostPlan
    ends: Mapping[str, RunEnd]


@dataclass(frozen=True)
class CostGrid:
    """The bare and the protected run at other costs.

    Attributes
    ----------
    frame : DataFrame
        Indexed by ``commission`` (multiple of what the broker charges) and ``slippage`` (share of
        the price, added): annual returns ``bare`` and ``protected``, annual Sharpe ratios
        ``bare_sharpe`` and ``protected_sharpe``, and ``worth``, the final equity of the protected
        run less that of the bare one in currency.
    break_even : DataFrame
        Indexed by ``bare``, ``protected`` and ``worth``: the ``commission`` and the ``slippage`` at
        which the figure changes sign while the other cost is as it was, interpolated. NaN where it
        does not within the grid.
    runs : int
        How many runs it took beside the bare and the protected one.
    """

    frame: pd.DataFrame
    break_even: pd.DataFrame
    runs: int

    def sentences(self) -> list[str]:
        """Return at which costs the edge is gone, and what the rules are worth at higher ones."""
        return [*(self._edge_said(run) for run in (BARE, PROTECTED)), self._worth_said()]

    def _edge_said(self, run: str) -> str:
        now = self._usual(run)
        if not now > 0:
            free = self.frame[run].iloc[0]  # the lowest costs
            but = f", {_year(free)} at the lowest costs of the grid" if free > 0 else ""
            return f"{run} earns nothing at the costs as they are: {_year(now)}{but}"
        gone = self._changes(run)
        if gone:
            return f"{run} earns {_year(now)}, and nothing any more at {' or at '.join(gone)}"
        ends = [f"{_year(value)} at {cost}" for value, cost in self._ends(run)]
        return f"{run} earns {_year(now)}, and still {' and '.join(ends)}"

    def _worth_said(self) -> str:
        now = self._usual(WORTH)
        said = f"the rules together are worth {format_money(now)} at the costs as they are"
        turns = self._changes(WORTH)
        if turns:
            return f"{said}; that changes sign at {' or at '.join(turns)}"
        ends = [f"{format_money(value)} at {cost}" for value, cost in self._ends(WORTH)]
        return f"{said}, {' and '.join(ends)}"

    def _usual(self, figure: str) -> float:
        return float(self.frame[figure][tuple(UNCHANGED)])

    def _changes(self, figure: str) -> list[str]:
        """Return the costs at which a figure changes sign, in words."""
        row = self.break_even.loc[figure]
        return [f"about {_cost(axis, row[axis])}" for axis in AXES if math.isfinite(row[axis])]

    def _ends(self, figure: str) -> list[tuple[float, str]]:
        """Return a figure at the highest of each cost, and that cost in words."""
        found = []
        for axis in AXES:
            values = _along(self.frame[figure], axis)
            if len(values) > 1:
                found.append((float(values.iloc[-1]), _cost(axis, float(values.index[-1]))))
        return found


def cost_grid(found: RunsByCost, year: float) -> CostGrid:
    """Return what the runs of a plan came to; `year` is the number of days of one."""
    plan, ends = found
    labels = [BARE, PROTECTED, *plan.labels()]
    if len({len(ends[label].returns) for label in labels}) > 1:
        raise DataError("compare: every run at other costs must have the same days.")
    rows = {}
    for change in plan.changes:
        both = [ends[_label(run, change)] for run in (BARE, PROTECTED)]
        rows[tuple(change)] = [
            *(annual_growth(end.returns, year) for end in both),
            *(annual_sharpe(end.returns, year) for end in both),
            both[1].final - both[0].final,
        ]
    index = pd.MultiIndex.from_tuples(rows, names=list(AXES))
    columns = [BARE, PROTECTED, f"{BARE}_sharpe", f"{PROTECTED}_sharpe", WORTH]
    frame = pd.DataFrame(list(rows.values()), index, columns, dtype=float)
    # What a strategy trades is much the same at other costs, so its log return falls in a line.
    with np.errstate(divide="ignore"):  # a ruined account
        lines = frame[[BARE, PROTECTED]].apply(np.log1p).assign(**{WORTH: frame[WORTH]})
    turns = {
        figure: [_sign_change(_along(lines[figure], axis)) for axis in AXES] for figure in lines
    }
    break_even = pd.DataFrame.from_dict(turns, orient="index", columns=list(AXES))
    return CostGrid(frame, break_even, len(plan.labels()))


def _along(values: pd.Series, axis: str) -> pd.Series:
    """Return a figure from the usual cost upwards along one axis, where that changes anything.

    A multiple of no commission is none, so the figure is then the same everywhere.
    """
    other = next(name for name in AXES if name != axis)
    one = values.xs(getattr(UNCHANGED, other), level=other)
    one = one[one.index >= getattr(UNCHANGED, axis)]
    return one.iloc[:1] if one.nunique(dropna=False) == 1 else one


def _sign_change(values: pd.Series) -> float:
    """Return where a figure first changes sign from that of its first value, NaN where nowhere."""
    first = np.sign(values.iloc[0])
    for (low, before), (high, after) in pairwise(values.items()):
        if first and np.sign(after) != first:
            return float(low + (high - low) * before / (before - after))
    return math.nan


def cost_columns(grid: CostGrid) -> dict[str, dict[str, str]]:
    """Return the columns of the table by name, each with a cell for every cost."""
    headings = {
        BARE: "bare, a year",
        PROTECTED: "protected, a year",
        f"{BARE}_sharpe": "Sharpe, bare",
        f"{PROTECTED}_sharpe": "Sharpe, protected",
        WORTH: "protected less bare",
    }
    columns: dict[str, dict[str, str]] = {name: {} for name in headings.values()}
    for (commission, slippage), row in grid.frame.iterrows():
        name = f"{commission:g} x commission, slippage {_share(slippage)}"
        for figure, heading in headings.items():
            columns[heading][name] = _cell(figure, row[figure])
    return columns


def _cell(figure: str, value: float) -> str:
    if figure == WORTH:
        return format_money(value)
    return format_measure("CAGR" if figure in (BARE, PROTECTED) else "Sharpe", value)


def _year(growth: float) -> str:
    return f"{format_measure('CAGR', growth)} a year"


def _cost(axis: str, value: float) -> str:
    if axis == "commission":
        return f"{value:.3g} times {AXES[axis]}"
    return f"a {AXES[axis]} of {_share(value)}"


def _share(value: float) -> str:
    return format_number(100 * value, "{:.3g} %")
