"""The walk of one data: bare, protected and meant position side by side, every cent on a label."""

import math
from typing import NamedTuple

from bt_risk.evidence.paper_broker import PaperBroker, PaperOrder
from bt_risk.evidence.paper_cash import TradingCosts
from bt_risk.evidence.paper_trade import PaperTrade
from bt_risk.tolerances import SIZE_EPS

__all__ = ["BREAKER", "OTHER", "SIZES", "STOP", "Fill", "Counterfactual"]

STOP, BREAKER, SIZER = "ATRTrailingStop", "DrawdownBreaker", "HalfKellySizer"
SIZES, OTHER = "other sizes", "other orders"


class Fill(NamedTuple):
    """One execution: signed size, price, commission in currency, whether a stop of ours did it."""

    size: float
    price: float
    cost: float = 0.0
    stop: bool = False


class Counterfactual:
    """Walk the bars of one data; afterwards `papers` and `rest` (by label) hold what came of it.

    Parameters
    ----------
    bars : list of Bar
    terms : Terms
        What the data costs.
    stop_rule : StopRule or None
        How papers trail their stop; None: they have none.
    halts : list of (begin, end)
        When the breaker kept the account flat.
    ended : int or None
        Number of the last bar of a protected run that the breaker has ended; -1 before the first.
    venue : PaperVenue, optional
        Where papers trade; one without slippage when left out.
    account : Account, optional
        What pays for them; there is no end of cash when left out.
    """

    def __init__(
        self,
        bars,
        terms=None,
        stop_rule=None,
        halts=(),
        ended=None,
        venue=None,
        account=None,
    ):
        self.bars, self.stop_rule = bars, stop_rule
        self.terms = TradingCosts() if terms is None else terms
        self.halts, self.ended = halts, ended
        self.venue = PaperBroker() if venue is None else venue
        self.account = account
        self.papers, self.rest = [], {SIZES: 0.0, OTHER: 0.0}
        self._held, self._waiting = [], []
        self._bare = self._real = 0.0
        self._mark, self._rate, self._over = math.nan, 0.0, ended == -1
        self._distance = {1: math.nan, -1: math.nan}
        self._unsized, self._paid = set(), {1: 0.0, -1: 0.0}

    def run(self, *events, **more):
        """Take all that happens, see `load`, and walk from the first bar to the last."""
        self.load(*events, **more)
        for k in range(len(self.bars)):
            self.step(k)
        self.finish()

    def load(self, bare, real, wishes, rate=0.0, over=None):
        """Take the fills of both runs and the wishes by number of bar; `rate` is cost by notional.

        A wish belongs to the bar at whose close it was placed. `over` are the numbers of orders
        that have ended, by the bar from which on they are no more.
        """
        self._events, self._rate = (bare, real, wishes, over or {}), rate

    def step(self, k):
        """Walk one bar; every data of a bar is walked before any of the next."""
        bare, real, wishes, over = self._events
        bar = self.bars[k]
        ended = over.get(k, ())
        self._waiting = [order for order in self._waiting if order.wish.number not in ended]
        self._walk(bar, bare.get(k, ()), real.get(k, ()), wishes.get(k - 1, ()))
        if k == self.ended:
            self._end_real(bar)

    def finish(self):
        """Mark what is still held at the last close."""
        for paper in list(self._held):
            self._drop(paper, self.bars[-1], self._mark, "data")

    def _walk(self, bar, bare, real, wishes):
        """Take one bar: what goes at the open, what fills, and the stops; then the close."""
        label, spent = self._label(), self._spent()
        self._mark = bar.open if math.isnan(self._mark) else self._mark
        self._paid = {1: 0.0, -1: 0.0}
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

    def paper_cash(self):
        """Return what all papers together have done to the cash of an account that held them."""
        return sum([paper.cash(self._mark, self.terms) for paper in self.papers])

    def _meant(self):
        return self._real + sum([paper.side * paper.units for paper in self._held])

    def _label(self):
        """Return who answers for what the meant and the bare position differ by."""
        meant, side = self._meant(), _sign(self._bare)
        refused_by_sizer = abs(meant) <= SIZE_EPS and side in self._unsized
        return SIZES if meant * self._bare > SIZE_EPS or refused_by_sizer else OTHER

    def _move(self, price):
        """Let the price go to `price`, and everything that is held earn or lose by it."""
        point = (price - self._mark) * self.terms.multiplier
        self._mark = price
        if not point:
            return
        for paper in self._held:
            paper.moved += paper.side * paper.units * point
        self.rest[self._label()] += (self._meant() - self._bare) * point

    # -- papers ----------------------------------------------------------------------------------

    def _cost(self, price, units=1.0):
        """Return the commission that no run tells: the usual share of notional."""
        return self._rate * price * self.terms.multiplier * units

    def _open(self, rule, side, units, bar, price, cost, after=False, batch=math.nan):
        distance = self._distance[side]
        stop = math.nan if after or self.stop_rule is None else price - side * distance
        paper = PaperTrade(
            rule, side, units, bar.time, price, distance, stop, after=after, costs=cost
        )
        paper.batch = bar.number if after else batch
        paper.matched = self._bare * side > SIZE_EPS
        self.papers.append(paper)
        self._held.append(paper)

    def _reduce(self, paper, units, bar, price, end, cost):
        """Take units off a paper at a price, for a cost that its result bears (or is spared)."""
        paper.units -= units
        paper.costs += cost
        if paper.units <= SIZE_EPS:
            self._drop(paper, bar, price, end)

    def _drop(self, paper, bar, price, end):
        paper.closed, paper.exit, paper.end, paper.units = bar.time, price, end, 0.0
        self._held.remove(paper)

    def _papers(self, side, after):
        return [paper for paper in self._held if paper.side == side and paper.after == after]

    def _in_again(self, side, units, bar, price, cost, placed=math.nan):
        """End what our exits have closed: the strategy is in again, which costs it `cost` a unit.

        Without that exit it would not have had to pay for coming in again. What was `placed`
        before the exit was meant to come on top of what was held.
        """
        papers = self._papers(side, after=True)
        for paper in [p for p in papers if not p.batch > placed]:
            paper.costs -= cost * min(paper.units, units)
            self._drop(paper, bar, price, "in again")

    # -- what happens ----------------------------------------------------------------------------

    def _take(self, wishes, bar):
        """Take in the orders of the close before, and what became of older ones."""
        for wish in wishes:
            if not wish.again:
                self._leave(-wish.side, bar)
            if wish.opening > SIZE_EPS:
                self._distance[wish.side] = wish.distance
                self._unsized.discard(wish.side)
                self._replace(wish)
                if wish.opening - wish.allowed > SIZE_EPS:
                    self._waiting.append(PaperOrder(wish))
            elif wish.rule == SIZER:
                self._unsized.add(wish.side)

    def _leave(self, side, bar):
        """Let what the bare run does not hold leave with the strategy's order against it."""
        for paper in [p for p in self._held if p.side == side and not p.matched]:
            price = self.venue.market(-side, bar)
            if price is not None:
                self._move(price)
                self._reduce(paper, paper.units, bar, price, "exit", self._cost(price, paper.units))

    def _replace(self, wish):
        """Forget what the strategy believes to be refused, and asks for again."""
        if wish.again:
            for order in self._waiting:
                order.resting &= order.wish.number != wish.number
            return
        self._waiting = [
            order
            for order in self._waiting
            if order.wish.side != wish.side or order.resting or order.wish.batch == wish.batch
        ]

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
        if opened <= SIZE_EPS:
            return
        self._paid[side] += opened
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
        if closed and self._bare * side > SIZE_EPS:
            rule = STOP if fill.stop else BREAKER if self._halted(bar) else None
            if rule:
                self._open(rule, side, closed, bar, fill.price, -cost * closed, after=True)
        opened, side = abs(fill.size) - closed, _sign(fill.size)
        if opened > SIZE_EPS:
            self._paid[side] -= opened
            self._in_again(side, opened, bar, fill.price, cost)
            for paper in self._papers(side, False):  # what was cut before has come in after all
                units = min(paper.units, opened)
                opened -= units
                self._reduce(paper, units, bar, fill.price, "in again", -cost * units)

    def _halted(self, bar):
        return any(begin < bar.time <= end for begin, end in self.halts)

    def _enter(self, bar, bare):
        """Fill what was refused or cut, as it would have been."""
        for order in list(self._waiting):
            if order not in self._waiting:  # another of its group has filled
                continue
            if order.expired(bar):
                self._waiting.remove(order)
                continue
            price, cost = self._entry(order, bar, bare)
            if price is not None:
                group = order.wish.group
                self._waiting.remove(order)
                self._waiting = [o for o in self._waiting if group < 0 or o.wish.group != group]
                self._fill_paper(order, bar, price, cost)

    def _fill_paper(self, order, bar, price, cost):
        """Open a paper of what is not held on paper already, as far as cash does."""
        wish, side = order.wish, order.wish.side
        known = sum([p.units for p in self._papers(side, False) if p.batch != wish.batch])
        units = order.units - known
        if units > SIZE_EPS and self.account is not None:
            units = self._payable(wish, units, price, cost, bar)
        if units > SIZE_EPS:
            self._move(price)
            self._in_again(side, units, bar, price, cost, wish.batch)
            self._distance[side] = wish.distance
            self._open(wish.rule, side, units, bar, price, cost * units, batch=wish.batch)

    def _payable(self, wish, units, price, cost, bar):
        sure = max(0.0, self._paid[wish.side])
        payable = self.account.payable(self.terms, wish, units, price, cost, bar.time, sure)
        self._paid[wish.side] -= min(sure, payable)
        return payable

    def _entry(self, order, bar, bare):
        """Return price and cost per unit that an order fills at on this bar, price None if not.

        The bare run knows both of an order at the market. A price of its own an order has to reach.
        """
        side = order.wish.side
        same = [f for f in bare if f.size * side > 0 and self._bare * side > SIZE_EPS]
        price = self.venue.fill(order, bar)
        if not same:
            return price, (self._cost(price) if price else 0.0)
        size = sum([abs(f.size) for f in same])
        if order.wish.kind == "market" and price not in [f.price for f in same]:
            price = sum([f.price * abs(f.size) for f in same]) / size
        return price, sum([f.cost for f in same]) / size

    def _stop_out(self, bar):
        """Let the stops of papers work, those of this bar's entries excepted."""
        if self.stop_rule is None:
            return
        for paper in [p for p in self._held if not p.after and p.opened != bar.time]:
            price = paper.hit(bar, self.stop_rule, self.venue)
            if price is not None:
                self._stop(paper, bar, price)

    def _stop(self, paper, bar, price):
        self._move(price)
        units = paper.units
        cost = self._cost(price, units)
        self._reduce(paper, units, bar, price, "stop", cost)
        if paper.matched:
            self._distance[paper.side] = paper.distance
            self._open(STOP, paper.side, units, bar, price, -cost, after=True)

    def _end_real(self, bar):
        """End the protected run: what it still held goes on like what the breaker closed."""
        side, units = _sign(self._real), abs(self._real)
        self._real, self._over = 0.0, True
        self._waiting.clear()
        if units and self._bare * side > SIZE_EPS:
            self._open(BREAKER, side, units, bar, bar.close, 0.0, after=True)


def _sign(value):
    return (value > SIZE_EPS) - (value < -SIZE_EPS)


def _settled(size):
    return 0.0 if abs(size) <= SIZE_EPS else size
