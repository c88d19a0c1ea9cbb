"""The windows of a walk-forward in time: from the bars of the first data feed to every other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import backtrader as bt
import numpy as np

from bt_risk.engine.fast import fast
from bt_risk.evidence.folds import Fold
from bt_risk.evidence.runner import quiet
from bt_risk.evidence.window import Window

__all__ = ["bar_numbers", "windows_of"]


class _Clock(bt.Strategy):
    """Note the time of each bar of the first data feed."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        count, now = len(self.data), self.data.datetime[0]
        if count > len(self.times):
            self.times.append(now)
        elif count:  # a bar that is still being replayed
            self.times[-1] = now


def bar_numbers(cerebro: bt.Cerebro) -> np.ndarray:
    """Return the times of the bars of the first data feed, as Backtrader's numbers.

    The Cerebro runs without its strategies, so that feeds of every kind say themselves which bars
    they have.
    """
    cerebro.strats, cerebro.analyzers, cerebro.observers = [], [], []
    cerebro.signals, cerebro.writers = [], []
    cerebro.addstrategy(_Clock)
    fast(cerebro)
    with quiet():
        found: list[Any] = cerebro.run(stdstats=False)
    return np.array(found[0].times)


def windows_of(bars: np.ndarray, fold: Fold, warmup: int | None) -> tuple[Window, Window]:
    """Return the windows of a fold: the one that chooses, and the one that tests.

    Parameters
    ----------
    bars : ndarray of shape (n_bars,)
        Numbers of the bars of the first data feed.
    fold : Fold
    warmup : int or None
        Bars before each window that are loaded for indicators; None loads all there are.

    Notes
    -----
    A window begins after the bar before it, and ends with its last bar. So it has all bars of
    other data feeds since the one before, each belongs to one test, and nothing is loaded that
    came after the last bar: not even the rest of a bar that is resampled.
    """
    return _window(bars, fold.train, warmup), _window(bars, fold.test, warmup)


def _window(bars: np.ndarray, of: tuple[int, int], warmup: int | None) -> Window:
    first, end = of
    found = Window()
    if first:
        found = replace(found, after=float(bars[first - 1]))
    if end < len(bars):
        found = replace(found, until=float(bars[end - 1]))
    if warmup is not None and warmup < first:
        found = replace(found, since=float(bars[first - warmup]))
    return found
