"""Trade a paper account at Interactive Brokers with bt_risk: `python run.py AAPL risk.db`.

TWS must run with the paper account, its API enabled (port 7497). With a state file after the
symbol the run goes on where the last one ended. Alerts are posted to WEBHOOK.
"""

import logging
import os
import sys

import backtrader as bt
from ib_async import Stock

import bt_risk
from bt_risk.stores.ib import IBBroker, IBData, IBStore


class Cross(bt.Strategy):
    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=5), bt.ind.SMA(period=15))

    def notify_order(self, order):
        if not order.alive():
            done, why = order.executed, order.info.get("bt_risk", "")
            logging.info("%s %+g at %g %s", order.getstatusname(), done.size, done.price, why)

    def next(self):
        if self.cross > 0:
            self.buy()
        elif self.cross < 0 and self.position:
            self.close()


def main(symbol="AAPL", state=None, **connection):
    store = IBStore(**connection)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(IBData(store=store, contract=Stock(symbol, "SMART", "USD")), name=symbol)
    cerebro.setbroker(IBBroker(store=store))
    cerebro.addstrategy(Cross)
    policy = bt_risk.Policy(action="pause")
    notify = [bt_risk.webhook(os.environ["WEBHOOK"])] if "WEBHOOK" in os.environ else []
    bt_risk.protect(cerebro, policy, state=state, stale_after=180, notify=notify)
    return cerebro.run(quicknotify=True)[0]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(*sys.argv[1:])
