"""ListedOrders: orders that the book has and the broker does not list, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_risk.live.broker_view import Look
from bt_risk.live.differences import FOREIGN, RECONCILIATION
from bt_risk.orders import CLIENT_ID, KINDS, foreign_order, venue_id
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["ListedOrders"]

_LOOKS, _MANY_LOOKS = 2, 4
# Seconds that a cancel may stay without an answer before an order counts as gone.
_ANSWER = 3.0
# So many ids of orders that the gate has sent are remembered.
_REMEMBERED = 2000


@dataclass
class _Absence:
    """An order that is not listed: the position since then, the looks, and the cancel of it."""

    held: float
    looks: int = 0
    cancelled_at: float | None = None
    looks_then: int = 0


class ListedOrders:
    """Compare the orders of one `RiskBroker` with those that its live broker lists."""

    def __init__(self, gate: Gate, looks: Any) -> None:
        self.gate, self.looks = gate, looks
        self._absent: dict[int, _Absence] = {}
        self._strange: dict[str, int] = {}
        self._ids: dict[str, bool] = {}

    def compare(self, answer: Look, unclear: set[int], now: float) -> None:
        """Compare a successful list with the orders of the book."""
        view, doubts = self.gate.venue.view, self.gate.order_sender.doubts
        for ref, order in view.matches().items():
            if ref in doubts:
                doubts.claim(order)
        matches = view.matches()
        self._remember(matches)
        absent = {}
        for working in list(self.gate.book.working.values()):
            if working.ref not in matches and self._should_be_listed(working):
                row = self._absence(working, answer, unclear)
                if row is not None:
                    absent[working.ref] = row
        self._absent = absent
        for ref, row in absent.items():
            if ref in self.gate.book.working:
                self._miss(self.gate.book.working[ref], row, answer, now)
        self._compare_strangers(answer, list(matches.values()), now)

    def _remember(self, matches: dict[int, Any]) -> None:
        """Note when our orders were listed, and by which ids the orders of the gate are known."""
        for ref, order in matches.items():
            working = self.gate.book.working[ref]
            if working.own:
                working.seen_at = self.gate.live.now()
            if working.foreign:
                working.cut_to(abs(float(order.executed.remsize)))
            else:
                for name in (*_ids(working.handle), *_ids(order)):
                    self._ids.pop(name, None)
                    self._ids[name] = working.own
        for name in list(self._ids)[:-_REMEMBERED]:
            del self._ids[name]

    # -- orders that are not listed --------------------------------------------------------------

    def _should_be_listed(self, working: WorkingOrder) -> bool:
        """Return whether an order is at the broker, and its absence from a list means something.

        A child whose parent works may be held back by the broker.
        """
        gate = self.gate
        if working.ref in gate.held_orders or working.ref in gate.order_sender.doubts:
            return False
        if working.parent is not None and working.parent in gate.book.working:
            return False
        return gate.venue.view.proven(working)

    def _absence(self, working: WorkingOrder, answer: Look, unclear: set[int]) -> _Absence | None:
        """Return for how long an order has been absent while the position was the same."""
        held = answer.sizes.get(working.instrument.index)
        if held is None or working.instrument.index in unclear:
            return None
        row = self._absent.get(working.ref)
        if row is None or row.held != held:
            row = _Absence(held)
        row.looks += 1
        return row

    def _miss(self, working: WorkingOrder, row: _Absence, answer: Look, now: float) -> None:
        """Cancel an order that is not listed, which is safe; then let it go.

        If it is there after all, the cancel is confirmed, and a stop is placed again.
        """
        key, name = ("missing", working.ref), "order missing"
        if working.own and working.kind == "stop":
            name = "stop missing"
        self.looks.differences.keep(key)
        enough = _LOOKS if self.looks.quiet(working.instrument, now) else _MANY_LOOKS
        if not answer.orders and not self.gate.venue.view.declared:
            enough = _MANY_LOOKS  # an empty list alone may be no answer at all
        if row.cancelled_at is None and row.looks < enough:
            return
        side = "buy" if working.side > 0 else "sell"
        what = f"the broker does not list the {working.kind} order to {side} {working.remaining:g}"
        what = f"{what} {working.instrument.name}, and its position has not changed"
        source = "" if working.foreign else RECONCILIATION
        self.looks.differences.note(key, name, what, working.instrument, source)
        if working.foreign:
            self.gate.book.drop(working.ref)
        elif row.cancelled_at is None:
            row.cancelled_at, row.looks_then = now, row.looks
            self.gate.venue.withdraw(working.handle)
        elif row.looks - row.looks_then < _LOOKS or now - row.cancelled_at < _ANSWER:
            self.gate.venue.withdraw(working.handle)
        else:
            part = working.part
            reason = f"{RECONCILIATION}: the broker does not list it any more: it counts as gone"
            self.looks.inferred.cancel(working, reason)
            self.gate.fill_tracker.touch(part)

    # -- orders that the book does not have ------------------------------------------------------

    def _compare_strangers(self, answer: Look, known: list[Any], now: float) -> None:
        strange: dict[str, int] = {}
        for order in answer.orders or ():
            if any(order is one for one in known):
                continue
            instrument = self._instrument(order)
            if instrument is None or self._is_claimed(order):
                continue
            key = (_ids(order) or [f"ref {order.ref}"])[0]
            strange[key] = self._strange.get(key, 0) + 1
            enough = _LOOKS if self.looks.quiet(instrument, now) else _MANY_LOOKS
            self.looks.differences.keep(("listed", key))
            if strange[key] >= enough:
                self._settle(order, key, instrument)
        self._strange = strange
        self._keep_foreign()

    def _instrument(self, order: Any) -> Instrument | None:
        """Return the instrument of a listed order, None where the gate does not trade it."""
        instrument = self.gate.book.find(order.data)
        if instrument is None or instrument.index in self.gate.fill_tracker.unknown:
            return None
        return instrument if instrument.length else None

    def _is_claimed(self, order: Any) -> bool:
        """Return whether an order is one whose request was not answered."""
        return self.gate.order_sender.doubts.claim(order) or order.ref in self.gate.book.working

    def _whose(self, order: Any) -> str:
        """Return who has sent a listed order: "own", "user" through the gate, or "" for others."""
        if order.ref in self.gate.own:
            return "own"
        if order.ref in self.gate.fill_tracker.ended:
            return "user"
        saved = self.gate.recovery.reconciler.remembered(order)
        if saved is not None and saved.own:
            return "own"
        known = [self._ids[name] for name in _ids(order) if name in self._ids]
        return "" if not known else "own" if known[0] else "user"

    def _settle(self, order: Any, key: str, instrument: Instrument) -> None:
        """Withdraw an order of the gate that has ended in the book; count one of somebody else."""
        whose = self._whose(order)
        side = "buy" if order.isbuy() else "sell"
        size, kind = abs(float(order.executed.remsize)), KINDS.get(order.exectype, "stop")
        what = f"the broker lists a {kind} order to {side} {size:g} {instrument.name}"
        if not whose:
            self._adopt(order, instrument)
            return
        name = "two stops" if whose == "own" and kind == "stop" else "order not ended"
        what = f"{what} that has ended in the book of the gate: it is cancelled until it is gone"
        self.looks.differences.note(("listed", key), name, what, instrument)
        if whose == "own":
            self.gate.own.setdefault(order.ref, order)
        self.gate.venue.withdraw(order)

    def _adopt(self, order: Any, instrument: Instrument) -> None:
        """Add an order of somebody else to the book: it is counted, and never cancelled."""
        owner, book = self.gate.cerebro.runningstrats[0], self.gate.book
        book.add_back(foreign_order(book, instrument, owner, order))
        self.gate.venue.skip_executions(order, len(order.executed.exbits))

    def _keep_foreign(self) -> None:
        """Note every order of others that is working."""
        source = FOREIGN if self.gate.live.foreign == "reduce" else ""
        for working in self.gate.book.working.values():
            if working.foreign:
                side = "buy" if working.side > 0 else "sell"
                what = f"an order of somebody else is working: {side} {working.remaining:g}"
                what = f"{what} {working.instrument.name}; it is counted and left alone"
                key = "foreign", working.ref
                instrument = working.instrument
                self.looks.differences.note(key, "foreign order", what, instrument, source)


def _ids(order: Any) -> list[str]:
    """Return the ids of an order: the one that it was sent with, and the venue's."""
    client_id, given = (order.info or {}).get(CLIENT_ID), venue_id(order)
    names = ("client", client_id), ("venue", given)
    return [f"{kind} {name}" for kind, name in names if name]
