"""Rules 1, 3 and 4 from the model's own numbers: no accepted entry exceeds a limit."""

import math

import numpy as np

from promises.safety.book import EPS
from promises.safety.reach import Reach
from promises.safety.world import Breach


class Limits(Reach):
    """Add up what is at stake, held positions and working orders counted.

    Where the model cannot know how much an order may open, it counts the least.
    """

    def over_limits(self, asked, gone=()):
        """Return a `Breach` for each limit that what an order may open exceeds.

        What leaves before it (`gone`) counts as closed.
        """
        self.found, self.leaves = [], gone
        equity, d, side = self.tape.getvalue(), asked.index, asked.side
        others = [a for a in self._standing() if a is not asked]
        self.others, self.with_it = others, [*others, asked]
        self._most("1 risk_limit", "risk", lambda o: self._stake(d, side, o, "risk", asked.who))
        self._most("1 notional_limit", "notional", lambda o: self._stake(d, side, o, "notional"))
        unit, every = self.policy["exposure_unit"], range(len(self.datas))
        self._most(
            "1 exposure_limit",
            "exposure",
            lambda o: sum(self._stake(i, side, o, unit) for i in every),
        )
        self._check_exposures(asked, unit)
        # The least gap that was asked for: 2 % of what is held, and of what may be.
        self._most("1 gap_limit", "gap", lambda o: 0.02 * self._stake(d, side, o, "notional"))
        self._check_volatility(asked, others, equity)
        found = self.found + self.margin_faults(asked, others, gone)
        return found + self.conviction_faults(
            asked, lambda o: self._stake(d, side, o, "risk", asked.who)
        )

    def _most(self, promise, limit, total):
        """Compare a sum with and without the order: one that adds nothing exceeds nothing."""
        limit, equity = self.limit[limit], self.tape.getvalue()
        if limit is None:
            return
        used = total(self.with_it)
        over = not used <= limit * equity * (1 + 1e-6) + 1e-6
        if over and not used <= total(self.others) + 1e-6:
            text = f"{used:.6g} of {equity:.6g} is {used / equity:.6f} > {limit:g}"
            self.found.append(Breach(promise, self.now, text))

    def _standing(self):
        """Return the orders whose opening part surely stands.

        A guard that has tripped since the bar on which an order was placed may have ended it, and
        not every guard is followed here; nor is a breaker that has gone astray. Between the fills
        of a bar, what relies on an exit that has not filled may have been cut.
        """
        sure = not (self.guards or self.astray)
        orders = [a for a in self.alive() if sure or a.moment == self.moment]
        if not self.between_fills:
            return orders
        return [a for a in orders if not any(map(self._left_open, a.relies))]

    def _check_exposures(self, asked, unit):
        d, side = asked.index, asked.side
        rest = [i for i in range(len(self.datas)) if i != d]

        def worse(orders, names):
            return sum(max(self._stake(i, s, orders, unit) for s in (1, -1)) for i in names)

        def net(orders):
            same = sum(self._stake(i, side, orders, unit) for i in [d, *rest])
            against = sum(self._stake(i, -side, (), unit, worst=True) for i in [d, *rest])
            return same - against if against == against else -math.inf

        self._most(
            "1 gross_limit", "gross", lambda o: self._stake(d, side, o, unit) + worse(o, rest)
        )
        self._most("1 position_limit", "position", lambda o: self._stake(d, side, o, unit))
        self._most("1 net_limit", "net", net)
        members = (self.policy["groups"] or {}).get("some", ())
        if f"D{d}" in members:
            group = [i for i in rest if f"D{i}" in members]
            self._most(
                "1 group_limit", "group", lambda o: self._stake(d, side, o, unit) + worse(o, group)
            )

    def _check_volatility(self, asked, others, equity):
        """The limit, or what it was before: with the entries that rest and add to it, or without.

        What closes in part, or stands against a position, may close it or turn it, whichever
        fills first: nobody knows then what is at stake.
        """
        limit, others = self.limit["volatility"], [a for a in others if a.left > EPS]
        unsure = any(a.entering < a.left - EPS or a.side * self.net(a.index) < 0 for a in others)
        earlier = [a for a in self.asked.values() if a.bar != self.bar and a.left > EPS]
        # What may have been ended may be a hedge, if it stands.
        unsure |= bool((self.guards or self.astray) and earlier)
        unsure |= bool(self.leaves) or self.world.traders > 1
        if limit is None or unsure:
            return
        sure, rests = {asked.index: 0.0}, {}
        for i in range(len(self.datas)):
            held = self.net(i) and self.net(i) * self.price(i) * self.mult(i)
            sure[i] = 0.0 if i == asked.index and held * asked.side < 0 else held
            for side in (1, -1):
                for kind, into in ((True, sure), (False, rests)):
                    some = [a for a in others if (a.kind in ("market", "close")) is kind]
                    entering = self._stake(i, side, some, "") - self._stake(i, side, (), "")
                    key = i if kind else (i, side)
                    into[key] = into.get(key, 0.0) + side * entering
        names = [i for i in sure if sure[i] or rests[i, 1] or rests[i, -1] or i == asked.index]
        matrix = self._yearly(names)
        weights = np.array([sure[i] for i in names]) / equity
        order = asked.side * asked.opening * abs(asked.price) * self.mult(asked.index) / equity
        order = order * (np.array(names) == asked.index)
        pull = matrix @ (weights + order / asked.opening * asked.size)
        # What offsets the others counts at the prices of now, and never more.
        converts = np.array([self.world.feeds[i].scheme == "converts" for i in names])
        weights = weights * np.where(converts & (weights * pull < 0), 1.0 / 0.8, 1.0)
        rest = [[rests[i, side] for side in (1, -1)] for i in names]
        worse = [
            sum(one for one in both if one * p > 0) for both, p in zip(rest, pull, strict=True)
        ]
        # Any of them may fill alone.
        alone = [one * (np.arange(len(names)) == k) for k, both in enumerate(rest) for one in both]
        for w in (weights, *[weights + np.array(some) / equity for some in (worse, *alone)]):
            before, after = (math.sqrt(max(0, v @ matrix @ v)) for v in (w, w + order))
            if not after <= max(limit, before) * (1 + 1e-6):
                seen = f"{before:.6f} became {after:.6f} > {limit:g}"
                self.found.append(Breach("1 volatility_limit", self.now, seen))

    def _yearly(self, names):
        """Return the covariance of a year of some datas, NaN while it is unknown."""
        closes, axis = self._closes(names), self._axis()
        common = [t for t in axis if all(t in table for table in closes.values())]
        step, unknown = self.policy["multi_bar"], np.full((len(names), len(names)), math.nan)
        if not common or self._below_zero(closes, axis):
            return unknown  # no logarithm, no volatility
        returns = np.array([np.log([closes[i][t] for t in common]) for i in names])
        returns = (returns[:, step:] - returns[:, :-step]).T
        if len(returns) < self.policy["min_periods"] or any(np.ptp(returns, axis=0) < 1e-12):
            return unknown
        per_year = (len(common) - 1) / (common[-1] - common[0]) * 365.25 / step
        matrix = np.cov(returns.T, **self._weights(len(returns)))
        return matrix.reshape(len(names), -1) * per_year

    def _weights(self, count):
        """Return how numpy weighs returns, oldest first."""
        if self.policy["correlation_estimator"] != "ewm":
            return {"ddof": 1}
        age = np.arange(count)[::-1]
        return {"ddof": 0, "aweights": 0.5 ** (age / self.policy["halflife"])}

    def _stake(self, index, side, orders, unit, who=None, worst=False):
        """Currency at stake on one side of one feed: held, and about to be; of one trader or all.

        What is about to be is the sum of what may open, and no more than the sizes leave beyond the
        position that they close first.
        """
        total = 0.0
        for one in self.traders if who is None else (who,):
            share = self.share(index, one)
            leaves = sum(a[2] for a in self.leaves if a[:2] == (index, one))
            held = max(0.0, side * share.size - (0.0 if worst else leaves))
            if held > EPS:
                price = held * abs(self.price(index))
                risk = self._held_risk(index, one, side, held) if unit == "risk" else price
                average = held * self.policy["atr_multiple"] * self.atr(index)
                total += max(risk, average) if worst and unit == "risk" else risk
            total += self._about_to_be(index, side, orders, unit, one)
        return total * self.mult(index, 1.25 if worst else 0.8) if total else 0.0

    def _about_to_be(self, index, side, orders, unit, who):
        groups, left = {}, {}
        for a in orders:
            if (a.index, a.side, a.who) == (index, side, who) and not a.waits and not a.late:
                left[a.group] = max(left.get(a.group, 0.0), a.left)
                each = a.distance if unit == "risk" else abs(a.price)
                if a.entering > EPS and each == each:  # the least is counted
                    row = (a.entering * each, a.entering)
                    groups[a.group] = max(groups.get(a.group, (0.0, 0.0)), row)
        room = sum(left.values()) - max(0.0, -side * self.share(index, who).size)
        total = 0.0
        for value, units in sorted(groups.values(), key=lambda row: -row[0] / row[1]):
            taken = min(units, max(0.0, room))
            total, room = total + value * taken / units, room - taken
        return total

    def _held_risk(self, index, who, side, held):
        left, lost = held, 0.0
        stops = [o for o in self.own_alive(index, "stop") if o.owner.who == who]
        stops += [
            a.order for a in self.orders(index, -side, who) if a.kind == "stop" and a.reachable
        ]
        rows = sorted(
            (max(0.0, side * (self.price(index) - o.created.price)), abs(o.executed.remsize))
            for o in stops
            if o.isbuy() == (side < 0)
        )
        for distance, size in rows:
            lost += min(left, size) * distance
            left -= min(left, size)
        return lost + (left * self.policy["atr_multiple"] * self.atr(index) if left > EPS else 0.0)

    def _correlated(self, asked, gone):
        limit = self.limit["correlation"]
        if limit is None:
            return ""
        for other in range(len(self.datas)):
            orders = [a for a in self._standing() if a.index == other and a is not asked]
            sides = {
                side
                for side in {a.side for a in orders}
                for who in self.traders
                if self._about_to_be(other, side, orders, "", who) > 0.0
            }
            for (index, who), share in self.shares.items():
                leaves = sum(a[2] for a in gone if a[:2] == (index, who))
                if index == other and abs(share.size) > leaves + EPS:
                    sides.add(share.side)
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
        closes, axis = self._closes([one, other]), self._axis()
        common = [t for t in axis if t in closes[one] and t in closes[other]]
        count = max(0, len(common) - step)
        if count < self.policy["min_periods"]:
            return math.nan, count
        if self._below_zero(closes, axis):
            return math.nan, 0  # no logarithm, no correlation
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
        """Return the closes of some feeds that have been seen and count, by time."""
        return {
            i: {
                row[0]: known.close
                for row, known in zip(
                    self.tables[i][: self.length(i)].tolist(), self.known[i], strict=False
                )
                if known.close == known.close
            }
            for i in indexes
        }

    @staticmethod
    def _below_zero(closes, axis):
        """Whether a price has been at or below zero since the window begins."""
        rows = [row for table in closes.values() for row in table.items()]
        return any(close <= 0.0 and time >= axis[0] for time, close in rows)

    def _axis(self):
        """Return the times in the window: at which any data has closed, above zero.

        A data counts once two of its closes were a day apart: what it did before says nothing of
        its time frame, and has a place only where another that does has closed too.
        """
        every = [
            sorted(time for time, close in closes.items() if close > 0.0)
            for closes in self._closes(range(len(self.datas))).values()
        ]
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
