"""The parameters of all limits: name, default, unit and check of each, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from bt_risk.errors import EXTREME, ParameterError, check_fraction, check_whole, raised_as
from bt_risk.parameters import (
    Bars,
    Check,
    EquityLimit,
    ExtremeSettings,
    Flag,
    FractionLimit,
    FractionOrZero,
    OptionalPositive,
    PositiveOrZero,
    Returns,
    Settings,
    ceiling,
    one_of,
)
from bt_risk.portfolio.stop_costs import StopCosts
from bt_risk.rules.estimators import Estimator
from bt_risk.rules.return_model import STALE_BARS, ReturnModel

__all__ = [
    "ESTIMATOR",
    "EXPOSURE_LIMIT",
    "REJECT",
    "TRIM",
    "UNITS",
    "CostSettings",
    "LimitSettings",
    "TradeSettings",
]

REJECT, TRIM = "reject", "trim"
UNITS = ("risk", "notional")

# Rule 3 where it is on: in a Policy, and in an ExposureLimit that a user builds.
EXPOSURE_LIMIT = 0.05

# The estimator of correlations: `correlation_estimator` among the settings, because the `estimator`
# of a Policy is Kelly's; `estimator` in CorrelationCap and the limits, which have no other.
ESTIMATOR = {"estimator": "correlation_estimator"}


@dataclass(frozen=True, kw_only=True)
class CostSettings(Settings):
    """Whether commission and slippage are part of what a position loses at its stop."""

    costs_in_risk: Flag = False
    slippage: FractionOrZero = 0.0  # of the price of the stop

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slippage and not self.costs_in_risk:
            remedy = "Add costs_in_risk=True: slippage is one of the costs that it counts."
            name, constraint = type(self).__name__, "0 with costs_in_risk=False"
            raise ParameterError(name, "slippage", constraint, self.slippage, remedy)

    @property
    def stop_costs(self) -> StopCosts | None:
        """Return what is counted beside the distance to a stop, None where nothing is."""
        return StopCosts(self.slippage) if self.costs_in_risk else None


@dataclass(frozen=True, kw_only=True)
class TradeSettings(CostSettings, ExtremeSettings):
    """The limits of a single position: what it may lose at its stop, and what it may be worth."""

    risk_limit: FractionLimit = 0.01
    notional_limit: EquityLimit = 1.0

    def extremes(self) -> dict[str, float]:
        """Return the first extreme value by name of the limit."""
        return super().extremes() | {"risk_limit": EXTREME}


def check_groups(component: str, param: str, groups: Any) -> Any:
    """Return the groups if they are lists of names by name of the group."""
    constraint = "a dict of lists of data names by name of the group"
    if not isinstance(groups, Mapping):
        raise ParameterError(component, param, constraint, groups)
    for members in groups.values():
        listed = isinstance(members, (list, tuple, set)) and members
        if not listed or not all(isinstance(name, str) for name in members):
            raise ParameterError(component, param, constraint, groups)
    return groups


@dataclass(frozen=True, kw_only=True)
class LimitSettings(ExtremeSettings):
    """The limits of everything that is held; see `bt_risk.CorrelationCap` for each of them."""

    exposure_limit: EquityLimit = None
    gross_limit: EquityLimit = None
    net_limit: EquityLimit = None
    position_limit: EquityLimit = None
    groups: Annotated[Mapping[str, Any] | None, Check(check_groups, optional=True)] = None
    group_limit: EquityLimit = None
    exposure_unit: Annotated[str, one_of(*UNITS)] = "risk"
    on_exposure: Annotated[str, one_of(TRIM, REJECT)] = TRIM
    correlation_limit: FractionLimit = 0.7
    window: int = 252  # bars, at least min_periods
    min_periods: Returns = 60
    on_correlation: Annotated[str, one_of(REJECT, TRIM)] = REJECT
    correlated_scale: Annotated[float, Check(check_fraction, one=False)] = 0.8
    hysteresis: PositiveOrZero = 0.0  # of correlation, below correlation_limit
    correlation_estimator: str = "rolling"
    halflife: float | None = None  # bars, for "ewm"
    multi_bar: Bars = 1
    downside: Flag = False
    unknown: Annotated[str, one_of("refuse", "allow")] = "refuse"
    max_stale_bars: Bars = STALE_BARS
    volatility_limit: EquityLimit = None  # standard deviation of a year
    gap_limit: FractionLimit = None  # of equity
    gap_floor: FractionOrZero = 0.0  # of the price
    on_volatility: Annotated[str, one_of(TRIM, REJECT)] = TRIM
    periods_per_year: OptionalPositive = None  # bars

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        self._set("window", check_whole(name, "window", self.window, low=self.min_periods))
        self._estimator()
        if self.hysteresis >= ceiling(self.correlation_limit):
            constraint = f"below correlation_limit, which is {self.correlation_limit:g}"
            raise ParameterError(name, "hysteresis", constraint, self.hysteresis)
        if self.gap_floor and self.gap_limit is None:
            remedy = "Add gap_limit=0.03: gap_floor is the least gap that it assumes."
            constraint = "0 without gap_limit"
            raise ParameterError(name, "gap_floor", constraint, self.gap_floor, remedy)
        if self.group_limit is not None and not self.groups:
            constraint = 'given with group_limit, as {"majors": ["BTC", "ETH"]}'
            raise ParameterError(name, "groups", constraint, self.groups)

    def extremes(self) -> dict[str, float]:
        """Return the first extreme value by name of the limit; notional may be above equity."""
        gap = {"gap_limit": EXTREME}
        if self.exposure_unit != "risk":
            return super().extremes() | gap
        names = ("exposure_limit", "gross_limit", "net_limit", "position_limit", "group_limit")
        return super().extremes() | gap | dict.fromkeys(names, EXTREME)

    def _estimator(self) -> Estimator:
        name = type(self).__name__
        with raised_as(name, **ESTIMATOR):
            return Estimator.checked(name, self.correlation_estimator, self.halflife)

    @property
    def return_model(self) -> ReturnModel:
        """Return what correlations and volatility are computed from."""
        return ReturnModel(
            self.window, self.min_periods, self.multi_bar, self._estimator(), self.unknown
        )
