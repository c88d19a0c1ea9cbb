"""Rules 1, 3 and 4 from the model's own numbers: no accepted entry exceeds a limit."""

import math

import backtrader as bt
import numpy as np

from safety.book import EPS, Book

Order = bt.Order


class Limits(Book):
    """Add up what is at stake, held positions and working orders counted."""

    def _check_limits(self, asked):
        equity = self.tape.getvalue()
        d, side, mult = asked.index, asked.side, self.mult(asked.index)
        risk = asked.opening * asked.distance * mult
        value = asked.opening * asked.price * mult
        others = [a for a in self.asked.values() if a is not asked]
        one, worth = self._at_stake(d, side, others, "risk"), self._at_stake(d, side, others, "")
        unit = self.policy["exposure_unit"]
        total = sum(self._at_stake(i, side, others, unit) for i in range(len(self.datas)))
        self._within("1 risk_limit", "risk", one + risk, equity)
        self._within("1 notional_limit", "notional", worth + value, equity)
        stake = risk if unit == "risk" else value
        self._within("1 exposure_limit", "exposure", total + stake, equity)

    def _within(self, promise, limit, used, equity):
        limit = self.limit[limit]
        if limit is not None and not used <= limit * equity * (1 + 1e-6) + 1e-6:
            self.breach(promise, f"{used:.6g} of {equity:.6g} is {used / equity:.6f} > {limit:g}")

    def _at_stake(self, index, side, orders, unit):
        """Currency at stake on one side of one data: held, and about to be."""
        held = self.net(index)
        stake = 0.0
        if held * side > 0:
            price = abs(held) * self.price(index)
            stake = self._held_risk(index, held) if unit == "risk" else price
        groups = {}
        for a in orders:
            if a.index == index and a.side == side and a.entering > EPS:
                each = a.entering * (a.distance if unit == "risk" else a.price)
                groups[a.group] = max(groups.get(a.group, 0.0), each)
        return (stake + sum(groups.values())) * self.mult(index)

    def _held_risk(self, index, held):
        side, left, lost = (1 if held > 0 else -1), abs(held), 0.0
        stops = self.own_alive(index, "stop")
        stops += [a.order for a in self.alive(index, -side) if a.kind == "stop" and a.reachable]
        rows = sorted(
            (max(0.0, side * (self.price(index) - o.created.price)), abs(o.executed.remsize))
            for o in stops
            if o.isbuy() == (side < 0)
        )
        for distance, size in rows:
            lost += min(left, size) * distance
            left -= min(left, size)
        return lost + (left * self.policy["atr_multiple"] * self.atr(index) if left > EPS else 0.0)

    def _rejudge(self, asked):
        """Judge a bracket by its own stop; the family is still here, so it was let through."""
        parent = self.asked[asked.parent.ref]
        parent.distance = abs(parent.price - asked.price)
        parent.exact = parent.opening > EPS
        if parent.exact:
            self._check_limits(parent)

    def _correlated(self, asked):
        limit = self.limit["correlation"]
        if limit is None:
            return ""
        for other in range(len(self.datas)):
            sides = {a.side for a in self.asked.values() if a.index == other and a.entering > EPS}
            if abs(self.net(other)) > EPS:
                sides.add(1 if self.net(other) > 0 else -1)
            if other == asked.index or not sides:
                continue
            rho, count = self._correlation(asked.index, other)
            if count < self.policy["min_periods"]:
                return "8 entry accepted before its correlation is known"
            if any(side * asked.side * rho > limit + 1e-6 for side in sides):
                return "4 the same bet accepted twice"
        return ""

    def _correlation(self, one, other):
        """Correlation of log returns between common times within the window."""
        closes = []
        for index, table in enumerate(self.tables):
            seen = table[: self.length(index)]
            closes.append({row[0]: row[4] for row in seen if row[4] == row[4]})
        axis = sorted(set().union(*closes))[-self.policy["window"] - 1 :]
        common = [t for t in axis if t in closes[one] and t in closes[other]]
        count = max(0, len(common) - 1)
        if count < self.policy["min_periods"]:
            return math.nan, count
        x = np.diff(np.log([closes[one][t] for t in common]))
        y = np.diff(np.log([closes[other][t] for t in common]))
        return float(np.corrcoef(x, y)[0, 1]), count
