"""Throttle: entries and their cancels wait where a broker would get too many requests a second."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from bt_risk.orders import OrderRequest, Verdict
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["Throttle"]


class Throttle:
    """Count the requests that change something at one live broker, and delay what can wait.

    Exits, stops, their cancels and replacements count and never wait: only entries do, and the
    cancels of entries that a strategy requests. A cancel that the gate decides, as at a halt, does
    not wait either.

    Parameters
    ----------
    gate : RiskBroker
    rate : float or None
        Requests a second; None: nothing waits.
    """

    def __init__(self, gate: Gate, rate: float | None) -> None:
        self.gate = gate
        self._most = math.inf if rate is None else max(1, math.floor(rate))
        self._window = 0.0 if rate is None else self._most / rate
        self._sent: deque[float] = deque(maxlen=None if rate is None else int(self._most))
        self._cancels: list[WorkingOrder] = []

    @property
    def reason(self) -> str:
        """Return why an order waits."""
        number, seconds = int(self._most), f"{self._window:g} s"
        return f"orders_per_second: waits, {number} requests were sent in the last {seconds}"

    def count(self) -> None:
        """Count a request that is sent now."""
        if self._window:
            self._sent.append(self.gate.live.clock())

    def full(self) -> bool:
        """Return whether one more request would be too many now."""
        full = len(self._sent) >= self._most
        return full and self.gate.live.clock() - self._sent[0] < self._window

    def delays(self, request: OrderRequest, verdict: Verdict, others: bool) -> bool:
        """Return whether an order only opens something, and waits, maybe behind `others`."""
        closing = max(verdict.closing, request.preview.reduces)
        return verdict.opening > SIZE_EPS >= closing and (others or self.full())

    def delays_cancel(self, working: WorkingOrder) -> bool:
        """Return whether the cancel of an order waits; it is sent in a later round then."""
        entry = working.opening > SIZE_EPS >= max(working.closing, working.reduces)
        if not entry or not self.gate.intervenes or not (self._cancels or self.full()):
            return False
        if not any(w is working for w in self._cancels):
            self._cancels.append(working)
            self.note(working.handle, self.reason.replace("waits", "its cancel waits"))
        return True

    def note(self, order: Any, reason: str) -> None:
        """Add a line about an order that waits."""
        self.gate.journal.order(order, "orders_per_second", "note", reason)

    def advance(self) -> None:
        """Send the cancels that have waited long enough, the oldest first."""
        working = self.gate.book.working
        for one in list(self._cancels):
            if working.get(one.ref) is one:
                if self.full() or one.ref in self.gate.order_sender.doubts:
                    continue
                self.gate.venue.withdraw(one.handle)
            self._cancels.remove(one)
