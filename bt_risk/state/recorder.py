"""StateRecorder: write the state of a run to its file, each part before it counts."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from bt_risk.orders import ACTIVE, CLIENT_ID, REDUCING, OrderRequest, venue_id
from bt_risk.portfolio.position import WorkingOrder, place_of, position_key
from bt_risk.state.closes import SavedCloses
from bt_risk.state.file import Key, Record, StateFile
from bt_risk.state.heartbeat import Heartbeat
from bt_risk.state.loss import HALTING, halting
from bt_risk.state.protocols import RecordedRun
from bt_risk.state.records import (
    ORDER,
    part_record,
    sent_record,
    trade_record,
)
from bt_risk.state.requests import Answer

__all__ = ["StateRecorder"]

# How many executed orders and sent orders are saved one by one.
_LOOK_BACK = 500


class StateRecorder:
    """Write the state of one gate to a `StateFile`.

    A write holds everything that has changed since the last one: the contents of the file belong
    together. An intent is written before its order is sent, and the order once it is.

    Attributes
    ----------
    begun : bool
        Whether the saved state has been restored. Nothing is written before.
    answers : list of Answer
        Answers to an operator's requests, for the next write.
    written_trades : int
        How many closed trades of the book are in the file.
    intended : str or None
        The id of the order that is about to be sent.
    differences : list of str
        Where the broker's book is not that of the gate.
    closes : SavedCloses
    heartbeat : Heartbeat or None
        Shows that a live run goes on.
    """

    def __init__(self, file: StateFile, run: RecordedRun) -> None:
        self.file, self.run = file, run
        self.begun = False
        self.answers: list[Answer] = []
        self.written_trades = 0
        self.differences: list[str] = []
        self.closes = SavedCloses(run.book.windows, file.saved.of("close"))
        self.heartbeat: Heartbeat | None = None
        self._lock = threading.RLock()
        self._written = {key: _text(value) for key, value in file.saved.records.items()}
        self._halts = halting(file.saved.records)
        self._written_lines = self._number = 0
        self._ids: dict[int, str] = {}
        self._handles: dict[str, Any] = {}
        self._lives: dict[str, Record] = {}
        self.intended: str | None = None
        self._intent: Record = {}
        self._trade_keys: dict[int, str] = {}
        booked = file.saved.of("done").items()
        self._booked: dict[str, int] = {key: row["executions"] for key, row in booked}

    # -- orders ----------------------------------------------------------------------------------

    def intend(
        self,
        request: OrderRequest,
        size: float,
        own: bool = False,
        opening: float = 0.0,
        distance: float = math.nan,
    ) -> str:
        """Write an order that is about to be sent; return why that failed, or an empty text."""
        self._number += 1
        record = {
            "data": request.instrument.name,
            "owner": place_of(request.owner, self.run.cerebro.runningstrats),
            "side": request.side,
            "remaining": float(size),
            "opening": float(opening),
            "kind": request.kind,
            "price": request.price,
            "distance": distance,
            "own": own,
            "stops": request.kind == "stop",
            "size": float(size),
            "venue_id": None,
        }
        self.intended, self._intent = f"{self.file.name}-{self._number}", record
        return self.save()

    def sent(self, order: Any) -> None:
        """Give the sent order the id of its intent; None: no order came of it."""
        if order is not None and self.intended is not None:
            self.name(order, self.intended)
        self.intended = None

    def name(self, order: Any, client_id: str) -> None:
        """Save an order under the id that it was sent with."""
        self._ids[order.ref] = client_id
        order.addinfo(**{CLIENT_ID: client_id})

    def rename(self, ref: int, order: Any) -> None:
        """Save an order under the id of the one that has stood in for it."""
        self.name(order, self.client_id(ref))

    def client_id(self, ref: int) -> str:
        """Return the id of an order; one that was sent without an intent gets its id here."""
        if ref not in self._ids:
            self._number += 1
            self._ids[ref] = f"{self.file.name}-{self._number}"
        return self._ids[ref]

    # -- fills -----------------------------------------------------------------------------------

    def executed(self, order: Any, count: int, since: int) -> None:
        """Save that `count` executions are booked, which closed the trades from `since` on."""
        known = venue_id(order)
        if known is not None:
            self._booked.pop(known, None)
            self._booked[known] = count
        self.name_trades(known or self.client_id(order.ref), since)

    def booked(self, known: str | None) -> int:
        """Return how many executions are booked of the order with this id of the venue."""
        return 0 if known is None else self._booked.get(known, 0)

    def name_trades(self, closed_by: str, since: int) -> None:
        """Save the trades from `since` on under the order that closed them.

        An order that is reported again closes the same trades, and none is saved twice.
        """
        for number in range(since, len(self.run.book.trades)):
            self._trade_keys[number] = f"{closed_by}/{number - since}"

    # -- writing ---------------------------------------------------------------------------------

    def save(self) -> str:
        """Write what has changed; return why it could not be written, or an empty text."""
        if not self.begun:
            return ""
        with self._lock:  # an operator may halt from another thread
            return self._save()

    def _save(self) -> str:
        snapshot = dict(self._snapshot())
        new = {key: _text(value) for key, value in snapshot.items()}
        changed = {key: text for key, text in new.items() if self._written.get(key) != text}
        removed = self._written.keys() - new.keys()
        lines, trades = self.run.journal.lines, self.run.book.trades
        new_lines = lines[self._written_lines :]
        new_trades = trades[self.written_trades :]
        if not (changed or removed or new_lines or new_trades or self.answers):
            return ""
        halts = self._halts
        if any(kind in HALTING for kind, _ in (*changed, *removed)):
            halts = halting(snapshot)
        first, now = self._written_lines, self.run.live.now()
        events = self._order_events(snapshot, changed, removed)
        try:
            self.file.write(
                changed,
                removed,
                [self._trade_row(number) for number in range(self.written_trades, len(trades))],
                [(_text(line), self._order_of(n), now) for n, line in enumerate(new_lines, first)],
                self.answers,
                [(client_id, now, _text(event)) for client_id, event in events],
                halts=halts != self._halts,
            )
        except sqlite3.Error as error:
            return self._not_written(error)
        self._written, self._halts, self.answers = new, halts, []
        self._written_lines, self.written_trades = len(lines), len(trades)
        if "unwritten" in self.run.trading_state.asked:
            self.run.trading_state.set("unwritten", ACTIVE)
        return ""

    def _order_events(
        self, snapshot: dict[Key, Record], changed: Iterable[Key], removed: Iterable[Key]
    ) -> list[tuple[str, Record]]:
        """Return what has happened to orders since the last write, for `order_events`."""
        found: list[tuple[str, Record]] = []
        for client_id in [key for kind, key in changed if kind == "order"]:
            order, record = self._handles.get(client_id), snapshot["order", client_id]
            life = {name: value for name, value in record.items() if name != "seen_at"}
            if order is not None and order.executed.size:
                life["paid"] = float(order.executed.price)
            if life != self._lives.get(client_id):
                self._lives[client_id] = life
                found.append((client_id, life))
        for client_id in [key for kind, key in removed if kind == "order"]:
            self._lives.pop(client_id, None)
            found.append((client_id, _end(self._handles.pop(client_id, None))))
        return found

    def _order_of(self, line: int) -> str:
        """Return the client id of the order that a line of the journal is about, if any."""
        return self._ids.get(self.run.journal.orders.get(line, 0), "")

    def _not_written(self, error: sqlite3.Error) -> str:
        """Refuse entries as long as nothing can be saved: a crash would lose them."""
        reason = f"state: {self.file.path} cannot be written ({error})"
        if "unwritten" not in self.run.trading_state.asked:
            self.run.trading_state.set("unwritten", REDUCING, reason)
        return reason

    def _trade_row(self, number: int) -> tuple[str, str]:
        trade = self.run.book.trades[number]
        key = self._trade_keys.get(number, f"{trade.instrument}/{trade.closed!r}/{number}")
        place = place_of(trade.owner, self.run.cerebro.runningstrats)
        return key, _text(trade_record(trade, place))

    # -- what is saved ---------------------------------------------------------------------------

    def _snapshot(self) -> Iterator[tuple[Key, Record]]:
        """Yield ``((kind, key), record)`` of everything that must survive the process."""
        yield from self._of_other_feeds()
        yield from self._book()
        yield from self._history()
        unknown = self.run.fill_tracker.unknown
        if unknown:
            names = [i.name for i in self.run.book.instruments if i.index in unknown]
            yield ("run", "unknown"), {"names": names}
        if self.heartbeat is not None and self.heartbeat.record:
            yield ("run", "heartbeat"), self.heartbeat.record
        if self.run.trading_state.asked:
            for source, record in self.run.trading_state.persist().items():
                yield ("gate", source), record
        numbers: dict[str, int] = {}
        for monitor in self.run.registry.monitors:
            kind = monitor.state_kind
            if kind:
                number = numbers[kind] = numbers.get(kind, -1) + 1
                yield from (((kind, f"{number}:{key}"), value) for key, value in monitor.persist())
        for place, strategy in enumerate(self.run.cerebro.runningstrats):
            sizer = strategy.getsizer()
            if hasattr(sizer, "persist"):
                yield ("sizer", str(place)), sizer.persist()

    def _of_other_feeds(self) -> Iterator[tuple[Key, Record]]:
        """Yield the saved records of data feeds that this run does not have."""
        names = {instrument.name for instrument in self.run.book.instruments}
        for key, value in self.file.saved.records.items():
            if value.get("data", None) not in names and "data" in value:
                yield key, value

    def _book(self) -> Iterator[tuple[Key, Record]]:
        book, strategies = self.run.book, self.run.cerebro.runningstrats
        names = [instrument.name for instrument in book.instruments]
        places = {id(limit): place for place, limit in enumerate(self.run.registry.limits)}
        latched = sorted([places[one], *sorted(pair), side] for one, pair, side in book.latched)
        yield ("run", "bars"), {"rounds": book.rounds, "datas": names, "latched": latched}
        if self.differences:
            yield ("run", "differences"), {"open": self.differences}
        account = {} if self.run.venue.direct else self.run.venue.persist()
        if account:
            yield ("run", "account"), account
        for instrument in book.instruments:
            yield (
                ("instrument", instrument.name),
                instrument.persist() | {"data": instrument.name, "bars": instrument.length},
            )
        for part in book.parts.values():
            if part.size or part.lost:
                place = place_of(part.owner, strategies)
                key = position_key(part.instrument, place)
                yield ("position", key), part_record(part, place)
        for working in book.working.values():
            client_id = self.client_id(working.ref)
            self._handles[client_id] = working.handle
            yield ("order", client_id), self._order(working, strategies)
        if self.intended is not None:
            yield ("order", self.intended), self._intent

    def _order(self, working: WorkingOrder, strategies: list[Any]) -> Record:
        order: Any = working.handle
        record: Record = {name: getattr(working, name) for name in ORDER}
        record["owner"] = place_of(working.owner, strategies)
        record |= {"venue_id": venue_id(order), "data": working.instrument.name}
        if working.group != working.ref:
            record["group"] = repr(working.group)
        if working.parent is not None:
            record["parent"] = self._ids.get(working.parent, "ended")
        if working.own:
            record["reason"] = order.info.get("bt_risk", "")
        return record

    def _history(self) -> Iterator[tuple[Key, Record]]:
        """Yield closes, booked executions and sent orders, the newest of each."""
        for time, row in self.closes.rows.items():
            yield ("close", repr(time)), row
        for known in list(self._booked)[-_LOOK_BACK:]:
            yield ("done", known), {"executions": self._booked[known]}
        book = self.run.book
        sent, strategies = book.sent or [], self.run.cerebro.runningstrats
        for number in range(max(0, len(sent) - _LOOK_BACK), len(sent)):
            name = book.instruments[sent[number].index].name
            yield ("sent", f"{number:012d}"), sent_record(sent[number], name, strategies)


def _end(order: Any) -> Record:
    """Return how an order has ended; of one that was not sent in this run that is not known."""
    if order is None:
        return {"status": None}
    filled = float(abs(order.executed.size))
    return {
        "status": "dropped" if order.alive() else order.getstatusname(),
        "reason": (order.info or {}).get("bt_risk"),
        "filled": filled,
        "paid": float(order.executed.price) if filled else None,
    }


def _text(value: Any) -> str:
    # Fillers and exactbars bring numpy scalars.
    return json.dumps(value, default=float)
