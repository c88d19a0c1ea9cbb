"""OrderTracker: what becomes of the orders at Interactive Brokers.

What arrives is noted when it arrives, and acted upon in `advance`, so that no order changes while
somebody works with it. No error of IB ends an order: it says that something is wrong, and the list
of open orders says whether the order is still working.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

from ib_async import Fill, Trade

from bt_risk.stores.ib.account import Account
from bt_risk.stores.ib.connection import IBStore
from bt_risk.stores.ib.fills import execute, fill_name, filled_before
from bt_risk.stores.ib.orders import adopted, key_of

__all__ = ["OrderTracker", "feeds_of"]

log = logging.getLogger(__name__)

# Messages that say nothing against an order or a change of it: "will not be placed until the open".
_NOTES = (399, 404, 10167, 10349, *range(2100, 2200))
# Answers to a cancel or a change of an order that works no more; the confirmation of a cancel.
_GONE, _CANCELLED = (104, 135, 161, 10147, 10148), 202
_WORKING = ("PreSubmitted", "Submitted", "ApiUpdate")
_ENDED = ("Cancelled", "ApiCancelled", "Filled")
# Lists that lack an order before it counts as ended: where nothing was reported of it, or that it
# is gone; where IB has reported its end; and where it has filled and the executions are missing.
_SILENT, _REPORTED, _FILLED = 2, 1, 10
_TINY = 1e-9


@dataclass
class _Doubt:
    """An order that may have ended: it has once so many lists lack it."""

    order: Any
    lists: int = _SILENT
    rejected: bool = False
    missing: int = 0


class OrderTracker:
    """Follow the orders of one broker: their acknowledgements, fills and ends.

    Attributes
    ----------
    by_client_id : dict
        Orders by the client id that they were sent with.
    trades : dict
        ib_async's records by ref of the order.
    notifications : deque
        Copies of orders that have changed, the oldest first.
    """

    def __init__(self, store: IBStore, account: Account, params: Any, scheme: Any) -> None:
        self.store, self.ib, self.account = store, store.ib, account
        self.p, self._scheme = params, scheme
        self.by_client_id: dict[str, Any] = {}
        self.trades: dict[int, Trade] = {}
        self.notifications: deque[Any] = deque()
        self._orders: dict[Any, Any] = {}
        self._arrived: deque[tuple[Any, ...]] = deque()
        # Fills of this run that wait for their commission; the names of all that were ever seen.
        self._fills: list[tuple[Fill, float]] = []
        self._booked = {fill_name(fill) for fill in self.ib.fills()}
        self._doubts: dict[int, _Doubt] = {}
        self._look: asyncio.Task[list[Trade]] | None = None
        self._looked_for: list[_Doubt] = []
        self._next_look = 0.0
        self._one_list = asyncio.Lock()
        self._changing, self._refused = 0, False

    def connect_events(self, on: bool) -> None:
        """Follow what IB reports, or no longer."""
        pairs = (
            (self.ib.execDetailsEvent, self._on_execution),
            (self.ib.orderStatusEvent, self._on_status),
            (self.ib.openOrderEvent, self._on_status),
            (self.ib.errorEvent, self._on_error),
        )
        for event, handler in pairs:
            event.connect(handler) if on else event.disconnect(handler)

    @property
    def fills_wait(self) -> bool:
        """Return whether fills have arrived that are not booked yet."""
        return bool(self._fills)

    def track(self, order: Any, trade: Trade, client_id: str) -> None:
        """Follow an order from now on."""
        order.addinfo(client_id=client_id)
        order.addcomminfo(self._scheme(order.data))
        self._orders[key_of(trade.order)] = self.by_client_id[client_id] = order
        self.trades[order.ref] = trade
        if len(self._orders) > 2000:  # those that ended long ago are not needed
            self._forget(list(self._orders.items())[:1000])

    def _forget(self, rows: list[tuple[Any, Any]]) -> None:
        for key, order in rows:
            if not order.alive():
                del self._orders[key], self.trades[order.ref]
                self.by_client_id.pop(order.info.client_id, None)

    def notify(self, order: Any) -> None:
        """Notify of an order as it is now."""
        self.notifications.append(order.clone())

    def change(self, trade: Trade, request: Any, done: Any) -> bool:
        """Send a changed order; return whether IB has confirmed it, as `done()` says."""
        self._changing, self._refused = request.orderId, False
        self.ib.placeOrder(trade.contract, request)
        self.store.wait_for(lambda: self._refused or done(), self.p.answer_within)
        self._changing = 0
        return bool(done()) and not self._refused

    # -- lists -----------------------------------------------------------------------------------

    def listed(self, fills: bool = False) -> list[Any]:
        """Return the orders that IB lists as open; ConnectionError or TimeoutError without a list.

        Those that no run has sent are added. With `fills` the executions of the day are read too.
        """
        if not self.store.online:
            raise ConnectionError("IBBroker: TWS is not connected to Interactive Brokers")
        listed = self._adopt(self.store.ask(self._list(fills)))
        for order in self._orders.values():
            if order.alive() and order not in listed:
                self._doubts.setdefault(order.ref, _Doubt(order))
        return listed

    async def _list(self, fills: bool) -> list[Trade]:
        """Return the open orders of all clients; before that, read what has filled."""
        async with self._one_list:
            if fills:
                done = await asyncio.wait_for(self.ib.reqExecutionsAsync(), self.store.timeout)
                self._arrived += [(self._add_fill, fill) for fill in done]
            listed = await asyncio.wait_for(self.ib.reqAllOpenOrdersAsync(), self.store.timeout)
            return [trade for trade in listed if trade.orderStatus.status not in _ENDED]

    def _adopt(self, trades: list[Trade]) -> list[Any]:
        """Return the orders of some trades, and new ones for those of earlier runs."""
        feeds, orders = feeds_of(self.store), []
        for trade in trades:
            order = self._find(trade)
            if order is None and trade.contract.conId in feeds:
                order = adopted(trade, feeds[trade.contract.conId])
                order.addinfo(before=trade.orderStatus.filled)
                self.track(order, trade, trade.order.orderRef or f"ib-{trade.order.permId}")
                self._accept(order, trade)
            if order is not None:
                orders.append(order)
        return orders

    def _find(self, trade: Trade) -> Any:
        order = self._orders.get(key_of(trade.order))
        if order is not None:
            self.trades[order.ref] = trade  # after a reconnect they are others
        return order

    def filled_before(self, client_id: str) -> Any:
        """Return an order for executions of an earlier run, None where there are none."""
        fills = [fill for fill in self.ib.fills() if fill.execution.orderRef == client_id]
        data = feeds_of(self.store).get(fills[0].contract.conId) if fills else None
        if data is None:
            return None
        order = filled_before(fills, data, self._scheme(data))
        self.by_client_id[client_id] = order
        return order

    # -- what arrives ----------------------------------------------------------------------------

    def _on_execution(self, trade: Trade, fill: Fill) -> None:
        self._arrived.append((self._add_fill, fill))

    def _on_status(self, trade: Trade) -> None:
        if not (trade.log and trade.log[-1].errorCode):  # `_on_error` judges errors
            status = trade.orderStatus
            self._arrived.append((self._update, trade, status.status, status.filled))

    def _on_error(self, request: int, code: int, text: str, contract: Any) -> None:
        order = self._orders.get((self.store.client_id, request))
        if order is None:
            return
        trade = self.trades[order.ref]
        if trade.orderStatus.status == "Cancelled":
            # ib_async believes every error. The order may be working all the same.
            trade.orderStatus.status = "ValidationError"
        if code not in _NOTES:
            self._refused |= self._changing == request
            self._arrived.append((self._doubt, order, code, text))

    def connected(self) -> None:
        """Compare everything with IB once the connection is there again."""
        self._arrived.append((self._compare,))

    def advance(self) -> None:
        """Act upon what has arrived."""
        self._take_in()
        self._book_fills()
        self._settle_doubts()

    def _take_in(self) -> None:
        while self._arrived:
            act, *arguments = self._arrived.popleft()
            act(*arguments)

    def _compare(self) -> None:
        for fill in self.ib.fills():
            self._add_fill(fill)
        self._adopt(self.ib.openTrades())
        for order in self._orders.values():
            if order.alive():
                self._doubts.setdefault(order.ref, _Doubt(order))

    def _update(self, trade: Trade, status: str, filled: float) -> None:
        """Follow the status of an order."""
        order = self._find(trade)
        if order is None:
            if status in _WORKING:
                self._adopt([trade])
        elif not order.alive():
            pass
        elif status in _WORKING:
            self._accept(order, trade)
        elif status == "Inactive":
            self._ask_soon(order, _REPORTED, rejected=True)
        elif status in _ENDED:
            if filled > self._done(order) + _TINY:
                self._ask_soon(order, _FILLED)
            else:
                self._end(order)

    def _done(self, order: Any) -> float:
        """Return what of an order has filled, as far as its executions are known."""
        waiting = [fill.execution.shares for fill, _ in self._fills if self._of(fill) is order]
        done = abs(order.executed.size) + order.info.get("before", 0.0)
        return float(done + sum(waiting))

    def _accept(self, order: Any, trade: Trade) -> None:
        if order.status in (order.Created, order.Submitted):
            order.addinfo(venue_id=str(trade.order.permId or trade.orderStatus.permId))
            order.accept(order.broker)
            self.notify(order)

    # -- fills -----------------------------------------------------------------------------------

    def _of(self, fill: Fill) -> Any:
        """Return the order of a fill, None for one of nobody here."""
        order = self.by_client_id.get(fill.execution.orderRef)
        return self._orders.get(key_of(fill.execution)) if order is None else order

    def _add_fill(self, fill: Fill) -> None:
        name = fill_name(fill)
        if name in self._booked or fill.execution.acctNumber != self.store.account:
            return
        self._booked.add(name)
        if self._of(fill) is None:
            log.warning("IB: %s is of no order here", fill.execution)
        else:
            self._fills.append((fill, self.store.clock()))

    def _book_fills(self, of: Any = None) -> None:
        """Book the fills whose commission is known, or that have waited; all those `of` an order.

        IB reports the commission behind the execution.
        """
        fills, self._fills = self._fills, []
        for fill, since in fills:
            order = self._of(fill)
            waited = self.store.clock() - since >= self.p.fee_wait
            if not (fill.commissionReport.execId or waited or order is of):
                self._fills.append((fill, since))
                continue
            ended = not order.alive()
            contract, scheme = fill.contract, self._scheme(order.data)
            cost = execute(order, fill, self.account.book(contract.conId), scheme)
            self.account.spend(cost, contract.currency)
            if ended and order.alive():  # a part that arrives behind the end
                order.cancel()
            self.notify(order)

    # -- ends ------------------------------------------------------------------------------------

    def _doubt(self, order: Any, code: int, text: str) -> None:
        """Look whether an order is still working of which IB reports an error."""
        if order.alive():
            log.warning("IB: order %s: %s %s", order.info.client_id, code, text)
            order.addinfo(error=f"{code}: {text}")
            gone = code in _GONE
            new = order.status == order.Submitted and code != _CANCELLED
            self._ask_soon(order, _SILENT if gone else _REPORTED, rejected=new and not gone)

    def _ask_soon(self, order: Any, lists: int, rejected: bool = False) -> None:
        self._doubts[order.ref] = _Doubt(order, lists, rejected)
        self._next_look = 0.0

    def _settle_doubts(self) -> None:
        if self._look is not None:
            if self._look.done():
                self._judge(self._look)
                self._look = None
            return
        self._doubts = {ref: d for ref, d in self._doubts.items() if d.order.alive()}
        if self._doubts and self.store.online and self.store.clock() >= self._next_look:
            self._next_look = self.store.clock() + self.p.confirm
            self._looked_for = list(self._doubts.values())
            self._look = self.store.run(self._list(fills=True))

    def _judge(self, look: asyncio.Task[list[Trade]]) -> None:
        """End the orders that the list lacks; `_list` has put their executions before this."""
        if look.cancelled() or look.exception() is not None:
            return
        self._take_in()
        listed = {key_of(trade.order): trade for trade in look.result()}
        for doubt in [d for d in self._looked_for if self._doubts.get(d.order.ref) is d]:
            order = doubt.order
            trade = listed.get(key_of(self.trades[order.ref].order))
            if trade is None:
                doubt.missing += 1
                if doubt.missing >= doubt.lists:
                    self._end(order, doubt.rejected)
            elif trade.orderStatus.status == "Inactive":  # it could become active again
                self.ib.client.cancelOrder(trade.order.orderId)
            else:
                self._accept(order, trade)
                del self._doubts[order.ref]

    def _end(self, order: Any, rejected: bool = False) -> None:
        """End an order, after its fills."""
        self._doubts.pop(order.ref, None)
        self._book_fills(of=order)
        if order.alive():
            if rejected and not order.executed.size:
                order.reject(order.broker)
            else:
                order.cancel()
            self.notify(order)


def feeds_of(store: IBStore) -> dict[int, Any]:
    """Return the data feeds of a store by the number of their contract."""
    return {feed.contract.conId: feed for feed in store.feeds}
