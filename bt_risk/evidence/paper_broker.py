"""The broker that fills shadow orders: Backtrader's own rules of execution, used for the price.

A shadow order is tried by the very methods of ``BackBroker`` that try a real one, so gaps, limits,
triggers, trailing and slippage need no second implementation here.
"""

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import backtrader as bt

from bt_risk.evidence.paper_trade import Bar

__all__ = ["SETTINGS", "PaperBroker", "PaperOrder", "RequestedOrder"]

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
# backtrader-next expects these of every data feed; without a value it reads the lines.
TICKS = ("tick_open", "tick_high", "tick_low", "tick_close")
KINDS = {name.lower(): number for number, name in enumerate(bt.Order.ExecTypes)}


class RequestedOrder(NamedTuple):
    """One order as the strategy requested it, or as it was when something was cut from it later.

    Attributes
    ----------
    side : int
        +1 or -1.
    kind : str
        One of Backtrader's execution types, in small letters; ``"filled"`` for what was cut at
        the moment of execution, when the price was already known.
    price : float
        The order's own price, or that of the fill.
    opening, allowed : float
        Units that it opens, and how many of them were allowed.
    distance : float
        Price distance of the stop that it was judged with.
    rule : str
        The rule that cut it, if any did.
    number, batch, group : float
        Number of the order. Orders of one batch were working at the same time, hence are different
        orders. Of a group only one can fill.
    is_update : bool
        Whether the order was logged before, and this states what was cut from it later.
    step : float
        Step of the sizes that it is cut to where cash is short; NaN: it is then refused whole.
    limit, offset, trailamount, trailpercent, valid, session, placed, close, noted : float
        Backtrader's ``pricelimit``, ``_limitoffset``, ``trailamount``, ``trailpercent``, ``valid``
        and ``dteos`` of the order, ``dt`` and ``pclose`` of its creation, and ``pannotated``.
    triggered : bool
        Whether a stop-limit order has reached its stop price.
    coc : bool
        Whether the order may fill at the close of the bar it was placed on.
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
    is_update: bool = False
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
    """A shadow order: what was cut from an order, with the attributes that BackBroker reads.

    `resting` tells whether the rest of the order is at the broker, so that both end together.
    """

    trailadjust = bt.Order.trailadjust

    def __init__(self, request: RequestedOrder) -> None:
        self.request, self.units = request, request.opening - request.allowed
        self.resting = request.allowed > 0.0 and not request.is_update
        self.exectype = KINDS.get(request.kind, bt.Order.Historical)
        self.triggered, self.dteos = request.triggered, request.session
        self.pannotated = None if math.isnan(request.noted) else request.noted
        self._limitoffset = request.offset
        # NaN is true, and Backtrader would trail by NaN.
        self.trailamount, self.trailpercent = (
            _or_zero(request.trailamount),
            _or_zero(request.trailpercent),
        )
        self.created = SimpleNamespace(
            dt=request.placed, price=request.price, pricelimit=request.limit, pclose=request.close
        )
        self.info = {"coc": request.coc}
        self.data: SimpleNamespace | None = None
        self.filled: float | None = None

    def isbuy(self) -> bool:
        """Return whether it buys."""
        return self.request.side > 0

    def alive(self) -> bool:
        """Return whether it may still fill."""
        return self.filled is None

    def expired(self, bar: Bar) -> bool:
        """Return whether it is no longer valid; as in Backtrader, a market order never expires."""
        return self.exectype != bt.Order.Market and bar.number > self.request.valid


class PaperBroker(bt.brokers.BackBroker):
    """A BackBroker without an account: it returns the price that an order fills at on a bar."""

    def fill_price(self, order: PaperOrder, bar: Bar) -> float | None:
        """Return the price, None where the order does not fill on this bar."""
        order.data = SimpleNamespace(
            open=[bar.open],
            high=[bar.high],
            low=[bar.low],
            close=[bar.close],
            datetime=[bar.number],
            **dict.fromkeys(TICKS),
        )
        self._try_exec(order)
        return order.filled

    def _execute(
        self, order: PaperOrder, ago: int | None = None, price: float | None = None, **_: Any
    ) -> None:
        order.filled = price

    def market_price(self, side: int, bar: Bar) -> float | None:
        """Return what a market order fills at; None where slippage leaves no price."""
        request = RequestedOrder(side, "market", bar.open, 0.0, 0.0, coc=False)
        return self.fill_price(PaperOrder(request), bar)

    def stop_price(self, side: int, price: float, bar: Bar) -> float | None:
        """Return what a stop order fills at, None where it does not."""
        return self.fill_price(PaperOrder(RequestedOrder(side, "stop", price, 0.0, 0.0)), bar)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
