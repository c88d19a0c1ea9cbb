"""Run the exchange of `bt_risk.paper` in a process of its own, and a strategy against it."""

import contextlib
import json
import sys
import time
import urllib.request

import backtrader as bt
import pytest

import bt_risk
from helpers.scenarios import Script, flat
from helpers.shared_data import ROOT

ccxt = pytest.importorskip("ccxt")
pytest.importorskip("aiohttp")
sys.path.insert(0, str(ROOT / "examples" / "live_ccxt"))
import store as live_ccxt  # noqa: E402

from bt_risk.paper.exchange import Exchange as PaperExchange  # noqa: E402
from helpers import exchange_process  # noqa: E402

# The step in which the exchange trades.
FINE = {"D0": dict(step=1e-5)}
# Up, so that the stop is replaced; then a fall that trips the breaker.
RISE = [(100 + k, 102 + k, 99 + k, 101 + k) for k in range(5)]
FALL = [(105 - 2 * k, 106 - 2 * k, 102 - 2 * k, 103 - 2 * k) for k in range(4)]
ROWS = [*flat(20), *RISE, *flat(2, 105.0), *FALL, *flat(6, 97.0)]


class Exchange:
    """Control the process of an exchange."""

    def __init__(self, port):
        self.port = port

    def call(self, path, body=None):
        """Post to, or get, a control endpoint."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}/control/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
            return json.loads(answer.read())

    @property
    def book(self):
        return self.call("book")

    def client(self):
        """Return a ccxt client that connects to this exchange only."""
        options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}
        options |= {"fetchMargins": False, "warnOnFetchOpenOrdersWithoutSymbol": False}
        client = ccxt.binance(
            {"apiKey": "key", "secret": "secret", "enableRateLimit": False, "options": options}
        )
        client.urls["api"] = dict.fromkeys(
            client.urls["api"], f"http://127.0.0.1:{self.port}/api/v3"
        )
        client.timeout = 5000
        client.session.trust_env = False
        return client


@contextlib.contextmanager
def exchange(rows, history, folder, kind=PaperExchange, **settings):
    """Start an exchange with these bars, the first `history` of which are past."""
    path = folder / "bars.json"
    path.write_text(json.dumps({"bars": [list(row) for row in rows], "history": history}))
    process, line = exchange_process.start(path, kind)
    try:
        one = Exchange(int(line.readline()))
        if settings:
            one.call("set", settings)
        yield one
    finally:
        line.close()
        process.join(30)
        failed = process.exitcode
        process.kill()  # does nothing to one that has ended
    if failed != 0:
        raise RuntimeError("the exchange has failed")


class Lockstep(live_ccxt.Data):
    """Request the next bar of the exchange after `idle` rounds of the loop without one."""

    params = (("exchange", None), ("idle", 8))

    def start(self):
        super().start()
        self._idle, self._asked = 0, None

    def _load(self):
        loaded = super()._load()
        if loaded:
            self._idle, self._asked = 0, None
        elif self._asked is not None:  # on its way: by the line, or after it, if that has dropped
            assert time.monotonic() - self._asked < 30, "the bar did not come"
        elif self._laststatus == self.LIVE:
            self._idle += 1
            if self._idle > self.p.idle:
                self._idle = 0
                if not self.p.exchange.call("next", {})["more"]:
                    return False
                self._asked = time.monotonic()
        return loaded


def trade(exchange, actions, policy=None, idle=8, poll=0.0, analyzers=(), strategy=Script, **live):
    """Run a script live against the exchange; return the strategy."""
    engine = bt.Cerebro(stdstats=False)
    store = live_ccxt.Store(exchange.client(), "BTC/USDT", f"ws://127.0.0.1:{exchange.port}/ws")
    store.start()
    data = Lockstep(store=store, exchange=exchange, qcheck=0.001, idle=idle)
    engine.adddata(data, name="D0")
    engine.setbroker(live_ccxt.Broker(store=store, data=data, poll=poll))
    engine.addstrategy(strategy, actions=actions)
    settings = {"retry_after": 0.02} | live
    bt_risk.protect(engine, policy or bt_risk.Policy(), **settings)
    for analyzer in analyzers:
        engine.addanalyzer(analyzer)
    try:
        return engine.run(quicknotify=True)[0]
    finally:
        store.stop()
