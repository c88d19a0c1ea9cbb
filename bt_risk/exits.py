"""The orders that bt_risk sends itself, which only ever close, and the guard over the user's."""

import backtrader as bt

from bt_risk.position import EPS, Working
from bt_risk.ticket import DEFAULTS, plain

__all__ = ["Exits"]


class Exits:
    """Send, move and withdraw the protective and closing orders of one `RiskBroker`.

    `guarded` holds the refs of the user's orders that open no more than they were allowed to,
    whatever else has filled by then.
    """

    def __init__(self, gate):
        self.gate = gate
        self.guarded = set()
        self._withdrawn = set()

    def send(self, part, size, reason, stop_price=None):
        """Send an order that closes `size` of a part: at the market, or resting at a stop."""
        exectype = bt.Order.Market if stop_price is None else bt.Order.Stop
        args = DEFAULTS | {"price": stop_price, "exectype": exectype, "tradeid": part.tradeid}
        if self.gate.simulated:
            args["coc"] = False  # a halt shows the gap that it came through
            args["_checksubmit"] = False  # ours needs no cash check, and can be cancelled at once
        side, instrument = -part.side, part.instrument
        order = self.gate.sender(side)(part.owner, instrument.data, plain(size), **args)
        if order is None:
            return None
        order.addinfo(bt_risk=reason)
        self.gate.own[order.ref] = order
        kind = "market" if stop_price is None else "stop"
        price = instrument.price if stop_price is None else stop_price
        working = Working(order.ref, instrument, part.owner, side, size, 0.0, kind, price)
        working.own, working.handle, working.set_at = True, order, instrument.moment()
        self.gate.book.add(working)
        return order

    def amend(self, order, size, price):
        """Give a resting stop of ours another size and price; return whether that is done.

        BackBroker's order is changed in place. Elsewhere the old one is cancelled, and the caller
        places a new one when it is gone.
        """
        if not self.gate.simulated:
            self.withdraw(order)
            return False
        signed = plain(size) if order.isbuy() else -plain(size)
        order.size = order.created.size = order.executed.remsize = signed
        order.created.price = price
        working = self.gate.book.working[order.ref]
        working.remaining = working.size = size
        working.price = price
        return True

    def withdraw(self, order):
        """Cancel an order of our own, once: a venue may take its time to confirm."""
        if order.ref not in self._withdrawn:
            self._withdrawn.add(order.ref)
            self.gate.inner.cancel(order)

    def cancel_entry(self, working):
        """Cancel what an order would open; what it would close stays, and so do other exits."""
        if working.closing > EPS:
            working.opening = 0.0
            self.guarded.add(working.ref)
        elif self.gate.execution is not None:
            self.gate.execution.cancel_alone(working.handle)
        else:
            self.gate.inner.cancel(working.handle)

    def guard(self, owner, instrument, side):
        """Let the working exits of an owner open no more than they were allowed to.

        Several of them stand against one position: the first that fills ends the others.
        """
        for w in instrument.orders.values():
            if w.owner is owner and w.side == side and not w.own:
                self.guarded.add(w.ref)

    def end_guarded(self, part):
        """Cancel the guarded exits of a position that is closed."""
        for w in list(part.instrument.orders.values()):
            if w.ref in self.guarded and w.owner is part.owner and w.opening <= EPS:
                self.gate.inner.cancel(w.handle)
                self.gate.note(
                    w.handle, "trim", "execution: cancelled, its position is closed", 0.0
                )

    def leaving(self, part):
        """Return why an exit of ours is closing this part at the market, or nothing."""
        for w in part.instrument.orders.values():
            if w.own and w.kind == "market" and w.owner is part.owner:
                return w.handle.info.bt_risk
        return ""
