"""A random strategy, and a model of the book that does not trust the gate.

The model is written from what Backtrader itself says: the notifications of the BackBroker inside
(`Tape` hears them before the gate does), its positions, and the prices of the feeds. It shares no
line with bt_risk. After every order, fill and bar it compares what happened with what bt_risk
promises, and notes a `Breach` where they differ:

0. Nothing crashes, no order grows, and the model itself keeps count of the position.
1. No accepted entry exceeds a limit, held positions and working orders counted.
2. An order that reduces a position is never refused, trimmed, or lost to the cash check.
3. No position without a user's order behind it; one stop for each, of the position's size.
4. Stops only tighten, rest where the rule puts them, and fill on a later bar than they were set
   from; the same bet is not taken twice.
5. A feed that is cut off changes nothing that was decided before.
6. What is refused has a reason, one line in the journal and one notification; brackets stand and
   fall together.
7. After a trip nothing opens, everything is closed, and only then the run stops.
8. Nothing opens while a price, an ATR or a correlation that a limit needs is unknown.

A `World` holds all that a run depends on, with its actions as plain tuples: whatever breaks prints
as one expression that reproduces it, shrunk by `shrink`.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import backtrader as bt
import numpy as np

import bt_risk

EPS = 1e-7
CASH = 100_000.0
START = datetime(2020, 1, 1)
Order = bt.Order
FILLED = (Order.Partial, Order.Completed)


# -- the world of one run --------------------------------------------------------------------------


class Action(NamedTuple):
    """What one trader does at the close of one bar; `args` are those of ``Trader.do_<verb>``."""

    bar: int
    who: int
    verb: str
    data: int
    args: tuple = ()


class Breach(NamedTuple):
    """A promise that was not kept: which, when, and what was seen."""

    promise: str
    bar: int
    seen: str


class Feed(NamedTuple):
    """One data: where it starts and ends (fractions of the run), its holes and its nature."""

    start: float = 0.0
    end: float = 1.0
    gaps: float = 0.0
    nans: float = 0.0
    volatility: float = 0.02
    beta: float = 0.0
    margin: float = 0.0
    mult: float = 1.0


@dataclass(frozen=True)
class World:
    """Everything that a run depends on.

    `limits` are the fields of `bt_risk.Policy` that differ from `POLICY`. `parts` are the
    components that are added one by one; empty: ``protect``.
    """

    seed: int
    bars: int = 60
    feeds: tuple = (Feed(),)
    traders: int = 1
    parts: tuple = ()
    limits: tuple = ()
    cash: float = CASH
    commission: float = 0.0
    slippage: float = 0.0
    filler: float = 0.0
    engine: tuple = ()
    actions: tuple = ()

    @property
    def policy(self):
        """The limits by name."""
        return POLICY | dict(self.limits)


# Short windows, so that there is something to judge within a run of 70 bars.
POLICY = {
    "risk_limit": 0.01,
    "notional_limit": 1.0,
    "exposure_limit": 0.05,
    "exposure_unit": "risk",
    "correlation_limit": 0.7,
    "window": 20,
    "min_periods": 8,
    "drawdown_limit": 0.10,
    "action": "stop",
    "flatten": True,
    "cooldown_bars": None,
    "atr_period": 5,
    "atr_multiple": 2.0,
    "anchor": "close",
    "min_trades": 5,
    "lookback": 20,
}
COMPONENTS = ("cap", "stop", "breaker", "sizer")


def rows(world):
    """Return the bars of every feed: arrays of ``(time, open, high, low, close, volume)``."""
    common = np.random.default_rng([world.seed, 1_000]).normal(0.0, 1.0, world.bars)
    return [_rows(world, index, feed, common) for index, feed in enumerate(world.feeds)]


def _rows(world, index, feed, common):
    rng, count = np.random.default_rng([world.seed, index]), world.bars
    own = rng.normal(0.0, 1.0, count) + rng.choice([0, 0, 0, 0, 0, -4, 4], count)
    steps = feed.volatility * (feed.beta * common + math.sqrt(1 - feed.beta**2) * own)
    close = 100.0 * np.exp(np.cumsum(steps))
    gap = rng.normal(0.0, feed.volatility / 3, count)
    open_ = np.r_[100.0, close[:-1]] * np.exp(gap)
    wide = feed.volatility * np.abs(rng.normal(0.0, 0.6, (2, count))) * rng.choice([1, 1, 4], count)
    high = np.maximum(open_, close) * (1 + wide[0])
    low = np.minimum(open_, close) * (1 - np.minimum(wide[1], 0.5))
    close = np.where(rng.random(count) < feed.nans, np.nan, close)
    days = np.array([bt.date2num(START + timedelta(days=i)) for i in range(count)])
    table = np.column_stack([days, open_, high, low, close, np.full(count, 1000.0)])
    first, last = round(feed.start * count), max(2, round(feed.end * count))
    there = (rng.random(count) >= feed.gaps) & (np.arange(count) >= first)
    there[:1] |= index == 0
    return table[there & (np.arange(count) < last)]


class Rows(bt.feed.DataBase):
    """Bars from an array; PandasData takes longer over a bar than all the rest."""

    params = (("table", None),)

    def start(self):
        super().start()
        self._left = iter(self.p.table.tolist())

    def _load(self):
        row = next(self._left, None)
        if row is None:
            return False
        lines = self.lines
        lines.datetime[0], lines.open[0], lines.high[0], lines.low[0] = row[:4]
        lines.close[0], lines.volume[0], lines.openinterest[0] = row[4], row[5], 0.0
        return True


def wilder(table, period):
    """Average true range of every bar, written from Wilder's definition; NaN bars say nothing."""
    values, ranges, previous, value = [], [], math.nan, math.nan
    for _, _, high, low, close, _ in table.tolist():
        if close == close:
            if previous == previous:
                true_range = max(high, previous) - min(low, previous)
                ranges.append(true_range)
                if len(ranges) == period:
                    value = sum(ranges) / period
                elif len(ranges) > period:
                    value += (true_range - value) / period
            previous = close
        values.append(value)
    return values


# -- the random strategy ---------------------------------------------------------------------------


class Trader(bt.Strategy):
    """Do what the world's actions say; every call goes through the model, there and back."""

    params = (("who", 0), ("world", None), ("model", None))

    def __init__(self):
        self.model, self.who = self.p.model, self.p.who
        self.model.traders[self.who] = self
        self.sent, self.plans = [], {}
        self.plan = {}
        for action in self.p.world.actions:
            if action.who == self.who:
                self.plan.setdefault(action.bar, []).append(action)

    def prenext(self):
        self.next()

    def next(self):
        self.model.close_bar()
        for action in self.plan.get(self.model.bar, ()):
            data = self.datas[action.data]
            if len(data) or self.model.refuses_unstarted and action.verb == "market":
                getattr(self, f"do_{action.verb}")(data, *action.args)
                self.model.check_families()

    def notify_order(self, order):
        self.model.delivered[order.ref, order.status] += 1
        if order.status == order.Completed and order.ref in self.plans:
            self.do_exits(order.data, *self.plans.pop(order.ref))

    # -- every order goes through the model ------------------------------------------------------

    def buy(self, data=None, size=None, **kwargs):
        return self._ask(1, super().buy, data, size, kwargs)

    def sell(self, data=None, size=None, **kwargs):
        return self._ask(-1, super().sell, data, size, kwargs)

    def _ask(self, side, send, data, size, kwargs):
        data = self.datas[0] if data is None else data
        size = self.getsizing(data, isbuy=side > 0) if size is None else size
        if self.p.world.filler and isinstance(size, float) and size.is_integer() is False:
            # BackBroker with a filler doubles what rounding leaves of a fraction, bar after bar.
            size = max(1, round(size))
        if not size:  # Backtrader's own answer to an order of zero
            return send(data=data, size=size, **kwargs)
        asked = self.model.before(self, side, data, size, kwargs)
        order = send(data=data, size=size, **kwargs)
        self.model.after(asked, order)
        if order is not None:
            self.sent.append(order)
        return order

    def cancel(self, order):
        self.model.cancelled.add(order.ref)
        super().cancel(order)

    def _send(self, side, **kwargs):
        return (self.buy if side > 0 else self.sell)(**kwargs)

    # -- verbs -----------------------------------------------------------------------------------

    def do_market(self, data, side, size, exits=None):
        order = self._send(side, data=data, size=size)
        if exits and order is not None:
            self.plans[order.ref] = exits

    def do_resting(self, data, side, size, kind, offset, days=None):
        """Send an order that rests `offset` above the close (below, when negative)."""
        price = data.close[0] * (1 + offset)
        if not price > 0:
            return
        valid = None if days is None else timedelta(days=days)
        args = {"data": data, "size": size, "valid": valid, "exectype": getattr(Order, kind)}
        if kind == "StopTrail":
            args |= {"trailpercent": max(0.002, abs(offset))}
        elif kind == "StopLimit":
            args |= {"price": price, "plimit": price * (1 + side * 0.01)}
        else:
            args |= {"price": price}
        self._send(side, **args)

    def do_planned(self, data, side, size, offset):
        """Tell the gate where the stop will be."""
        if data.close[0] > 0:
            self._send(side, data=data, size=size, stop_price=data.close[0] * (1 - side * offset))

    def do_close(self, data, share=1.0):
        held = abs(self.getposition(data).size)
        if held > EPS:
            self.close(data=data, size=_part(held, share))

    def do_exits(self, data, low, high, oco=False, share=1.0):
        """Place a stop-loss and a take-profit on what is held: as an OCO pair or as two orders."""
        held = self.getposition(data).size
        if abs(held) <= EPS or not data.close[0] > 0:
            return
        side, size = (-1 if held > 0 else 1), _part(abs(held), share)
        close = data.close[0]
        stop = self._send(
            side, data=data, size=size, price=close * (1 + side * low), exectype=Order.Stop
        )
        self._send(
            side,
            data=data,
            size=size,
            price=close * (1 - side * high),
            exectype=Order.Limit,
            oco=stop if oco else None,
        )

    def do_ladder(self, data, near, far, share=1.0):
        """Take profit at one price or the other, never at both."""
        held = self.getposition(data).size
        if abs(held) <= EPS or not data.close[0] > 0:
            return
        side, close = (-1 if held > 0 else 1), data.close[0]
        args = {"data": data, "size": _part(abs(held), share), "exectype": Order.Limit}
        first = self._send(side, price=close * (1 - side * near), **args)
        self._send(side, price=close * (1 - side * far), oco=first, **args)

    def do_fork(self, data, size, offset):
        """Place a breakout on either side, one cancels the other."""
        close = data.close[0]
        if close > 0:
            args = {"data": data, "size": size, "exectype": Order.Stop}
            up = self.buy(price=close * (1 + offset), **args)
            self.sell(price=close * (1 - offset), oco=up, **args)

    def do_scalp(self, data, side, size, offset):
        """Enter, and place the take-profit with the entry, without parent."""
        close = data.close[0]
        if close > 0:
            self._send(side, data=data, size=size)
            price = close * (1 + side * offset)
            self._send(-side, data=data, size=size, price=price, exectype=Order.Limit)

    def do_reverse(self, data, factor=2.0):
        held = self.getposition(data).size
        if abs(held) > EPS:
            self._send(-1 if held > 0 else 1, data=data, size=_part(abs(held), factor))

    def do_target(self, data, kind, target):
        if data.close[0] > 0:
            getattr(self, f"order_target_{kind}")(data=data, target=target)

    def do_bracket(self, data, side, size, kind, offset, low, high, which="both", days=None):
        close = data.close[0]
        if not close > 0:
            return
        price = close * (1 - side * offset)
        send = self.buy_bracket if side > 0 else self.sell_bracket
        send(
            data=data,
            size=size,
            exectype=getattr(Order, kind),
            price=None if kind == "Market" else price,
            stopprice=price * (1 - side * low),
            limitprice=price * (1 + side * high),
            stopexec=Order.Stop if which != "limit" else None,
            limitexec=Order.Limit if which != "stop" else None,
            oargs={} if days is None else {"valid": timedelta(days=days)},
        )

    def do_family(self, data, side, size, low, high, share=1.0, pyramid=0):
        """Do by hand what a bracket is, with children of another size, or one that adds."""
        close = data.close[0]
        if not close > 0:
            return
        parent = self._send(side, data=data, size=size, transmit=False)
        size = _part(abs(parent.size) or 1, share)
        args = {"data": data, "parent": parent, "size": size}
        stop = close * (1 - side * low)
        self._send(-side, price=stop, exectype=Order.Stop, transmit=False, **args)
        limit = close * (1 + side * high)
        self._send(-side, price=limit, exectype=Order.Limit, transmit=not pyramid, **args)
        if pyramid:
            args |= {"size": pyramid, "price": limit}
            self._send(side, exectype=Order.Stop, **args)

    def do_cancel(self, data, place):
        alive = [order for order in self.sent if order.alive()]
        if alive:
            self.cancel(alive[place % len(alive)])


def _part(held, share):
    size = held * share
    whole = float(held).is_integer()
    return max(1, round(size)) if whole else size


# -- Backtrader's own word -------------------------------------------------------------------------


class Tape(bt.brokers.BackBroker):
    """A BackBroker that tells the model everything before the gate hears of it."""

    model = None

    def next(self):
        self.model.open_bar()
        super().next()
        self.model.check_walk()

    def notify(self, order):
        self.model.heard(order)
        super().notify(order)


@dataclass
class Asked:
    """An order that a trader asked for, and what the model knew at that moment."""

    who: int
    index: int
    side: int
    size: float
    kind: str
    price: float
    bar: int
    parent: object = None
    untransmitted: bool = False
    group: object = None
    certain: float = 0.0
    held: float = 0.0
    free: float = 0.0
    distance: float = math.nan
    exact: bool = True
    leaving: bool = False
    forbidden: str = ""
    closes_only: str = ""
    length: int = 0
    order: object = None
    accepted: float = 0.0
    filled: float = 0.0
    opening: float = 0.0
    lost: float = 0.0
    before: tuple = ()

    @property
    def left(self):
        """What may still fill."""
        order = self.order
        return abs(order.executed.remsize) if order is not None and order.alive() else 0.0

    @property
    def rest(self):
        """What is not filled of what was accepted; a clamp may leave less of it on the order."""
        return max(self.left, self.accepted - self.filled)

    @property
    def entering(self):
        """What of it may still open."""
        return min(self.opening, self.left)

    @property
    def reachable(self):
        """Whether it can fill as things are: children wait for their parent."""
        return self.parent is None or not self.parent.alive()


@dataclass
class Share:
    """What one trader holds of one data."""

    size: float = 0.0
    number: int = 0
    entry: float = math.nan
    best: float = math.nan
    exact: bool = True
    lost: float = 0.0
    lost_side: int = 0

    @property
    def side(self):
        return (self.size > 0) - (self.size < 0)


@dataclass
class Stop:
    """A protective stop as the model last saw it."""

    order: object
    number: int
    price: float
    size: float
    set_at: int


class Model:
    """The book as Backtrader tells it, and every promise that can be checked against it."""

    def __init__(self, world, tables, tape):
        self.world, self.tables, self.tape = world, tables, tape
        self.policy, self.traders, self.gate, self.datas = world.policy, {}, None, []
        self.bar, self.closed_bar, self.leaving_bar, self.unsure = 0, 0, False, False
        self.breaches, self.log = [], []
        self.asked, self.own, self.asking, self.cancelled = {}, {}, None, set()
        self.shares, self.stops, self.native_rejects = {}, {}, set()
        self.fills, self.delivered = Counter(), Counter()
        self.atrs = [wilder(table, self.policy["atr_period"]) for table in tables]
        self.mark, self.blocked, self.flat_at, self.cooling = math.nan, False, None, None
        self.walks, self.names = [], {}
        self.lengths, self.fresh, self.begun = [0] * len(tables), set(), None
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
        self.limited = any(limit is not None for limit in self.limit.values())

    @property
    def refuses_unstarted(self):
        """Whether a trader may touch a data without a bar: BackBroker would fail on it."""
        return self.limited and dict(self.world.engine).get("preload", True)

    def breach(self, promise, seen):
        self.breaches.append(Breach(promise, self.bar, seen))

    def note(self, kind, *what):
        self.log.append((self.bar, kind, *[repr(one) for one in what]))

    def name(self, ref):
        """Number orders by appearance: references count on from run to run."""
        return self.names.setdefault(ref, len(self.names))

    # -- facts -----------------------------------------------------------------------------------

    def index(self, data):
        return int(data._name[1:])

    def share(self, index, who):
        return self.shares.setdefault((index, who), Share())

    def net(self, index):
        # Never index it: a new key changes how BackBroker adds its value up.
        position = self.tape.positions.get(self.datas[index])
        return position.size if position else 0.0

    def length(self, index):
        return len(self.datas[index])

    def atr(self, index):
        length = self.length(index)
        return self.atrs[index][length - 1] if length else math.nan

    def last_close(self, index):
        """Close of the last bar, NaN included."""
        length = self.length(index)
        return self.tables[index][length - 1, 4] if length else math.nan

    def price(self, index):
        """Last close that is a number."""
        closes = self.tables[index][: self.length(index), 4]
        known = closes[closes == closes]
        return known[-1] if len(known) else math.nan

    def mult(self, index):
        return self.world.feeds[index].mult

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
        """Orders of bt_risk on one data that may still fill."""
        market = kind == "market"
        return [
            o
            for o in self.own.values()
            if o.alive() and self.index(o.data) == index and (o.exectype == Order.Market) == market
        ]

    # -- an order is asked for -------------------------------------------------------------------

    def before(self, trader, side, data, size, kwargs):
        """Take down what the model knows before the gate is asked."""
        index, who = self.index(data), trader.who
        kind = {None: "market", Order.Market: "market", Order.Limit: "limit"}
        kind = kind.get(kwargs.get("exectype"), "stop")
        price = kwargs.get("price") if kind != "market" else None
        asked = Asked(
            who, index, side, abs(float(size)), kind, price or self.price(index), self.bar
        )
        asked.parent = kwargs.get("parent")
        asked.untransmitted = asked.parent and asked.parent.status == Order.Created
        asked.group = self._group(asked, kwargs.get("oco"))
        asked.certain, asked.held, asked.free = self._against(index, who, side)
        asked.leaving = any(o.owner is trader for o in self.own_alive(index, "market"))
        asked.distance = self._distance(asked, kwargs.get("stop_price"))
        asked.forbidden = self._forbidden(asked)
        asked.length = self.length(index)
        asked.before = (len(self.gate.journal.lines), self._rejected())
        self.asking = asked
        return asked

    def _group(self, asked, oco):
        if asked.parent is not None:
            return "children", asked.parent.ref
        if oco is None:
            return None
        return self.asked[oco.ref].group or oco.ref if oco.ref in self.asked else oco.ref

    def _against(self, index, who, side):
        """Return what stands against an order: less certain exits, in full, less all exits."""
        own = max(0.0, -side * self.share(index, who).size)
        net = max(0.0, -side * self.net(index))
        rivals = [a for a in self.alive(index, side) if a.reachable]
        markets = [a for a in rivals if a.kind == "market"]
        mine = sum(a.rest for a in markets if a.who == who)
        certain = max(own - mine, net - sum(a.rest for a in markets), 0.0)
        groups = {}
        for a in rivals:
            if a.who == who:
                key = a.group or a.order.ref
                exits = a.left if a.parent is not None else min(a.left, a.free)
                groups[key] = max(groups.get(key, 0.0), exits)
        held = max(own, net)
        return certain, held, max(0.0, held - sum(groups.values()))

    def _distance(self, asked, stop_price):
        """Return how far the stop behind an entry will be."""
        if stop_price is not None:
            return abs(asked.price - stop_price)
        stops = [
            max(0.0, asked.side * (self.price(asked.index) - o.created.price))
            for o in self.own_alive(asked.index, "stop")
            if o.isbuy() == (asked.side < 0) and o.owner.who == asked.who
        ]
        return min(stops, default=self.policy["atr_multiple"] * self.atr(asked.index))

    def _forbidden(self, asked):
        """Return why nothing of an order may open, whatever its size."""
        if self.blocked:
            return "7 entry accepted after a trip"
        if not self.limited:
            return ""
        if not self.last_close(asked.index) > 0:
            return "8 entry accepted without a valid price"
        needs_risk = self.limit["risk"] is not None or (
            self.limit["exposure"] is not None and self.policy["exposure_unit"] == "risk"
        )
        if needs_risk and math.isnan(asked.distance):
            return "8 entry accepted before its ATR is known"
        return self._correlated(asked)

    def after(self, asked, order):
        """Compare what came back with what was asked for."""
        self.asking = None
        if order is None:
            self.breach("6 buy or sell returned None", f"{asked.side * asked.size:g}")
            return
        asked.order = order
        self.asked[order.ref] = asked
        asked.group = asked.group or order.ref
        if asked.kind == "stop":
            # A trailing stop computes its own price, below the close or above it.
            asked.price = min(asked.price, order.created.price)
        asked.accepted = 0.0 if order.status == Order.Rejected else abs(order.size)
        self.note("asked", self.name(order.ref), asked.accepted, order.info.get("bt_risk", ""))
        self._check_lines(asked, order)
        if asked.accepted > asked.size + EPS:
            self.breach("0 order grew", f"{asked.size:g} became {asked.accepted:g}")
        if asked.parent is None:
            self._check_exit(asked)
            self._check_entry(asked)
        elif asked.accepted and self.asked[asked.parent.ref].side == asked.side:
            asked.opening = asked.accepted
            self._check_limits(asked)
        elif asked.accepted:
            self._check_child(asked)

    def _check_child(self, asked):
        """A child closes what its parent opens; only what was asked for beyond that may open."""
        parent = self.asked[asked.parent.ref]
        beyond = max(0.0, asked.size - parent.size)
        asked.opening = max(0.0, asked.accepted - parent.accepted)
        if self.limited and asked.opening > beyond + EPS and asked.untransmitted:
            self.breach("3 child larger than its parent", f"{asked.accepted:g} {parent.accepted:g}")
        if asked.kind == "stop" and asked.untransmitted:
            self._rejudge(asked)

    def _check_exit(self, asked):
        must = min(asked.size, asked.certain)
        if must <= EPS or asked.leaving:
            return
        if asked.accepted < must - EPS:
            reason = asked.order.info.get("bt_risk", "")
            text = f"{asked.accepted:g} of {asked.size:g} against {asked.certain:g}: {reason}"
            self.breach("2 exit refused or trimmed", text)

    def _check_entry(self, asked):
        share = self.share(asked.index, asked.who)
        asked.opening = max(0.0, asked.accepted - asked.held)
        alone = self.world.traders == 1
        if alone and asked.forbidden and asked.accepted > asked.free + EPS:
            self._only_exits(asked)
        lost = share.lost if share.lost_side == -asked.side else 0.0
        most = max(asked.held, asked.size - lost)
        # Who has closed all of it before knows what is held, and means what exceeds it.
        plain = alone and not self.world.filler
        if plain and lost and asked.certain > EPS and asked.accepted > most + EPS:
            text = f"{asked.accepted:g} with {asked.held:g} held and {lost:g} never bought"
            self.breach("3 sold what a trimmed entry never bought", text)
        if asked.opening > EPS:
            if asked.forbidden:
                self.breach(asked.forbidden, f"{asked.opening:g} of {asked.size:g}")
            self._check_limits(asked)
        self._use_up(asked, share)
        cut = 0 < asked.accepted < asked.size - EPS
        # Only where nothing stands on the other side is it plain what was cut from an entry.
        if cut and asked.held <= EPS and not self.alive(asked.index, -asked.side, asked.who):
            asked.lost = asked.size - asked.accepted
            if asked.opening > EPS and share.side == asked.side:
                self._lose(share, asked)

    def _only_exits(self, asked):
        """Several exits stand against one position, and none of them may open another."""
        for other in self.alive(asked.index, asked.side, asked.who):
            if other.parent is None and other.size <= other.free + EPS:
                other.closes_only = asked.forbidden

    def _use_up(self, asked, share):
        """Forget what was never bought once an opposite order has been told of it."""
        if asked.accepted and asked.size > asked.free + EPS:
            for one in [share, *self.alive(asked.index, -asked.side, asked.who)]:
                one.lost = 0.0

    def _lose(self, share, asked):
        share.lost = asked.lost + (share.lost if share.lost_side == asked.side else 0.0)
        share.lost_side, asked.lost = asked.side, 0.0

    # -- rules 1, 3 and 4, from the model's own numbers ------------------------------------------

    def _check_limits(self, asked):
        equity = self.tape.getvalue()
        d, side, mult = asked.index, asked.side, self.mult(asked.index)
        risk = asked.opening * asked.distance * mult
        value = asked.opening * asked.price * mult
        others = [a for a in self.asked.values() if a is not asked]
        one, worth = self._at_stake(d, side, others, "risk"), self._at_stake(d, side, others, "")
        unit = self.policy["exposure_unit"]
        total = sum(self._at_stake(i, side, others, unit) for i in range(len(self.datas)))
        self._within("1 risk_limit", "risk", one + risk, equity)
        self._within("1 notional_limit", "notional", worth + value, equity)
        stake = risk if unit == "risk" else value
        self._within("1 exposure_limit", "exposure", total + stake, equity)

    def _within(self, promise, limit, used, equity):
        limit = self.limit[limit]
        if limit is not None and not used <= limit * equity * (1 + 1e-6) + 1e-6:
            self.breach(promise, f"{used:.6g} of {equity:.6g} is {used / equity:.6f} > {limit:g}")

    def _at_stake(self, index, side, orders, unit):
        """Currency at stake on one side of one data: held, and about to be."""
        held = self.net(index)
        stake = 0.0
        if held * side > 0:
            price = abs(held) * self.price(index)
            stake = self._held_risk(index, held) if unit == "risk" else price
        groups = {}
        for a in orders:
            if a.index == index and a.side == side and a.entering > EPS:
                each = a.entering * (a.distance if unit == "risk" else a.price)
                groups[a.group] = max(groups.get(a.group, 0.0), each)
        return (stake + sum(groups.values())) * self.mult(index)

    def _held_risk(self, index, held):
        side, left, lost = (1 if held > 0 else -1), abs(held), 0.0
        stops = self.own_alive(index, "stop")
        stops += [a.order for a in self.alive(index, -side) if a.kind == "stop" and a.reachable]
        rows = sorted(
            (max(0.0, side * (self.price(index) - o.created.price)), self._covers(o))
            for o in stops
            if o.isbuy() == (side < 0)
        )
        for distance, size in rows:
            lost += min(left, size) * distance
            left -= min(left, size)
        return lost + (left * self.policy["atr_multiple"] * self.atr(index) if left > EPS else 0.0)

    def _covers(self, order):
        """Size that a stop covers; one of ours that has begun to fill goes on until flat."""
        begun = order.ref in self.own and order.status == Order.Partial
        return math.inf if begun else abs(order.executed.remsize)

    def _rejudge(self, asked):
        """Judge a bracket by its own stop; the family is still here, so it was let through."""
        parent = self.asked[asked.parent.ref]
        parent.distance = abs(parent.price - asked.price)
        parent.exact = parent.opening > EPS
        if parent.exact:
            self._check_limits(parent)

    def _correlated(self, asked):
        limit = self.limit["correlation"]
        if limit is None:
            return ""
        for other in range(len(self.datas)):
            sides = {a.side for a in self.asked.values() if a.index == other and a.entering > EPS}
            if abs(self.net(other)) > EPS:
                sides.add(1 if self.net(other) > 0 else -1)
            if other == asked.index or not sides:
                continue
            rho, count = self._correlation(asked.index, other)
            if count < self.policy["min_periods"]:
                return "8 entry accepted before its correlation is known"
            if any(side * asked.side * rho > limit + 1e-6 for side in sides):
                return "4 the same bet accepted twice"
        return ""

    def _correlation(self, one, other):
        """Correlation of log returns between common times within the window."""
        closes = []
        for index, table in enumerate(self.tables):
            seen = table[: self.length(index)]
            closes.append({row[0]: row[4] for row in seen if row[4] == row[4]})
        axis = sorted(set().union(*closes))[-self.policy["window"] - 1 :]
        common = [t for t in axis if t in closes[one] and t in closes[other]]
        count = max(0, len(common) - 1)
        if count < self.policy["min_periods"]:
            return math.nan, count
        x = np.diff(np.log([closes[one][t] for t in common]))
        y = np.diff(np.log([closes[other][t] for t in common]))
        return float(np.corrcoef(x, y)[0, 1]), count

    # -- what is said about a refusal ------------------------------------------------------------

    def _rejected(self):
        return {ref for ref, a in self.asked.items() if a.order.status == Order.Rejected}

    def _check_lines(self, asked, order):
        lines, rejected = asked.before
        actions = [line[3] for line in self.gate.journal.lines[lines:]]
        new = self._rejected() - rejected
        ours = new - self.native_rejects
        if actions.count("reject") != len(ours):
            text = f"{actions.count('reject')} lines for {len(ours)} rejected orders: {actions}"
            self.breach("6 not one journal line for each rejected order", text)
        for ref in ours:
            if not self.asked[ref].order.info.get("bt_risk"):
                self.breach("6 rejected without a reason", f"order {self.name(ref)}")
        cut = asked.parent is None and 0 < asked.accepted < asked.size - EPS
        if cut and (actions.count("trim") != 1 or not order.info.get("bt_risk")):
            self.breach("6 trimmed without a line and a reason", f"{actions}")

    def check_families(self):
        """See that brackets stand or fall together, and that nothing waits for ever."""
        for asked in self.asked.values():
            if asked.parent is None or asked.bar != self.bar:
                continue
            parent, child = self.asked[asked.parent.ref], asked.order
            if parent.order.status == Order.Created or child.status == Order.Created:
                self.breach("6 part of a bracket was never sent", child.getstatusname())
            refused = parent.order.status == Order.Rejected
            if not refused:
                parent.accepted = abs(parent.order.size)
                parent.opening = min(parent.opening, max(0.0, parent.accepted - parent.held))
            if refused and child.status != Order.Rejected:
                self.breach("6 half a bracket", f"parent Rejected, {child.getstatusname()}")
            # Children of a parent that only closes would open: they are judged like entries.
            if not refused and child.status == Order.Rejected and parent.opening > EPS:
                self.breach("6 half a bracket", f"child Rejected: {child.info.get('bt_risk')}")

    # -- Backtrader speaks -----------------------------------------------------------------------

    def open_bar(self):
        self.bar, self.leaving_bar = self.bar + 1, False

    def heard(self, order):
        """Take in one notification of the BackBroker, before the gate does."""
        if order.ref not in self.asked and order.ref not in self.own:
            if self.asking is None:
                self.own[order.ref] = order
            else:
                self.asking.order = order
                self.asked[order.ref] = self.asking
                self.asking.group = self.asking.group or order.ref
        if order.status in FILLED:
            bit = order.executed.exbits[-1]
            self.check_walk(order.ref, abs(bit.size))
            self.fills[order.ref, order.status] += 1
            self.note("fill", self.name(order.ref), order.status, bit.size, bit.price)
            self._fill(order, bit)
        elif order.status == Order.Rejected:
            self.native_rejects.add(order.ref)
        elif order.status == Order.Canceled and order.ref in self.asked:
            self.leaving_bar = True
        elif order.status == Order.Margin:
            self._margin(order)

    def _margin(self, order):
        asked = self.asked.get(order.ref)
        self.note("margin", self.name(order.ref))
        left, side = abs(order.executed.remsize), 1 if order.isbuy() else -1
        # Where strategies stand against each other an exit of one may add to what is held.
        against = -side * self.net(self.index(order.data))
        exit_ = asked is None or asked.parent is None and asked.size <= asked.certain + EPS
        there = self.limited or self.guarded or self.breaks  # else BackBroker is left alone
        if there and exit_ and left <= against + EPS:
            whose = "ours" if asked is None else "the user's"
            self.breach("2 exit lost to Margin", f"{whose}: {left:g} against {against:g}")

    def _fill(self, order, bit):
        index, who = self.index(order.data), order.owner.who
        share, net = self.share(index, who), self.net(index)
        against = max(0.0, -math.copysign(1, bit.size) * share.size)
        against_net = max(0.0, -math.copysign(1, bit.size) * (net - bit.size))
        opening = max(0.0, abs(bit.size) - max(against, against_net))
        if order.ref in self.own:
            self._own_fill(order, bit, index, who, share, against)
        else:
            self._user_fill(order, opening)
        self._book(share, order, bit)
        if abs(net) <= EPS:
            for (i, _), other in self.shares.items():
                if i == index:
                    other.size, other.lost = 0.0, 0.0

    def _book(self, share, order, bit):
        before = share.side
        share.size += bit.size
        if abs(share.size) <= EPS:
            share.size, share.lost = 0.0, 0.0
        if share.size and share.side != before:
            asked = self.asked.get(order.ref)
            share.number += 1
            share.entry, share.lost = bit.price, 0.0
            # What opens although it was an exit when it was placed has no distance of its own.
            share.exact = bool(asked and asked.exact and asked.opening > EPS and not asked.parent)
            share.exact &= asked is not None and asked.distance == asked.distance
            distance = asked.distance if share.exact else math.nan
            share.best = share.entry - share.side * distance
        asked = self.asked.get(order.ref)
        if asked and asked.lost and asked.opening > EPS and share.side == asked.side:
            self._lose(share, asked)

    def _own_fill(self, order, bit, index, who, share, against):
        if abs(bit.size) > against + EPS:
            text = f"{bit.size:g} on a position of {share.size:g}"
            self.breach("3 an order of bt_risk opened a position", text)
        stop = self.stops.get((index, who))
        if order.exectype == Order.Stop and stop and stop.order is order:
            begun = order.executed.exbits and len(order.executed.exbits) > 1
            if self.length(index) <= stop.set_at and not begun:
                self.breach("4 stop filled on the bar it was set from", f"bar {stop.set_at}")
        side = -1 if share.size > 0 else 1
        self._check_room(order, abs(bit.size), index, side, who, against)
        orders = [
            (a, a.left)
            for a in self.alive(index, side, who)
            if a.order.active() and a.order.status in (Order.Accepted, Order.Partial)
        ]
        self.walks.append((orders, against, max(0.0, against - abs(bit.size))))

    def _check_room(self, order, size, index, side, who, against):
        """What the market exits of this bar take is theirs: they belong to the open."""
        if order.exectype != Order.Stop or self.world.filler:
            return
        now = self.length(index)
        first = [
            a.left
            for a in self.alive(index, side, who)
            if a.kind == "market"
            and a.length < now
            and a.order.status == Order.Accepted
            and a.order.active()
        ]
        if size > max(0.0, against - sum(first)) + EPS:
            self.breach("3 the stop took what a market exit takes", f"{size:g} of {against:g}")

    def check_walk(self, ref=None, filled=0.0):
        """See that an exit of bt_risk took with it the exits of the user that it replaced."""
        for orders, before, after in self.walks:
            for kind in ("limit", "stop"):
                self._check_kind(kind, orders, before, after, ref, filled)
        self.walks = []

    def _check_kind(self, kind, orders, before, after, ref, filled):
        was, now, opens = {}, {}, {}
        if self.world.filler and any(a.order.status == Order.Partial for a, _ in orders):
            return  # what is left of an order that fills in parts is set anew on each bar
        for asked, left in orders:
            if asked.kind not in (kind, "market"):
                continue
            rest = asked.left + (filled if asked.order.ref == ref else 0.0)
            was[asked.group] = max(was.get(asked.group, 0.0), left)
            now[asked.group] = max(now.get(asked.group, 0.0), rest)
            entry = min(asked.opening, left)
            opens[asked.group] = min(opens.get(asked.group, entry), entry)
        total, rest = sum(was.values()), sum(now.values())
        stays = max(0.0, total - before)
        if rest > after + stays + EPS:
            text = f"{kind}: {rest:g} of {total:g} left, position {before:g} -> {after:g}"
            self.breach("3 exits outlive the position that a stop closed", text)
        # Children of a parent never open: what exceeds the position goes with the rest of them.
        stays = min(stays, sum(opens.values()))
        alone = len(orders) == 1 and len(was) == 1 and orders[0][0].parent is None
        gone = orders[0][0].order.status in (Order.Expired, Order.Margin) if orders else True
        if rest < stays - EPS and alone and not gone:
            text = f"{kind}: {rest:g} of {total:g} left, position {before:g} -> {after:g}"
            self.breach("3 an entry was taken for an exit", text)

    def _user_fill(self, order, opening):
        asked = self.asked[order.ref]
        asked.filled = abs(order.executed.size)
        if opening <= EPS:
            return
        if self.blocked:
            self.breach("7 entry filled after a trip", f"{opening:g} by order {order.ref}")
        elif asked.closes_only:
            self.breach("3 one exit too many has opened a position", asked.closes_only)
        elif asked.parent is None and asked.forbidden and asked.size > asked.free + EPS:
            text = (
                f"{opening:g} opened by an order of {asked.size:g} that could close {asked.free:g}"
            )
            self.breach("3 what was refused has opened after all: " + asked.forbidden, text)

    # -- a bar has closed ------------------------------------------------------------------------

    def close_bar(self):
        """Compare positions, stops and breaker, before any trader acts on this bar."""
        if self.closed_bar == self.bar:
            return
        self.closed_bar = self.bar
        self.check_walk()
        lengths = [self.length(index) for index in range(len(self.datas))]
        self.fresh = {i for i, length in enumerate(lengths) if self.lengths[i] != length}
        self.lengths = lengths
        if self.begun is None and all(lengths):
            self.begun = self.bar
        for index in range(len(self.datas)):
            self._check_sum(index)
            for who in self.traders:
                self._check_stop(index, who)
        self._check_breaker()

    def _check_sum(self, index):
        total = sum(share.size for (i, _), share in self.shares.items() if i == index)
        if abs(total - self.net(index)) > 1e-6:
            self.breach("0 the model lost count", f"{total:g} is not {self.net(index):g}")

    def _check_stop(self, index, who):
        share, key = self.share(index, who), (index, who)
        mine = [o for o in self.own_alive(index, "stop") if o.owner.who == who]
        if len(mine) > 1:
            self.breach("3 two protective stops", f"{[o.created.size for o in mine]}")
        stop = mine[0] if mine else None
        if stop and not share.size:
            self.breach("3 orphan stop on a flat position", f"{stop.executed.remsize:g}")
        if share.size and self.guarded:
            self._check_cover(index, share, stop)
        if stop is None or not share.size:
            self.stops.pop(key, None)
            return
        self.note("stop", index, who, stop.created.price, stop.executed.remsize)
        self._check_level(index, share, stop, self.stops.get(key))
        self._remember(key, index, share, stop)

    def _check_cover(self, index, share, stop):
        level = self._level(index, share)
        if stop is None:
            best = share.best
            known = [x for x in (level, best) if x == x]
            if known and max(known) > 0 and min(known) > 0:
                self.breach("3 position without its stop", f"{share.size:g} since {share.entry:g}")
            return
        if stop.isbuy() == (share.size > 0):
            self.breach("3 stop on the wrong side", f"{stop.created.size:g} for {share.size:g}")
        wrong = abs(abs(stop.executed.remsize) - abs(share.size)) > EPS
        if wrong and stop.status != Order.Partial:
            text = f"{stop.executed.remsize:g} behind {share.size:g}"
            self.breach("3 stop is not sized to the position", text)

    def _level(self, index, share):
        """Where this bar's close says that the stop should be; NaN when it says nothing."""
        if not self.last_close(index) > 0 or index not in self.fresh:
            return math.nan
        return self.price(index) - share.side * self.policy["atr_multiple"] * self.atr(index)

    def _check_level(self, index, share, stop, known):
        price, side = stop.created.price, share.side
        slack = 1e-9 * abs(price)
        if known and known.number == share.number and side * (price - known.price) < -slack:
            self.breach("4 stop loosened", f"{known.price:.10g} -> {price:.10g}, side {side}")
        level = self._level(index, share)
        if self.policy["anchor"] != "close":
            return
        if level == level:
            best = share.best if share.best == share.best else level
            share.best = max(best, level) if side > 0 else min(best, level)
        off = side * (price - share.best)
        off = abs(off) if share.exact else -off
        if off > 1e-6 * abs(price) and stop.status != Order.Partial:
            text = f"{price:.10g} instead of {share.best:.10g}, side {side}"
            self.breach("4 stop is not where the rule puts it", text)

    def _remember(self, key, index, share, stop):
        known, price, size = self.stops.get(key), stop.created.price, abs(stop.executed.remsize)
        set_at = self.length(index)
        if known and known.order is stop and (known.price, known.size) == (price, size):
            set_at = known.set_at
        self.stops[key] = Stop(stop, share.number, price, size, set_at)

    # -- the breaker -----------------------------------------------------------------------------

    def _check_breaker(self):
        if not self.breaks:
            return
        value, limit = self.tape.fundvalue, self.policy["drawdown_limit"]
        new, finite = 0 in self.fresh, math.isfinite(value)
        if finite and not self.blocked:
            self.mark = value if math.isnan(self.mark) else max(self.mark, value)
            if 1 - value / self.mark >= limit - 1e-12:
                self._trip()
        elif self.cooling is not None and new:
            self.cooling -= 1
            if self.cooling <= 0 and finite:
                self.blocked, self.cooling, self.flat_at, self.mark = False, None, None, value
                self.breaks = not self.unsure
        if self.blocked and self.flat_at is None and self.policy["flatten"]:
            self._check_leaving()
        if self.blocked and self.flat_at is None and (not self.policy["flatten"] or self._flat()):
            self.flat_at = self.bar
            self.cooling = self.policy["cooldown_bars"]

    def _check_leaving(self):
        for (index, who), share in self.shares.items():
            leaving = any(o.owner.who == who for o in self.own_alive(index, "market"))
            if share.size and not leaving:
                self.breach("7 nothing closes a position after a trip", f"{share.size:g}")

    def _trip(self):
        self.blocked, self.flat_at = True, None
        for asked in self.asked.values():
            if asked.parent is None and asked.entering > EPS and asked.held <= EPS:
                self.breach("7 entry rests after a trip", f"{asked.side * asked.entering:g}")
            asked.opening = 0.0

    def _flat(self):
        held = any(share.size for share in self.shares.values())
        # What is cancelled at the trip is known to be gone on this bar, or on the next.
        self.unsure = self.unsure or self.leaving_bar
        return not held and not any(order.alive() for order in self.own.values())

    # -- the run is over -------------------------------------------------------------------------

    def finish(self):
        """Check what only the end shows."""
        for key, count in self.fills.items():
            if self.delivered[key] != count:
                text = f"order {self.name(key[0])}: {self.delivered[key]} of {count}"
                self.breach("6 a fill was not notified once", text)
        for ref in self._rejected() - self.native_rejects:
            early = self.asked[ref].bar < self.bar
            heard = self.delivered[ref, Order.Rejected]
            if heard > 1 or early and heard != 1:
                self.breach("6 a rejection was not notified once", f"{heard} times")
        self._check_end()

    def _check_end(self):
        ended = self.lengths == [len(table) for table in self.tables]
        if not self.blocked or self.policy["action"] == "pause":
            if not ended:
                self.breach("7 the run stopped without a trip", f"at bar {self.bar}")
            return
        if self.flat_at is None or not self.policy["flatten"]:
            return
        if any(abs(self.net(index)) > EPS for index in range(len(self.datas))):
            self.breach("7 not flat at the end", "positions are left")
        if self.bar > self.flat_at + self.unsure:
            self.breach("7 the run went on after the halt", f"{self.flat_at} -> {self.bar}")


# -- one run ---------------------------------------------------------------------------------------


def run(world, until=None):
    """Run a world, cut off after bar `until`; return the `Model` with its breaches and its log."""
    tables = rows(world)
    if until is not None:
        times = sorted({row[0] for table in tables for row in table.tolist()})[:until]
        tables = [table[table[:, 0] <= times[-1]] for table in tables]
    tape = Tape()
    tape.model = model = Model(world, tables, tape)
    cerebro = _cerebro(world, tables, tape, model)
    model.datas = cerebro.datas
    _protect(cerebro, world)
    cerebro.addanalyzer(_Witness, model=model)
    try:
        cerebro.run()
    except Exception as error:  # a crash is a finding like any other
        model.breach(f"0 {type(error).__name__}", str(error))
        return model
    model.finish()
    return model


class _Witness(bt.Analyzer):
    """Show the model the gate, whose journal is what bt_risk says of itself."""

    params = (("model", None),)

    def start(self):
        self.p.model.gate = self.strategy.broker


def _cerebro(world, tables, tape, model):
    cerebro = bt.Cerebro(stdstats=False, **dict(world.engine))
    cerebro.setbroker(tape)
    for index, (table, feed) in enumerate(zip(tables, world.feeds, strict=True)):
        cerebro.adddata(Rows(table=table), name=f"D{index}")
        costs = {"commission": world.commission}
        if feed.margin:
            costs = {"commission": 100 * world.commission, "margin": feed.margin, "mult": feed.mult}
        tape.setcommission(name=f"D{index}", **costs)
    tape.setcash(world.cash)
    if world.slippage:
        tape.set_slippage_perc(world.slippage)
    if world.filler:
        tape.set_filler(bt.fillers.FixedBarPerc(perc=world.filler))
    for who in range(world.traders):
        cerebro.addstrategy(Trader, who=who, world=world, model=model)
    return cerebro


def _protect(cerebro, world):
    policy = world.policy
    if not world.parts:
        bt_risk.protect(cerebro, bt_risk.Policy(**policy))
        return
    if "cap" in world.parts:
        names = "correlation_limit window min_periods exposure_limit exposure_unit atr_period"
        names += " atr_multiple"
        args = {name: policy[name] for name in names.split()}
        cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker, **args))
    if "stop" in world.parts:
        args = {name: policy[name] for name in ("atr_period", "atr_multiple", "anchor")}
        cerebro.addobserver(bt_risk.ATRTrailingStop, **args)
    if "breaker" in world.parts:
        names = ("drawdown_limit", "action", "flatten", "cooldown_bars")
        args = {name: policy[name] for name in names}
        cerebro.addanalyzer(bt_risk.DrawdownBreaker, **args)
    if "sizer" in world.parts:
        names = ("atr_period", "atr_multiple", "min_trades", "lookback")
        cerebro.addsizer(bt_risk.HalfKellySizer, **{name: policy[name] for name in names})


def check(world, causal=False):
    """Return the first breach of a world, or None; `causal` also compares with a run cut short."""
    model = run(world)
    if model.breaches or not causal:
        return (model.breaches or [None])[0]
    return foresight(world, model)


def foresight(world, whole):
    """Return a breach where what happened up to a bar depends on what came after it."""
    # Backtrader cannot run a data without a single bar: every one has begun before the cut.
    if whole.begun is None:
        return None
    until = random.Random(world.seed).randint(min(whole.begun + 1, whole.bar), whole.bar)
    cut = run(world, until)
    one = [line for line in whole.log if line[0] <= until]
    other = [line for line in cut.log if line[0] <= until]
    for a, b in zip(one + [None], other + [None], strict=False):
        if a != b:
            return Breach("5 the future changed the past", until, f"{a} became {b}")
    return None


# -- making worlds ---------------------------------------------------------------------------------


def make_world(seed):
    """Return the world of a seed."""
    rng = random.Random(seed)
    feeds = tuple(_make_feed(rng, index) for index in range(rng.choice([1, 1, 2, 2, 3])))
    parts = ()
    if rng.random() < 0.35:
        parts = tuple(sorted(rng.sample(COMPONENTS, rng.randint(1, 4))))
        if parts == ("sizer",):
            parts = ("cap", "sizer")
    world = World(
        seed,
        rng.randint(40, 80),
        feeds,
        rng.choice([1, 1, 1, 2]),
        parts,
        _make_limits(rng),
        rng.choice([CASH, CASH, CASH, 8_000.0]),
        rng.choice([0.0, 0.001]),
        rng.choice([0.0, 0.0, 0.001]),
        rng.choice([0.0, 0.0, 0.0, 3.0, 10.0]),
        _make_engine(rng),
    )
    if random.Random(-1 - seed).random() < 0.3 and all(f[:3] == (0.0, 1.0, 0.0) for f in feeds):
        # Backtrader itself fails with exactbars=1 where clocks differ.
        world = replace(world, engine=(("exactbars", 1),))
    return replace(world, actions=tuple(_make_actions(rng, world)))


def _make_feed(rng, index):
    start = rng.choice([0.0, 0.0, 0.15, 0.3]) if index else 0.0
    end = rng.choice([1.0, 1.0, 0.7])
    future = rng.random() < 0.12
    return Feed(
        start,
        end if index else 1.0,
        rng.choice([0.0, 0.0, 0.15]),
        0.0 if future else rng.choice([0.0, 0.0, 0.0, 0.05]),
        rng.choice([0.005, 0.01, 0.02, 0.03]),
        rng.choice([0.0, 0.0, 0.5, 0.97]),
        rng.choice([500.0, 2000.0]) if future else 0.0,
        10.0 if future else 1.0,
    )


def _make_limits(rng):
    limits = {
        "risk_limit": rng.choice([0.01, 0.01, 0.03]),
        "exposure_limit": rng.choice([0.05, 0.02, None]),
        "correlation_limit": rng.choice([0.7, 0.7, None]),
        "drawdown_limit": rng.choice([0.10, 0.03, 0.01]),
        "action": rng.choice(["stop", "pause"]),
        "anchor": rng.choice(["close", "close", "extreme"]),
    }
    if rng.random() < 0.2:
        limits |= {"exposure_unit": "notional", "exposure_limit": 0.6}
    if limits["action"] == "pause":
        limits["cooldown_bars"] = rng.choice([None, 3, 8])
        limits["flatten"] = rng.random() < 0.7
    return tuple(sorted(limits.items()))


def _make_engine(rng):
    options = {"runonce": rng.random() < 0.5}
    if rng.random() < 0.25:
        options["quicknotify"] = True
    if rng.random() < 0.2:
        options["preload"] = False
    return tuple(sorted(options.items()))


def _make_actions(rng, world):
    busy = rng.choice([0.25, 0.5, 0.9])
    scale = world.cash / CASH
    for bar in range(1, world.bars + 1):
        for who in range(world.traders):
            while rng.random() < busy:
                data = rng.randrange(len(world.feeds))
                verb = rng.choices(list(MAKERS), [weight for weight, _ in MAKERS.values()])[0]
                args = MAKERS[verb][1](rng, scale)
                yield Action(bar, who, verb, data, args)
                if rng.random() < 0.5:
                    break


def _size(rng, scale):
    kind = rng.random()
    if kind < 0.15:
        return None
    size = scale * math.exp(rng.uniform(math.log(5), math.log(3000)))
    return max(1, round(size)) if kind < 0.75 else round(size, 3)


def _off(rng, wide=0.06):
    return round(rng.uniform(0.001, wide), 4)


def _side(rng):
    return rng.choice([1, 1, -1])


def _exits(rng):
    return _off(rng), _off(rng), rng.random() < 0.4, rng.choice([1.0, 1.0, 0.5])


def _resting(rng, scale):
    kind = rng.choice(["Limit", "Limit", "Stop", "StopLimit", "StopTrail"])
    offset = round(rng.uniform(-0.05, 0.05), 4)
    return _side(rng), _size(rng, scale), kind, offset, rng.choice([None, None, 1, 4])


def _target(rng, scale):
    kind = rng.choice(["size", "value", "percent"])
    amount = {"size": 1000 * scale, "value": 100_000 * scale, "percent": 1.0}[kind]
    target = rng.choice([0, 0.2, 0.5, 1.2, -0.5]) * amount
    return kind, round(target) if kind == "size" else target


# How often, and how the arguments are drawn.
MAKERS = {
    "market": (
        20,
        lambda r, s: (_side(r), _size(r, s), _exits(r) if r.random() < 0.25 else None),
    ),
    "resting": (16, _resting),
    "planned": (3, lambda r, s: (_side(r), _size(r, s), _off(r))),
    "close": (9, lambda r, s: (r.choice([1.0, 1.0, 0.5, 0.3]),)),
    "exits": (9, lambda r, s: _exits(r)),
    "ladder": (3, lambda r, s: (_off(r, 0.1), _off(r, 0.1), r.choice([1.0, 0.5]))),
    "fork": (3, lambda r, s: (_size(r, s), _off(r, 0.03))),
    "scalp": (4, lambda r, s: (_side(r), _size(r, s), _off(r))),
    "reverse": (5, lambda r, s: (r.choice([2.0, 1.5]),)),
    "target": (8, _target),
    "bracket": (
        8,
        lambda r, s: (
            _side(r),
            _size(r, s),
            r.choice(["Market", "Limit"]),
            _off(r, 0.02),
            _off(r),
            _off(r),
            r.choice(["both", "both", "stop", "limit"]),
            r.choice([None, 2]),
        ),
    ),
    "family": (
        4,
        lambda r, s: (
            _side(r),
            _size(r, s),
            _off(r),
            _off(r),
            r.choice([1.0, 0.5, 1.5]),
            r.choice([0, 0, 50]),
        ),
    ),
    "cancel": (6, lambda r, s: (r.randrange(20),)),
}


# -- shrinking -------------------------------------------------------------------------------------


def shrink(world, promise, fails=None, budget=250):
    """Return the smallest world that was found to break the same promise."""
    fails = fails or _fails(promise)
    left = [budget]

    def bad(candidate):
        left[0] -= 1
        return left[0] >= 0 and fails(candidate)

    world = _shrink_actions(world, bad)
    for simpler in _simpler(world):
        candidate = simpler(world)
        if candidate is not None and candidate != world and bad(candidate):
            world = candidate
    return _shrink_actions(world, bad)


def _fails(promise):
    causal = promise.startswith("5")

    def fails(world):
        if causal:
            breach = check(world, causal=True)
            return breach is not None and breach.promise == promise
        return any(breach.promise == promise for breach in run(world).breaches)

    return fails


def _shrink_actions(world, bad):
    """Leave out runs of actions, halving their length (delta debugging)."""
    actions, step = list(world.actions), max(1, len(world.actions) // 2)
    while step:
        at = 0
        while at < len(actions):
            fewer = actions[:at] + actions[at + step :]
            if bad(replace(world, actions=tuple(fewer))):
                actions = fewer
            else:
                at += step
        step //= 2
    return replace(world, actions=tuple(actions))


def _simpler(world):
    """Ways to make a world plainer, one at a time."""
    yield lambda w: replace(w, engine=(("runonce", False),))
    yield lambda w: replace(w, filler=0.0)
    yield lambda w: replace(w, slippage=0.0, commission=0.0)
    yield lambda w: replace(w, cash=CASH)
    yield lambda w: replace(w, traders=1) if all(a.who == 0 for a in w.actions) else None
    for _ in range(2):
        yield _without_last_feed
    yield lambda w: replace(w, feeds=tuple(f._replace(gaps=0.0) for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(f._replace(nans=0.0) for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(f._replace(start=0.0, end=1.0) for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(f._replace(margin=0.0, mult=1.0) for f in w.feeds))
    for part in COMPONENTS:
        yield lambda w, part=part: _without_part(w, part)
    yield lambda w: replace(w, limits=())


def _without_last_feed(world):
    last = len(world.feeds) - 1
    if not last or any(a.data == last for a in world.actions):
        return None
    return replace(world, feeds=world.feeds[:-1])


def _without_part(world, part):
    parts = tuple(p for p in world.parts if p != part)
    return replace(world, parts=parts) if parts and parts != ("sizer",) else None


def report(world, breach):
    """Return what to print: the seed, the breach, and the smallest world that shows it."""
    small = shrink(world, breach.promise)
    again = check(small, causal=breach.promise.startswith("5"))
    actions = "".join(f"\n        {tuple(action)!r}," for action in small.actions)
    rest = replace(small, actions=())
    return (
        f"seed {world.seed} breaks: {breach.promise}\n  bar {breach.bar}: {breach.seen}\n"
        f"  shrunk from {len(world.actions)} to {len(small.actions)} actions: {again}\n"
        f"  check(replace({rest!r},\n"
        f"    actions=tuple(Action(*a) for a in ({actions}\n    ))))"
    )
