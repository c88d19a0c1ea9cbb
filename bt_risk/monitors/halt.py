"""Halt: refuse entries, cancel those that rest, close everything, and wait until all is flat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bt_risk.monitors.base import Monitor
from bt_risk.orders import ACTIVE
from bt_risk.portfolio.position import OwnerPosition

__all__ = ["Halt"]


class Halt:
    """Carry out the halts of one monitor; its rule decides when a halt begins and ends.

    Parameters
    ----------
    gate : RiskBroker
    source : Monitor
        It requests the state of the gate, and its name stands on the closing orders.
    state : str
        HALTED or REDUCING, as long as a halt lasts.
    flatten : bool
        Whether every position is closed, too.
    journal : callable
        Writes a line of an action and a reason, with the numbers of the rule.

    Attributes
    ----------
    reason : str
        Why the last halt began; empty before the first.
    cleared : bool
        Whether everything has been closed since.
    closing : bool
        Whether something may be left to be closed: `advance` is to be called in every round.
    finished : bool
        Whether the run is to end, after the last strategy has seen the present bar.
    """

    def __init__(
        self,
        gate: Any,
        source: Monitor,
        state: str,
        flatten: bool,
        journal: Callable[[str, str], None],
    ) -> None:
        self.gate, self.source = gate, source
        self.state, self.flatten = state, flatten
        self._journal = journal
        self.reason, self.cleared, self.closing = "", False, False

    @property
    def finished(self) -> bool:
        """Return whether the run is to end."""
        return self.source in self.gate.ending

    def finish(self) -> None:
        """End the run once the last strategy has seen the present bar."""
        self.gate.ending.add(self.source)

    def begin(self, reason: str) -> None:
        """Refuse entries from now on, and cancel those that rest."""
        self.reason, self.cleared, self.closing = reason, False, True
        self.gate.ending.discard(self.source)
        self.gate.trading_state.ask(self.source, self.state, reason)
        self._journal("halt", reason)
        if not self.gate.observe:
            self.gate.exit_orders.cancel_entries(self.source.name)

    def advance(self) -> bool:
        """Close what is still held; return whether nothing is left to be closed.

        It is called in every round until it returns True. In observe mode nothing is closed.
        """
        if self.gate.observe or not self.flatten:
            return True
        exits = self.gate.exit_orders
        exits.close_all(self.source.name, self.reason)
        return bool(exits.all_flat())

    def settle(self) -> bool:
        """Note whether everything is flat once nothing is left to be closed, and return it."""
        flat: bool = self.gate.exit_orders.all_flat()
        self.closing = False
        self.cleared = flat and not self.gate.observe
        return flat

    def reopens(self, part: OwnerPosition) -> bool:
        """Return whether a fill came after everything was closed, with a line: it is closed, too.

        The monitor then calls `advance` again.
        """
        if not (self.cleared and part.size and self.flatten):
            return False
        self.cleared, self.closing = False, True
        self.gate.ending.discard(self.source)
        held = f"{part.size:g} of {part.instrument.name}"
        self._journal("halt", f"{held} came after everything was closed, and is closed too")
        return True

    def end(self, reason: str) -> None:
        """Let entries be judged again."""
        self.closing = False
        self.gate.ending.discard(self.source)
        self.gate.trading_state.ask(self.source, ACTIVE)
        self._journal("rearm", reason)

    def restore(self, reason: str, lasts: bool, closing: bool) -> None:
        """Go on with the saved halt: it `lasts`, and positions were still being closed."""
        self.reason, self.closing = reason, closing
        if lasts:
            self.gate.trading_state.ask(self.source, self.state, self.reason)
        if closing and self.flatten:
            for part in self.gate.book.parts.values():
                self.gate.venue.mark_closing(part)
