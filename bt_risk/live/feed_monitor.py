"""FeedMonitor: find the data feeds that are silent or late, so that nothing new opens on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import backtrader as bt

from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["FeedMonitor"]

_Data = bt.feed.AbstractDataBase
# Some data feeds never report LIVE: they have caught up when no bar came for so many seconds.
_CAUGHT_UP_SECONDS = 5.0
_SILENT = {_Data.DISCONNECTED, _Data.CONNBROKEN, _Data.DELAYED, _Data.NOTSUBSCRIBED}


class FeedMonitor:
    """Check the data feeds of one `RiskBroker` by the status that they report and by the clock.

    Attributes
    ----------
    skips_past : bool
        Whether bars that arrive late are not acted upon: behind a live broker they do not show the
        present market.
    active : bool
        Whether there is anything to check. A file has its own time: only live data feeds count.
    missed : list of Instrument
        Instruments of this round whose bar arrived late.
    """

    def __init__(self, gate: Gate, skips_past: bool) -> None:
        self.gate, self.clock = gate, gate.live.clock
        self.limit = gate.live.stale_after
        feeds = [instrument.root for instrument in gate.book.instruments]
        self.skips_past = skips_past
        self.active = skips_past or any(feed.islive() for feed in feeds)
        self.missed: list[Instrument] = []
        self._last_bar: dict[int, float] = {}
        self._reported: dict[int, str] = {}
        self._was_live: set[int] = set()
        self._behind: set[int] = set()

    def check(self, fresh: list[Instrument]) -> list[Instrument]:
        """Write a line where a data feed becomes silent or live again; return what to act upon.

        Bars of the past are not acted upon, because they closed before the present position was
        opened: they are `missed`. The last of them counts once no further one follows.
        """
        now = self.clock()
        for instrument in fresh:
            self._last_bar[instrument.index] = now
        for instrument in self.gate.book.instruments:
            why = self.silent(instrument)
            if instrument in fresh and not why:
                self._was_live.add(instrument.index)
            if bool(why) != bool(self._reported.get(instrument.index)):
                self._reported[instrument.index] = why
                self._journal(instrument, why)
        return self._present(fresh, now) if self.skips_past else fresh

    def behind(self, instrument: Instrument) -> bool:
        """Return whether a data feed still delivers bars of the past."""
        return instrument.index in self._behind

    def _present(self, fresh: list[Instrument], now: float) -> list[Instrument]:
        """Return the instruments whose bar is of the present, with those that have caught up."""
        self.missed = late = [i for i in fresh if i.root._laststatus == _Data.DELAYED]
        for instrument in late:
            self._behind.add(instrument.index)
        present = [i for i in fresh if i not in late]
        for instrument in self.gate.book.instruments if self._behind else ():
            if self.behind(instrument) and instrument not in late:
                waited = now - self._last_bar[instrument.index] >= _CAUGHT_UP_SECONDS
                if instrument.root._laststatus != _Data.DELAYED or waited:
                    self._behind.remove(instrument.index)
                    present += [instrument] if instrument not in present else []
        return present

    def silent(self, instrument: Instrument) -> str:
        """Return why nothing new may be opened on a data feed, or an empty text."""
        if not self.active:
            return ""
        feed = instrument.root
        status = getattr(feed, "_laststatus", _Data.CONNECTED)
        if status in _SILENT:
            return f"{instrument.name} is {feed._getstatusname(status)}"
        if self.limit is None:
            return ""
        age = self.clock() - self._last_bar.setdefault(instrument.index, self.clock())
        if age <= self.limit:
            return ""
        return f"{instrument.name} has had no bar for {age:.0f} s, stale_after is {self.limit:g} s"

    def _journal(self, instrument: Instrument, why: str) -> None:
        was_live = instrument.index in self._was_live  # before that it is only catching up
        action = "stale" if why and was_live else "note"
        reason = f"feed: {why}; its stops stay in place"
        if not why:
            reason = f"feed: {instrument.name} is live{' again' if was_live else ''}"
        self.gate.journal.instrument(instrument, "feed", action, reason)
