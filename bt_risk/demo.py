"""The main job on real prices: each portfolio run bare and protected, and what came of it.

``bt-risk demo`` shows it; `run` gives the same as objects.
"""

import logging
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import backtrader as bt
import pandas as pd

from bt_risk.datasets import load_data
from bt_risk.errors import DataError, check_positive
from bt_risk.feeds import FrameData
from bt_risk.journal import FIELDS
from bt_risk.policy import Policy, protect
from bt_risk.prices import read_prices
from bt_risk.rules.sizing import round_down

__all__ = [
    "Breakout",
    "FractionSizer",
    "MeanReversion",
    "Portfolio",
    "Run",
    "bundled_portfolios",
    "own_portfolios",
    "run",
]

CASH = 100_000.0
COMMISSION = 0.001  # share of the notional, each side
TREND_BARS = 200
MIN_BARS = 300  # the average needs 200; with less than 100 left there is nothing to see

COIN = dict(step=1e-5, min_notional=10)
PAUSE = dict(action="pause", cooldown_bars=60)
ALONE = {"bare": None, "protected": {}, "pause": PAUSE}
TOGETHER = {"bare": None, "protected": {}, "cap 0.5": dict(correlation_limit=0.5), "pause": PAUSE}
STOCKS = ("sp500", "nasdaq", "aapl", "goog", "ibm", "msft")
TREND_YEARS = slice("2000-03-01", "2013-03-01")


class MeanReversion(bt.Strategy):
    """Buy when RSI(14) falls below 30, sell when it rises above 70.

    With `trend_period`, buy only while the close is above its average over that many bars.
    """

    params = dict(rsi_period=14, oversold=30.0, overbought=70.0, trend_period=None)

    def __init__(self):
        close = self.data.close
        # A market that stands still has no RSI; Backtrader would divide by zero.
        self.rsi = bt.ind.RSI(close, period=self.p.rsi_period, safediv=True)
        self.trend = bt.ind.SMA(close, period=self.p.trend_period) if self.p.trend_period else None

    def next(self):
        """Trade at the close of a bar."""
        if self.position:
            if self.rsi[0] > self.p.overbought:
                self.close()
        elif self.rsi[0] < self.p.oversold and self._rising():
            self.buy()

    def _rising(self):
        return self.trend is None or self.data.close[0] > self.trend[0]


class Breakout(bt.Strategy):
    """Buy a close above the high of the last 55 bars, sell one below the low of the last 20."""

    params = dict(entry_period=55, exit_period=20)

    def __init__(self):
        self.tops = [bt.ind.Highest(d.high(-1), period=self.p.entry_period) for d in self.datas]
        self.bottoms = [bt.ind.Lowest(d.low(-1), period=self.p.exit_period) for d in self.datas]

    def prenext(self):
        """Do not wait for the data that begins last."""
        self.next()

    def next(self):
        """Trade each data at the close of a bar, once its own channel is there."""
        for data, top, bottom in zip(self.datas, self.tops, self.bottoms, strict=True):
            if len(data) <= self.p.entry_period:
                continue
            if self.getposition(data):
                if data.close[0] < bottom[0]:
                    self.close(data)
            elif data.close[0] > top[0]:
                self.buy(data)


class FractionSizer(bt.Sizer):
    """Put a fixed fraction of equity into each position, whatever its volatility."""

    params = dict(fraction=0.95, step=1.0)

    def _getsizing(self, comminfo, cash, data, isbuy):
        if not isbuy:
            return abs(self.broker.getposition(data).size)
        return round_down(self.p.fraction * self.broker.getvalue() / data.close[0], self.p.step)


@dataclass(frozen=True)
class Portfolio:
    """A strategy, the prices it trades, and the policies it is run with.

    Attributes
    ----------
    name, title : str
        For file names, and in words.
    frames : dict of DataFrame
        Prices by instrument, as `bt_risk.read_prices` gives them.
    strategy, settings : class, dict
        The strategy and its parameters, the same in every run.
    fraction : float
        What the bare run puts into each position, as a fraction of equity.
    runs : dict
        By label: what differs from the default `Policy`; None is the bare run.
    facts : dict
        Instrument facts, the same for every instrument.
    """

    name: str
    title: str
    frames: dict
    strategy: type
    fraction: float
    runs: dict
    settings: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)

    @property
    def times(self):
        """Times of all bars, each once."""
        index = pd.Index([])
        for frame in self.frames.values():
            index = frame.index if index.empty else index.union(frame.index)
        return index

    @property
    def days_per_year(self):
        """Trading days of a year: 365 where Saturdays are traded, else 252."""
        return 365 if (self.times.dayofweek == 5).any() else 252

    def policy(self, label):
        """Return the `Policy` of one run, None for the bare one."""
        changes = self.runs[label]
        if changes is None:
            return None
        facts = {name: self.facts for name in self.frames} if self.facts else None
        return Policy(instruments=facts, **changes)


@dataclass(frozen=True)
class Run:
    """What one run left behind.

    Attributes
    ----------
    portfolio : Portfolio
    label : str
    equity : Series
        Currency at every close of the data; flat from the bar on that a halt ended the run.
    exposure : Series
        Gross notional as a fraction of equity, while the run lasted.
    fills : DataFrame
        Columns time, data, size (signed), price, stop (whether it was a protective stop).
    decisions : DataFrame
        The journal; empty for a bare run.
    trades : int
        Closed trades, flat to flat.
    stops : Series
        Where the stop of the first instrument rests after each close; NaN without one.
    """

    portfolio: Portfolio
    label: str
    equity: pd.Series
    exposure: pd.Series
    fills: pd.DataFrame
    decisions: pd.DataFrame
    trades: int
    stops: pd.Series


# -- portfolios ----------------------------------------------------------------------------------


def bundled_portfolios():
    """Return the portfolios of the prices that come with bt_risk."""
    coin = {"BTC": load_data("btcusd_1h")}
    stocks = {name.upper(): load_data(f"{name}_1d").loc[TREND_YEARS] for name in STOCKS}
    title = "Trend following: S&P 500, NASDAQ, AAPL, GOOG, IBM, MSFT, daily"
    trend = Portfolio("trend", title, stocks, Breakout, 0.15, TOGETHER)
    return [*_mean_reversion("btc", "BTC/USD hourly", coin, COIN), trend]


def own_portfolios(path, step=COIN["step"]):
    """Return mean reversion on a user's own prices, with and without the filter.

    Raises
    ------
    DataError
        If the file cannot be used, or holds fewer than 300 bars.
    """
    prices = read_prices(path)
    if len(prices) < MIN_BARS:
        raise DataError(
            f"demo: {path} must hold at least {MIN_BARS} bars; got {len(prices)}. "
            f"The average of the filter alone takes {TREND_BARS}."
        )
    check_positive("demo", "step", step)
    name = Path(path).name.split(".")[0]
    return _mean_reversion("own", name, {name: prices}, dict(step=step))


def _mean_reversion(name, title, frames, facts):
    plain = Portfolio(
        name, f"Mean reversion: {title}", frames, MeanReversion, 0.95, ALONE, {}, facts
    )
    settings = dict(trend_period=TREND_BARS)
    title = f"Mean reversion with momentum filter: {title}"
    filtered = Portfolio(
        f"{name}-filter", title, frames, MeanReversion, 0.95, ALONE, settings, facts
    )
    return [plain, filtered]


# -- running -------------------------------------------------------------------------------------


def run(portfolios, workers=1, on_done=lambda: None):
    """Run every portfolio with every policy of it.

    Parameters
    ----------
    portfolios : list of Portfolio
    workers : int
        Processes; 1 runs all in this one. Scripts that ask for more need the usual
        ``if __name__ == "__main__"``.
    on_done : callable
        Called after each run.

    Returns
    -------
    list of list of Run
        One list per portfolio, in the order of its runs.
    """
    jobs = [(i, label) for i, portfolio in enumerate(portfolios) for label in portfolio.runs]
    done = {}
    for job, result in _results(portfolios, jobs, workers):
        done[job] = result
        on_done()
    return [[done[i, label] for label in p.runs] for i, p in enumerate(portfolios)]


def _results(portfolios, jobs, workers):
    if workers == 1:
        yield from ((job, _play(portfolios[job[0]], job[1])) for job in jobs)
        return
    # Spawned, not forked: the progress bar has a thread, and a fork could inherit its lock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _ignore_interrupt) as pool:
        futures = {pool.submit(_play, portfolios[i], label): (i, label) for i, label in jobs}
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ignore_interrupt():
    """Let the parent alone answer Ctrl-C, in one place."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def cores():
    """Return how many processes the demo uses."""
    return min(2, os.cpu_count() or 1)


def _play(portfolio, label):
    cerebro = bt.Cerebro(stdstats=False)
    for name, frame in portfolio.frames.items():
        cerebro.adddata(FrameData(dataname=frame), name=name)
    cerebro.addstrategy(portfolio.strategy, **portfolio.settings)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(COMMISSION)
    cerebro.addanalyzer(_Recorder, _name="recorder")
    policy = portfolio.policy(label)
    if policy is None:
        step = portfolio.facts.get("step", 1.0)
        cerebro.addsizer(FractionSizer, fraction=portfolio.fraction, step=step)
    else:
        protect(cerebro, policy)
    with _quiet():
        (strategy,) = cerebro.run()
    return _collect(portfolio, label, strategy)


@contextmanager
def _quiet():
    """Keep halts out of the terminal while the bar is there: the tables report them."""
    log = logging.getLogger("bt_risk")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


class _Recorder(bt.Analyzer):
    """Write down equity and exposure of every close, every fill and every closed trade."""

    def __init__(self):
        self.equity, self.exposure, self.fills, self.trades = [], [], [], 0

    def next(self):
        strategy = self.strategy
        equity = strategy.broker.getvalue()
        sizes = [(strategy.getposition(data).size, data) for data in strategy.datas]
        gross = sum(abs(size) * data.close[0] for size, data in sizes if size)
        self.equity.append(equity)
        self.exposure.append(gross / equity)

    def notify_order(self, order):
        if order.status == order.Completed:
            done, reason = order.executed, order.info.get("bt_risk", "")
            stop = reason.startswith("ATRTrailingStop")
            time = bt.num2date(done.dt)
            self.fills.append((time, order.data._name, done.size, done.price, stop))

    def notify_trade(self, trade):
        self.trades += trade.isclosed


def _collect(portfolio, label, strategy):
    times, record = portfolio.times, strategy.analyzers.recorder
    lasted = times[: len(record.equity)]
    equity = pd.Series(record.equity, lasted, name=label).reindex(times).ffill()
    fills = pd.DataFrame(record.fills, columns=["time", "data", "size", "price", "stop"])
    fills["time"] = pd.to_datetime(fills["time"]).dt.round("ms")
    decisions = pd.DataFrame(columns=list(FIELDS))
    stops = pd.Series(float("nan"), times)
    if portfolio.runs[label] is not None:
        decisions = strategy.analyzers.riskjournal.frame()
        line = strategy.observers.atrtrailingstop.lines.stop.array
        stops = pd.Series(line[: len(lasted)], lasted).reindex(times)
    exposure = pd.Series(record.exposure, lasted)
    return Run(portfolio, label, equity, exposure, fills, decisions, record.trades, stops)
