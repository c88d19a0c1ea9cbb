"""The vocabulary of one order on its way: size proposal, request, verdict, trading states."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

import backtrader as bt

from bt_risk.limits.base import Decision
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.portfolio.preview import OrderPreview, preview_order

__all__ = [
    "ACTIVE",
    "ARGUMENTS",
    "AT_MARKET",
    "CLIENT_ID",
    "DEFAULTS",
    "HALTED",
    "KINDS",
    "REDUCING",
    "TRAILING",
    "VOID",
    "OrderRequest",
    "SizeProposal",
    "Verdict",
    "foreign_order",
    "losing_side",
    "plain",
    "refusal",
    "sent_by_close",
    "venue_id",
]

# Trading states of the gate. ACTIVE: every order is judged. REDUCING: only orders pass that close
# something. HALTED: the same, and resting entries are cancelled.
ACTIVE, REDUCING, HALTED = "ACTIVE", "REDUCING", "HALTED"

# What Backtrader's brokers take after owner, data and size, in this order or by name.
ARGUMENTS = (
    "price",
    "plimit",
    "exectype",
    "valid",
    "tradeid",
    "oco",
    "trailamount",
    "trailpercent",
    "parent",
    "transmit",
)
DEFAULTS: dict[str, Any] = dict.fromkeys(ARGUMENTS) | {"tradeid": 0, "transmit": True}

# Kinds of orders by Backtrader's execution type: "close" fills at the close of a bar, and
# every other type waits for a stop price: "stop".
KINDS: dict[int | None, str] = {
    None: "market",
    bt.Order.Market: "market",
    bt.Order.Close: "close",
    bt.Order.Limit: "limit",
}
# The kinds that wait for no price.
AT_MARKET = ("market", "close")
# The types whose stop price follows the market.
TRAILING = (bt.Order.StopTrail, bt.Order.StopTrailLimit)

# The key in an order's `info` of the id that the order was sent with.
CLIENT_ID = "client_id"
# Where the stores that we know of put the venue's own id of an order.
_VENUE_IDS = ("venue_id", "order_id", "orderid", "exchange_id")

_CLOSE = bt.Strategy.close.__code__

VOID = "{:g} of it were cut from the entry and never bought"


class SizeProposal(float):
    """A size from a sizer of ours, on its way through ``Strategy.buy`` to the gate.

    It is true even when it is zero, and survives ``abs()`` and negation: a refusal with its
    `reason`, by the sizer named `rule`, reaches the gate, and ``buy()`` does not return None. The
    size was computed with `stop_distance` and `step`; the gate cuts the order to what cash affords
    when it fills.
    """

    stop_distance: float
    step: float | None
    reason: str
    rule: str

    def __new__(
        cls,
        size: float,
        stop_distance: float = math.nan,
        step: float | None = None,
        reason: str = "",
        rule: str = "",
    ) -> SizeProposal:
        """Return the proposal of `size` units, or a refusal if there is a reason."""
        self = super().__new__(cls, size)
        self.stop_distance, self.step = stop_distance, step
        self.reason, self.rule = reason, rule
        return self

    def __getnewargs__(self) -> tuple[float, float, float | None, str, str]:  # type: ignore[override]  # float's stub declares only its own value
        return float(self), self.stop_distance, self.step, self.reason, self.rule

    def __bool__(self) -> bool:
        return bool(self.reason) or float(self) != 0.0

    def __abs__(self) -> SizeProposal:
        return SizeProposal(abs(float(self)), *self.__getnewargs__()[1:])

    def __neg__(self) -> SizeProposal:
        return SizeProposal(-float(self), *self.__getnewargs__()[1:])


@dataclass
class OrderRequest:
    """One call of buy or sell.

    Attributes
    ----------
    side : int
        +1 buys, -1 sells.
    owner : object
        The strategy that sends it.
    size : float
        Requested units, positive; a `SizeProposal` where a sizer of ours chose it.
    args : dict
        The other arguments of the broker by name, all of `ARGUMENTS` and the user's own.
    stop_price : float, optional
        Price of the stop that the strategy names for this order.
    preview : OrderPreview, optional
        What the order would do to the book at the moment of the call.
    shared : bool
        Whether ``close()`` sends it: see `WorkingOrder`.
    sent_on : Instrument
        The data feed that it is sent on: another than `instrument`, whose position it changes,
        where that is compensated.
    kind : str
        ``"market"``, ``"close"``, ``"limit"``, or ``"stop"`` for every type that waits for a stop
        price.
    price : float
        The order's own price, or the newest that is known at the call.
    dearest : float
        Highest price that it would fill at as things are: its notional is measured there.
    riskiest : float
        Price that it would fill at as things are and that is farthest from a stop behind it.
    """

    side: int
    owner: object
    instrument: Instrument
    size: float
    args: dict[str, Any]
    stop_price: float | None = None
    preview: OrderPreview = None  # type: ignore[assignment]  # our own orders are not reviewed
    shared: bool = False
    sent_on: Instrument = None  # type: ignore[assignment]  # where left out, `instrument`
    kind: str = field(init=False)
    price: float = field(init=False)
    dearest: float = field(init=False)
    riskiest: float = field(init=False)

    def __post_init__(self) -> None:
        if self.sent_on is None:
            self.sent_on = self.instrument
        self.kind = KINDS.get(self.args["exectype"], "stop")
        price, market = self.args["price"] or self.args["plimit"], self.sent_on.quote()
        if not price or self.kind in AT_MARKET:
            self.price = self.dearest = self.riskiest = market
            return
        self.price = self.dearest = self.riskiest = price
        # A sell limit below the market fills at the market, and so does a stop that is reached.
        if self.kind == "limit" and self.side < 0:
            self.dearest = self.riskiest = max(price, market)
        elif self.kind == "stop":
            self.dearest = max(price, market)
            self.riskiest = max(price, market) if self.side > 0 else min(price, market)

    @property
    def prices(self) -> tuple[float, ...]:
        """Return the limit and stop price of the order, none of one at the market."""
        if self.kind in AT_MARKET:
            return ()
        own = self.args["price"], self.args["plimit"]
        return tuple(float(price) for price in own if price)

    def native_order(self, size: float) -> Any:
        """Return Backtrader's own order object for this request, known to no broker."""
        args = dict(self.args)
        args["pricelimit"] = args.pop("plimit")
        kind = bt.order.BuyOrder if self.side > 0 else bt.order.SellOrder
        known = {key: args.pop(key) for key in list(args) if hasattr(kind.params, key)}
        known.pop("oco")
        order = kind(owner=self.owner, data=self.sent_on.data, size=size, **known)
        order.addinfo(**args)
        return order


class Verdict(NamedTuple):
    """Hold what may be sent of an order, and the parts that it was judged in.

    Attributes
    ----------
    size : float
        Units that may be sent, 0 where the order is refused.
    decision : Decision
        The answer of the limit that allows the least, with its reason.
    closing, opening, void : float
        Units of the preview that close, units that may open, and units that were never bought. An
        exit whose size is more than the first two closes what other exits leave.
    distance : float
        Price distance to the stop that the order was judged with.
    relies_on : tuple of WorkingOrder
        Market exits that were counted as filled.
    """

    size: float
    decision: Decision
    closing: float = 0.0
    opening: float = 0.0
    distance: float = math.nan
    void: float = 0.0
    relies_on: tuple[WorkingOrder, ...] = ()


def plain(size: float) -> float:
    """Return a size as a plain number: an int if it is whole, else a float."""
    size = float(size)
    return int(size) if size.is_integer() else size


def refusal(rule: str, text: str, size: float = 0.0) -> Decision:
    """Return the decision that leaves `size` units of an order, with the rule and the reason."""
    return Decision(size, f"{rule}: {text}", rule)


def sent_by_close() -> bool:
    """Return whether ``Strategy.close()`` sends the order that is being sent.

    Backtrader's brokers see it as a plain buy or sell; only the calls that led here differ.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CLOSE:
            return True
        frame = frame.f_back
    return False


def losing_side(side: int, price: float, stop_price: float) -> float:
    """Return the distance to a stop, NaN for one that does not bound a loss."""
    distance = side * (price - stop_price)
    return distance if distance > 0 else math.nan


def venue_id(order: Any) -> str | None:
    """Return the id that the venue has given an order, None where the broker reports none."""
    info = getattr(order, "info", None) or {}
    for name in _VENUE_IDS:
        found = info.get(name) or getattr(order, name, None)
        if found:
            return str(found)
    native = getattr(order, "ccxt_order", None)
    return str(native["id"]) if native else None


def foreign_order(book: Book, instrument: Instrument, owner: object, order: Any) -> WorkingOrder:
    """Return the record of an open order that the gate has not sent: counted, never cancelled."""
    side, size = 1 if order.isbuy() else -1, float(abs(order.executed.remsize))
    return WorkingOrder(
        order.ref,
        instrument,
        owner,
        side,
        size,
        preview_order(book, instrument, owner, side, size).opening,
        KINDS.get(order.exectype, "stop"),
        float(order.created.price or instrument.price),
        instrument.stop_distance(),
        handle=order,
        tradeid=order.tradeid,
        shared=True,
        foreign=True,
    )
