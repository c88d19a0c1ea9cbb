"""The jobs in ml4t-backtest, with its preset for Backtrader."""

import numpy as np
import polars as pl
from ml4t.backtest import BacktestConfig, CommissionType, DataFeed, Engine, Strategy
from rule import CASH, FEE, LEVEL, entry_size, targets
from wilder import wilder

__all__ = ["rotation", "stop"]


class Stop(Strategy):
    """RSI entry with a trailing stop on the close."""

    def __init__(self):
        self.stop, self.count = 0.0, 0

    def on_data(self, timestamp, data, context, broker):
        """Trade at the close of a bar."""
        bar = data["D0"]
        signals = bar["signals"]
        close, distance = bar["close"], 2.0 * signals["atr"]
        if broker.get_position("D0") is not None:
            if close < self.stop:
                broker.close_position("D0")
            self.stop = max(self.stop, close - distance)
        elif signals["rsi"] < LEVEL:
            self.stop = close - distance
            self.count += 1
            broker.submit_order("D0", entry_size(broker.get_account_value(), close, distance))


class Rotation(Strategy):
    """Hold the sizes that are known before."""

    def __init__(self, sizes):
        self.sizes, self.bar, self.count = sizes, -1, 0

    def on_data(self, timestamp, data, context, broker):
        """Trade at the close of a bar."""
        self.bar += 1
        for number, size in enumerate(self.sizes.get(self.bar, ())):
            name = f"D{number}"
            position = broker.get_position(name)
            change = size - (position.quantity if position is not None else 0)
            if change:
                self.count += 1
                broker.submit_order(name, change)


def stop(frames):
    """Return what runs this job once, and gives the number of trades and the final value."""
    prices = _panel(frames)
    high, low, close = (frames[0][name].tolist() for name in ("high", "low", "close"))

    def run():
        rsi, atr = np.empty(len(close)), np.empty(len(close))
        wilder(high, low, close, rsi, atr)
        signals = prices.select("timestamp", "asset").with_columns(
            rsi=pl.Series(rsi), atr=pl.Series(atr)
        )
        return _run(DataFeed(prices_df=prices, signals_df=signals), Stop(), FEE)

    return run


def rotation(frames):
    """Return what runs this job once, and gives the number of orders and the final value."""
    prices, sizes = _panel(frames), targets(frames)
    return lambda: _run(DataFeed(prices_df=prices), Rotation(sizes), 0.0)


def _panel(frames):
    """Return the prices as the engine takes them, in one frame."""
    own = [
        pl.from_pandas(frame.reset_index())
        .rename({"datetime": "timestamp"})
        .with_columns(pl.lit(f"D{number}").alias("asset"))
        for number, frame in enumerate(frames)
    ]
    return pl.concat(own)


def _run(feed, strategy, fee):
    config = BacktestConfig.from_preset("backtrader")
    config.initial_cash = CASH
    if fee:
        config.commission_type, config.commission_rate = CommissionType.PERCENTAGE, fee
    result = Engine(feed, strategy, config).run()
    return strategy.count, result.metrics["final_value"]
