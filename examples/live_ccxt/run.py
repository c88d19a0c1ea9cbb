"""Run a strategy live with bt_risk: `python run.py http://127.0.0.1:8000`, an exchange on loopback.

With a state file after the address, such as risk.db, the run goes on where the last one ended.
Without an address it trades at the venue itself, with the keys in BINANCE_KEY and BINANCE_SECRET.
The environment may have ADDRESS and STATE instead; NOTIFY, URLs of apprise for alerts, with spaces
between them; WEBHOOK, a URL that alerts are posted to; and HEARTBEAT, a URL that is requested each
minute.
"""

import logging
import os
import sys

import backtrader as bt
import ccxt
from store import Broker, Data, Store

import bt_risk


class Cross(bt.Strategy):
    live = False

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=5), bt.ind.SMA(period=15))

    def notify_order(self, order):
        if not order.alive():
            status, done = order.getstatusname(), order.executed
            if done.size:
                logging.info("%s: %+g at %g", status, done.size, done.price)
            else:
                logging.info("%s: %+g. %s", status, order.size, order.info.get("bt_risk", ""))

    def notify_data(self, data, status, *args, **kwargs):
        self.live = status == data.LIVE

    def next(self):
        if not self.live:
            return  # a bar of the past: it may lead to no order
        if self.cross > 0:
            self.buy()
        elif self.cross < 0 and self.position:
            self.close()


def connect(address):
    options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    keys = {"apiKey": os.environ.get("BINANCE_KEY"), "secret": os.environ.get("BINANCE_SECRET")}
    if address is None:
        client = ccxt.binance(keys | {"options": options})
        return client, "wss://stream.binance.com:9443/ws"
    client = ccxt.binance({"apiKey": "loopback", "secret": "loopback", "options": options})
    client.urls["api"] = dict.fromkeys(client.urls["api"], f"{address}/api/v3")
    return client, f"{address.replace('http', 'ws', 1)}/ws"


def make_broker(address="http://127.0.0.1:8000"):
    """Return the broker and its data feed: `bt-risk doctor run.py:make_broker` checks them."""
    client, ws_url = connect(address)
    store = Store(client, "BTC/USDT", ws_url)
    store.start()
    data = Data(store=store, name="BTC")
    return Broker(store=store, data=data), data


def main(address=None, state=None):
    address = address or os.environ.get("ADDRESS")
    state = state or os.environ.get("STATE")
    broker, data = make_broker(address)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(data)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Cross)
    policy = bt_risk.Policy(action="pause", instruments={"BTC": dict(step=1e-5, min_notional=10)})
    notify = os.environ.get("NOTIFY", "").split()
    if os.environ.get("WEBHOOK"):
        notify.append(bt_risk.webhook(os.environ["WEBHOOK"]))
    bt_risk.protect(
        cerebro,
        policy,
        state=state,
        stale_after=180,
        orders_per_second=5,
        notify=notify,
        heartbeat=os.environ.get("HEARTBEAT") or None,
    )
    try:
        return cerebro.run(quicknotify=True)[0]
    finally:
        broker.p.store.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(*sys.argv[1:])
