"""OrderEvents: report what is requested of orders, cut, cancelled, and notified to strategies."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from bt_risk.portfolio.book import Book

__all__ = ["OrderAsked", "OrderCut", "OrderEvents"]


class OrderAsked(NamedTuple):
    """Units that one order requested to open and that were allowed; `rule` cut the difference.

    `step` is the size step to which cash would cut it at the fill; NaN: cash refuses it whole.
    """

    order: Any
    opening: float
    allowed: float
    distance: float
    rule: str
    step: float = math.nan


class OrderCut(NamedTuple):
    """Units taken from an order that was allowed: while it rested, or at the price it filled at."""

    order: Any
    units: float
    distance: float
    rule: str
    price: float = math.nan


class OrderEvents:
    """Report what happens to the orders of one gate to its followers.

    A follower has the methods ``asked(OrderAsked)``, ``cut(OrderCut)``, ``withdrawn(ref)`` and
    ``heard(order)``. The gate decides the same with and without followers.
    """

    def __init__(self, book: Book) -> None:
        self.book = book
        self.followers: list[Any] = []

    def __bool__(self) -> bool:
        return bool(self.followers)

    def asked(self, asked: OrderAsked) -> None:
        """Report what an order requested to open and what was allowed."""
        for follower in self.followers:
            follower.asked(asked)

    def cut(self, order: Any, units: float, rule: str, price: float = math.nan) -> None:
        """Report what was taken from an order that had been allowed."""
        if self.followers:
            working = self.book.working.get(order.ref)
            distance = math.nan if working is None else working.distance
            for follower in self.followers:
                follower.cut(OrderCut(order, units, distance, rule, price))

    def withdrawn(self, ref: int | None) -> None:
        """Report that a strategy has cancelled an order, whether or not it still works."""
        for follower in self.followers:
            follower.withdrawn(ref)

    def heard(self, order: Any) -> None:
        """Report a notification that strategies are about to get."""
        for follower in self.followers:
            follower.heard(order)
