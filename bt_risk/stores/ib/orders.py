"""Orders: Backtrader's orders as those of ib_async, and the other way round."""

from __future__ import annotations

from typing import Any

import backtrader as bt
from ib_async import Order, Trade
from ib_async.util import UNSET_DOUBLE

__all__ = ["STOPS", "adopted", "key_of", "order_type", "request_for", "terms_of"]

_TYPES = {
    bt.Order.Market: "MKT",
    bt.Order.Close: "MOC",
    bt.Order.Limit: "LMT",
    bt.Order.Stop: "STP",
    bt.Order.StopLimit: "STP LMT",
    bt.Order.StopTrail: "TRAIL",
}
# Those whose price is the stop.
STOPS = ("STP", "STP LMT")
_BACK = {name: number for number, name in _TYPES.items()}
# Only one of a group fills, and a partial fill makes the others smaller: nothing closes twice.
_REDUCE_WITH_BLOCK = 2


def order_type(exectype: int | None) -> str:
    """Return what IB calls a kind of order; ValueError for one that is not supported."""
    name = _TYPES.get(bt.Order.Market if exectype is None else exectype)
    if name is None:
        raise ValueError(f"IBBroker has no orders of type {bt.Order.ExecTypes[exectype]}")
    return name


def request_for(order: Any, client_id: str, group: str, rth: bool, **fields: Any) -> Order:
    """Return the order that ib_async sends; `fields` are set as they are."""
    kind = order_type(order.exectype)
    tif, until = _valid(order, kind)
    request = Order(
        action="BUY" if order.isbuy() else "SELL",
        totalQuantity=abs(order.size),
        orderType=kind,
        orderRef=client_id,
        tif=tif,
        goodTillDate=until,
        outsideRth=not rth,
        ocaGroup=group,
        ocaType=_REDUCE_WITH_BLOCK if group else 0,
    )
    if kind in STOPS:
        request.auxPrice = order.created.price
    if kind == "LMT":
        request.lmtPrice = order.created.price
    elif kind == "STP LMT":
        request.lmtPrice = order.created.pricelimit
    elif kind == "TRAIL":
        if order.trailamount:
            request.auxPrice = order.trailamount
        else:
            request.trailingPercent = 100.0 * order.trailpercent
    for name, value in fields.items():
        if not hasattr(request, name):
            raise ValueError(f"IBBroker: orders have no {name}")
        setattr(request, name, value)
    return request


def _valid(order: Any, kind: str) -> tuple[str, str]:
    """Return for how long an order is good, and until when."""
    valid = order.p.valid
    if valid is None:
        return ("DAY" if kind in ("MKT", "MOC") else "GTC"), ""
    if not valid:  # Backtrader's ``Order.DAY``, and 0
        return "DAY", ""
    return "GTD", f"{bt.num2date(order.valid):%Y%m%d %H:%M:%S} UTC"


def key_of(order: Any) -> Any:
    """Return what identifies an order of ib_async: orders by hand have no number of their own."""
    return (order.clientId, order.orderId) if order.orderId > 0 else order.permId


def terms_of(request: Order) -> tuple[float, float, float]:
    """Return size and prices of an order, to compare it with what was requested."""
    size: Any = request.totalQuantity
    return float(size), _known(request.lmtPrice), _known(request.auxPrice)


def adopted(trade: Trade, data: Any) -> Any:
    """Return an order for one that was sent before this run; its fills are in the position."""
    sent = trade.order
    kind = bt.order.BuyOrder if sent.action == "BUY" else bt.order.SellOrder
    exectype = _BACK.get(sent.orderType, bt.Order.Limit)
    _, limit, price = terms_of(sent)
    if exectype == bt.Order.Limit:
        price = limit
    elif exectype == bt.Order.StopTrail:  # its price moves at the venue, not here
        exectype, price = bt.Order.Stop, _known(sent.trailStopPrice)
    size = float(sent.totalQuantity) - trade.orderStatus.filled
    return kind(
        data=data,
        size=size,
        price=price or None,
        pricelimit=limit or None,
        exectype=exectype,
        simulated=True,
    )


def _known(price: Any) -> float:
    return 0.0 if price in (None, UNSET_DOUBLE) else float(price)
