"""What is at stake: risk and notional of what is held and of what working orders may open."""

import math

from bt_risk.portfolio.position import EPS

__all__ = ["Exposure"]


class Exposure:
    """The part of the `Book` that adds up; sums are in currency, NaN where one of them is unknown.

    A unit is ``"risk"`` (lost at the stops from the last close on), ``"trade"`` (lost there from
    the entry on where that is more) or ``"notional"`` (held).
    """

    def risk(self, instrument, side):
        """Return what the trades and working orders of `side` lose at their stops, in currency.

        A trade that is under water loses from its entry on: otherwise averaging down towards a
        stop would seem to risk ever less. Copies of one instrument (resampled or replayed) are
        that instrument.
        """
        return self.stake(instrument, side, "trade")

    def notional(self, instrument, side):
        """Return what is held and about to be held on `side`, in currency, copies included."""
        return self.stake(instrument, side, "notional")

    def stake(self, instrument, side, unit):
        """Return what is at stake on one side of one instrument, copies included."""
        return sum([self._stake(copy, side, unit) for copy in instrument.copies])

    def exposure(self, side, unit="risk"):
        """Return risk or notional of all instruments on one side, in currency."""
        return sum([self._stake(instrument, side, unit) for instrument in self.live()])

    def gross(self, instrument, unit, names=None):
        """Return what is at stake in all other instruments: of each the side that is worse.

        What is held is one side; orders on both sides of it may rest, and one of them fills first.
        `names` leaves out what has no copy of such a name.
        """
        total = 0.0
        for other in {live.copies[0].index: live for live in self.live()}.values():
            if other.root is instrument.root:
                continue
            if names is None or any(copy.name in names for copy in other.copies):
                total += _larger(self.stake(other, 1, unit), self.stake(other, -1, unit))
        return total

    def net(self, instrument, side, unit):
        """Return what is held, and about to be on `side`, less what is held against it.

        A position of this instrument against `side` is left out: an order that opens on `side`
        has closed it. Entries against `side` that rest may never fill.
        """
        total = 0.0
        for other in self.live():
            total += self._stake(other, side, unit)
            if other is not instrument:
                total -= self._held(other, -side, unit)
        return total

    def holdings(self, instrument, side):
        """Return the signed values of what is held and of what may be, each by first copy.

        A position of this instrument against `side` is left out, as in `net`.

        Returns
        -------
        sure : dict of Instrument to float
            Held, and about to be by market orders; this instrument included.
        resting : list of (Instrument, float)
            Entries that wait for a price and may never fill.
        """
        sure, resting = {instrument.copies[0]: 0.0}, []
        for one in self.live():
            lead, value = one.copies[0], one.size * one.value
            if one is instrument and one.size * side < 0:
                value = 0.0
            for way in (1, -1) if one.orders else ():
                every = self._entering(one, way, "notional")
                market = self._entering(one, way, "notional", resting=False)
                value += way * market
                if every != market:
                    resting.append((lead, way * (every - market)))
            if value:
                sure[lead] = sure.get(lead, 0.0) + value
        return sure, resting

    def positions(self):
        """Return the signed value of what is held, by first copy."""
        values = {}
        for one in self.instruments:
            if one.size:
                values[one.copies[0]] = values.get(one.copies[0], 0.0) + one.size * one.value
        return values

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
            if w.kind == "stop" and w.side == -side and self.reachable(w)
        ]
        for distance, size in sorted(stops):
            covered = min(left, size)
            lost += covered * distance
            left -= covered
        if left > EPS:
            under_water = side * (price - instrument.price)
            lost += left * (instrument.stop_distance() + under_water)
        return lost * instrument.multiplier

    def _stake(self, instrument, side, unit):
        return self._held(instrument, side, unit) + self._entering(instrument, side, unit)

    def _held(self, instrument, side, unit):
        if instrument.size * side <= 0:
            return 0.0
        if unit == "notional":
            return abs(instrument.size) * instrument.value
        return self.position_risk(instrument, from_entry=unit == "trade")

    def _worse_price(self, instrument, side):
        """Return the average entry of the parts on a side, or the price if that is further on."""
        parts = [part for part in instrument.parts if part.size * side > 0]
        held = sum([part.size for part in parts])
        if not held:
            return instrument.price
        entry = sum([part.price * part.size for part in parts]) / held
        return max(entry, instrument.price) if side > 0 else min(entry, instrument.price)

    def _entering(self, instrument, side, unit, resting=True):
        groups = {}
        for w in instrument.orders.values():
            if w.side == side and w.opening > EPS and (resting or w.kind == "market"):
                per_unit = w.price if unit == "notional" else w.distance
                stake = w.opening * per_unit * instrument.multiplier
                if math.isnan(stake):
                    return stake  # max() would hide that it is unknown
                groups[w.group] = max(groups.get(w.group, 0.0), stake)
        return sum(groups.values())


def _larger(one, other):
    return one + other if math.isnan(one) or math.isnan(other) else max(one, other)
