"""What comes in at the gate: one call of buy or sell, and what a sizer of ours proposes."""

import math
from dataclasses import dataclass

import backtrader as bt

from bt_risk.limits.base import Decision
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.preview import OrderPreview

__all__ = [
    "ACTIVE",
    "ARGUMENTS",
    "DEFAULTS",
    "HALTED",
    "KINDS",
    "REDUCING",
    "VOID",
    "OrderRequest",
    "SizeProposal",
    "Verdict",
    "losing_side",
    "plain",
    "refusal",
]

# States of the gate: everything is judged; only what reduces passes; and nothing rests either.
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
DEFAULTS = dict.fromkeys(ARGUMENTS) | {"tradeid": 0, "transmit": True}

KINDS = {
    None: "market",
    bt.Order.Market: "market",
    bt.Order.Close: "market",
    bt.Order.Limit: "limit",
}


class SizeProposal(float):
    """A size from a sizer of ours, on its way through ``Strategy.buy`` to the gate.

    It is true even when it is zero, and survives ``abs()`` and negation: a refusal with its
    `reason`, by the sizer named `rule`, reaches the gate, and ``buy()`` does not return None. The
    size was computed with `stop_distance` and `step`; the gate cuts the order to what cash affords
    when it fills.
    """

    def __new__(cls, size, stop_distance=math.nan, step=None, reason="", rule=""):
        """Return the proposal of `size` units, or a refusal if there is a reason."""
        self = super().__new__(cls, size)
        self.stop_distance, self.step = stop_distance, step
        self.reason, self.rule = reason, rule
        return self

    def __getnewargs__(self):
        return float(self), self.stop_distance, self.step, self.reason, self.rule

    def __bool__(self):
        return bool(self.reason) or float(self) != 0.0

    def __abs__(self):
        return SizeProposal(abs(float(self)), *self.__getnewargs__()[1:])

    def __neg__(self):
        return SizeProposal(-float(self), *self.__getnewargs__()[1:])


@dataclass
class OrderRequest:
    """One call of buy or sell; `args` are its arguments by name.

    `preview` is what the order would do to the book at the moment of the call.
    """

    side: int
    owner: object
    instrument: Instrument
    size: float
    args: dict
    stop_price: float | None = None
    preview: OrderPreview | None = None

    @property
    def kind(self):
        """``"market"``, ``"limit"``, or ``"stop"`` for every type that waits for a stop price."""
        return KINDS.get(self.args["exectype"], "stop")

    @property
    def price(self):
        """Where the order would fill: its own price, or the newest that is known."""
        price = self.args["price"] or self.args["plimit"]
        return price if price and self.kind != "market" else self.instrument.quote()

    def native_order(self, size):
        """Return Backtrader's own order object for this ticket, known to no broker."""
        args = dict(self.args)
        args["pricelimit"] = args.pop("plimit")
        kind = bt.order.BuyOrder if self.side > 0 else bt.order.SellOrder
        known = {key: args.pop(key) for key in list(args) if hasattr(kind.params, key)}
        known.pop("oco")
        order = kind(owner=self.owner, data=self.instrument.data, size=size, **known)
        order.addinfo(**args)
        return order


def plain(size, requested=None):
    """Return a size as brokers expect it: untouched where nothing was cut, else int if whole."""
    if size == requested and not isinstance(requested, SizeProposal):
        return requested
    size = float(size)
    return int(size) if size.is_integer() else size


VOID = "{:g} of it were cut from the entry and never bought"


@dataclass(frozen=True)
class Verdict:
    """What may be sent of an order, and the parts that it was judged in."""

    size: float
    decision: Decision
    closing: float = 0.0
    distance: float = math.nan
    void: float = 0.0
    guarded: bool = False
    overlaps: bool = False


def refusal(rule, text, size=0.0):
    """Return the decision that leaves `size` of an order, because of what a rule says."""
    return Decision(size, f"{rule}: {text}", rule)


def losing_side(side, price, stop_price):
    """Return the distance to a stop, NaN for one that does not bound a loss."""
    distance = side * (price - stop_price)
    return distance if distance > 0 else math.nan
