"""Compensation: ``data1.compensate(data0)`` lets orders on data1 change the position of data0.

Only BackBroker does that, and it follows one step. Such an order is judged, booked and covered as
an order on the position of data0; our own orders for that position are sent on data0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_risk.limits.base import Decision
from bt_risk.orders import OrderRequest, refusal
from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["note", "outside", "unsupported"]

_RULE = "compensate"


def outside(gate: RiskBroker, request: OrderRequest) -> Decision | None:
    """Refuse an order that would change the position of a data feed that this run does not have."""
    data = request.sent_on.data
    if data._compensate is None or gate.venue.held_in(data) is not None:
        return None
    return refusal(_RULE, f"{request.sent_on.name} compensates no data feed of this Cerebro")


def unsupported(gate: RiskBroker, request: OrderRequest) -> Decision | None:
    """Refuse to open what could not be closed again, or what the broker keeps apart."""
    sent_on, held_in = request.sent_on, request.instrument
    other = gate.book.find(sent_on.data._compensate)
    if sent_on is held_in and other is not sent_on:
        name = "another" if other is None else other.name
        text = f"the broker nets no positions: an order on {sent_on.name} leaves that of {name}"
        return refusal(_RULE, text)
    chained = held_in.data._compensate
    if chained is not None and chained is not held_in.data:
        text = f"{sent_on.name} compensates {held_in.name}, which compensates another data feed"
        return refusal(_RULE, f"{text} itself")
    if gate.registry.limits and not sent_on.length:
        return refusal("unknown", sent_on.why_unknown())
    return None


def note(gate: RiskBroker, sent_on: Instrument, held_in: Instrument) -> None:
    """Write to the journal, once for a data feed, where its orders are judged."""
    if sent_on is not held_in and gate.judges and gate.journal.once((_RULE, sent_on.index)):
        text = f"orders on {sent_on.name} change the position of {held_in.name}"
        reason = f"{_RULE}: {text} and are judged there"
        gate.journal.instrument(sent_on, _RULE, "note", reason)
