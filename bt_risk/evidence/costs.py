"""Other costs for the same strategy: its commission multiplied, slippage added."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import backtrader as bt

from bt_risk.errors import ParameterError

__all__ = ["UNCHANGED", "CostChange"]


class CostChange(NamedTuple):
    """Change what the broker of a Cerebro charges.

    Attributes
    ----------
    commission : float
        Multiple of the commission that the user has set.
    slippage : float
        Share of the price by which market and stop orders fill worse, beside the slippage that
        the user has set. It is paid in full, also at the open and beyond the range of the bar.
        Limit orders and orders at the close pay none.
    """

    commission: float = 1.0
    slippage: float = 0.0

    def apply(self, cerebro: bt.Cerebro) -> bt.Cerebro:
        """Change the costs of a Cerebro that has not run; return it.

        Commission schemes may be shared by several Cerebros, so this one has copies.
        """
        if self == UNCHANGED:
            return cerebro
        broker = cerebro.broker
        if not isinstance(broker, bt.brokers.BackBroker):
            constraint = "a Cerebro with a broker of Backtrader's own"
            remedy = "costs= changes what that one charges; leave protect() and the gate out."
            raise ParameterError("compare", "build", constraint, type(broker).__name__, remedy)
        if self.commission != 1.0:
            schemes = broker.comminfo.items()
            broker.comminfo = {name: _charging(one, self.commission) for name, one in schemes}
        if self.slippage:
            broker._slip_up = _slipping(broker._slip_up, self.slippage)
            broker._slip_down = _slipping(broker._slip_down, -self.slippage)
        return cerebro


UNCHANGED = CostChange()


def _charging(scheme: Any, factor: float) -> Any:
    """Return a copy of a commission scheme that charges so many times as much."""
    copied = copy.copy(scheme)
    charge = copied.getcommission
    copied.getcommission = lambda size, price: factor * charge(size, price)
    return copied


def _slipping(slip: Callable[..., float | None], share: float) -> Callable[..., float | None]:
    """Return a method of a broker that slips by a further share of the price."""

    def slipped(bound: float, price: float, doslip: bool = True, lim: bool = False) -> float | None:
        filled = slip(bound, price, doslip=doslip, lim=lim)
        return filled if filled is None or lim else filled + share * abs(filled)

    return slipped
