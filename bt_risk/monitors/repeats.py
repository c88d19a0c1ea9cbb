"""RepeatMonitor: refuse every entry once a strategy repeats itself, until an operator re-arms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bt_risk.limits.order_guards import RepeatedOrders
from bt_risk.monitors.base import Monitor, Quiet, Sample
from bt_risk.orders import REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, place_of, position_key

__all__ = ["RepeatMonitor"]


class RepeatMonitor(Monitor):
    """Follow the entries in a row of every strategy for one `RepeatedOrders`."""

    name, state_kind = "RepeatedOrders", "repeats"
    sleeps = True

    def __init__(self, gate: Any, guard: RepeatedOrders) -> None:
        self.gate, self.guard = gate, guard

    def on_fill(self, part: OwnerPosition) -> None:
        """Forget the entries of a position that is closed."""
        if not part.size:
            for side in (1, -1):
                self.gate.book.repeats.pop((part.instrument.lead.index, side, part.owner), None)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Refuse every entry from now on where one strategy has sent too many in a row."""
        book = self.gate.book
        for (index, *_), count in book.repeats.items():
            if count >= self.guard.n:
                reason = self.guard.reason(count, book.instruments[index].name)
                self.gate.trading_state.set(self.name, REDUCING, f"{self.name}: {reason}")
                book.repeats.clear()  # after re-arming they are counted anew
                return

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return that nothing happens before another order comes."""
        return Quiet(ends_with_orders=True)

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yield ``(key, plain values)`` of the entries in a row."""
        book, strategies = self.gate.book, self.gate.cerebro.runningstrats
        for (index, side, owner), count in book.repeats.items():
            instrument = book.instruments[index]
            key = position_key(instrument, place_of(owner, strategies))
            yield f"{key}:{side}", {"data": instrument.name, "count": count}

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on counting from what an earlier run had counted."""
        book, strategies = self.gate.book, self.gate.cerebro.runningstrats
        for instrument in book.instruments:
            for strategy in strategies:
                key = position_key(instrument, place_of(strategy, strategies))
                for side in (1, -1):
                    record = saved.get(f"{key}:{side}")
                    if record is not None:
                        book.repeats[instrument.lead.index, side, strategy] = record["count"]
