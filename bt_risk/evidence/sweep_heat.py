"""Heat maps of a sweep: its objective by two parameters, in the middle of all others."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bt_risk.evidence.sweep_space import Between
from bt_risk.evidence.sweep_words import format_figure, format_value

if TYPE_CHECKING:
    from bt_risk.evidence.sweep import Sweep

__all__ = ["HeatMap", "heat_maps"]

_PARAMETERS = 4  # the ones that matter most: six maps
_BINS = 8


@dataclass(frozen=True)
class HeatMap:
    """Hold the median objective by the values of two parameters.

    Attributes
    ----------
    across, down : str
        The parameters; `down` is empty where there is only one.
    columns : list of str
    rows : list of (str, list of (str, float))
        Label, and text with heat of each cell: 0 for the worst, 1 for the best of the map, NaN
        where no point has an objective.
    """

    across: str
    down: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[str, float]]]]


def heat_maps(sweep: Sweep) -> list[HeatMap]:
    """Return a map for each pair of the parameters that matter most, the first one first."""
    frame = sweep.frame.dropna(subset=["objective"])
    if frame.empty:
        return []
    labels = {name: _labels(sweep, frame, name) for name in sweep.space.names}
    spread = {name: _spread(frame["objective"], of) for name, of in labels.items()}
    names = sorted((name for name in labels if labels[name].nunique() > 1), key=spread.__getitem__)
    chosen = names[::-1][:_PARAMETERS]
    pairs = list(itertools.combinations(chosen, 2)) or [(one, "") for one in chosen]
    return [_map(sweep, frame["objective"], labels, *pair) for pair in pairs]


def _labels(sweep: Sweep, frame: pd.DataFrame, name: str) -> pd.Series:
    """Return the text of each value, in the sequence of the values; ranges where it is drawn."""
    values, given = frame[name], sweep.space.values[name]
    if isinstance(given, Between) and values.nunique() > _BINS:
        groups = pd.qcut(values, _BINS, labels=False, duplicates="drop")
        ends = values.groupby(groups).agg(["min", "max"])
        texts = [f"{format_value(low)} to {format_value(high)}" for low, high in ends.to_numpy()]
        return groups.map(dict(zip(ends.index, texts, strict=True))).astype(_ordered(texts))
    listed = sorted(values.unique()) if isinstance(given, Between) else given
    texts = [format_value(one) for one in listed]
    found = [format_value(None if _missing(one) else one) for one in values]
    return pd.Series(found, frame.index).astype(_ordered([t for t in texts if t in set(found)]))


def _ordered(texts: list[str]) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(list(dict.fromkeys(texts)), ordered=True)


def _missing(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _spread(objective: pd.Series, labels: pd.Series) -> float:
    medians = objective.groupby(labels, observed=True).median()
    return float(medians.max() - medians.min())


def _map(
    sweep: Sweep, objective: pd.Series, labels: dict[str, pd.Series], across: str, down: str
) -> HeatMap:
    rows = labels[down] if down else pd.Series(sweep.objective.name, objective.index)
    found = objective.groupby([rows.astype(object), labels[across].astype(object)]).median()
    table = found.unstack()
    order = [one for one in labels[across].cat.categories if one in table.columns]
    if down:
        table = table.loc[[one for one in rows.cat.categories if one in table.index]]
    table = table[order]
    low, high = np.nanmin(table.to_numpy()), np.nanmax(table.to_numpy())
    heat = (table - low) / (high - low or 1.0)
    heat = 1.0 - heat if sweep.objective.smallest else heat
    cells = [
        (
            str(label),
            [
                (format_figure(sweep.objective.name, value), float(warm))
                for value, warm in zip(table.loc[label], heat.loc[label], strict=True)
            ],
        )
        for label in table.index
    ]
    return HeatMap(across, down, [str(one) for one in order], cells)
