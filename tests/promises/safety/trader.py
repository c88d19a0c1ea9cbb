"""The random strategy: it does what the actions of its world say."""

from datetime import timedelta

import backtrader as bt

from promises.safety.book import EPS

Order = bt.Order


class Trader(bt.Strategy):
    """Do what the world's actions say; every call goes through the model, there and back."""

    params = (("who", 0), ("world", None), ("model", None))

    def __init__(self):
        self.model, self.who = self.p.model, self.p.who
        self.model.traders[self.who] = self
        self.sent, self.plans, self.leaves = [], {}, False
        self.plan = {}
        for action in self.p.world.actions:
            if action.who == self.who:
                self.plan.setdefault(action.bar, []).append(action)

    def prenext(self):
        self.next()

    def next(self):
        self.model.close_bar()
        self._act(at_open=False)

    def prenext_open(self):
        self.next_open()

    def next_open(self):
        self.model.opening = True
        self._act(at_open=True)

    def _act(self, at_open):
        for action in self.plan.get(self.model.now, ()):
            data = self.datas[action.data]
            there = len(data) or self.model.refuses_unstarted and action.verb == "market"
            if action.at_open == at_open and there:
                getattr(self, f"do_{action.verb}")(data, *action.args)
                self.model.check_families()

    def notify_order(self, order):
        self.model.delivered[order.ref, order.status] += 1
        if order.status == order.Completed and order.ref in self.plans:
            self.do_exits(order.data, *self.plans.pop(order.ref))

    # -- every order goes through the model ------------------------------------------------------

    def buy(self, data=None, size=None, **kwargs):
        return self._ask(1, super().buy, data, size, kwargs)

    def sell(self, data=None, size=None, **kwargs):
        return self._ask(-1, super().sell, data, size, kwargs)

    def _ask(self, side, send, data, size, kwargs):
        data = self.datas[0] if data is None else data
        size = self.getsizing(data, isbuy=side > 0) if size is None else size
        if self.p.world.filler and isinstance(size, float) and size.is_integer() is False:
            # BackBroker with a filler doubles what rounding leaves of a fraction, bar after bar.
            if abs(size) <= EPS:
                return None  # what rounding has left of a position is none
            size = max(1, round(size))
        if not size:  # Backtrader's own answer to an order of zero
            return send(data=data, size=size, **kwargs)
        asked = self.model.before(self, side, data, size, kwargs)
        order = send(data=data, size=size, **kwargs)
        self.model.after(asked, order)
        if order is not None:
            self.sent.append(order)
        return order

    def close(self, *args, **kwargs):
        self.leaves = True
        try:
            return super().close(*args, **kwargs)
        finally:
            self.leaves = False

    def cancel(self, order):
        self.model.cancelled.add(order.ref)
        super().cancel(order)

    def _send(self, side, **kwargs):
        return (self.buy if side > 0 else self.sell)(**kwargs)

    def _price(self, data):
        return self.model.quote(self.model.index(data))

    def _away(self, data, offset, price=None):
        """Return a price that is away from the close, or from another, by a fraction of it."""
        price = self._price(data) if price is None else price
        return price + offset * self.model.unit(self.model.index(data))

    def _priced(self, data, *prices):
        """Whether the close, and all of these prices, can be prices."""
        index = self.model.index(data)
        return all(self.model.valid(index, one) for one in (self._price(data), *prices))

    def _held(self, data):
        """Return what this strategy holds, as far as it knows."""
        if self.p.world.own_parts:
            return self.model.share(self.model.index(data), self.who).size
        return self.getposition(data).size

    # -- verbs -----------------------------------------------------------------------------------

    def do_market(self, data, side, size, exits=None, kind="Market", tradeid=0):
        args = {"data": data, "size": size, "exectype": getattr(Order, kind)}
        order = self._send(side, **args | ({"tradeid": tradeid} if tradeid else {}))
        if exits and order is not None:
            self.plans[order.ref] = exits

    def do_resting(self, data, side, size, kind, offset, days=None):
        """Send an order that rests `offset` above the close (below, when negative)."""
        price = self._away(data, offset)
        if not self._priced(data, price):
            return
        valid = None if days is None else timedelta(days=days)
        args = {"data": data, "size": size, "valid": valid, "exectype": getattr(Order, kind)}
        if kind == "StopTrail":
            args |= {"trailamount": max(0.002, abs(offset)) * self._away(data, 1.0, 0.0)}
        elif kind == "StopLimit":
            args |= {"price": price, "plimit": self._away(data, side * 0.01, price)}
        else:
            args |= {"price": price}
        self._send(side, **args)

    def do_planned(self, data, side, size, offset):
        """Tell the gate where the stop will be."""
        if self._priced(data):
            stop = self._away(data, -side * offset)
            self._send(side, data=data, size=size, stop_price=stop)

    def do_close(self, data, share=1.0, kind="Market", tradeid=0):
        held = abs(self.getposition(data).size)
        if held > EPS:
            args = {"data": data, "size": _part(held, share), "exectype": getattr(Order, kind)}
            self.close(**args | ({"tradeid": tradeid} if tradeid else {}))

    def do_leave(self, data, also):
        """Close all that is held, over whatever rests, and do one more thing on that bar."""
        held = self._held(data)
        if abs(held) <= EPS:
            return
        side = -1 if held > 0 else 1
        if also == "sell first":
            self._send(side, data=data, size=_part(abs(held), 0.5))
        order = self.close(data=data)
        if also == "cancel" and order is not None:
            self.cancel(order)
        if also in ("again", "cancel"):
            self.close(data=data)
        if also == "reverse":
            self._send(side, data=data, size=_part(abs(held), 1.0))
        if also == "re-enter":
            self._send(-side, data=data, size=_part(abs(held), 1.0))

    def do_rotate(self, data, into, side, size, first=True):
        """Leave one feed and enter another on one bar, the exit `first` or last."""
        other, held = self.datas[into], self._held(data)
        if not len(other) or not self._priced(other):
            return
        if abs(held) > EPS and first:
            self._send(-1 if held > 0 else 1, data=data, size=abs(held))
        self._send(side, data=other, size=size)
        if abs(held) > EPS and not first:
            self._send(-1 if held > 0 else 1, data=data, size=abs(held))

    def do_late(self, data, side, size, offset):
        """Send a child of an order that has ended."""
        ended = [order for order in self.sent if not order.alive() and order.data is data]
        price = self._away(data, offset)
        if ended and self._priced(data, price):
            args = {"data": data, "size": size, "price": price, "exectype": Order.Limit}
            self._send(side, parent=ended[-1], **args)

    def do_day(self, data, side, size):
        """Enter at the open and leave at the close of one bar."""
        self._send(side, data=data, size=size)
        self._send(-side, data=data, size=size, exectype=Order.Close)

    def do_timed(self, data, low, oco=True):
        """Leave at the close of the next bar, or at a stop before it."""
        held = self._held(data)
        if abs(held) <= EPS:
            return
        side = -1 if held > 0 else 1
        price = self._away(data, side * low)
        if self._priced(data, price):
            args = {"data": data, "size": abs(held)}
            stop = self._send(side, price=price, exectype=Order.Stop, **args)
            self._send(side, exectype=Order.Close, oco=stop if oco else None, **args)

    def do_exits(self, data, low, high, oco=False, share=1.0):
        """Place a stop-loss and a take-profit on what is held: as an OCO pair or as two orders."""
        held = self._held(data)
        if abs(held) <= EPS:
            return
        side, size = (-1 if held > 0 else 1), _part(abs(held), share)
        below, above = self._away(data, side * low), self._away(data, -side * high)
        if self._priced(data, below, above):
            args = {"data": data, "size": size}
            stop = self._send(side, price=below, exectype=Order.Stop, **args)
            oco = stop if oco else None
            self._send(side, price=above, exectype=Order.Limit, oco=oco, **args)

    def do_ladder(self, data, near, far, share=1.0):
        """Take profit at one price or the other, never at both."""
        held = self._held(data)
        if abs(held) <= EPS:
            return
        side = -1 if held > 0 else 1
        prices = self._away(data, -side * near), self._away(data, -side * far)
        if self._priced(data, *prices):
            args = {"data": data, "size": _part(abs(held), share), "exectype": Order.Limit}
            first = self._send(side, price=prices[0], **args)
            self._send(side, price=prices[1], oco=first, **args)

    def do_fork(self, data, size, offset):
        """Place a breakout on either side, one cancels the other."""
        above, below = self._away(data, offset), self._away(data, -offset)
        if self._priced(data, above, below):
            args = {"data": data, "size": size, "exectype": Order.Stop}
            up = self.buy(price=above, **args)
            self.sell(price=below, oco=up, **args)

    def do_scalp(self, data, side, size, offset, kind="Limit"):
        """Enter, and place the take-profit (or the stop) with the entry, without parent."""
        price = self._away(data, side * offset)
        if self._priced(data, price):
            self._send(side, data=data, size=size)
            exectype = getattr(Order, kind)
            self._send(-side, data=data, size=size, price=price, exectype=exectype)

    def do_reverse(self, data, factor=2.0):
        held = self._held(data)
        if abs(held) > EPS:
            self._send(-1 if held > 0 else 1, data=data, size=_part(abs(held), factor))

    def do_target(self, data, kind, target):
        spread = self.p.world.feeds[self.model.index(data)].spread
        # Backtrader itself reads the close, at the open that of a bar to come.
        if self._priced(data) and data.close[0] > 0 and (kind == "size" or not spread):
            getattr(self, f"order_target_{kind}")(data=data, target=target)

    def do_bracket(self, data, side, size, kind, offset, low, high, which="both", days=None):
        price = self._away(data, -side * offset)
        stop, limit = self._away(data, -side * low, price), self._away(data, side * high, price)
        if not self._priced(data, price, stop, limit):
            return
        send = self.buy_bracket if side > 0 else self.sell_bracket
        send(
            data=data,
            size=size,
            exectype=getattr(Order, kind),
            price=price if kind == "Limit" else None,
            stopprice=stop,
            limitprice=limit,
            stopexec=Order.Stop if which != "limit" else None,
            limitexec=Order.Limit if which != "stop" else None,
            oargs={} if days is None else {"valid": timedelta(days=days)},
        )

    def do_family(self, data, side, size, low, high, share=1.0, pyramid=0):
        """Do by hand what a bracket is, with children of another size, or one that adds."""
        stop, limit = self._away(data, -side * low), self._away(data, side * high)
        if not self._priced(data, stop, limit):
            return
        parent = self._send(side, data=data, size=size, transmit=False)
        size = _part(abs(parent.size) or 1, share)
        args = {"data": data, "parent": parent, "size": size}
        self._send(-side, price=stop, exectype=Order.Stop, transmit=False, **args)
        self._send(-side, price=limit, exectype=Order.Limit, transmit=not pyramid, **args)
        if pyramid:
            args |= {"size": pyramid, "price": limit}
            self._send(side, exectype=Order.Stop, **args)

    def do_switch(self, data, how):
        """Let an operator act: halt, reduce_only or resume."""
        self.model.switch(how)
        getattr(self.broker, how)(*([] if how == "resume" else ["switched by hand"]))

    def do_cancel(self, data, place):
        alive = [order for order in self.sent if order.alive()]
        if alive:
            self.cancel(alive[place % len(alive)])


def _part(held, share):
    size = held * share
    whole = float(held).is_integer()
    return max(1, round(size)) if whole else size
