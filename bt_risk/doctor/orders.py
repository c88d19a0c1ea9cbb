"""SentOrder: an order that the checks have sent, and what the store has reported of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import backtrader as bt

__all__ = ["Note", "SentOrder", "note_of"]

_ENDED = ("Completed", "Canceled", "Expired", "Margin", "Rejected")


class Note(NamedTuple):
    """One notification of an order."""

    status: str
    size: float
    price: float
    at: float


def note_of(order: Any, at: float) -> Note:
    """Return what a notification states, as it is at this moment."""
    done = order.executed
    return Note(order.getstatusname(), float(done.size or 0.0), float(done.price or 0.0), at)


@dataclass(eq=False)
class SentOrder:
    """An order of the checks.

    Attributes
    ----------
    what : str
        The order in words.
    order : order or None
        What the broker has returned.
    side : {1, -1}
    size : float
    price : float
        The price of a stop or limit order, NaN for a market order.
    sent_at : float
        When it was sent.
    client_id : str
        The client id that it was sent with, if it was.
    error : str
        What the broker has raised, or why there is no order.
    notes : list of Note
        What the store has reported.
    """

    what: str
    side: int
    size: float
    price: float
    sent_at: float
    client_id: str = ""
    order: Any = None
    error: str = ""
    notes: list[Note] = field(default_factory=list)

    def count(self, status: str) -> int:
        """Return how often a status was reported."""
        return sum(note.status == status for note in self.notes)

    def has(self, status: str) -> bool:
        """Return whether a status was reported."""
        return self.count(status) > 0

    @property
    def filled(self) -> float:
        """Return the units that have filled, by the notifications; without a sign."""
        sizes = [abs(note.size) for note in self.notes]
        whole = self.size if self.has("Completed") else 0.0  # a store may leave the size out
        return max([*sizes, whole])

    @property
    def ended(self) -> bool:
        """Return whether a notification has ended the order, or it was never accepted."""
        return self.order is None or any(note.status in _ENDED for note in self.notes)

    @property
    def refused(self) -> bool:
        """Return whether the broker has refused the order."""
        return bool(self.error) or any(self.has(status) for status in ("Rejected", "Margin"))

    @property
    def accepted(self) -> bool:
        """Return whether the order is working: its acceptance was reported, or its object says it.

        Some stores hand the order itself on, and report no acceptance.
        """
        if self.ended:
            return False
        return self.has("Accepted") or getattr(self.order, "status", None) == bt.Order.Accepted

    def story(self) -> str:
        """Return what was reported, in order."""
        if self.error:
            return self.error
        return ", ".join(note.status for note in self.notes) or "no notification"
