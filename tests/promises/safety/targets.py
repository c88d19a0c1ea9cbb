"""The targets: a limit beside the stop, sized to the position, where the rule puts it (3, 4)."""

import bt_risk
from promises.safety.book import EPS, Book


class Targets(Book):
    """Look at every limit of ours once a bar has closed, and when one fills."""

    def _rule(self):
        """The nearest target that rests, None without one."""
        rules = [g for g in self.guards if isinstance(g, bt_risk.TakeProfit) and g.rests]
        return min(rules, key=lambda rule: rule.r, default=None)

    def _check_target(self, index, who):
        rule, share = self._rule(), self.share(index, who)
        mine = [o for o in self.own_alive(index, "limit") if o.owner.who == who]
        if mine and (rule is None or not share.size):
            self.breach("3 orphan target on a flat position", f"{mine[0].executed.remsize:g}")
        if rule is None or not share.size:
            return
        if len({o.tradeid for o in mine}) < len(mine):
            self.breach("3 two targets", f"{[o.created.size for o in mine]}")
        if any(o.isbuy() == (share.size > 0) for o in mine):
            self.breach("3 target on the wrong side", f"{mine[0].created.size:g}")
        covered = sum(abs(o.executed.remsize) for o in mine)
        if mine and share.regular and abs(covered - abs(share.size)) > EPS:
            self.breach("3 target is not sized to the position", f"{covered:g} of {share.size:g}")
        if share.exact:
            self._check_price(index, share, rule, mine)

    def _check_price(self, index, share, rule, mine):
        price = share.average + share.side * rule.r * share.distance
        if not mine and self.valid(index, price) and share.distance > 0:
            self.breach("3 position without its target", f"{share.size:g} since {share.entry:g}")
        for order in mine:
            off = abs(order.created.price - price)
            if off > 1e-6 * abs(price):
                self.breach("4 target is not where the rule puts it", f"{off:g} from {price:g}")

    def check_sequence(self, order, index, share, stop):
        """Where a bar reaches both, the stop goes first, unless the bar opens at the target."""
        row = self.tables[index][len(self.datas[index]) - 1]
        opens, reached = row[1], row[3] if share.size > 0 else row[2]
        side = 1 if share.size > 0 else -1
        beyond = side * (opens - order.created.price) >= 0
        if share.regular and not beyond and side * (reached - stop.price) <= 0:
            text = f"{order.created.price:g} on a bar to {reached:g}, stop at {stop.price:g}"
            self.breach("4 a target has filled before the stop of its bar", text)
