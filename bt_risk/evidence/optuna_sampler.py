"""Ask Optuna which point of a sweep is next, and tell it what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from bt_risk.errors import ParameterError, is_number
from bt_risk.evidence.sweep_space import COMPONENT, Between, Point, Space, label

__all__ = ["OptunaSampler"]

# So often in a row Optuna may ask for points that have run, before that is all there are.
_REPEATS = 100


class OptunaSampler:
    """Ask a study of Optuna for points; `optuna` is imported here alone.

    A list of numbers in a sequence is a whole number to Optuna, the place in the list, so that it
    knows which values are near each other; another list is a choice.
    """

    def __init__(self, space: Space, total: int, seed: int, sampler: Any, smallest: bool) -> None:
        if find_spec("optuna") is None:
            constraint, remedy = "grid or random without optuna", "pip install 'bt_risk[optuna]'"
            raise ParameterError(COMPONENT, "sampler", constraint, "optuna", remedy)
        import optuna

        self.total, self._left, self._space, self._optuna = total, total, space, optuna
        self._values: dict[str, float] = {}
        optuna.logging.disable_default_handler()
        try:
            self._study = optuna.create_study(
                sampler=sampler or optuna.samplers.TPESampler(seed=seed),
                direction="minimize" if smallest else "maximize",
            )
        finally:
            optuna.logging.enable_default_handler()
        self._distributions = {
            name: self._distribution(values) for name, values in space.values.items()
        }

    def _distribution(self, values: tuple[Any, ...] | Between) -> Any:
        kinds = self._optuna.distributions
        if isinstance(values, Between):
            kind = kinds.IntDistribution if values.whole else kinds.FloatDistribution
            return kind(values.low, values.high, log=values.log)
        if _ordered(values):
            return kinds.IntDistribution(0, len(values) - 1)
        return kinds.CategoricalDistribution([label(one) for one in values])

    def restore(self, known: Mapping[str, float]) -> None:
        """Add points that have run to the study; they are among the total."""
        for key, value in known.items():
            self._values[key] = value
            self._study.add_trial(self._trial(self._space.point(key), value))
            self._left -= 1

    def _trial(self, point: Point, value: float) -> Any:
        params = {}
        for name, values in self._space.values.items():
            listed = isinstance(values, tuple)
            ordered = listed and _ordered(values)
            params[name] = values.index(point[name]) if ordered else label(point[name])
        failed = math.isnan(value)
        states = self._optuna.trial.TrialState
        return self._optuna.trial.create_trial(
            params=params,
            distributions=self._distributions,
            value=None if failed else value,
            state=states.FAIL if failed else states.COMPLETE,
        )

    def ask(self) -> tuple[Any, Point] | None:
        """Return the next point; None when the total is reached, or no other comes.

        A point that is known already is told again, and does not count.
        """
        if self._left <= 0:
            return None
        for _ in range(_REPEATS):
            trial = self._study.ask(self._distributions)
            point = self._point(trial.params)
            known = self._values.get(self._space.key(point))
            if known is None:
                self._left -= 1
                return trial, point
            self.tell(trial, known)
        return None

    def _point(self, params: Mapping[str, Any]) -> Point:
        point = {}
        for name, values in self._space.values.items():
            found = params[name]
            if isinstance(values, Between):
                point[name] = found
            elif _ordered(values):
                point[name] = values[found]
            else:
                point[name] = next(one for one in values if label(one) == found)
        return point

    def tell(self, ticket: Any, value: float) -> None:
        """Tell the study what came of a point."""
        self._values[self._space.key(self._point(ticket.params))] = value
        failed = math.isnan(value)
        state = self._optuna.trial.TrialState.FAIL if failed else None
        self._study.tell(ticket, None if failed else value, state=state)


def _ordered(values: tuple[Any, ...]) -> bool:
    return all(map(is_number, values)) and list(values) in (
        sorted(values),
        sorted(values, reverse=True),
    )
