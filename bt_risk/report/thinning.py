"""Fewer points than bars, without hiding an extreme: lowest and highest of each bucket stay."""

import math

import numpy as np

__all__ = ["Candles", "Envelope", "candles"]


def _bucket_starts(times: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Return where each bucket of bars begins, at most `count` of them, and the times of one.

    Bars of one time share a bucket, because an axis shows each time once.
    """
    firsts = np.flatnonzero(np.r_[True, times[1:] != times[:-1]])[: len(times)]
    width = max(1, math.ceil(len(firsts) / count))
    return firsts[::width], width


class Envelope:
    """Times in buckets: each line keeps its lowest and its highest value in each of them.

    Parameters
    ----------
    times : array of int
        Seconds since 1970, not decreasing.
    count : int
        The largest number of points.

    Attributes
    ----------
    times : array of int
        The times that are left.
    width : int
        How many times share a bucket; with 1 the lines keep all their values.
    """

    def __init__(self, times: np.ndarray, count: int) -> None:
        self._starts, self.width = _bucket_starts(times, count)
        if self.width > 1:
            self._starts, self.width = _bucket_starts(times, count // 2)
        self._ends = np.r_[self._starts[1:], len(times)]
        firsts, lasts = times[self._starts], times[self._ends - 1]
        self._single = firsts == lasts
        self.times = firsts if self.width == 1 else np.unique(np.c_[firsts, lasts])

    def line(self, values: np.ndarray) -> np.ndarray:
        """Return the values at `times`: the two of a bucket in the order in which they came.

        NaN counts only where a bucket has nothing else.
        """
        if self.width == 1:
            return values[self._ends - 1]
        found: list[float] = []
        buckets = zip(self._starts.tolist(), self._ends.tolist(), self._single, strict=True)
        for start, end, single in buckets:
            part = values[start:end]
            part = part[np.isfinite(part)]
            if not len(part):
                found += [math.nan] * (1 if single else 2)
            elif single:
                found.append(part[-1])
            else:
                found += [part[place] for place in sorted((part.argmin(), part.argmax()))]
        return np.array(found)


class Candles:
    """Bars in buckets: first open, highest high, lowest low, last close.

    Attributes
    ----------
    times : array of int
        Seconds since 1970 at which each candle begins.
    prices : array of shape (4, n_candles)
        Open, high, low and close.
    width : int
        How many bars the page shows as one candle.
    """

    def __init__(self, times: np.ndarray, prices: np.ndarray, width: int) -> None:
        self.times, self.prices, self.width = times, prices, width

    def place(self, times: np.ndarray) -> np.ndarray:
        """Return the candle of each time; the first one for a time before all."""
        return np.maximum(np.searchsorted(self.times, times, side="right") - 1, 0)


def candles(times: np.ndarray, prices: np.ndarray, count: int) -> Candles:
    """Return at most `count` candles of bars, those without a price left out."""
    known = np.isfinite(prices).all(axis=0)
    times, prices = times[known], prices[:, known]
    starts, width = _bucket_starts(times, count)
    if not len(starts):
        return Candles(times, prices, width)
    opens, highs, lows, closes = prices
    ends = np.r_[starts[1:], len(times)] - 1
    highest, lowest = np.maximum.reduceat(highs, starts), np.minimum.reduceat(lows, starts)
    found = np.array([opens[starts], highest, lowest, closes[ends]])
    return Candles(times[starts], found, width)
