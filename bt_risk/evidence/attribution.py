"""What each rule is worth: the difference of the two runs, divided among the rules that caused it.

Rules act on each other: a stop that closes a position leaves nothing for the breaker to close. So
what a rule is worth depends on which other rules are on. Its Shapley value is the mean over all
orders in which the rules can be switched on, and the values of all rules sum to the difference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence.bootstrap import wideness
from bt_risk.evidence.number_format import format_measure, format_money
from bt_risk.evidence.runner import RunEnd
from bt_risk.evidence.shapley import (
    Order,
    Subset,
    all_subsets,
    interactions,
    prefixes,
    sampled_orders,
    shapley_from_orders,
    shapley_values,
)
from bt_risk.evidence.variants import BARE, PROTECTED, active, without
from bt_risk.policy import Policy

__all__ = ["Attribution", "RunsBySubset", "SubsetPlan", "attribute", "outcome_said", "plan_subsets"]

EXACT = 6  # rules of which all subsets run, whatever the number of permutations
MOST = 800  # runs: each is a process with a pipe of its own
MATERIAL = 0.005  # of the capital: an interaction below that is not named

COLUMNS = [
    "shapley",
    "low",
    "high",
    "evidence",
    "error",
    "leave_one_out",
    "alone",
    "drawdown",
]


@dataclass(frozen=True)
class SubsetPlan:
    """The subsets of rules that run.

    Attributes
    ----------
    rules : list of str
        The rules of the policy that are on.
    orders : list of tuple
        The sampled permutations; none where all subsets run.
    labels : dict of frozenset to str
        Label of the run by the rules that are on in it: ``bare``, ``protected``, ``only stop``,
        ``no stop``, or the rules in words.
    """

    rules: list[str]
    orders: list[Order]
    labels: dict[Subset, str]

    def policies(self, policy: Policy) -> dict[str, Policy | None]:
        """Return the policy of each run by label, None for the bare run."""
        return {
            label: without(policy, *(rule for rule in self.rules if rule not in subset))
            if subset
            else None
            for subset, label in self.labels.items()
        }


def plan_subsets(policy: Policy, permutations: int, seed: int) -> SubsetPlan:
    """Return which subsets of the rules of a policy run.

    All of them, where there are at most 6 rules or where the permutations could take as many runs;
    else those that random permutations go through, and what "left out" and "alone" need.
    """
    rules = active(policy)
    count = len(rules)
    if count <= EXACT or 2**count <= min(permutations * (count - 1) + 2, MOST):
        return SubsetPlan(rules, [], {one: _label(rules, one) for one in all_subsets(rules)})
    orders = sampled_orders(rules, permutations, seed)
    whole = frozenset(rules)
    subsets = [frozenset[str](), whole, *(frozenset([rule]) for rule in rules)]
    subsets += [whole - {rule} for rule in rules]
    subsets += [subset for order in orders for subset in prefixes(order)]
    plan = SubsetPlan(rules, orders, {one: _label(rules, one) for one in subsets})
    if len(plan.labels) > MOST:
        constraint = f"so few that at most {MOST} runs are needed"
        remedy = f"{count} rules are on, which need {len(plan.labels):,} runs."
        raise ParameterError("compare", "permutations", constraint, permutations, remedy)
    return plan


def _label(rules: Sequence[str], subset: Subset) -> str:
    on = [rule for rule in rules if rule in subset]
    if not on or len(on) == len(rules):
        return PROTECTED if on else BARE
    if len(on) == 1:
        return f"only {on[0]}"
    off = [rule for rule in rules if rule not in subset]
    return f"no {off[0]}" if len(off) == 1 else ", ".join(on)


class RunsBySubset(NamedTuple):
    """Hold the plan of an attribution and the `RunEnd` of each run by label."""

    plan: SubsetPlan
    ends: Mapping[str, RunEnd]


@dataclass(frozen=True)
class Attribution:
    """What each rule is worth: parts of the difference between the protected and the bare run.

    Attributes
    ----------
    frame : DataFrame
        Indexed by rule, in currency of final equity. ``shapley`` sums to `difference`; ``low`` and
        ``high`` are its bounds, which hold for all rules at once, and ``evidence`` is whether they
        leave out zero. ``error`` is its standard error from sampled permutations, 0 where all
        subsets ran. ``leave_one_out`` is protected less the run without the rule, ``alone`` the run
        with that rule only less bare. ``drawdown`` is the Shapley value of the max drawdown at ends
        of days, a fraction: negative where the rule made it shallower.
    pairs : DataFrame
        Indexed by two rules: ``interaction`` is what both bring together, beyond what each brings
        without the other, in currency (the Shapley interaction index), ``named`` whether it is
        more than either is worth. Empty where permutations were sampled.
    difference : float
        Final equity of the protected run less that of the bare one.
    runs, permutations : int
        How many runs it took, and how many sampled permutations; 0 where all subsets ran.
    confidence : float
    """

    frame: pd.DataFrame
    pairs: pd.DataFrame
    difference: float
    runs: int
    permutations: int
    confidence: float

    def sentences(self) -> list[str]:
        """Return what each rule is worth in words: values, pairs, evidence, sampling error."""
        if self.frame.empty:
            return ["no rule is on"]
        said = [_values_said(self.frame["shapley"], self.difference)]
        said += _pairs_said(self.pairs, self.frame["shapley"])
        said.append(_evidence_said(self.frame, self.confidence))
        if self.permutations:
            said.append(
                f"estimated from {self.permutations} permutations of the rules, with a standard "
                f"error of at most {self.frame['error'].max():,.0f}"
            )
        return said


_UNKNOWN = (math.nan, math.nan)


def attribute(
    found: RunsBySubset, picks: np.ndarray, block: float, confidence: float
) -> Attribution:
    """Divide the difference of the protected and the bare run among the rules.

    Parameters
    ----------
    found : RunsBySubset
    picks : ndarray of shape (samples, n_days)
        Days of each resampled history, the same for all runs.
    block : float
        Mean length of their blocks, in days.
    confidence : float

    Notes
    -----
    A resampled history ends with ``start x product of (1 + return)`` in every run, and each has its
    own Shapley values. The bounds are percentiles of those, so far out that all rules are inside at
    once, expanded by `bt_risk.evidence.bootstrap.wideness`. Where a run does not end with what its
    returns compound to (deposits, a negative account), there are none.

    References
    ----------
    Westfall & Young, Resampling-Based Multiple Testing (1993), min P.
    """
    plan, ends = found
    if len({len(ends[label].returns) for label in plan.labels.values()} | {picks.shape[1]}) > 1:
        raise DataError("compare: every run of a subset of the rules must have the same days.")
    by_subset = {subset: ends[label] for subset, label in plan.labels.items()}
    finals = {subset: np.array(end.final) for subset, end in by_subset.items()}
    falls = {subset: np.array(end.max_drawdown) for subset, end in by_subset.items()}
    drawn = _resampled_finals(by_subset, picks)
    values, errors = _values(plan, finals)
    falls_by_rule, _ = _values(plan, falls)
    wide = wideness(picks.shape[1], block, confidence)
    bounds = _joint_bounds(_values(plan, drawn)[0], confidence) if drawn else {}
    whole, none = frozenset(plan.rules), frozenset[str]()
    rows = {}
    for rule in plan.rules:
        value = float(values[rule])
        low, high = (value + wide * (one - value) for one in bounds.get(rule, _UNKNOWN))
        rows[rule] = [
            value,
            low,
            high,
            bool(low > 0 or high < 0),
            errors[rule],
            float(finals[whole] - finals[whole - {rule}]),
            float(finals[frozenset([rule])] - finals[none]),
            float(falls_by_rule[rule]),
        ]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)
    pairs = {} if plan.orders else interactions(plan.rules, finals)
    return Attribution(
        frame=frame.rename_axis("rule"),
        pairs=_pairs(pairs, frame["shapley"], by_subset[none].start),
        difference=float(finals[whole] - finals[none]),
        runs=len(plan.labels),
        permutations=len(plan.orders),
        confidence=confidence,
    )


def _values(
    plan: SubsetPlan, values: Mapping[Subset, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the Shapley value of each rule and its standard error."""
    if not plan.orders:
        return shapley_values(plan.rules, values), dict.fromkeys(plan.rules, 0.0)
    found = shapley_from_orders(plan.orders, values)
    estimates = {rule: found[rule][0] for rule in plan.rules}
    return estimates, {rule: float(np.max(found[rule][1])) for rule in plan.rules}


def _resampled_finals(ends: Mapping[Subset, RunEnd], picks: np.ndarray) -> dict[Subset, np.ndarray]:
    """Return the final equity of every resampled history; nothing where returns do not explain it.

    The order of days does not matter to it, so that each history is a count of its days.
    """
    counts = np.array([np.bincount(days, minlength=picks.shape[1]) for days in picks], dtype=float)
    found = {}
    for subset, end in ends.items():
        logs = np.log(np.maximum(1.0 + end.returns, np.finfo(float).tiny))
        if not math.isclose(end.start * math.exp(logs.sum()), end.final, rel_tol=1e-6):
            return {}
        found[subset] = end.start * np.exp(counts @ logs)
    return found


def _joint_bounds(
    drawn: Mapping[str, np.ndarray], confidence: float
) -> dict[str, tuple[float, float]]:
    """Return percentiles of each rule at which all rules are inside at once.

    A rule whose value is the same in every history has none.
    """
    moving = {rule: values for rule, values in drawn.items() if np.ptp(values) > 0}
    if not moving:
        return {}
    shares = []
    for values in moving.values():
        ordered, count = np.sort(values), len(values)
        above = count - np.searchsorted(ordered, values)
        below = np.searchsorted(ordered, values, side="right")
        shares.append(np.minimum(2.0 * np.minimum(above, below) / count, 1.0))
    cut = float(np.quantile(np.min(shares, axis=0), 1.0 - confidence, method="lower"))
    ends = [cut / 2, 1.0 - cut / 2]
    found = {rule: np.quantile(values, ends) for rule, values in moving.items()}
    return {rule: (float(low), float(high)) for rule, (low, high) in found.items()}


def _pairs(
    found: Mapping[tuple[str, str], np.ndarray], values: pd.Series, capital: float
) -> pd.DataFrame:
    rows = []
    for (one, other), value in found.items():
        parts = max(abs(values[one]), abs(values[other]))
        rows.append((float(value), bool(abs(value) > max(parts, MATERIAL * capital))))
    index = pd.MultiIndex.from_tuples(found, names=["rule", "other"]) if found else None
    return pd.DataFrame(rows, index, columns=["interaction", "named"])


# -- sentences -------------------------------------------------------------------------------------


def outcome_said(label: str, finals: tuple[float, float], falls: tuple[float, float]) -> str:
    """Return what a run ends with in place of the bare one; each pair is that run's and bare's.

    `finals` are currency, `falls` max drawdowns as fractions.
    """
    deepest = [format_measure("Max drawdown", fall) for fall in falls]
    return (
        f"{label} ends with {finals[0]:,.0f} instead of {finals[1]:,.0f} "
        f"({format_money(finals[0] - finals[1])}), max drawdown {deepest[0]} instead of "
        f"{deepest[1]}"
    )


def _values_said(values: pd.Series, difference: float) -> str:
    ordered = values.reindex(values.abs().sort_values(ascending=False, kind="stable").index)
    worth = [f"{rule} {format_money(one)}" for rule, one in ordered.items() if abs(one) >= 0.5]
    idle = [str(rule) for rule, value in values.items() if abs(value) < 0.5]
    nothing = f"{_listed(idle)} change{'s' * (len(idle) == 1)} nothing"
    if not worth:
        return nothing
    said = f"what each rule is worth: {', '.join(worth)}; together {format_money(difference)}"
    return f"{said}; {nothing}" if idle else said


def _pairs_said(pairs: pd.DataFrame, values: pd.Series) -> list[str]:
    if pairs.empty:
        return []
    named = pairs[pairs["named"]]
    order = named["interaction"].abs().sort_values(ascending=False, kind="stable").index
    return [
        f"{one} and {other} act together: {format_money(named.loc[(one, other), 'interaction'])} "
        f"comes only of both, more than either is worth ({format_money(values[one])} and "
        f"{format_money(values[other])})"
        for one, other in order
    ]


def _evidence_said(frame: pd.DataFrame, confidence: float) -> str:
    level = f"{100 * confidence:g} %"
    sure = frame[frame["evidence"]]
    if sure.empty:
        return f"no evidence that any rule is worth more or less than nothing ({level})"
    text = "; ".join(
        f"{rule} {'earns' if row['low'] > 0 else 'costs'}: {level} {format_money(row['low'])} to "
        f"{format_money(row['high'])}"
        for rule, row in sure.iterrows()
    )
    rest = "" if len(sure) == len(frame) else "; no evidence for any other rule"
    return f"evidence that {text}{rest}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
