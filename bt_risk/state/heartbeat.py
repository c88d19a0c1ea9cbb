"""Heartbeat: save that the loop of a live run goes on, and what the account is worth."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.state.file import Record
from bt_risk.state.rooms import limits_in_use

__all__ = ["EVERY", "Heartbeat"]

EVERY = 5.0  # seconds between two records, so that an idle loop seldom writes
_DAY = 86400.0


class Heartbeat:
    """Take a record of the account of one `RiskBroker` every few seconds of its live run.

    A backtest has no heartbeat: its rounds follow no clock.

    Attributes
    ----------
    record : dict
        The newest record, empty before the first. ``day`` has the value that the day of UTC began
        with and its time: the last one of the day before, or the first that is known.
    """

    def __init__(self, gate: Any, saved: Record | None) -> None:
        self.gate = gate
        self.record: Record = {}
        self._last: Record = saved or {}

    def beat(self) -> None:
        """Take a new record where the last one is old; call it between two rounds.

        The equity of the round that has ended is known then, and is not asked for again.
        """
        gate = self.gate
        if gate.venue.direct or not gate.ticks:
            return
        now = gate.live.now()
        if self.record and 0.0 <= now - self.record["time"] < EVERY:
            return
        value, equity = gate.unit_value(), float(gate.equity())
        if math.isfinite(equity):
            gate.book.equity = equity
        self.record = {
            "time": now,
            "equity": equity if math.isfinite(equity) else None,
            "value": float(value) if math.isfinite(value) else self._last.get("value"),
            "limits": limits_in_use(gate.registry.monitors, gate.registry.limits, gate.book),
        }
        self.record["day"] = self._day(now)
        self._last = self.record

    def _day(self, now: float) -> Record:
        """Return the value with which this day began, and since when it is known."""
        last, this = self._last, self.record
        begun: Record = last.get("day") or {"value": None}
        if last.get("value") is None or begun["value"] is None:
            return {"value": this["value"], "since": now}
        if last["time"] // _DAY < now // _DAY:
            return {"value": last["value"], "since": last["time"]}
        return begun
