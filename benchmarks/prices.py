"""The prices of the benchmarks: random walks from a seed, and hours of bitcoin."""

import numpy as np
import pandas as pd

import bt_risk

__all__ = ["bitcoin", "panel", "random_walk"]


def random_walk(seed, bars, frequency="D"):
    """Return bars of one name, daily ones if no other frequency is given."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    open_ = np.r_[100.0, close[:-1]]
    return _bars(open_, close, 1 + np.abs(rng.normal(0, 0.005, (2, bars))), frequency)


def panel(names, bars, seed=1):
    """Return daily bars of names that share the moves of a market."""
    rng = np.random.default_rng(seed)
    market = rng.normal(3e-4, 0.006, bars)
    return [_name(rng, market) for _ in range(names)]


def bitcoin(bars):
    """Return the first of the bundled hours of bitcoin."""
    return bt_risk.load_data("btcusd_1h").iloc[:bars]


def _name(rng, market):
    bars = len(market)
    close = 100 * np.exp(np.cumsum(market + rng.normal(0, 0.012, bars)))
    open_ = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0, 0.002, bars))
    return _bars(open_, close, 1 + np.abs(rng.normal(0, 0.004, (2, bars))))


def _bars(open_, close, spread, frequency="D"):
    high, low = np.maximum(open_, close) * spread[0], np.minimum(open_, close) / spread[1]
    index = pd.date_range("2010-01-01", periods=len(close), freq=frequency, name="datetime")
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": 1000.0}
    return pd.DataFrame(columns, index=index)
