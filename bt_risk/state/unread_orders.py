"""UnreadOrders: let nothing be opened while orders of an earlier run may work unseen.

A store whose list of orders raises an error at the start has not said that they are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bt_risk.orders import ACTIVE, REDUCING
from bt_risk.state.file import Record
from bt_risk.state.protocols import Gate

if TYPE_CHECKING:
    from bt_risk.state.reconciler import Reconciler

__all__ = ["ORDERS", "UnreadOrders"]

# The source that requests REDUCING; `rearm` takes it back.
ORDERS = "orders"


class UnreadOrders:
    """Note whether the list of one live broker has raised an error instead of its open orders.

    Attributes
    ----------
    error : str
        That of the newest request while the list has never been answered, empty where it was.
    """

    def __init__(self, gate: Gate, reconciler: Reconciler, path: object) -> None:
        self.gate, self.reconciler, self.path = gate, reconciler, path
        self.error = ""
        self._begun = self._requested = False

    def note(self, listed: list[Any] | None) -> None:
        """Take note of an answer; once the list has been answered, the start is over."""
        error = self.gate.venue.view.error if listed is None else ""
        self.error = error if self.error or not self._begun else ""
        self._begun = True

    def request(self) -> None:
        """Let nothing be opened while the user's orders of an earlier run cannot be listed."""
        state, names = self.gate.trading_state, self._missing()
        if ORDERS in state.asked and not (self.error and names):
            state.set(ORDERS, ACTIVE, "state: the broker lists its orders")
        elif self.error and names and not self._requested:
            reason = (
                f"state: the broker's list of orders cannot be read ({self.error}), and this may "
                f"work there: {', '.join(names)}. It is asked again in every round; "
                f"`bt-risk rearm {self.path}` goes on without"
            )
            state.set(ORDERS, REDUCING, reason)
        self._requested = True

    def _missing(self) -> list[str]:
        """Return what the orders of the user are that no list has shown."""
        if self.gate.venue.direct or not self.gate.intervenes:
            return []
        names = [instrument.name for instrument in self.gate.book.instruments]
        missing = [r for name in names for r in self.reconciler.missing.get(name, {}).values()]
        return [_named(record) for record in missing if not record["own"]]


def _named(record: Record) -> str:
    side = "buy" if record["side"] > 0 else "sell"
    text = f"{side} {record['remaining']:g} {record['data']} ({record['kind']}"
    return f"{text}, id {record['venue_id'] or 'unknown'})"
