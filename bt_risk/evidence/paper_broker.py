"""Where papers trade: Backtrader's own rules of execution, asked for the price alone.

An order on paper is tried by the very methods of ``BackBroker`` that try a real one, so that gaps,
limits, triggers, trails and slippage need no second opinion here.
"""

import math
from types import SimpleNamespace
from typing import NamedTuple

import backtrader as bt

__all__ = ["SETTINGS", "PaperOrder", "PaperBroker", "RequestedOrder"]

SETTINGS = (
    "slip_perc",
    "slip_fixed",
    "slip_open",
    "slip_match",
    "slip_limit",
    "slip_out",
    "coc",
    "coo",
)
KINDS = {name.lower(): number for number, name in enumerate(bt.Order.ExecTypes)}


class RequestedOrder(NamedTuple):
    """One order as it was asked for, or as it was when something was cut from it.

    Attributes
    ----------
    side : int
    kind : str
        One of Backtrader's execution types, in small letters; ``"filled"`` for what was cut at
        the moment of execution, which has had its price.
    price : float
        Its own price, or that of the fill.
    opening, allowed : float
        Units that it opens, and what was allowed of them.
    distance : float
        Price distance of the stop that it was judged with.
    rule : str
        Who cut it, if anybody.
    number, batch, group : float
        Of the order; orders of one batch were alive together, and are different ones; of a group
        only one can fill.
    again : bool
        Whether the order was asked for before, and this is what became of it.
    step : float
        Of the sizes that cash would cut it to; NaN: it is refused whole where cash does not do.
    """

    side: int
    kind: str
    price: float
    opening: float
    allowed: float
    distance: float = math.nan
    rule: str = ""
    number: int = -1
    batch: float = math.nan
    group: int = -1
    again: bool = False
    step: float = math.nan
    limit: float = math.nan
    offset: float = 0.0
    trailamount: float = math.nan
    trailpercent: float = math.nan
    valid: float = math.nan
    session: float = math.nan
    placed: float = math.nan
    close: float = math.nan
    noted: float = math.nan
    triggered: bool = False
    coc: bool = True


class PaperOrder:
    """What was cut from an order, waiting for its price: it looks to BackBroker like an order.

    `resting` says whether the rest of it is at the broker, so that its end is the end of both.
    """

    trailadjust = bt.Order.trailadjust

    def __init__(self, wish):
        self.wish, self.units = wish, wish.opening - wish.allowed
        self.resting = wish.allowed > 0.0 and not wish.again
        self.exectype = KINDS.get(wish.kind, bt.Order.Historical)
        self.triggered, self.dteos = wish.triggered, wish.session
        self.pannotated = None if math.isnan(wish.noted) else wish.noted
        self._limitoffset = wish.offset
        # NaN is true, and a trail of NaN would trail to nowhere.
        self.trailamount, self.trailpercent = (
            _or_zero(wish.trailamount),
            _or_zero(wish.trailpercent),
        )
        self.created = SimpleNamespace(
            dt=wish.placed, price=wish.price, pricelimit=wish.limit, pclose=wish.close
        )
        self.info = {"coc": wish.coc}
        self.data = self.filled = None

    def isbuy(self):
        """Return whether it buys."""
        return self.wish.side > 0

    def alive(self):
        """Return whether it may still fill."""
        return self.filled is None

    def expired(self, bar):
        """Return whether its time is over; a market order has no end, as in Backtrader."""
        return self.exectype != bt.Order.Market and bar.number > self.wish.valid


class PaperBroker(bt.brokers.BackBroker):
    """A BackBroker without an account: it says what an order would fill at on a bar."""

    def fill(self, order, bar):
        """Return the price, None where the order does not fill on this bar."""
        order.data = SimpleNamespace(
            open=[bar.open],
            high=[bar.high],
            low=[bar.low],
            close=[bar.close],
            datetime=[bar.number],
        )
        self._try_exec(order)
        return order.filled

    def _execute(self, order, ago=None, price=None, **_):
        order.filled = price

    def market(self, side, bar):
        """Return what an order at the market fills at; None where slippage leaves no price."""
        return self.fill(
            PaperOrder(RequestedOrder(side, "market", bar.open, 0.0, 0.0, coc=False)), bar
        )

    def stop(self, side, price, bar):
        """Return what a stop order fills at, None where it does not."""
        return self.fill(PaperOrder(RequestedOrder(side, "stop", price, 0.0, 0.0)), bar)


def _or_zero(value):
    return 0.0 if math.isnan(value) else value
