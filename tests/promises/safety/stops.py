"""The protective stops: one for each position, of its size, where the rule puts it (3, 4)."""

import math

import backtrader as bt

import bt_risk
from promises.safety.book import EPS, Book, Stop

Order = bt.Order


class Stops(Book):
    """Look at every stop once a bar has closed."""

    def _check_stop(self, index, who):
        share, key = self.share(index, who), (index, who)
        mine = [o for o in self.own_alive(index, "stop") if o.owner.who == who]
        prices = {o.created.price for o in mine if o.status != Order.Partial}
        if len({o.tradeid for o in mine}) < len(mine) or len(prices) > 1:
            self.breach("3 two protective stops", f"{[o.created.size for o in mine]}")
        stop = mine[0] if mine else None
        if stop and not share.size:
            self.breach("3 orphan stop on a flat position", f"{stop.executed.remsize:g}")
        if share.size and self.guarded:
            self._check_cover(index, share, stop, mine)
        if stop is None or not share.size:
            self.stops.pop(key, None)
            return
        self.note("stop", index, who, stop.created.price, stop.executed.remsize)
        self._check_level(index, share, stop, self.stops.get(key))
        self._remember(key, index, share, stop)

    def _check_cover(self, index, share, stop, mine):
        level = self._level(index, share)
        if stop is None:
            best = share.best
            known = [x for x in (level, best) if x == x]
            if known and all(self.valid(index, x) for x in (max(known), min(known))):
                self.breach("3 position without its stop", f"{share.size:g} since {share.entry:g}")
            return
        if stop.isbuy() == (share.size > 0):
            self.breach("3 stop on the wrong side", f"{stop.created.size:g} for {share.size:g}")
        covered = sum(abs(o.executed.remsize) for o in mine)
        wrong = share.regular and abs(covered - abs(share.size)) > EPS
        if wrong and all(o.status != Order.Partial for o in mine):
            text = f"{covered:g} behind {share.size:g}"
            self.breach("3 stop is not sized to the position", text)

    def _level(self, index, share):
        """Where this bar's close says that the stop should be; NaN when it says nothing."""
        if not self.valid(index, self.last_close(index)) or index not in self.fresh:
            return math.nan
        return self.price(index) - share.side * self.policy["atr_multiple"] * self.atr(index)

    def _check_level(self, index, share, stop, known):
        price, side = stop.created.price, share.side
        slack = 1e-9 * abs(price)
        if known and known.number == share.number and side * (price - known.price) < -slack:
            self.breach("4 stop loosened", f"{known.price:.10g} -> {price:.10g}, side {side}")
        level = self._level(index, share)
        if self.policy["anchor"] != "close":
            return
        if level == level:
            best = share.best if share.best == share.best else level
            share.best = max(best, level) if side > 0 else min(best, level)
        off = side * (price - share.best)
        moves = any(isinstance(guard, bt_risk.BreakEven) for guard in self.guards)
        off = abs(off) if share.exact and not moves else -off  # it may be nearer, never farther
        if off > 1e-6 * abs(price) and stop.status != Order.Partial:
            text = f"{price:.10g} instead of {share.best:.10g}, side {side}"
            self.breach("4 stop is not where the rule puts it", text)

    def _remember(self, key, index, share, stop):
        known, price, size = self.stops.get(key), stop.created.price, abs(stop.executed.remsize)
        set_at = self.length(index)
        if known and known.order is stop and (known.price, known.size) == (price, size):
            set_at = known.set_at
        self.stops[key] = Stop(stop, share.number, price, size, set_at)
