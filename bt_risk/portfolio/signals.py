"""The signals of instruments, as they stood when the book was last updated."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["Reading", "Signals", "instrument_feeds", "is_signal"]

DAY_SECONDS = 86_400.0
_AGE_EPS = 1e-3  # Backtrader's numbers of days are no more exact
# How two directions are called.
SIDES = {1: "long", -1: "short", 0: "flat"}


def is_signal(data: Any) -> bool:
    """Return whether a data feed, or the one that it is a copy of, has signals and no prices."""
    source = data.data if getattr(data, "_clone", False) else data
    return bool(getattr(source, "signal_feed", False))


def instrument_feeds(datas: Iterable[Any]) -> list[Any]:
    """Return the data feeds that are no signals."""
    return [data for data in datas if not is_signal(data)]


class Reading(NamedTuple):
    """One signal now: all NaN and `why` while there is none to act upon.

    Attributes
    ----------
    name : str
        Name of its data feed.
    score, direction, conviction : float
        As in `bt_risk.SignalData`.
    why : str
        Why there is no signal; empty where there is one.
    """

    name: str
    score: float
    direction: float
    conviction: float
    why: str = ""


class _Feed:
    """One data feed of signals, and what its lines had in the last round of the book."""

    def __init__(self, data: Any, place: int) -> None:
        self.data, self.name = data, data._name or f"data{place}"
        clock = data.clock
        self.root = clock.data if getattr(clock, "_clone", False) else clock
        self.lines = [
            getattr(data.lines, name)
            for name in ("score", "direction", "conviction", "age", "datetime")
        ]
        self.trouble = ""
        self.values, self.count = [math.nan] * len(self.lines), 0

    def read(self) -> None:
        """Keep the values of the newest bar; the lines may show a later one before it is due."""
        count = self.lines[0].lencount
        if count != self.count:  # with exactbars the lines forget a bar once they wait for one
            self.count = count
            self.values = [float(line.array[line._idx]) for line in self.lines]

    def reading(self, now: float) -> Reading:
        """Return the signal at a time, by which it may have become too old since its bar."""
        score, direction, conviction, age, since = self.values
        late = (now - since) * DAY_SECONDS
        age += late if late > 0.0 else 0.0
        nothing = math.nan, math.nan, math.nan
        if math.isnan(age):
            return Reading(self.name, *nothing, f"{self.name} has had no signal yet")
        if age > self.data.ttl + _AGE_EPS or math.isnan(direction):
            old, most = (dt.timedelta(seconds=round(span)) for span in (age, self.data.ttl))
            why = f"the last of {self.name} is {old} old > ttl {most}"
            return Reading(self.name, *nothing, why)
        return Reading(self.name, score, direction, conviction)


class Signals:
    """All data feeds of signals of one run; empty, and then False, in most runs."""

    def __init__(self, datas: Iterable[Any] = ()) -> None:
        feeds = [(place, data) for place, data in enumerate(datas) if is_signal(data)]
        self._feeds = [_Feed(data, place) for place, data in feeds if hasattr(data, "clock")]

    def __bool__(self) -> bool:
        return bool(self._feeds)

    def read(self) -> None:
        """Read the newest bar of each."""
        for feed in self._feeds:
            feed.read()

    def news(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each data feed whose trouble has begun or ended, and what it is."""
        for feed in self._feeds:
            trouble = getattr(feed.data, "trouble", "")
            if bool(trouble) != bool(feed.trouble):
                feed.trouble = trouble
                yield feed.name, trouble

    def of(self, instrument: Instrument, now: float) -> list[Reading]:
        """Return what the data feeds of signals say of an instrument at a time."""
        return [feed.reading(now) for feed in self._feeds if feed.root is instrument.root]
