"""Differences: where the broker's book and ours differ now, and what the gate refuses until then.

Each has a name, a line in the journal and an alert. While one of our own orders and positions is
open, nothing new is opened; a look that finds none ends that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_risk.orders import ACTIVE, REDUCING
from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["DIFFERENCES", "FOREIGN", "RECONCILIATION", "Differences"]

# The actions of the journal, one for each kind of difference.
DIFFERENCES = (
    "position smaller",
    "position gone",
    "position larger",
    "position new",
    "stop missing",
    "order missing",
    "two stops",
    "order not ended",
    "foreign order",
    "broker error",
)
# The rule of the lines, and the sources that request REDUCING.
RECONCILIATION, FOREIGN = "reconciliation", "foreign"


class Differences:
    """Hold the open differences of one `RiskBroker`."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._open: dict[object, tuple[str, str]] = {}
        self._found: set[object] = set()

    def note(
        self,
        key: object,
        name: str,
        text: str,
        instrument: Instrument | None = None,
        source: str = RECONCILIATION,
    ) -> None:
        """Note a difference that a look has found; one that is new is reported.

        `source` requests REDUCING as long as it is open; an empty one requests nothing.
        """
        self._found.add(key)
        if key in self._open:
            return
        reason = f"{RECONCILIATION}: {text}"
        self._open[key] = source, reason
        if instrument is None:
            self.gate.journal.account(RECONCILIATION, name, reason)
        else:
            self.gate.journal.instrument(instrument, RECONCILIATION, name, reason)

    def forget(self, key: object) -> None:
        """Forget a difference, so that the next one of this key is reported again."""
        self._open.pop(key, None)

    def keep(self, key: object) -> None:
        """Let a difference stay open, which this look could not compare."""
        if key in self._open:
            self._found.add(key)

    def keep_all(self) -> None:
        """Let every difference stay open: this look has failed."""
        self._found.update(self._open)

    def end_look(self) -> None:
        """Drop what the look has not found again, and request what that demands."""
        self._open = {key: row for key, row in self._open.items() if key in self._found}
        self._found.clear()
        self.gate.recovery.recorder.differences = self.sentences()
        self._request(RECONCILIATION, "the broker's book and that of the gate agree again")
        if self.gate.live.foreign == "reduce":
            self._request(FOREIGN, "no order of others is working any more")

    def _request(self, source: str, over: str) -> None:
        reasons = [reason for asked_by, reason in self._open.values() if asked_by == source]
        requested = source in self.gate.trading_state.asked
        if reasons and not requested:
            self.gate.set_state(source, REDUCING, reasons[0])
        elif requested and not reasons:
            self.gate.set_state(source, ACTIVE, f"{source}: {over}")

    def sentences(self) -> list[str]:
        """Return the open differences, oldest first."""
        return [reason for _, reason in self._open.values()]
