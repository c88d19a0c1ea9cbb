"""Capabilities: what the wrapped broker can do, and what an order needs that it cannot."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from bt_risk.errors import ParameterError

__all__ = ["CAPABILITIES", "Capabilities", "check_capabilities"]

# The capabilities that a broker may have, and the value assumed for one that does not declare it. A
# store that does not support a kind of order seldom refuses it: it sells a trailing stop at the
# market, or does not cancel the other order of an OCO group.
CAPABILITIES = {
    "stop": True,
    "trailing": False,
    "oco": False,
    "brackets": False,
    "replace": False,
    "reduce_only": False,
    "two_exits": False,
    "client_ids": False,
    "order_lists": False,
    "attached": False,
}

# The capabilities of Backtrader's own live brokers, by module.
BUILT_IN: dict[str, dict[str, bool]] = {
    "backtrader.brokers.ibbroker": {"trailing": True, "oco": True, "brackets": True},
    "backtrader.brokers.oandabroker": {"brackets": True},
}

_STOPS = (bt.Order.Stop, bt.Order.StopLimit)
_TRAILS = (bt.Order.StopTrail, bt.Order.StopTrailLimit)
# What the capabilities that an order may need are called in a reason.
_TEXTS = {
    "stop": "stop orders",
    "trailing": "trailing stops",
    "oco": "OCO orders",
    "brackets": "brackets",
}


class Capabilities:
    """Answer what the broker that one `RiskBroker` wraps can do.

    Parameters
    ----------
    inner : broker
        May declare some of `CAPABILITIES` itself, in its attribute ``capabilities``.
    declared : dict
        Capabilities that the user declares; they go before the broker's own.
    direct : bool
        Whether it is a simulation, which takes every kind of order.
    """

    def __init__(self, inner: Any, declared: dict[str, bool], direct: bool) -> None:
        self.direct = direct
        own = getattr(inner, "capabilities", None)
        own = own if isinstance(own, dict) else {}
        known = {name: value for name, value in own.items() if name in CAPABILITIES}
        self._can = CAPABILITIES | _built_in(type(inner)) | known | declared

    def can(self, capability: str) -> bool:
        """Return whether the broker has a capability, by the names in `CAPABILITIES`."""
        return self.direct or bool(self._can[capability])

    def lacking(self, args: dict[str, Any]) -> str:
        """Return what an order with these arguments needs and the broker lacks, or ""."""
        kind = args["exectype"]
        needs = {
            "stop": kind in _STOPS,
            "trailing": kind in _TRAILS,
            "oco": args["oco"] is not None,
            "brackets": args["parent"] is not None or not args["transmit"],
        }
        return ", ".join(_TEXTS[n] for n, needed in needs.items() if needed and not self.can(n))


def _built_in(kind: type) -> dict[str, bool]:
    """Return the capabilities of Backtrader's own live broker that a class is or derives from."""
    return next((BUILT_IN[c.__module__] for c in kind.__mro__ if c.__module__ in BUILT_IN), {})


def check_capabilities(capabilities: Any) -> dict[str, bool]:
    """Return the capabilities that a user declares; ParameterError for anything else."""
    given = {} if capabilities is None else capabilities
    constraint = "a dict of True or False by name"
    if not isinstance(given, dict):
        raise ParameterError("Live", "capabilities", constraint, given)
    for name, value in given.items():
        if name not in CAPABILITIES:
            listed = f"named {', '.join(CAPABILITIES)}"
            raise ParameterError("Live", "capabilities", listed, name)
        if not isinstance(value, bool):
            raise ParameterError("Live", "capabilities", constraint, value)
    return dict(given)
