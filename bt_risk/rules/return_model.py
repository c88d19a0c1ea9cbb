"""The returns that a limit uses: how many, from which bars, and how they are weighted."""

from __future__ import annotations

from dataclasses import dataclass

from bt_risk.rules.estimators import ROLLING, Estimator

__all__ = ["STALE_BARS", "ReturnModel"]

# Bars of other feeds without one of its own until a feed is stale, and its returns are unknown.
STALE_BARS = 5


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

    @property
    def key(self) -> tuple[int, int, int]:
        """Return the settings that models with a common window of closes share."""
        return self.window, self.min_periods, self.multi_bar
