"""NetAccount: balance and equity of an account without its deposits and withdrawals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bt_risk.tolerances import RATIO_EPS

__all__ = ["NetAccount"]

_INF = math.inf


class NetAccount:
    """Sample the account of one `RiskBroker`.

    The unit value does not move with flows, so that the number of units (equity over unit value)
    moves with nothing else.

    Attributes
    ----------
    balance : float
        What closed trades have left, commissions included: equity less the profit of open
        positions at their last closes.
    equity : float
    flows : float
        Deposits less withdrawals since the first sample, in currency; the other two are without
        them.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.balance = self.equity = math.nan
        self.flows = 0.0
        self._units = self._unit = math.nan

    def sample(self, balance: bool = True) -> bool:
        """Take a sample; return whether the account is known now.

        Without `balance` only its equity is; the balance stays that of the last sample.
        """
        gate = self.gate
        book = gate.book
        if book.suspects and book.doubt(bars=1):
            return False  # one suspect bar moves no mark and trips nothing
        value, unit = gate.equity(), gate.unit_value()
        if not (-_INF < value < _INF and -_INF < unit < _INF) or unit == 0.0:
            return False
        units = value / unit
        if units != self._units:
            self._count_flow(units, unit)
        self._unit = unit
        self.equity = equity = value - self.flows
        if (balance or self.balance != self.balance) and not (book.suspects and book.doubt()):
            self.balance = equity - self._open_profit()
        return self.balance == self.balance

    def counts_no_flow(self, units: float) -> bool:
        """Return whether no sample with this number of units, rounded, would count a flow."""
        return abs(units - self._units) < 0.5 * RATIO_EPS * abs(units)

    def skip(self, value: float, unit: float, profit: float | None) -> None:
        """Take a sample for which nothing has been paid in or out, without a balance for None."""
        self._unit = unit
        self.equity = value - self.flows
        if profit is not None:
            self.balance = self.equity - profit

    def _count_flow(self, units: float, unit: float) -> None:
        """Count what has changed the number of units, at the unit value of that moment."""
        added = units - self._units
        if math.isnan(added):
            self._units = units
        elif abs(added) > RATIO_EPS * abs(units):
            # BackBroker adds cash before it values a bar, a live account is valued with it.
            self.flows += added * (self._unit if self.gate.venue.direct else unit)
            self._units = units

    def _open_profit(self) -> float:
        profit = 0.0
        for part in self.gate.book.parts.values():
            if part.size:
                one = part.instrument
                profit += part.size * (one.price - part.price) * one.multiplier
        return profit

    def persist(self) -> dict[str, float]:
        """Return what must survive the process."""
        return {"flows": self.flows, "units": self._units}

    def restore(self, saved: Mapping[str, float]) -> None:
        """Go on from the saved values; a live account has the same units as before."""
        self.flows = saved["flows"]
        if not self.gate.venue.direct:
            self._units = saved["units"]
