"""What one `RiskBroker` writes down while it runs, and when: before it counts."""

import json
import math
import sqlite3
import threading

from bt_risk.orders import ACTIVE, REDUCING
from bt_risk.portfolio.position import place_of, position_key
from bt_risk.state.file import StateFile
from bt_risk.state.records import (
    CLIENT_ID,
    order_record,
    part_record,
    sent_record,
    thinned,
    trade_record,
    venue_id,
)

__all__ = ["StateRecorder"]


# Closes and orders that the guards may look back on, kept one by one.
_LOOK_BACK = 500


class StateRecorder:
    """Keep the state of one gate in a `StateFile`.

    A write holds everything that has changed since the last one, so that what is in the file
    belongs together. Intents are written before an order is sent, and the order once it is.
    `intended` is the id of the order that is about to be sent, None where there is none.
    """

    def __init__(self, gate, path):
        self.gate, self.file = gate, StateFile(path)
        self.begun, self._one_by_one = False, threading.RLock()
        self._written = {key: _text(value) for key, value in self.file.kept.records.items()}
        self._lines = self._trades = self._number = 0
        self._ids, self._intent, self._closers = {}, None, {}
        self.intended = None
        self._answered = []
        self.closes, self._room = {}, 0.0
        done = self.file.kept.of("done").items()
        self._done = {key: record["executions"] for key, record in done}

    # -- orders ----------------------------------------------------------------------------------

    def intend(self, request, size, own=False, opening=0.0, distance=math.nan):
        """Write down an order that is about to be sent; return why that failed, or nothing."""
        self._number += 1
        record = {
            "data": request.instrument.name,
            "owner": place_of(request.owner, self.gate.cerebro.runningstrats),
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
        self.intended = f"{self.file.name}-{self._number}"
        self._intent = record
        return self.save()

    def sent(self, order):
        """Connect the order that has been sent with what was intended."""
        if order is not None and self.intended is not None:
            self.name(order, self.intended)
        self._intent = self.intended = None

    def name(self, order, client_id):
        """Keep an order under the id that it was sent with."""
        self._ids[order.ref] = client_id
        order.addinfo(**{CLIENT_ID: client_id})

    def rename(self, ref, order):
        """Keep an order under the id of the one that has stood in for it."""
        self.name(order, self.client_id(ref))

    def client_id(self, ref):
        """Return the id of an order; children and adopted orders get theirs here."""
        if ref not in self._ids:
            self._number += 1
            self._ids[ref] = f"{self.file.name}-{self._number}"
        return self._ids[ref]

    def executed(self, order, count, since):
        """Take note of an order's executions, which have closed the trades from `since` on."""
        known = venue_id(order)
        if known is not None:
            self._done.pop(known, None)
            self._done[known] = count
        known = known or self.client_id(order.ref)
        for number in range(since, len(self.gate.book.trades)):
            self._closers[number] = f"{known}/{number - since}"

    def closed(self, instruments):
        """Keep the closes that windows are made of, as many as they look back on."""
        windows = self.gate.book.windows
        for one in instruments if windows else ():
            if one.lead is one and one.closed > 0:
                self.closes.setdefault(one.time, {})[one.name] = one.closed
        if len(self.closes) > self._room:
            self.closes = thinned(self.closes, windows.depth)
            self._room = 1.25 * len(self.closes)

    # -- writing ---------------------------------------------------------------------------------

    def close(self):
        """Leave one whole file behind, and let others have it."""
        self.file.close()

    def save(self):
        """Write what has changed; return why it could not be written, or nothing."""
        if not self.begun:
            return ""
        with self._one_by_one:  # an operator may halt from another thread
            return self._save()

    def _save(self):
        new = {key: _text(value) for key, value in self._snapshot()}
        changed = {key: text for key, text in new.items() if self._written.get(key) != text}
        gone = self._written.keys() - new.keys()
        journal, book = self.gate.journal, self.gate.book
        lines, trades = journal.lines[self._lines :], book.trades[self._trades :]
        if not (changed or gone or lines or trades or self._answered):
            return ""
        try:
            self.file.write(
                changed,
                gone,
                [self._trade_row(number) for number in range(self._trades, len(book.trades))],
                [_text(line) for line in lines],
                self._answered,
            )
        except sqlite3.Error as error:
            return self._not_written(error)
        self._written, self._answered = new, []
        self._lines, self._trades = len(journal.lines), len(book.trades)
        if "unwritten" in self.gate.trading_state.asked:
            self.gate.trading_state.set("unwritten", ACTIVE)
        return ""

    def _not_written(self, error):
        """Refuse entries as long as nothing can be kept: what is sent now would be forgotten."""
        reason = f"state: {self.file.path} cannot be written ({error})"
        if "unwritten" not in self.gate.trading_state.asked:
            self.gate.trading_state.set("unwritten", REDUCING, reason)
        return reason

    def _trade_row(self, number):
        trade = self.gate.book.trades[number]
        key = self._closers.get(number, f"{trade.instrument}/{trade.closed!r}/{number}")
        place = place_of(trade.owner, self.gate.cerebro.runningstrats)
        return key, _text(trade_record(trade, place))

    # -- everything ------------------------------------------------------------------------------

    def _snapshot(self):
        """Yield ``((kind, key), record)`` of everything that is to survive."""
        yield from self._foreign()
        yield from self._book()
        yield from self._look_back()
        if self.gate.trading_state.asked:
            for source, record in self.gate.trading_state.persist().items():
                yield ("gate", source), record
        numbers = {}
        for hook in self.gate.registry.monitors:
            kind = hook.state_kind
            if kind:
                number = numbers[kind] = numbers.get(kind, -1) + 1
                yield from (((kind, f"{number}:{key}"), value) for key, value in hook.persist())
        for place, strategy in enumerate(self.gate.cerebro.runningstrats):
            sizer = strategy.getsizer()
            if hasattr(sizer, "persist"):
                yield ("sizer", str(place)), sizer.persist()

    def _foreign(self):
        """Yield what is kept of datas that this run does not have: it is not forgotten."""
        names = {instrument.name for instrument in self.gate.book.instruments}
        for key, value in self.file.kept.records.items():
            if value.get("data", None) not in names and "data" in value:
                yield key, value

    def _book(self):
        book, strategies = self.gate.book, self.gate.cerebro.runningstrats
        names = [instrument.name for instrument in book.instruments]
        places = {id(limit): place for place, limit in enumerate(self.gate.registry.limits)}
        latched = sorted([places[one], *sorted(pair), side] for one, pair, side in book.latched)
        yield ("run", "bars"), {"rounds": book.rounds, "datas": names, "latched": latched}
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
            yield ("order", self.client_id(working.ref)), self._order(working, strategies)
        if self.intended is not None:
            yield ("order", self.intended), self._intent

    def _order(self, working, strategies):
        record = order_record(working, place_of(working.owner, strategies))
        record["venue_id"] = venue_id(working.handle)
        if working.group != working.ref:
            record["group"] = repr(working.group)
        if working.parent is not None:
            record["parent"] = self._ids.get(working.parent, "gone")
        if working.own:
            record["reason"] = working.handle.info.get("bt_risk", "")
        return record

    def _look_back(self):
        """Yield the fills that must not count twice, and what limits and guards look back on."""
        if self.closes is None:  # nothing has been made of them yet
            yield from ((("close", key), row) for key, row in self.file.kept.of("close").items())
        else:
            yield from ((("close", repr(time)), row) for time, row in self.closes.items())
        for known in list(self._done)[-_LOOK_BACK:]:
            yield ("done", known), {"executions": self._done[known]}
        book = self.gate.book
        sent = book.sent or []
        for number in range(max(0, len(sent) - _LOOK_BACK), len(sent)):
            name = book.instruments[sent[number].index].name
            yield ("sent", f"{number:012d}"), sent_record(sent[number], name)
        if book.curve.times:
            for number, mark in book.curve.marks(_LOOK_BACK):
                yield ("mark", f"{number:012d}"), mark


def _text(value):
    # Fillers and exactbars bring numpy scalars.
    return json.dumps(value, default=float)
