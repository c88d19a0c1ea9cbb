"""Records of positions, working orders, sent orders and closed trades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, NamedTuple

from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.stop_costs import StopCosts
from bt_risk.rules.loss_distribution import TradeLoss

__all__ = [
    "ClosedTrade",
    "OwnerPosition",
    "SentOrder",
    "WorkingOrder",
    "closed_trade",
    "identity",
    "place_of",
    "position_key",
    "with_owner",
]


@dataclass(slots=True, eq=False)
class OwnerPosition:
    """Record what one owner holds of an instrument; all owners together hold the broker's position.

    A trade runs from flat to flat.

    Attributes
    ----------
    owner : object
        The strategy.
    size, price : float
        Signed units, and the average price of their entries.
    entry, opened : float
        Price and time (a date number) of the first entry of the open trade.
    stop_distance : float
        Price distance to the stop that the trade was opened with; NaN where it was unknown.
    peak, pnl : float
        Largest absolute size of the trade so far, and its net profit in currency from what is
        closed already.
    paid, beyond : float, dict of str to float
        Commission of the trade so far, and what it has lost beyond its first stop, by cause: both
        in currency.
    since : int
        Bars of the instrument that had closed when the trade was opened; -1 where that was in an
        earlier run.
    number : int
        Trades so far, the open one included: a stop belongs to the trade of its number.
    tradeids : dict of tradeid to float
        Signed units under each of Backtrader's tradeids, oldest first; they add up to `size`. There
        may be some of both sides, even while the position is flat.
    lost, lost_side : float, int
        Units that the gate cut from the entries of this trade, and the side of those entries:
        see `OrderPreview.void`.
    stopped : float
        Signed size of the last trade that a stop of ours has closed, until the owner's next entry.
    excess : float
        Signed units that a live broker has filled beyond what was reviewed; they are closed.
    """

    instrument: Instrument
    owner: object
    size: float = 0.0
    price: float = 0.0
    entry: float = math.nan
    stop_distance: float = math.nan
    peak: float = 0.0
    pnl: float = 0.0
    paid: float = 0.0
    beyond: dict[str, float] = field(default_factory=dict)
    since: int = -1
    opened: float = math.nan
    number: int = 0
    tradeids: dict[Any, float] = field(default_factory=dict)
    lost: float = 0.0
    lost_side: int = 0
    stopped: float = 0.0
    excess: float = 0.0

    @property
    def side(self) -> int:
        """+1 long, -1 short, 0 flat."""
        return (self.size > 0) - (self.size < 0)

    def held_against(self, side: int) -> float:
        """Return the units that the owner holds against `side`: what an order on it closes."""
        return max(0.0, -side * self.size)

    def lose(self, side: int, units: float) -> None:
        """Remember what was cut from an entry on `side`: an exit may ask to close it, too."""
        self.lost = units + (self.lost if self.lost_side == side else 0.0)
        self.lost_side = side


@dataclass(slots=True, eq=False)
class WorkingOrder:
    """An order that may still fill.

    Attributes
    ----------
    remaining, opening, closing : float
        What is not filled yet; its allowance, which was reviewed and may open; and its claim, what
        it is counted to close of the position against it. An exit may have neither: it closes what
        other exits leave.
    kind : str
        ``"market"``, ``"close"`` for the close of a bar, ``"limit"``, or ``"stop"`` for all that
        wait for a stop price.
    distance, cost : float
        The stop distance that it was judged with, and what a stop-out costs beside it, in points
        for each unit; 0 where costs do not count as risk.
    group : hashable
        Shared by orders that replace each other: OCO, or the children of one parent.
    own : bool
        Whether bt_risk sent it.
    handle : order
        The broker's own object.
    set_at : tuple
        `Instrument.moment` that an order of ours was set at; it fills only on a later one.
    reduces : float
        Size that passed as an exit when it was placed, whatever was allowed to open.
    trails : bool
        Whether its stop price follows the market.
    shared : bool
        Whether ``close()`` has sent it, so that it may close what other strategies hold, too.
    waits : bool
        Whether it waits for the last child of its bracket: it is not judged yet, and counts as
        nothing.
    had_position : bool
        Whether there was something for it to close at any time.
    dormant : bool
        Whether its allowance has been out of reach since it was reviewed, behind a position that it
        closes first: it is reviewed again before it opens.
    part : OwnerPosition
        The position of its owner; set when the order is added to a book.
    relies_on : tuple of WorkingOrder
        Market exits that its review counted as filled.
    cut, void : float
        What the gate took off it, and how much of that a trimmed entry never bought.
    rule : str
        Rule whose exit an order of ours is.
    dearest : float
        Highest price that it would fill at as things were when it was placed; at least `price`.
    stops : bool
        Whether a trade that it closes was stopped out: a stop order, or a market order of ours
        that takes the place of one.
    withheld : float
        Units of an order at a live broker that are not at the broker as yet: it rests there with
        what may fill.
    request : OrderRequest or None
        What it was sent with; None for an order from before this run.
    tradeid : hashable
        Backtrader's, of the trade that it belongs to.
    assumed : str
        Why a stop of an earlier run counts as resting that the broker does not list: its fate is
        ``"unknown"``, or an operator says that it is ``"there"``. Empty for every other order.
    foreign : bool
        Whether somebody else has sent it: it is counted, and never cancelled or resized.
    seen_at : float or None
        When the venue listed it last, by `Live.now`; None where it never has.
    """

    ref: int
    instrument: Instrument
    owner: object
    side: int
    remaining: float
    opening: float
    kind: str
    price: float
    distance: float = math.nan
    group: object = None
    parent: int | None = None
    own: bool = False
    size: float = 0.0
    handle: Any = None
    set_at: tuple[int, float] = (-1, -math.inf)
    rule: str = ""
    closing: float = math.nan
    reduces: float = 0.0
    trails: bool = False
    shared: bool = False
    waits: bool = False
    had_position: bool = False
    dormant: bool = False
    part: OwnerPosition = None  # type: ignore[assignment]  # a book sets it
    relies_on: tuple[WorkingOrder, ...] = ()
    cut: float = 0.0
    void: float = 0.0
    stops: bool = False
    dearest: float = math.nan
    withheld: float = 0.0
    request: Any = None
    tradeid: Any = 0
    assumed: str = ""
    foreign: bool = False
    seen_at: float | None = None
    cost: float = 0.0

    def __post_init__(self) -> None:
        self.size = self.remaining
        if self.closing != self.closing:  # NaN: not given
            self.closing = self.remaining - self.opening
        if self.dearest != self.dearest:
            self.dearest = self.price
        self.stops = self.stops or self.kind == "stop"
        self.group = self.ref if self.group is None else self.group

    @property
    def riskiest(self) -> float:
        """Price that it would fill at and that is farthest from a stop behind it."""
        return self.price if self.kind == "stop" and self.side < 0 else self.dearest

    def cut_to(self, size: float) -> None:
        """Let no more than `size` remain; the allowance shrinks before the claim."""
        self.remaining = min(self.remaining, size)
        self.closing = min(self.closing, self.remaining)
        self.opening = min(self.opening, self.remaining - self.closing)


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """A trade from flat to flat.

    Attributes
    ----------
    instrument : str
        Name of the data feed.
    opened, closed : float
        Date numbers of its first and last execution.
    size : float
        Largest absolute size.
    pnl, r_multiple : float
        Net profit in currency, and as a multiple of what it risked (NaN where that is unknown).
    stopped : bool
        Whether a stop has closed it.
    loss : TradeLoss
        What it lost beside the distance to its stop.
    index, bar, round : int
        Instrument and time of its last execution, as in `SentOrder`.
    """

    instrument: str
    owner: object = field(repr=False, compare=False)
    side: int = 1
    opened: float = math.nan
    closed: float = math.nan
    size: float = 0.0
    pnl: float = 0.0
    r_multiple: float = math.nan
    stopped: bool = field(default=False, compare=False)
    loss: TradeLoss = field(default=TradeLoss(math.nan), repr=False, compare=False)
    index: int = field(default=0, compare=False)
    bar: int = field(default=0, compare=False)
    round: int = field(default=0, compare=False)


# What follows the owner of a closed trade; `dataclasses.replace` takes several times longer.
_AFTER_OWNER = attrgetter(*[one.name for one in fields(ClosedTrade)[2:]])


def with_owner(trade: ClosedTrade, owner: object) -> ClosedTrade:
    """Return a closed trade with another owner than the strategy, which no process could send."""
    return ClosedTrade(trade.instrument, owner, *_AFTER_OWNER(trade))


class SentOrder(NamedTuple):
    """When an order was sent, on which side and of which instrument.

    `index` is that of the first copy of the instrument and `bar` counts the bars of that copy;
    `round` counts bars of all data feeds together (bars of one time count once); `time` is a date
    number; `order` is the `identity` of the order, None where that is not known.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nothing calls
    side: int
    bar: int
    round: int
    time: float
    order: tuple[Any, float, str, tuple[float, ...]] | None = None


def identity(order: Any) -> tuple[Any, float, str, tuple[float, ...]]:
    """Return what two orders have in common that are the same: owner, size, kind, prices."""
    return order.owner, float(order.size), order.kind, order.prices


def closed_trade(
    part: OwnerPosition,
    side: int,
    time: float,
    stopped: bool,
    number: int,
    costs: StopCosts | None = None,
) -> ClosedTrade:
    """Return the trade that an owner has just closed, in round `number` of the book.

    With `costs` its R contains what a stop-out of its largest size costs.
    """
    instrument, lead = part.instrument, part.instrument.lead
    distance = part.stop_distance * part.peak * instrument.multiplier
    planned = 0.0
    if costs is not None:
        stop_price = part.entry - side * part.stop_distance
        planned = costs.of(instrument, side, part.peak, part.entry, stop_price)
    risk = distance + planned
    return ClosedTrade(
        instrument.name,
        part.owner,
        side,
        part.opened,
        time,
        part.peak,
        part.pnl,
        part.pnl / risk if risk > 0 else math.nan,
        stopped,
        _loss(part, risk, planned, stopped),
        lead.index,
        lead.length + 1,  # a fill is booked before the bar that it happens in
        number,
    )


def _loss(part: OwnerPosition, risk: float, planned: float, stopped: bool) -> TradeLoss:
    if not risk > 0.0:
        return TradeLoss(math.nan)
    instrument = part.instrument
    return TradeLoss(
        part.pnl / risk,
        part.paid / risk,
        planned / risk,
        {cause: lost / risk for cause, lost in part.beyond.items()},
        stopped and part.since == instrument.length - instrument.forming,
    )


def position_key(instrument: Instrument, place: int) -> str:
    """Return the key of what the strategy at `place` holds of an instrument."""
    return f"{instrument.name}/{place}"


def place_of(owner: object, strategies: Sequence[object]) -> int:
    """Return the place of a strategy among the running ones; 0 for one that is none of them."""
    # Truth and equality of a strategy are line operations: only ever ask for identity.
    return next((k for k, one in enumerate(strategies) if one is owner), 0)
