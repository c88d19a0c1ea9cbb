"""What the gate knows: positions, working orders, windows of prices, equity, closed trades.

Pure state. The broker feeds it fills, orders and bars; limits, stops, sizer and breaker read it.
It does not import Backtrader: a data feed is anything with ``close``, ``high``, ``low`` and
``datetime`` line buffers, an owner is anything that can be a key.
"""

import math

from bt_risk.curve import EquityCurve
from bt_risk.position import EPS, Part, Sent, closed_trade
from bt_risk.rules.correlation import same_bet
from bt_risk.rules.return_window import ReturnWindow

__all__ = ["Book"]


class Book:
    """All of the state that decisions are made from.

    Attributes
    ----------
    instruments : list of Instrument
        One for each data feed, in Cerebro's order.
    equity : float
        Cash and positions in currency, as the broker gave it last.
    risk_scales : dict
        What each tapering breaker leaves of every risk budget.
    trades : list of ClosedTrade
        Oldest first.
    sent : list of Sent
        The strategies' orders that went out, oldest first, a bracket once; None where no guard
        counts them.
    curve : EquityCurve
        What the account earned at every close, where a guard asks for it.
    """

    def __init__(self, instruments=(), atr_period=14, atr_multiple=2.0):
        self.instruments = list(instruments)
        for one in self.instruments:
            one.copies = tuple(i for i in self.instruments if i.root is one.root)
        self.equity = math.nan
        self.risk_scales = {}
        self.trades, self.sent = [], None
        self.curve = EquityCurve()
        self.rounds = 0
        self.working = {}
        self.parts = {}
        self.returns = {}
        self._windows = ()
        self._histories = {}
        self._no_closes = [math.nan] * len(self.instruments)
        self.set_stop_rule(atr_period, atr_multiple)

    @property
    def risk_scale(self):
        """What the tapering breakers leave of every risk budget, 1 without one."""
        return min(self.risk_scales.values(), default=1.0)

    @property
    def latest(self):
        """Time of the newest bar of any data, as a date number; NaN before the first."""
        return max([i.time for i in self.instruments if i.length], default=math.nan)

    def now(self, instrument, side):
        """Return the time and the bars of this moment, as an order sent now would have them."""
        lead = instrument.lead
        return Sent(lead.index, side, lead.length, self.rounds, self.latest)

    # -- what is watched -------------------------------------------------------------------------

    def set_stop_rule(self, atr_period, atr_multiple):
        """Say how far away the stop of a position is that has no stop order (yet)."""
        for instrument in self.instruments:
            instrument.watch(atr_period)
            instrument.stop_rule = (atr_period, atr_multiple)

    def watch_returns(self, window, min_periods, history=None, least=2):
        """Keep the window of closes that correlations are computed from, for `least` instruments.

        `history` is ``(frame, kind)``, indexed by date numbers; what lies before the first bar of
        the run fills the window.
        """
        if len({id(instrument.root) for instrument in self.instruments}) < least:
            return  # one instrument correlates with nothing
        names = [instrument.name for instrument in self.instruments]
        key = window, min_periods
        if key not in self.returns:
            self.returns[key] = ReturnWindow(names, window=window, min_periods=min_periods)
            self._windows = tuple(self.returns.values())
        if history is not None:
            self._histories[key] = history

    def count_orders(self):
        """Keep note of the orders that go out from now on."""
        self.sent = self.sent or []

    def update(self):
        """Take in the bars that have closed since the last call; return their instruments."""
        fresh = [i for i in self.instruments if i.close.lencount > i.length]
        if fresh:
            self.rounds += 1
            for instrument in fresh:
                instrument.advance(self.rounds)
            if self.returns:
                self._push_closes([i for i in fresh if i.time == i.time])
        return fresh

    def _seed(self, before):
        for key, (frame, kind) in self._histories.items():
            self.returns[key].seed(frame, kind=kind, before=before)
        self._histories = {}

    def _push_closes(self, fresh):
        if not fresh:
            return
        if self._histories:
            self._seed(before=min([instrument.time for instrument in fresh]))
        time = fresh[0].time
        for instrument in fresh:
            if instrument.time != time:
                self._push_by_time(fresh)
                return
        self._push(time, fresh)

    def _push_by_time(self, fresh):
        for time in sorted({instrument.time for instrument in fresh}):
            self._push(time, [i for i in fresh if i.time == time])

    def _push(self, time, instruments):
        closes = self._no_closes[:]
        for instrument in instruments:
            closes[instrument.index] = instrument.closed
        for returns in self._windows:
            # A bar that arrives late has missed its place on the axis: its return is unknown.
            if returns.last_time is None or time >= returns.last_time:
                returns.update(time, closes)

    # -- orders and fills ------------------------------------------------------------------------

    def part(self, instrument, owner):
        """Return the owner's part of the position, made on first use."""
        key = (instrument.index, owner)
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = Part(instrument, owner)
            instrument.parts.append(part)
        return part

    def live(self):
        """Return the instruments that are held or may be opened by a working order."""
        opening = {w.instrument.index for w in self.working.values() if w.opening > EPS}
        return [i for i in self.instruments if i.size or i.index in opening]

    def add(self, working):
        """Take note of an order that may fill from now on."""
        self.working[working.ref] = working
        working.instrument.orders[working.ref] = working
        if self.sent is not None and not working.own and working.parent is None:
            self.sent.append(self.now(working.instrument, working.side))

    def add_back(self, working):
        """Take note of an order that was sent before this run."""
        self.working[working.ref] = working
        working.instrument.orders[working.ref] = working

    def drop(self, ref):
        """Forget an order that cannot fill any more."""
        working = self.working.pop(ref, None)
        if working is not None:
            del working.instrument.orders[ref]
            part = self.part(working.instrument, working.owner)
            if part.lost_side == -working.side:
                part.lost += min(working.void, working.remaining)  # it did not come to be used
            self._forget_lost(part)

    def rekey(self, working, order):
        """Keep an order under the number that the broker has given it at last."""
        for orders in (self.working, working.instrument.orders):
            del orders[working.ref]
            orders[order.ref] = working
        working.ref, working.handle = order.ref, order

    def fill(self, part, size, price, commission, time, distance=math.nan, stopped=False):
        """Book one execution: `size` is signed, `commission` is what it cost in currency.

        `stopped` says that it is that of a stop.
        """
        closing = 0.0
        if part.size * size < 0:
            closing = math.copysign(min(abs(size), abs(part.size)), size)
        share = closing / size
        if closing:
            self._close(part, closing, price, commission * share, time, stopped)
        opening = size - closing
        if abs(opening) > EPS:
            self._open(part, opening, price, commission * (1.0 - share), time, distance)
        self._settle(part.instrument, price, time)
        for one in part.instrument.parts:
            self._forget_lost(one)

    def _open(self, part, size, price, commission, time, distance):
        if not part.size:
            part.number += 1
            part.entry, part.opened = price, time
            part.stop_distance = distance
            if math.isnan(distance):
                part.stop_distance = part.instrument.stop_distance()
            part.pnl = part.peak = part.price = 0.0
        total = part.size + size
        part.price = (part.price * part.size + price * size) / total
        part.size = total
        part.peak = max(part.peak, abs(total))
        part.pnl -= commission

    def _close(self, part, size, price, commission, time, stopped=False):
        part.pnl += -size * (price - part.price) * part.instrument.multiplier - commission
        side = part.side
        part.size += size
        if abs(part.size) <= EPS:
            part.size = 0.0
            self.trades.append(closed_trade(part, side, time, stopped, self.rounds + 1))

    def _settle(self, instrument, price, time):
        """Keep the net size; where owners offset each other exactly, nothing is held at all."""
        instrument.size = sum([part.size for part in instrument.parts])
        if abs(instrument.size) <= EPS:
            instrument.size = 0.0
            for part in instrument.parts:
                if part.size:
                    self._close(part, -part.size, price, 0.0, time)

    def _forget_lost(self, part):
        entries = [
            w
            for w in part.instrument.orders.values()
            if w.owner is part.owner and w.opening > EPS and w.side == part.lost_side
        ]
        if part.size * part.lost_side <= 0 and not entries:
            part.lost, part.lost_side = 0.0, 0

    # -- what an order would do ------------------------------------------------------------------

    def split(self, part, side, size):
        """Divide an order in the part that closes, the part that opens, and the part that is void.

        What working exits will already close is not closed again. Void is what a trimmed entry
        never bought: the strategy that asked for 1,000 and got 500 sells 1,000 to be flat.

        Returns
        -------
        closing, opening, void : float
            Adding up to `size`.
        """
        closing = min(size, self._closable(part, side))
        rest = size - closing
        void = 0.0
        if part.lost_side == -side and not self._left_whole(part, side):
            void = min(rest, part.lost)
        return closing, rest - void, void

    def _left_whole(self, part, side):
        """Whether the owner has sold just what is held: it knows that, and means more than it."""
        exits = [
            w.remaining
            for w in part.instrument.orders.values()
            if w.kind == "market" and w.side == side and w.owner is part.owner and not w.cut
        ]
        return 0.0 < -side * part.size <= sum(exits) + EPS

    def spare(self, part, side, size):
        """Return how much of an order could close if no resting exit filled before it."""
        return min(size, self._closable(part, side, "market"))

    def _closable(self, part, side, kind=None):
        """Return what working exits leave: of the owner's part, or of the net if that is more.

        One strategy's exits stand against what it holds itself; what all of them hold together
        may be closed by any, as ``close()`` does, but only once.
        """
        exits = self._exits(part.instrument, side, kind)
        mine = sum(exits.get(part.owner, {}).values())
        everyone = sum([sum(groups.values()) for groups in exits.values()])
        own = -side * part.size - mine
        return max(0.0, own, -side * part.instrument.size - everyone)

    def exiting(self, part, side, kind=None):
        """Return what the owner's working exits on `side` will close, alternatives once."""
        return sum(self._exits(part.instrument, side, kind).get(part.owner, {}).values())

    def _exits(self, instrument, side, kind):
        """Return what working exits will close, by owner and group of alternatives."""
        exits = {}
        for w in instrument.orders.values():
            if w.side != side or w.own or not self._reachable(w):
                continue
            if kind is None or w.kind == kind:
                groups = exits.setdefault(w.owner, {})
                groups[w.group] = max(groups.get(w.group, 0.0), w.closing)
        return exits

    def held_against(self, part, side):
        """Return the size held against `side`: the owner's, or all owners' if that is more."""
        return max(0.0, -side * part.size, -side * part.instrument.size)

    def _reachable(self, working):
        """Whether an order can fill on the next bar: children wait for their parent."""
        return working.parent is None or working.parent not in self.working

    # -- what is at stake ------------------------------------------------------------------------

    def risk(self, instrument, side):
        """Return what the trades and working orders of `side` lose at their stops, in currency.

        A trade that is under water loses from its entry on: otherwise averaging down towards a
        stop would seem to risk ever less. Copies of one instrument (resampled or replayed) are
        that instrument.
        """
        return sum([self._stake(copy, side, "trade") for copy in instrument.copies])

    def notional(self, instrument, side):
        """Return what is held and about to be held on `side`, in currency, copies included."""
        return sum([self._stake(copy, side, "notional") for copy in instrument.copies])

    def exposure(self, side, unit="risk"):
        """Return risk or notional of all instruments on one side, in currency."""
        return sum([self._stake(instrument, side, unit) for instrument in self.live()])

    def _stake(self, instrument, side, unit):
        held = 0.0
        if instrument.size * side > 0:
            held = abs(instrument.size) * instrument.value
            if unit != "notional":
                held = self.position_risk(instrument, from_entry=unit == "trade")
        return held + self._entering(instrument, side, unit)

    def position_risk(self, instrument, from_entry=False):
        """Return what a position loses at its stops: nearest first, the rest at the ATR distance.

        It is lost from the last close on, or `from_entry` on where that is more. NaN where the
        ATR distance is needed and not known yet.
        """
        side = 1 if instrument.size > 0 else -1
        price = self._worse_price(instrument, side) if from_entry else instrument.price
        left, lost = abs(instrument.size), 0.0
        stops = [
            (max(0.0, side * (price - w.price)), w.remaining)
            for w in instrument.orders.values()
            if w.kind == "stop" and w.side == -side and self._reachable(w)
        ]
        for distance, size in sorted(stops):
            covered = min(left, size)
            lost += covered * distance
            left -= covered
        if left > EPS:
            under_water = side * (price - instrument.price)
            lost += left * (instrument.stop_distance() + under_water)
        return lost * instrument.multiplier

    def _worse_price(self, instrument, side):
        """Return the average entry of the parts on a side, or the price if that is further on."""
        parts = [part for part in instrument.parts if part.size * side > 0]
        held = sum([part.size for part in parts])
        if not held:
            return instrument.price
        entry = sum([part.price * part.size for part in parts]) / held
        return max(entry, instrument.price) if side > 0 else min(entry, instrument.price)

    def cover_distance(self, part, side):
        """Return the distance to bt_risk's own stop behind an owner's part, else NaN."""
        instrument = part.instrument
        for w in instrument.orders.values():
            if w.own and w.kind == "stop" and w.side == -side and w.owner is part.owner:
                return max(0.0, side * (instrument.price - w.price))
        return math.nan

    def _entering(self, instrument, side, unit):
        groups = {}
        for w in instrument.orders.values():
            if w.side == side and w.opening > EPS:
                per_unit = w.price if unit == "notional" else w.distance
                stake = w.opening * per_unit * instrument.multiplier
                if math.isnan(stake):
                    return stake  # max() would hide that it is unknown
                groups[w.group] = max(groups.get(w.group, 0.0), stake)
        return sum(groups.values())

    def same_bets(self, instrument, side, window, min_periods):
        """Yield ``(other, signed correlation, common returns)`` for every other live name.

        The signed correlation is NaN where it is unknown. Copies of one instrument (resampled or
        replayed) are that instrument.
        """
        # Each instrument speaks with the copy that was there first: it has the most returns.
        own = instrument.copies[0]
        others = list(dict.fromkeys([o.copies[0] for o in self.live() if o.root is not own.root]))
        if not others:
            return
        returns = self.returns[window, min_periods]
        rho, counts = returns.correlations(own.index, [o.index for o in others])
        for other, value, count in zip(others, rho, counts, strict=True):
            for other_side in self._sides(other):
                known = not math.isnan(value)
                signed = same_bet(side, other_side, value) if known else math.nan
                yield other, signed, int(count)

    def _sides(self, instrument):
        sides = set()
        for copy in instrument.copies:
            sides |= {w.side for w in copy.orders.values() if w.opening > EPS}
            if copy.size:
                sides.add(1 if copy.size > 0 else -1)
        return sides
