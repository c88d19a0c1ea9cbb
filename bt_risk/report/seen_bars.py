"""SeenBars: what each bar of a strategy sees of its data feeds, as arrays after the run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import backtrader as bt
import numpy as np

from bt_risk.portfolio.signals import instrument_feeds

__all__ = ["LoadedBars", "PassingBars", "SeenBars", "seen_bars", "unique_names"]

_LENGTH = attrgetter("lencount")  # with `map` no call of Python for each data feed


class SeenBars(ABC):
    """Record how many bars of each data feed every bar of a strategy sees.

    Parameters
    ----------
    feeds : sequence of data feed
    names : sequence of str
        The lines to record beside ``datetime``.

    Attributes
    ----------
    feeds : list of data feed
        Empty after `keep`.
    feed_names : tuple of str
        A name for each feed: see `unique_names`.
    originals : list of int
        The places of the feeds that are no clone of another one.
    counts : array
        How many bars of each feed had come, bar by bar.
    only : line or None
        The line whose length is all that `note` records, where there is one loaded feed: a caller
        may append it to `counts` instead, which takes a third of the time.
    """

    def __init__(self, feeds: Sequence[bt.AbstractDataBase], names: Sequence[str]) -> None:
        self.feeds, self.names = list(feeds), ("datetime", *names)
        self.feed_names = unique_names(feeds)
        self.originals = [place for place, feed in enumerate(feeds) if not feed._clone]
        # The length of a data feed is that of its first line.
        self._heads = [feed.lines[0] for feed in self.feeds]
        self.only: Any = None
        self.counts = array("q")

    def note(self) -> None:
        """Record one bar of the strategy."""
        self.counts.extend(map(_LENGTH, self._heads))

    def keep(self) -> None:
        """Let go of the data feeds after the last bar: plain values are left."""
        self.feeds, self._heads, self.only = [], [], None

    def lengths(self) -> np.ndarray:
        """Return how many bars of each feed had come, of shape (bars of the strategy, feeds)."""
        return np.frombuffer(self.counts, dtype=np.int64).reshape(-1, len(self.feed_names))

    @abstractmethod
    def bars(self, place: int, name: str) -> np.ndarray:
        """Return the values of a line of one data feed, a value for each of its bars."""

    @abstractmethod
    def seen(self, place: int, name: str) -> np.ndarray:
        """Return the values of a line that each bar of the strategy saw; any before the first."""

    def latest(self, places: Iterable[int], before: float) -> np.ndarray:
        """Return the latest time of these data feeds at each bar; `before` where none has begun."""
        lengths = self.lengths()
        latest = np.full(len(lengths), before)
        unknown = np.full(len(lengths), math.isnan(before))
        for place in places:
            times = self.seen(place, "datetime")
            # The comparison of ``max``, whatever it is that is no number.
            later = (lengths[:, place] > 0) & (unknown | (times > latest))
            latest[later] = times[later]
            unknown &= ~later
        return latest


class LoadedBars(SeenBars):
    """Read data feeds that were loaded before the run: what they have seen does not change."""

    def __init__(self, feeds: Sequence[bt.AbstractDataBase], names: Sequence[str]) -> None:
        super().__init__(feeds, names)
        self.only = self._heads[0] if len(self._heads) == 1 else None
        self._kept: dict[tuple[int, str], np.ndarray] = {}

    def keep(self) -> None:
        """Copy what was seen, and let go of the data feeds: plain values are left."""
        places = range(len(self.feeds))
        self._kept = {(i, name): self.bars(i, name) for i in places for name in self.names}
        super().keep()

    def bars(self, place: int, name: str) -> np.ndarray:
        """Return the values of a line of one data feed, a value for each of its bars."""
        if self._kept:
            return self._kept[place, name]
        lengths = self.lengths()
        count = int(lengths[-1, place]) if len(lengths) else 0
        return np.array(getattr(self.feeds[place].lines, name).array[:count])

    def seen(self, place: int, name: str) -> np.ndarray:
        """Return the values of a line that each bar of the strategy saw; any before the first."""
        values = np.append(self.bars(place, name), math.nan)
        return values[self.lengths()[:, place] - 1]


class PassingBars(SeenBars):
    """Record the values of data feeds that arrive, form or are forgotten while the run goes on."""

    def __init__(self, feeds: Sequence[bt.AbstractDataBase], names: Sequence[str]) -> None:
        super().__init__(feeds, names)
        self._lines = [[getattr(feed.lines, name) for name in self.names] for feed in self.feeds]
        self._replaying = [feed.replaying for feed in self.feeds]
        self._unknown = [math.nan] * len(self.names)
        self._values = array("d")

    def note(self) -> None:
        """Record one bar of the strategy, and what it sees."""
        super().note()
        for head, lines in zip(self._heads, self._lines, strict=True):
            self._values.extend([line[0] for line in lines] if head.lencount else self._unknown)

    def keep(self) -> None:
        """Let go of the data feeds after the last bar: plain values are left."""
        self._lines = []
        super().keep()

    def bars(self, place: int, name: str) -> np.ndarray:
        """Return the values of a line of one data feed, a value for each of its bars."""
        rows: list[int] = []
        replaying = self._replaying[place]
        for row, length in enumerate(self.lengths()[:, place].tolist()):
            if length > len(rows):
                rows.append(row)
            elif rows and replaying:
                rows[-1] = row  # of a bar that forms, the newest state
        return self.seen(place, name)[rows]

    def seen(self, place: int, name: str) -> np.ndarray:
        """Return the values of a line that each bar of the strategy saw; any before the first."""
        shape = -1, len(self.feed_names), len(self.names)
        values = np.frombuffer(self._values).reshape(shape)
        return values[:, place, self.names.index(name)].copy()


def seen_bars(strategy: bt.Strategy, names: Sequence[str]) -> SeenBars:
    """Return the recorder for the data feeds with prices of a strategy that is about to run."""
    kind = LoadedBars if strategy.cerebro._dopreload else PassingBars
    return kind(instrument_feeds(strategy.datas), names)


def unique_names(feeds: Iterable[bt.AbstractDataBase]) -> tuple[str, ...]:
    """Return a name for each feed: its own, with its place where an earlier feed has that name."""
    names: list[str] = []
    for i, feed in enumerate(feeds):
        name = getattr(feed, "_name", "") or f"data{i}"
        names.append(f"{name} (data{i})" if name in (*names, "cash") else name)
    return tuple(names)
