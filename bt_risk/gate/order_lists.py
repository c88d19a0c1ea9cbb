"""Show a strategy the orders that the wrapped broker lists, without those of bt_risk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

__all__ = ["LISTS", "as_listed"]

# Names under which brokers list orders; `get_orders_open` is a method, the others are containers.
LISTS = frozenset({"get_orders_open", "open_orders", "orders", "pending", "submitted"})


def as_listed(gate: Any, name: str, found: Any) -> Any:
    """Return what a strategy reads under one of the names in `LISTS`.

    `found` is what the wrapped broker has under that name. It comes back as it is while bt_risk has
    sent no order, and else as a copy without the orders of bt_risk.
    """
    if name == "get_orders_open":
        return partial(_open_orders, gate, found)
    if gate.venue.direct and not gate.own:
        return found
    if isinstance(found, dict):
        sent = ((key, _as_sent(gate, order)) for key, order in found.items())
        return {key: order for key, order in sent if order is not None}
    if isinstance(found, (list, deque)):
        return type(found)(_shown(gate, found))
    return found


def _open_orders(gate: Any, ask: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
    """Return the open orders of strategies, with ``safe=True`` clones of them."""
    shown = _shown(gate, ask(*args, **kwargs))
    safe = args[0] if args else kwargs.get("safe", False)
    return [order.clone() for order in shown] if safe else list(shown)


def _shown(gate: Any, orders: Iterable[Any]) -> Iterator[Any]:
    """Yield the listed orders of strategies, then those that the broker has not received yet."""
    known = {order.ref: order for order in gate.held_orders.orders()}
    known |= gate.order_sender.doubts.orders()
    for order in orders:
        sent = _as_sent(gate, order)
        if sent is not None:
            known.pop(getattr(sent, "ref", None), None)
            yield sent
    yield from (order for ref, order in known.items() if ref not in gate.own)


def _as_sent(gate: Any, order: Any) -> Any:
    """Return an order as the strategy has received it, None for one of bt_risk."""
    ref = getattr(order, "ref", None)
    return None if ref in gate.own else gate.held_orders.numbers.received(ref, order)
