"""QuickFeed: one preloaded data feed in the quick loop, and the order in which the bars arrive."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import backtrader as bt
import numpy as np

from bt_risk.engine.times import datetimes

__all__ = ["QuickFeed", "bars", "ticks_from_lines"]

# The attribute of a data feed that holds its `QuickFeed` while its ticks are read from its lines.
_KEY = "_bt_risk_quick_feed"
# Bars whose times are converted together.
_CHUNK = 512


class QuickFeed:
    """The lines of one data feed, which the loop moves itself.

    Attributes
    ----------
    lines : list of LineBuffer
        All lines; they move together.
    head : LineBuffer
        The first, whose length is that of the data feed.
    ticks : dict of str to LineBuffer
        The line that each of `tick_aliases` is read out of.
    times : array of float
        When each bar ends, as Backtrader counts days.
    total : int
        Number of bars.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.lines: list[Any] = list(data.lines.lines)
        self.head = self.lines[0]
        self.ticks = {alias: self._line(alias) for alias in tick_aliases(data)}
        self.clock = data.lines.datetime
        self.times = self.clock.array
        self.total: int = data.buflen()
        self._chunk, self._datetimes = -1, []  # type: int, list[Any]

    def _line(self, alias: str) -> Any:
        return self.head if alias == "last" else getattr(self.data.lines, alias)

    @property
    def begun(self) -> bool:
        """Return whether a bar has arrived."""
        return bool(self.head.lencount)

    def datetime(self) -> Any:
        """Return the time of this bar as ``data.datetime.datetime()`` does."""
        if self.clock._tz is not None:
            return self.clock.datetime()
        chunk, place = divmod(self.clock._idx, _CHUNK)
        if chunk != self._chunk:
            begin = chunk * _CHUNK
            self._datetimes = datetimes(self.times[begin : begin + _CHUNK])
            self._chunk = chunk
        return self._datetimes[place]


def bars(feeds: Sequence[QuickFeed]) -> Iterator[tuple[float, Sequence[QuickFeed]]]:
    """Yield the time of each round, and the data feeds that have a bar then: `feeds`, if all."""
    first, *others = feeds
    begin = len(first.head)
    same = all(
        len(one.head) == begin and one.total == first.total and one.times == first.times
        for one in others
    )
    if same:
        # A slice of the array would hold all times twice, to the end of the run.
        for time in islice(first.times, begin, first.total):
            yield time, feeds
        return
    later = [_next_time(feed) for feed in feeds]
    while True:
        time = min(later)
        if time == math.inf:
            return
        due = [k for k, other in enumerate(later) if other <= time]
        yield time, feeds if len(due) == len(feeds) else [feeds[k] for k in due]
        for k in due:
            later[k] = _next_time(feeds[k])


def _next_time(feed: QuickFeed) -> float:
    count = len(feed.head)
    return float(feed.times[count]) if count < feed.total else math.inf


# -- ticks ---------------------------------------------------------------------------------------


class _Tick:
    """Answer ``data.tick_close`` in the quick loop.

    Backtrader copies every line into such an attribute on every bar. What it has set on the data
    feed itself goes before this descriptor, so outside of the quick loop nothing changes.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __get__(self, data: Any, owner: Any = None) -> Any:
        """Return the value of the line, None on the last bar as Backtrader has it.

        Before the first bar there is no such attribute.
        """
        if data is None:
            return self
        feed: QuickFeed | None = data.__dict__.get(_KEY)
        if feed is None or not feed.head.lencount:
            raise AttributeError(f"tick_{self.alias}")
        if feed.head.lencount >= feed.total:
            return None
        line = feed.ticks[self.alias]
        return line.array[line._idx]


class ticks_from_lines:
    """Let data feeds read their ticks out of their lines while this context lasts."""

    def __init__(self, feeds: Sequence[QuickFeed]) -> None:
        self.feeds = feeds

    def __enter__(self) -> None:
        """Drop the copies of an earlier run."""
        for feed in self.feeds:
            for alias in tick_aliases(feed.data):
                name = f"tick_{alias}"
                feed.data.__dict__.pop(name, None)
                if name not in vars(bt.feed.AbstractDataBase):
                    setattr(bt.feed.AbstractDataBase, name, _Tick(alias))
            feed.data.__dict__[_KEY] = feed

    def __exit__(self, *error: object) -> None:
        """Leave the copies that Backtrader would have left."""
        for feed in self.feeds:
            del feed.data.__dict__[_KEY]
            if feed.begun:
                feed.data._tick_nullify()
                if feed.head.lencount < feed.total:
                    feed.data._tick_fill()


def tick_aliases(data: Any) -> list[str]:
    """Return the names of the ticks of a data feed, without ``tick_``."""
    return [*(alias for alias in data.getlinealiases() if alias != "datetime"), "last"]


def finite(values: Any) -> bool:
    """Return whether all values of a line are finite."""
    return bool(np.isfinite(np.frombuffer(values) if len(values) else values).all())
