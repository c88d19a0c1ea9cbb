"""Decisions about orders: by each limit with many names, and of a strategy that orders daily."""

from functools import partial

import backtrader as bt
import numpy as np

import bt_risk
from benchmarks import gate
from benchmarks.prices import panel
from benchmarks.row import Row
from benchmarks.timing import Spread, ratios, take_turns

TITLE = "Decisions: one limit among 500 names, and 40 orders on every bar"
BARE, NATIVE, DEFAULT = "bare", "protect, fast=False", "protect"
SHOWN = ("correlation", "exposure, one direction", "exposure, gross", "volatility")
HELD = gate.HELD[-1]


def rows(options):
    """Yield the rows of single decisions, and of the daily orders."""
    yield from _limits(options.quick)
    names, bars, rounds = (10, 60, 1) if options.quick else (40, 500, 5)
    yield from _daily(names, bars, rounds, None if options.quick else 1.3)


def _limits(quick):
    """Yield the first decision of a bar by each limit, against pandas and against correlation."""
    shown = SHOWN[:2] if quick else SHOWN
    taken = {name: gate.decisions(gate.LIMITS[name], HELD)[0] / 1e6 for name in shown}
    pandas = gate.pandas_matrix() / 1e6
    work = f"{gate.NAMES} names, {HELD} held"
    for name, seconds in taken.items():
        goal = None if quick or name != "correlation" else 1 / gate.TIMES_PANDAS
        ratio = Spread.of([seconds / pandas])
        yield Row("decisions", work, name, ratio, "pandas' corr()", goal, seconds, "decision")
    name, anchor = SHOWN[1], SHOWN[0]
    ratio = Spread.of([taken[name] / taken[anchor]])
    goal = None if quick else 1.0
    yield Row("decisions", work, name, ratio, anchor, goal, taken[name], "decision")


class Daily(bt.Strategy):
    """Order a new share of the account in every name on every bar, against its last move."""

    def __init__(self):
        self.orders = 0

    def next(self):
        """Order what the last moves say."""
        if len(self) < 2:
            return
        returns = np.array([data.close[0] / data.close[-1] - 1.0 for data in self.datas])
        weights = returns.mean() - returns
        weights /= np.abs(weights).sum()
        for data, weight in zip(self.datas, weights, strict=True):
            self.orders += self.order_target_percent(data, target=weight) is not None


def _daily(names, bars, rounds, goal):
    """Yield what such a strategy costs, protected and bare; they do not make the same trades."""
    frames, orders = panel(names, bars), {}

    def run(name, **settings):
        cerebro = bt.Cerebro(stdstats=False)
        for number, frame in enumerate(frames):
            cerebro.adddata(bt.feeds.PandasData(dataname=frame), name=f"D{number}")
        cerebro.broker.setcash(1_000_000.0)
        cerebro.addstrategy(Daily)
        if settings:
            bt_risk.protect(cerebro, bt_risk.Policy(drawdown_limit=None), **settings)
        orders[name] = cerebro.run()[0].orders

    ways = {BARE: {}, NATIVE: dict(fast=False), DEFAULT: dict(fast=True)}
    times = take_turns({name: partial(run, name, **way) for name, way in ways.items()}, rounds)
    for name, ratio in ratios(times, BARE).items():
        more = np.subtract(times[name], times[BARE]) / orders[name]
        note = f"{orders[name]:,} orders"
        if name != BARE:
            note += f", {1e6 * np.median(more):.0f} us more for each"
        work = f"{names} orders on each of {bars} bars"
        own, seconds = goal if name == DEFAULT else None, Spread.of(times[name]).median / bars
        yield Row("decisions", work, name, ratio, BARE, own, seconds, note=note)
