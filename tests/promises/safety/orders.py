"""What is asked for, and what comes back: exits pass (2), nothing opens that may not (3, 7, 8)."""

import math

import backtrader as bt

from promises.safety.book import EPS, Asked, Book

Order = bt.Order
# What fills on the next bar, whatever happens on it; all the rest waits for a price.
EXPOSURES = ("exposure", "gross", "net", "position", "group")
KINDS = {Order.Market: "market", Order.Close: "market", Order.Limit: "limit"}


class Orders(Book):
    """Judge each order as it is asked for, and again as it is answered."""

    def before(self, trader, side, data, size, kwargs):
        """Take down what the model knows before the gate is asked."""
        index, who = self.index(data), trader.who
        exectype = kwargs.get("exectype") or Order.Market
        kind = KINDS.get(exectype, "stop")
        price = kwargs.get("price") if kind != "market" else None
        price = price or self.newest(index)
        asked = Asked(who, index, side, abs(float(size)), kind, price, self.now)
        asked.at_open, asked.moment = exectype == Order.Market, self.moment
        asked.parent = kwargs.get("parent")
        asked.untransmitted = asked.parent and asked.parent.status == Order.Created
        asked.group = self._group(asked, kwargs.get("oco"))
        asked.certain, asked.held, asked.free = self._against(index, who, side)
        asked.leaving = any(o.owner is trader for o in self.own_alive(index, "market"))
        asked.distance = self._distance(asked, kwargs.get("stop_price"))
        asked.forbidden = self._forbidden(asked)
        asked.length = len(self.datas[index])  # of the bars that are there, closed or not
        asked.before = (len(self.gate.journal.lines), self._rejected())
        self.asking = asked
        return asked

    def _group(self, asked, oco):
        if asked.parent is not None:
            return "children", asked.parent.ref
        if oco is None:
            return None
        return self.asked[oco.ref].group or oco.ref if oco.ref in self.asked else oco.ref

    def _against(self, index, who, side):
        """Return what stands against an order: less certain exits, in full, less all exits."""
        own = max(0.0, -side * self.share(index, who).size)
        net = max(0.0, -side * self.net(index))
        rivals = [a for a in self.alive(index, side) if a.reachable]
        markets = [a for a in rivals if a.kind == "market"]
        mine = sum(a.rest for a in markets if a.who == who)
        certain = max(own - mine, net - sum(a.rest for a in markets), 0.0)
        groups = {}
        for a in rivals:
            if a.who == who:
                key = a.group or a.order.ref
                # What closes of a reversal fills first: the rest of it opens.
                exits = a.left if a.parent is not None else min(a.left, max(0.0, a.free - a.filled))
                groups[key] = max(groups.get(key, 0.0), exits)
        held = max(own, net)
        return certain, held, max(0.0, held - sum(groups.values()))

    def _distance(self, asked, stop_price):
        """Return how far the stop behind an entry will be from where the entry may fill.

        A stop of the gate that the entry would fill beyond, or on, covers nothing of it.
        """
        newest, side = self.newest(asked.index), asked.side
        worse = max if side > 0 else min
        if stop_price is not None:
            market = asked.kind == "limit" and side < 0
            fill = max(asked.price, newest) if market else asked.price
            return abs((worse(fill, newest) if asked.kind == "stop" else fill) - stop_price)
        fill = worse(asked.price, newest) if asked.kind == "stop" else self.price(asked.index)
        stops = [
            side * (fill - o.created.price)
            for o in self.own_alive(asked.index, "stop")
            if o.isbuy() == (side < 0) and o.owner.who == asked.who
        ]
        covering = [distance for distance in stops if distance > 0.0]
        return min(covering, default=self.policy["atr_multiple"] * self.atr(asked.index))

    def _forbidden(self, asked):
        """Return why nothing of an order may open, whatever its size."""
        if self.blocked:
            return "7 entry accepted after a trip"
        held_off = self.held_off(asked)
        if held_off or not self.limited:
            return held_off
        if not self.last_close(asked.index) > 0:
            return "8 entry accepted without a valid price"
        exposures = [self.limit[name] for name in EXPOSURES if self._concerns(name, asked.index)]
        needs_risk = self.limit["risk"] is not None or (
            set(exposures) != {None} and self.policy["exposure_unit"] == "risk"
        )
        if needs_risk and math.isnan(asked.distance):
            return "8 entry accepted before its ATR is known"
        return self._correlated(asked)

    def _concerns(self, name, index):
        return name != "group" or f"D{index}" in (self.policy["groups"] or {}).get("some", ())

    def after(self, asked, order):
        """Compare what came back with what was asked for."""
        self.asking = None
        if order is None:
            self.breach("6 buy or sell returned None", f"{asked.side * asked.size:g}")
            return
        asked.order = order
        self.asked[order.ref] = asked
        asked.group = asked.group or order.ref
        if asked.kind == "stop":
            # A trailing stop computes its own price, below the close or above it.
            asked.price = min(asked.price, order.created.price)
        asked.accepted = 0.0 if order.status == Order.Rejected else abs(order.size)
        self.note("asked", self.name(order.ref), asked.accepted, order.info.get("bt_risk", ""))
        self._check_lines(asked, order)
        self.sent(asked)
        if asked.accepted > asked.size + EPS:
            self.breach("0 order grew", f"{asked.size:g} became {asked.accepted:g}")
        if asked.parent is None:
            self._check_exit(asked)
            self._check_entry(asked)
        elif asked.accepted and self.asked[asked.parent.ref].side == asked.side:
            asked.opening = asked.accepted
            self._check_limits(asked)
        elif asked.accepted:
            self._check_child(asked)

    def _check_child(self, asked):
        """A child closes what its parent opens; only what was asked for beyond that may open."""
        parent = self.asked[asked.parent.ref]
        beyond = max(0.0, asked.size - parent.size)
        asked.opening = max(0.0, asked.accepted - parent.accepted)
        if self.limited and asked.opening > beyond + EPS and asked.untransmitted:
            self.breach("3 child larger than its parent", f"{asked.accepted:g} {parent.accepted:g}")
        if asked.kind == "stop" and asked.untransmitted:
            self._rejudge(asked)

    def _check_exit(self, asked):
        must = min(asked.size, asked.certain)
        if must <= EPS or asked.leaving:
            return
        if asked.accepted < must - EPS:
            reason = asked.order.info.get("bt_risk", "")
            text = f"{asked.accepted:g} of {asked.size:g} against {asked.certain:g}: {reason}"
            self.breach("2 exit refused or trimmed", text)

    def _check_entry(self, asked):
        share = self.share(asked.index, asked.who)
        asked.opening = max(0.0, asked.accepted - asked.held)
        alone = self.world.traders == 1
        if alone and asked.forbidden and asked.accepted > asked.free + EPS:
            self._only_exits(asked)
        lost = share.lost if share.lost_side == -asked.side else 0.0
        most = max(asked.held, asked.size - lost)
        # Who has closed all of it before knows what is held, and means what exceeds it.
        plain = alone and not self.world.filler
        if plain and lost and asked.certain > EPS and asked.accepted > most + EPS:
            text = f"{asked.accepted:g} with {asked.held:g} held and {lost:g} never bought"
            self.breach("3 sold what a trimmed entry never bought", text)
        if asked.opening > EPS:
            if asked.forbidden:
                self.breach(asked.forbidden, f"{asked.opening:g} of {asked.size:g}")
            self._check_limits(asked)
        self._use_up(asked, share)
        cut = 0 < asked.accepted < asked.size - EPS
        # Only where nothing stands on the other side is it plain what was cut from an entry.
        if cut and asked.held <= EPS and not self.alive(asked.index, -asked.side, asked.who):
            asked.lost = asked.size - asked.accepted
            if asked.opening > EPS and share.side == asked.side:
                self._lose(share, asked)

    def _only_exits(self, asked):
        """Several exits stand against one position, and none of them may open another."""
        for other in self.alive(asked.index, asked.side, asked.who):
            if other.parent is None and other.size <= other.free + EPS:
                other.closes_only = asked.forbidden

    def _use_up(self, asked, share):
        """Forget what was never bought once an opposite order has been told of it."""
        if asked.accepted and asked.size > asked.free + EPS:
            for one in [share, *self.alive(asked.index, -asked.side, asked.who)]:
                one.lost = 0.0

    def _lose(self, share, asked):
        share.lost = asked.lost + (share.lost if share.lost_side == asked.side else 0.0)
        share.lost_side, asked.lost = asked.side, 0.0
