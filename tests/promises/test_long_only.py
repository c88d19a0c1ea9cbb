"""Long-only strategies as people publish them, on random markets: behind the gate none goes short.

They are sized far below every limit, so that no rule has anything to do. Bare, many of them go
short by the exits that they leave behind when their position is gone. Orders fill whole: none of
them counts what it has sold of an entry that is half filled, and what it sells beyond that is an
entry.
"""

import random
from datetime import datetime, timedelta

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.frames import PandasData
from helpers.recording import OTHERS, record
from helpers.slices import sliced

import bt_risk

START = datetime(2021, 1, 1)
MARKETS = 48
MORE = 2_000


def every_limit_off(cerebro):
    args = {"correlation_limit": None, "exposure_limit": None}
    cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker, **args))


def far_limits(cerebro):
    """Set a limit that six units of a price of 100 do not reach in an account of 1,000,000."""
    args = {"correlation_limit": None, "exposure_limit": 0.4}
    cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker, **args))


def whole_policy(cerebro):
    """Set a stop of ours behind every position, too."""
    bt_risk.protect(cerebro, bt_risk.Policy(drawdown_limit=0.5, correlation_limit=None))


class LongOnly(bt.Strategy):
    """Buy and sell on a cross of the close and its average; each style does so in its own way."""

    params = (("period", 8), ("size", 6), ("near", 0.01), ("far", 0.02))

    def __init__(self):
        self.means = [bt.ind.SMA(data, period=self.p.period) for data in self.datas]
        self.lowest, self.orders = {}, {data: [] for data in self.datas}

    def notify_order(self, order):
        if order.status in (order.Partial, order.Completed):
            held = min(bit.psize for bit in order.executed.exbits)
            self.lowest[order.data._name] = min(held, self.lowest.get(order.data._name, 0))

    def next(self):
        for data, mean in zip(self.datas, self.means, strict=True):
            held = self.getposition(data).size
            if held <= 0 and data.close[0] > mean[0] and data.close[-1] <= mean[-1]:
                self.enter(data)
            elif held > 0 and data.close[0] < mean[0]:
                self.leave(data)

    def enter(self, data):
        self.buy(data, size=self.p.size)

    def leave(self, data):
        self.close(data)

    def stop_of(self, data):
        return {"price": data.close[0] * (1 - self.p.near), "exectype": bt.Order.Stop}

    def profit_of(self, data, steps=1.0):
        price = data.close[0] * (1 + self.p.far * steps)
        return {"price": price, "exectype": bt.Order.Limit}


class OwnStop(LongOnly):
    """Send a stop with the entry, and close on the signal: the stop is left behind."""

    def enter(self, data):
        super().enter(data)
        self.sell(data, size=self.p.size, **self.stop_of(data))


class TakeProfit(LongOnly):
    """Rest a take-profit once the entry has filled, and close over it."""

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed and order.isbuy() and len(order.data):
            self.sell(order.data, size=order.executed.size, **self.profit_of(order.data))


class Both(TakeProfit):
    """Rest a stop and a take-profit that do not know of each other."""

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed and order.isbuy() and len(order.data):
            self.sell(order.data, size=order.executed.size, **self.stop_of(order.data))


class Alternatives(LongOnly):
    """Rest a stop and a take-profit of which one cancels the other."""

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed and order.isbuy() and len(order.data):
            size = order.executed.size
            stop = self.sell(order.data, size=size, **self.stop_of(order.data))
            self.sell(order.data, size=size, oco=stop, **self.profit_of(order.data))


class Bracket(LongOnly):
    """Enter by a bracket at the market, and close over its children."""

    def enter(self, data):
        self.buy_bracket(
            data,
            size=self.p.size,
            exectype=bt.Order.Market,
            stopprice=data.close[0] * (1 - self.p.near),
            limitprice=data.close[0] * (1 + self.p.far),
        )


class LimitBracket(LongOnly):
    """Enter by a bracket below the market, and close over its children."""

    def enter(self, data):
        price = data.close[0] * 0.998
        far, near = price * (1 + self.p.far), price * (1 - self.p.near)
        valid = timedelta(days=3)
        self.buy_bracket(
            data, size=self.p.size, price=price, stopprice=near, limitprice=far, valid=valid
        )


class Ladder(LongOnly):
    """Take profit at three prices, with one stop for all of it."""

    def enter(self, data):
        super().enter(data)
        self.sell(data, size=self.p.size, **self.stop_of(data))
        for step in (1, 2, 3):
            self.sell(data, size=self.p.size / 3, **self.profit_of(data, step / 2))


class TrailByHand(LongOnly):
    """Cancel the stop on every bar, and send it again closer to the price, until the signal."""

    def leave(self, data):
        super().leave(data)
        self.left = len(self)

    def next(self):
        super().next()
        for data, orders in self.orders.items():
            if self.getposition(data).size > 0 and getattr(self, "left", 0) != len(self):
                for order in orders:
                    self.cancel(order)
                size = self.getposition(data).size
                orders[:] = [self.sell(data, size=size, **self.stop_of(data))]


class Trailing(LongOnly):
    """Send a trailing stop with the entry."""

    def enter(self, data):
        super().enter(data)
        self.sell(data, size=self.p.size, exectype=bt.Order.StopTrail, trailpercent=self.p.near)


class Rotation(LongOnly):
    """Hold the strongest: leave one and enter another on one bar, by targets."""

    def next(self):
        if len(self) % 3 == 0:
            best = max(self.datas, key=lambda data: data.close[0] / data.close[-2])
            for data in self.datas:
                if data is not best and self.getposition(data).size > 0:
                    self.order_target_size(data, target=0)
            self.order_target_size(best, target=self.p.size)
            if self.getposition(best).size <= 0:
                self.sell(best, size=self.p.size, **self.profit_of(best, 0.5))


class ScaleOut(LongOnly):
    """Sell half first and the rest by close(), twice, as impatient code does."""

    def enter(self, data):
        super().enter(data)
        self.sell(data, size=self.p.size, **self.profit_of(data))

    def leave(self, data):
        self.sell(data, size=self.getposition(data).size / 2)
        self.close(data)
        self.close(data)


class AtTheClose(TakeProfit):
    """Leave at the close of the next bar, over a take-profit."""

    def leave(self, data):
        self.close(data, exectype=bt.Order.Close)


STYLES = [
    LongOnly,
    OwnStop,
    TakeProfit,
    Both,
    Alternatives,
    Bracket,
    LimitBracket,
    Ladder,
    TrailByHand,
    Trailing,
    Rotation,
    ScaleOut,
    AtTheClose,
]


def market(rng, bars):
    """Return the bars of a random market: calm or wild, with gaps between its days."""
    volatility = rng.choice([0.004, 0.01, 0.03])
    close = 100.0 * np.exp(np.cumsum(volatility * rng.standard_t(4, bars)))
    first = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0.0, volatility / 2, bars))
    wide = volatility * np.abs(rng.normal(0.0, 0.7, (2, bars)))
    days = [START + timedelta(days=k) for k in range(bars)]
    prices = {
        "open": first,
        "high": np.maximum(first, close) * (1 + wide[0]),
        "low": np.minimum(first, close) * (1 - wide[1]),
        "close": close,
        "volume": 1000.0,
    }
    return pd.DataFrame(prices, index=pd.DatetimeIndex(days))


def build(style, seed, protect=None):
    """Return a Cerebro that plays a style on the market of a seed."""
    rng, dice = np.random.default_rng(seed), random.Random(seed)
    cerebro = bt.Cerebro(stdstats=False, runonce=dice.random() < 0.5)
    cerebro.broker.setcash(1_000_000.0)
    cerebro.broker.setcommission(commission=dice.choice([0.0, 0.001]))
    if dice.random() < 0.3:
        cerebro.broker.set_slippage_perc(0.001)
    cerebro.broker.set_coc(dice.random() < 0.2)
    for number in range(dice.choice([1, 2, 3])):
        frame = market(rng, 120)
        cerebro.adddata(PandasData(dataname=frame), name=f"D{number}")
    cerebro.addstrategy(style)
    if protect is not None:
        protect(cerebro)
    return cerebro


def shortest(style, seed, protect=None):
    """Return the lowest position that a run has held."""
    return min(build(style, seed, protect).run()[0].lowest.values(), default=0)


def check(style, seed):
    """Play a style bare, behind wide limits and with every limit off."""
    for protect in (far_limits, whole_policy):
        assert shortest(style, seed, protect) > -1e-9, (style.__name__, seed, protect.__name__)
    bare, off = (record(build(style, seed, how), OTHERS[:1]) for how in (None, every_limit_off))
    assert off == bare, (style.__name__, seed)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_no_long_only_strategy_goes_short_and_off_is_bare(style):
    check(style, 0)


@pytest.mark.parametrize("seed", sliced(range(1, MARKETS), MARKETS, full_every=6))
def test_no_long_only_strategy_goes_short_on_any_market(seed):
    for style in STYLES:
        check(style, seed)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("worker", range(4))
def test_no_long_only_strategy_goes_short_in_a_long_time(worker):
    for seed in range(MARKETS + worker, MORE, 4):
        for style in STYLES:
            check(style, seed)


def test_bare_they_do_go_short():
    # Without that none of this would be tested.
    for style in (OwnStop, TakeProfit, Ladder, ScaleOut):
        assert any(shortest(style, seed) < 0 for seed in range(12)), style.__name__
