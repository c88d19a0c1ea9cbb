"""The limits of everything that is held, built together from one set of settings."""

from __future__ import annotations

from inspect import signature

from bt_risk.limits.base import Limit
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import (
    ExposureLimit,
    GrossLimit,
    GroupLimit,
    NetLimit,
    PositionLimit,
)
from bt_risk.limits.gap import GapLimit
from bt_risk.limits.settings import ESTIMATOR, LimitSettings
from bt_risk.limits.volatility import VolatilityLimit

__all__ = ["portfolio_limits"]

KINDS: tuple[type[Limit], ...] = (
    ExposureLimit,
    GrossLimit,
    NetLimit,
    PositionLimit,
    GroupLimit,
    GapLimit,
    CorrelationLimit,
    VolatilityLimit,
)


def portfolio_limits(settings: LimitSettings) -> list[Limit]:
    """Return a new limit for each rule, active or not."""
    return [_built(kind, settings) for kind in KINDS]


def _built(kind: type[Limit], settings: LimitSettings) -> Limit:
    """Return a limit of this kind, whose parameters are named like the settings."""
    names = signature(kind).parameters
    return kind(**{name: getattr(settings, ESTIMATOR.get(name, name)) for name in names})
