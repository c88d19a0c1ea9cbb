"""Signals: no entry against one, without one or on a stale one, and risk by their conviction."""

import math

import bt_risk
from promises.safety.book import Book
from promises.safety.world import Breach


class Signals(Book):
    """Follow the signals of the first feed, as its last bar knows them."""

    def signal(self):
        """Return the score that counts at the last close, NaN without one or beyond its ttl."""
        if not self.lengths[0]:
            return math.nan
        ttl, rows = self.world.signals
        seen = self.tables[0][self.lengths[0] - 1, 0]
        now = max(
            table[length - 1, 0]
            for table, length in zip(self.tables, self.lengths, strict=True)
            if length
        )
        known = [(time, score) for time, score in rows if time <= seen]
        if not known or now - known[-1][0] > ttl:
            return math.nan
        return known[-1][1]

    def against_signal(self, side):
        """Return what the signal says against an entry in the first feed, or nothing."""
        score = self.signal()
        if math.isnan(score):
            return "without a signal"
        return "" if score * side > 0 else "against the signal"

    def _judges_signals(self, index, kind):
        followed = self.world.signals and index == 0 and not self.at_open
        found = [guard for guard in self.guards if isinstance(guard, kind)]
        return found[0] if followed and found else None

    def held_off_by_signal(self, asked):
        """Return why the signal lets an order open nothing now, or nothing."""
        if self._judges_signals(asked.index, bt_risk.SignalGate) is None:
            return ""
        why = self.against_signal(asked.side)
        return f"9 entry accepted {why}" if why else ""

    def check_signal_at_fill(self, asked, opening):
        """What rests is cancelled at the close at which its signal turns, or is too old."""
        if self._judges_signals(asked.index, bt_risk.SignalGate) is not None:
            why = self.against_signal(asked.side)
            if why:
                self.breach(f"9 entry filled {why}", f"{opening:g}")

    def conviction_faults(self, asked, stake):
        """Compare what a position of the first feed may lose with what the score allows."""
        guard = self._judges_signals(asked.index, bt_risk.ConvictionScale)
        if guard is None:
            return []
        score = abs(self.signal())
        share = min(1.0, max(0.0, (score - guard.s0) / (100.0 - guard.s0)))
        most = guard.base * share * self.tape.getvalue()
        used = stake(self.with_it)
        if used <= most * (1 + 1e-6) + 1e-6 or used <= stake(self.others) + 1e-6:
            return []
        return [Breach("1 conviction", self.now, f"{used:.6g} > {most:.6g} at {score:g}")]
