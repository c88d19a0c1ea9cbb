"""The job of one name in backtesting.py."""

import numpy as np
from backtesting import Backtest, Strategy
from rule import CASH, FEE, LEVEL, entry_size
from wilder import wilder

__all__ = ["stop"]


def indicators(high, low, close):
    """Return RSI and ATR."""
    rsi, atr = np.empty(len(close)), np.empty(len(close))
    wilder(high.tolist(), low.tolist(), close.tolist(), rsi, atr)
    return rsi, atr


class Stop(Strategy):
    """RSI entry with a trailing stop on the close."""

    def init(self):
        """Compute the indicators."""
        data = self.data
        self.rsi, self.atr = self.I(indicators, data.High, data.Low, data.Close)
        self.stop = 0.0

    def next(self):
        """Trade at the close of a bar."""
        close, distance = self.data.Close[-1], 2.0 * self.atr[-1]
        if self.position:
            if close < self.stop:
                self.position.close()
            self.stop = max(self.stop, close - distance)
        elif self.rsi[-1] < LEVEL:
            self.stop = close - distance
            self.buy(size=entry_size(self.equity, close, distance))


def stop(frames):
    """Return what runs this job once, and gives the number of trades and the final value."""
    frame = frames[0].rename(columns=str.capitalize)

    def run():
        stats = Backtest(frame, Stop, cash=CASH, commission=FEE).run()
        return stats["# Trades"], stats["Equity Final [$]"]

    return run
