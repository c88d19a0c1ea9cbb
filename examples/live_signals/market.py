"""What both examples share: prices that come now, and a strategy that enters and leaves."""

import time
from datetime import UTC, datetime

import backtrader as bt

import bt_risk

PRICES = bt_risk.load_data("btcusd_1h").iloc[:60]


class Ticks(bt.feed.DataBase):
    """Bring past bars as a venue brings new ones: every tenth of a second one, that ends now.

    `events` are functions by the number of a bar, which are called before it comes.
    """

    params = (("timeframe", bt.TimeFrame.Seconds), ("wait", 0.1), ("events", {}))

    def islive(self):
        return True

    def _load(self):
        bar = len(self)
        if bar > len(PRICES):
            return False
        time.sleep(self.p.wait)
        if bar in self.p.events:
            self.p.events[bar]()
        for name, value in PRICES.iloc[bar - 1].items():
            getattr(self.lines, name)[0] = value
        self.lines.datetime[0] = bt.date2num(datetime.now(UTC).replace(tzinfo=None))
        return True


class Entries(bt.Strategy):
    """Buy at some bars and leave at others, in place of rules of yours; print what became of it."""

    params = (("enter", ()), ("leave", ()))

    def __init__(self):
        self.ends = []

    def notify_order(self, order):
        if order.alive():
            return
        side, done = "buy" if order.isbuy() else "sell", order.executed
        why = order.info.get("bt_risk", "")
        self.ends.append((side, abs(done.size), why))
        if done.size:
            print(
                f"bar {len(self)}: {side} {abs(done.size):.5f} at {done.price:,.0f}. {why}".strip()
            )
        else:
            print(f"bar {len(self)}: {side} refused. {why}")

    def next(self):
        if len(self) in self.p.enter:
            self.buy()
        elif len(self) in self.p.leave:
            self.close()


def trade(signals, enter, leave, events, wait=0.1):
    """Run the strategy under `protect`, with two guards on signals; return it."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(Ticks(events=events, wait=wait), name="BTC")
    cerebro.adddata(signals, name="scores")
    cerebro.addstrategy(Entries, enter=enter, leave=leave)
    cerebro.broker.setcash(100_000)
    guards = [bt_risk.SignalGate(), bt_risk.ConvictionScale(s0=20)]
    policy = bt_risk.Policy(guards=guards, instruments={"BTC": {"step": 1e-5}})
    bt_risk.protect(cerebro, policy)
    return cerebro.run(quicknotify=True)[0]
