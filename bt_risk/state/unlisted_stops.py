"""UnlistedStops: stops and exits that an earlier run has left, and that the broker does not list.

A store may know nothing of the orders of an earlier process. A second stop behind the same position
would sell it twice, and so would a second market exit. So each counts as working until it is proven
to be gone, or until an operator who has looked at the venue says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import backtrader as bt

from bt_risk.orders import ACTIVE, REDUCING, venue_id
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.state.file import Record
from bt_risk.state.protocols import Gate
from bt_risk.state.unread_orders import UnreadOrders

if TYPE_CHECKING:
    from bt_risk.state.reconciler import Reconciler

__all__ = ["NOTHING_IN_QUESTION", "STOPS", "THERE", "UNKNOWN", "UnlistedStops"]

# The source that requests REDUCING while an operator must look at the venue.
STOPS = "stops"
# What is known of a stop that the broker does not list: nothing, or what an operator has said.
UNKNOWN, THERE = "unknown", "there"

NOTHING_IN_QUESTION = "no stop of an earlier run is in question"

# Answers that must agree that a stop is gone: of a list and of a question for its client id, or of
# one of these in two rounds of the loop.
_PROOFS = 2
# Looks, each in another round, before an operator is asked.
_LOOKS = 2
# Seconds between two looks after those.
_EVERY = 30.0


@dataclass
class _Unlisted:
    """An order of ours that is not listed.

    `client_id` is what it was sent with, `unknown` whether an operator must say what became of it,
    and `absent` how many answers in a row have proven its end.
    """

    working: WorkingOrder
    client_id: str
    unknown: bool
    absent: int = 0


class UnlistedStops:
    """Hold the saved stops and market exits of one `RiskBroker` that its broker does not list.

    Each is in the book as an order of ours, so that it counts and is saved again. The stand-in of a
    stop cannot be moved: what it covers gets no other stop.

    Attributes
    ----------
    rows : list
        Those that nothing has proven to be gone, and that the broker has not listed again.
    unread : UnreadOrders
        Whether the list of the broker could be read at all.
    """

    def __init__(self, gate: Gate, reconciler: Reconciler, path: object) -> None:
        self.gate, self.reconciler, self.path = gate, reconciler, path
        self.rows: list[_Unlisted] = []
        self.unread = UnreadOrders(gate, reconciler, path)
        self._looks, self._next, self._why = 0, -math.inf, ""

    @property
    def waits(self) -> bool:
        """Return whether the broker is to be asked again for its orders."""
        return bool(self.rows or self.unread.error)

    # -- the start -------------------------------------------------------------------------------

    def begin(self, listed: list[Any] | None) -> None:
        """Count the saved orders of ours as working that the first list has not shown."""
        if self.gate.venue.direct or not self.gate.intervenes:
            return
        for instrument in self.gate.book.instruments:
            for key, record in self.reconciler.missing.get(instrument.name, {}).items():
                if record["own"] and record["kind"] in ("stop", "market"):
                    self.rows.append(self._count(instrument, record, key))
        self._judge(listed)

    def request(self) -> None:
        """Let nothing be opened while a stop is in question, and end that once none is."""
        self.unread.request()
        state, unknown = self.gate.trading_state, self._unknown()
        if not unknown:
            if STOPS in state.asked:
                state.set(STOPS, ACTIVE, "state: no stop of an earlier run is in question any more")
        elif STOPS not in state.asked and (self._looks >= _LOOKS or not self._may_be_proven()):
            state.set(STOPS, REDUCING, self._reason(unknown))

    def _count(self, instrument: Any, record: Record, key: str) -> _Unlisted:
        """Add a stand-in of a saved order to the book."""
        stops, assumed = record["kind"] == "stop", record.get("assumed") or UNKNOWN
        kind = bt.order.BuyOrder if record["side"] > 0 else bt.order.SellOrder
        order = kind(
            owner=None,
            data=instrument.data,
            size=record["remaining"],
            price=record["price"],
            exectype=bt.Order.Stop if stops else bt.Order.Market,
            tradeid=record.get("tradeid", 0),
            simulated=True,  # there may be no bar of its data feed yet
        )
        order.addinfo(venue_id=record["venue_id"], bt_risk=record.get("reason", ""))
        order.created.price = record["price"]
        order.submit(self.gate)
        if stops or record["venue_id"]:  # else nothing shows that the broker has received it
            order.accept(self.gate)
        working = self.reconciler.working(order, instrument, record)
        working.assumed = assumed if stops else ""
        self.gate.book.add_back(working)
        self.reconciler.recorder.name(order, key)
        self.gate.own[order.ref] = order
        return _Unlisted(working, key, assumed == UNKNOWN)

    # -- looks -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Look again where that is due; call it between two rounds.

        A broker that can prove something is asked in every round until it has, and so is one whose
        list has raised an error.
        """
        due = self._looks < _LOOKS or self.gate.live.clock() >= self._next
        if due or self.unread.error or self._may_be_proven():
            self._judge(self.reconciler.match_orders())
            self.request()

    def _judge(self, listed: list[Any] | None) -> None:
        """Let go the stops that so many looks have proven to be gone, this one included."""
        view = self.gate.venue.view
        self.unread.note(listed)
        self._looks += 1
        self._next = self.gate.live.clock() + _EVERY
        self._why = _list_in_words(listed, view.error)
        for row in list(self.rows):
            proofs = self._proofs(row, listed is not None and view.declared)
            row.absent = row.absent + proofs if proofs else 0
            if row.absent >= _PROOFS:
                self._let_go(row, "the broker does not have it any more")

    def _proofs(self, row: _Unlisted, list_is_proof: bool) -> int:
        """Return how many answers of this look prove that the broker does not have an order."""
        if row not in self.rows:  # the list has just shown it
            return 0
        if not self._may_be_asked():
            return int(list_is_proof)
        try:
            found = self.gate.inner.order_by_client_id(row.client_id)
        except Exception:  # a store raises whatever its client raises: the next look asks again
            return int(list_is_proof)
        if found is not None and found.alive():
            self.confirm(row.client_id, found)
            return 0
        return 1 + list_is_proof

    def _may_be_asked(self) -> bool:
        capable = self.gate.order_sender.capabilities.can("client_ids")
        return capable and callable(getattr(self.gate.inner, "order_by_client_id", None))

    def _may_be_proven(self) -> bool:
        return self.gate.venue.view.declared or self._may_be_asked()

    # -- what becomes of an order ------------------------------------------------------------------

    def confirm(self, client_id: str, order: Any, listed: bool = True) -> bool:
        """Let an order of the broker take the place of its stand-in; return if there was one.

        What a `listed` order has filled is in the position already.
        """
        row = next((row for row in self.rows if row.client_id == client_id), None)
        if row is None:
            return False
        self.rows.remove(row)
        gate, working = self.gate, row.working
        stand_in: Any = working.handle
        withdrawn = gate.venue.withdrew(stand_in.ref) or self._has_rival(working)
        gate.own.pop(stand_in.ref, None)
        gate.book.rekey(working, order)
        self.reconciler.recorder.rename(stand_in.ref, order)
        stand_in.ref, stand_in.status, stand_in.executed = order.ref, order.status, order.executed
        gate.own[order.ref] = stand_in
        order.addinfo(bt_risk=stand_in.info.bt_risk)
        working.price = float(order.created.price or working.price)
        if listed:
            working.remaining = working.size = float(abs(order.executed.remsize))
            gate.venue.skip_executions(order, len(order.executed.exbits))
        if withdrawn:  # it covers its units until its end is confirmed
            gate.venue.withdraw(order)
            return True
        working.assumed = ""
        self._touch(working)
        return True

    def claim(self, order: Any) -> None:
        """Let the order of a notification take the place of its stand-in."""
        key = self.reconciler.key_of(order)
        if key is not None and self.confirm(key, order, listed=False):
            self.request()

    def _has_rival(self, working: WorkingOrder) -> bool:
        """Return whether another order of ours does the same under the same tradeid."""
        unlisted = [row.working for row in self.rows]
        return any(
            one.own and one.kind == working.kind and one.tradeid == working.tradeid
            for one in working.instrument.orders.values()
            if one.owner is working.owner and one is not working and one not in unlisted
        )

    def _let_go(self, row: _Unlisted, why: str) -> None:
        """Drop an order; where its position is held, the stop is placed again."""
        self.rows.remove(row)
        working = row.working
        self.gate.book.drop(working.ref)
        self._touch(working)
        text = f"state: {_named(working)} of the earlier run counts as gone: {why}"
        self.reconciler.note(working.instrument.name, "note", text)

    def end_exits(self, instrument: Any) -> None:
        """Let the market exits go that have nothing to close: they have filled in the meantime."""
        for row in list(self.rows):
            working = row.working
            mine = working.instrument is instrument and working.kind == "market"
            if mine and not working.part.held_against(working.side):
                self._let_go(row, "its position is closed")
        self.request()

    def _touch(self, working: WorkingOrder) -> None:
        touched, part = self.gate.fill_tracker.touched, working.part
        if part not in touched and working.instrument.length:
            touched.append(part)

    # -- the operator ----------------------------------------------------------------------------

    def settle(self, gone: bool) -> str:
        """Carry out what an operator has found at the venue; return the answer."""
        rows = list(self.rows) if gone else self._unknown()
        if not rows:
            return NOTHING_IN_QUESTION
        names = " and ".join(f"{_named(r.working)} of {r.working.instrument.name}" for r in rows)
        names, verb = names[0].upper() + names[1:], "counts" if len(rows) == 1 else "count"
        if gone:
            for row in rows:
                self._let_go(row, "the operator says so")
            text = f"{names} {verb} as gone; what is held gets a stop again"
        else:
            for row in rows:
                row.unknown = False
                if row.working.assumed:
                    row.working.assumed = THERE
            text = (
                f"{names} {verb} as working at the venue. A stop stays at its price: cancel it by "
                "hand when its position is closed"
            )
        self.request()
        return text

    def _unknown(self) -> list[_Unlisted]:
        return [row for row in self.rows if row.unknown]

    def _reason(self, rows: list[_Unlisted]) -> str:
        guarded = ", ".join(
            f"{r.working.remaining:g} {r.working.instrument.name} were "
            f"{'guarded by' if r.working.kind == 'stop' else 'being closed by'} "
            f"{_named(r.working, 'a')}"
            for r in rows
        )
        verb = f"`bt-risk resume --stops-are-gone {self.path}` or `--stops-are-there`"
        return f"state: {self._why}, and {guarded}. Look at the venue, then {verb}"


def _named(working: WorkingOrder, article: str = "the") -> str:
    known = venue_id(working.handle) or "unknown"
    if working.kind == "market":
        return f"{article} market exit (id {known})"
    return f"{article} stop at {working.price:g} (id {known})"


def _list_in_words(listed: list[Any] | None, error: str) -> str:
    """Return what a list of orders has shown, in words."""
    if listed:
        return f"the broker lists {len(listed)} orders, and not all that were saved"
    if listed is not None:
        return "the broker lists no orders"
    if error:
        return f"the broker's list of orders cannot be read ({error})"
    return "the broker has no list of orders"
