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
            self.fills[order.ref, order.status] += 1
            # A liquidation fills before the broker's round of a bar has begun.
            bar = self.bar + (self.closed_bar == self.bar)
            done = self.name(order.ref), order.status, bit.size, bit.price
            self.log.append((bar, "fill", *map(repr, done)))
            self._fill(order, bit)
        elif order.status == Order.Rejected:
            self.native_rejects.add(order.ref)
        elif order.status == Order.Canceled and order.ref in self.asked:
            self.leaving_bar = True
            self.withdrawn(self.asked[order.ref])
        elif order.status == Order.Margin:
            self._margin(order)
        if order.status in (Order.Canceled, Order.Expired, Order.Margin):
            self.cancels.add((self.index(order.data), order.owner.who))
            side = 1 if order.isbuy() else -1
            self.shut_in(self.index(order.data), side, order.owner.who)

    def _margin(self, order):
        asked = self.asked.get(order.ref)
        self.note("margin", self.name(order.ref))
        left, side = abs(order.executed.remsize), 1 if order.isbuy() else -1
        # Where strategies stand against each other an exit of one may add to what is held.
        against = -side * self.net(self.index(order.data))
        closes = asked is None or asked.parent is None and asked.most <= EPS < asked.closing
        if self.there and closes and EPS < left <= against + EPS:
            whose = "ours" if asked is None else "the user's"
            self.breach("2 exit lost to Margin", f"{whose}: {left:g} against {against:g}")

    def _fill(self, order, bit):
        index, who, size = self.index(order.data), order.owner.who, abs(bit.size)
        if self.there and not self.valid(index, bit.price):
            self.breach("8 an order filled at no price", f"{bit.size:g} at {bit.price:g}")
        self.margin_fill(order, bit)
        side = math.copysign(1, bit.size)
        if order.exectype == Order.Limit:
            self.limit_filled(index, -bit.size, bit.price)
        if order.ref in self.own:
            share = self.share(index, who)
            self._own_fill(order, bit, index, who, share, max(0.0, -side * share.size))
            parts = {who: size}
        else:
            asked = self.asked[order.ref]
            parts = self.parts_of(asked, size)
            self._user_fill(asked, bit)
        self.share(index, who).trades[order.tradeid] += bit.size
        if set(parts) != {who}:
            for one in (who, *parts):
                self.share(index, one).crossed = True
        for one, units in parts.items():
            self._book(index, one, order, side * units, bit.price)
            self.meet(index, one)

    def _book(self, index, who, order, size, price):
        share = self.share(index, who)
        before, had = share.side, share.size
        share.size += size
        if share.size * size > 0 and abs(share.size) > abs(had) and had * size > 0:
            share.average += (price - share.average) * size / share.size
        if abs(share.size) <= EPS:
            share.size, share.lost = 0.0, 0.0
        if before and share.side != before:
            self.left_flat(index)
        asked = self.asked.get(order.ref)
        if share.size and share.side != before:
            share.number += 1
            share.entry = share.average = price
            share.lost = 0.0
            # What opens although it was an exit when it was placed has no distance of its own.
            share.exact = bool(asked and asked.exact and asked.sure and not asked.parent)
            share.exact &= asked is not None and asked.distance == asked.distance
            distance = asked.distance if share.exact else math.nan
            share.best, share.distance = share.entry - share.side * distance, distance
        if asked and asked.lost and asked.sure and share.side == asked.side:
            self._lose(share, asked)

    def _own_fill(self, order, bit, index, who, share, against):
        if abs(bit.size) > against + EPS:
            text = f"{bit.size:g} on a position of {share.size:g}"
            self.breach("3 an order of bt_risk opened a position", text)
        trade = max(0.0, -math.copysign(1, bit.size) * share.trades[order.tradeid])
        if share.regular and not share.crossed and abs(bit.size) > trade + EPS:
            text = f"{bit.size:g} under tradeid {order.tradeid}, where {trade:g} is held"
            self.breach("3 a trade was opened by an order of bt_risk", text)
        stop = self.stops.get((index, who))
        if order.exectype == Order.Stop and stop and stop.order is order:
            begun = order.executed.exbits and len(order.executed.exbits) > 1
            if self.length(index) <= stop.set_at and not begun:
                self.breach("4 stop filled on the bar it was set from", f"bar {stop.set_at}")
        if order.exectype == Order.Limit and stop and stop.order.alive():
            self.check_sequence(order, index, share, stop)
        side = -1 if share.size > 0 else 1
        self._check_room(order, abs(bit.size), index, side, who, against)

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

    def _left_open(self, exit_):
        """Whether an exit has not closed all that it was to close."""
        if exit_.status == Order.Completed:
            return False
        share = self.share(self.index(exit_.data), exit_.owner.who)
        asked = self.asked.get(exit_.ref)
        return self.against(asked) > EPS if asked else bool(share.size)

    def _user_fill(self, asked, bit):
        """See that an order opens no more than was reviewed of it, and only where it may."""
        asked.filled = abs(asked.filled) + abs(bit.size)
        if asked.late and self.there:
            self.breach("3 a child whose parent had ended has filled", f"{bit.size:g}")
        had = asked.had
        opens, excess = self.take(asked, abs(bit.size))
        if opens <= EPS or not self.there:
            return
        self.opened(asked, opens)
        if self.blocked:
            self.breach("7 entry filled after a trip", f"{opens:g} by order {asked.order.ref}")
        elif not self.limited and not self.guarded:
            return  # a breaker alone reviews no order
        elif excess > EPS and asked.leaves:
            self.breach("3 close() has opened a position", f"{excess:g}")
        elif excess > EPS and had:
            # What stood behind a position is reviewed again before it opens.
            if not asked.refused or self.judge_again(asked, opens, bit.price):
                text = f"{excess:g} of {opens:g}, {asked.kind}: {asked.refused}"
                self.breach("3 an order opened more than was reviewed", text)
        elif excess > EPS:
            # An exit of an entry that never filled: it is judged as an entry when it executes.
            for promise, _, seen in self.judge_again(asked, excess, bit.price):
                self.breach(promise, f"{seen}, at the fill")
            asked.most, asked.closing, asked.claim = asked.left, 0.0, 0.0
        elif any(self._left_open(order) for order in asked.relies):
            again = self.judge_again(asked, opens, bit.price) if asked.needs else ()
            for promise, _, seen in again:
                self.breach(promise, f"{seen}, beside an exit that has not filled")
            asked.opening = 0.0  # it may have been cut
        asked.relies = ()
