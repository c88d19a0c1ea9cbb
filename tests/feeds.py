"""Price series and strategies that the tests share: seeded, small, made by hand where it matters."""

import backtrader as bt
import numpy as np
import pandas as pd

MODES = {
    "runonce": {},
    "next": {"runonce": False},
    "no-preload": {"preload": False},
    "exactbars": {"exactbars": 1},
    "quicknotify": {"quicknotify": True},
}


def random_walk(seed, bars=300, volatility=0.01, drift=0.0, start="2020-01-01", freq="D"):
    """Return a seeded random walk of OHLCV bars that starts near 100."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(drift, volatility, bars)))
    open_ = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0, volatility / 4, bars))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, volatility / 2, bars)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, volatility / 2, bars)))
    index = pd.date_range(start, periods=bars, freq=freq, name="datetime")
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": 1000.0}
    return pd.DataFrame(columns, index=index)


def bars(*rows, start="2020-01-01", freq="D"):
    """Return hand-made bars from ``(open, high, low, close)`` rows."""
    index = pd.date_range(start, periods=len(rows), freq=freq, name="datetime")
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index, dtype=float)
    return frame.assign(volume=1000.0)


def flat(count, price=100.0, width=1.0):
    """Return `count` rows for `bars` that stand still: ATR is twice `width`."""
    return [(price, price + width, price - width, price)] * count


def cerebro(*frames, cash=100_000.0, names=None, **kwargs):
    """Return a Cerebro without standard observers, one PandasData for each frame."""
    engine = bt.Cerebro(stdstats=False, **kwargs)
    names = names or [f"D{i}" for i in range(len(frames))]
    for frame, name in zip(frames, names, strict=True):
        engine.adddata(bt.feeds.PandasData(dataname=frame), name=name)
    engine.broker.setcash(cash)
    return engine


class Script(bt.Strategy):
    """Do what `actions` says: ``{bar: callable(strategy)}``, bars counted from 1.

    `orders` collects ``(bar, ref, status, size, executed size, executed price, reason)`` of every
    notification, `positions` the position of every data at the close of every bar.
    """

    params = {"actions": None}

    def __init__(self):
        self.orders, self.positions, self.trades, self.made = [], [], [], []

    def notify_order(self, order):
        reason = order.info.get("bt_risk", "")
        done = order.executed
        row = (len(self), order.ref, order.getstatusname(), order.size, done.size, done.price)
        self.orders.append((*row, reason))

    def notify_trade(self, trade):
        if trade.isclosed:
            self.trades.append((len(self), trade.pnl, trade.pnlcomm))

    def prenext(self):
        self.next()

    def next(self):
        action = (self.p.actions or {}).get(len(self))
        if action is not None:
            made = action(self)
            self.made.append(made)
        self.positions.append(tuple(self.getposition(d).size for d in self.datas))
