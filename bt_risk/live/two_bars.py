"""TwoBars: the account value that two bars agree on, where only prices are left to tell it."""

from __future__ import annotations

import math

from bt_risk.portfolio.book import Book

__all__ = ["TwoBars"]


class TwoBars:
    """Follow a value computed from closes, so that one wrong bar moves it neither up nor down.

    The value moves as far as the last two bars of what is held have both moved it: it lags a trend
    by one bar, and a single bar is left out.
    """

    def __init__(self, book: Book) -> None:
        self.book = book
        self._agreed = self._before = self._newest = math.nan
        self._lengths: dict[int, int] = {}

    def begin(self, value: float) -> None:
        """Begin anew at a value that is believed."""
        self._agreed, self._before, self._newest = value, math.nan, value
        self._lengths = {i.index: i.length for i in self.book.instruments}

    def add(self, flow: float) -> None:
        """Take a deposit or a withdrawal into account."""
        self._agreed, self._before = self._agreed + flow, self._before + flow
        self._newest += flow

    def follow(self, value: float) -> float:
        """Return what the last two bars agree on, after the newest close has made it `value`."""
        if math.isnan(self._agreed):
            self.begin(value)
        held = [i for i in self.book.instruments if i.size and not self.book.is_stale(i)]
        if all(i.length > self._lengths.get(i.index, 0) for i in held):
            self._before = self._newest
            self._lengths = {i.index: i.length for i in self.book.instruments}
        self._newest = value
        low, high = sorted((self._before, value))
        if not math.isnan(self._before):
            # As near to the value so far as one of the two bars says.
            self._agreed = min(max(self._agreed, low), high)
        return self._agreed
