"""StartReport: say in one paragraph what a live run has restored, found and is about to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bt_risk.orders import ACTIVE
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.state.file import Record, StateFile
from bt_risk.state.reconciler import Reconciler
from bt_risk.tolerances import SIZE_EPS

__all__ = ["StartReport"]

_PATIENCE = 10.0  # seconds to wait for the first bar of every data feed


class StartReport:
    """Write one line about the start of a run, once every position is compared with the broker.

    A data feed without a bar does not delay the line for more than a few seconds.

    Attributes
    ----------
    done : bool
        Whether the line is written; a backtest has none.
    """

    def __init__(self, gate: Any, file: StateFile, reconciler: Reconciler) -> None:
        self.gate, self.file, self.reconciler = gate, file, reconciler
        self.done: bool = gate.venue.direct
        self._until: float | None = None

    def check(self) -> None:
        """Write the line if it is time; call it between two rounds."""
        now = self.gate.live.clock()
        if self._until is None:
            self._until = now + _PATIENCE
        waits = self.gate.fill_tracker.unknown or not self.gate.ticks
        if waits and now < self._until:
            return
        self.done = True
        text = f"{self._restored()} {self._found()} {self._next()}"
        self.gate.journal.account("state", "start", f"state: {text}")

    # -- what was restored -----------------------------------------------------------------------

    def _restored(self) -> str:
        saved = self.file.saved
        head = f"run {saved.meta['run']} with {self.file.path}."
        if self.file.lost:
            said = self.file.lost in self.gate.trading_state.why[1]
            return f"{head} Nothing was restored{'' if said else f': {self.file.lost}'}."
        sizes: dict[str, float] = {}
        for part in saved.of("position").values():
            sizes[part["data"]] = sizes.get(part["data"], 0.0) + part["size"]
        held = [f"{size:+g} {name}" for name, size in sizes.items() if abs(size) > SIZE_EPS]
        numbers = [_count(saved.of("order"), "working order"), _count(saved.trades, "closed trade")]
        fallen = [
            f"a drawdown of {100 * breaker['drawdown']:.2f} %"
            for breaker in saved.of("breaker").values()
            if breaker["drawdown"] > 0.0
        ]
        return f"{head} Restored: {', '.join([*(held or ['no position']), *numbers, *fallen])}."

    # -- what the broker says --------------------------------------------------------------------

    def _found(self) -> str:
        gate = self.gate
        unknown = [i for i in gate.book.instruments if i.index in gate.fill_tracker.unknown]
        known = [i for i in gate.book.instruments if i not in unknown]
        held = [f"{i.size:+g} {i.name}" for i in known if abs(i.size) > SIZE_EPS]
        texts = [f"The broker holds {', '.join(held)}"] if held else []
        if known and not held:
            texts.append("The broker holds nothing")
        if unknown:
            names = ", ".join(i.name for i in unknown)
            texts.append(f"Not compared with the broker yet, for want of a bar: {names}")
        missing = [one for orders in self.reconciler.missing.values() for one in orders.values()]
        if missing:
            listed = ", ".join(map(_order, missing))
            texts.append(f"It does not list what was saved as working: {listed}")
        return f"{'. '.join(texts)}."

    # -- what will be done -----------------------------------------------------------------------

    def _next(self) -> str:
        state, reason = self.gate.trading_state.why
        waits = ", ".join(self._waits())
        entries = f"Entries wait: {waits}" if waits else "Entries pass"
        if state != ACTIVE:
            entries = f"{state}: {reason}"
        return f"{'. '.join([*self._stops(), entries])}."

    def _stops(self) -> Iterator[str]:
        """Yield what protects each position."""
        for part in self.gate.book.parts.values():
            if abs(part.size) > SIZE_EPS:
                yield f"{part.size:+g} {part.instrument.name}: {self._stop(part)}"

    def _stop(self, part: OwnerPosition) -> str:
        orders = part.instrument.orders.values()
        stops = [w for w in orders if w.own and w.kind == "stop" and w.owner is part.owner]
        unlisted = [w for w in stops if w.assumed]
        if unlisted:
            return f"its stop at {unlisted[0].price:g} counts as resting, and is not listed"
        if not stops:
            leaving = self.gate.exit_orders.leaving(part)
            return "no stop rests yet" if leaving is None else "it is being closed at the market"
        recorder, one = self.gate.recovery.recorder, stops[0]
        new = recorder.client_id(one.ref).startswith(f"{self.file.name}-")
        return f"its stop at {one.price:g} {'is placed again' if new else 'rests'}"

    def _waits(self) -> Iterator[str]:
        """Yield why a data feed takes no entry yet."""
        for instrument in self.gate.book.instruments:
            silent = self.gate.feed_monitor.silent(instrument)
            if silent:
                yield silent
            elif instrument.repeats:
                yield f"{instrument.name} has had no new bar since the restart"


def _count(found: Any, what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"


def _order(record: Record) -> str:
    price = f" at {record['price']:g}" if record["kind"] != "market" and record["price"] else ""
    known = f" ({record['venue_id']})" if record["venue_id"] else ""
    side = "buy" if record["side"] > 0 else "sell"
    return f"{side} {record['remaining']:g} {record['data']} {record['kind']}{price}{known}"
