"""IBBroker: orders and the account at Interactive Brokers, as Backtrader uses a broker."""

from __future__ import annotations

import copy
import logging
from typing import Any
from uuid import uuid4

import backtrader as bt
from ib_async import Trade

from bt_risk.stores.ib.account import Account
from bt_risk.stores.ib.contracts import scheme_of, to_tick
from bt_risk.stores.ib.orders import STOPS, order_type, request_for, terms_of
from bt_risk.stores.ib.tracker import OrderTracker

__all__ = ["IBBroker"]

log = logging.getLogger(__name__)


class IBBroker(bt.BrokerBase):
    """Trade the contracts of the data feeds of a store.

    Further keyword arguments of ``buy`` and ``sell`` are fields of ib_async's ``Order``.

    Parameters
    ----------
    store : IBStore
    confirm : float
        Seconds between two lists of open orders that must both lack an order before it ends.
    settle : float
        Seconds without a fill after which IB's position goes before that of the fills.
    fee_wait : float
        Seconds that a fill waits for its commission.
    answer_within : float
        Seconds that a changed order waits for its confirmation.
    """

    params = (
        ("store", None),
        ("confirm", 1.0),
        ("settle", 2.0),
        ("fee_wait", 0.25),
        ("answer_within", 2.0),
    )
    capabilities = {
        "client_ids": True,
        "replace": True,
        "trailing": True,
        "oco": True,
        "brackets": True,
        "order_lists": True,
    }

    def start(self) -> None:
        """Connect, and begin with the positions and open orders that there are."""
        super().start()
        self.store = self.p.store
        self._schemes: dict[Any, Any] = {}
        self.store.start()
        self.account = Account(self.store, self.p.settle)
        self.tracker = OrderTracker(self.store, self.account, self.p, self.getcommissioninfo)
        self._connect_events(True)
        self.tracker.listed()
        self.startingcash, self.startingvalue = self.account.cash, self.account.value

    def stop(self) -> None:
        """End the run; orders stay as they are."""
        super().stop()
        self._connect_events(False)
        self.store.stop()

    def _connect_events(self, on: bool) -> None:
        self.store.broker = self if on else None
        self.account.connect_events(on)
        self.tracker.connect_events(on)

    def connected(self) -> None:
        """Compare everything with IB: the store has connected again."""
        self.account.connected()
        self.tracker.connected()

    def next(self) -> None:
        """Let the store work, and act upon what has arrived."""
        self.store.pump()
        self.tracker.advance()
        if not self.tracker.fills_wait:
            self.account.advance()

    def get_notification(self) -> Any:
        """Return the next change of an order, None without one."""
        waiting = self.tracker.notifications
        return waiting.popleft() if waiting else None

    # -- account ---------------------------------------------------------------------------------

    def getcash(self) -> float:
        """Return the cash of the account, in its own currency."""
        return self.account.cash

    def getvalue(self, datas: Any = None) -> float:
        """Return the value of the account; with `datas` that of the positions in them."""
        if not datas:
            return self.account.value
        return sum([self._value_of(data) for data in datas if len(data)])

    def _value_of(self, data: Any) -> float:
        scheme = self.getcommissioninfo(data)
        return float(scheme.getvalue(self.getposition(data, clone=False), data.close[0]))

    @property
    def currency(self) -> str:
        """Return the currency of the account."""
        return self.account.currency

    def margin_ratio(self) -> float:
        """Return maintenance margin / equity of the account, NaN before IB has reported both."""
        return self.account.margin_ratio()

    def rate(self, currency: str) -> float:
        """Return what one unit of a currency is worth in that of the account, NaN if unknown."""
        return self.account.rate(currency)

    def getposition(self, data: Any, clone: bool = True) -> Any:
        """Return the position in the contract of a data feed."""
        position = self.account.position(_feed(data).contract.conId)
        return position.clone() if clone else position

    def account_snapshot(self, datas: list[Any]) -> tuple[dict[Any, float], list[Any]]:
        """Return the sizes held and the open orders; ConnectionError while that is not known."""
        listed = self.get_orders_open()
        return {data: self.getposition(data, clone=False).size for data in datas}, listed

    def getcommissioninfo(self, data: Any) -> Any:
        """Return the scheme that the user has set for a data feed, or that of its contract."""
        if data._name in self.comminfo:
            return self.comminfo[data._name]
        feed = _feed(data)
        if feed not in self._schemes:
            self._schemes[feed] = scheme_of(feed.contractdetails)
        return self._schemes[feed]

    # -- orders ----------------------------------------------------------------------------------

    def buy(self, owner: Any, data: Any, size: float, **kwargs: Any) -> Any:
        """Send an order to buy."""
        return self._place(bt.order.BuyOrder, owner, data, size, **kwargs)

    def sell(self, owner: Any, data: Any, size: float, **kwargs: Any) -> Any:
        """Send an order to sell."""
        return self._place(bt.order.SellOrder, owner, data, size, **kwargs)

    def _place(
        self,
        kind: Any,
        owner: Any,
        data: Any,
        size: float,
        price: float | None = None,
        plimit: float | None = None,
        exectype: int | None = None,
        valid: Any = None,
        tradeid: int = 0,
        oco: Any = None,
        trailamount: float | None = None,
        trailpercent: float | None = None,
        parent: Any = None,
        transmit: bool = True,
        client_id: str | None = None,
        **fields: Any,
    ) -> Any:
        order_type(exectype)
        feed = _feed(data)
        tick = feed.contractdetails.minTick
        order = kind(
            owner=owner,
            data=data,
            size=size,
            price=to_tick(price, tick),
            pricelimit=to_tick(plimit, tick),
            exectype=exectype,
            valid=valid,
            tradeid=tradeid,
            trailamount=trailamount,
            trailpercent=trailpercent,
            parent=parent,
            transmit=transmit,
        )
        client_id = client_id or f"bt-{uuid4().hex[:24]}"
        group = client_id if oco is None else self.tracker.trades[oco.ref].order.ocaGroup
        if parent is not None:
            fields["parentId"], group = self.tracker.trades[parent.ref].order.orderId, ""
        if order_type(exectype) in ("MKT", "MOC") and oco is None:
            group = ""
        fields |= {"account": self.store.account, "transmit": transmit}
        request = request_for(order, client_id, group, feed.p.rth, **fields)
        if not self.store.online:
            raise ConnectionError("IBBroker: TWS is not connected to Interactive Brokers")
        trade = self.store.ib.placeOrder(feed.contract, request)
        order.submit(self)
        self.tracker.track(order, trade, client_id)
        self.tracker.notify(order)
        return order

    def replace(self, order: Any, size: float, price: float | None) -> bool:
        """Change size and price of a working order; return whether IB has confirmed it."""
        trade = self.tracker.trades.get(order.ref)
        if trade is None or not order.alive() or trade.isDone() or not self._is_ours(trade):
            return False
        request = copy.copy(trade.order)
        # IB counts what has filled, and may have made an order of a group smaller by itself.
        request.totalQuantity = order.info.get("before", 0.0) + abs(order.executed.size) + size
        price = to_tick(price, _feed(order.data).contractdetails.minTick)
        if price is not None and request.orderType in STOPS:
            request.auxPrice = price
        elif price is not None and request.orderType == "LMT":
            request.lmtPrice = price
        terms = terms_of(request)
        if not self.tracker.change(trade, request, lambda: terms_of(trade.order) == terms):
            return False
        signed = size if order.isbuy() else -size
        order.executed.remsize = signed
        order.size = order.created.size = order.executed.size + signed
        order.created.price = price or order.created.price
        return True

    def cancel(self, order: Any) -> None:
        """Ask IB to cancel an order; ConnectionError while it cannot be asked."""
        trade = self.tracker.trades[order.ref]
        if not self._is_ours(trade):
            log.warning("IB: order %s is of another client: only that can cancel it", order.ref)
        elif order.alive():
            # ib_async's own method would end an order before IB has answered.
            self.store.ib.client.cancelOrder(trade.order.orderId)

    def _is_ours(self, trade: Trade) -> bool:
        return trade.order.clientId == self.store.client_id and trade.order.orderId > 0

    def get_orders_open(self) -> list[Any]:
        """Return the orders that IB lists as open, also those of earlier runs and other clients.

        ConnectionError or TimeoutError where IB does not answer.
        """
        return [order for order in self.tracker.listed() if order.alive()]

    def order_by_client_id(self, client_id: str) -> Any:
        """Return the order with a client id, None where IB has never had it."""
        if client_id not in self.tracker.by_client_id:
            self.tracker.listed(fills=True)
        return self.tracker.by_client_id.get(client_id) or self.tracker.filled_before(client_id)


def _feed(data: Any) -> Any:
    """Return the data feed of the store that a data feed is made of."""
    while not hasattr(data, "contractdetails"):
        data = data.data
    return data
