"""What the model knows: orders, positions, prices and stops, as Backtrader tells them."""

import math
from collections import Counter
from dataclasses import dataclass, field

import backtrader as bt

from promises.safety.prices import SPREAD, known
from promises.safety.world import Breach

EPS = 1e-7
Order = bt.Order


@dataclass
class Asked:
    """An order that a trader asked for, and what the model knew at that moment.

    `closing` and `claim` are the least and the most that it is counted to close, `opening` and
    `most` what of it surely was allowed to open and what may have been: an exit may keep its size
    without leave to open. `refused` says why the rest may not, `relies` which market exits were
    to fill before it, `needs` that it could not open without them.
    """

    who: int
    index: int
    side: int
    size: float
    kind: str
    price: float
    bar: int
    at_open: bool = False
    moment: tuple = ()
    parent: object = None
    transmit: bool = True
    untransmitted: bool = False
    waits: bool = False
    late: bool = False
    leaves: bool = False
    trails: bool = False
    tradeid: int = 0
    group: object = None
    stop_price: object = None
    held: float = 0.0
    free: float = 0.0
    distance: float = math.nan
    exact: bool = True
    leaving: bool = False
    forbidden: str = ""
    length: int = 0
    order: object = None
    accepted: float = 0.0
    filled: float = 0.0
    sure: bool = False
    pure: bool = False
    closing: float = 0.0
    claim: float = 0.0
    reduces: float = 0.0
    opening: float = 0.0
    most: float = 0.0
    refused: str = ""
    relies: tuple = ()
    needs: bool = False
    had: bool = False
    stranded: int = 0
    must: float = 0.0
    trigger: float = math.nan
    lost: float = 0.0
    before: tuple = ()
    ended: bool = False

    @property
    def left(self):
        """What may still fill."""
        order = self.order
        return abs(order.executed.remsize) if order is not None and order.alive() else 0.0

    @property
    def entering(self):
        """What of it surely may still open."""
        return 0.0 if self.waits or self.late else min(self.opening, self.left)

    @property
    def reachable(self):
        """Whether it can fill as things are: children wait for their parent."""
        ready = self.parent is None or not self.parent.alive()
        return ready and not self.waits and not self.late


@dataclass
class Share:
    """What one trader holds of one data."""

    size: float = 0.0
    number: int = 0
    entry: float = math.nan
    average: float = math.nan
    distance: float = math.nan
    best: float = math.nan
    exact: bool = True
    lost: float = 0.0
    lost_side: int = 0
    trades: dict = field(default_factory=Counter)
    # Whether an order of one trader has closed what another holds, of this one or by it: Backtrader
    # books that to a trade of the first.
    crossed: bool = False

    @property
    def side(self):
        return (self.size > 0) - (self.size < 0)

    @property
    def regular(self):
        """Whether what is held under each tradeid adds up to it, all on one side."""
        sizes = self.trades.values()
        same = all(size * self.side > -EPS for size in sizes)
        return same and abs(sum(sizes) - self.size) <= EPS


@dataclass
class Stop:
    """A protective stop as the model last saw it."""

    order: object
    number: int
    price: float
    size: float
    set_at: int


class Book:
    """The book of one run; what is promised of it is checked by the classes that inherit it."""

    def __init__(self, world, tables, tape):
        self.world, self.tables, self.tape = world, tables, tape
        self.policy, self.traders, self.gate, self.datas = world.policy, {}, None, []
        self.bar, self.closed_bar, self.leaving_bar, self.unsure = 0, 0, False, False
        # Between the arrival of a bar and its fills nothing of it is known but its open.
        self.opening = self.between_fills = False
        self.breaches, self.log = [], []
        self.asked, self.own, self.asking, self.cancelled = {}, {}, None, set()
        self.shares, self.stops, self.native_rejects = {}, {}, set()
        self.fills, self.delivered = Counter(), Counter()
        self.known = [
            known(table, self.policy["atr_period"], bool(feed.margin))
            for table, feed in zip(tables, world.feeds, strict=True)
        ]
        self.mark, self.blocked, self.flat_at, self.cooling = math.nan, False, None, None
        self.gone, self.names, self.cancels, self.astray = [], {}, set(), False
        self.lengths, self.fresh, self.begun = [0] * len(tables), set(), None
        engine = dict(world.engine)
        at_open = engine.get("cheat_on_open", False) and engine.get("broker_coo", True)
        # An order of the open is judged again by the guards at the close of the same bar.
        self.at_open = bool(engine.get("cheat_on_open", False))
        # Whether a market order fills although its data has no bar later than the order.
        self.at_once = world.coc or at_open
        whole = not world.parts
        self.guarded = whole or "stop" in world.parts
        self.breaks = whole or "breaker" in world.parts
        self.capped = whole or "cap" in world.parts
        self.limit = {
            "risk": self.policy["risk_limit"] if whole else None,
            "notional": self.policy["notional_limit"] if whole else None,
            "exposure": self.policy["exposure_limit"] if self.capped else None,
            "correlation": self.policy["correlation_limit"] if self.capped else None,
        }
        for name in ("gross", "net", "position", "group", "volatility", "gap"):
            self.limit[name] = self.policy[f"{name}_limit"] if self.capped else None
        self.guards = self.policy["guards"] if self.capped else ()
        self.limited = any(limit is not None for limit in self.limit.values()) or bool(self.guards)
        # Whether anything has a limit; BackBroker is left alone where nothing has.
        self.there = self.limited or self.guarded or self.breaks
        self.no_guards()
        self.no_days()
        self.no_exits_inside()
        self.no_margin()

    @property
    def refuses_unstarted(self):
        """Whether a trader may touch a data without a bar: BackBroker would fail on it."""
        return self.limited and dict(self.world.engine).get("preload", True)

    def breach(self, promise, seen):
        self.breaches.append(Breach(promise, self.now, seen))

    def note(self, kind, *what):
        self.log.append((self.now, kind, *[repr(one) for one in what]))

    def name(self, ref):
        """Number orders by appearance: references count on from run to run."""
        return self.names.setdefault(ref, len(self.names))

    # -- facts -----------------------------------------------------------------------------------

    @property
    def moment(self):
        """The bar, and whether it has closed: what is asked for on one has not met its fills."""
        return self.now, self.opening

    @property
    def now(self):
        """Number of the bar that is there, closed or not."""
        return self.bar + self.opening

    def index(self, data):
        return int(data._name[1:])

    def share(self, index, who):
        return self.shares.setdefault((index, who), Share())

    def net(self, index):
        # Never index it: a new key changes how BackBroker adds its value up.
        position = self.tape.positions.get(self.datas[index])
        return position.size if position else 0.0

    def length(self, index):
        """Bars that have closed; while orders fill, the bar they fill on is one of them."""
        return self.lengths[index] if self.opening else len(self.datas[index])

    def at(self, index):
        """Return what is known of the last bar, None before the first."""
        length = self.length(index)
        return self.known[index][length - 1] if length else None

    def atr(self, index):
        at = self.at(index)
        return at.atr if at else math.nan

    def last_close(self, index):
        """Close of the last bar, NaN where it has none or does not count."""
        at = self.at(index)
        return at.close if at else math.nan

    def price(self, index):
        """Last close that counts."""
        at = self.at(index)
        return at.price if at else math.nan

    def doubted(self, index):
        """How many bars in a row cannot be true."""
        at = self.at(index)
        return at.doubted if at else 0

    def valid(self, index, price):
        """Whether a price can be one."""
        return price == price and (price > 0 or bool(self.world.feeds[index].margin))

    def unit(self, index):
        """What the offset of a price is a fraction of."""
        return SPREAD if self.world.feeds[index].spread else self.newest(index)

    def quote(self, index):
        """Newest price: the last close, NaN included, or the open of a bar that has come."""
        there = len(self.datas[index])
        return self.tables[index][there - 1, 1] if self._arrived(index) else self.last_close(index)

    def newest(self, index):
        """Newest price that counts."""
        return self.quote(index) if self._arrived(index) else self.price(index)

    def _arrived(self, index):
        return self.opening and len(self.datas[index]) > self.lengths[index]

    def mult(self, index, share=0.8):
        """Currency that a point is worth, where the price converts it a `share` of that."""
        feed = self.world.feeds[index]
        return share / abs(self.price(index)) if feed.scheme == "converts" else feed.mult

    def alive(self, index=None, side=None, who=None):
        """Orders of the traders that may still fill."""
        return [
            a
            for a in self.asked.values()
            if a.left > EPS
            and index in (None, a.index)
            and side in (None, a.side)
            and who in (None, a.who)
        ]

    def own_alive(self, index, kind):
        """Orders of bt_risk of one kind ("market", "stop", "limit") on one data that may fill."""
        exectype = getattr(Order, kind.capitalize())
        return [
            o
            for o in self.own.values()
            if o.alive() and self.index(o.data) == index and o.exectype == exectype
        ]
