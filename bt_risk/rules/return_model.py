"""The returns that a limit uses: how many, from which bars, and how they are weighted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bt_risk.errors import check_choice, check_whole
from bt_risk.rules.estimators import ROLLING, Estimator

__all__ = ["ReturnModel"]


@dataclass(frozen=True)
class ReturnModel:
    """Describe a window of returns, how it is read, and what to do where it is too short.

    Parameters
    ----------
    window, min_periods : int
        Bars of the window, and the least number of common returns for an estimate.
    multi_bar : int
        Bars that a return spans; above 1 they overlap, for closes that are hours apart.
    estimator : Estimator
    unknown : {"refuse", "allow"}
        What to do without an estimate.
    """

    window: int = 252
    min_periods: int = 60
    multi_bar: int = 1
    estimator: Estimator = ROLLING
    unknown: str = "refuse"

    @classmethod
    def checked(
        cls,
        component: str,
        window: int,
        min_periods: int,
        multi_bar: int,
        estimator: str,
        halflife: float | None,
        unknown: str,
    ) -> Self:
        """Return a model, or raise a ParameterError of `component`."""
        min_periods = check_whole(component, "min_periods", min_periods, low=2)
        return cls(
            check_whole(component, "window", window, low=min_periods),
            min_periods,
            check_whole(component, "multi_bar", multi_bar),
            Estimator.checked(component, estimator, halflife),
            check_choice(component, "unknown", unknown, ("refuse", "allow")),
        )

    @property
    def key(self) -> tuple[int, int, int]:
        """Return the settings that models with a common window of closes share."""
        return self.window, self.min_periods, self.multi_bar
