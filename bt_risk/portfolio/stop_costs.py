"""StopCosts: what a stop-out of an instrument costs under its commission scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_risk.rules.stop_costs import stop_out_cost
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.position import WorkingOrder

__all__ = ["StopCosts"]


@dataclass(frozen=True)
class StopCosts:
    """Count commission and slippage as part of the risk: ``costs_in_risk=True``.

    A book without one counts the distance to the stop alone.

    Parameters
    ----------
    slippage : float
        How far beyond its price a stop fills, as a fraction of that price.
    """

    slippage: float = 0.0

    def of(
        self, instrument: Instrument, side: int, size: float, price: float, stop_price: float
    ) -> float:
        """Return what opening `size` units and losing them at a stop costs, in currency.

        The distance itself is not part of it. An instrument that no commission scheme was measured
        for has no commission.
        """
        if not size > 0.0:
            return 0.0
        charges = instrument.charges
        commission = _no_commission if charges is None else charges.getcommission
        paid, points = stop_out_cost(commission, side, size, price, stop_price, self.slippage)
        return paid * instrument.exchange + size * points * instrument.multiplier

    def per_unit(
        self, instrument: Instrument, side: int, size: float, price: float, distance: float
    ) -> float:
        """Return the same for each unit, in points of price, for a stop so far from `price`."""
        if not size > 0.0:
            return 0.0
        cost = self.of(instrument, side, size, price, price - side * distance)
        return cost / size / instrument.multiplier

    def charge(self, working: WorkingOrder) -> None:
        """Set the cost of each unit that an order opens, from its price and its stop distance."""
        if working.opening > SIZE_EPS:
            of = working.opening, working.dearest, working.distance
            working.cost = self.per_unit(working.instrument, working.side, *of)


def _no_commission(_size: float, _price: float) -> float:
    return 0.0
