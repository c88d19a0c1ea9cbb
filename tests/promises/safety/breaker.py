"""After a trip nothing opens, everything is closed, and only then the run stops (7)."""

import math

import bt_risk
from promises.safety.book import EPS
from promises.safety.inside import Inside

START = 100.0  # BackBroker's fund value at the begin


class Breaker(Inside):
    """Follow the drawdown, the halt and the way back."""

    def _check_breaker(self):
        if not self.breaks:
            return
        value = self.tape.fundvalue
        if any(self.doubted(i) == 1 and self._held(i) for i in range(len(self.datas))):
            value = math.nan  # one bar that cannot be true moves no mark and trips nothing
        new, finite = 0 in self.fresh, math.isfinite(value)
        if finite and not self.blocked:
            before = value if math.isnan(self.mark) else self.mark
            surely, perhaps = self._worst(value)
            touched = self._touched(surely, before)
            if not touched and self._touched(perhaps, before):
                # What a limit has closed: nobody but the gate knows where the price was before.
                self.breaks, self.astray = False, True
                return
            self.mark = max(before, value)
            if touched or self._touched(value, self.mark):
                self._trip()
        elif self.cooling is not None and new:
            self.cooling -= 1
            if self.cooling <= 0 and finite and value > 0:  # nothing is no mark
                self.blocked, self.cooling, self.flat_at, self.mark = False, None, None, value
                self.breaks = not self.unsure
                self.astray = self.unsure  # the model does not know when it trips again
        if self.blocked and self.flat_at is None and self.policy["flatten"]:
            self._check_leaving()
        if self.blocked and self.flat_at is None and (not self.policy["flatten"] or self._flat()):
            self.flat_at = self.bar
            self.cooling = self.policy["cooldown_bars"]

    def _worst(self, value):
        """Return the value inside the bars that is judged: surely so low, and perhaps."""
        floors = [guard for guard in self.guards if isinstance(guard, bt_risk.AccountFloor)]
        triggers = [floor.trigger for floor in floors] or [self.policy["drawdown_trigger"]]
        equity = self.tape.getvalue()
        if "intrabar" not in triggers or math.isnan(self.mark) or not equity > 0:
            return value, value
        return [value * (1.0 + change / equity) for change in self.worst_inside()]

    def _touched(self, value, highest):
        """Return whether the account has fallen to the limit, or to the floor under it."""
        for floor in self.guards:
            if isinstance(floor, bt_risk.AccountFloor):
                mark = START if floor.mode == "static" else max(highest, START)
                level = mark - floor.amount * START
                level = level if floor.lock is None else min(level, START)
                return value <= level + 1e-10
        return 1 - value / highest >= self.policy["drawdown_limit"] - 1e-12

    def _held(self, index):
        return any(share.size for (i, _), share in self.shares.items() if i == index)

    def _check_leaving(self):
        for (index, who), share in self.shares.items():
            leaving = any(o.owner.who == who for o in self.own_alive(index, "market"))
            if share.size and not leaving:
                self.breach("7 nothing closes a position after a trip", f"{share.size:g}")

    def _trip(self):
        self.blocked, self.flat_at = True, None
        for asked in self.asked.values():
            if asked.parent is None and asked.entering > EPS and asked.pure:
                self.breach("7 entry rests after a trip", f"{asked.side * asked.entering:g}")
            asked.opening = asked.most = 0.0

    def _flat(self):
        held = any(share.size for share in self.shares.values())
        # What is cancelled at the trip is known to be gone on this bar, or on the next.
        self.unsure = self.unsure or self.leaving_bar
        return not held and not any(order.alive() for order in self.own.values())

    def _check_end(self):
        ended = self.lengths == [len(table) for table in self.tables]
        if not self.blocked or self.policy["action"] == "pause":
            if not ended and not self.astray:
                self.breach("7 the run stopped without a trip", f"at bar {self.bar}")
            return
        if self.flat_at is None or not self.policy["flatten"]:
            return
        if any(abs(self.net(index)) > EPS for index in range(len(self.datas))):
            self.breach("7 not flat at the end", "positions are left")
        if self.bar > self.flat_at + self.unsure:
            self.breach("7 the run went on after the halt", f"{self.flat_at} -> {self.bar}")
