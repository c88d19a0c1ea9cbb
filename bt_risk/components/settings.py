"""The parameters of Kelly and of the sizer that uses it: name, default, unit and check, once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from bt_risk.errors import (
    EXTREME,
    ParameterError,
    check_fraction,
    check_whole,
    is_number,
)
from bt_risk.limits.settings import CostSettings, TradeSettings
from bt_risk.monitors.settings import StopDistanceSettings
from bt_risk.parameters import (
    Check,
    EquityLimit,
    ExtremeSettings,
    Fraction,
    FractionOrZero,
    OptionalPositive,
    PositiveOrZero,
    Trades,
    one_of,
)
from bt_risk.rules.kelly import empirical_kelly, two_point_kelly

__all__ = ["ESTIMATORS", "KellySettings", "SizerSettings"]

ESTIMATORS = {"two-point": two_point_kelly, "empirical": empirical_kelly}


@dataclass(frozen=True, kw_only=True)
class KellySettings(StopDistanceSettings, ExtremeSettings):
    """The parameters of `bt_risk.HalfKellySizer` that a policy has too."""

    kelly_scale: Fraction = 0.5
    kelly_limit: Fraction = 0.02  # of equity at risk in one trade
    lookback: int = 100  # closed trades, at least min_trades
    min_trades: Trades = 100
    warmup_risk: Fraction = 0.01  # of equity
    probe_risk: FractionOrZero = 0.001  # of equity
    recalculate: Annotated[str, one_of("weekly", "daily", "monthly", "trade")] = "weekly"
    estimator: Annotated[str, one_of(*ESTIMATORS)] = "two-point"
    confidence: Annotated[float | None, Check(check_fraction, one=False, optional=True)] = None
    history: Iterable[float] | None = None  # R-multiples
    win_rate: Annotated[float | None, Check(check_fraction, zero=True, optional=True)] = None
    payoff_ratio: OptionalPositive = None
    pool: Annotated[str, one_of("strategy", "data")] = "strategy"
    atr_floor: PositiveOrZero = 0.5  # medians of the ATR

    def __post_init__(self) -> None:
        super().__post_init__()
        name, remedy = type(self).__name__, "min_trades must fit in it."
        trades = check_whole(name, "lookback", self.lookback, low=self.min_trades, remedy=remedy)
        self._set("lookback", trades)
        _check_history(name, self.history, self.win_rate, self.payoff_ratio)

    def extremes(self) -> dict[str, float]:
        """Return the first extreme value by name of the limit."""
        names = ("kelly_limit", "warmup_risk", "probe_risk")
        return super().extremes() | dict.fromkeys(names, EXTREME)

    def first_trades(self) -> list[float]:
        """Return the R-multiples that count as the first trades of the window."""
        if self.win_rate is not None and self.payoff_ratio is not None:
            wins = round(self.win_rate * self.min_trades)
            return [float(self.payoff_ratio)] * wins + [-1.0] * (self.min_trades - wins)
        return [float(r) for r in self.history or ()]


@dataclass(frozen=True, kw_only=True)
class SizerSettings(KellySettings, CostSettings):
    """The parameters of `bt_risk.HalfKellySizer`, which describes them."""

    notional_limit: EquityLimit = TradeSettings.notional_limit
    step: OptionalPositive = None  # units


def _check_history(component: str, history: Any, win_rate: Any, payoff_ratio: Any) -> None:
    if (win_rate is None) != (payoff_ratio is None):
        given = (win_rate, payoff_ratio)
        raise ParameterError(component, "win_rate and payoff_ratio", "given together", given)
    if history is None:
        return
    if win_rate is not None:
        raise ParameterError(component, "history", "None when win_rate is given", "both")
    numbers = isinstance(history, Iterable) and all(map(is_number, history))
    if not (numbers and all(map(math.isfinite, history))):
        constraint = "finite multiples of the risk taken (R)"
        raise ParameterError(component, "history", constraint, history)
