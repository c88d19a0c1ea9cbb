"""Run a strategy on the store of Interactive Brokers, against `helpers.tws` on loopback."""

import contextlib

import backtrader as bt
from ib_async import Contract, util

import bt_risk
from bt_risk.stores.ib import IBBroker, IBData, IBStore
from helpers.scenarios import Script, flat
from helpers.tws import TWS

# Up, so that the stop moves; then a fall that reaches it.
RISE = [(100 + k, 102 + k, 99 + k, 101 + k) for k in range(5)]
FALL = [(105 - 2 * k, 106 - 2 * k, 102 - 2 * k, 103 - 2 * k) for k in range(4)]
ROWS = [*flat(20), *RISE, *flat(2, 105.0), *FALL, *flat(6, 97.0)]
HISTORY = 20
QUICK = dict(confirm=0.01, settle=0.02, fee_wait=0.05, answer_within=0.3)
LOOSE = dict(risk_limit=None, exposure_limit=None, action="pause")


@contextlib.contextmanager
def tws(rows=ROWS, history=HISTORY, **settings):
    """Start a venue on the loop of this thread."""
    venue, loop = TWS(rows, history, **settings), util.getLoop()
    loop.run_until_complete(venue.start())
    try:
        yield venue
    finally:
        venue.stop()


class Lockstep(IBData):
    """Ask the venue for the next bar after `idle` rounds without one; `acts` by number of bar.

    An act is called with the venue once its bar was delivered.
    """

    params = (("venue", None), ("idle", 8), ("acts", None), ("qcheck", 0.001), ("until", None))

    def start(self):
        super().start()
        self._idle = 0

    def _load(self):
        loaded = super()._load()
        if loaded:
            self._idle = 0
        elif self._laststatus == self.LIVE:
            self._idle += 1
            if self._idle == 2:
                act = (self.p.acts or {}).get(self.p.venue.shown)
                if act is not None:
                    act(self.p.venue)
            if self._idle > self.p.idle:
                self._idle = 0
                if self.p.venue.shown == self.p.until or not self.p.venue.next_bar():
                    return False
        return loaded


def connect(venue, **settings):
    """Return a store for a venue, whose clock never ends a bar."""
    settings = dict(retry_after=0.01, timeout=2.0, now=lambda: 0.0) | settings
    return IBStore(port=venue.port, **settings)


def trade(venue, actions, policy=None, *, idle=8, acts=None, until=None, strategy=Script, **live):
    """Run a script until the bars end, or at bar `until`; return the strategy."""
    store = connect(venue)
    engine = bt.Cerebro(stdstats=False)
    data = Lockstep(
        store=store,
        contract=Contract(symbol="AAA", secType="STK", exchange="SMART", currency="USD"),
        venue=venue,
        idle=idle,
        acts=acts,
        until=until,
    )
    engine.adddata(data, name="AAA")
    engine.setbroker(IBBroker(store=store, **QUICK))
    engine.addstrategy(strategy, actions=actions)
    bt_risk.protect(engine, policy or bt_risk.Policy(**LOOSE), **({"retry_after": 0.02} | live))
    return engine.run(quicknotify=True)[0]
