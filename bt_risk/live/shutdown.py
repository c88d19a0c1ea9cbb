"""Shutdown: end a live run on SIGTERM or SIGINT; stops stay, and the journal lists what is open."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

import backtrader as bt

from bt_risk.orders import HALTED
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["Shutdown"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds that a venue has to confirm that the entries are cancelled.
PATIENCE = 5.0


class Shutdown:
    """Handle the signals of the process for one `RiskBroker`, while its live run lasts.

    The handler only stores the signal, because it may interrupt anything; the gate acts on the next
    round of Cerebro's loop. The first signal restores the earlier handlers: a second one acts as it
    did without bt_risk. A signal that was ignored stays ignored.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()
        self._received: str | None = None
        self._since: float | None = None

    def install(self) -> None:
        """Handle the signals, where Python allows it: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._receive)

    def restore(self) -> None:
        """Restore the earlier handlers, unless another one has been installed since."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._receive:
                signal.signal(number, before)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.restore()
        if os.getpid() == self._process and _runs(self.gate.cerebro, frame):
            self._received = signal.Signals(number).name
        else:
            # The run has ended by an error, or this is a worker process that was forked from it:
            # no round of the loop follows that could act.
            signal.raise_signal(number)

    def ends_run(self) -> bool:
        """Act on a signal; return whether the run has ended."""
        if self._received is None:
            return False
        if self._since is None:
            self._since = time.monotonic()
            # A state of this run alone: the next run is not halted because this one was ended.
            self.gate.set_state("shutdown", HALTED, f"{self._received} received")
            return False
        if self._resting() and time.monotonic() - self._since < PATIENCE:
            return False
        self._list_what_is_open()
        self.gate.stop_engine(between_bars=True)
        return True

    def _resting(self) -> list[WorkingOrder]:
        working = self.gate.book.working.values()
        return [w for w in working if not w.own and w.opening > SIZE_EPS]

    def _list_what_is_open(self) -> None:
        for part in self.gate.book.parts.values():
            if part.size:
                exits = [w for w in part.instrument.orders.values() if w.side == -part.side]
                stops = [w.price for w in exits if w.owner is part.owner and w.kind == "stop"]
                prices = ", ".join(f"{price:g}" for price in stops) or "none"
                self._note(part.instrument, part.size, f"left open, stops at {prices}")
        for working in self._resting():
            size = working.side * working.opening
            self._note(working.instrument, size, "an entry whose cancel is not confirmed")

    def _note(self, instrument: Instrument, size: float, text: str) -> None:
        name, latest = instrument.name, self.gate.book.latest
        reason = f"{size:+g} {name}: {text}"
        self.gate.journal.record(latest, name, "RiskBroker", "open", abs(size), reason=reason)


def _runs(cerebro: Any, frame: FrameType | None) -> bool:
    """Return whether this Cerebro is running in the interrupted frame."""
    while frame is not None:
        if frame.f_code is bt.Cerebro.run.__code__ and frame.f_locals["self"] is cerebro:
            return True
        frame = frame.f_back
    return False
