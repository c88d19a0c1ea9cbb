"""Fills: executions of Interactive Brokers as Backtrader's orders have them."""

from __future__ import annotations

from typing import Any

import backtrader as bt
from backtrader.position import Position
from ib_async import Fill

__all__ = ["execute", "fill_name", "filled_before"]

# IB's number for "not known" is larger than any commission.
_UNKNOWN = 1e100


def fill_name(fill: Fill) -> str:
    """Return what identifies an execution: a correction of it has another number at its end."""
    return str(fill.execution.execId.rpartition(".")[0] or fill.execution.execId)


def execute(order: Any, fill: Fill, position: Any, scheme: Any) -> float:
    """Book an execution in an order and in a position; return the cash that it takes."""
    size = float(fill.execution.shares) * (1.0 if order.isbuy() else -1.0)
    price, before = float(fill.execution.price), position.price
    held, average, opened, closed = position.update(size, price)
    fee = float(fill.commissionReport.commission)
    fee = fee if abs(fee) < _UNKNOWN else 0.0
    closing = (closed, abs(closed) * before, fee * closed / size)
    opening = (opened, abs(opened) * price, fee * opened / size)
    pnl = scheme.profitandloss(-closed, before, price)
    now = order.data.datetime[0] if len(order.data) else 0.0
    order.execute(now, size, price, *closing, *opening, 0.0, pnl, held, average)
    return fee + (float(scheme.getvaluesize(size, price)) if scheme.stocklike else 0.0)


def filled_before(fills: list[Fill], data: Any, scheme: Any) -> Any:
    """Return a filled order for executions that the position includes already."""
    first = fills[0].execution
    kind = bt.order.BuyOrder if first.side == "BOT" else bt.order.SellOrder
    size = sum([float(fill.execution.shares) for fill in fills])
    order = kind(data=data, size=size, simulated=True)
    order.addinfo(client_id=first.orderRef, venue_id=str(first.permId))
    order.addcomminfo(scheme)
    order.accept()
    for fill in fills:
        execute(order, fill, Position(), scheme)
    return order
