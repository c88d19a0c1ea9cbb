"""How a live run ends on SIGTERM or SIGINT: entries cancelled, stops kept, what is open said."""

import os
import signal
import threading
import time

import backtrader as bt

from bt_risk.orders import HALTED
from bt_risk.tolerances import SIZE_EPS

__all__ = ["Shutdown"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds that a venue has to confirm that the entries are cancelled.
PATIENCE = 5.0


class Shutdown:
    """Watch the signals of the process for one `RiskBroker`, while its live run lasts.

    The handler only takes note: it may interrupt anything. The gate acts on the next round of
    Cerebro's loop. The handlers from before are back from the first signal on, so that a second
    one acts as it did without bt_risk; one that was ignored stays ignored.
    """

    def __init__(self, gate):
        self.gate = gate
        self._before = {}
        self._process = os.getpid()
        self._received = self._since = None

    def install(self):
        """Watch the signals, where Python allows it: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._receive)

    def restore(self):
        """Give the signals back to who had them before, unless somebody else has them by now."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._receive:
                signal.signal(number, before)
        self._before = {}

    def _receive(self, number, frame):
        self.restore()
        if os.getpid() == self._process and _runs(self.gate.cerebro, frame):
            self._received = signal.Signals(number).name
        else:
            # The run has ended without a word, by an error, or this is a worker that was forked
            # from it and is told to end: nobody would act.
            signal.raise_signal(number)

    def ends_run(self):
        """Act on a signal; return whether the run has ended."""
        if self._received is None:
            return False
        if self._since is None:
            self._since = time.monotonic()
            # Of this run alone: the next one is not halted because somebody ended this one.
            self.gate.set_state("shutdown", HALTED, f"{self._received} received")
            return False
        if self._resting() and time.monotonic() - self._since < PATIENCE:
            return False
        self._say_what_is_open()
        self.gate.stop_engine(between_bars=True)
        return True

    def _resting(self):
        working = self.gate.book.working.values()
        return [w for w in working if not w.own and w.opening > SIZE_EPS]

    def _say_what_is_open(self):
        for part in self.gate.book.parts.values():
            if part.size:
                exits = [w for w in part.instrument.orders.values() if w.side == -part.side]
                stops = [w.price for w in exits if w.owner is part.owner and w.kind == "stop"]
                behind = ", ".join(f"{price:g}" for price in stops) or "none"
                self._say(part.instrument, part.size, f"left open, stops at {behind}")
        for working in self._resting():
            size = working.side * working.opening
            self._say(working.instrument, size, "an entry, its cancel not confirmed")

    def _say(self, instrument, size, what):
        name = instrument.name
        reason = f"{size:+g} {name}: {what}"
        latest = self.gate.latest
        self.gate.journal.record(latest, name, "RiskBroker", "open", abs(size), reason=reason)


def _runs(cerebro, frame):
    while frame is not None:
        if frame.f_code is bt.Cerebro.run.__code__ and frame.f_locals["self"] is cerebro:
            return True
        frame = frame.f_back
    return False
