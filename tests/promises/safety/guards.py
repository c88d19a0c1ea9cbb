"""Who holds entries off for a while: an operator, a cool-down, too many orders (9)."""

from collections import Counter

import bt_risk
from promises.safety.book import EPS, Book


class Guards(Book):
    """Follow the kill switch, and those guards that are as plain as a count."""

    def switch(self, how):
        """Take down what the operator asks for, before the gate is asked."""
        if how == "resume":
            self.switched = ""
        elif self.switched != "halt":
            self.switched = how
        for asked in self.asked.values():
            # A market order would fill at some other time; all else is only held back.
            ended = how == "halt" or how == "reduce_only" and asked.kind in ("market", "close")
            if ended and asked.left > EPS and asked.most > EPS:
                asked.opening, asked.most, asked.ended = 0.0, 0.0, True

    def sent(self, asked):
        """Count an order that went out."""
        if asked.accepted and asked.parent is None:
            self.orders_of[self.bar] += 1

    def left_flat(self, index):
        """Take down that a position was closed, on the bar that is filling now."""
        self.left_at[index] = len(self.datas[index])

    def held_off(self, asked):
        """Return why an order may not open now, or nothing."""
        if self.switched:
            return f"9 entry accepted after {self.switched}"
        if self.held_off_by_signal(asked):
            return self.held_off_by_signal(asked)
        if self.in_call:
            return "9 entry accepted in a margin call"
        for guard in self.guards:
            if isinstance(guard, bt_risk.CooldownGuard):
                since = self.length(asked.index) - self.left_at.get(asked.index, -99)
                if since < guard.cooldown_bars:
                    return f"9 entry accepted {since} bars after an exit"
            if isinstance(guard, bt_risk.OrderRateLimit):
                count = self.orders_of[self.bar]
                if count >= guard.bar_limit:
                    return f"9 entry accepted after {count} orders of the bar"
            if isinstance(guard, bt_risk.LongOnly) and asked.side < 0:
                return "9 short entry accepted, long only"
            if isinstance(guard, bt_risk.Deny) and guard.side == asked.side and asked.index == 0:
                return "9 entry accepted in a name that is denied"
        return ""

    def opened(self, asked, opening):
        """See that an order that fills and opens was not held off by then."""
        if self.switched:
            self.breach(f"9 entry filled after {self.switched}", f"{opening:g}")
        elif asked.ended:
            self.breach("9 entry filled that a switch had ended", f"{opening:g}")
        if not asked.sure or asked.parent is not None:
            return
        self.check_signal_at_fill(asked, opening)
        for guard in self.guards:
            if isinstance(guard, bt_risk.CooldownGuard):
                left = self.left_at.get(asked.index, -99)
                since = len(self.datas[asked.index]) - left
                # Where a data misses bars, what was placed after a cool-down fills within its bar.
                before = asked.length - left < guard.cooldown_bars
                if 0 < since <= guard.cooldown_bars and before:
                    self.breach("9 entry filled in a cool-down", f"{since} bars after an exit")

    def no_guards(self):
        """Begin with nothing held off."""
        self.switched, self.left_at, self.orders_of = "", {}, Counter()
