"""FlattenProgress: say so when a position that is being closed does not get smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_risk.portfolio.position import OwnerPosition
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["FlattenProgress"]

# Seconds between two alerts about one position.
_AGAIN = 60.0


@dataclass
class _Standstill:
    """A position that is being closed: its size, and since when that has not changed."""

    number: int
    size: float
    since: float
    alert_at: float


class FlattenProgress:
    """Check the positions that one `RiskBroker` is closing at a live broker."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._rows: dict[OwnerPosition, _Standstill] = {}

    def check(self, closing: dict[OwnerPosition, int]) -> None:
        """Write a line, which is an alert, for a position that stands still; again each minute.

        Parameters
        ----------
        closing : dict
            The positions that are being closed, each with the number of its trade.
        """
        if not closing and not self._rows:
            return
        live = self.gate.live
        now, patience = live.clock(), live.retry_after * live.cancel_tries
        open_ = {p: n for p, n in closing.items() if p.number == n and abs(p.size) > SIZE_EPS}
        self._rows = {part: row for part, row in self._rows.items() if part in open_}
        for part, number in open_.items():
            row = self._rows.get(part)
            if row is None or row.number != number or row.size != part.size:
                self._rows[part] = _Standstill(number, part.size, now, now + patience)
            elif now >= row.alert_at:
                row.alert_at = now + _AGAIN
                name = part.instrument.name
                reason = (
                    f"flatten: it has not progressed for {now - row.since:.0f} s: "
                    f"{part.size:+g} {name} is still held"
                )
                self.gate.journal.instrument(part.instrument, "flatten", "unfinished", reason)
