"""ExitOrders: send our orders, which only close, and keep the user's from opening more."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import backtrader as bt

from bt_risk.orders import AT_MARKET, DEFAULTS, OrderRequest, plain
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.reachable import orphaned, stranded
from bt_risk.portfolio.tradeids import by_tradeid
from bt_risk.tolerances import SIZE_EPS

__all__ = ["ExitOrders"]

# So many of our ended orders are remembered, to recognise a late fill of one.
_REMEMBERED = 1000


class ExitOrders:
    """Send, move and withdraw the protective and closing orders of one `RiskBroker`.

    `ended` holds the refs of cancelled entries.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.ended: set[int] = set()

    def send(
        self,
        part: OwnerPosition,
        size: float,
        rule: str,
        reason: str,
        stop_price: float | None = None,
        stops: bool = False,
        tradeid: Any = 0,
        target_price: float | None = None,
    ) -> Any:
        """Send an order that closes `size` of a position: at the market, or resting.

        It rests as a stop at `stop_price`, or as a limit at `target_price`. `stops` says that a
        market order takes the place of a stop.
        """
        data = part.instrument.data
        if data._compensate is not None and self.gate.venue.held_in(data) is not part.instrument:
            self.gate.order_sender.why = "compensate: an order on it changes another position"
            return None
        price, exectype = stop_price, bt.Order.Market if stop_price is None else bt.Order.Stop
        if target_price is not None:
            price, exectype = target_price, bt.Order.Limit
        args = DEFAULTS | {"price": price, "exectype": exectype, "tradeid": tradeid}
        args |= self.gate.venue.own_arguments()
        side, instrument = -part.side, part.instrument
        request = OrderRequest(side, part.owner, instrument, plain(size), args)
        request.price = instrument.price if price is None else price
        record = partial(self._record_sent, rule, reason)
        return self.gate.order_sender.send(request, request.size, record, own=True, stops=stops)

    def send_all(
        self, part: OwnerPosition, size: float, rule: str, reason: str, stops: bool = False
    ) -> list[Any]:
        """Close `size` of a position at the market; return the orders, one for each tradeid."""
        orders = [
            self.send(part, units, rule, reason, stops=stops, tradeid=tradeid)
            for tradeid, units in by_tradeid(part, size).items()
        ]
        return [order for order in orders if order is not None]

    def attach(self, entry: WorkingOrder, price: float, rule: str, reason: str) -> Any:
        """Send a stop as a child of an entry that the broker holds back until it has both."""
        args = DEFAULTS | {"price": price, "exectype": bt.Order.Stop, "tradeid": entry.tradeid}
        args |= self.gate.venue.own_arguments() | {"parent": entry.handle}
        size, instrument = plain(entry.remaining), entry.instrument
        request = OrderRequest(-entry.side, entry.owner, instrument, size, args)
        request.price = price

        def record(order: Any) -> None:
            if order is not None:
                self.gate.book.working[order.ref].parent = entry.ref
            self._record_sent(rule, reason, order)

        return self.gate.order_sender.send(request, size, record, own=True)

    def _record_sent(self, rule: str, reason: str, order: Any) -> None:
        if order is None:
            return
        order.addinfo(bt_risk=reason)
        self._own(order)
        self.gate.book.working[order.ref].rule = rule
        if not order.alive():  # some brokers return an order that has ended already
            self.gate.fill_tracker.take(order)

    def _own(self, order: Any) -> None:
        """Remember an order as ours, and forget the oldest of those that have ended."""
        own = self.gate.own
        own[order.ref] = order
        if len(own) > 2 * _REMEMBERED:
            for ref in [ref for ref, one in own.items() if not one.alive()][:-_REMEMBERED]:
                del own[ref]
                self.gate.venue.forget(ref)

    def amend(self, order: Any, size: float, price: float) -> bool:
        """Give a resting order of ours another size and price; return whether that is done."""
        working = self.gate.book.working[order.ref]
        # Where amending takes a while, entries are judged by the new price already.
        working.price = price
        if not self.gate.venue.amend(working, size, price):
            return False
        working.remaining = working.size = size
        return True

    # -- entries that must not open any more -----------------------------------------------------

    def cancel_entries(self, rule: str, kinds: Collection[str] | None = None) -> None:
        """Cancel the part that the user's working orders (of some kinds) would open."""
        for working in list(self.gate.book.working.values()):
            concerned = kinds is None or working.kind in kinds
            if not working.own and working.opening > SIZE_EPS and concerned:
                self.cancel_entry(working, rule)
        if self.gate.venue.clamps:
            for part in list(self.gate.book.parts.values()):
                for side in (1, -1) if part.instrument.orders else ():
                    self._cancel_orphans(part, side, kinds)
        self.gate.process_notifications()  # what is cancelled makes room at once

    def cancel_entry(self, working: WorkingOrder, rule: str) -> bool:
        """Cancel the part that an order would open; the part that closes stays.

        Return whether it was not cancelled before. An order of somebody else is left alone.
        """
        if working.foreign:
            return False
        new = working.ref not in self.ended
        if new:
            self.gate.events.cut(working.handle, working.opening, rule)
        if max(working.closing, working.reduces) <= SIZE_EPS:
            self.ended.add(working.ref)
            self.gate.venue.cancel_entry(working.handle)
        if self.gate.venue.clamps or working.closing > SIZE_EPS:
            # BackBroker cancels only what it has accepted; the rest is clamped when it would fill.
            working.opening = 0.0
            self.gate.fill_tracker.touch(working.part)  # its exits may have nothing to close now
        if self.gate.venue.clamps:
            self._cancel_orphans(working.part, -working.side)
        return new

    def _cancel_orphans(
        self, part: OwnerPosition, side: int, kinds: Collection[str] | None = None
    ) -> None:
        """Cancel the exits on a side that could only open, because their entry is gone.

        A live broker has none of them: they are held back until their entry has filled.
        """
        for working in orphaned(part, side):
            passed = working.foreign or working.ref in self.ended
            if passed or (kinds is not None and working.kind not in kinds):
                continue
            self.ended.add(working.ref)  # one that is not accepted yet ends when it would fill
            reason = "execution: cancelled, the entry that it was to close did not fill"
            working.handle.addinfo(bt_risk=reason)
            self.gate.venue.cancel_entry(working.handle)
            if not working.handle.alive():
                self.gate.journal.order(working.handle, "execution", "trim", reason, 0.0)

    # -- exits -----------------------------------------------------------------------------------

    def close_all(self, rule: str, reason: str) -> None:
        """Close every position that no order of ours is closing yet."""
        for part in list(self.gate.book.parts.values()):
            self.close(part, rule, reason)

    def close(self, part: OwnerPosition, rule: str, reason: str, stops: bool = False) -> list[Any]:
        """Close an owner's position at the market; return the orders once they are sent."""
        # Before the first bar of a data feed no order can be made for it.
        if not part.size or not part.instrument.length or self.leaving(part) is not None:
            return []
        return self.gate.venue.close(part, rule, reason, stops)

    def resting(self, part: OwnerPosition) -> list[WorkingOrder]:
        """Return the working orders of an owner that wait for a price."""
        orders = list(part.instrument.orders.values())
        owned = [w for w in orders if w.owner is part.owner and not w.foreign]
        return [w for w in owned if w.kind not in AT_MARKET]

    def all_flat(self) -> bool:
        """Return whether nothing is held, and neither an exit of ours nor an entry works."""
        book, venue = self.gate.book, self.gate.venue
        if any(part.size for part in book.parts.values()):
            return False
        orders = [w for w in book.working.values() if not w.foreign]
        works = [w for w in orders if w.opening > SIZE_EPS or w.own]
        return not any(venue.awaited(w) for w in works) and venue.is_flat()

    def settle(self, instrument: Instrument) -> None:
        """Cancel the exits whose position is gone, so that none is left that could open another."""
        for w in [w for part in instrument.parts for w in stranded(part) if not w.foreign]:
            reason = "execution: cancelled, the position it was to close is gone"
            w.handle.addinfo(bt_risk=reason)
            self.gate.venue.cancel_entry(w.handle)
            self.gate.journal.order(w.handle, "execution", "trim", reason, 0.0)

    def leaving(self, part: OwnerPosition) -> WorkingOrder | None:
        """Return our market exit that is closing this position, or None."""
        for w in part.instrument.orders.values():
            mine = w.own and w.kind == "market" and w.owner is part.owner
            if mine and self.gate.venue.on_its_way(w):
                return w
        return None
