"""Whether a data still tells what happens: no new risk on one that does not."""

import backtrader as bt

__all__ = ["FeedMonitor"]

_Data = bt.feed.AbstractDataBase
# A data may never say that it is live: it has caught up when no bar came for so many seconds.
_CAUGHT_UP_SECONDS = 5.0
_SILENT = {_Data.DISCONNECTED, _Data.CONNBROKEN, _Data.DELAYED, _Data.NOTSUBSCRIBED}


class FeedMonitor:
    """Watch the datas of one `RiskBroker` by what they say of themselves and by the clock.

    The clock counts only where a data feed is live; a file has its own time. `skips_past` says that
    bars that arrive late are not acted upon: behind a live broker they say nothing of now.
    """

    def __init__(self, gate, skips_past):
        self.gate, self.clock = gate, gate.live.clock
        self.limit = gate.live.stale_after
        datas = [instrument.root for instrument in gate.book.instruments]
        self.skips_past = skips_past
        self.active = skips_past or any(data.islive() for data in datas)
        self._came, self._lived = {}, set()
        self._said, self._behind, self.missed = {}, set(), []

    def look(self, fresh):
        """Take note of the bars that came, and say once when a data goes silent or comes back.

        Return the instruments to act upon. Bars of the past are none: a position that is held now
        was not held then, and they are `missed`. The last of them counts, once it is the last.
        """
        now = self.clock()
        for instrument in fresh:
            self._came[instrument.index] = now
        for instrument in self.gate.book.instruments:
            why = self.silent(instrument)
            if instrument in fresh and not why:
                self._lived.add(instrument.index)
            if bool(why) != bool(self._said.get(instrument.index)):
                self._said[instrument.index] = why
                self._journal(instrument, why)
        return self._news(fresh, now) if self.skips_past else fresh

    def behind(self, instrument):
        """Whether a data is still telling of the past."""
        return instrument.index in self._behind

    def _news(self, fresh, now):
        self.missed = old = [i for i in fresh if i.root._laststatus == _Data.DELAYED]
        for instrument in old:
            self._behind.add(instrument.index)
        news = [i for i in fresh if i not in old]
        for instrument in self.gate.book.instruments if self._behind else ():
            if self.behind(instrument) and instrument not in old:
                waited = now - self._came[instrument.index] >= _CAUGHT_UP_SECONDS
                if instrument.root._laststatus != _Data.DELAYED or waited:
                    self._behind.remove(instrument.index)
                    news += [instrument] if instrument not in news else []
        return news

    def silent(self, instrument):
        """Return why nothing new may be opened on a data, or nothing."""
        if not self.active:
            return ""
        data = instrument.root
        status = getattr(data, "_laststatus", _Data.CONNECTED)
        if status in _SILENT:
            return f"{instrument.name} is {data._getstatusname(status)}"
        if self.limit is None:
            return ""
        age = self.clock() - self._came.setdefault(instrument.index, self.clock())
        if age <= self.limit:
            return ""
        return f"{instrument.name} has had no bar for {age:.0f} s, stale_after is {self.limit:g} s"

    def _journal(self, instrument, why):
        lived = instrument.index in self._lived  # before that it is only catching up
        action = "stale" if why and lived else "note"
        reason = f"feed: {why}; its stops stay"
        if not why:
            reason = f"feed: {instrument.name} is live{' again' if lived else ''}"
        self.gate.journal.instrument(instrument, "feed", action, reason)
