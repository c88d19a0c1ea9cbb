"""Small runs of the real engine: a few bars at a few prices, and scripts of any kinds of orders.

One Cerebro plays many worlds side by side: each has a data feed of its own, so that they share
nothing but the cash, of which there is plenty. `play` returns a `Played` for each of them.
"""

import datetime
import itertools
from dataclasses import dataclass, field, replace

import backtrader as bt

from bt_risk import Limit
from bt_risk.limits.base import Decision
from bt_risk.portfolio.reachable import entering
from bt_risk.tolerances import SIZE_EPS

LOW, MID, HIGH = LEVELS = (9.0, 10.0, 11.0)
KINDS = {
    "market": bt.Order.Market,
    "close": bt.Order.Close,
    "limit": bt.Order.Limit,
    "stop": bt.Order.Stop,
    "stop limit": bt.Order.StopLimit,
    "trail": bt.Order.StopTrail,
}
# Every bar that has its four prices at these levels, and every path of two of them.
BARS = [
    (open_, high, low, close)
    for open_, high, low, close in itertools.product(LEVELS, repeat=4)
    if low <= min(open_, close) and max(open_, close) <= high
]
PATHS = list(itertools.product(BARS, repeat=2))
START = [(MID, MID, MID, MID)] * 2
END = [(MID, HIGH, LOW, MID), (MID, MID, MID, MID)]


class Units(Limit):
    """Allow so many units on each side of every instrument, without regard to prices."""

    def __init__(self, most):
        self.most = most

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        used = 0.0
        for part in request.instrument.parts:
            if part.size * request.side > 0.0:
                used += max(0.0, abs(part.size) - book.leaving.get(part, 0.0))
            used += entering(part, request.side)
        free = max(0.0, self.most - used)
        if request.size <= free + SIZE_EPS:
            return Decision(request.size)
        return Decision(free, f"Units: {used + request.size:g} > {self.most:g}", "Units")


class Path(bt.feed.DataBase):
    """Feed the bars of `rows`, one a day."""

    params = {"rows": ()}

    def start(self):
        super().start()
        self._left = iter(self.p.rows)
        self._day = datetime.datetime(2020, 1, 1)

    def _load(self):
        row = next(self._left, None)
        if row is None:
            return False
        for line, price in zip(("open", "high", "low", "close"), row, strict=True):
            getattr(self.lines, line)[0] = price
        self.lines.volume[0] = 100.0
        self.lines.datetime[0] = bt.date2num(self._day)
        self._day += datetime.timedelta(days=1)
        return True


@dataclass
class Step:
    """One step of a script: an order, a bracket, ``close()`` or a cancel.

    `does` is "buy", "sell", "bracket" (of `side`), "close", "cancel" or "reprice"; `other` is the
    number of the step whose order it joins, cancels, or sends again at `price` while it works. An
    exit that is sent again has no more units than are held.
    """

    bar: int
    does: str
    size: float = 0.0
    kind: str = "market"
    price: float = MID
    other: int | None = None
    expires: bool = False
    exits: bool = False
    side: int = 1


@dataclass
class Played:
    """What one script did on one path: positions after each fill, and how its orders ended.

    `held` is what the script has bought less what it has sold, `account` the same of all scripts on
    this data feed.
    """

    script: list
    path: tuple
    held: list = field(default_factory=lambda: [0.0])
    account: list = ()
    log: list = field(default_factory=list)
    orders: dict = field(default_factory=dict)
    cancelled: set = field(default_factory=set)
    families: list = field(default_factory=list)
    reasons: list = field(default_factory=list)

    def __str__(self):
        steps = "; ".join(
            " ".join(f"{k}={v}" for k, v in vars(step).items() if v not in (None, False))
            for step in self.script
        )
        return f"{steps} | {self.path} | held {self.held} | {self.log}"


class Player(bt.Strategy):
    """Play one script on every data feed; `accounts` collects the positions of all players."""

    params = {"scripts": (), "accounts": None}

    def __init__(self):
        scripts = zip(self.datas, self.p.scripts, strict=True)
        self.played = {data: Played(*script) for data, script in scripts}
        self.sent = {d: {} for d in self.datas}
        self.filled, self.first = {}, None

    def next(self):
        for data, played in self.played.items():
            for number, step in enumerate(played.script):
                if step.bar == len(self):
                    self.step(data, number, step)

    def step(self, data, number, step):
        sent, played = self.sent[data], self.played[data]
        other = sent.get(step.other)
        if step.does in ("cancel", "reprice"):
            if other is None or not other.alive():
                return
            self.cancel(other)
            played.cancelled.add(other.ref)
            again = played.script[step.other]
            size = self.exiting(data, again.size) if again.exits else again.size
            if step.does == "reprice" and size:
                again = replace(again, size=size, price=step.price, bar=step.bar)
                sent[number] = self.order(data, again, None)
        elif step.does == "close":
            sent[number] = self.close(data)
        elif step.does == "bracket":
            make = self.buy_bracket if step.side > 0 else self.sell_bracket
            stop, limit = (LOW, HIGH) if step.side > 0 else (HIGH, LOW)
            family = make(
                data=data,
                size=step.size,
                exectype=KINDS[step.kind],
                price=step.price,
                stopprice=stop,
                limitprice=limit,
            )
            played.families.append({order.ref for order in family})
            sent[number] = family[0]
        elif step.does in ("buy", "sell") and not self.sold(data, step):
            sent[number] = self.order(data, step, other)
            if other is not None and sent[number] is not None:
                played.families.append({other.ref, sent[number].ref})

    def exiting(self, data, size):
        """Return as much of the size of an exit as is held."""
        return min(size, abs(self.getposition(data).size))

    def sold(self, data, step):
        """Return whether a market exit would sell what is not held, or is sold already."""
        if not step.exits or step.kind != "market":
            return False
        working = [o for o in self.sent[data].values() if o is not None and o.alive()]
        going = any(o.exectype == bt.Order.Market and not o.isbuy() for o in working)
        return going or self.exiting(data, step.size) < step.size

    def order(self, data, step, other):
        price, extra = step.price, {}
        if step.expires:
            extra["valid"] = datetime.timedelta(days=1)
        if step.kind == "stop limit":
            extra["plimit"] = price
        elif step.kind == "trail":
            extra["trailamount"] = 1.0
        if step.kind in ("market", "close", "trail"):
            price = None
        extra |= {"price": price, "exectype": KINDS[step.kind], "oco": other}
        return getattr(self, step.does)(data, size=step.size, **extra)

    def notify_order(self, order):
        played = self.played[order.data]
        self.first = self.first or order.ref
        new = order.executed.size - self.filled.get(order.ref, 0.0)
        self.filled[order.ref] = order.executed.size
        if new:
            played.held.append(played.held[-1] + new)
            account = self.p.accounts[order.data._name]
            account.append(account[-1] + new)
        status, done = order.getstatusname(), order.executed
        played.log.append((len(self), order.ref, status, order.size, done.size, done.price))
        played.orders[order.ref] = order


def play(scripts, wrap=None, filler=None, owners=1):
    """Return the `Played` of every owner of every world.

    `scripts` holds ``(script, path)`` for each world and owner, `wrap` makes a broker of a broker.
    """
    engine = bt.Cerebro(stdstats=False)
    for number, (_, path) in enumerate(scripts[::owners]):
        engine.adddata(Path(rows=(*START, *path, *END)), name=f"world {number}")
    engine.broker.setcash(1e9)
    if filler is not None:
        engine.broker.set_filler(filler)
    gate = wrap(engine.broker) if wrap is not None else None
    if gate is not None:
        engine.setbroker(gate)
    accounts = {data._name: [0.0] for data in engine.datas}
    for owner in range(owners):
        engine.addstrategy(Player, scripts=scripts[owner::owners], accounts=accounts)
    players = engine.run()
    first = min(player.first for player in players if player.first is not None)
    worlds = []
    for player in players:
        for data, played in player.played.items():
            played.account = accounts[data._name]
            played.log = [(bar, ref - first, *rest) for bar, ref, *rest in played.log]
            if gate is not None:
                lines = gate.journal.lines
                played.reasons = [line for line in lines if line[1] == data._name and line[-1]]
            worlds.append(played)
    return worlds
