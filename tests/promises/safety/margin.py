"""Leverage: no entry beyond the margin (1), and liquidation on the right bar, at its price (9).

A position is liquidated where its equity has fallen to its maintenance margin: inside a bar that
reaches that price, at the open of one that begins beyond it, and never elsewhere.
"""

import math
from dataclasses import dataclass

import bt_risk
from promises.safety.book import EPS
from promises.safety.reach import Reach
from promises.safety.world import Breach

LIQUIDATED = "MarginAccount: liquidated"
SLACK = 1e-7


@dataclass
class Liquidation:
    """What was closed at one price of one feed: `size` of `net` units from an average `entry`."""

    index: int
    price: float
    net: float
    entry: float
    size: float = 0.0

    @property
    def left(self):
        """What is left of the position."""
        return self.net - math.copysign(self.size, self.net)


class Margin(Reach):
    """Follow the margin of what is held, from the fills and the bars alone."""

    def no_margin(self):
        """Begin with nothing liquidated."""
        found = [guard for guard in self.guards if isinstance(guard, bt_risk.MarginAccount)]
        self.account = found[0] if found else None
        self.value_then, self.in_call = math.nan, False
        self.new_bar_of_margin()

    def new_bar_of_margin(self):
        """Forget the fills of the bar before."""
        self.liquidated, self.moved, self.at_the_close = [], set(), set()

    # -- what is held ----------------------------------------------------------------------------

    def _net_and_entry(self, index):
        """Return the net position in a feed, and the average entry of those on its side."""
        parts = [share for (i, _), share in self.shares.items() if i == index and share.size]
        net = sum(share.size for share in parts)
        same = [(abs(share.size), share.average) for share in parts if share.size * net > 0]
        units = sum(size for size, _ in same)
        return net, sum(size * price for size, price in same) / units if units else math.nan

    def maintenance(self, notional):
        """Return the maintenance margin of a notional, each band's share at its own rate."""
        rows = self.account.tiers or ((0.0, 0.5 / self.account.leverage),)
        needed = 0.0
        for place, (floor, rate, *_) in enumerate(rows):
            end = rows[place + 1][0] if place + 1 < len(rows) else math.inf
            needed += rate * max(0.0, min(notional, end) - floor)
        return needed

    def _secured(self, index, net, entry, price):
        """Return margin and profit of so many units at a price: isolated, its equity."""
        point = self.mult(index)
        return abs(net) * point * entry / self.account.leverage + net * point * (price - entry)

    def _needed(self, index, net, price):
        return self.maintenance(abs(net) * self.mult(index) * price)

    # -- fills -----------------------------------------------------------------------------------

    def margin_fill(self, order, bit):
        """Take down a fill before it is booked."""
        if self.account is None:
            return
        index = self.index(order.data)
        now = order.data.datetime[0]
        if order.info.get("bt_risk") != LIQUIDATED or order.created.dt < now:
            self.moved.add(index)
            if order.exectype == order.Close:
                self.at_the_close.add(index)
            return
        net, entry = self._net_and_entry(index)
        last = self.liquidated[-1] if self.liquidated else None
        if last is None or last.index != index or abs(last.left - net) > EPS:
            last = Liquidation(index, bit.price, net, entry)
            self.liquidated.append(last)
        last.size += abs(bit.size)

    # -- once a bar has closed -------------------------------------------------------------------

    def check_margin(self):
        """See that what this bar has liquidated had to go, and that nothing else had to."""
        if self.account is None:
            return
        for done in self.liquidated:
            self._check_price_of(done)
        if self.account.mode == "isolated":
            for index in self.fresh:
                self._check_survivor(index)
        else:
            self._check_account()
        self.value_then = self.tape.getvalue()
        self.in_call = self._called()

    def _bar(self, index):
        return self.tables[index][len(self.datas[index]) - 1, 1:5].tolist()

    def _worst_of(self, index, net):
        _, high, low, _ = self._bar(index)
        return low if net > 0 else high

    def _check_price_of(self, done):
        opened, high, low, close = self._bar(done.index)
        price, slack = done.price, SLACK * done.price
        if not low - slack <= price <= high + slack:
            self.breach("9 liquidated at a price that the bar does not have", f"{price:g}")
        if done.size > abs(done.net) + EPS:
            text = f"{done.size:g} of {done.net:g}"
            self.breach("9 more was liquidated than was held", text)
        if self.account.mode == "cross":
            return
        units = math.copysign(done.size, done.net)
        over = self._secured(done.index, units, done.entry, price)
        over -= self._needed(done.index, units, price)
        exact = abs(over) <= SLACK * done.size * self.mult(done.index) * price
        # What was held before a bar may be short of margin as it opens, and what an order for the
        # close has changed once it closes.
        held = done.index not in self.moved or self.world.coc
        gap = held and abs(price - opened) <= slack
        # BackBroker fills what is left of such an order at that same close one bar later: then it
        # is short of margin as that bar opens.
        closed = min(abs(price - close), abs(price - opened))
        gap |= done.index in self.at_the_close and closed <= slack
        gap |= self._is_crossed(done.index)
        if not (exact or gap and over <= 0.0):
            text = f"{units:g} from {done.entry:g} at {price:g}, {over:g} above its margin"
            self.breach("9 liquidated at another price than its own", text)
        self._check_stop_first(done)

    def _is_crossed(self, index):
        """Whether traders stand against each other: what one of them leaves turns the net over."""
        shares = [share for (i, _), share in self.shares.items() if i == index and share.number]
        return len(shares) > 1 and index in self.moved

    def _check_stop_first(self, done):
        """A stop of ours that is nearer has closed its part before."""
        side, opened = math.copysign(1, done.net), self._bar(done.index)[0]
        nearer = [
            stop.size
            for (index, _), stop in self.stops.items()
            if index == done.index
            and side * (stop.price - done.price) > SLACK * done.price
            and side * (opened - done.price) > SLACK * done.price
        ]
        if done.size > abs(done.net) - sum(nearer) + EPS and done.index not in self.moved:
            text = f"{done.size:g} of {done.net:g}"
            self.breach("9 liquidated before a stop that is nearer", text)

    def _check_survivor(self, index):
        """What was held all through a bar has had its equity above its maintenance margin."""
        net, entry = self._net_and_entry(index)
        gone = index in self.moved or any(done.index == index for done in self.liquidated)
        if abs(net) <= EPS or gone:
            return
        worst = self._worst_of(index, net)
        over = self._secured(index, net, entry, worst) - self._needed(index, net, worst)
        if over < -SLACK * abs(net) * self.mult(index) * worst:
            text = f"{net:g} from {entry:g} at {worst:g}, {over:g} below its margin"
            self.breach("9 a position outlives its margin", text)

    def _check_account(self):
        """Cross: where nothing else moved, all goes together once the account is short."""
        rows = [(done.index, done.net, done.price) for done in self.liquidated]
        if not rows:
            held = {i: self._net_and_entry(i)[0] for i in range(len(self.datas))}
            rows = [(i, net, self._worst_of(i, net)) for i, net in held.items() if abs(net) > EPS]
        if self.moved or not rows or not {i for i, *_ in rows} <= self.fresh:
            return
        over, notional = self.value_then, 0.0
        for index, net, price in rows:
            then = self.known[index][self.lengths[index] - 2].price
            over += net * self.mult(index) * (price - then) - self._needed(index, net, price)
            notional += abs(net) * self.mult(index) * price
        slack = SLACK * notional
        if not self.liquidated and over < -slack:
            self.breach("9 a position outlives its margin", f"{over:g} below that of the account")
        gap = all(abs(p - self._bar(i)[0]) <= SLACK * p for i, _, p in rows) and over <= slack
        whole = all(abs(done.left) <= EPS for done in self.liquidated)
        if self.liquidated and whole and not (abs(over) <= slack or gap):
            self.breach("9 liquidated at another price than its own", f"{over:g} above its margin")

    def _called(self):
        """Whether the margin of anything at this close is used up to the margin call."""
        held = [(i, *self._net_and_entry(i)) for i in range(len(self.datas))]
        held = [(i, net, entry) for i, net, entry in held if abs(net) > EPS]
        needed = [self._needed(i, net, self.price(i)) for i, net, _ in held]
        if self.account.mode == "cross":
            secured = [self.tape.getvalue()] if held else []
            needed = [sum(needed)] if held else []
        else:
            secured = [self._secured(i, net, entry, self.price(i)) for i, net, entry in held]
        call = self.account.call * (1.0 + 1e-9)
        return any(m > EPS and m >= call * e for m, e in zip(needed, secured, strict=True))

    # -- entries ---------------------------------------------------------------------------------

    def margin_faults(self, asked, others, gone):
        """Return what an entry exceeds: the free margin, the bands, or liquidation at its stop."""
        if self.account is None:
            return []
        leverage, point = self.account.leverage, self.mult(asked.index)
        price, added = abs(asked.price), asked.opening * abs(asked.price) * point
        found, equity = [], self.tape.getvalue()
        bound, before = (self._bound(orders, gone) for orders in ([*others, asked], others))
        if bound > equity + 1e-6 * abs(equity) and bound > before + 1e-6:
            found.append(Breach("1 margin", self.now, f"{bound:.6g} bound of {equity:.6g}"))
        caps = [row[0] for row in self.account.tiers or () if len(row) > 2 and row[2] < leverage]
        if caps and added > caps[0] * (1 + 1e-6):
            text = f"{added:.6g} > {caps[0]:g} at {leverage:g}x"
            found.append(Breach("1 tiers", self.now, text))
        buffer = self.account.buffer
        if buffer is not None and self.account.mode == "isolated":
            lost = (1.0 + buffer) * asked.distance / price * added
            if not added / leverage - lost >= self.maintenance(added) - 1e-6 * added:
                text = f"{asked.distance:g} away from {price:g} at {leverage:g}x"
                found.append(Breach("1 liquidation before the stop", self.now, text))
        return found

    def _bound(self, others, gone):
        """Return the equity that is bound: the least that can be said."""
        bound = 0.0
        for index in range(len(self.datas)):
            net, entry = self._net_and_entry(index)
            point = self.mult(index)
            leaving = sum(units for i, _, units, *_ in gone if i == index)
            left = math.copysign(max(0.0, abs(net) - leaving), net)
            if abs(net) > EPS:
                if self.account.mode == "isolated":
                    bound += left * point * (self.price(index) - entry)
                    bound += abs(left) * point * entry / self.account.leverage
                else:
                    bound += abs(left) * point * self.price(index) / self.account.leverage
            for who in self.traders:
                rests = [self._about_to_be(index, s, others, "notional", who) for s in (1, -1)]
                forked = len({a.group for a in others}) < len({(a.group, a.side) for a in others})
                bound += (max(rests) if forked else sum(rests)) * point / self.account.leverage
        return bound
