"""The parameters of the stop and of the drawdown breaker: name, default, unit and check, once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from bt_risk.errors import ParameterError, check_fraction, check_whole
from bt_risk.parameters import (
    ATRs,
    Bars,
    Check,
    ExtremeSettings,
    Flag,
    FractionLimit,
    PositiveOrZero,
    Settings,
    ceiling,
    one_of,
)
from bt_risk.rules.drawdown import BreakerRule

__all__ = [
    "ATTACHED",
    "BreakerSettings",
    "BreakerTrigger",
    "DrawdownSettings",
    "StopDistanceSettings",
    "StopSettings",
]

# When a stop is active: from the bar after the entry on, or from the fill of the entry on.
NEXT_BAR, ATTACHED = "next bar", "attached"


@dataclass(frozen=True, kw_only=True)
class StopDistanceSettings(Settings):
    """Distance of a stop from the price: a multiple of Wilder's ATR."""

    atr_period: Bars = 14
    atr_multiple: ATRs = 2.0


@dataclass(frozen=True, kw_only=True)
class StopSettings(StopDistanceSettings):
    """The parameters of `bt_risk.ATRTrailingStop`, which describes them."""

    anchor: Annotated[str, one_of("close", "extreme", "high")] = "close"
    buffer: PositiveOrZero = 0.0  # ATRs
    trigger: Annotated[str, one_of("intrabar", "close")] = "intrabar"
    min_step: PositiveOrZero = 0.0  # ATRs
    entry_stop: Annotated[str, one_of(NEXT_BAR, ATTACHED)] = NEXT_BAR

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.entry_stop == ATTACHED and self.trigger == "close":
            name, remedy = type(self).__name__, "A stop that acts at closes rests nowhere."
            constraint = "'next bar' with trigger='close'"
            raise ParameterError(name, "entry_stop", constraint, self.entry_stop, remedy)


# What of a bar is judged: its close, or the worst for what is held.
BreakerTrigger = Annotated[str, one_of("close", "intrabar")]


@dataclass(frozen=True, kw_only=True)
class DrawdownSettings(ExtremeSettings):
    """The parameters of `bt_risk.DrawdownBreaker` that a policy has too."""

    drawdown_limit: FractionLimit = 0.10
    action: Annotated[str, one_of("stop", "pause")] = "stop"
    flatten: Flag = True
    cooldown_bars: Annotated[int | None, Check(check_whole, optional=True)] = None
    rearm_at: Annotated[str, one_of("rebase", "recovery")] = "rebase"
    lifetime_limit: FractionLimit = None
    taper_from: Annotated[float | None, Check(check_fraction, zero=True, optional=True)] = None
    confirmations: Bars = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        name, limit = type(self).__name__, ceiling(self.drawdown_limit)
        if self.rearm_at == "recovery" and self.flatten:
            remedy = "A flat account never recovers: use flatten=False, or rearm_at='rebase'."
            constraint = "'rebase' with flatten=True"
            raise ParameterError(name, "rearm_at", constraint, self.rearm_at, remedy)
        if self.cooldown_bars is not None and self.action == "stop":
            remedy = "A run that has ended cannot cool down: use action='pause'."
            constraint = "None with action='stop'"
            raise ParameterError(name, "cooldown_bars", constraint, self.cooldown_bars, remedy)
        if self.taper_from is not None and (math.isinf(limit) or self.taper_from >= limit):
            raise ParameterError(name, "taper_from", "below drawdown_limit", self.taper_from)

    def extremes(self) -> dict[str, float]:
        """Return the first extreme value by name of the limit: a drawdown of all."""
        return super().extremes() | {"drawdown_limit": 1.0, "lifetime_limit": 1.0}

    @property
    def rule(self) -> BreakerRule:
        """When the breaker trips, and how it comes back."""
        return BreakerRule(
            ceiling(self.drawdown_limit),
            self.cooldown_bars,
            self.rearm_at,
            ceiling(self.lifetime_limit),
            self.confirmations,
        )


def _check_equity(component: str, param: str, value: Any) -> Any:
    if not callable(value):
        raise ParameterError(component, param, "a callable without arguments", value)
    return value


@dataclass(frozen=True, kw_only=True)
class BreakerSettings(DrawdownSettings):
    """The parameters of `bt_risk.DrawdownBreaker`, which describes them.

    `trigger` is `drawdown_trigger` in a policy, whose `trigger` is that of the stop.
    """

    trigger: BreakerTrigger = "close"
    equity: Annotated[Callable[[], float] | None, Check(_check_equity, optional=True)] = None
