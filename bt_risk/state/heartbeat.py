"""Heartbeat: save that the loop of a live run goes on, and what the account is worth."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.state.file import Record

__all__ = ["EVERY", "Heartbeat"]

EVERY = 5.0  # seconds between two records, so that an idle loop seldom writes


class Heartbeat:
    """Take a record of the account of one `RiskBroker` every few seconds of its live run.

    A backtest has no heartbeat: its rounds follow no clock.

    Attributes
    ----------
    record : dict
        The newest record, empty before the first.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.record: Record = {}

    def beat(self) -> None:
        """Take a new record where the last one is old; call it between two rounds.

        The equity of the round that has ended is known then, and is not asked for again.
        """
        if self.gate.venue.direct or not self.gate.ticks:
            return
        now = self.gate.live.now()
        if self.record and 0.0 <= now - self.record["time"] < EVERY:
            return
        self.record = {"time": now, "equity": _finite(self.gate.equity())}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
