"""The limits that look at everything that is held, built together from one set of parameters."""

from bt_risk.limits.base import REJECT, TRIM
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import (
    ExposureLimit,
    GrossLimit,
    GroupLimit,
    NetLimit,
    PositionLimit,
)
from bt_risk.limits.volatility import VolatilityLimit

__all__ = ["portfolio_limits"]


def portfolio_limits(
    *,
    correlation_limit=0.7,
    window=252,
    min_periods=60,
    on_correlation=REJECT,
    correlated_scale=0.8,
    unknown="refuse",
    estimator="rolling",
    halflife=None,
    hysteresis=0.0,
    multi_bar=1,
    downside=False,
    exposure_limit=None,
    gross_limit=None,
    net_limit=None,
    position_limit=None,
    groups=None,
    group_limit=None,
    exposure_unit="risk",
    on_exposure=TRIM,
    volatility_limit=None,
    on_volatility=TRIM,
    periods_per_year=None,
):
    """Return a new limit for each rule, active or not; parameters are those of the limits."""
    unit = exposure_unit, on_exposure
    returns = dict(unknown=unknown, estimator=estimator, halflife=halflife, multi_bar=multi_bar)
    return [
        ExposureLimit(exposure_limit, *unit),
        GrossLimit(gross_limit, *unit),
        NetLimit(net_limit, *unit),
        PositionLimit(position_limit, *unit),
        GroupLimit(groups, group_limit, *unit),
        CorrelationLimit(
            correlation_limit,
            window,
            min_periods,
            on_correlation,
            correlated_scale,
            hysteresis=hysteresis,
            downside=downside,
            **returns,
        ),
        VolatilityLimit(
            volatility_limit,
            window,
            min_periods,
            on_volatility,
            periods_per_year=periods_per_year,
            **returns,
        ),
    ]
