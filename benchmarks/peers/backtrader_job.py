"""The jobs as Backtrader strategies, for Backtrader and for engines with its interface."""

import importlib

from rule import CASH, FEE, LEVEL, entry_size, targets

__all__ = ["rotation", "stop"]


def stop(frames, package="backtrader", setup=None, argument="dataname"):
    """Return what runs this job once, and gives the number of trades and the final value.

    `setup` is called with the Cerebro before the run; `argument` is that of the data feed.
    """
    bt = importlib.import_module(package)

    class Stop(bt.Strategy):
        def __init__(self):
            self.rsi = bt.ind.RSI(self.data.close, period=14)
            self.atr = bt.ind.ATR(self.data, period=14)
            self.stop_price, self.count, self.held = 0.0, 0, False

        def next(self):
            close, distance = self.data.close[0], 2.0 * self.atr[0]
            held = bool(self.position)
            self.count += held and not self.held
            self.held = held
            if held:
                if close < self.stop_price:
                    self.close()
                self.stop_price = max(self.stop_price, close - distance)
            elif self.rsi[0] < LEVEL:
                self.stop_price = close - distance
                self.buy(size=entry_size(self.broker.getvalue(), close, distance))

    return _runner(bt, frames, Stop, FEE, setup, argument)


def rotation(frames, package="backtrader", setup=None, argument="dataname"):
    """Return what runs this job once, and gives the number of orders and the final value."""
    bt = importlib.import_module(package)
    sizes = targets(frames)

    class Rotation(bt.Strategy):
        def __init__(self):
            self.count = 0

        def next(self):
            wanted = sizes.get(len(self) - 1)
            if wanted is None:
                return
            for data, size in zip(self.datas, wanted, strict=True):
                change = size - self.getposition(data).size
                self.count += change != 0
                if change > 0:
                    self.buy(data, size=change)
                elif change < 0:
                    self.sell(data, size=-change)

    return _runner(bt, frames, Rotation, 0.0, setup, argument)


def _runner(bt, frames, strategy, fee, setup, argument):
    def run():
        cerebro = bt.Cerebro(stdstats=False)
        for number, frame in enumerate(frames):
            cerebro.adddata(bt.feeds.PandasData(**{argument: frame}), name=f"D{number}")
        cerebro.addstrategy(strategy)
        cerebro.broker.setcash(CASH)
        cerebro.broker.setcommission(commission=fee)
        if setup is not None:
            setup(cerebro)
        (ran,) = cerebro.run()
        return ran.count, cerebro.broker.getvalue()

    return run
