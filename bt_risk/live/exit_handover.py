"""ExitHandover: no more of a strategy's exits is at the broker than may fill without opening.

BackBroker lets every exit rest and clamps what would open at the moment of execution (see
`SimulatedExecution`). A live broker cannot be clamped, so that it is ordered instead: an exit is
sent once what it replaces is confirmed to be cancelled, and for no more than is held then. The rest
of it waits in the gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bt_risk.orders import AT_MARKET, OrderRequest
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder
from bt_risk.portfolio.preview import exiting
from bt_risk.portfolio.reachable import (
    coming,
    held_for,
    market_exits,
    orders_of,
    parts_closed,
)
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["ExitHandover"]

_GONE = "exit handover: the position it was to close is gone"
_UNFILLED = "exit handover: the entry that it was to close did not fill"
_REPLACED = "exit handover: the order that it was to replace has filled or was cancelled"


class ExitHandover:
    """Hold back, send, and resize the exits of strategies at one live broker.

    A market order is sent for what is held then, when our own stop and target and the exits that
    rest behind the same units are cancelled, and when an earlier market exit of them has ended. A
    resting exit is sent for what its account (limits or stops) may close, and sent again with
    another size when that changes. An order that the broker confirms as cancelled for this purpose
    goes on in the gate: it is sent again where the market exit fails.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._groups_over: set[object] = set()

    # -- an order that arrives -------------------------------------------------------------------

    def hold(self, request: OrderRequest, size: float, opening: float, closing: float) -> Any:
        """Return an order that stands in for an exit that must wait, None where it need not."""
        instrument, oco = request.instrument, request.args["oco"]
        leader = None if oco is None else self.gate.book.working.get(oco.ref)
        exit_ = WorkingOrder(
            0,  # Backtrader numbers orders from 1 on
            instrument,
            request.owner,
            request.side,
            float(size),
            opening,
            request.kind,
            request.price,
            group=None if leader is None else leader.group,
            closing=closing,
            shared=request.shared,
            request=request,
            part=self.gate.book.part(instrument, request.owner),
        )
        instrument.orders[0] = exit_
        try:
            ready = self._is_ready(exit_)
        finally:
            del instrument.orders[0]
        return None if ready else self.gate.held_orders.stand_in(request, size)

    def _is_ready(self, exit_: WorkingOrder) -> bool:
        """Return whether an exit may be sent whole now; begin to make room for it."""
        if exit_.kind not in AT_MARKET:
            return self._place(exit_) >= exit_.remaining - SIZE_EPS
        if self._competes(exit_) or self._comes(exit_) > SIZE_EPS:
            return False
        return not self._make_room(exit_)

    # -- every round of the loop -----------------------------------------------------------------

    def advance(self) -> None:
        """Fit what rests to what is held, and send what has waited long enough."""
        held, working = self.gate.held_orders, self.gate.book.working
        for ref in list(held.taking):
            if ref in working:  # a cancel that got lost is sent again in time
                self.gate.venue.withdraw(working[ref].handle)
            else:
                held.taking.discard(ref)
        for part in self._changed():
            self._fit(part)
        for ref in list(held.requests):
            exit_ = working.get(ref)
            if exit_ is None:  # it was refused, or ended with another one
                held.requests.pop(ref, None)
            elif not exit_.waits:
                if exit_.kind in AT_MARKET:
                    self._try_at_market(exit_)
                else:
                    self._try_resting(exit_)

    def _changed(self) -> list[OwnerPosition]:
        """Return the positions that have changed, or that have an exit that is not sent whole."""
        book = self.gate.book
        parts = list(self.gate.fill_tracker.touched)
        for one in book.working.values():
            there = one.remaining - one.withheld
            if one.withheld > SIZE_EPS or there > one.closing + one.opening + SIZE_EPS:
                part = book.part(one.instrument, one.owner)
                if part not in parts:
                    parts.append(part)
        return parts

    def _try_at_market(self, exit_: WorkingOrder) -> None:
        part = self._part(exit_)
        if self._competes(exit_):
            return
        free = self.gate.venue.closable(part, self._free(exit_, part))
        exit_.closing = max(exit_.closing, min(exit_.remaining - exit_.opening, free))
        if self._comes(exit_) > SIZE_EPS or self._make_room(exit_):
            return
        size = min(exit_.remaining, free + exit_.opening)
        if size <= SIZE_EPS:
            self.gate.held_orders.end(exit_, _GONE if exit_.had_position else _UNFILLED)
            return
        exit_.cut_to(size)
        self.gate.held_orders.release(exit_, size)

    def _try_resting(self, exit_: WorkingOrder) -> None:
        size = self._place(exit_)
        if size > SIZE_EPS:
            self.gate.held_orders.release(exit_, size)
        elif self._part_is_gone(exit_):
            self.gate.held_orders.end(exit_, _GONE if exit_.had_position else _UNFILLED)

    def _part_is_gone(self, exit_: WorkingOrder) -> bool:
        held = held_for(self._part(exit_), exit_.side, exit_.shared)
        return held <= SIZE_EPS and self._comes(exit_) <= SIZE_EPS

    # -- market exits ----------------------------------------------------------------------------

    def _rivals(self, exit_: WorkingOrder) -> Iterator[WorkingOrder]:
        """Yield the market exits of the same positions that go before this one."""
        requests = self.gate.held_orders.requests
        places = {ref: place for place, ref in enumerate(requests)}
        own = places.get(exit_.ref, len(places))
        for one in exit_.instrument.orders.values():
            same = one.owner is exit_.owner or one.shared or exit_.shared
            first = one is not exit_ and not one.waits and places.get(one.ref, -1) < own
            rival = first and same and one.side == exit_.side and one.kind in AT_MARKET
            if rival and self.gate.venue.on_its_way(one):
                yield one

    def _competes(self, exit_: WorkingOrder) -> bool:
        """Return whether an order counts on what an earlier one may leave, or must not overtake."""
        wanted = exit_.remaining - exit_.opening
        rivals = list(self._rivals(exit_))
        if any(one.ref in self.gate.held_orders for one in rivals):
            return True  # orders of one moment are sent in their sequence
        exceeds = wanted > self._free(exit_, self._part(exit_)) + SIZE_EPS
        return exceeds and bool(rivals)

    def _free(self, exit_: WorkingOrder, part: OwnerPosition) -> float:
        """Return what is held and what no earlier market exit closes."""
        rivals = [one.remaining if one.own else one.closing for one in self._rivals(exit_)]
        return max(0.0, held_for(part, exit_.side, exit_.shared) - sum(rivals))

    def _comes(self, exit_: WorkingOrder) -> float:
        """Return what entries may bring that an exit counts on, beyond what is held."""
        part = self._part(exit_)
        if exit_.kind in AT_MARKET and exit_.closing <= self._free(exit_, part) + SIZE_EPS:
            return 0.0
        return coming(part, exit_.kind, exit_.side, exit_.price, exit_.trails, exit_)

    def _make_room(self, exit_: WorkingOrder) -> bool:
        """Withdraw what would fill beside a market exit; return whether something is left of it."""
        part, left = self._part(exit_), self._ends_child(exit_)
        for one in exit_.instrument.parts:
            own = one is part and exit_.closing > SIZE_EPS
            if own or (exit_.shared and self._rests_beyond(one, exit_.side)):
                for working in self._ours(one, exit_.side):
                    self.gate.venue.withdraw(working.handle)
                    left |= self.gate.venue.awaited(working)
            if own or exit_.shared:
                left |= self._fit(one, exit_.side)
        return left

    @staticmethod
    def _ours(part: OwnerPosition, side: int) -> list[WorkingOrder]:
        """Return our own exits that wait for a price behind a position."""
        orders = part.instrument.orders.values()
        ours = [w for w in orders if w.own and w.kind not in AT_MARKET and w.side == side]
        return [w for w in ours if w.owner is part.owner]

    def _rests_beyond(self, part: OwnerPosition, side: int) -> bool:
        """Return whether our exits would close more of a position than market exits leave."""
        left, sums = part.held_against(side) - exiting(part, side), {"limit": 0.0, "stop": 0.0}
        for working in self._ours(part, side):
            sums[working.kind] += working.remaining
        return max(sums.values()) > max(0.0, left) + SIZE_EPS

    def _ends_child(self, exit_: WorkingOrder) -> bool:
        """Withdraw a stop that works with its entry; return whether something is left of it.

        What that entry has filled by now may not be in the book, and the strategy may know of it.
        """
        left = False
        for w in list(exit_.instrument.orders.values()):
            child = w.own and w.parent is not None and w.side == exit_.side
            if child and (exit_.shared or w.owner is exit_.owner):
                self.gate.venue.withdraw(w.handle)
                left |= self.gate.venue.awaited(w)
        return left

    # -- resting exits ---------------------------------------------------------------------------

    def _place(self, exit_: WorkingOrder) -> float:
        """Return the size that a resting exit may have at the broker now."""
        places = self._places(self._part(exit_), exit_.side)
        return next((size for one, size in places if one is exit_), exit_.remaining)

    def _places(self, part: OwnerPosition, side: int) -> Iterator[tuple[WorkingOrder, float]]:
        """Yield an owner's resting orders, each with the size that it may have at the broker.

        Together the orders of an account close no more than market exits leave of the position;
        the oldest comes first. Children whose parent still works belong to the broker.
        """
        leaving = exiting(part, side)
        taken: dict[str, dict[object, float]] = {"limit": {}, "stop": {}}
        for one in sorted(orders_of(part, side), key=self._age):
            if one.kind in AT_MARKET or one.foreign or one.parent in part.instrument.orders:
                continue
            groups = taken[one.kind]
            closed = self._closed_by_others(one, part)
            if not one.shared:
                closed += leaving
            else:  # what leaves of any position leaves less for it
                rows = market_exits(part.instrument, side)
                closed += sum([units for w, _, units in rows if not w.own])
            free = max(0.0, held_for(part, side, one.shared) - closed)
            exits = one.remaining - one.opening
            if free <= SIZE_EPS or not self._clamped(one):
                others = sum([size for group, size in groups.items() if group != one.group])
                exits = min(exits, max(0.0, free - others))
            groups[one.group] = max(groups.get(one.group, 0.0), exits)
            yield one, one.opening + exits

    def _age(self, working: WorkingOrder) -> float:
        """Return the number under which the strategy knows an order; a new one comes last."""
        if not working.ref:
            return float("inf")
        ref: int = self.gate.held_orders.numbers.received(working.ref, working).ref
        return ref

    def _clamped(self, working: WorkingOrder) -> bool:
        """Return whether the broker itself keeps an order from opening."""
        sent = working.request
        reduces = sent is not None and self.gate.order_sender.reduces_only(sent)
        return reduces and working.opening <= SIZE_EPS

    def _closed_by_others(self, exit_: WorkingOrder, part: OwnerPosition) -> float:
        """Return what older exits of other owners close of what a resting exit of a kind closes."""
        units = 0.0
        for one in exit_.instrument.orders.values():
            if one.owner is exit_.owner or one.kind != exit_.kind or one.side != exit_.side:
                continue
            if (one.shared or exit_.shared) and self._age(one) < self._age(exit_) and not one.own:
                closed = parts_closed(one.part, one.side, one.closing, one.shared)
                units += sum([size for other, size in closed if exit_.shared or other is part])
        return units

    def _fit(self, part: OwnerPosition, only: int = 0) -> bool:
        """Give what rests at the broker the size that it may have; return whether that lasts."""
        held, unfinished = self.gate.held_orders, False
        for side in (only,) if only else (1, -1):
            for one, size in list(self._places(part, side)):
                if not one.ref or one.ref in held:
                    continue
                if one.ref in held.taking and not self.gate.venue.awaited(one):
                    continue
                there = one.remaining - one.withheld
                shrinks = size < there - SIZE_EPS
                grows = one.withheld > SIZE_EPS and size > there + SIZE_EPS
                if one.ref in held.taking or ((shrinks or grows) and not self._resized(one, size)):
                    unfinished = True
        return unfinished

    def _resized(self, working: WorkingOrder, size: float) -> bool:
        """Resize an order in one step where the broker can; else begin to take it back."""
        whole = not working.handle.executed.size and not working.trails
        if size > SIZE_EPS and whole and self.gate.venue.replaced(working, size, working.price):
            working.withheld = working.remaining - size
            return True
        held = self.gate.held_orders
        # A broker that is told to cancel one order of a group may cancel all of it.
        group = [w for w in working.instrument.orders.values() if w.group == working.group]
        for one in [w for w in group if w.ref and w.ref not in held and not w.own]:
            held.taking.add(one.ref)
            self.gate.venue.withdraw(one.handle)
        return False

    # -- an order that has ended at the broker ---------------------------------------------------

    def goes_on(self, order: Any) -> bool:
        """Return whether an order that has ended at the broker goes on in the gate.

        It was cancelled to be sent again, or all has filled of what the broker had of it.
        """
        held, working = self.gate.held_orders, self.gate.book.working.get(order.ref)
        if working is None or working.own:
            return False
        taken = order.ref in held.taking and order.status == order.Canceled
        held.taking.discard(order.ref)
        group = [w for w in self.gate.book.working.values() if w.group == working.group]
        rests = working.withheld > SIZE_EPS and order.status == order.Completed
        goes_on = taken or (rests and len(group) == 1)
        if goes_on and working.remaining > SIZE_EPS and working.group not in self._groups_over:
            held.take_back(working)
            return True
        if len(group) > 1 and order.status in (order.Completed, order.Canceled):
            self._groups_over.add(working.group)
            held.end_group(working.group, _REPLACED)
        return False

    def _part(self, working: WorkingOrder) -> OwnerPosition:
        return self.gate.book.part(working.instrument, working.owner)
