"""The walk of one data: bare, protected and meant position side by side, every cent on a label."""

import math
from typing import NamedTuple

from bt_risk.evidence.paper import Paper
from bt_risk.position import EPS

__all__ = ["BREAKER", "OTHER", "SIZES", "STOP", "Fill", "Walk", "Wish"]

STOP, BREAKER, SIZER = "ATRTrailingStop", "DrawdownBreaker", "HalfKellySizer"
SIZES, OTHER = "other sizes", "other orders"


class Fill(NamedTuple):
    """One execution: signed size, price, commission in currency, whether a stop of ours did it."""

    size: float
    price: float
    cost: float = 0.0
    stop: bool = False


class Wish(NamedTuple):
    """One order as it was asked for: units that it opens, and what was allowed of them."""

    side: int
    kind: str
    price: float
    opening: float
    allowed: float
    distance: float = math.nan
    rule: str = ""


class Walk:
    """Walk the bars of one data; afterwards `papers` and `rest` (by label) hold what came of it.

    Parameters
    ----------
    bars : list of Bar
    multiplier : float
        Currency of one point of price.
    stop_rule : StopRule or None
        How papers trail their stop; None: they have none.
    halts : list of (begin, end)
        When the breaker kept the account flat.
    ended : int or None
        Number of the last bar of a protected run that the breaker has ended; -1 before the first.
    """

    def __init__(self, bars, multiplier=1.0, stop_rule=None, halts=(), ended=None):
        self.bars, self.multiplier, self.stop_rule = bars, multiplier, stop_rule
        self.halts, self.ended = halts, ended
        self.papers, self.rest = [], {SIZES: 0.0, OTHER: 0.0}
        self._held, self._waiting = [], {}
        self._bare = self._real = 0.0
        self._mark, self._rate, self._over = math.nan, 0.0, False
        self._distance = {1: math.nan, -1: math.nan}
        self._unsized = set()

    def run(self, bare, real, wishes, rate=0.0):
        """Take the fills of both runs and the wishes by number of bar; `rate` is cost by notional.

        A wish belongs to the bar at whose close it was placed.
        """
        self._rate = rate
        self._over = self.ended == -1
        for k, bar in enumerate(self.bars):
            self._walk(bar, bare.get(k, ()), real.get(k, ()), wishes.get(k - 1, ()))
            if k == self.ended:
                self._end_real(bar)
        for paper in list(self._held):
            self._drop(paper, self.bars[-1], self._mark, "data")

    def _walk(self, bar, bare, real, wishes):
        """Take one bar: what goes at the open, what fills, and the stops; then the close."""
        label, spent = self._label(), self._spent()
        self._mark = bar.open if math.isnan(self._mark) else self._mark
        self._move(bar.open)
        self._take(wishes, bar)
        for fill in bare:
            self._fill_bare(fill, bar)
        for fill in sorted(real, key=lambda fill: fill.stop):
            self._fill_real(fill, bar)
        self._enter(bar, bare)
        self._stop_out(bar)
        self._move(bar.close)
        if self.stop_rule is not None:
            for paper in self._held:
                if not paper.after:
                    paper.trail(bar, self.stop_rule, paper.opened == bar.time)
        # Commissions of both runs that no paper has taken go where the difference of sizes went.
        left = sum(f.cost for f in bare) - sum(f.cost for f in real) - (self._spent() - spent)
        self.rest[SIZES if SIZES in (label, self._label()) else OTHER] += left

    # -- money -----------------------------------------------------------------------------------

    def _spent(self):
        return sum([paper.costs for paper in self.papers])

    def _meant(self):
        return self._real + sum([paper.side * paper.units for paper in self._held])

    def _label(self):
        """Return who answers for what the meant and the bare position differ by."""
        meant, side = self._meant(), _sign(self._bare)
        refused_by_sizer = abs(meant) <= EPS and side in self._unsized
        return SIZES if meant * self._bare > EPS or refused_by_sizer else OTHER

    def _move(self, price):
        """Let the price go to `price`, and everything that is held earn or lose by it."""
        point = (price - self._mark) * self.multiplier
        self._mark = price
        if not point:
            return
        for paper in self._held:
            paper.moved += paper.side * paper.units * point
        self.rest[self._label()] += (self._meant() - self._bare) * point

    # -- papers ----------------------------------------------------------------------------------

    def _open(self, rule, side, units, bar, price, cost, after=False):
        distance = self._distance[side]
        stop = math.nan if after or self.stop_rule is None else price - side * distance
        paper = Paper(rule, side, units, bar.time, price, distance, stop, after=after, costs=cost)
        paper.matched = self._bare * side > EPS
        self.papers.append(paper)
        self._held.append(paper)

    def _reduce(self, paper, units, bar, price, end, cost):
        """Take units off a paper at a price, for a cost that its result bears (or is spared)."""
        paper.units -= units
        paper.costs += cost
        if paper.units <= EPS:
            self._drop(paper, bar, price, end)

    def _drop(self, paper, bar, price, end):
        paper.closed, paper.exit, paper.end, paper.units = bar.time, price, end, 0.0
        self._held.remove(paper)

    def _papers(self, side, after):
        return [paper for paper in self._held if paper.side == side and paper.after == after]

    def _in_again(self, side, units, bar, price, cost):
        """End what our exits have closed: the strategy is in again, which costs it `cost` a unit.

        Without that exit it would not have had to pay for coming in again.
        """
        for paper in self._papers(side, after=True):
            paper.costs -= cost * min(paper.units, units)
            self._drop(paper, bar, price, "in again")

    # -- what happens ----------------------------------------------------------------------------

    def _take(self, wishes, bar):
        """Take in the orders of the close before."""
        for wish in wishes:
            for paper in [p for p in self._held if p.side == -wish.side and not p.matched]:
                cost = self._rate * bar.open * self.multiplier * paper.units
                self._reduce(paper, paper.units, bar, bar.open, "exit", cost)
            if wish.opening > EPS:
                self._distance[wish.side] = wish.distance
                self._unsized.discard(wish.side)
                self._waiting[wish.side] = wish
            elif wish.rule == SIZER:
                self._unsized.add(wish.side)

    def _fill_bare(self, fill, bar):
        self._move(fill.price)
        side, cost = _sign(self._bare), fill.cost / abs(fill.size)
        closed = min(abs(fill.size), abs(self._bare)) if fill.size * side < 0 else 0.0
        for paper in [p for p in self._held if closed and p.side == side]:
            units = paper.units * closed / abs(self._bare)
            self._reduce(paper, units, bar, fill.price, "exit", cost * units)
        self._bare = _settled(self._bare + fill.size)
        if not self._bare:
            self._unsized.discard(side)
        opened, side = abs(fill.size) - closed, _sign(fill.size)
        if opened <= EPS:
            return
        for paper in self._papers(side, False):
            paper.matched = True
        if self._over:  # nobody asks any more: all that the bare run does is missed or spared
            self._distance[side] = math.nan
            self._open(BREAKER, side, opened, bar, fill.price, cost * opened, after=True)

    def _fill_real(self, fill, bar):
        self._move(fill.price)
        side, cost = _sign(self._real), fill.cost / abs(fill.size)
        closed = min(abs(fill.size), abs(self._real)) if fill.size * side < 0 else 0.0
        self._real = _settled(self._real + fill.size)
        if closed and self._bare * side > EPS:
            rule = STOP if fill.stop else BREAKER if self._halted(bar) else None
            if rule:
                self._open(rule, side, closed, bar, fill.price, -cost * closed, after=True)
        opened, side = abs(fill.size) - closed, _sign(fill.size)
        if opened > EPS:
            self._in_again(side, opened, bar, fill.price, cost)
            for paper in self._papers(side, False):  # what was cut before has come in after all
                units = min(paper.units, opened)
                opened -= units
                self._reduce(paper, units, bar, fill.price, "in again", -cost * units)

    def _halted(self, bar):
        return any(begin < bar.time <= end for begin, end in self.halts)

    def _enter(self, bar, bare):
        """Fill what was refused or cut, as it would have been."""
        for side, wish in list(self._waiting.items()):
            price, cost = self._entry(wish, bar, bare)
            if price is None:
                continue
            del self._waiting[side]
            known = sum([paper.units for paper in self._papers(side, False)])
            units = wish.opening - wish.allowed - known
            if units > EPS:
                self._move(price)
                self._in_again(side, units, bar, price, cost)
                self._open(wish.rule, side, units, bar, price, cost * units)

    def _entry(self, wish, bar, bare):
        """Return price and cost per unit that a wish fills at on this bar, price None if not."""
        same = [f for f in bare if f.size * wish.side > 0 and self._bare * wish.side > EPS]
        if same:
            size = sum([abs(f.size) for f in same])
            price = sum([f.price * abs(f.size) for f in same]) / size
            return price, sum([f.cost for f in same]) / size
        price = _reached(wish, bar)
        return price, (self._rate * price * self.multiplier if price else 0.0)

    def _stop_out(self, bar):
        """Let the stops of papers work, those of this bar's entries excepted."""
        if self.stop_rule is None:
            return
        for paper in [p for p in self._held if not p.after and p.opened != bar.time]:
            price = paper.hit(bar, self.stop_rule)
            if price is not None:
                self._stop(paper, bar, price)

    def _stop(self, paper, bar, price):
        self._move(price)
        units = paper.units
        cost = self._rate * price * self.multiplier * units
        self._reduce(paper, units, bar, price, "stop", cost)
        if paper.matched:
            self._distance[paper.side] = paper.distance
            self._open(STOP, paper.side, units, bar, price, -cost, after=True)

    def _end_real(self, bar):
        """End the protected run: what it still held goes on like what the breaker closed."""
        side, units = _sign(self._real), abs(self._real)
        self._real, self._over = 0.0, True
        self._waiting.clear()
        if units and self._bare * side > EPS:
            self._open(BREAKER, side, units, bar, bar.close, 0.0, after=True)


def _reached(wish, bar):
    """Return the price that an order fills at on a bar: the open, or its own price if reached."""
    if wish.kind == "market":
        return bar.open
    inside = wish.kind == "limit"
    if (wish.side > 0) == inside:  # buys at a price or below, or sells short through it
        reached, price = bar.low <= wish.price, min(bar.open, wish.price)
    else:
        reached, price = bar.high >= wish.price, max(bar.open, wish.price)
    return price if reached else None


def _sign(value):
    return (value > EPS) - (value < -EPS)


def _settled(size):
    return 0.0 if abs(size) <= EPS else size
