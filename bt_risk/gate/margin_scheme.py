"""The commission schemes of a margin account: those of the user, with its leverage."""

from __future__ import annotations

import copy
from typing import Any

import backtrader as bt

__all__ = ["levered", "on_margin"]


def on_margin(broker: Any, leverage: float) -> dict[Any, Any]:
    """Give every scheme for stocks of a BackBroker a leverage; return its own schemes by name.

    A long then takes notional / leverage of cash and a loss stays a loss in full. Schemes for
    futures state the margin of a contract themselves, and stay.
    """
    own = dict(broker.comminfo)
    for name, scheme in own.items():
        if scheme.stocklike:
            broker.comminfo[name] = levered(scheme, leverage)
    return own


def levered(scheme: Any, leverage: float) -> Any:
    """Return a copy of a commission scheme with another leverage."""
    copied = copy.copy(scheme)
    copied.p = copied.params = copy.copy(scheme.p)
    copied.p.leverage = leverage
    if type(scheme).get_leverage is not bt.CommInfoBase.get_leverage:
        copied.get_leverage = lambda: leverage
    return copied
