"""What evidence follows of orders: what was asked, cut, withdrawn, and what strategies heard."""

import math
from typing import NamedTuple

__all__ = ["OrderAsked", "OrderCut", "OrderEvents"]


class OrderAsked(NamedTuple):
    """What one order asked to open, and what was allowed of it; `rule` is who cut it, if any.

    `step` is what cash would cut it to at the fill; NaN: cash refuses it whole.
    """

    order: object
    opening: float
    allowed: float
    distance: float
    rule: str
    step: float = math.nan


class OrderCut(NamedTuple):
    """Units taken from an order that was allowed: while it rested, or at the price it filled at."""

    order: object
    units: float
    distance: float
    rule: str
    price: float = math.nan


class OrderEvents:
    """Pass what happens to the orders of one gate to those who follow it.

    A follower has the methods ``asked(OrderAsked)``, ``cut(OrderCut)``, ``withdrawn(ref)`` and
    ``heard(order)``. The gate decides the same with and without followers.
    """

    def __init__(self, book):
        self.book = book
        self.followers = []

    def __bool__(self):
        return bool(self.followers)

    def asked(self, asked):
        """Report what an order asked to open and what was allowed."""
        for follower in self.followers:
            follower.asked(asked)

    def cut(self, order, units, rule, price=math.nan):
        """Report what was taken from an order that had been allowed."""
        if self.followers:
            working = self.book.working.get(order.ref)
            distance = math.nan if working is None else working.distance
            for follower in self.followers:
                follower.cut(OrderCut(order, units, distance, rule, price))

    def withdrawn(self, ref):
        """Report that a strategy has cancelled an order, wherever that is by now."""
        for follower in self.followers:
            follower.withdrawn(ref)

    def heard(self, order):
        """Report what strategies are about to hear of an order."""
        for follower in self.followers:
            follower.heard(order)
