"""End orders of a BackBroker that stand alone, without the searches that would find nothing.

Whenever an order ends, BackBroker looks through its whole queue for alternatives of it and for
children, and it compares every order on the way. Almost every order has neither. What an order with
alternatives or children leaves behind is left to BackBroker itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import backtrader as bt

from bt_risk.gate.native_orders import notify
from bt_risk.known_engine import other_engine

__all__ = ["install_quick_ends"]


def install_quick_ends(broker: Any) -> list[str]:
    """Replace calls on one BackBroker by equal ones; return their names, to be deleted again.

    A broker of another kind keeps its own, and so does one on which somebody has replaced a call.
    """
    if type(broker) is not bt.brokers.BackBroker:
        return []
    calls = ["notify"] if other_engine() else _CALLS
    names = [name for name in calls if name not in vars(broker)]
    for name in names:
        setattr(broker, name, partial(_CALLS[name], broker))
    return names


def _cancel(broker: Any, order: Any, bracket: bool = False) -> bool:
    """Cancel an order that is on the queue, as ``BackBroker.cancel`` does."""
    for place, one in enumerate(broker.pending):
        if one is order:
            del broker.pending[place]
            break
    else:  # it may be a copy of one
        found: bool = bt.brokers.BackBroker.cancel(broker, order, bracket)
        return found
    order.cancel()
    broker.notify(order)
    broker._ococheck(order)
    if not bracket:
        broker._bracketize(order, cancel=True)
    return True


def _end_alternatives(broker: Any, order: Any) -> None:
    """Cancel what the order replaces, as ``BackBroker._ococheck`` does."""
    leader = broker._ocos.get(broker._ocos[order.ref])
    if broker._ocol.get(leader) == [order.ref]:
        del broker._ocol[leader]
    else:
        bt.brokers.BackBroker._ococheck(broker, order)


def _end_children(broker: Any, order: Any, cancel: bool = False) -> None:
    """Cancel or activate the children of an order, as ``BackBroker._bracketize`` does."""
    family = broker._pchildren.get(order.ref) if cancel else None
    if family is not None and len(family) == 1 and family[0] is order:
        del broker._pchildren[order.ref]
    else:
        bt.brokers.BackBroker._bracketize(broker, order, cancel)


_CALLS: dict[str, Callable[..., Any]] = {
    "notify": notify,
    "cancel": _cancel,
    "_ococheck": _end_alternatives,
    "_bracketize": _end_children,
}
