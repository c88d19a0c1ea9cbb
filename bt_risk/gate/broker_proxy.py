"""BrokerProxy: what the gate does not define itself is read and set on the wrapped broker."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.errors import ParameterError, is_number
from bt_risk.gate.order_lists import LISTS, as_listed
from bt_risk.gate.other_engines import NotificationQueue

__all__ = ["BrokerProxy"]


class BrokerProxy:
    """Look like the wrapped broker, `inner`, to Cerebro, strategies and users.

    A name belongs to the proxy if its class defines or annotates it, or if the wrapped broker does
    not have it; so a subclass keeps its own attributes. Every other name is the wrapped broker's,
    and so is one that the proxy only reads, as a property.
    """

    inner: Any
    venue: Any
    book: Any
    inputs: Any
    _declared: frozenset[str] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = (vars(base).get("__annotations__", {}) for base in cls.__mro__)
        cls._declared = frozenset(name for annotated in names for name in annotated)

    def setcash(self, cash: float) -> None:
        """Set the cash; after the first bar that is a deposit or a withdrawal, not profit."""
        if self.inputs is not None:
            self.inputs.add("setcash", amount=cash)
        self.venue.set_cash(cash)

    set_cash = setcash

    def cash_flow(self, amount: float) -> None:
        """Report a deposit, or a withdrawal (negative): see `bt_risk.cash_flow`."""
        if not (is_number(amount) and math.isfinite(amount) and amount):
            constraint = "the currency that was paid in (positive) or taken out (negative)"
            raise ParameterError(type(self).__name__, "cash_flow()", constraint, amount)
        if self.inputs is not None:
            self.inputs.add("cash_flow", amount=amount)
        self.venue.cash_flow(float(amount))

    def add_cash(self, cash: float) -> None:
        """Let Backtrader's own simulation pay in or out on the next bar."""
        if self.inputs is not None:
            self.inputs.add("add_cash", amount=cash)
        self.inner.add_cash(cash)

    def get_cash(self) -> float:
        """Return the cash, whichever of the two names the wrapped broker has."""
        return self.getcash()

    def get_value(self, *args: Any, **kwargs: Any) -> float:
        """Return the account value, whichever of the two names the wrapped broker has."""
        return self.getvalue(*args, **kwargs)

    @property
    def notifs(self) -> NotificationQueue:
        """Notifications for an engine that does not call ``get_notification``."""
        return NotificationQueue(self)

    @property
    def fundvalue(self) -> float:
        """Value of one share of the account, which deposits do not move."""
        return self.venue.fund_value()

    @property
    def positions(self) -> Any:
        """Positions by data feed."""
        if hasattr(self.inner, "positions"):
            return self.inner.positions
        return {i.data: self.inner.getposition(i.data) for i in self.book.instruments}

    @property
    def fundshares(self) -> float:
        """Shares of the account."""
        return self.inner.fundshares

    @property
    def startingcash(self) -> float:
        """Cash at the start, 0.0 where the wrapped broker does not have it."""
        return getattr(self.inner, "startingcash", 0.0)

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("inner")
        if inner is None or name.startswith("__") or name in self._declared:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        found = getattr(inner, name)
        return as_listed(self, name, found) if name in LISTS else found

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__ and self._belongs_to_inner(name):
            setattr(self.inner, name, value)
            return
        object.__setattr__(self, name, value)
        if name == "cerebro":
            self.inner.cerebro = value

    def _belongs_to_inner(self, name: str) -> bool:
        inner = self.__dict__.get("inner")
        if inner is None or name in self._declared or not hasattr(inner, name):
            return False
        defined = getattr(type(self), name, None)
        return defined is None or isinstance(defined, property)
