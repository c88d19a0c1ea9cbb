"""The counterfactual of one data feed: what was refused, cut or closed is replayed bar by bar."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from bt_risk.evidence.paper_broker import PaperBroker, PaperOrder, RequestedOrder
from bt_risk.evidence.paper_cash import PaperCash, TradingCosts
from bt_risk.evidence.paper_positions import PaperPositions, sign_of
from bt_risk.evidence.paper_trade import Bar, PaperStop, PaperTrade
from bt_risk.tolerances import SIZE_EPS

__all__ = ["Counterfactual", "Fill"]

STOP, BREAKER, SIZER = "ATRTrailingStop", "DrawdownBreaker", "HalfKellySizer"
GRID = 50  # resting orders that were requested again and are still followed


class Fill(NamedTuple):
    """One execution of a real run.

    Attributes
    ----------
    size, price : float
        The size is signed.
    cost : float
        Commission in currency.
    stop : bool
        Whether `bt_risk.ATRTrailingStop` sent the order.
    """

    size: float
    price: float
    cost: float = 0.0
    stop: bool = False


class Counterfactual:
    """Replay the bars of one data feed; `paper_trades` and `differences` hold the results.

    Parameters
    ----------
    bars : list of Bar
    trading_costs : TradingCosts, optional
    stop_rule : PaperStop, optional
        How paper trades trail their stop; without it they have none.
    halts : list of (begin, end, rule)
        The times between which a rule allowed no position: the breaker, or a loss floor.
    ended_at : int, optional
        Number of the last bar of a protected run that a halt has ended; -1 before the first.
    broker : PaperBroker, optional
        The broker that fills shadow orders; one without slippage when left out.
    cash : PaperCash, optional
        The cash that pays for paper trades; unlimited when left out.
    growth : list of float, optional
        Equity of the protected run divided by that of the bare one, at the close of each bar.
    """

    def __init__(
        self,
        bars: Sequence[Bar],
        trading_costs: TradingCosts | None = None,
        stop_rule: PaperStop | None = None,
        halts: Sequence[tuple[pd.Timestamp, pd.Timestamp, str]] = (),
        ended_at: int | None = None,
        broker: PaperBroker | None = None,
        cash: PaperCash | None = None,
        growth: Sequence[float] = (),
    ) -> None:
        self.bars, self.stop_rule = bars, stop_rule
        self.trading_costs = TradingCosts() if trading_costs is None else trading_costs
        self.halts, self.ended_at = halts, ended_at
        self.broker = PaperBroker() if broker is None else broker
        self.cash, self.growth = cash, growth
        self.positions = PaperPositions(self.trading_costs, stop_rule)
        self._pending: list[PaperOrder] = []
        self._superseded: list[PaperOrder] = []
        self._commission_rate, self._ended = 0.0, ended_at == -1
        self._growth = 1.0  # at the close before, when the orders of a bar were placed
        self._bare_only = {1: 0.0, -1: 0.0}  # units by side that only the bare run bought

    @property
    def paper_trades(self) -> list[PaperTrade]:
        """All paper trades of the data feed, in the order in which they were opened."""
        return self.positions.paper_trades

    @property
    def differences(self) -> dict[str, float]:
        """Currency that no paper trade explains, by `bt_risk.report.labels.DIFFERENCES`."""
        return self.positions.differences

    def run(
        self,
        bare: Mapping[int, Sequence[Fill]],
        protected: Mapping[int, Sequence[Fill]],
        requested: Mapping[int, Sequence[RequestedOrder]],
    ) -> None:
        """Load all events, see `load`, and replay every bar from the first to the last."""
        self.load(bare, protected, requested)
        for k in range(len(self.bars)):
            self.step(k)
        self.finish()

    def load(
        self,
        bare: Mapping[int, Sequence[Fill]],
        protected: Mapping[int, Sequence[Fill]],
        requested: Mapping[int, Sequence[RequestedOrder]],
        commission_rate: float = 0.0,
        order_ends: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """Load the fills of both runs and the requested orders, each by the number of its bar.

        A requested order belongs to the bar at whose close it was placed. `commission_rate` is the
        commission by notional. `order_ends` are numbers of orders, by the bar from which on they
        are over.
        """
        self._events = bare, protected, requested, order_ends or {}
        self._commission_rate = commission_rate

    def step(self, k: int) -> None:
        """Replay one bar; the caller replays a bar for every data feed before the next bar."""
        bare, protected, requested, order_ends = self._events
        bar, ended = self.bars[k], order_ends.get(k, ())
        if ended and (self._pending or self._superseded):
            self._pending = [one for one in self._pending if one.request.number not in ended]
            left = [one for one in self._superseded if one.request.number not in ended]
            self._superseded = left
        self._growth = self.growth[k - 1] if 0 < k <= len(self.growth) else 1.0
        events = bare.get(k, ()), protected.get(k, ()), requested.get(k - 1, ())
        if any(events) or self._pending or self.positions.held:
            self._replay(bar, *events)
        else:
            self._pass(bar)
        if k == self.ended_at:
            self._end_protected_run(bar)

    def finish(self) -> None:
        """Mark what is still held at the last close."""
        for trade in list(self.positions.held):
            self.positions.close(trade, self.bars[-1], self.positions.price, "end of data")

    def _pass(self, bar: Bar) -> None:
        """Replay a bar on which nothing happens: prices move what both runs hold."""
        positions = self.positions
        positions.price = bar.open if math.isnan(positions.price) else positions.price
        positions.move(bar.open)
        positions.move(bar.close)

    def _replay(
        self,
        bar: Bar,
        bare: Sequence[Fill],
        protected: Sequence[Fill],
        requested: Sequence[RequestedOrder],
    ) -> None:
        """Replay one bar: exits at the open, fills, stops, and then the close."""
        positions = self.positions
        held, gaps = (positions.bare, positions.intended()), positions.gaps()
        paid_before = positions.commission()
        positions.price = bar.open if math.isnan(positions.price) else positions.price
        self._bare_only = {1: 0.0, -1: 0.0}
        positions.move(bar.open)
        self._accept(requested, bar)
        for fill in bare:
            self._fill_bare(fill, bar)
        for fill in sorted(protected, key=lambda fill: fill.stop):
            self._fill_protected(fill, bar)
        self._fill_pending(bar, bare)
        self._fill_superseded(bar, bare)
        positions.explain_sizes(*held, self._growth)
        self._fill_stops(bar)
        positions.move(bar.close)
        self._trail_stops(bar)
        # Commissions of both runs that no paper trade bears belong to the difference of the bar.
        paid_on_paper = positions.commission() - paid_before
        left = sum(f.cost for f in bare) - sum(f.cost for f in protected) - paid_on_paper
        positions.book(left, gaps if any(gaps.values()) else positions.gaps())

    def _commission(self, price: float, units: float = 1.0) -> float:
        """Return the commission of a fill that neither run had: the usual share of notional."""
        return self._commission_rate * price * self.trading_costs.multiplier * units

    # -- requested orders ------------------------------------------------------------------------

    def _accept(self, requested: Sequence[RequestedOrder], bar: Bar) -> None:
        """Accept the orders of the close before, and updates of older ones."""
        unsized = self.positions.unsized
        for request in requested:
            if not request.is_update:
                self._exit_unmatched(-request.side, bar)
            if request.opening > SIZE_EPS:
                self.positions.distance[request.side] = request.distance
                self.positions.sized[request.side] = not math.isnan(request.step)
                unsized.discard(request.side)
                self._supersede(request)
                if request.opening - request.allowed > SIZE_EPS:
                    self._pending.append(PaperOrder(request))
            elif request.rule == SIZER:
                unsized.add(request.side)

    def _exit_unmatched(self, side: int, bar: Bar) -> None:
        """Close trades on a side that the bare run lacks: the strategy trades against them."""
        for trade in [t for t in self.positions.held if t.side == side and not t.matched]:
            price = self.broker.market_price(-side, bar)
            if price is not None:
                self.positions.move(price)
                cost = self._commission(price, trade.units)
                self.positions.reduce(trade, trade.units, bar, price, "exit", cost)

    def _supersede(self, request: RequestedOrder) -> None:
        """Drop the pending orders that the strategy believes refused, and now requests again.

        A limit or a stop may rest beside the new one in the bare run: it fills where that one does.
        """
        if request.is_update:
            for order in self._pending:
                order.resting &= order.request.number != request.number
            return
        kept, dropped = list[PaperOrder](), list[PaperOrder]()
        for order in self._pending:
            own = order.request.side != request.side or order.request.batch == request.batch
            (kept if own or order.resting else dropped).append(order)
        self._pending = kept
        grid = [order for order in dropped if order.request.kind in ("limit", "stop")]
        self._superseded = (self._superseded + grid)[-GRID:]

    # -- fills of the real runs ------------------------------------------------------------------

    def _fill_bare(self, fill: Fill, bar: Bar) -> None:
        positions = self.positions
        positions.move(fill.price)
        side, cost = sign_of(positions.bare), fill.cost / abs(fill.size)
        closed = min(abs(fill.size), abs(positions.bare)) if fill.size * side < 0 else 0.0
        for trade in [t for t in positions.held if closed and t.side == side]:
            units = trade.units * closed / abs(positions.bare)
            positions.reduce(trade, units, bar, fill.price, "exit", cost * units)
        positions.bare = _settled(positions.bare + fill.size)
        if not positions.bare:
            positions.unsized.discard(side)
        opened, side = abs(fill.size) - closed, sign_of(fill.size)
        if opened > SIZE_EPS:
            self._open_bare(side, opened, bar, fill.price, cost)

    def _open_bare(self, side: int, opened: float, bar: Bar, price: float, cost: float) -> None:
        self._bare_only[side] += opened
        for trade in self.positions.held_on(side, follows_exit=False):
            trade.matched = True
        if self._ended:  # the protected run is over: its halt refuses all that follows
            self.positions.distance[side] = math.nan
            self.positions.follow_exit(self._ended_by, side, opened, bar, price, cost * opened)

    def _fill_protected(self, fill: Fill, bar: Bar) -> None:
        positions = self.positions
        positions.move(fill.price)
        side, cost = sign_of(positions.protected), fill.cost / abs(fill.size)
        closed = min(abs(fill.size), abs(positions.protected)) if fill.size * side < 0 else 0.0
        positions.protected = _settled(positions.protected + fill.size)
        if closed and positions.bare * side > SIZE_EPS:
            rule = STOP if fill.stop else self._halted_by(bar)
            if rule:
                positions.follow_exit(rule, side, closed, bar, fill.price, -cost * closed)
        opened, side = abs(fill.size) - closed, sign_of(fill.size)
        if opened > SIZE_EPS:
            self._open_protected(side, opened, bar, fill.price, cost)

    def _open_protected(
        self, side: int, opened: float, bar: Bar, price: float, cost: float
    ) -> None:
        """Replace paper trades by what the protected run now holds itself."""
        self._bare_only[side] -= opened
        self.positions.reenter(side, opened, bar, price, cost)
        for trade in self.positions.held_on(side, follows_exit=False):
            units = min(trade.units, opened)
            opened -= units
            self.positions.reduce(trade, units, bar, price, "re-entered", -cost * units)

    def _halted_by(self, bar: Bar) -> str | None:
        return next((rule for begin, end, rule in self.halts if begin < bar.time <= end), None)

    @property
    def _ended_by(self) -> str:
        """Return the rule whose halt has ended the protected run: the last one."""
        return self.halts[-1][2] if self.halts else BREAKER

    # -- fills of shadow orders ------------------------------------------------------------------

    def _fill_pending(self, bar: Bar, bare: Sequence[Fill]) -> None:
        """Fill the shadow orders of what was refused or cut, as it would have been filled."""
        for order in list(self._pending):
            if order not in self._pending:  # another of its group has filled
                continue
            if order.expired(bar):
                self._pending.remove(order)
                continue
            price, cost = self._entry_price(order, bar, bare)
            if price is not None:
                group = order.request.group
                self._pending.remove(order)
                self._pending = [o for o in self._pending if group < 0 or o.request.group != group]
                self._open_affordable(order, bar, price, cost)

    def _fill_superseded(self, bar: Bar, bare: Sequence[Fill]) -> None:
        """Fill the resting orders that were requested again, as far as the bare run buys now."""
        for order in list(self._superseded):
            if self._bare_only[order.request.side] <= SIZE_EPS:
                continue
            price, cost = self._entry_price(order, bar, bare)
            if order.expired(bar) or price is not None:
                self._superseded.remove(order)
            if price is not None and not order.expired(bar):
                order.units = min(order.units, self._bare_only[order.request.side])
                self._open_affordable(order, bar, price, cost)

    def _open_affordable(self, order: PaperOrder, bar: Bar, price: float, cost: float) -> None:
        """Open a paper trade of the units not held on paper yet, as far as cash pays for them.

        An order that is refused again is no second order, except for what the bare run buys on the
        same bar.
        """
        request, side = order.request, order.request.side
        others = [t for t in self.positions.held_on(side, False) if t.batch != request.batch]
        added = min(order.units, self._bare_only[side])
        units = max(added, order.units - sum([trade.units for trade in others]))
        if units > SIZE_EPS and self.cash is not None:
            units = self._payable(self.cash, request, units, price, cost, bar)
        if units > SIZE_EPS:
            self.positions.move(price)
            self.positions.reenter(side, units, bar, price, cost, request.batch)
            self.positions.distance[side] = request.distance
            self.positions.open(
                request.rule, side, units, bar, price, cost * units, batch=request.batch
            )

    def _payable(
        self,
        cash: PaperCash,
        request: RequestedOrder,
        units: float,
        price: float,
        cost: float,
        bar: Bar,
    ) -> float:
        paid = max(0.0, self._bare_only[request.side])
        payable = cash.payable(self.trading_costs, request, units, price, cost, bar.time, paid)
        self._bare_only[request.side] -= min(paid, payable)
        return payable

    def _entry_price(
        self, order: PaperOrder, bar: Bar, bare: Sequence[Fill]
    ) -> tuple[float | None, float]:
        """Return price and cost per unit that an order fills at on this bar, price None if not.

        A market order has both from the bare run. An order with a price of its own has to reach it.
        """
        side = order.request.side
        same = [f for f in bare if f.size * side > 0 and self.positions.bare * side > SIZE_EPS]
        price = self.broker.fill_price(order, bar)
        if not same:
            return price, (self._commission(price) if price else 0.0)
        size = sum([abs(f.size) for f in same])
        if order.request.kind == "market" and price not in [f.price for f in same]:
            price = sum([f.price * abs(f.size) for f in same]) / size
        return price, sum([f.cost for f in same]) / size

    # -- stops and the end -----------------------------------------------------------------------

    def _trail_stops(self, bar: Bar) -> None:
        if self.stop_rule is not None:
            for trade in self.positions.held:
                if not trade.follows_exit:
                    trade.trail_stop(bar, self.stop_rule, trade.opened == bar.time)

    def _fill_stops(self, bar: Bar) -> None:
        """Fill the stops that this bar reaches; the entries of this bar have none yet."""
        if self.stop_rule is None:
            return
        held = self.positions.held
        for trade in [t for t in held if not t.follows_exit and t.opened != bar.time]:
            price = trade.stop_fill(bar, self.stop_rule, self.broker)
            if price is not None:
                self._stop_out(trade, bar, price)

    def _stop_out(self, trade: PaperTrade, bar: Bar, price: float) -> None:
        """Close a paper trade at its stop; from there on the stop rule answers for the rest."""
        self.positions.move(price)
        units = trade.units
        cost = self._commission(price, units)
        self.positions.reduce(trade, units, bar, price, "stop", cost)
        if trade.matched:
            self.positions.distance[trade.side] = trade.distance
            self.positions.follow_exit(STOP, trade.side, units, bar, price, -cost)

    def _end_protected_run(self, bar: Bar) -> None:
        """End the protected run: what it still held is followed like what the breaker closed."""
        side, units = sign_of(self.positions.protected), abs(self.positions.protected)
        self.positions.protected, self._ended = 0.0, True
        self._pending.clear()
        self._superseded.clear()
        if units and self.positions.bare * side > SIZE_EPS:
            self.positions.follow_exit(self._ended_by, side, units, bar, bar.close, 0.0)


def _settled(size: float) -> float:
    return 0.0 if abs(size) <= SIZE_EPS else size
