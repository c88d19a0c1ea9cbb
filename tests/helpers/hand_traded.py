"""Imitate a venue where a person trades on the same account, and a store that loses things."""

import backtrader as bt

import bt_risk
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, Ticking
from helpers.scenarios import Script, bars, flat


class HandTraded(FakeBroker):
    """Do what `plan` says before a bar is traded: ``{bar: callable(broker)}``.

    A round of the loop takes `seconds`. With `lists=False` it has no list of orders. Orders in
    `hidden` are not listed, those in `lost` are not notified any more; `shown` is listed as well.
    """

    params = (("plan", None), ("seconds", 2.0), ("lists", True), ("clock", None), ("can", None))

    def start(self):
        super().start()
        self.capabilities = self.p.can or {}
        self.clock = self.p.clock
        self.hidden, self.lost, self.shown, self.cancels = set(), set(), [], []
        self.raising, self.list_error, self.says, self.rounds = None, None, None, []
        self._done = set()
        if not self.p.lists:
            self.get_orders_open = None

    @property
    def data(self):
        return self.cerebro.datas[0]

    # -- what a person or a fault does -----------------------------------------------------------

    def by_hand(self, size, price=None, data=None):
        """Trade `size` outside of the run."""
        data = data or self.data
        price = price or data.close[0]
        self._positions[data].update(size, price)
        self.cash -= size * price
        self.sizes.append(self._positions[data].size)

    def close_by_hand(self, share=1.0, data=None):
        self.by_hand(-share * self._positions[data or self.data].size, data=data)

    def stops(self, data=None):
        """Return the stops that rest at the venue."""
        stops = [o for o in self._working if o.exectype == bt.Order.Stop]
        return [o for o in stops if data is None or o.data is data]

    def lose(self, *orders):
        """Forget orders without a word; a cancel of them is never answered."""
        for order in orders:
            self._working.remove(order)

    def fill_unheard(self, order, price=None):
        """Fill an order, and notify nobody."""
        self.lost.add(order.ref)
        self._fill_at(order, price or order.created.price or self.data.close[0])

    def _fill_at(self, order, price):
        self._price_now = price
        try:
            self._try(order)
        finally:
            self._price_now = None

    def foreign(self, size, price, exectype):
        """Rest an order of somebody else."""
        kind = bt.order.BuyOrder if size > 0 else bt.order.SellOrder
        order = kind(
            owner=None,
            data=self.data,
            size=abs(size),
            price=price,
            exectype=exectype,
            simulated=True,
        )
        order.addcomminfo(self.getcommissioninfo(self.data))
        order.addinfo(venue_id="F1")
        order.submit(self)
        order.accept(self)
        self._accepted_at[order.ref] = len(self.data)
        self._working.append(order)
        return order

    # -- a broker --------------------------------------------------------------------------------

    def _make(self, *args):
        """Return another object than the store's own, as for an answer of the venue."""
        return super()._make(*args).clone()

    _price_now = None

    def _price(self, order):
        return super()._price(order) if self._price_now is None else self._price_now

    def _notify(self, order):
        if order.ref not in self.lost:
            super()._notify(order)

    def get_orders_open(self):
        if self.list_error is not None:
            raise self.list_error
        listed = [o for o in self._working if o.ref not in self.hidden]
        return [o.clone() for o in listed + self.shown]

    def getposition(self, data, clone=True):
        if self.says is not None:
            return self.says(super().getposition(data))
        return super().getposition(data)

    def cancel(self, order):
        self.cancels.append(order.ref)
        if any(o.ref == order.ref for o in self._working):
            super().cancel(order)

    def next(self):
        self.clock.now += self.p.seconds
        bar = len(self.data)
        if bar in (self.p.plan or {}) and bar not in self._done:
            self._done.add(bar)
            self.p.plan[bar](self)
        if self.raising is not None:
            raise self.raising
        super().next()
        self.rounds.append(self._positions[self.data].size)


def run(
    plan,
    actions,
    rows=None,
    *,
    stop=True,
    strategies=1,
    frames=None,
    contract=None,
    breaker=None,
    **options,
):
    """Run a script with a `HandTraded` venue; return venue, strategy and journal."""
    clock, kind = Clock(), options.pop("kind", HandTraded)
    names = kind.params._getkeys()
    venue = kind(plan=plan, clock=clock, **{k: options.pop(k) for k in list(options) if k in names})
    engine = bt.Cerebro(stdstats=False)
    for number, frame in enumerate(frames or [bars(*(rows or flat(50)))]):
        engine.adddata(Ticking(dataname=frame), name=f"D{number}")
    for data in engine.datas if contract else ():
        data._dataname = contract
    gate = bt_risk.RiskBroker(venue, clock=clock, now=clock, **options)
    engine.setbroker(gate)
    for _ in range(strategies):
        engine.addstrategy(Script, actions=actions)
    if stop:
        engine.addobserver(bt_risk.ATRTrailingStop)
    if breaker is not None:
        engine.addanalyzer(bt_risk.DrawdownBreaker, **breaker)
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = engine.run(quicknotify=True)[0]
    return venue, strategy, strategy.analyzers.riskjournal.frame()
