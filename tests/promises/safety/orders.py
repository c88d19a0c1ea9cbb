"""What is asked for, and what comes back: exits pass (2), nothing opens that may not (3, 7, 8)."""

import math

import backtrader as bt

from promises.safety.book import EPS, Asked
from promises.safety.reach import Reach
from promises.safety.world import Breach

Order = bt.Order
EXPOSURES = ("exposure", "gross", "net", "position", "group")
KINDS = {Order.Market: "market", Order.Close: "close", Order.Limit: "limit"}
TRAILING = (Order.StopTrail, Order.StopTrailLimit)


class Orders(Reach):
    """Judge each order as it is asked for, and again as it is answered."""

    def before(self, trader, side, data, size, kwargs):
        """Take down what the model knows before the gate is asked."""
        index, who = self.index(data), trader.who
        exectype = kwargs.get("exectype") or Order.Market
        kind = KINDS.get(exectype, "stop")
        asked = Asked(who, index, side, abs(float(size)), kind, self.newest(index), self.now)
        asked.at_open, asked.moment = exectype == Order.Market, self.moment
        asked.trails = exectype in TRAILING
        # Where nothing else works or is held, close() is an exit like any other; one of more than
        # is held, as of a fraction that was rounded up, keeps its size and opens nothing.
        others = self.alive(index) or self.own_alive(index, "stop") or self._others(index, who)
        beyond = asked.size > -side * self.share(index, who).size + EPS
        asked.leaves = trader.leaves and (bool(others) or beyond)
        asked.tradeid = kwargs.get("tradeid") or 0
        asked.parent, asked.transmit = kwargs.get("parent"), kwargs.get("transmit", True)
        asked.untransmitted = asked.parent and asked.parent.status == Order.Created
        # Without a limit a bracket waits for its last child while an operator holds entries off.
        judged = self.there or bool(self.switched)
        asked.waits = judged and (not asked.transmit or bool(asked.untransmitted))
        if asked.parent is not None and not asked.parent.alive():
            # A child is refused like its parent; of another one, and of one that BackBroker itself
            # has rejected, it is an order of its own, where BackBroker would never let it work.
            refused = asked.parent.status == Order.Rejected
            refused &= asked.parent.ref not in self.native_rejects
            asked.late = not self.there or refused
            asked.parent = asked.parent if asked.late else None
        asked.group = self._group(asked, kwargs.get("oco"))
        asked.stop_price = kwargs.get("stop_price")
        self._price(asked, kwargs.get("price"))
        self._measure(asked)
        asked.length = len(self.datas[index])  # of the bars that are there, closed or not
        asked.before = (len(self.gate.journal.lines), self._rejected())
        self.asking = asked
        return asked

    def _others(self, index, who):
        """Whether another trader has ever held anything of a feed."""
        return [key for key, share in self.shares.items() if key[0] == index and key[1] != who]

    def _price(self, asked, price):
        """Note the trigger of an order, and the highest price that it can fill at as things are."""
        asked.trigger = newest = self.newest(asked.index)
        if price is None or asked.kind in ("market", "close"):
            return
        asked.trigger = asked.price = price
        if asked.kind == "stop" or asked.side < 0:
            asked.price = max(price, newest)

    def _measure(self, asked):
        """Work out what an order may do as things are."""
        self.split(asked)
        asked.free = self._free(asked)
        trader = self.traders[asked.who]
        asked.leaving = any(o.owner is trader for o in self.own_alive(asked.index, "market"))
        asked.distance = self._distance(asked)
        asked.forbidden = self._forbidden(asked)

    def _group(self, asked, oco):
        if asked.parent is not None:
            return "children", asked.parent.ref
        if oco is None:
            return None
        return self.asked[oco.ref].group or oco.ref if oco.ref in self.asked else oco.ref

    def _free(self, asked):
        """Return what is held against an order, less all other exits of its trader."""
        groups = {}
        for a in self.orders(asked.index, asked.side, asked.who):
            if a.reachable:
                groups[a.group] = max(groups.get(a.group, 0.0), min(a.left, a.closing))
        return max(0.0, asked.held - sum(groups.values()))

    def _distance(self, asked):
        """Return how far the stop behind an entry will be from where the entry may fill.

        A stop that the entry would fill beyond, or on, covers nothing of it.
        """
        newest, side = self.newest(asked.index), asked.side
        worse = max if side > 0 else min
        fill = worse(asked.trigger, newest) if asked.kind == "stop" else asked.trigger
        if asked.kind == "limit" and side < 0:
            fill = max(fill, newest)
        average = self.policy["atr_multiple"] * self.atr(asked.index)
        if asked.stop_price is not None:
            distance = side * (fill - asked.stop_price)
            return distance if distance > 0.0 else average
        if asked.kind != "stop":
            fill = self.price(asked.index)
        stops = [
            side * (fill - o.created.price)
            for o in self.own_alive(asked.index, "stop")
            if o.isbuy() == (side < 0) and o.owner.who == asked.who
        ]
        covering = [distance for distance in stops if distance > 0.0]
        return min(covering, default=average)

    def _forbidden(self, asked, again=False):
        """Return why nothing of an order may open, whatever its size; `again` when it fills."""
        if self.blocked:
            return "7 entry accepted after a trip"
        held_off = "" if again else self.held_off(asked) or self.held_off_today()
        if held_off or not self.limited:
            return held_off
        if not self.valid(asked.index, self.last_close(asked.index)):
            return "8 entry accepted without a valid price"
        if any(self.doubted(i) and abs(self.net(i)) > EPS for i in range(len(self.datas))):
            return "8 entry accepted while equity is in doubt"
        exposures = [self.limit[name] for name in EXPOSURES if self._concerns(name, asked.index)]
        needs_risk = self.limit["risk"] is not None or (
            set(exposures) != {None} and self.policy["exposure_unit"] == "risk"
        )
        if needs_risk and math.isnan(asked.distance):
            return "8 entry accepted before its ATR is known"
        return self._correlated(asked, self.leaving_before(asked))

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
        if asked.trails:
            asked.trigger = order.created.price
        asked.accepted = 0.0 if order.status == Order.Rejected else abs(order.size)
        self.note("asked", self.name(order.ref), abs(order.size), order.info.get("bt_risk", ""))
        self._check_lines(asked, order)
        family = [asked]
        if asked.waits and asked.transmit:
            parent = self.asked[asked.parent.ref]
            children = [a for a in self.asked.values() if a.parent is parent.order]
            family = [parent, *children]
            for one in family:
                one.waits = False
            stops = [a.trigger for a in children if a.kind == "stop" and a.side != parent.side]
            self._measure(parent)
            self._measure_bracket(parent, stops)
            parent.must = parent.closing
        elif asked.waits:
            asked.waits = asked.accepted > 0.0
            return
        for one in family:
            self._judge(one)

    def _measure_bracket(self, parent, stops):
        """A bracket is judged at the nearest of its own stops that bounds a loss."""
        market = parent.side > 0 or parent.kind != "limit"
        fill = parent.trigger if market else max(parent.trigger, self.newest(parent.index))
        distances = [parent.side * (fill - stop) for stop in stops]
        if any(distance > 0.0 for distance in distances):
            parent.distance = min(distance for distance in distances if distance > 0.0)
        parent.forbidden = self._forbidden(parent)

    def _judge(self, asked):
        """Check one order that was answered, and note what of it may open."""
        order = asked.order
        asked.accepted = 0.0 if order.status == Order.Rejected else abs(order.size)
        self.sent(asked)
        if asked.accepted > asked.size + EPS:
            self.breach("0 order grew", f"{asked.size:g} became {asked.accepted:g}")
        if asked.late or not asked.accepted:
            if not asked.late:
                self._check_exit(asked)
            return
        if asked.parent is not None and asked.untransmitted:
            self.split(asked)  # its parent may have been cut
        self._check_exit(asked)
        self._check_void(asked)
        self._allow(asked)
        self._use_up(asked)

    def _check_exit(self, asked):
        if asked.parent is not None or asked.leaving or not self.there:
            return
        if asked.accepted < asked.must - EPS:
            reason = asked.order.info.get("bt_risk", "")
            text = f"{asked.accepted:g} of {asked.size:g} against {asked.must:g}: {reason}"
            self.breach("2 exit refused or trimmed", text)

    def _allow(self, asked):
        """Note what of an order may open, and see that no limit forbids it."""
        asked.most = max(0.0, asked.accepted - asked.closing)
        asked.opening = max(0.0, asked.accepted - asked.claim)
        if asked.leaves or asked.most <= EPS:
            asked.opening = asked.most = 0.0
            return
        gone = self.leaving_before(asked)
        child = asked.parent is not None
        # What an exit keeps of its size without leave, it may not open.
        if asked.accepted <= asked.reduces + EPS or asked.opening <= EPS or child:
            asked.opening = asked.most
            faults = self._faults(asked, gone)
            if faults:
                asked.refused = faults[0].promise
                asked.most = 0.0 if asked.forbidden else self._largest(asked, gone)
            asked.opening = 0.0
            return
        faults = self._faults(asked, gone)
        asked.sure, asked.pure = True, asked.reduces <= EPS
        for promise, _, seen in faults:
            self.breach(promise, seen)
        asked.relies = tuple(order for *_, order in gone)
        asked.needs = bool(gone) and bool(self._correlated(asked, ()) or self._faults(asked, ()))

    def _largest(self, asked, gone):
        """Return the most that an order may open within the limits."""
        low, high = 0.0, asked.opening
        for _ in range(20):
            asked.opening = (low + high) / 2.0
            low, high = (low, asked.opening) if self._faults(asked, gone) else (asked.opening, high)
        return high

    def _faults(self, asked, gone):
        """Return the limits that an order exceeds with what it may open."""
        if asked.forbidden:
            return [Breach(asked.forbidden, self.now, f"{asked.opening:g} of {asked.size:g}")]
        return self.over_limits(asked, gone)

    def judge_again(self, asked, opening, price):
        """Return the limits that what is about to open exceeds, as things are."""
        before, asked.opening, asked.price = asked.opening, opening, max(asked.price, price)
        opened, self.opening = self.opening, True  # no bar has closed since
        self.between_fills = True
        try:
            if asked.distance != asked.distance:
                asked.distance = self.policy["atr_multiple"] * self.atr(asked.index)
            asked.forbidden = self._forbidden(asked, again=True)
            # Between two fills a stop may not cover its position yet, and its risk be unknown.
            return [fault for fault in self._faults(asked, ()) if "nan" not in fault.seen]
        finally:
            self.opening, asked.opening, self.between_fills = opened, before, False

    # -- what a trimmed entry never bought -------------------------------------------------------

    def _check_void(self, asked):
        """Who sells all that was asked for, of which not all was bought, sells what is held."""
        share = self.share(asked.index, asked.who)
        lost = share.lost if share.lost_side == -asked.side else 0.0
        most = max(asked.held + self.coming(asked), asked.size - lost)
        plain = self.world.traders == 1 and not self.world.filler and asked.parent is None
        if plain and lost and asked.closing > EPS and asked.accepted > most + EPS:
            text = f"{asked.accepted:g} with {asked.held:g} held and {lost:g} never bought"
            self.breach("3 sold what a trimmed entry never bought", text)
        cut = 0 < asked.accepted < asked.size - EPS
        # Only where nothing stands on the other side is it plain what was cut from an entry.
        if cut and asked.held <= EPS and not self.alive(asked.index, -asked.side, asked.who):
            asked.lost = asked.size - asked.accepted
            if share.side == asked.side:
                self._lose(share, asked)

    def _use_up(self, asked):
        """Forget what was never bought once an opposite order has been told of it."""
        if asked.accepted and asked.size > asked.free + EPS:
            share = self.share(asked.index, asked.who)
            for one in [share, *self.alive(asked.index, -asked.side, asked.who)]:
                one.lost = 0.0

    def _lose(self, share, asked):
        share.lost = asked.lost + (share.lost if share.lost_side == asked.side else 0.0)
        share.lost_side, asked.lost = asked.side, 0.0
