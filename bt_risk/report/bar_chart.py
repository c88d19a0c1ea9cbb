"""Bars below each other on one scale, without time: drawn by the style of the page alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["Bar", "BarChart", "bar_chart"]


@dataclass(frozen=True)
class Bar:
    """Hold a bar of a chart without time; places are percentages of its width."""

    name: str
    text: str
    low: float
    high: float
    middle: float
    kind: str


@dataclass(frozen=True)
class BarChart:
    """Bars below each other, with the place of zero and a caption."""

    bars: list[Bar]
    zero: float
    caption: str


def bar_chart(
    names: Sequence[str],
    texts: Sequence[str],
    values: tuple[pd.Series, pd.Series, pd.Series],
    kinds: Sequence[str],
    caption: str,
) -> BarChart:
    """Return bars from low to high with a middle, on one scale that includes zero."""
    numbers = np.nan_to_num(np.array([value.to_numpy(dtype=float) for value in values]))
    least, most = min(float(numbers.min(initial=0)), 0.0), max(float(numbers.max(initial=0)), 0.0)
    places = 2.0 + 96.0 * (np.c_[numbers, np.zeros(3)] - least) / ((most - least) or 1.0)
    rows = zip(names, texts, *places[:, :-1].tolist(), kinds, strict=True)
    return BarChart([Bar(*row) for row in rows], float(places[0, -1]), caption)
