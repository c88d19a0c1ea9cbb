"""Run a strategy on the store of Interactive Brokers, against `helpers.tws` on loopback."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket

import backtrader as bt
import pytest

import bt_risk
from bt_risk.state.file import StateFile
from helpers.restarts import start_child
from helpers.scenarios import Script, flat
from helpers.tws import TWS

pytest.importorskip("ib_async")

from ib_async import Contract, util  # noqa: E402

from bt_risk.stores.ib import IBBroker, IBData, IBStore  # noqa: E402

# Up, so that the stop moves; then a fall that reaches it.
RISE = [(100 + k, 102 + k, 99 + k, 101 + k) for k in range(5)]
FALL = [(105 - 2 * k, 106 - 2 * k, 102 - 2 * k, 103 - 2 * k) for k in range(4)]
ROWS = [*flat(20), *RISE, *flat(2, 105.0), *FALL, *flat(6, 97.0)]
HISTORY = 20
QUICK = dict(confirm=0.01, settle=0.1, fee_wait=0.05, answer_within=1.0)
BUY = {21: lambda s: s.buy(size=100)}
LOOSE = dict(risk_limit=None, exposure_limit=None, action="pause")


def sound(venue, position=0.0):
    """The oracle: no flip, no order twice, and one stop of the right size or nothing at all."""
    assert venue.trouble == []
    assert venue.positions.get(1, 0.0) == position
    assert sum(-o.side * o.left for o in venue.working) == position
    assert len(venue.working) == bool(position)


def journal(strategy, action=None):
    """Return the reasons of the lines with an action, by default of all."""
    frame = strategy.analyzers.riskjournal.frame()
    return (frame if action is None else frame[frame.action == action]).reason.tolist()


def filled(strategy):
    """Return what each order of a run has filled, as the broker counts it."""
    orders = strategy.broker.inner.tracker.by_client_id.values()
    return [order.executed.size for order in orders if order.executed.size]


def stops(venue):
    return [order for order in venue.orders.values() if order.type == "STP"]


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
    """Ask the venue for the next bar after `idle` rounds without one.

    `acts` are called with the venue, by number of the bar that was delivered last. `outages` are
    pairs of such acts: the second one follows after some rounds without a connection.
    """

    params = (
        ("venue", None),
        ("idle", 8),
        ("acts", None),
        ("outages", None),
        ("qcheck", 0.001),
        ("until", None),
    )

    def start(self):
        super().start()
        self._idle, self._out = 0, 0
        self._acts = dict(self.p.acts or {})
        outages = self.p.outages or {}
        self._acts |= {bar: down for bar, (down, _) in outages.items()}
        self._back = {bar: up for bar, (_, up) in outages.items()}

    def _load(self):
        loaded, venue = super()._load(), self.p.venue
        if loaded:
            self._idle = 0
        elif self._laststatus == self.LIVE:
            self._idle += 1
            if self._idle == 2:
                self._acts.pop(venue.shown, _nothing)(venue)
            if self._idle > self.p.idle:
                self._idle = 0
                if venue.shown == self.p.until or not venue.next_bar():
                    return False
        elif self._laststatus == self.DISCONNECTED:
            self._out += 1
            if self._out == 20:
                self._out = 0
                self._back.pop(venue.shown, _nothing)(venue)
        return loaded


def _nothing(venue):
    pass


def contract(symbol="AAA", sec_type="STK", exchange="SMART", currency="USD"):
    """Return a contract as a user writes it."""
    return Contract(symbol=symbol, secType=sec_type, exchange=exchange, currency=currency)


def connect(venue, **settings):
    """Return a store for a venue, whose clock never ends a bar."""
    settings = dict(retry_after=0.01, timeout=5.0, now=lambda: 0.0) | settings
    return IBStore(port=venue.port, **settings)


def trade(venue, actions, policy=None, *, strategy=Script, **live):
    """Run a script until the bars end; return the strategy.

    The settings of `Lockstep` are among `live`.
    """
    feed = {name: live.pop(name) for name in ("idle", "acts", "outages", "until") if name in live}
    store = connect(venue)
    engine = bt.Cerebro(stdstats=False)
    data = Lockstep(
        store=store,
        contract=contract(),
        venue=venue,
        **feed,
    )
    engine.adddata(data, name="AAA")
    engine.setbroker(IBBroker(store=store, **QUICK))
    engine.addstrategy(strategy, actions=actions)
    bt_risk.protect(engine, policy or bt_risk.Policy(**LOOSE), **({"retry_after": 0.02} | live))
    return engine.run(quicknotify=True)[0]


class Remote:
    """Control a venue from another process."""

    def __init__(self, venue):
        self.port, self.shown = venue.port, venue.shown
        self._line = socket.create_connection(("127.0.0.1", venue.control_port))

    def next_bar(self):
        self._line.sendall(b"n")
        self.shown += 1
        return self._line.recv(1) == b"1"


def killed_trade(venue, actions, policy=None, *, bar=None, write=None, after=False, **live):
    """Trade in a process of its own that dies at a bar, or at a write of its state.

    Return the signal that has ended it, 0 where it has come to its end.
    """

    def work():
        asyncio.set_event_loop(asyncio.new_event_loop())
        if write is not None:
            _die_at_write(write, after)
        trade(Remote(venue), actions, policy, acts={bar: _die}, **live)

    child = start_child(work)
    return util.getLoop().run_until_complete(_end_of(child))


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_write(number, after):
    write, count = StateFile.write, itertools.count(1)

    def counted(self, *args, **kwargs):
        this = next(count)
        if this == number and not after:
            _die()
        write(self, *args, **kwargs)
        if this == number:
            _die()

    StateFile.write = counted


async def _end_of(child):
    """Let the loop serve until a child has ended; return the signal that has ended it."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status)
            return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        await asyncio.sleep(0.005)
