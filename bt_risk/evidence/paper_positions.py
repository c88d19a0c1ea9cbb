"""Bare, protected and intended position of one data feed, and what each price change brings them.

The intended position is what the protected strategy would hold, had no rule acted: the protected
position and all paper trades.
"""

import math
from collections.abc import Mapping

from bt_risk.evidence.paper_cash import TradingCosts
from bt_risk.evidence.paper_trade import Bar, PaperStop, PaperTrade
from bt_risk.report.labels import COMPOUNDING, DIFFERENCES, KNOCK_ON, SIZER_SIZES
from bt_risk.tolerances import SIZE_EPS

__all__ = ["PaperPositions", "sign_of"]


class PaperPositions:
    """Keep paper trades beside the two real positions, and book every cent that they differ by.

    Attributes
    ----------
    paper_trades, held : list of PaperTrade
        All of them, and those that still hold units.
    differences : dict of str to float
        Currency that the intended position earned more than the bare one, by `DIFFERENCES`.
    sizer_units, compounded : float
        Signed units by which the intended position differs from a bare one on the same side because
        our sizer proposed another size, and because the account is larger or smaller.
    bare, protected : float
        Signed units that each run holds.
    price : float
        The newest price; NaN before the first bar.
    distance : dict of int to float
        Price distance of the stop of the newest order, by side.
    unsized : set of int
        Sides whose order our sizer refused.
    sized : dict of int to bool
        Whether our sizer proposed the size of the newest order, by side.
    """

    def __init__(self, trading_costs: TradingCosts, stop_rule: PaperStop | None) -> None:
        self.trading_costs, self.stop_rule = trading_costs, stop_rule
        self.paper_trades: list[PaperTrade] = []
        self.held: list[PaperTrade] = []
        self.differences = dict.fromkeys(DIFFERENCES, 0.0)
        self.sizer_units = self.compounded = 0.0
        self.bare = self.protected = 0.0
        self.price = math.nan
        self.distance = {1: math.nan, -1: math.nan}
        self.unsized: set[int] = set()
        self.sized = {1: False, -1: False}
        self._commission: float | None = 0.0

    def intended(self) -> float:
        """Return the signed units of the intended position."""
        return self.protected + sum([trade.side * trade.units for trade in self.held])

    def gaps(self) -> dict[str, float]:
        """Return the units by which the intended position differs from the bare one, by reason."""
        intended = self.intended()
        gap = intended - self.bare
        if abs(intended) <= SIZE_EPS and sign_of(self.bare) in self.unsized:
            return {SIZER_SIZES: gap}
        if not intended * self.bare > SIZE_EPS:
            return {KNOCK_ON: gap}
        rest = gap - self.sizer_units - self.compounded
        return {SIZER_SIZES: self.sizer_units, COMPOUNDING: self.compounded, KNOCK_ON: rest}

    def explain_sizes(self, bare: float, intended: float, growth: float) -> None:
        """Divide what intended and bare position differ by, after the fills of one bar.

        Parameters
        ----------
        bare, intended : float
            Both positions before these fills.
        growth : float
            Equity of the protected run divided by that of the bare one, when the orders of these
            fills were placed.

        Notes
        -----
        A size that our sizer proposed grows with equity: of the units, ``units / growth - bare``
        are its own, and the rest comes of compounding. Any other size compounds as far as that
        explains the difference from the bare one.
        """
        now, side = self.intended(), sign_of(self.bare)
        if not now * self.bare > SIZE_EPS:
            self.sizer_units = self.compounded = 0.0
            return
        if bare * side > SIZE_EPS and intended * side > SIZE_EPS:
            left = min(1.0, self.bare / bare)  # exits of the bare run
            self.sizer_units, self.compounded = self.sizer_units * left, self.compounded * left
        else:
            self.sizer_units = self.compounded = bare = intended = 0.0
        added, units = abs(self.bare) - abs(bare), abs(now) - abs(intended)
        gap = units - added
        if min(added, units) <= SIZE_EPS or abs(gap) <= SIZE_EPS:
            return
        if self.sized[side]:
            compounded = units - units / growth
            self.sizer_units += side * (gap - compounded)
        else:
            low, high = sorted((0.0, gap))
            compounded = min(max(added * (growth - 1.0), low), high)
        self.compounded += side * compounded

    def book(self, amount: float, gaps: Mapping[str, float]) -> None:
        """Book an amount that no paper trade explains, by shares of the units of a difference."""
        total, rest = sum(map(abs, gaps.values())), amount
        for reason in (SIZER_SIZES, COMPOUNDING) if total else ():
            part = amount * abs(gaps.get(reason, 0.0)) / total
            self.differences[reason] += part
            rest -= part
        self.differences[KNOCK_ON] += rest

    def move(self, price: float) -> None:
        """Move the price, and book what every position gains or loses by it."""
        points = (price - self.price) * self.trading_costs.multiplier
        self.price = price
        if not points:
            return
        for trade in self.held:
            trade.moved += trade.side * trade.units * points
        for reason, units in self.gaps().items():
            self.differences[reason] += units * points

    def commission(self) -> float:
        """Return the commission that all paper trades bear."""
        if self._commission is None:
            self._commission = sum([trade.costs for trade in self.paper_trades])
        return self._commission

    def cash(self) -> float:
        """Return what all paper trades together do to the cash of an account that holds them."""
        costs = self.trading_costs
        return sum([trade.cash_effect(self.price, costs) for trade in self.paper_trades])

    # -- paper trades ----------------------------------------------------------------------------

    def held_on(self, side: int, follows_exit: bool) -> list[PaperTrade]:
        """Return the paper trades of one side that follow an exit of ours, or those that do not."""
        return [t for t in self.held if t.side == side and t.follows_exit == follows_exit]

    def open(
        self,
        rule: str,
        side: int,
        units: float,
        bar: Bar,
        price: float,
        cost: float,
        batch: float = math.nan,
    ) -> None:
        """Open a paper trade of what a rule refused or cut, with the stop it was judged with."""
        distance = self.distance[side]
        stop = math.nan if self.stop_rule is None else price - side * distance
        self._add(PaperTrade(rule, side, units, bar.time, price, distance, stop, batch=batch), cost)

    def follow_exit(
        self, rule: str, side: int, units: float, bar: Bar, price: float, cost: float
    ) -> None:
        """Open a paper trade of what a rule has closed; it continues without a stop."""
        distance = self.distance[side]
        trade = PaperTrade(rule, side, units, bar.time, price, distance, batch=bar.number)
        trade.follows_exit = True
        self._add(trade, cost)

    def _add(self, trade: PaperTrade, cost: float) -> None:
        trade.costs, self._commission = cost, None
        trade.matched = self.bare * trade.side > SIZE_EPS
        self.paper_trades.append(trade)
        self.held.append(trade)

    def reduce(
        self, trade: PaperTrade, units: float, bar: Bar, price: float, end: str, cost: float
    ) -> None:
        """Close units of a paper trade at a price; the trade bears the cost (or is spared it)."""
        trade.units -= units
        trade.costs, self._commission = trade.costs + cost, None
        if trade.units <= SIZE_EPS:
            self.close(trade, bar, price, end)

    def close(self, trade: PaperTrade, bar: Bar, price: float, end: str) -> None:
        """Close what is left of a paper trade."""
        trade.closed, trade.exit, trade.end, trade.units = bar.time, price, end, 0.0
        self.held.remove(trade)

    def reenter(
        self,
        side: int,
        units: float,
        bar: Bar,
        price: float,
        cost: float,
        placed: float = math.nan,
    ) -> None:
        """Close the paper trades that follow our exits: the strategy has re-entered.

        Re-entering costs `cost` a unit, which the strategy would not have paid without that exit.
        An order that was `placed` before the exit was meant to add to the position.
        """
        trades = self.held_on(side, follows_exit=True)
        for trade in [t for t in trades if not t.batch > placed]:
            trade.costs, self._commission = trade.costs - cost * min(trade.units, units), None
            self.close(trade, bar, price, "re-entered")


def sign_of(size: float) -> int:
    """Return +1 for a long position, -1 for a short one, 0 for none."""
    return (size > SIZE_EPS) - (size < -SIZE_EPS)
