"""Compute what cash affords: value or margin, and commission, net of working orders.

What market exits bring that fill before the order counts as cash: one sells A and buys B at one
open.
"""

from __future__ import annotations

from typing import Any

from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.rules.sizing import round_down
from bt_risk.tolerances import SIZE_EPS

__all__ = ["affordable"]


def affordable(
    gate: Any,
    instrument: Instrument,
    side: int,
    size: float,
    step: float | None,
    price: float | None = None,
    cash: float | None = None,
) -> float:
    """Return how much of `size` cash affords at `price`, rounded down to the step.

    Without `cash` it is the broker's, net of what working orders will take.
    """
    price = instrument.price if price is None else price
    if cash is None:
        cash = gate.getcash() - _reserved(gate) + _released(gate, instrument)
        if cash != cash:
            return 0.0  # a live broker that has never said what there is
    for _ in range(50):
        cost = _cost(gate, instrument, side * size, price)
        if size <= 0 or cost <= cash:
            return size
        # A fixed fee makes the cost less than proportional: the estimate may need another round.
        size = round_down(min(size * max(cash, 0.0) / cost, size * 0.9999), step)
    return 0.0


def _reserved(gate: Any) -> float:
    """Return the cash that working orders will take."""
    costs = [
        _cost(gate, w.instrument, w.side * w.opening, w.dearest)
        for w in gate.book.working.values()
        if w.opening > SIZE_EPS
    ]
    return sum([max(0.0, cost) for cost in costs])


def _released(gate: Any, instrument: Instrument) -> float:
    """Return the cash that exits bring which fill before an order on an instrument would."""
    if not gate.book.market_orders:
        return 0.0
    return sum([_proceeds(gate, w) for w in gate.venue.leaving(instrument)])


def _proceeds(gate: Any, exit_order: WorkingOrder) -> float:
    """Return the cash that closing brings at the last close, as BackBroker computes it."""
    instrument = exit_order.instrument
    part = exit_order.part
    info = gate.inner.getcommissioninfo(instrument.data)
    closed = exit_order.side * min(exit_order.closing, abs(part.size))
    if gate.venue.short_cash:
        value = info.getvaluesize(-closed, part.price)
    else:
        value = info.getoperationcost(closed, part.price)
    if value > 0:
        value /= info.get_leverage()
    profit = info.profitandloss(-closed, part.price, instrument.price) * info.stocklike
    cash = value + profit - info.getcommission(closed, instrument.price)
    return float(cash * instrument.exchange)


def _cost(gate: Any, instrument: Instrument, size: float, price: float) -> float:
    """Return the cash that opening `size` (signed) takes, negative where a short sale brings it."""
    info = gate.inner.getcommissioninfo(instrument.data)
    shortcash = gate.venue.short_cash
    value = (info.getvaluesize if shortcash else info.getoperationcost)(size, price)
    if value > 0:
        value /= info.get_leverage()
    return (value + info.getcommission(size, price)) * instrument.exchange
