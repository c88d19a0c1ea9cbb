"""Which points of a space a sweep runs: all of them, some at random, or those Optuna asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from bt_risk.errors import ParameterError, check_whole
from bt_risk.evidence.sweep_space import COMPONENT, Point, Space

__all__ = ["GRID", "OPTUNA", "RANDOM", "Sampler", "sampler_of"]

GRID, RANDOM, OPTUNA = "grid", "random", "optuna"
_MOST_SHUFFLED = 1_000_000


class Sampler(Protocol):
    """Say which point is next, and hear what came of it."""

    total: int

    def restore(self, known: Mapping[str, float]) -> None:
        """Take over the objective of points that have run, by key; NaN where there is none."""

    def ask(self) -> tuple[Any, Point] | None:
        """Return the next point, with what `tell` needs; None where there is no other."""

    def tell(self, ticket: Any, value: float) -> None:
        """Take the objective of a point; NaN where there is none."""


class Listed:
    """Take points in a sequence that does not depend on what comes of them."""

    def __init__(self, points: Iterator[Point], total: int) -> None:
        self.total = total
        self._points = points

    def restore(self, known: Mapping[str, float]) -> None:
        """Nothing: the sequence stays."""

    def ask(self) -> tuple[Any, Point] | None:
        """Return the next point; None at the end."""
        point = next(self._points, None)
        return None if point is None else (None, point)

    def tell(self, ticket: Any, value: float) -> None:
        """Nothing: the sequence stays."""


def sampler_of(given: Any, space: Space, points: int | None, seed: int, smallest: bool) -> Sampler:
    """Return the sampler that a user named, or one that asks a sampler of Optuna."""
    name = GRID if given is None else given
    if name not in (GRID, RANDOM, OPTUNA):
        if not _optunas(given):
            constraint = "one of 'grid', 'random', 'optuna', or a sampler of Optuna"
            raise ParameterError(COMPONENT, "sampler", constraint, given)
        name = OPTUNA
    check_whole(COMPONENT, "seed", seed, low=0, remedy="It seeds what is drawn.")
    if name == GRID:
        return _grid(space, points)
    count = check_whole(COMPONENT, "points", points, remedy="It counts the points that are drawn.")
    if name == RANDOM:
        total = count if space.size is None else min(count, space.size)
        return Listed(_drawn(space, total, seed), total)
    from bt_risk.evidence.optuna_sampler import OptunaSampler

    return OptunaSampler(space, count, seed, None if given == OPTUNA else given, smallest)


def _grid(space: Space, points: int | None) -> Sampler:
    if points is not None:
        remedy = "Leave it out, or draw them: sampler='random'."
        raise ParameterError(COMPONENT, "points", "None for a grid", points, remedy)
    if space.size is None:
        remedy = "List the values, or draw points: sampler='random', points=100."
        raise ParameterError(COMPONENT, "space", "lists of values for a grid", "Between", remedy)
    return Listed(space.grid(), space.size)


def _drawn(space: Space, total: int, seed: int) -> Iterator[Point]:
    """Yield points at random, each once; more of them begin with the same ones."""
    random = np.random.default_rng(seed)
    if space.size is not None and space.size <= _MOST_SHUFFLED:
        for place in random.permutation(space.size)[:total]:
            yield space.at(int(place))
        return
    seen: set[str] = set()
    while len(seen) < total:
        point = space.drawn(random)
        if (key := space.key(point)) not in seen:
            seen.add(key)
            yield point


def _optunas(given: Any) -> bool:
    """Return whether that is a sampler of Optuna, without importing Optuna."""
    return any(one.__module__.startswith("optuna.samplers") for one in type(given).__mro__)
