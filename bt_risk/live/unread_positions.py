"""UnreadPositions: let nothing be opened while a broker does not say at the start what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bt_risk.live.differences import RECONCILIATION
from bt_risk.orders import ACTIVE, REDUCING
from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["UNREAD", "UnreadPositions"]

# The source that requests REDUCING.
UNREAD = "start"


class UnreadPositions:
    """Hold the instruments of which one live broker has raised an error instead of a position."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._names: dict[int, str] = {}

    def ask(self, instrument: Instrument) -> tuple[bool, Any]:
        """Return whether the broker answers, and its position.

        Without limits its error is the user's.
        """
        view = self.gate.venue.view
        if not self.gate.intervenes:
            return True, self.gate.venue.raw_position(instrument.data)
        position = view.held(instrument)
        answered = position is not None or not view.error
        self._note(instrument, answered, view.error)
        return answered, position

    def _note(self, instrument: Instrument, answered: bool, error: str) -> None:
        if answered:
            if self._names.pop(instrument.index, None) and not self._names:
                reason = "reconciliation: the broker says what it holds again"
                self.gate.set_state(UNREAD, ACTIVE, reason)
            return
        if instrument.index in self._names:
            return
        self._names[instrument.index] = name = instrument.name
        reason = f"reconciliation: the broker does not say what it holds of {name} ({error})"
        reason = f"{reason}; nothing is opened until it does"
        self.gate.journal.instrument(instrument, RECONCILIATION, "broker error", reason)
        if UNREAD not in self.gate.trading_state.asked:
            self.gate.set_state(UNREAD, REDUCING, reason)
