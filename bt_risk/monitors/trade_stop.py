"""TradeStop: where the stop of one trade should be, and the orders that rest there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bt_risk.monitors.settings import StopSettings
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.tradeids import by_tradeid
from bt_risk.tolerances import SIZE_EPS

__all__ = ["RestingOrder", "TradeStop"]


@dataclass
class RestingOrder:
    """An order that closes what is held under one tradeid, and the price that it rests at.

    `handle` is None and `price` NaN where none rests. `previous` is the order whose place this one
    takes: it rests until this one is accepted.
    """

    tradeid: Any
    handle: Any = None
    price: float = math.nan
    previous: Any = None


@dataclass
class TradeStop:
    """The stop of one trade: where it should be, and the orders that rest there.

    Attributes
    ----------
    part : OwnerPosition
        The position that it protects; `number` is that of its trade, `side` its side.
    price : float
        Where the stop should be.
    orders : list of RestingOrder
        One for each tradeid that the position is held under, never empty.
    split : bool
        Whether there are several, or the only one has another tradeid than the position.
    closed : float
        Signed units that its orders have filled, as far as they have ended.
    best : float
        Highest high since entry, lowest low for shorts.
    since : int
        Bars of the data feed when the trade began.
    refused : int
        How often the broker has refused an order.
    hit : bool
        Whether the price was reached while no order rested: the position is closed at the market.
    due : bool
        Whether a close beyond the stop must still be acted upon.
    alone : bool
        Whether no second stop may rest beside the first: the broker has refused one, or the first
        may open something, because another owner was on the other side when it was placed.
    late : bool
        Whether the trade began on bars that arrived late, so that it is unknown which it saw.
    """

    part: OwnerPosition
    rule: StopSettings
    number: int
    side: int
    price: float
    best: float
    since: int
    orders: list[RestingOrder]
    split: bool = False
    closed: float = 0.0
    refused: int = 0
    hit: bool = False
    due: bool = False
    alone: bool = False
    late: bool = False

    def rests(self, working: Mapping[int, WorkingOrder]) -> bool:
        """Return whether its only order rests at its price, for the whole position."""
        one = self.orders[0]
        order = one.handle
        if order is None or one.previous is not None or one.price != self.price:
            return False
        if self.split or self.hit or self.refused:
            return False
        rest = working.get(order.ref)
        return rest is not None and abs(abs(self.part.size) - rest.remaining) <= SIZE_EPS

    def split_up(self, size: float) -> dict[Any, float]:
        """Return what is to rest under each tradeid, with a `RestingOrder` for each.

        An order under another tradeid stays until it has ended.
        """
        shares = by_tradeid(self.part, size)
        rest = {one.tradeid: one for one in self.orders if one.handle is not None}
        needed = [rest.pop(tradeid, RestingOrder(tradeid)) for tradeid in shares]
        self.orders = [*needed, *rest.values()] or self.orders[:1]
        self.split = len(self.part.tradeids) > 1 or len(self.orders) > 1
        return shares

    def replace(self, orders: list[Any], price: float = math.nan) -> None:
        """Let market exits take the place of what has rested, if any were sent."""
        sent = [RestingOrder(order.tradeid, order, price) for order in orders]
        self.orders, self.split = sent or self.orders, True
