"""The bars of a world, and what can be known of them."""

import math
from datetime import datetime, timedelta
from typing import NamedTuple

import backtrader as bt
import numpy as np

START = datetime(2020, 1, 1)
# What one relative step of a spread is in points: its prices wander around zero.
SPREAD = 50.0


def rows(world):
    """Return the bars of every feed: arrays of ``(time, open, high, low, close, volume)``."""
    common = np.random.default_rng([world.seed, 1_000]).normal(0.0, 1.0, world.bars)
    return [_rows(world, index, feed, common) for index, feed in enumerate(world.feeds)]


def _rows(world, index, feed, common):
    rng, count = np.random.default_rng([world.seed, index]), world.bars
    own = rng.normal(0.0, 1.0, count) + rng.choice([0, 0, 0, 0, 0, -4, 4], count)
    steps = feed.volatility * (feed.beta * common + math.sqrt(1 - feed.beta**2) * own)
    close = 100.0 * np.exp(np.cumsum(steps))
    gap = rng.normal(0.0, feed.volatility / 3, count)
    open_ = np.r_[100.0, close[:-1]] * np.exp(gap)
    wide = feed.volatility * np.abs(rng.normal(0.0, 0.6, (2, count))) * rng.choice([1, 1, 4], count)
    high = np.maximum(open_, close) * (1 + wide[0])
    low = np.minimum(open_, close) * (1 - np.minimum(wide[1], 0.5))
    if feed.spread:
        close = SPREAD * np.cumsum(steps)
        open_ = np.r_[0.0, close[:-1]] + SPREAD * gap
        high = np.maximum(open_, close) + SPREAD * wide[0]
        low = np.minimum(open_, close) - SPREAD * wide[1]
    close = np.where(rng.random(count) < feed.nans, np.nan, close)
    days = np.array([bt.date2num(START + timedelta(days=i)) for i in range(count)])
    table = np.column_stack([days, open_, high, low, close, np.full(count, 1000.0)])
    first, last = round(feed.start * count), max(2, round(feed.end * count))
    there = (rng.random(count) >= feed.gaps) & (np.arange(count) >= first)
    there[:1] |= index == 0
    if feed.bad:
        _spoil(np.random.default_rng([world.seed, index, 7]), table, feed)
    return table[there & (np.arange(count) < last)]


def _spoil(rng, table, feed):
    """Put errors of a vendor into some bars: those that users have reported."""
    for number, row in enumerate(table):
        ways = ["tenfold", "swapped"] if feed.spread else ["zero", "tenfold", "swapped"]
        # A jump shows once there is an average true range to measure it by.
        ways += ["all tenfold"] if number > feed.start * len(table) + 25 and not feed.spread else []
        if rng.random() < feed.bad:
            how = rng.choice(ways)
            if how == "zero":
                row[4] = 0.0
            elif how == "tenfold":
                row[4] *= 10.0
            elif how == "all tenfold":
                row[1:5] *= 10.0
            else:
                row[2], row[3] = row[3], row[2]


class Rows(bt.feed.DataBase):
    """Bars from an array; PandasData takes longer over a bar than all the rest."""

    params = (("table", None),)

    def start(self):
        super().start()
        self._left = iter(self.p.table.tolist())

    def _load(self):
        row = next(self._left, None)
        if row is None:
            return False
        lines = self.lines
        lines.datetime[0], lines.open[0], lines.high[0], lines.low[0] = row[:4]
        lines.close[0], lines.volume[0], lines.openinterest[0] = row[4], row[5], 0.0
        return True


class Known(NamedTuple):
    """What is known of a feed once a bar has closed.

    `price` is the last close that counts, `close` that of this bar, NaN where it does not count,
    `doubted` how many bars in a row do not because they cannot be true.
    """

    price: float
    close: float
    atr: float
    doubted: int


def known(table, period, negative=False, jump=20.0):
    """Return what is `Known` after every bar: a bar that cannot be true waits for the next."""
    result, state, held, doubted = [], Wilder(period), None, 0
    for _, first, high, low, close, _ in table.tolist():
        closed = close
        if close == close:
            bar = first, high, low, close
            if not _odd(bar, state, state.previous, negative, jump):
                state.add(high, low, close)
                held, doubted = None, 0
            elif held and not _odd(bar, state, held[2], negative, jump):
                state.add(*held)
                state.add(high, low, close)
                held, doubted = None, 0
            else:
                # A jump may be true; prices that contradict each other never are.
                possible = not _odd(bar, state, close, negative, jump)
                held, doubted = (high, low, close) if possible else None, doubted + 1
                closed = math.nan
        result.append(Known(state.previous, closed, state.value, doubted))
    return result


def _odd(bar, state, before, negative, jump):
    first, high, low, close = bar
    slack = 1e-4 * abs(close)
    outside = any(not low - slack <= price <= high + slack for price in (first, close))
    far = abs(close - before) > max(jump * state.value, slack)
    return outside or far or high < low - slack or not (close > 0 or negative)


class Wilder:
    """An average true range, written from Wilder's definition; NaN until there are enough bars."""

    def __init__(self, period):
        self.period, self.ranges = period, []
        self.previous = self.value = math.nan

    def add(self, high, low, close):
        """Take in a bar with a close that counts."""
        previous, self.previous = self.previous, close
        if previous == previous:
            true_range = max(high, previous) - min(low, previous)
            self.ranges.append(true_range)
            if len(self.ranges) == self.period:
                self.value = sum(self.ranges) / self.period
            elif len(self.ranges) > self.period:
                self.value += (true_range - self.value) / self.period
