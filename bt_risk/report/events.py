"""The events of a run: halts, fills and refusals of a data feed, the worst correlation, limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from bt_risk.report.calendar import last_of_days
from bt_risk.report.record import RunRecord
from bt_risk.rules.estimators import Estimator
from bt_risk.rules.time_frames import TimeFrames

__all__ = [
    "Event",
    "Events",
    "WorstMoment",
    "closings",
    "exposure_bounds",
    "halts",
    "price_events",
    "stop_line",
    "worst_moment",
]

DAY = 86_400e9  # nanoseconds


class Event(NamedTuple):
    """Hold what happened to a data feed at one time."""

    time: pd.Timestamp
    side: int
    text: str


Events = list[Event]


def halts(record: RunRecord) -> list[tuple[pd.Timestamp, pd.Timestamp, str]]:
    """Return ``(begin, end, reason)`` of every halt by a rule; one still open ends with the data.

    The reason of a halt begins with the name of its rule. Halts by an operator are left out.
    """
    decisions = record.decisions
    of_rules = decisions[decisions["rule"] != "RiskBroker"]
    last = record.rest[-1] if record.halted else record.times[-1]
    found: list[tuple[pd.Timestamp, pd.Timestamp, str]] = []
    open_since: dict[str, tuple[pd.Timestamp, str]] = {}
    for row in of_rules.itertuples():
        if row.action == "halt":
            open_since.setdefault(row.rule, (row.time, row.reason))
        elif row.action == "rearm" and row.rule in open_since:
            begin, reason = open_since.pop(row.rule)
            found.append((begin, row.time, reason))
    found += [(begin, last, reason) for begin, reason in open_since.values()]
    return sorted(found, key=lambda halt: halt[0])


def closings(record: RunRecord, name: str) -> list[tuple[pd.Timestamp, pd.Timestamp, str]]:
    """Return ``(begin, end, reason)`` of each time in which a guard closed what a feed held.

    It lasts from the line that a day or a window is over to the one that all is flat.
    """
    found: list[tuple[pd.Timestamp, pd.Timestamp, str]] = []
    over: dict[tuple[str, str], tuple[pd.Timestamp, str]] = {}
    for row in record.decisions.itertuples():
        if row.data in ("", name) and row.action == "over":
            over[row.rule, row.data] = row.time, row.reason
        elif row.action == "flat" and (row.rule, row.data) in over:
            begin, reason = over.pop((row.rule, row.data))
            found.append((begin, row.time, reason))
    return found


def stop_line(record: RunRecord, name: str) -> pd.Series:
    """Return the price of a feed's stop after each bar, NaN without a position."""
    held = record.held[record.held["name"] == name]
    line = pd.Series(math.nan, record.bars.index)
    line.iloc[held["bar"].to_numpy(dtype=int)] = held["stop"].to_numpy(dtype=float)
    return line.set_axis(record.times)


def price_events(record: RunRecord, name: str) -> dict[str, Events]:
    """Return the entries, exits, stops, cuts and refusals of a feed, each with time and text.

    The side of a fill is that of its order; that of a cut or a refusal is 0.
    """
    fills = record.fills[record.fills["name"] == name]
    before = fills["size"].cumsum().shift(fill_value=0.0)
    opens = before * fills["size"] >= 0
    kinds = np.where(fills["stop"], "stop", np.where(opens, "entry", "exit"))
    events = {kind: _filled(fills[kinds == kind]) for kind in ("entry", "exit", "stop")}
    decisions = record.decisions[record.decisions["data"] == name]
    for kind, action in (("cut", "trim"), ("refused", "reject")):
        rows = decisions[decisions["action"] == action]
        events[kind] = [
            Event(time, 0, reason)
            for time, reason in zip(rows["time"], rows["reason"], strict=True)
            if not pd.isna(time)
        ]
    return events


def _filled(fills: pd.DataFrame) -> Events:
    rows = zip(fills["time"], fills["size"], fills["price"], strict=True)
    return [Event(t, 1 if size > 0 else -1, f"{size:+g} at {price:g}") for t, size, price in rows]


def exposure_bounds(record: RunRecord, unit: str) -> list[float]:
    """Return the limits of rule 3 in this unit, as fractions of equity."""
    limit = record.limits.get("ExposureLimit", math.inf)
    unit_of_limit = record.units.get("ExposureLimit", "risk")
    return [limit] if math.isfinite(limit) and unit_of_limit == unit else []


@dataclass(frozen=True)
class WorstMoment:
    """The correlations of the held instruments when the highest of them was highest.

    Attributes
    ----------
    time : Timestamp
    sides : dict of str to int
        +1 or -1 by name.
    correlations : array of shape (n_names, n_names)
        Signed by side, so that +1 is the same bet twice; NaN is unknown.
    value : float
        The highest of them.
    """

    time: pd.Timestamp
    sides: dict[str, int]
    correlations: np.ndarray
    value: float

    @property
    def matrix(self) -> pd.DataFrame:
        """Return the correlations by name."""
        return pd.DataFrame(self.correlations, list(self.sides), list(self.sides))

    @property
    def pair(self) -> tuple[str, str]:
        """Return the two names with the highest correlation."""
        names = list(self.sides)
        pairs = _upper(self.correlations)
        row, column = np.unravel_index(np.nanargmax(pairs), pairs.shape)
        return names[row], names[column]


def worst_moment(record: RunRecord) -> WorstMoment | None:
    """Return the `WorstMoment` of a run, None if no two instruments were ever held together.

    Correlations are computed whenever the held instruments change, and at the end of each month.
    """
    firsts = [name for i, name in enumerate(record.names) if record.roots[i] == i]
    held = _held_sides(record, firsts)
    if not held:
        return None
    window = TimeFrames(firsts, *record.model.key)
    places = {name: place for place, name in enumerate(firsts)}
    closes = pd.DataFrame(
        {name: record.closes[name].groupby(level=0).last() for name in firsts}
    ).sort_index()
    days, prices = closes.index.as_unit("ns").asi8 / DAY, closes.to_numpy()
    done = 0
    worst: WorstMoment | None = None
    for time, sides in held.items():
        until = closes.index.searchsorted(time, side="right")
        for row in range(done, until):
            window.update(days[row], prices[row])
        done = until
        worst = _worse(worst, _measure(window, time, sides, places, record.model.estimator))
    return worst


def _held_sides(record: RunRecord, firsts: Sequence[str]) -> dict[pd.Timestamp, dict[str, int]]:
    """Return the sides by name, for each time at which correlations are computed."""
    root = {name: record.names[record.roots[i]] for i, name in enumerate(record.names)}
    moments: dict[pd.Timestamp, dict[str, int]] = {}
    last: dict[str, int] | None = None
    months = set(_month_ends(record.times))
    for bar, values in _held_values(record, root).items():
        sides = {name: 1 if values[name] > 0 else -1 for name in firsts if values.get(name)}
        if len(sides) > 1 and (sides != last or bar in months):
            moments[record.times[bar]] = sides
        last = sides
    return moments


def _held_values(record: RunRecord, root: Mapping[str, str]) -> dict[int, dict[str, float]]:
    """Return the signed notional of each instrument, its copies together, by bar."""
    held = record.held
    values: dict[int, dict[str, float]] = {}
    for bar, name, value in zip(held["bar"], held["name"], held["value"], strict=True):
        of_bar = values.setdefault(bar, {})
        of_bar[root[name]] = of_bar.get(root[name], 0.0) + value
    return values


def _month_ends(times: pd.DatetimeIndex) -> np.ndarray:
    return last_of_days(pd.DatetimeIndex(times.to_period("M").to_timestamp())).to_numpy()


def _measure(
    window: TimeFrames,
    time: pd.Timestamp,
    sides: dict[str, int],
    places: Mapping[str, int],
    estimator: Estimator,
) -> WorstMoment | None:
    """Return the `WorstMoment` of one time, None where no correlation is known."""
    held = list(sides)
    matrix = np.eye(len(held))
    for i, one in enumerate(held[:-1]):
        others = [places[name] for name in held[i + 1 :]]
        rho, _ = window.correlations(places[one], others, estimator)
        matrix[i, i + 1 :] = matrix[i + 1 :, i] = rho
    signs = np.array(list(sides.values()))
    signed = matrix * np.outer(signs, signs)
    pairs = _upper(signed)
    if not np.isfinite(pairs).any():
        return None
    return WorstMoment(time, sides, signed, float(np.nanmax(pairs)))


def _upper(matrix: np.ndarray) -> np.ndarray:
    """Return each pair once, minus infinity elsewhere."""
    return np.where(np.triu(np.ones(matrix.shape, dtype=bool), 1), matrix, -np.inf)


def _worse(one: WorstMoment | None, other: WorstMoment | None) -> WorstMoment | None:
    if one is None or other is None:
        return one or other
    return other if other.value > one.value else one
