"""Presets: guards by the name of the purpose that they serve together."""

from __future__ import annotations

from bt_risk.limits.clock_guards import OrderRateLimit
from bt_risk.limits.order_guards import DuplicateOrder, PriceCollar, RepeatedOrders
from bt_risk.limits.trade_guards import Guard

__all__ = ["PRESETS"]

PRESETS: dict[str, tuple[Guard, ...]] = {
    # docs/market-access.md names the rule that each of them answers.
    "market-access": (
        PriceCollar(atr=10.0),
        DuplicateOrder(within=1),
        OrderRateLimit(bar_limit=20, day_limit=500),
        RepeatedOrders(n=20),
    ),
}
