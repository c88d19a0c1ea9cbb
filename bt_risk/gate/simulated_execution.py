"""SimulatedExecution: act inside BackBroker at the moment an order would execute.

Three things can only be decided there, because many orders may fill in one bar: an order closes
what its owner holds and opens no more than was reviewed, an entry that relied on an exit is
reviewed again where that has not filled, and an exit is not lost to the cash check. The hooks are
bound methods on the one BackBroker instance. They are installed only while something has a limit,
and removed at the end of the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_risk.gate.buying_power import affordable
from bt_risk.gate.exit_pair import ExitPair
from bt_risk.gate.lone_orders import install_quick_ends
from bt_risk.gate.resting_exits import RestingExits
from bt_risk.orders import plain
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.reachable import allowed_fill, coming, held_for
from bt_risk.rules.sizing import round_down
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.entry_bar import EntryBar
    from bt_risk.gate.liquidation import Liquidation

__all__ = ["SimulatedExecution"]


class SimulatedExecution:
    """Clamp the orders of one gate in one BackBroker.

    `entry_bar` is there where stops are active from the fill of an entry on, `exit_pair` where
    targets of ours rest beside them, `liquidation` where a margin account is simulated. `fitted`
    holds the size steps of the orders that are cut to what cash affords when they fill, `triggered`
    the refs of stops that were reached before all of their position was there.
    """

    def __init__(self, gate: Any, inner: Any) -> None:
        self.gate, self.inner = gate, inner
        self.fitted: dict[int, float | None] = {}
        self.triggered: set[int] = set()
        self._refused = 0
        self.resting = RestingExits(self)
        self.entry_bar: EntryBar | None = None
        self.exit_pair: ExitPair | None = None
        self.liquidation: Liquidation | None = None
        self._native_try, self._native_execute = inner._try_exec, inner._execute
        inner._try_exec, inner._execute = self.try_exec, self.execute
        inner._resting_exits = self.resting  # asked by `bt_risk.engine.broker_round`
        self._replaced = install_quick_ends(inner)
        self.resting.known = "notify" in self._replaced

    def remove(self) -> None:
        """Leave the BackBroker as it was found; it tries every order of its queue again."""
        self.resting.known, self.resting.changes = False, -1
        del self.inner._try_exec, self.inner._execute, self.inner._resting_exits
        for name in self._replaced:
            delattr(self.inner, name)

    # -- hooks -----------------------------------------------------------------------------------

    def try_exec(self, order: Any) -> None:
        """Replace ``BackBroker._try_exec``."""
        ref = order.ref
        if self.liquidation is not None:
            self.liquidation.before_exit(order)
            if self.gate.venue.withdrew(ref):
                self._cancel(order)  # it was off the queue while it was withdrawn
                return
        if ref in self.gate.own:
            if not self.resting.is_left_alone(order):
                self.try_own(order)
        elif ref in self.gate.exit_orders.ended:
            self._cancel(order, "entries are refused now", alone=True)
        elif ref in self.triggered:
            self._try_at_market(order)
        elif self.entry_bar is None:
            self._native_try(order)
        else:
            self.entry_bar.try_exec(order, self._native_try)

    def execute(
        self,
        order: Any,
        ago: int | None = None,
        price: float | None = None,
        cash: float | None = None,
        position: Any = None,
        dtcoc: float | None = None,
    ) -> Any:
        """Replace ``BackBroker._execute``, which also does the cash check (`ago` None)."""
        if ago is None:
            return self._check_cash(order, cash, position)
        if price is not None and not price > 0.0 and self._is_no_price(order, price):
            # A fill at NaN would make cash, equity and stop NaN, and one at 0 is none either: the
            # order waits for a price.
            order.pannotated = None
            return None
        if price is not None:
            if order.ref not in self.gate.own and self.gate.judges:
                return self._execute_users(order, ago, price, dtcoc)
            self._fit(order, price)
        return self._native_execute(order, ago=ago, price=price, dtcoc=dtcoc)

    def _is_no_price(self, order: Any, price: float) -> bool:
        """Return whether an order cannot fill at a price that is not above zero."""
        instrument = self.gate.book.find(order.data)
        below_zero = instrument is not None and instrument.negative_prices
        return math.isnan(price) or (not below_zero and self.gate.judges)

    def _check_cash(self, order: Any, cash: Any, position: Any) -> float:
        """Accept an exit that cash does not cover; return the cash for the next order."""
        left = self._native_execute(order, cash=cash, position=position)
        if left < 0.0 and self.gate.venue.fits_entries and order.ref in self.fitted:
            return 0.0  # it is cut when it fills
        if left >= 0.0 or not self._closes(order):
            return left
        reason = "cash: an exit is accepted although cash does not cover it"
        self.gate.journal.order(order, "cash", "exit", reason)
        if not math.isnan(left):
            return 0.0
        # It was placed on a bar without a close, where it cannot fill at the close either; NaN as
        # the cash after it would refuse every later order of the bar.
        order.addinfo(coc=False)
        return cash if cash >= 0.0 else 0.0

    # -- our own exits ------------------------------------------------------------------------

    def try_own(self, order: Any) -> None:
        """Let an order of ours execute for what it covers now."""
        self.gate.process_notifications()
        working = self.gate.book.working.get(order.ref)
        if working is None:
            return
        part = working.part
        data = part.instrument.data
        elsewhere = data._compensate is not None and data._compensate is not data
        if part.size * working.side >= 0 or elsewhere:
            self._cancel(order)
            return
        begun = order.status == order.Partial and working.kind == "stop"
        if not begun and not working.instrument.after(working.set_at):
            return
        if self.exit_pair is not None and working.kind != "market":
            may_execute = self.exit_pair.let_first(working)
            self.gate.process_notifications()
            if part.size * working.side >= 0 or self.gate.venue.withdrew(order.ref):
                self._cancel(order)  # it was off the queue while it was withdrawn
                return
            if not may_execute:
                return
        size = min(working.remaining, self.free(part, working))
        if size > SIZE_EPS:
            self.run(order, working, size, begun)

    def free(self, part: OwnerPosition, working: WorkingOrder) -> float:
        """Return the size of the order's trade that no market exit of this bar closes.

        Those fill first, at the open.
        """
        leaving = same_trade = 0.0
        for other in part.instrument.orders.values():
            if other.side == working.side and other is not working and self._leaves_now(other):
                if other.owner is part.owner:
                    if other.tradeid == working.tradeid:
                        same_trade += other.remaining
                    elif other.own:
                        continue  # it closes what is held under its own tradeid
                    leaving += other.remaining
                elif other.shared:  # its owner's own position goes first
                    leaving += max(0.0, other.remaining - other.part.held_against(other.side))
        free, sizes = abs(part.size) - leaving, part.tradeids
        held = 0.0
        if working.tradeid in sizes:
            held = -working.side * sizes[working.tradeid] - same_trade
        return held if held < free else free

    def _leaves_now(self, other: WorkingOrder) -> bool:
        """Return whether a market order fills on this bar."""
        order = other.handle
        if other.kind != "market" or not order.active():
            return False
        now = order.data.datetime[0]
        if order.status not in (order.Accepted, order.Partial) or order.executed.dt == now:
            return False
        coc = self.inner.p.coc and order.info.get("coc", True)
        return now > order.created.dt or coc or self.inner.p.coo

    def run(
        self,
        order: Any,
        working: WorkingOrder,
        size: float,
        begun: bool = False,
        native: Callable[[Any], Any] | None = None,
    ) -> None:
        """Let the order execute for `size`; a stop that has begun to fill goes on at the open.

        It executes by `native`, or as BackBroker does.
        """
        sign = 1 if order.isbuy() else -1
        stop_price = order.created.price
        clamped = size != abs(order.executed.remsize)
        if clamped:
            order.executed.remsize = sign * plain(size)
        if begun:
            order.created.price = -sign * math.inf
        before = order.executed.size
        (native or self._native_try)(order)
        order.created.price = stop_price
        if clamped and order.alive():  # what did not fill on this bar still works
            filled = abs(order.executed.size - before)
            order.executed.remsize = sign * plain(working.remaining - filled)

    # -- the user's exits -----------------------------------------------------------------------

    def _working(self, order: Any) -> tuple[WorkingOrder | None, OwnerPosition | None]:
        """Return the record of an order, and the position that it changes, as of this moment."""
        if self.inner.notifs:
            self.gate.process_notifications()
        working = self.gate.book.working.get(order.ref)
        if working is None:
            return None, None
        return working, working.part

    def _execute_users(
        self, order: Any, ago: int | None, price: float, dtcoc: float | None
    ) -> None:
        """Let an order of a strategy execute for what it closes, and for its allowance."""
        working, part = self._working(order)
        if working is None or part is None:
            self._fit(order, price)
            self._native_execute(order, ago=ago, price=price, dtcoc=dtcoc)
            return
        if working.relies_on:
            self._review_relying(working, price)
        rest = abs(order.executed.remsize)
        if working.dormant and rest > part.held_against(working.side) + SIZE_EPS:
            self._review_dormant(working, price)
        size = self._allowed(part, working)
        if size <= SIZE_EPS and self._unreviewed(part, working):
            self._review_late(working, price)
            size = self._allowed(part, working)
        if size >= rest - SIZE_EPS:
            self._fit(order, price)  # what is held back meanwhile keeps its size
            self._native_execute(order, ago=ago, price=price, dtcoc=dtcoc)
            return
        if size > SIZE_EPS:
            self._fill_at_most(size, partial(self._native_execute, order, ago, price, dtcoc=dtcoc))
        if order.alive():
            self._end_or_keep(order, working, part)

    def _allowed(self, part: OwnerPosition, working: WorkingOrder) -> float:
        if self.gate.trading_state:
            return min(working.remaining, held_for(part, working.side, working.shared))
        return allowed_fill(part, working)

    def _fill_at_most(self, size: float, execute: Callable[[], Any]) -> None:
        """Execute with a filler that gives no more than `size`; what is left stays on the order."""
        params = self.inner.p
        filler, most = params.filler, plain(size)
        params.filler = lambda *args: most if filler is None else min(most, filler(*args))
        try:
            execute()
        finally:
            params.filler = filler

    def _end_or_keep(self, order: Any, working: WorkingOrder, part: OwnerPosition) -> None:
        """End an order that has nothing more to close or to open; keep one that may have."""
        self._working(order)  # what has just filled is booked
        if working.opening > SIZE_EPS:
            return  # a volume filler has more for it, or entries are refused for a while
        if self._comes(part, working) > SIZE_EPS:
            if working.kind == "stop":
                self.triggered.add(order.ref)
            return
        if held_for(part, working.side, working.shared) <= SIZE_EPS:
            refused = order.ref == self._refused  # its reason has been written
            self._cancel(order, None if refused else "the position it was to close is gone")

    @staticmethod
    def _comes(part: OwnerPosition, working: WorkingOrder) -> float:
        kind, side = working.kind, working.side
        return coming(part, kind, side, working.price, working.trails, working)

    def _try_at_market(self, order: Any) -> None:
        """Let a stop go on as a market exit: its price was reached before its position came."""
        price = order.created.price
        order.created.price = -math.inf if order.isbuy() else math.inf
        try:
            self._native_try(order)
        finally:
            order.created.price = price

    # -- an order that is reviewed when it is about to execute -------------------------------------

    def _review_relying(self, working: WorkingOrder, price: float) -> None:
        """Review an entry again as things are, where an exit that it relied on has not filled."""
        waits = [
            w
            for w in working.relies_on
            if w.remaining > SIZE_EPS and held_for(w.part, w.side, w.shared) > SIZE_EPS
        ]
        working.relies_on = ()
        opening = float(working.opening)
        if waits and opening > SIZE_EPS:
            name = waits[0].instrument.name
            self._review(working, price, opening, f"the exit of {name} has not filled")

    def _review_dormant(self, working: WorkingOrder, price: float) -> None:
        """Review an allowance again that other orders may have been allowed meanwhile."""
        working.dormant = False
        if working.opening > SIZE_EPS:
            opening = float(working.opening)
            self._review(working, price, opening, "it stood behind a position since")

    def _unreviewed(self, part: OwnerPosition, working: WorkingOrder) -> bool:
        """Return whether an exit has never had a position, and no entry will give it one."""
        if working.had_position or working.opening > SIZE_EPS or working.closing <= SIZE_EPS:
            return False
        return self._comes(part, working) <= SIZE_EPS

    def _review_late(self, working: WorkingOrder, price: float) -> None:
        """Review as an entry what was sent as the exit of an entry that has never filled.

        From then on it is one: whoever cancels entries cancels it, and it is not reviewed again.
        """
        if not self.gate.trading_state:
            opening = float(working.remaining)
            working.closing = working.reduces = 0.0
            self._review(working, price, opening, "the entry that it closes did not fill")

    def _review(self, working: WorkingOrder, price: float, opening: float, why: str) -> None:
        """Review what an order opens, as things are now."""
        working.opening = 0.0
        decision = self.gate.order_review.limits.review_again(working, opening, price)
        step = working.instrument.facts.get("step", 1.0 if opening.is_integer() else None)
        allowed = decision.size if decision.size >= opening else round_down(decision.size, step)
        working.opening = allowed
        self.gate.book.set_distance(working, working.distance)
        if allowed >= opening - SIZE_EPS:
            return
        order: Any = working.handle
        self._refused, reason = order.ref, f"{decision.reason} ({why})"
        order.addinfo(bt_risk=reason)
        self.gate.events.cut(order, opening - allowed, decision.rule, price)
        self.gate.journal.order(order, decision.rule, "trim", reason, allowed)

    def _cancel(self, order: Any, reason: str | None = None, alone: bool = False) -> None:
        """Cancel an order; `alone` leaves its OCO alternatives and its parent at work."""
        if reason:
            reason = f"execution: cancelled, {reason}"
            order.addinfo(bt_risk=reason)
        order.cancel()
        if order in self.inner.pending:
            self.inner.pending.remove(order)
        self.inner.notify(order)
        if not alone:
            self.inner._ococheck(order)
        if not alone or order.parent is None:
            self.inner._bracketize(order, cancel=True)
        if reason:
            self.gate.journal.order(order, "execution", "trim", reason, 0.0)

    def cancel_alone(self, order: Any) -> None:
        """Cancel an entry that BackBroker has accepted, and its children, but no other order.

        BackBroker itself would also cancel its alternatives and the rest of its bracket, and some
        of these may be exits.
        """
        if order in self.inner.pending:
            self._cancel(order, alone=True)

    def _closes(self, order: Any) -> bool:
        working = self.gate.book.working.get(order.ref)
        return working is not None and (working.closing > SIZE_EPS or working.reduces > SIZE_EPS)

    # -- cash at the fill ------------------------------------------------------------------------

    def _fit(self, order: Any, price: float) -> None:
        """Cut an entry to what cash affords at the price at which it fills.

        It was sized on a close; the open may be higher, and BackBroker would refuse it whole.
        """
        if order.ref not in self.fitted:
            return
        wanted = abs(order.executed.remsize)
        side = 1 if order.isbuy() else -1
        step, cash = self.fitted[order.ref], self.inner.cash
        instrument = self.gate.book.find(order.data)
        if self.inner.positions[order.data].size * side < 0.0:
            return  # a reversal: what it closes brings the cash for what it opens
        size = affordable(self.gate, instrument, side, wanted, step, price, cash)
        if 0 < size < wanted:
            order.executed.remsize = side * plain(size)
            self.gate.book.cut(order.ref, size)
            reason = f"cash: affords {size:g} of {wanted:g} at {price:g}"
            self.gate.events.cut(order, wanted - size, "cash", price)
            self.gate.journal.order(order, "cash", "trim", reason, size)
