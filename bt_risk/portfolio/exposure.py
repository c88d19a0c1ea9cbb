"""Exposure: the risk and the notional of what is held and of what working orders may open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from collections.abc import Collection

    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["Exposure", "Unit"]

Unit = Literal["risk", "trade", "notional"]


class Exposure:
    """Add up the positions and working orders of one `Book`.

    All sums are in currency, zero or more unless they are called signed, and NaN where one of
    their terms is unknown. A unit is ``"risk"`` (the loss at the stops, from the last close on),
    ``"trade"`` (the same, but from the average entry on where that is more) or ``"notional"``
    (the value held). A side is +1 (long) or -1 (short). The resampled and replayed copies of an
    instrument count as that instrument.
    """

    def __init__(self, book: Book) -> None:
        self._book = book

    def live(self) -> list[Instrument]:
        """Return the instruments that are held or may be opened by a working order."""
        book = self._book
        opening = {w.instrument.index for w in book.working.values() if w.opening > SIZE_EPS}
        return [i for i in book.instruments if i.size or i.index in opening]

    def of(self, instrument: Instrument, side: int, unit: Unit) -> float:
        """Return the exposure of one instrument on one side.

        In unit ``"trade"`` a trade that is under water loses from its entry on: otherwise
        averaging down towards a stop would seem to risk ever less.
        """
        return sum([self._one(copy, side, unit) for copy in instrument.copies])

    def of_side(self, side: int, unit: Unit = "risk") -> float:
        """Return the exposure of all instruments on one side."""
        return sum([self._one(instrument, side, unit) for instrument in self.live()])

    def gross(
        self, instrument: Instrument, unit: Unit, names: Collection[str] | None = None
    ) -> float:
        """Return the exposure of all other instruments: of each the side with more of it.

        Orders on both sides of an instrument may rest, and one of them fills first. With `names`
        only instruments count that have one of these names, or a copy that has.
        """
        total = 0.0
        for other in {live.copies[0].index: live for live in self.live()}.values():
            if other.root is instrument.root:
                continue
            if names is None or any(copy.name in names for copy in other.copies):
                total += _larger(self.of(other, 1, unit), self.of(other, -1, unit))
        return total

    def net(self, instrument: Instrument, side: int, unit: Unit) -> float:
        """Return the exposure of all instruments on `side` less what is held against it, signed.

        A position of this instrument against `side` is left out: an order that opens on `side`
        has closed it. Resting entries against `side` are left out, too: they may never fill.
        """
        total = 0.0
        for other in self.live():
            total += self._one(other, side, unit)
            if other is not instrument:
                total -= self._held(other, -side, unit)
        return total

    def holdings(
        self, instrument: Instrument, side: int
    ) -> tuple[dict[Instrument, float], list[tuple[Instrument, float]]]:
        """Return the signed values of what is held and of what may be, each by first copy.

        A position of this instrument against `side` is left out, as in `net`.

        Returns
        -------
        sure : dict of Instrument to float
            Held, and about to be by market orders; this instrument included.
        resting : list of (Instrument, float)
            Entries that wait for a price and may never fill.
        """
        sure: dict[Instrument, float] = {instrument.copies[0]: 0.0}
        resting: list[tuple[Instrument, float]] = []
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

    def positions(self) -> dict[Instrument, float]:
        """Return the signed value of what is held, by first copy."""
        values: dict[Instrument, float] = {}
        for one in self._book.instruments:
            if one.size:
                values[one.copies[0]] = values.get(one.copies[0], 0.0) + one.size * one.value
        return values

    def position_risk(self, instrument: Instrument, from_entry: bool = False) -> float:
        """Return what a position loses at its stops: nearest first, the rest at the ATR distance.

        The loss counts from the last close on, or `from_entry` on where that is more. It is NaN
        where the ATR distance is needed and not known yet. Copies do not count.
        """
        side = 1 if instrument.size > 0 else -1
        price = self._worse_price(instrument, side) if from_entry else instrument.price
        left, lost = abs(instrument.size), 0.0
        stops = [
            (max(0.0, side * (price - w.price)), w.remaining)
            for w in instrument.orders.values()
            if w.kind == "stop" and w.side == -side and self._book.reachable(w)
        ]
        for distance, size in sorted(stops):
            covered = min(left, size)
            lost += covered * distance
            left -= covered
        if left > SIZE_EPS:
            under_water = side * (price - instrument.price)
            lost += left * (instrument.stop_distance() + under_water)
        return lost * instrument.multiplier

    def _one(self, instrument: Instrument, side: int, unit: Unit) -> float:
        return self._held(instrument, side, unit) + self._entering(instrument, side, unit)

    def _held(self, instrument: Instrument, side: int, unit: Unit) -> float:
        if instrument.size * side <= 0:
            return 0.0
        if unit == "notional":
            return abs(instrument.size * instrument.value)
        return self.position_risk(instrument, from_entry=unit == "trade")

    def _worse_price(self, instrument: Instrument, side: int) -> float:
        """Return the average entry of the parts on a side, or the price if that is further on."""
        parts = [part for part in instrument.parts if part.size * side > 0]
        held = sum([part.size for part in parts])
        if not held:
            return instrument.price
        entry = sum([part.price * part.size for part in parts]) / held
        return max(entry, instrument.price) if side > 0 else min(entry, instrument.price)

    def _entering(
        self, instrument: Instrument, side: int, unit: Unit, resting: bool = True
    ) -> float:
        """Return what working orders may open; with `resting` False only those at the market."""
        groups: dict[object, float] = {}
        for w in instrument.orders.values():
            if w.side == side and w.opening > SIZE_EPS and (resting or w.kind == "market"):
                per_unit = abs(w.dearest) if unit == "notional" else w.distance
                entering = w.opening * per_unit * instrument.multiplier
                if math.isnan(entering):
                    return entering  # max() would hide that it is unknown
                groups[w.group] = max(groups.get(w.group, 0.0), entering)
        return sum(groups.values())


def _larger(one: float, other: float) -> float:
    return one + other if math.isnan(one) or math.isnan(other) else max(one, other)
