"""EntryBar: let a stop execute within the bar of its entry, where it is active from the fill on.

BackBroker activates an order on the bar after it is sent. With ``entry_stop="attached"`` a stop of
ours is sent the moment that its entry fills, and is judged by what the rest of that bar may have
shown. A bar does not say in what sequence its prices came, so that the worst of them counts:

- an entry at the open, or at a limit inside the bar, has seen the extreme of the bar after it: the
  way from the open to that extreme leads through the limit;
- an entry at a stop inside the bar may have seen it before: it counts as after;
- an entry at the close of this bar has seen nothing of it, one at the close of the bar before has
  seen all of this bar: its stop may be beyond the open, and fills there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_risk.monitors.settings import ATTACHED
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.simulated_execution import SimulatedExecution

__all__ = ["EntryBar", "tick"]


class EntryBar:
    """Send and execute the stops of entries that fill in one BackBroker, within the same bar."""

    def __init__(self, execution: SimulatedExecution) -> None:
        self.execution, self.gate, self.inner = execution, execution.gate, execution.inner

    def try_exec(self, order: Any, native: Callable[[Any], Any]) -> None:
        """Try an order of a strategy; if it opens something, let the stop behind that execute."""
        before = order.executed.size
        native(order)
        if order.executed.size == before:
            return
        self.gate.process_notifications()
        instrument = self.gate.venue.held_in(order.data)
        monitor = self.gate.registry.monitor(TrailingStopMonitor)
        if instrument is None or monitor is None:
            return
        rule = monitor.rules.get((instrument.index, order.owner))
        part = self.gate.book.part(instrument, order.owner)
        opened = part.size > 0.0 if order.isbuy() else part.size < 0.0
        if rule is not None and rule.entry_stop == ATTACHED and opened:
            self._protect(part, order)

    def _protect(self, part: OwnerPosition, entry: Any) -> None:
        """Send the stop of a position now, and let it execute."""
        self.gate.follow_fills()
        for working in list(part.instrument.orders.values()):
            if working.own and working.kind == "stop" and working.owner is part.owner:
                self._try_stop(part, working, entry)
        self.gate.process_notifications()

    def _try_stop(self, part: OwnerPosition, working: WorkingOrder, entry: Any) -> None:
        """Try a stop as a round of BackBroker does: taken off the queue, and put back if alive.

        An order that fills while it is on the queue is cancelled there as its own alternative.
        """
        self.gate.process_notifications()  # the stop before may have filled
        stop, pending = working.handle, self.inner.pending
        if stop not in pending:
            return
        pending.remove(stop)
        if self._saw_the_open(stop, entry):
            self.execution.try_own(stop)
        elif entry.exectype != entry.Close and self._is_new(part):
            self._try_extreme(part, working)
        if stop.alive():
            pending.append(stop)
            one = part.instrument
            if not one.forming:  # a round without a new bar tries it on this bar again otherwise
                working.set_at = one.close.lencount, -math.inf
        elif stop.status == stop.Completed:
            self.inner._bracketize(stop)

    @staticmethod
    def _is_new(part: OwnerPosition) -> bool:
        """Return whether the bar has come in this round.

        BackBroker executes a limit once more on the last bar of a data feed that has no new one. A
        stop has moved by the close of that bar, and its extreme was before that.
        """
        return bool(part.instrument.close.lencount > part.instrument.length)

    @staticmethod
    def _saw_the_open(stop: Any, entry: Any) -> bool:
        """Return whether a stop was active at the open of this bar.

        It rested before, or its entry filled at the close of the bar before.
        """
        now = entry.data.datetime[0]
        return bool(stop.created.dt < now or entry.executed.dt < now)

    def _try_extreme(self, part: OwnerPosition, working: WorkingOrder) -> None:
        """Execute a stop at its price, if the extreme of the bar has reached it."""
        data, price = part.instrument.data, working.price
        if working.side < 0:
            reached, slip = tick(data, "low"), self.inner._slip_down
        else:
            reached, slip = tick(data, "high"), self.inner._slip_up
        size = min(working.remaining, self.execution.free(part, working))
        if working.side * (reached - price) >= 0.0 and size > SIZE_EPS:
            fill = partial(self.execution.execute, ago=0, price=slip(reached, price))
            self.execution.run(working.handle, working, size, native=fill)


def tick(data: Any, name: str) -> float:
    """Return a price of this bar, or of its newest tick on a replayed data feed."""
    tick = getattr(data, f"tick_{name}", None)
    return float(getattr(data, name)[0] if tick is None else tick)
