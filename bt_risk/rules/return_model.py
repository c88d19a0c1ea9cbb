"""What a limit needs to know of returns: how many, from which bars, and how they are weighed."""

from dataclasses import dataclass

from bt_risk.errors import check_choice, check_whole
from bt_risk.rules.estimators import ROLLING, Estimator

__all__ = ["ReturnModel"]


@dataclass(frozen=True)
class ReturnModel:
    """A window of returns, how it is read, and what to do where it says nothing.

    Parameters
    ----------
    window, min_periods : int
        Bars of the window, and the least number of common returns for an opinion.
    multi_bar : int
        Bars that a return spans; above 1 they overlap, for closes that are hours apart.
    estimator : Estimator
    unknown : {"refuse", "allow"}
        What to do without an opinion.
    """

    window: int = 252
    min_periods: int = 60
    multi_bar: int = 1
    estimator: Estimator = ROLLING
    unknown: str = "refuse"

    @classmethod
    def checked(cls, component, window, min_periods, multi_bar, estimator, halflife, unknown):
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
    def key(self):
        """What makes it a window of its own."""
        return self.window, self.min_periods, self.multi_bar
