"""Rules 1, 3 and 4 from the model's own numbers: no accepted entry exceeds a limit."""

import math

import backtrader as bt
import numpy as np

from promises.safety.book import EPS, Book

Order = bt.Order


class Limits(Book):
    """Add up what is at stake, held positions and working orders counted."""

    def _check_limits(self, asked):
        equity = self.tape.getvalue()
        d, side, mult = asked.index, asked.side, self.mult(asked.index)
        risk = asked.opening * asked.distance * mult
        value = asked.opening * asked.price * mult
        others = [a for a in self._standing() if a is not asked]
        one, worth = self._at_stake(d, side, others, "risk"), self._at_stake(d, side, others, "")
        unit = self.policy["exposure_unit"]
        total = sum(self._at_stake(i, side, others, unit) for i in range(len(self.datas)))
        self._within("1 risk_limit", "risk", one + risk, equity)
        self._within("1 notional_limit", "notional", worth + value, equity)
        stake = risk if unit == "risk" else value
        self._within("1 exposure_limit", "exposure", total + stake, equity)
        self._check_exposures(asked, others, stake, equity)
        self._check_volatility(asked, others, equity)

    def _standing(self):
        """Return the orders whose opening part surely stands.

        A guard that has tripped since the bar on which an order was placed may have ended it, and
        not every guard is followed here.
        """
        return [a for a in self.asked.values() if not self.guards or a.bar == self.bar]

    def _check_exposures(self, asked, others, stake, equity):
        d, side, unit = asked.index, asked.side, self.policy["exposure_unit"]
        here = [self._at_stake(d, side, others, unit) + stake]
        rest = [i for i in range(len(self.datas)) if i != d]
        worse = {i: max(self._at_stake(i, s, others, unit) for s in (1, -1)) for i in rest}
        self._within("1 gross_limit", "gross", sum([*here, *worse.values()]), equity)
        self._within("1 position_limit", "position", here[0], equity)
        against = sum(self._at_stake(i, -side, (), unit) for i in rest)
        with_it = sum(self._at_stake(i, side, others, unit) for i in rest)
        self._within("1 net_limit", "net", here[0] + with_it - against, equity)
        members = (self.policy["groups"] or {}).get("some", ())
        if f"D{d}" in members:
            group = [worse[i] for i in rest if f"D{i}" in members]
            self._within("1 group_limit", "group", sum([*here, *group]), equity)

    def _check_volatility(self, asked, others, equity):
        """The limit, or what it was before: with the entries that rest and add to it, or without.

        What closes in part, or stands against a position, may close it or turn it, whichever
        fills first: nobody knows then what is at stake.
        """
        limit, others = self.limit["volatility"], [a for a in others if a.left > EPS]
        unsure = any(a.entering < a.left - EPS or a.side * self.net(a.index) < 0 for a in others)
        earlier = [a for a in self.asked.values() if a.bar != self.bar and a.entering > EPS]
        unsure |= bool(self.guards and earlier)  # it may be a hedge, if it stands
        if limit is None or unsure:
            return
        sure, rests = {asked.index: 0.0}, {}
        for i in range(len(self.datas)):
            held = self.net(i) and self.net(i) * self.price(i) * self.mult(i)
            sure[i] = 0.0 if i == asked.index and held * asked.side < 0 else held
            for side in (1, -1):
                for kind, into in ((True, sure), (False, rests)):
                    some = [a for a in others if (a.kind == "market") is kind]
                    entering = self._at_stake(i, side, some, "") - self._at_stake(i, side, (), "")
                    key = i if kind else (i, side)
                    into[key] = into.get(key, 0.0) + side * entering
        names = [i for i in sure if sure[i] or rests[i, 1] or rests[i, -1] or i == asked.index]
        matrix = self._yearly(names)
        weights = np.array([sure[i] for i in names]) / equity
        order = asked.side * asked.opening * asked.price * self.mult(asked.index) / equity
        order = order * (np.array(names) == asked.index)
        pull = matrix @ (weights + order / asked.opening * asked.size)
        rest = [[rests[i, side] for side in (1, -1)] for i in names]
        worse = [
            sum(one for one in both if one * p > 0) for both, p in zip(rest, pull, strict=True)
        ]
        for w in (weights, weights + np.array(worse) / equity):
            before, after = (math.sqrt(max(0, v @ matrix @ v)) for v in (w, w + order))
            if not after <= max(limit, before) * (1 + 1e-6):
                seen = f"{before:.6f} became {after:.6f} > {limit:g}"
                self.breach("1 volatility_limit", seen)

    def _yearly(self, names):
        """Return the covariance of a year of some datas, NaN while it is unknown."""
        closes = self._closes(names)
        common = [t for t in self._axis() if all(t in table for table in closes.values())]
        step = self.policy["multi_bar"]
        returns = np.array([np.log([closes[i][t] for t in common]) for i in names])
        returns = (returns[:, step:] - returns[:, :-step]).T
        if len(returns) < self.policy["min_periods"] or any(np.ptp(returns, axis=0) < 1e-12):
            return np.full((len(names), len(names)), math.nan)
        per_year = (len(common) - 1) / (common[-1] - common[0]) * 365.25 / step
        matrix = np.cov(returns.T, **self._weights(len(returns)))
        return matrix.reshape(len(names), -1) * per_year

    def _weights(self, count):
        """Return how numpy weighs returns, oldest first."""
        if self.policy["correlation_estimator"] != "ewm":
            return {"ddof": 1}
        age = np.arange(count)[::-1]
        return {"ddof": 0, "aweights": 0.5 ** (age / self.policy["halflife"])}

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
            sides = {a.side for a in self._standing() if a.index == other and a.entering > EPS}
            if abs(self.net(other)) > EPS:
                sides.add(1 if self.net(other) > 0 else -1)
            if other == asked.index or not sides:
                continue
            for side in sides:
                same, count = self._same_bet(asked, other, side)
                if count < self.policy["min_periods"]:
                    return "8 entry accepted before its correlation is known"
                if same > limit + 1e-6:
                    return "4 the same bet accepted twice"
        return ""

    def _same_bet(self, asked, other, side):
        """Signed correlation of log returns between common times within the window."""
        one, step = asked.index, self.policy["multi_bar"]
        closes = self._closes([one, other])
        common = [t for t in self._axis() if t in closes[one] and t in closes[other]]
        count = max(0, len(common) - step)
        if count < self.policy["min_periods"]:
            return math.nan, count
        logs = [np.log([closes[i][t] for t in common]) for i in (one, other)]
        x, y = (log[step:] - log[:-step] for log in logs)
        matrix = np.cov(x, y, **self._weights(count))
        (xx, xy), (_, yy) = matrix
        same = asked.side * side * xy / math.sqrt(xx * yy)
        if self.policy["downside"]:
            same = max(same, self._fallen(x, y, matrix, asked.side, side))
        return float(same), count

    def _fallen(self, x, y, matrix, side, other):
        weights = self._weights(len(x)).get("aweights", np.ones(len(x)))
        x, y = (z - np.average(z, weights=weights) for z in (x, y))
        loses = side * x / math.sqrt(matrix[0, 0]) + other * y / math.sqrt(matrix[1, 1]) < 0
        x, y, w = x[loses], y[loses], weights[loses]
        below = math.sqrt((w * x * x).sum() * (w * y * y).sum())
        return side * other * (w * x * y).sum() / below if below else -1.0

    def _closes(self, indexes):
        """Return the closes of some datas that have been seen, by time."""
        seen = {i: self.tables[i][: self.length(i)] for i in indexes}
        return {
            i: {row[0]: row[4] for row in table if row[4] == row[4]} for i, table in seen.items()
        }

    def _axis(self):
        """Return the times in the window: at which any data has closed.

        A data counts once two of its closes were a day apart: what it did before says nothing of
        its time frame, and has a place only where another that does has closed too.
        """
        every = [sorted(closes) for closes in self._closes(range(len(self.datas))).values()]
        shown = [
            next(
                (t for t, before in zip(times[1:], times, strict=False) if t - before == 1),
                math.inf,
            )
            for times in every
        ]
        axis = {t for times, since in zip(every, shown, strict=True) for t in times if t >= since}
        axis |= {t for times in every for t in times if t < min(shown)}
        return sorted(axis)[-self.policy["window"] - self.policy["multi_bar"] :]
