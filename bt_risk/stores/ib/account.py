"""Account: cash, value and positions as Interactive Brokers reports them."""

from __future__ import annotations

import math
from typing import Any

from backtrader.position import Position

from bt_risk.stores.ib.connection import IBStore

__all__ = ["Account"]

_TINY = 1e-9
_MARGIN = ("MaintMarginReq", "ExcessLiquidity")
_TAGS = ("NetLiquidation", "TotalCashValue", "ExchangeRate", *_MARGIN)


class Account:
    """Keep the newest cash, value and positions of one account.

    A position follows the fills at once. IB's own count arrives a moment before or after them, and
    goes first once nothing has moved for `settle` seconds: then it includes what was traded by
    hand or by another program.

    Attributes
    ----------
    cash, value : float
        ``TotalCashValue`` and ``NetLiquidation``, NaN before the first; IB reports them every three
        minutes, and with each change of a position.
    currency : str
        Currency of both.
    """

    def __init__(self, store: IBStore, settle: float) -> None:
        self.store, self.settle = store, settle
        self.cash = self.value = math.nan
        self.currency = ""
        self._margin = dict.fromkeys(_MARGIN, math.nan)
        self._rates: dict[str, float] = {}
        self._held: dict[int, Position] = {}
        self._reported: dict[int, tuple[float, float]] = {}
        self._moved: dict[int, float] = {}
        self._arrived: list[Any] = []
        self.connected()
        self._moved.clear()  # no fill of this run can be in what is held at the start

    def connected(self) -> None:
        """Take everything anew after a connection was made."""
        self._arrived = self.store.ib.accountValues(self.store.account)
        self.advance()
        self._reported.clear()
        for position in self.store.ib.positions(self.store.account):
            self._on_position(position)

    def connect_events(self, on: bool) -> None:
        """Follow what IB reports, or no longer."""
        ib = self.store.ib
        pairs = ((ib.accountValueEvent, self._on_value), (ib.positionEvent, self._on_position))
        for event, handler in pairs:
            event.connect(handler) if on else event.disconnect(handler)

    def rate(self, currency: str) -> float:
        """Return what one unit of a currency is worth in that of the account, NaN if unknown."""
        return 1.0 if currency == self.currency else self._rates.get(currency, math.nan)

    def margin_ratio(self) -> float:
        """Return maintenance margin / equity that secures it, NaN before IB has reported both.

        IB liquidates once the excess liquidity, the difference of the two, is below zero.
        """
        needed, excess = (self._margin[name] for name in _MARGIN)
        if needed == 0.0:
            return 0.0
        return math.inf if needed + excess <= 0.0 else needed / (needed + excess)

    def position(self, con_id: int) -> Any:
        """Return the position in a contract."""
        held = self._held.setdefault(con_id, Position())
        size, price = self._reported.get(con_id, (0.0, 0.0))
        rests = self.store.clock() - self._moved.get(con_id, -math.inf) >= self.settle
        if rests and abs(held.size - size) > _TINY:
            held.set(size, price)
        return held

    def book(self, con_id: int) -> Any:
        """Return the position in a contract, to be changed by a fill."""
        self._moved[con_id] = self.store.clock()
        return self._held.setdefault(con_id, Position())

    def spend(self, amount: float, currency: str) -> None:
        """Take an amount from cash: an estimate until IB reports the cash again."""
        rate = self.rate(currency)
        self.cash -= 0.0 if math.isnan(rate) else amount * rate

    def advance(self) -> None:
        """Take the values that have arrived: they include the fills that came before them."""
        arrived, self._arrived = self._arrived, []
        for value in arrived:
            if value.tag == "NetLiquidation":
                self.value, self.currency = float(value.value), value.currency
            elif value.tag == "TotalCashValue":
                self.cash = float(value.value)
            elif value.tag == "ExchangeRate":
                self._rates[value.currency] = float(value.value)
            elif value.tag in _MARGIN:
                self._margin[value.tag] = float(value.value)

    def _on_value(self, value: Any) -> None:
        if value.account == self.store.account and value.tag in _TAGS:
            self._arrived.append(value)

    def _on_position(self, position: Any) -> None:
        contract = position.contract
        if position.account == self.store.account:
            price = position.avgCost / float(contract.multiplier or 1.0)
            if self._reported.get(contract.conId, (0.0, 0.0))[0] != position.position:
                self._moved[contract.conId] = self.store.clock()
            self._reported[contract.conId] = float(position.position), price
