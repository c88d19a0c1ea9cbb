"""A margin account kept by hand: it walks through each bar in steps, by code of its own."""

import math

STEPS = 40


class Ledger:
    """Balance and positions of one account; `replay` lets fills and bars happen to it."""

    def __init__(self, cash, leverage, tiers, mode, fee):
        self.balance, self.leverage, self.tiers = cash, leverage, tiers
        self.isolated, self.fee = mode == "isolated", fee
        self.held = {}  # name: [signed size, entry]
        self.liquidations = []

    def maintenance(self, notional):
        """Add up what each band takes of the part of the notional that lies in it."""
        ends = [*(floor for floor, _ in self.tiers[1:]), math.inf]
        bands = zip(self.tiers, ends, strict=True)
        return sum(max(0.0, min(notional, end) - floor) * mmr for (floor, mmr), end in bands)

    def fill(self, name, size, price):
        """Book a fill: profit into the balance, or a new average price."""
        held, entry = self.held.get(name, (0.0, 0.0))
        if held * size >= 0.0:
            total = held + size
            self.held[name] = [total, (held * entry + size * price) / total]
            return
        self.balance += -size * (price - entry)
        left = held + size
        self.held[name] = [left, entry]
        if abs(left) < 1e-9:
            del self.held[name]

    def equity(self, prices):
        profit = [size * (prices[name] - entry) for name, (size, entry) in self.held.items()]
        return self.balance + sum(profit)

    def short_of_margin(self, names, prices):
        """Return whether the equity that secures these positions is at or below what they need."""
        needed = secured = 0.0
        for name in names:
            size, entry = self.held[name]
            needed += self.maintenance(abs(size) * prices[name])
            secured += size * (prices[name] - entry)
            if self.isolated:
                secured += abs(size) * entry / self.leverage
        return secured + (0.0 if self.isolated else self.balance) <= needed

    def liquidate(self, bar, name, price):
        size, entry = self.held[name]
        margin = abs(size) * entry / self.leverage + size * (price - entry)
        fee = self.fee * abs(size) * price
        self.fill(name, -size, price)
        if self.isolated:
            fee = min(fee, max(0.0, margin))
            self.balance += max(0.0, -margin)
        self.balance -= fee
        self.liquidations.append((bar, name, -size, price))

    def groups(self, names):
        return [[name] for name in names] if self.isolated else [list(names)]

    def walk(self, bar, names, starts, worsts, stops):
        """Go from the starts to the worst prices; stops close on the way, and so does the venue."""
        for group in self.groups([name for name in names if name in self.held]):
            self._walk_group(bar, group, starts, worsts, stops)

    def _walk_group(self, bar, group, starts, worsts, stops):
        def at(t):
            return {name: starts[name] + t * (worsts[name] - starts[name]) for name in group}

        events = []
        for name in group:
            way = worsts[name] - starts[name]
            for stop in stops.get(name, []):
                t = (stop[2] - starts[name]) / way if way else math.inf
                events.append((max(0.0, t), name, stop))
        events.sort(key=lambda one: one[0])
        low = 0.0
        for t_stop, name, stop in [*events, (1.0, None, None)]:
            t_stop = min(t_stop, 1.0)
            alive = [one for one in group if one in self.held]
            if not alive:
                return
            grid = [low + (t_stop - low) * k / STEPS for k in range(STEPS + 1)]
            last = grid[-1] if name is None else None
            for left, right in zip(grid, grid[1:], strict=False):
                if right == t_stop and last is None and not self._strictly(alive, at, right):
                    continue  # a stop at the price of liquidation is a stop
                if self.short_of_margin(alive, at(right)):
                    for _ in range(80):
                        middle = (left + right) / 2
                        if self.short_of_margin(alive, at(middle)):
                            right = middle
                        else:
                            left = middle
                    prices = at(right)
                    for one in alive:
                        self.liquidate(bar, one, prices[one])
                    return
            low = t_stop
            if name is not None and name in self.held:
                self.fill(name, stop[0], stop[1])
                stop[3] = True

    def _strictly(self, alive, at, t):
        return self.short_of_margin(alive, at(t - 1e-12))

    def replay(self, rows, fills):
        """Return equity at every close, and the liquidations, for the fills that a run has told."""
        names = [f"D{k}" for k in range(len(rows))]
        told = {}
        for bar, name, kind, size, price in fills:
            if kind != "liquidated":
                told.setdefault(bar, []).append((name, kind, size, price))
        values = []
        for number in range(1, len(rows[0]) + 1):
            bar_of = {name: rows[k][number - 1] for k, name in enumerate(names)}
            self._bar(number, bar_of, told.get(number, []))
            values.append(self.equity({name: bar_of[name][3] for name in names}))
        return values, sorted(self.liquidations)

    def _bar(self, number, bar_of, told):
        opens = {name: one[0] for name, one in bar_of.items()}
        for group in self.groups(list(self.held)):
            if group and self.short_of_margin(group, opens):
                for name in list(group):
                    self.liquidate(number, name, opens[name])
        before = dict(self.held)
        stops, entries = {}, []
        for name, kind, size, price in told:
            held = self.held.get(name, (0.0,))[0]
            if kind == "Market" and held * size < 0.0:
                self.fill(name, size, price)  # it leaves at the open
            elif kind == "Market" or not held:
                entries.append((name, size, price))
            else:
                stops.setdefault(name, []).append([size, price, price, False])
        worst = self._worsts(bar_of, self.held)
        self.walk(number, [n for n in before if n in self.held], opens, worst, stops)
        for name, size, price in entries:
            self.fill(name, size, price)
            # A stop that opens does so on the way from the open: the worst counts as after it.
            opens[name] = max(opens[name], price) if size > 0.0 else min(opens[name], price)
        if entries:
            worst = self._worsts(bar_of, self.held)
            new = [name for name, _, _ in entries]
            names = new if self.isolated else list(self.held)
            left = {n: [s for s in of if not s[3]] for n, of in stops.items()}
            self.walk(number, names, opens, worst, left)

    @staticmethod
    def _worsts(bar_of, held):
        return {
            name: bar_of[name][2] if size > 0.0 else bar_of[name][1]
            for name, (size, _) in held.items()
        }
