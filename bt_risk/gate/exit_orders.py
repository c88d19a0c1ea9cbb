"""The orders that bt_risk sends itself, which only ever close, and the guard over the user's."""

import backtrader as bt

from bt_risk.orders import DEFAULTS, OrderRequest, plain
from bt_risk.portfolio.position import EPS, WorkingOrder
from bt_risk.portfolio.preview import exiting

__all__ = ["ExitOrders"]

# Orders of ours that have ended are known for so long: a late fill of one is told by them.
_REMEMBERED = 1000


class ExitOrders:
    """Send, move and withdraw the protective and closing orders of one `RiskBroker`.

    `guarded` holds the refs of the user's orders that open no more than they were allowed to,
    whatever else has filled by then; `closing` the parts of positions that a venue is to be left
    with nothing of, each with the number of its trade; `ended` the refs of cancelled entries.
    """

    def __init__(self, gate):
        self.gate = gate
        self.guarded, self.ended, self.closing = set(), set(), {}
        self._withdrawn, self._tried = {}, {}

    def send(self, part, size, rule, reason, stop_price=None, stops=False):
        """Send an order that closes `size` of a part: at the market, or resting at a stop.

        `stops` says that a market order takes the place of a stop.
        """
        exectype = bt.Order.Market if stop_price is None else bt.Order.Stop
        args = DEFAULTS | {"price": stop_price, "exectype": exectype, "tradeid": part.tradeid}
        if self.gate.simulated:
            args["coc"] = False  # a halt shows the gap that it came through
            args["_checksubmit"] = False  # ours needs no cash check, and can be cancelled at once
        side, instrument = -part.side, part.instrument
        kind = "market" if stop_price is None else "stop"
        price = instrument.price if stop_price is None else stop_price
        recovery = self.gate.recovery
        if recovery is not None:
            recovery.intend(instrument, part.owner, side, size, kind, price, own=True)
        ticket = OrderRequest(side, part.owner, instrument, plain(size), args)
        order = self.gate.order_sender.send(ticket, ticket.size, own=True)
        if recovery is not None:
            recovery.sent(order)
        if order is None:
            return None
        order.addinfo(bt_risk=reason)
        self._own(order)
        working = WorkingOrder(order.ref, instrument, part.owner, side, size, 0.0, kind, price)
        working.stops |= stops
        working.own, working.rule = True, rule
        working.handle, working.set_at = order, instrument.moment()
        self.gate.book.add(working)
        if not order.alive():  # some brokers return an order that has ended already
            self.gate.fill_tracker.take(order)
        if recovery is not None:
            recovery.keep()
        return order

    def _own(self, order):
        """Know an order as ours; a run of years forgets the oldest of those that have ended."""
        own = self.gate.own
        own[order.ref] = order
        if len(own) > 2 * _REMEMBERED:
            for ref in [ref for ref, one in own.items() if not one.alive()][:-_REMEMBERED]:
                del own[ref]
                self._withdrawn.pop(ref, None)

    def amend(self, order, size, price):
        """Give a resting stop of ours another size and price; return whether that is done.

        BackBroker's order is changed in place. Elsewhere the old one is cancelled, and the caller
        places a new one when it is gone.
        """
        working = self.gate.book.working[order.ref]
        # At a venue, too, entries are judged by where the stop will be in a moment.
        working.price = price
        if self.gate.simulated:
            signed = plain(size) if order.isbuy() else -plain(size)
            order.size = order.created.size = order.executed.remsize = signed
            order.created.price = price
        elif not self._replaced(working, size, price):
            self.withdraw(order)
            return False
        working.remaining = working.size = size
        return True

    def _replaced(self, working, size, price):
        """Whether the broker inside has replaced an order in one step, where it can."""
        if (
            not self.gate.order_sender.can("replace")
            or working.ref in self.gate.order_sender.doubts
        ):
            return False
        try:
            return bool(self.gate.inner.replace(working.handle, size=plain(size), price=price))
        except Exception as error:  # cancel and replace instead: a cancel is safe to repeat
            reason = f"broker: replace failed: {error}"
            self.gate.journal.order(working.handle, "broker", "note", reason)
            return False

    def withdraw(self, order):
        """Cancel an order, once: a venue may take its time to confirm.

        A venue is asked again when nobody has answered for a while: a cancel is safe to repeat.
        """
        ref, asked = order.ref, self._withdrawn.get(order.ref)
        if asked is None and self.gate.recovery is not None:
            self.gate.recovery.keep()
        if self.gate.simulated:
            self._withdrawn[ref] = 0.0
            if asked is None:
                self.gate.inner.cancel(order)
        elif (
            ref not in self.gate.order_sender.doubts
        ):  # else nobody knows yet what there is to cancel
            now = self.gate.live.clock()
            if asked is None or now - asked >= self.gate.live.retry_after:
                self._withdrawn[ref] = now
                self._cancel(order)

    def _cancel(self, order):
        working = self.gate.book.working.get(order.ref)
        try:
            self.gate.inner.cancel(order if working is None else working.handle)
        except Exception as error:  # asked again in a while
            self.gate.journal.order(order, "broker", "note", f"broker: cancel failed: {error}")

    # -- what may not open any more --------------------------------------------------------------

    def cancel_entries(self, rule, kind=None):
        """Cancel what the user's working orders (of one kind) would open."""
        for working in list(self.gate.book.working.values()):
            if not working.own and working.opening > EPS and kind in (None, working.kind):
                self.cancel_entry(working, rule)
        self.gate.absorb()  # what is cancelled makes room at once

    def cancel_entry(self, working, rule):
        """Cancel what an order would open; what it would close stays, and so do other exits.

        Return whether that is new.
        """
        new = working.ref not in self.ended
        if new:
            self.gate.events.cut(working.handle, working.opening, rule)
        if working.closing <= EPS:
            self.ended.add(working.ref)
            hooks = self.gate.execution
            cancel = self.withdraw if hooks is None else hooks.cancel_alone
            cancel(working.handle)
        if self.gate.execution is not None or working.closing > EPS:
            # BackBroker cancels only what it has accepted; the rest is caught when it would fill.
            working.opening = 0.0
            self.guarded.add(working.ref)
        return new

    # -- a way out -------------------------------------------------------------------------------

    def close_all(self, rule, reason):
        """Close every position that no order of ours is closing yet."""
        for part in list(self.gate.book.parts.values()):
            self.close(part, rule, reason)

    def close(self, part, rule, reason, stops=False):
        """Close a part at the market; our order covers the user's exits, and goes first.

        Return the order once it is sent.
        BackBroker sees to that at the moment of execution. At a venue what rests has to be gone,
        and what leaves already is left to leave.
        """
        # Before the first bar of a data no order can be made for it.
        if not part.size or not part.instrument.length or self.leaving(part) is not None:
            return None
        resting, simulated = self._resting(part), self.gate.simulated
        size = abs(part.size)
        if not simulated:
            self.closing[part] = part.number
            size -= exiting(self.gate.book, part, -part.side, "market")
        order = None
        if size > EPS and (simulated or not resting) and self._may_try(part):
            order = self.send(part, size, rule, reason, stops=stops)
        for working in resting:
            if not (simulated and working.own):
                self.withdraw(working.handle)
        return order

    def _may_try(self, part):
        """Whether a venue may be asked: one that has refused is left alone for a while."""
        if self.gate.simulated:
            return True
        now, tried = self.gate.live.clock(), self._tried.get(part)
        same = tried is not None and tried[0] == part.number
        if same and now - tried[1] < self.gate.live.retry_after:
            return False
        self._tried[part] = part.number, now
        return True

    def _resting(self, part):
        orders = list(part.instrument.orders.values())
        return [w for w in orders if w.owner is part.owner and w.kind != "market"]

    def covers(self, part):
        """Whether a part at a venue is being closed: a stop beside that would sell it twice."""
        return self.closing.get(part) == part.number or self.leaving(part) is not None

    def all_flat(self):
        """Whether nothing is held, and nothing of ours or that would open is working."""
        book = self.gate.book
        held = any(part.size for part in book.parts.values())
        return not held and not any(w.opening > EPS or w.own for w in book.working.values())

    def guard(self, owner, instrument, side):
        """Let the working exits of an owner open no more than they were allowed to.

        Several of them stand against one position: the first that fills ends the others.
        """
        for w in instrument.orders.values():
            if w.owner is owner and w.side == side and not w.own:
                self.guarded.add(w.ref)

    def end_guarded(self, part, everything=False):
        """Cancel the guarded exits, or all exits, of a position that is closed."""
        for w in list(part.instrument.orders.values()):
            ends = everything and not w.own
            if (ends or w.ref in self.guarded) and w.owner is part.owner and w.opening <= EPS:
                self.withdraw(w.handle)
                reason = "execution: cancelled, its position is closed"
                self.gate.journal.order(w.handle, "execution", "trim", reason, 0.0)

    def leaving(self, part):
        """Return our market exit that is closing this part, or None."""
        for w in part.instrument.orders.values():
            if w.own and w.kind == "market" and w.owner is part.owner:
                return w
        return None
