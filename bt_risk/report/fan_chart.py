"""A fan chart: bands between quantiles of many paths, with levels, as an SVG without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["FanChart", "fan_chart"]

WIDTH, HEIGHT = 900.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 78.0, 12.0, 12.0, 34.0
TICKS = 6


@dataclass(frozen=True)
class FanChart:
    """Hold a fan chart in the units of its SVG.

    Attributes
    ----------
    width, height : float
    bands : list of str
        Points of each band, from the widest to the narrowest.
    middle : str
        Points of the median.
    levels : list of (str, float, str)
        Class, height and label of each level.
    rows, columns : list of (float, str)
        Place and label of each tick of the two axes.
    left, right, bottom : float
        Edges of the plot.
    caption : str
    """

    width: float
    height: float
    bands: list[str]
    middle: str
    levels: list[tuple[str, float, str]]
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    left: float
    right: float
    bottom: float
    caption: str


def fan_chart(
    quantiles: np.ndarray, levels: Sequence[tuple[str, float, str]], caption: str
) -> FanChart:
    """Draw quantiles of paths.

    Parameters
    ----------
    quantiles : ndarray of shape (n_steps, n_quantiles)
        An odd number of them, in ascending order: the first and the last bound the widest band, and
        that in the middle is a line.
    levels : list of (str, float, str)
        Class (``loss`` or ``gain``), value and label of each horizontal line.
    caption : str
    """
    shown = [value for _, value, _ in levels]
    least, most = min([float(quantiles.min()), *shown]), max([float(quantiles.max()), *shown])
    room = 0.04 * ((most - least) or abs(most) or 1.0)
    least, most = least - room, most + room
    steps, count = quantiles.shape
    across = LEFT + (WIDTH - LEFT - RIGHT) * np.arange(steps) / max(steps - 1, 1)

    def height(values: np.ndarray | float) -> np.ndarray:
        share = (np.asarray(values) - least) / (most - least)
        up: np.ndarray = TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share)
        return up

    bands = []
    for place in range(count // 2):
        upper = list(zip(across, height(quantiles[:, -1 - place]), strict=True))
        lower = list(zip(across, height(quantiles[:, place]), strict=True))
        bands.append(_points([*upper, *reversed(lower)]))
    middle = list(zip(across, height(quantiles[:, count // 2]), strict=True))
    ticks = _ticks(least, most)
    days = sorted({round(day) for day in np.linspace(0, steps - 1, min(steps, TICKS + 1))})
    return FanChart(
        width=WIDTH,
        height=HEIGHT,
        bands=bands,
        middle=_points(middle),
        levels=[(kind, float(height(value)), label) for kind, value, label in levels],
        rows=[(float(height(value)), f"{value:,.0f}") for value in ticks],
        columns=[(float(across[day]), f"{day}") for day in days],
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        caption=caption,
    )


def _ticks(least: float, most: float) -> list[float]:
    """Return some round numbers between two."""
    rough = (most - least) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    unit = next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= rough)
    first = math.ceil(least / unit)
    return [unit * place for place in range(first, math.floor(most / unit) + 1)]


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
