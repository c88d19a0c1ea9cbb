"""The bars of a world, and the average true range of them."""

import math
from datetime import datetime, timedelta

import backtrader as bt
import numpy as np

START = datetime(2020, 1, 1)


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
    close = np.where(rng.random(count) < feed.nans, np.nan, close)
    days = np.array([bt.date2num(START + timedelta(days=i)) for i in range(count)])
    table = np.column_stack([days, open_, high, low, close, np.full(count, 1000.0)])
    first, last = round(feed.start * count), max(2, round(feed.end * count))
    there = (rng.random(count) >= feed.gaps) & (np.arange(count) >= first)
    there[:1] |= index == 0
    return table[there & (np.arange(count) < last)]


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


def wilder(table, period):
    """Average true range of every bar, written from Wilder's definition; NaN bars say nothing."""
    values, ranges, previous, value = [], [], math.nan, math.nan
    for _, _, high, low, close, _ in table.tolist():
        if close == close:
            if previous == previous:
                true_range = max(high, previous) - min(low, previous)
                ranges.append(true_range)
                if len(ranges) == period:
                    value = sum(ranges) / period
                elif len(ranges) > period:
                    value += (true_range - value) / period
            previous = close
        values.append(value)
    return values
