"""The job of the main rows: one strategy with the default policy, by each way to run it."""

import backtrader as bt

import bt_risk

__all__ = ["CASH", "COMMISSION", "POLICY", "RsiEntry", "build", "protected"]

CASH, COMMISSION = 1_000_000.0, 0.0005
# All rules of the default policy work. The breaker has a limit out of reach: at 10 % it would end
# these runs early, and what is measured is a whole run.
POLICY = bt_risk.Policy(drawdown_limit=0.99)


class RsiEntry(bt.Strategy):
    """Buy below an RSI(14) of 30 in every data feed; the trailing stop of the policy sells."""

    def __init__(self):
        self.rsi = [bt.ind.RSI(data, period=14, safediv=True) for data in self.datas]

    def next(self):
        """Ask for a position in every data feed that is oversold and not held."""
        for data, rsi in zip(self.datas, self.rsi, strict=True):
            if rsi[0] < 30.0 and not self.getposition(data):
                self.enter(data)

    def enter(self, data):
        """Buy what the sizer says."""
        self.buy(data)


def build(frames, strategy=RsiEntry, broker=None, **params):
    """Return a Cerebro with plain Backtrader data feeds."""
    cerebro = bt.Cerebro(stdstats=False)
    if broker is not None:
        cerebro.setbroker(broker)
    for number, frame in enumerate(frames):
        cerebro.adddata(bt.feeds.PandasData(dataname=frame), name=f"D{number}")
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(COMMISSION)
    cerebro.addstrategy(strategy, **params)
    return cerebro


def protected(frames, policy=POLICY, broker=None, **settings):
    """Return the same Cerebro with `bt_risk.protect`."""
    cerebro = build(frames, broker=broker)
    bt_risk.protect(cerebro, policy, **settings)
    return cerebro
