"""The portfolios of the demo: two textbook strategies, on bundled prices or the user's own."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.errors import DataError, ParameterError, check_positive
from bt_risk.feeds.bundled import load_data
from bt_risk.feeds.files import read_prices
from bt_risk.limits.day_guards import DailyLossLimit
from bt_risk.limits.margin_account import MarginAccount
from bt_risk.policy import Policy
from bt_risk.rules.sizing import round_down

__all__ = [
    "COIN",
    "COMMISSION",
    "Breakout",
    "FractionSizer",
    "MeanReversion",
    "Portfolio",
    "bundled_portfolios",
    "leveraged",
    "own_portfolios",
]

TREND_BARS = 200
COMMISSION = 0.001  # share of the notional, each side
MIN_BARS = 300  # the average needs 200; fewer than 100 more would show nothing

CALENDARS = (365, 252, 52, 12)
COIN: dict[str, float] = dict(step=1e-5, min_notional=10)
PAUSE = dict(action="pause", cooldown_bars=60)
# Rules that people trade under, beside the five: each is off by default.
RULES = PAUSE | dict(
    costs_in_risk=True,
    entry_stop="attached",
    gap_limit=0.03,
    guards=(DailyLossLimit(0.02, flatten=True, trigger="intrabar"),),
)
ALONE: dict[str, dict[str, Any] | None] = {
    "bare": None,
    "protected": {},
    "pause": PAUSE,
    "rules": RULES,
}
# No rule but margin: the strategy's own orders, without a stop.
MARGIN_ALONE = dict(
    risk_limit=None,
    sizer=False,
    trailing_stop=False,
    notional_limit=None,
    exposure_limit=None,
    correlation_limit=None,
    drawdown_limit=None,
)
GROUPS = {"indices": ["SP500", "NASDAQ"], "stocks": ["AAPL", "GOOG", "IBM", "MSFT"]}
WHOLE = dict(correlation_limit=0.5, groups=GROUPS, group_limit=0.015, volatility_limit=0.10)
TOGETHER: dict[str, dict[str, Any] | None] = {
    "bare": None,
    "protected": {},
    "cap 0.5": dict(correlation_limit=0.5),
    "groups": WHOLE,
    "pause": PAUSE,
    "rules": RULES,
}
TIMES = "It is a multiple: 20 is 20x."
STOCKS = ("sp500", "nasdaq", "aapl", "goog", "ibm", "msft")
TREND_YEARS = slice("2000-03-01", "2013-03-01")


class MeanReversion(bt.Strategy):
    """Buy when RSI(14) falls below 30, sell when it rises above 70.

    With `trend_period`, buy only while the close is above its average over that many bars.
    """

    params = dict(rsi_period=14, oversold=30.0, overbought=70.0, trend_period=None)

    def __init__(self) -> None:
        close = self.data.close
        # A market without any change has no RSI; Backtrader would divide by zero.
        self.rsi = bt.ind.RSI(close, period=self.p.rsi_period, safediv=True)
        self.trend = bt.ind.SMA(close, period=self.p.trend_period) if self.p.trend_period else None

    def next(self) -> None:
        """Trade at the close of a bar."""
        if self.position:
            if self.rsi[0] > self.p.overbought:
                self.close()
        elif self.rsi[0] < self.p.oversold and self._rising():
            self.buy()

    def _rising(self) -> bool:
        return self.trend is None or self.data.close[0] > self.trend[0]


class Breakout(bt.Strategy):
    """Buy a close above the high of the last 55 bars, sell one below the low of the last 20."""

    params = dict(entry_period=55, exit_period=20)

    def __init__(self) -> None:
        self.tops = [bt.ind.Highest(d.high(-1), period=self.p.entry_period) for d in self.datas]
        self.bottoms = [bt.ind.Lowest(d.low(-1), period=self.p.exit_period) for d in self.datas]

    def prenext(self) -> None:
        """Trade without waiting for the data feed that begins last."""
        self.next()

    def next(self) -> None:
        """Trade each data feed at the close of a bar, once its own channel is known."""
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

    def _getsizing(
        self, comminfo: bt.CommInfoBase, cash: float, data: bt.AbstractDataBase, isbuy: bool
    ) -> float:
        if not isbuy:
            return abs(self.broker.getposition(data).size)
        equity = max(0.0, self.broker.getvalue())  # below zero it would buy again
        return round_down(self.p.fraction * equity / data.close[0], self.p.step)


@dataclass(frozen=True)
class Portfolio:
    """A strategy, the prices it trades, and the policies of its runs.

    Attributes
    ----------
    name, title, idea : str
        Name in file names, heading, and a sentence about what the strategy does.
    frames : dict of DataFrame
        Prices by instrument, as `bt_risk.read_prices` gives them.
    strategy, settings : class, dict
        The strategy and its parameters, the same in every run.
    fraction : float
        Size of each position of the bare run, as a fraction of equity.
    runs : dict
        The fields that differ from the default `Policy`, by label; None is the bare run.
    facts : dict
        Facts about the instruments, the same for each.
    leverage : float or None
        Notional per unit of cash in Backtrader's broker; None for a portfolio without leverage.
    """

    name: str
    title: str
    idea: str
    frames: dict[str, pd.DataFrame]
    strategy: type[bt.Strategy]
    fraction: float
    runs: dict[str, dict[str, Any] | None]
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    leverage: float | None = None

    @property
    def times(self) -> pd.Index:
        """Times of all bars, each once."""
        index = pd.Index([])
        for frame in self.frames.values():
            index = frame.index if index.empty else index.union(frame.index)
        return index

    @property
    def days_per_year(self) -> int:
        """Days of a year that have a bar, as a calendar has them: 365, 252, 52 (weeks) or 12."""
        days = self.times.normalize().unique()
        years = (days[-1] - days[0]).days / 365.25
        return min(CALENDARS, key=lambda count: abs(count - len(days) / years))

    def policy(self, label: str) -> Policy | None:
        """Return the `Policy` of one run, None for the bare run."""
        changes = self.runs[label]
        if changes is None:
            return None
        facts = dict.fromkeys(self.frames, self.facts) if self.facts else None
        return Policy(instruments=facts, **changes)


def bundled_portfolios() -> list[Portfolio]:
    """Return the portfolios of the prices that come with bt_risk."""
    coin = {"BTC": load_data("btcusd_1h")}
    stocks = {name.upper(): load_data(f"{name}_1d").loc[TREND_YEARS] for name in STOCKS}
    title = "Trend following: S&P 500, NASDAQ, AAPL, GOOG, IBM, MSFT, daily"
    idea = (
        "Long only: buys a close above the high of the 55 bars before, sells one below the low of "
        "the 20 before."
    )
    trend = Portfolio("trend", title, idea, stocks, Breakout, 0.15, TOGETHER)
    return [*_mean_reversion("btc", "BTC/USD hourly", coin, COIN), trend]


def own_portfolios(path: str | Path, step: float = COIN["step"]) -> list[Portfolio]:
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


def leveraged(portfolio: Portfolio, leverage: float) -> Portfolio:
    """Return a portfolio on margin: bare, liquidated as by a venue, and with the other rules.

    Raises
    ------
    ParameterError
        If the leverage is below 1.
    """
    check_positive("demo", "--leverage", leverage, remedy=TIMES)
    if leverage < 1.0:
        raise ParameterError("demo", "--leverage", "1 or more", leverage, TIMES)
    alone = [MarginAccount(leverage, mode=mode, buffer=None) for mode in ("isolated", "cross")]
    runs: dict[str, dict[str, Any] | None] = {"bare": None}
    runs |= {one.mode: MARGIN_ALONE | dict(guards=(one,)) for one in alone}
    rules = dict(notional_limit=leverage, guards=(MarginAccount(leverage),))
    return replace(
        portfolio,
        name=f"{portfolio.name}-leverage",
        title=f"{portfolio.title}, at {leverage:g}x",
        fraction=portfolio.fraction / (1.0 / leverage + COMMISSION),
        runs=runs | {"protected": PAUSE | rules},
        leverage=leverage,
    )


def _mean_reversion(
    name: str, title: str, frames: dict[str, pd.DataFrame], facts: dict[str, float]
) -> list[Portfolio]:
    plain = Portfolio(
        name,
        f"Mean reversion: {title}",
        "Long only: buys while RSI(14) is below 30, sells above 70.",
        frames,
        MeanReversion,
        0.95,
        ALONE,
        facts=facts,
    )
    filtered = replace(
        plain,
        name=f"{name}-filter",
        title=f"Mean reversion with momentum filter: {title}",
        idea=f"{plain.idea} Filter: buys only while the close is above its 200-bar average.",
        settings=dict(trend_period=TREND_BARS),
    )
    return [plain, filtered]
