"""Imitate a live broker that knows OCO groups, brackets, ``replace`` and ``reduce_only``."""

import backtrader as bt

from helpers.fake_broker import FakeBroker


class CapableBroker(FakeBroker):
    """Do what `can` names, on top of `FakeBroker`; fill in parts, and answer cancels late.

    `parts` maps the number of an order to what of it fills on the first bar that reaches it, and
    `deaf` holds the numbers of the orders whose first cancel is lost; with ``lag`` a cancel is
    heard so many rounds late. `slow` orders fill no sooner than the bar that it names. `requests`
    collects ``(verb, number, side, size, arguments)``.
    """

    params = (
        ("can", ()),
        ("parts", None),
        ("deaf", ()),
        ("lag", 0),
        ("slow", None),
        ("broken", ()),
    )

    def start(self):
        super().start()
        self.capabilities = dict.fromkeys(self.p.can, True)
        self.requests, self._parts = [], dict(self.p.parts or {})
        self._groups, self._parents, self._held = {}, {}, {}
        self._deaf, self._heard = set(self.p.deaf), []

    # -- requests --------------------------------------------------------------------------------

    def buy(self, owner, data, size, **kwargs):
        return self._request(bt.order.BuyOrder, owner, data, size, **kwargs)

    def sell(self, owner, data, size, **kwargs):
        return self._request(bt.order.SellOrder, owner, data, size, **kwargs)

    def _request(
        self,
        kind,
        owner,
        data,
        size,
        price=None,
        plimit=None,
        exectype=None,
        valid=None,
        tradeid=0,
        oco=None,
        trailamount=None,
        trailpercent=None,
        parent=None,
        transmit=True,
        reduce_only=False,
    ):
        if self._orders + 1 in self.p.broken:
            self._orders += 1
            raise ValueError("refused")
        order = super()._make(kind, owner, data, size, price, exectype, valid, tradeid)
        number = self._orders
        side = 1 if order.isbuy() else -1
        options = {"oco": oco, "parent": parent, "transmit": transmit, "reduce_only": reduce_only}
        self.requests.append(("send", number, side, size, options))
        order.addinfo(number=number, reduce_only=reduce_only)
        leader = oco if parent is None else parent
        assert leader is None or leader in self._working or leader.ref in self._known, "not known"
        if oco is not None:
            self._groups[order.ref] = self._groups.setdefault(oco.ref, oco.ref)
        if parent is not None:
            self._parents[order.ref] = parent
            self._groups[order.ref] = ("children", parent.ref)
        root = order if parent is None else parent
        self._held.setdefault(root.ref, []).append(order)
        if transmit:
            del self._held[root.ref]
        return order

    @property
    def _known(self):
        return {order.ref for order in self._working}

    def replace(self, order, size, price):
        assert "replace" in self.p.can
        self.requests.append(("replace", order.info.number, 0, size, {}))
        if not any(one.ref == order.ref for one in self._working):
            return False  # it has ended
        order.created.price = price
        signed = size if order.isbuy() else -size
        order.executed.remsize = order.created.size = order.size = signed
        return True

    def cancel(self, order):
        number = order.info.number
        self.requests.append(("cancel", number, 0, 0, {}))
        if number in self._deaf:
            self._deaf.discard(number)
        else:
            self._heard.append((self.p.lag, order))

    # -- the venue's own time --------------------------------------------------------------------

    def next(self):
        for lag, order in self._heard:
            if not lag and any(o is order or o.ref == order.ref for o in self._working):
                super().cancel(order)
        self._heard = [(lag - 1, order) for lag, order in self._heard if lag]
        super().next()

    def _try(self, order):
        held = any(order in family for family in self._held.values())
        parent = self._parents.get(order.ref)
        waits = parent is not None and parent.status != parent.Completed
        late = len(order.data) < (self.p.slow or {}).get(order.info.number, 0)
        if order not in self._working or held or waits or late or self._price(order) is None:
            return
        size, against = abs(order.executed.remsize), self._positions[order.data].size
        most = self._parts.pop(order.info.number, size)
        if order.info.reduce_only:
            most = min(most, max(0, -against if order.isbuy() else against))
            if not most:
                self._end(order, order.cancel)
                return
        if most >= size:
            super()._try(order)
        else:
            self._fill_part(order, most)
        self._end_group(order)

    def _fill_part(self, order, size):
        price = self._price(order)
        position = self._positions[order.data]
        signed = size if order.isbuy() else -size
        psize, pprice, opened, closed = position.update(signed, price)
        self.cash -= signed * price
        args = (closed, closed * pprice, 0.0, opened, opened * price, 0.0, 0.0, 0.0, psize, pprice)
        order.execute(order.data.datetime[0], signed, price, *args)
        self._accepted_at[order.ref] = len(order.data)
        self.sizes.append(psize)
        self._notify(order)

    def _end(self, order, how):
        super()._end(order, how)
        self._end_group(order)

    def _end_group(self, order):
        if order.alive():
            return
        group = self._groups.get(order.ref)
        ended = [o for o in self._working if group is not None and o is not order]
        for other in [o for o in ended if self._groups.get(o.ref) == group]:
            super()._end(other, other.cancel)
        if order.status != order.Completed:
            for child in [o for o in self._working if self._parents.get(o.ref) is order]:
                super()._end(child, child.cancel)
