"""SimulatedVenue: Backtrader's BackBroker, which lets the gate act at the moment of execution."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import backtrader as bt

from bt_risk.gate.entry_bar import EntryBar
from bt_risk.gate.exit_pair import ExitPair
from bt_risk.gate.liquidation import Liquidation
from bt_risk.gate.margin_scheme import on_margin
from bt_risk.gate.native_orders import send
from bt_risk.gate.other_engines import order_held_feeds
from bt_risk.gate.simulated_execution import SimulatedExecution
from bt_risk.gate.venue import EquitySources, Venue
from bt_risk.known_engine import other_engine
from bt_risk.monitors.margin import MarginMonitor
from bt_risk.orders import AT_MARKET, HALTED, plain
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["SimulatedVenue"]


class SimulatedVenue(Venue):
    """BackBroker: it answers at once, and its hooks clamp orders at the moment of execution."""

    direct = True
    judges_market = False
    min_confirmations = 1
    waits_for_children = True
    stop_retries = math.inf

    def __init__(self, gate: RiskBroker) -> None:
        super().__init__(gate)
        self.execution: SimulatedExecution | None = None
        self.liquidation: Liquidation | None = None
        self._schemes: dict[Any, Any] | None = None
        self._cancelled: set[int] = set()
        self._flows = self._new_flows = 1.0
        order_held_feeds(self.inner)
        if type(self.inner) is bt.brokers.BackBroker:
            self.place = partial(send, self.inner)
            if "get_notification" not in vars(self.inner) and not other_engine():
                self.next_notification = self._next_notification

    # -- the account -----------------------------------------------------------------------------

    def own_equity_sources(self) -> EquitySources:
        """Return both callables: BackBroker keeps its fund value free of deposits."""
        return self.inner.getvalue, self.inner.get_fundvalue

    @property
    def short_cash(self) -> bool:  # type: ignore[override]  # a setting of BackBroker
        """Return whether a short sale takes cash instead of bringing some."""
        return self.inner.p.shortcash

    def raw_position(self, data: Any) -> Any:
        """Return the position in a data feed, maybe None.

        Asking BackBroker itself makes an entry, which it values from then on: in another order
        than without us, and at a price to come where the data feed has no bar yet.
        """
        return self.inner.positions.get(data)

    def held_in(self, data: Any) -> Instrument | None:
        """Return the instrument whose position an order on a data feed changes, if it is known."""
        other = data._compensate
        return self.gate.book.by_data.get(id(data if other is None else other))

    def set_cash(self, cash: float) -> None:
        """Set the cash; after the first bar that leaves the unit value where it is.

        BackBroker's own fund value takes it for profit, and stays as it is for everybody else.
        """
        inner, gate = self.inner, self.gate
        before, held = inner.getvalue(), inner.cash
        inner.setcash(cash)
        after = before + cash - held
        if gate.book.rounds and before > 0.0 and after > 0.0:
            # BackBroker values the account again on the next bar.
            self._new_flows *= before / after
            gate.unit_value = self._unit_value
            gate.book.changes += 1

    def cash_flow(self, amount: float) -> None:
        """Make a deposit, or a withdrawal (negative), on the next bar, as ``add_cash`` does."""
        self.inner.add_cash(amount)

    def continue_from(self, unit_value: float) -> None:
        """Go on with this unit value: what another broker held is no profit and no loss."""
        own = float(self.inner.get_fundvalue())
        if own > 0.0 and math.isfinite(unit_value):
            self._flows = unit_value / own
            self.gate.unit_value = self._unit_value
            self.gate.book.changes += 1

    def plain_account(self) -> bool:
        """Return whether the account is worth what BackBroker has last computed, and no more."""
        gate, inner = self.gate, self.inner
        if type(inner) is not bt.brokers.BackBroker:
            return False
        own = vars(inner)
        if "getvalue" in own or "get_fundvalue" in own:
            return False  # somebody has replaced them
        # A user may give an equity, and `set_cash` moves no unit value.
        return bool(gate.equity == inner.getvalue and gate.unit_value == inner.get_fundvalue)

    def _unit_value(self) -> float:
        """Return the fund value without what `set_cash` has added and taken."""
        return float(self.inner.get_fundvalue() * self._flows)

    # -- a round of Cerebro's loop ---------------------------------------------------------------

    def execute(self) -> None:
        """Let the broker execute, and process what it notifies."""
        if self.liquidation is None:
            self.inner.next()
        else:
            self.liquidation.round()
        if self._new_flows != 1.0:
            self._flows, self._new_flows = self._flows * self._new_flows, 1.0
        if self.inner.notifs:
            self.gate.process_notifications()

    def _next_notification(self) -> Any:
        """Return what ``BackBroker.get_notification`` does, without an exception at the end."""
        waiting = self.inner.notifs
        return waiting.popleft() if waiting else None

    def new_executions(self, order: Any, instrument: Instrument) -> list[Any]:
        """Return the executions of a notification that were not reported before."""
        # BackBroker marks what is new on every clone; all clones share one list, which is ahead
        # of them.
        filled = order.status in (order.Partial, order.Completed)
        return order.executed.getpending() if filled else []

    # -- orders ----------------------------------------------------------------------------------

    def clamp_fills(self) -> None:
        """Clamp orders at the moment they execute, from now on."""
        if self.execution is None and not self.gate.observe:
            self.execution = SimulatedExecution(self.gate, self.inner)

    def attach_stops(self) -> None:
        """Execute stops within the bar of the entry, from now on."""
        self.clamp_fills()
        if self.execution is not None and self.execution.entry_bar is None:
            self.execution.entry_bar = EntryBar(self.execution)

    @property
    def rests_targets(self) -> bool:
        """Return True: what a limit of ours may not close is clamped when it would fill."""
        return True

    def pair_exits(self) -> None:
        """Let a stop execute before a target on a bar that reaches both, from now on."""
        self.clamp_fills()
        if self.execution is not None and self.execution.exit_pair is None:
            self.execution.exit_pair = ExitPair(self.execution)

    def use_margin(self, monitor: MarginMonitor) -> None:
        """Lend what a margin account may borrow, and liquidate inside the bars, from now on."""
        if self.gate.observe or self._schemes is not None:
            return
        self.clamp_fills()
        self._schemes = on_margin(self.inner, monitor.guard.leverage)
        if self.execution is not None:
            self.liquidation = Liquidation(self.execution, monitor)
            self.fits_entries = True

    def release(self) -> None:
        """Leave the broker as it was found."""
        if self._schemes is not None:
            self.inner.comminfo.update(self._schemes)
            self._schemes = self.liquidation = None
            self.fits_entries = False
        if self.execution is not None:
            self.execution.remove()
            self.execution = None

    @property
    def clamps(self) -> bool:  # type: ignore[override]  # only while something has a limit
        """Return whether what an order may not open is clamped when it would fill."""
        return self.execution is not None

    def own_arguments(self) -> dict[str, Any]:
        """Return the arguments of an order of ours, beside those of every order.

        It shows the gap that it came through, needs no cash check, and can be cancelled at once.
        """
        return {"coc": False, "_checksubmit": False}

    def amend(self, working: WorkingOrder, size: float, price: float) -> bool:
        """Change a resting stop of ours in place; return whether that is done."""
        order: Any = working.handle
        signed = plain(size) if order.isbuy() else -plain(size)
        order.size = order.created.size = order.executed.remsize = signed
        order.created.price = price
        if self.execution is not None:
            self.execution.resting.free_until = 0
        return True

    def withdraw(self, order: Any) -> None:
        """Cancel an order, once."""
        if order.ref not in self._cancelled:
            self.gate.recovery.recorder.save()
            self._cancelled.add(order.ref)
            self.inner.cancel(order)

    def withdrew(self, ref: int) -> bool:
        """Return whether the gate has cancelled an order."""
        return ref in self._cancelled

    def forget(self, ref: int) -> None:
        """Forget an order that ended long ago."""
        self._cancelled.discard(ref)

    def cancel_entry(self, order: Any) -> None:
        """Cancel an entry, but none of its alternatives: some may be exits."""
        if self.execution is None:
            self.withdraw(order)
        else:
            self.execution.cancel_alone(order)

    def refuse_entries(self, state: str, rule: str) -> None:
        """Cancel entries that must not fill in a new state of the gate.

        What rests can be held back; a market order would fill at some other time.
        """
        self.gate.exit_orders.cancel_entries(rule, None if state == HALTED else AT_MARKET)

    def close(self, part: OwnerPosition, rule: str, reason: str, stops: bool = False) -> list[Any]:
        """Close an owner's position at the market; our orders cover the user's exits.

        Return the orders. The exits that it replaces are clamped when it executes.
        """
        orders = []
        if abs(part.size) > SIZE_EPS:
            orders = self.gate.exit_orders.send_all(part, abs(part.size), rule, reason, stops)
        for working in self.gate.exit_orders.resting(part):
            if not working.own:
                self.withdraw(working.handle)
        return orders

    def leaving(self, instrument: Instrument) -> Collection[WorkingOrder]:
        """Return the market exits that fill before an order on an instrument would.

        They were submitted earlier, and their data feed has its next bar no later.
        """
        if not self.clamps:
            return ()
        book = self.gate.book
        return [
            w
            for w in book.market_orders.values()
            if w.closing > SIZE_EPS
            and w.instrument.bar_length <= instrument.bar_length
            and (w.instrument.round == book.rounds or not book.is_stale(w.instrument))
        ]

    def fit_at_fill(self, order: Any, step: float | None) -> None:
        """Cut an entry to what cash affords at the price at which it fills."""
        if self.execution is not None:
            self.execution.fitted[order.ref] = step

    def link_rejected(self, order: Any, oco: Any) -> None:
        """Let a later order name a rejected one as its OCO."""
        if order.ref not in self.inner._ocos:
            self.inner._ocoize(order, oco)

    def oco_leader(self, order: Any) -> int | None:
        """Return the ref of the first order of an OCO group, None for an order alone."""
        return self.inner._ocos.get(order.ref)

    def take_family(self, parent: Any) -> list[Any]:
        """Take the orders of a bracket that BackBroker holds back until its last child comes."""
        if parent.status != parent.Created:
            return []
        return list(self.inner._pchildren.pop(parent.ref, ()))

    def set_aside_family(self, parent: Any) -> list[Any]:
        """Take the orders of a bracket that were sent, so that a late child does not send them.

        With every child that is to be sent BackBroker sends all orders that it has of the bracket.
        """
        family = self.inner._pchildren.get(getattr(parent, "ref", None))
        if not family or parent.status == parent.Created:
            return []
        orders = list(family)
        family.clear()
        return orders

    def put_back_family(self, parent: Any, orders: list[Any]) -> None:
        """Put the orders of a bracket back before its late child."""
        if orders:
            self.inner._pchildren[parent.ref].extendleft(reversed(orders))

    def send_family(self, parent: Any, whole: bool = False) -> Any:
        """Return the parent: BackBroker sends the family once its last child comes.

        Where no further child comes (`whole`), it is sent here.
        """
        if whole:
            family = self.take_family(parent)
            self.give_back_family(parent, family)
            for order in family:
                self.inner.transmit(order)
        return parent

    def give_back_family(self, parent: Any, orders: list[Any]) -> None:
        """Let BackBroker hold orders of a bracket back again."""
        self.inner._pchildren[parent.ref] += orders
