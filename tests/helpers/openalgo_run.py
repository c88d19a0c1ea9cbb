"""Run a strategy live on openalgo-backtrader behind bt_risk, in an environment with that store.

    python tests/helpers/openalgo_run.py ASKED.json SAID.json

It reads what to do and where the venue is, and writes what it has seen as JSON. The faults of the
store are corrected here and nowhere else, each with the version that has it.
"""

import json
import os
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import backtrader as bt
import diskcache

import bt_risk

KEY = "key"
DEADLINE = 90.0  # seconds for the whole run, on however busy a machine
IDLE = 3  # rounds of the loop between two bars, for everybody to come to rest

# openalgo-backtrader 0.1.11 opens caches below /Users as soon as it is imported, and fails where
# it may not write there.
_Cache, _folder = diskcache.Cache, tempfile.TemporaryDirectory()
diskcache.Cache = lambda directory, *args, **kwargs: _Cache(
    str(Path(_folder.name, Path(directory).name)), *args, **kwargs
)
# Its WebSocket takes the key from here only, and without one does not authenticate.
os.environ["OPENALGO_API_KEY"] = KEY

from openalgo_bt.brokers.oabroker import OABroker  # noqa: E402
from openalgo_bt.feeds.oa import OAData  # noqa: E402
from openalgo_bt.stores.oa import OAStore  # noqa: E402
from openalgo_bt.utils import history  # noqa: E402


class CheckedBroker(OABroker):
    """Ask the venue before a cancel: openalgo-backtrader 0.1.11 reports Canceled in any case.

    An order that the venue does not cancel has filled, or its state comes with the next poll.
    """

    def cancel(self, order):
        answer = self._client.cancelorder(order_id=self._oidmap[order.ref])
        if answer.get("status") == "success":
            super().cancel(order)

    def patched_order_status(self, orderid):
        """Ask again for the price of an order that has filled between two answers.

        openalgo-backtrader 0.1.11 requests the trades before the status of an order: one that fills
        in between is complete at a price of 0.
        """
        status = super().patched_order_status(orderid)
        complete = str(status.get("order_status", "")).lower() == "complete"
        if complete and not status["price"]:
            return super().patched_order_status(orderid)
        return status


class PacedData(OAData):
    """Request the next bar of the venue when the store has the venue's state of every order."""

    params = (("venue", None), ("broker", None))

    def start(self):
        super().start()
        self._rounds, self._ends = 0, time.monotonic() + DEADLINE

    def _load(self):
        if self._q:
            return super()._load()
        assert time.monotonic() < self._ends, "out of time"
        if not self._settled():
            self._rounds = 0
            time.sleep(0.02)  # the store itself would wait half a second
            return None
        self._rounds += 1
        if self._rounds <= IDLE:
            return None
        self._rounds = 0
        if not call(self.p.venue, "next", {})["more"]:
            return False
        while not self._q:  # the prices are on their way through the store's thread
            assert time.monotonic() < self._ends, "the bar did not come"
            time.sleep(0.005)
        return super()._load()

    def _settled(self):
        """Return whether the store has reported every order that has ended."""
        broker = self.p.broker
        resting = {order["orderId"] for order in call(self.p.venue, "book")["open"]}
        for ref, name in list(broker._oidmap.items()):
            polled = ref in broker._poll_threads
            alive = broker._orders[ref].alive()
            if (alive and int(name[-4:]) not in resting) or (polled and not alive):
                return False
        return True


class Asked(bt.Strategy):
    """Buy what `buys` says, ``{bar: size}``, once the data feed is live; record the notifications.

    At the bar `trail_at` it requests a trailing stop, which the store would sell at the market.
    """

    params = (("buys", None), ("trail_at", None))

    def __init__(self):
        self.live, self.held, self.told = False, [], []

    def notify_data(self, data, status, *args, **kwargs):
        self.live |= status == data.LIVE

    def notify_order(self, order):
        done = order.executed
        row = [len(self), order.ref, order.getstatusname(), order.size, done.size, done.price]
        self.told.append([*row, order.info.get("bt_risk", "")])

    def next(self):
        self.held.append(self.position.size)
        size = self.p.buys.get(str(len(self)))
        if size:
            assert self.live, "the store has not said LIVE"
            self.buy(size=size)
        if len(self) == self.p.trail_at:
            self.sell(size=10, exectype=bt.Order.StopTrail, trailamount=5.0)


def call(port, path, body=None):
    """Post to, or get, a control endpoint of the venue."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/control/{path}", data)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.loads(answer.read())


def equity_of(client):
    """Return the account's equity as the funds of the venue state it."""
    funds = client.funds()["data"]
    return sum(float(funds[k]) for k in ("availablecash", "utiliseddebits", "m2munrealized"))


def run(asked):
    """Run the strategy until the venue has no bar left; return what was seen."""
    host = f"http://127.0.0.1:{asked['port']}"
    store = OAStore(api_key=KEY, host=host)
    # openalgo-backtrader 0.1.11 asks 127.0.0.1:5000 for history, whatever `host` says.
    history.client.base_url = store.get_client().base_url
    history.client.api_key = KEY
    broker = (CheckedBroker if asked.get("checked", True) else OABroker)(store=store)
    if "cash" in asked:
        broker.setcash(asked["cash"])
    # Its feed has no islive(): a run without live=True ends with the history.
    engine = bt.Cerebro(stdstats=False, live=True)
    data = PacedData(
        symbol="NSE:TCS",
        timeframe=bt.TimeFrame.Minutes,
        fromdate=datetime(2024, 1, 1),
        todate=datetime(2024, 1, 2),
        host=host,
        live=True,
        ws_url=f"{host.replace('http', 'ws', 1)}/ws",
        venue=asked["port"],
        broker=broker,
    )
    engine.adddata(data, name="TCS")
    engine.setbroker(broker)
    engine.addstrategy(Asked, buys=asked["buys"], trail_at=asked.get("trail_at"))
    sentences = []
    settings = dict(notify=sentences.append, capabilities=asked["capabilities"], stale_after=180)
    if asked.get("funds"):
        settings["equity"] = lambda: equity_of(store.get_client())
    bt_risk.protect(engine, bt_risk.Policy(**asked["policy"]), **settings)
    strategy = engine.run(quicknotify=True)[0]
    analyzers = strategy.analyzers
    return {
        "journal": analyzers.riskjournal.frame().to_dict("records"),
        "breaker": analyzers.drawdownbreaker.get_analysis(),
        "orders": strategy.told,
        "held": strategy.held,
        "sentences": sentences,
        "value": broker.getvalue(),
        "position": broker.getposition(data).size,
    }


if __name__ == "__main__":
    said = run(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(said, default=str))
