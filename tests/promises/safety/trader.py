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
        self.sent, self.plans = [], {}
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
            size = max(1, round(size))
        if not size:  # Backtrader's own answer to an order of zero
            return send(data=data, size=size, **kwargs)
        asked = self.model.before(self, side, data, size, kwargs)
        order = send(data=data, size=size, **kwargs)
        self.model.after(asked, order)
        if order is not None:
            self.sent.append(order)
        return order

    def cancel(self, order):
        self.model.cancelled.add(order.ref)
        super().cancel(order)

    def _send(self, side, **kwargs):
        return (self.buy if side > 0 else self.sell)(**kwargs)

    def _price(self, data):
        return self.model.quote(self.model.index(data))

    # -- verbs -----------------------------------------------------------------------------------

    def do_market(self, data, side, size, exits=None, kind="Market"):
        order = self._send(side, data=data, size=size, exectype=getattr(Order, kind))
        if exits and order is not None:
            self.plans[order.ref] = exits

    def do_resting(self, data, side, size, kind, offset, days=None):
        """Send an order that rests `offset` above the close (below, when negative)."""
        price = self._price(data) * (1 + offset)
        if not price > 0:
            return
        valid = None if days is None else timedelta(days=days)
        args = {"data": data, "size": size, "valid": valid, "exectype": getattr(Order, kind)}
        if kind == "StopTrail":
            args |= {"trailpercent": max(0.002, abs(offset))}
        elif kind == "StopLimit":
            args |= {"price": price, "plimit": price * (1 + side * 0.01)}
        else:
            args |= {"price": price}
        self._send(side, **args)

    def do_planned(self, data, side, size, offset):
        """Tell the gate where the stop will be."""
        price = self._price(data)
        if price > 0:
            self._send(side, data=data, size=size, stop_price=price * (1 - side * offset))

    def do_close(self, data, share=1.0, kind="Market"):
        held = abs(self.getposition(data).size)
        if held > EPS:
            self.close(data=data, size=_part(held, share), exectype=getattr(Order, kind))

    def do_day(self, data, side, size):
        """Enter at the open and leave at the close of one bar."""
        self._send(side, data=data, size=size)
        self._send(-side, data=data, size=size, exectype=Order.Close)

    def do_timed(self, data, low, oco=True):
        """Leave at the close of the next bar, or at a stop before it."""
        held = self.getposition(data).size
        if abs(held) > EPS and self._price(data) > 0:
            side = -1 if held > 0 else 1
            args = {"data": data, "size": abs(held)}
            price = self._price(data) * (1 + side * low)
            stop = self._send(side, price=price, exectype=Order.Stop, **args)
            self._send(side, exectype=Order.Close, oco=stop if oco else None, **args)

    def do_exits(self, data, low, high, oco=False, share=1.0):
        """Place a stop-loss and a take-profit on what is held: as an OCO pair or as two orders."""
        held = self.getposition(data).size
        if abs(held) <= EPS or not self._price(data) > 0:
            return
        side, size = (-1 if held > 0 else 1), _part(abs(held), share)
        close = self._price(data)
        stop = self._send(
            side, data=data, size=size, price=close * (1 + side * low), exectype=Order.Stop
        )
        self._send(
            side,
            data=data,
            size=size,
            price=close * (1 - side * high),
            exectype=Order.Limit,
            oco=stop if oco else None,
        )

    def do_ladder(self, data, near, far, share=1.0):
        """Take profit at one price or the other, never at both."""
        held = self.getposition(data).size
        if abs(held) <= EPS or not self._price(data) > 0:
            return
        side, close = (-1 if held > 0 else 1), self._price(data)
        args = {"data": data, "size": _part(abs(held), share), "exectype": Order.Limit}
        first = self._send(side, price=close * (1 - side * near), **args)
        self._send(side, price=close * (1 - side * far), oco=first, **args)

    def do_fork(self, data, size, offset):
        """Place a breakout on either side, one cancels the other."""
        close = self._price(data)
        if close > 0:
            args = {"data": data, "size": size, "exectype": Order.Stop}
            up = self.buy(price=close * (1 + offset), **args)
            self.sell(price=close * (1 - offset), oco=up, **args)

    def do_scalp(self, data, side, size, offset):
        """Enter, and place the take-profit with the entry, without parent."""
        close = self._price(data)
        if close > 0:
            self._send(side, data=data, size=size)
            price = close * (1 + side * offset)
            self._send(-side, data=data, size=size, price=price, exectype=Order.Limit)

    def do_reverse(self, data, factor=2.0):
        held = self.getposition(data).size
        if abs(held) > EPS:
            self._send(-1 if held > 0 else 1, data=data, size=_part(abs(held), factor))

    def do_target(self, data, kind, target):
        if self._price(data) > 0:
            getattr(self, f"order_target_{kind}")(data=data, target=target)

    def do_bracket(self, data, side, size, kind, offset, low, high, which="both", days=None):
        close = self._price(data)
        if not close > 0:
            return
        price = close * (1 - side * offset)
        send = self.buy_bracket if side > 0 else self.sell_bracket
        send(
            data=data,
            size=size,
            exectype=getattr(Order, kind),
            price=price if kind == "Limit" else None,
            stopprice=price * (1 - side * low),
            limitprice=price * (1 + side * high),
            stopexec=Order.Stop if which != "limit" else None,
            limitexec=Order.Limit if which != "stop" else None,
            oargs={} if days is None else {"valid": timedelta(days=days)},
        )

    def do_family(self, data, side, size, low, high, share=1.0, pyramid=0):
        """Do by hand what a bracket is, with children of another size, or one that adds."""
        close = self._price(data)
        if not close > 0:
            return
        parent = self._send(side, data=data, size=size, transmit=False)
        size = _part(abs(parent.size) or 1, share)
        args = {"data": data, "parent": parent, "size": size}
        stop = close * (1 - side * low)
        self._send(-side, price=stop, exectype=Order.Stop, transmit=False, **args)
        limit = close * (1 + side * high)
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
