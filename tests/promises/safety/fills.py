"""What Backtrader says of orders: no position without an order behind it, no exit lost (2, 3)."""

import math

import backtrader as bt

from promises.safety.book import EPS, Book

Order = bt.Order
FILLED = (Order.Partial, Order.Completed)


class Fills(Book):
    """Hear every notification of the BackBroker, and keep count of what each trader holds."""

    def heard(self, order):
        """Take in one notification of the BackBroker, before the gate does."""
        if order.ref not in self.asked and order.ref not in self.own:
            if self.asking is None:
                self.own[order.ref] = order
            else:
                self.asking.order = order
                self.asked[order.ref] = self.asking
                self.asking.group = self.asking.group or order.ref
        if order.status in FILLED:
            bit = order.executed.exbits[-1]
            self.check_walk(order.ref, abs(bit.size))
            self.fills[order.ref, order.status] += 1
            self.note("fill", self.name(order.ref), order.status, bit.size, bit.price)
            self._fill(order, bit)
        elif order.status == Order.Rejected:
            self.native_rejects.add(order.ref)
        elif order.status == Order.Canceled and order.ref in self.asked:
            self.leaving_bar = True
        elif order.status == Order.Margin:
            self._margin(order)

    def _margin(self, order):
        asked = self.asked.get(order.ref)
        self.note("margin", self.name(order.ref))
        left, side = abs(order.executed.remsize), 1 if order.isbuy() else -1
        # Where strategies stand against each other an exit of one may add to what is held.
        against = -side * self.net(self.index(order.data))
        exit_ = asked is None or asked.parent is None and asked.size <= asked.certain + EPS
        there = self.limited or self.guarded or self.breaks  # else BackBroker is left alone
        if there and exit_ and EPS < left <= against + EPS:
            whose = "ours" if asked is None else "the user's"
            self.breach("2 exit lost to Margin", f"{whose}: {left:g} against {against:g}")

    def _fill(self, order, bit):
        index, who = self.index(order.data), order.owner.who
        there = self.limited or self.guarded or self.breaks  # else BackBroker is left alone
        if there and not bit.price > 0:
            self.breach("8 an order filled at no price", f"{bit.size:g} at {bit.price:g}")
        share, net = self.share(index, who), self.net(index)
        against = max(0.0, -math.copysign(1, bit.size) * share.size)
        against_net = max(0.0, -math.copysign(1, bit.size) * (net - bit.size))
        opening = max(0.0, abs(bit.size) - max(against, against_net))
        if order.ref in self.own:
            self._own_fill(order, bit, index, who, share, against)
        else:
            self._user_fill(order, opening)
        self._book(share, order, bit)
        if abs(net) <= EPS:
            for (i, _), other in self.shares.items():
                if i == index:
                    other.size, other.lost = 0.0, 0.0

    def _book(self, share, order, bit):
        before = share.side
        share.size += bit.size
        if abs(share.size) <= EPS:
            share.size, share.lost = 0.0, 0.0
        if before and share.side != before:
            self.left_flat(self.index(order.data))
        if share.size and share.side != before:
            asked = self.asked.get(order.ref)
            share.number += 1
            share.entry, share.lost = bit.price, 0.0
            # What opens although it was an exit when it was placed has no distance of its own.
            share.exact = bool(asked and asked.exact and asked.opening > EPS and not asked.parent)
            share.exact &= asked is not None and asked.distance == asked.distance
            distance = asked.distance if share.exact else math.nan
            share.best = share.entry - share.side * distance
        asked = self.asked.get(order.ref)
        if asked and asked.lost and asked.opening > EPS and share.side == asked.side:
            self._lose(share, asked)

    def _own_fill(self, order, bit, index, who, share, against):
        if abs(bit.size) > against + EPS:
            text = f"{bit.size:g} on a position of {share.size:g}"
            self.breach("3 an order of bt_risk opened a position", text)
        stop = self.stops.get((index, who))
        if order.exectype == Order.Stop and stop and stop.order is order:
            begun = order.executed.exbits and len(order.executed.exbits) > 1
            if self.length(index) <= stop.set_at and not begun:
                self.breach("4 stop filled on the bar it was set from", f"bar {stop.set_at}")
        side = -1 if share.size > 0 else 1
        self._check_room(order, abs(bit.size), index, side, who, against)
        orders = [
            (a, a.left)
            for a in self.alive(index, side, who)
            if a.order.active() and a.order.status in (Order.Accepted, Order.Partial)
        ]
        self.walks.append((orders, against, max(0.0, against - abs(bit.size))))

    def _check_room(self, order, size, index, side, who, against):
        """What the market exits of this bar take is theirs: they belong to the open.

        What waits for the close of the bar comes after the stop.
        """
        if order.exectype != Order.Stop or self.world.filler:
            return
        now = self.length(index)
        first = [
            a.left
            for a in self.alive(index, side, who)
            if a.at_open
            and (a.length < now or self.at_once)
            and a.order.status == Order.Accepted
            and a.order.active()
        ]
        if size > max(0.0, against - sum(first)) + EPS:
            self.breach("3 the stop took what a market exit takes", f"{size:g} of {against:g}")

    def check_walk(self, ref=None, filled=0.0):
        """See that an exit of bt_risk took with it the exits of the user that it replaced."""
        for orders, before, after in self.walks:
            for kind in ("limit", "stop"):
                self._check_kind(kind, orders, before, after, ref, filled)
        self.walks = []

    def _check_kind(self, kind, orders, before, after, ref, filled):
        was, now, opens = {}, {}, {}
        if self.world.filler and any(a.order.status == Order.Partial for a, _ in orders):
            return  # what is left of an order that fills in parts is set anew on each bar
        for asked, left in orders:
            if asked.kind not in (kind, "market"):
                continue
            rest = asked.left + (filled if asked.order.ref == ref else 0.0)
            was[asked.group] = max(was.get(asked.group, 0.0), left)
            now[asked.group] = max(now.get(asked.group, 0.0), rest)
            entry = min(asked.opening, left)
            opens[asked.group] = min(opens.get(asked.group, entry), entry)
        total, rest = sum(was.values()), sum(now.values())
        stays = max(0.0, total - before)
        if rest > after + stays + EPS:
            text = f"{kind}: {rest:g} of {total:g} left, position {before:g} -> {after:g}"
            self.breach("3 exits outlive the position that a stop closed", text)
        # Children of a parent never open: what exceeds the position goes with the rest of them.
        stays = min(stays, sum(opens.values()))
        alone = len(orders) == 1 and len(was) == 1 and orders[0][0].parent is None
        alone &= not self.guards  # a guard that trips ends the part that opens
        gone = orders[0][0].order.status in (Order.Expired, Order.Margin) if orders else True
        if rest < stays - EPS and alone and not gone:
            text = f"{kind}: {rest:g} of {total:g} left, position {before:g} -> {after:g}"
            self.breach("3 an entry was taken for an exit", text)

    def _user_fill(self, order, opening):
        asked = self.asked[order.ref]
        asked.filled = abs(order.executed.size)
        if opening <= EPS:
            return
        self.opened(asked, opening)
        if self.blocked:
            self.breach("7 entry filled after a trip", f"{opening:g} by order {order.ref}")
        elif asked.closes_only:
            self.breach("3 one exit too many has opened a position", asked.closes_only)
        elif asked.parent is None and asked.forbidden and asked.size > asked.free + EPS:
            text = (
                f"{opening:g} opened by an order of {asked.size:g} that could close {asked.free:g}"
            )
            self.breach("3 what was refused has opened after all: " + asked.forbidden, text)
