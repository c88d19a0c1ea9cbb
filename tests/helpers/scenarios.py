"""Make price series and strategies for tests: seeded, small, or by hand."""

import backtrader as bt
import numpy as np
import pandas as pd

from helpers.frames import PandasData

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
        engine.adddata(PandasData(dataname=frame), name=name)
    engine.broker.setcash(cash)
    return engine


class Script(bt.Strategy):
    """Do what `actions` says: ``{bar: callable(strategy)}``, bars counted from 1.

    `orders` collects ``(bar, ref, status, size, executed size, executed price, reason)`` of every
    notification, `held` the position of every data feed at the close of every bar.
    """

    params = {"actions": None}

    def __init__(self):
        self.orders, self.held, self.trades, self.made = [], [], [], []

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
        self.held.append(tuple(self.getposition(d).size for d in self.datas))


class NextScript(Script):
    """Play a `Script`, and do nothing before every data feed has a bar.

    BackBroker fails when it is asked for the position of a data feed that has none.
    """

    def prenext(self):
        pass


class Plan(bt.Strategy):
    """Do what `plan` says: ``((bar, method, arguments), ...)``; plain values, so that it pickles.

    A ``data`` among the arguments is the number of the data feed; ``cancel_all`` cancels every
    order that the broker shows as open. `made` collects what the methods returned.
    """

    params = {"plan": ()}

    def __init__(self):
        self.made = []

    def prenext(self):
        self.next()

    def next(self):
        for bar, method, arguments in self.p.plan:
            if bar == len(self):
                given = dict(arguments)
                if "data" in given:
                    given["data"] = self.datas[given["data"]]
                self.made.append(getattr(self, method)(**given))

    def cancel_all(self):
        for order in self.broker.get_orders_open():
            self.cancel(order)


class Tape(bt.Analyzer):
    """Keep what happened as plain values, the same on one process and on many.

    ``fills`` are ``(bar, data, signed size, price)``, ``notes`` are ``(bar, order, status)`` with
    orders numbered as they are first seen, ``trades`` closed ones as ``(bar, tradeid, net pnl)``,
    ``reasons`` the ``(bar, reason)`` of rejected orders.
    """

    def __init__(self):
        self.rets = {"fills": [], "notes": [], "trades": [], "values": [], "positions": []}
        self.rets["reasons"] = []
        self._refs = {}

    def notify_order(self, order):
        bar, name = self._bar(), order.data._name
        number = self._refs.setdefault(order.ref, len(self._refs))
        self.rets["notes"].append((bar, number, order.getstatusname()))
        if order.status in (order.Partial, order.Completed):
            for bit in order.executed.iterpending():
                self.rets["fills"].append((bar, name, bit.size, bit.price))
        if order.status == order.Rejected:
            self.rets["reasons"].append((bar, order.info.get("bt_risk", "")))

    def notify_trade(self, trade):
        if trade.isclosed:
            self.rets["trades"].append((self._bar(), trade.tradeid, trade.pnlcomm))

    def _bar(self):
        """Count bars on data0: with quicknotify the strategy's own count is one behind here."""
        return len(self.strategy.data)

    def prenext(self):
        self.next()

    def next(self):
        strategy = self.strategy
        self.rets["values"].append(strategy.broker.getvalue())
        # Asking Backtrader for the position of a data without a bar makes it ask for its price.
        sizes = [strategy.getposition(d).size if len(d) else 0 for d in strategy.datas]
        self.rets["positions"].append(tuple(sizes))


def taped(engine, plan=(), mode="runonce", strategy=Plan, **params):
    """Run one strategy with a `Tape`; return the strategy (its tape is ``analyzers.tape``)."""
    engine.addstrategy(strategy, plan=plan, **params)
    engine.addanalyzer(Tape, _name="tape")
    return engine.run(**MODES[mode])[0]


def tape_of(result):
    """Return what the `Tape` of a strategy, or of an optimisation's result, has recorded."""
    return result.analyzers.tape.get_analysis()


def optimised(engine, plans, maxcpus, strategy=Plan):
    """Run one strategy for each plan as an optimisation; return the results in order."""
    engine.optstrategy(strategy, plan=list(plans))
    engine.addanalyzer(Tape, _name="tape")
    return [point[0] for point in engine.run(maxcpus=maxcpus)]


def image(frame, sign):
    """Return prices whose log returns are those of `frame`, times `sign`: correlation = `sign`."""
    prices = 100 * (frame[["open", "high", "low", "close"]] / 100) ** sign
    if sign < 0:
        prices = prices.rename(columns={"high": "low", "low": "high"})
    return prices.assign(volume=1000.0)
