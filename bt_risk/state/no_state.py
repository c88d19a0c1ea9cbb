"""NoState: the state of a run without a state file. Nothing is saved, and nothing is restored."""

from __future__ import annotations

import math
from typing import Any

from bt_risk.orders import OrderRequest
from bt_risk.portfolio.instrument import Instrument
from bt_risk.state.unlisted_stops import NOTHING_IN_QUESTION

__all__ = ["NoReconciler", "NoRecorder", "NoState"]


class NoRecorder:
    """Answer for `StateRecorder`: every write succeeds, and none is made."""

    intended = None

    def __init__(self) -> None:
        self.differences: list[str] = []

    def intend(
        self,
        request: OrderRequest,
        size: float,
        own: bool = False,
        opening: float = 0.0,
        distance: float = math.nan,
    ) -> str:
        """Return that nothing failed."""
        return ""

    def sent(self, order: Any) -> None:
        """Give the order no id."""

    def name(self, order: Any, client_id: str) -> None:
        """Save no id of the order."""

    def rename(self, ref: int, order: Any) -> None:
        """Save no id of the order."""

    def executed(self, order: Any, count: int, since: int) -> None:
        """Save no executions."""

    def save(self) -> str:
        """Return that nothing failed."""
        return ""


class NoReconciler:
    """Answer for `Reconciler`: nothing was saved, so nothing differs."""

    def remembered(self, order: Any) -> None:
        """Return None: no order has been saved."""

    def skips(self, order: Any) -> int:
        """Return 0: no execution has been booked by an earlier run."""
        return 0

    def unsettled(self, fresh: list[Instrument]) -> list[Instrument]:
        """Return the instruments that have a new bar."""
        return fresh

    def settle(self, instrument: Instrument, position: Any) -> bool:
        """Return that there is nothing to settle."""
        return True

    def wait(self, instrument: Instrument) -> None:
        """Compare the instrument on its next bar."""

    def claim(self, order: Any) -> None:
        """Recognise no order: none was saved."""


class NoState:
    """Answer for `Recovery`; as it is not `active`, `RiskBroker` asks it nothing on every bar."""

    active = False

    def __init__(self) -> None:
        self.recorder, self.reconciler = NoRecorder(), NoReconciler()

    def begin_round(self) -> None:
        """Begin at once: there is nothing to restore."""

    def new_bars(self, fresh: list[Instrument], acting: list[Instrument]) -> list[Instrument]:
        """Return `acting` as it is."""
        return acting

    def settle_stops(self, gone: bool) -> str:
        """Return that no stop is in question: none was saved."""
        return NOTHING_IN_QUESTION

    def close(self) -> None:
        """Close no file."""
