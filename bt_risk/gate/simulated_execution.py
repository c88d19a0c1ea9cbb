"""SimulatedExecution: act inside BackBroker at the moment an order would execute.

Three things can only be decided there, because many orders may fill in one bar: an exit of ours
fills for no more than is held, the user's exits that it replaces shrink, and an exit is not lost to
the cash check. The hooks are bound methods on the one BackBroker instance. They are installed only
while something has a limit, and removed at the end of the run.
"""

from __future__ import annotations

import math
from typing import Any

import backtrader as bt

from bt_risk.gate.buying_power import affordable
from bt_risk.orders import plain
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder, shrink_exits
from bt_risk.tolerances import SIZE_EPS

__all__ = ["SimulatedExecution"]


class SimulatedExecution:
    """Clamp the orders of one gate in one BackBroker.

    `fitted` holds the size steps of the orders that are cut to what cash affords when they fill.
    """

    def __init__(self, gate: Any, inner: Any) -> None:
        self.gate, self.inner = gate, inner
        self.fitted: dict[int, float | None] = {}
        self._native_try, self._native_execute = inner._try_exec, inner._execute
        inner._try_exec, inner._execute = self.try_exec, self.execute

    def remove(self) -> None:
        """Leave the BackBroker as it was found."""
        del self.inner._try_exec, self.inner._execute

    # -- hooks -----------------------------------------------------------------------------------

    def try_exec(self, order: Any) -> None:
        """Replace ``BackBroker._try_exec``."""
        if order.ref in self.gate.own:
            self._try_own(order)
        elif order.ref in self.gate.exit_orders.guarded or self.gate.trading_state:
            self._try_guarded(order)
        else:
            self._native_try(order)

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
        if price is not None and math.isnan(price):
            # A fill at NaN would make cash, equity and stop NaN: the order waits for a price.
            order.pannotated = None
            return None
        if price is not None and order.ref in self.fitted:
            self._fit(order, price)
        return self._native_execute(order, ago=ago, price=price, dtcoc=dtcoc)

    def _check_cash(self, order: Any, cash: Any, position: Any) -> float:
        """Accept an exit that cash does not cover; return the cash for the next order."""
        left = self._native_execute(order, cash=cash, position=position)
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

    def _try_own(self, order: Any) -> None:
        self.gate.process_notifications()
        working = self.gate.book.working.get(order.ref)
        if working is None:
            return
        part = self.gate.book.part(working.instrument, working.owner)
        if part.size * working.side >= 0:
            self._cancel(order)
            return
        begun = order.status == order.Partial
        if not begun and not working.instrument.after(working.set_at):
            return
        size = min(working.remaining, self._free(part, working))
        if size > SIZE_EPS:
            held = abs(part.size)
            self._run(order, working, size, begun)
            self.gate.process_notifications()
            left = abs(part.size) if part.size * working.side < 0 else 0.0
            if left < held - SIZE_EPS:
                self._shrink_exits(part, working.side, held, left)

    def _free(self, part: OwnerPosition, working: WorkingOrder) -> float:
        """Return the size that no market exit of this bar closes: those fill first, at the open."""
        mine = all_owners = 0.0
        for other in part.instrument.orders.values():
            if other.side == working.side and other is not working and self._leaves_now(other):
                all_owners += other.remaining
                if other.owner is part.owner:
                    mine += other.remaining
        free = abs(part.size) - mine
        if all_owners > mine and self._one_sided(part.instrument):
            free = min(free, abs(part.instrument.size) - all_owners)
        return free

    def _leaves_now(self, other: WorkingOrder) -> bool:
        """Return whether a market order fills on this bar."""
        order = other.handle
        if other.kind != "market" or order.exectype != bt.Order.Market or not order.active():
            return False
        now = order.data.datetime[0]
        if order.status not in (order.Accepted, order.Partial) or order.executed.dt == now:
            return False
        coc = self.inner.p.coc and order.info.get("coc", True)
        return now > order.created.dt or coc or self.inner.p.coo

    @staticmethod
    def _one_sided(instrument: Instrument) -> bool:
        """Return whether no owner stands against the net position."""
        return all(part.size * instrument.size >= 0 for part in instrument.parts)

    def _run(self, order: Any, working: WorkingOrder, size: float, begun: bool) -> None:
        """Let the order execute for `size`; a stop that has begun to fill goes on at the open."""
        sign = 1 if order.isbuy() else -1
        stop_price = order.created.price
        clamped = size != abs(order.executed.remsize)
        if clamped:
            order.executed.remsize = sign * plain(size)
        if begun:
            order.created.price = -sign * math.inf
        before = order.executed.size
        self._native_try(order)
        order.created.price = stop_price
        if clamped and order.alive():  # what did not fill on this bar still works
            filled = abs(order.executed.size - before)
            order.executed.remsize = sign * plain(working.remaining - filled)

    # -- the user's exits -----------------------------------------------------------------------

    def _shrink_exits(self, part: OwnerPosition, side: int, before: float, after: float) -> None:
        """Reduce the user's exits by what one of ours has closed."""
        orders = {
            o.ref: o
            for o in self.inner.pending
            if o is not None
            and o.data is part.instrument.data
            and o.owner is part.owner
            and o.ref not in self.gate.own
            and (1 if o.isbuy() else -1) == side
            and o.active()
        }
        working = self.gate.book.working
        rows = [
            (ref, working[ref].group, working[ref].kind, self._reach(working[ref], before))
            for ref in sorted(orders, key=self._turn)
            if ref in working
        ]
        changed = shrink_exits(rows, before, after)
        for ref, _, _, reach in rows:
            self._resize(orders[ref], working[ref], changed.get(ref, reach))

    def _turn(self, ref: int) -> tuple[int, int]:
        """Return the sort key of an exit: market orders of this open, other ones, then by age."""
        working = self.gate.book.working.get(ref)
        if working is None or working.kind != "market":
            return 2, ref
        return int(not self._leaves_now(working)), ref

    @staticmethod
    def _reach(working: WorkingOrder, held: float) -> float:
        """Return the size of an exit; a child closes what its parent opened and is still held."""
        if working.parent is None:
            return working.remaining
        return min(working.remaining, held + working.opening)

    def _resize(self, order: Any, working: WorkingOrder, size: float) -> None:
        if size > working.remaining - SIZE_EPS:
            return
        if size <= SIZE_EPS:
            self._cancel(order, "the stop has closed its position")
            return
        order.executed.remsize = plain(size) if order.isbuy() else -plain(size)
        working.filled(working.remaining - size)
        reason = "ATRTrailingStop: the stop has closed the rest"
        self.gate.journal.order(order, "ATRTrailingStop", "trim", reason, size)

    def _try_guarded(self, order: Any) -> None:
        self.gate.process_notifications()
        working = self.gate.book.working.get(order.ref)
        if working is None:
            self._native_try(order)
            return
        if order.ref in self.gate.exit_orders.ended:
            self._cancel(order, "entries are refused now", alone=True)
            return
        part = self.gate.book.part(working.instrument, working.owner)
        held = part.held_against(working.side)
        held_back = working.opening if self.gate.trading_state else 0.0
        size = min(working.remaining, held + working.opening - held_back)
        if size > SIZE_EPS:
            self._run(order, working, size, begun=False)
            if held_back > SIZE_EPS and not order.alive():
                states = self.gate.trading_state
                self.gate.journal.order(order, states.rule, "trim", states.why[1], size)
        elif held_back <= SIZE_EPS:
            self._cancel(order, "another exit has closed the position")

    def _cancel(self, order: Any, reason: str | None = None, alone: bool = False) -> None:
        """Cancel an order; `alone` leaves its OCO alternatives and its parent at work."""
        order.cancel()
        if order in self.inner.pending:
            self.inner.pending.remove(order)
        self.inner.notify(order)
        if not alone:
            self.inner._ococheck(order)
        if not alone or order.parent is None:
            self.inner._bracketize(order, cancel=True)
        if reason:
            reason = f"execution: cancelled, {reason}"
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
        wanted = abs(order.executed.remsize)
        side = 1 if order.isbuy() else -1
        step, cash = self.fitted[order.ref], self.inner.cash
        instrument = self.gate.book.find(order.data)
        size = affordable(self.gate, instrument, side, wanted, step, price, cash)
        if 0 < size < wanted:
            order.executed.remsize = side * plain(size)
            reason = f"cash: affords {size:g} of {wanted:g} at {price:g}"
            self.gate.events.cut(order, wanted - size, "cash", price)
            self.gate.journal.order(order, "cash", "trim", reason, size)
