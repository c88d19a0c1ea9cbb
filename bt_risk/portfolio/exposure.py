"""Exposure: the risk and the notional of what is held and of what working orders may open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from bt_risk.portfolio.reachable import entering
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.position import OwnerPosition

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
        return [i for i in book.instruments if i.held or i.index in opening]

    def of(self, instrument: Instrument, side: int, unit: Unit) -> float:
        """Return the exposure of one instrument on one side.

        In unit ``"trade"`` a trade that is under water loses from its entry on: otherwise
        averaging down towards a stop would seem to risk ever less.
        """
        return sum(self._each(instrument.copies, side, unit))

    def units(self, instrument: Instrument, side: int) -> float:
        """Return the units that are held on one side and that working orders may add to it."""
        return sum(
            [
                (self._left_of(part) if part.size * side > 0.0 else 0.0) + entering(part, side)
                for copy in instrument.copies
                for part in copy.parts
            ]
        )

    def of_owner(self, instrument: Instrument, owner: object, side: int, unit: Unit) -> float:
        """Return the exposure of what one owner has of an instrument on one side."""
        return sum(
            [
                self._of_part(part, side, unit)
                for copy in instrument.copies
                for part in copy.parts
                if part.owner is owner
            ]
        )

    def of_side(self, side: int, unit: Unit = "risk") -> float:
        """Return the exposure of all instruments on one side."""
        return sum(self._each(self._with_exposure(side), side, unit))

    def _with_exposure(self, side: int) -> list[Instrument]:
        """Return the instruments of `live` whose exposure on one side may be other than 0."""
        book = self._book
        working, opposed = book.working.values(), book.opposed
        entering = {w.instrument.index for w in working if w.side == side and w.opening > SIZE_EPS}
        return [
            one
            for one, held in zip(book.instruments, book.sides.tolist(), strict=True)
            if held == side
            or one.index in entering
            or one.index in opposed
            # Nothing times an unknown multiplier is unknown.
            or (one.multiplier != one.multiplier and (held or _is_entered(one)))
        ]

    def gross(
        self, instrument: Instrument, unit: Unit, names: Collection[str] | None = None
    ) -> float:
        """Return the exposure of all other instruments: of each the side with more of it.

        Orders on both sides of an instrument may rest, and one of them fills first. With `names`
        only instruments count that have one of these names, or a copy that has.
        """
        others = [
            other
            for other in {live.copies[0].index: live for live in self.live()}.values()
            if other.root is not instrument.root
            if names is None or any(copy.name in names for copy in other.copies)
        ]
        long, short = (self._each_with_copies(others, side, unit) for side in (1, -1))
        total = 0.0
        for one, other in zip(long, short, strict=True):
            total += max(one, other) if one == one and other == other else math.nan
        return total

    def net(self, instrument: Instrument, owner: object, side: int, unit: Unit) -> float:
        """Return the exposure of all instruments on `side` less what is held against it, signed.

        A position of this owner and instrument against `side` is left out: an order that opens on
        `side` has closed it. Resting entries against `side` are left out, too: they may never fill.
        """
        total, live = 0.0, self.live()
        for other, exposure in zip(live, self._each(live, side, unit), strict=True):
            total += exposure
            for part in other.parts:
                if part.size * side < 0.0 and (other is not instrument or part.owner is not owner):
                    total -= self._held(part, -side, unit) * other.least_share
        return total

    def holdings(
        self, instrument: Instrument, owner: object, side: int
    ) -> tuple[dict[Instrument, float], list[tuple[Instrument, float]]]:
        """Return the signed values of what is held and of what may be, each by first copy.

        A position of this owner and instrument against `side` is left out, as in `net`.

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
            lead = one.copies[0]
            for part in one.parts:
                against = one is instrument and part.owner is owner and part.size * side < 0
                value = 0.0 if against else part.side * self._left_of(part) * one.value
                for way in (1, -1) if one.orders else ():
                    every = self._entering(part, way, "notional")
                    market = self._entering(part, way, "notional", ("market", "close"))
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

    def position_risk(self, instrument: Instrument) -> float:
        """Return what the parts of a position lose at their stops, from the last close on.

        It is NaN where the ATR distance is needed and not known yet. Copies do not count.
        """
        parts = instrument.parts
        if len(parts) == 1 and parts[0].size:
            return self._risk(parts[0], abs(parts[0].size))
        return sum([self._risk(part, abs(part.size)) for part in parts if part.size])

    def _risk(self, part: OwnerPosition, size: float, from_entry: bool = False) -> float:
        """Return what `size` of a part loses: at its nearest stops, the rest at the ATR distance.

        The loss counts from the last close on, or `from_entry` on where that is more.
        """
        side, instrument = 1 if part.size > 0 else -1, part.instrument
        price, waiting = instrument.price, self._book.working
        if from_entry:
            price = max(part.price, price) if side > 0 else min(part.price, price)
        if len(instrument.orders) == 1 and self._book.costs is None:  # mostly: the stop behind it
            (w,) = instrument.orders.values()
            whole = w.kind == "stop" and w.side == -side and w.remaining >= size
            if whole and w.owner is part.owner and w.parent is None:
                return size * max(0.0, side * (price - w.price)) * instrument.multiplier
        left, lost, costs = size, 0.0, self._book.costs
        stops = [
            (max(0.0, side * (price - w.price)), w.remaining)
            for w in instrument.orders.values()
            if w.kind == "stop" and w.side == -side and w.owner is part.owner
            if w.parent is None or w.parent not in waiting
        ]
        for distance, covers in sorted(stops):
            covered = min(left, covers)
            lost += covered * distance
            left -= covered
        if left > SIZE_EPS:
            under_water = side * (price - instrument.price)
            lost += left * (instrument.stop_distance() + under_water)
        if costs is None:
            return lost * instrument.multiplier
        paid = costs.of(instrument, side, size, part.price, price - side * lost / size)
        return lost * instrument.multiplier + paid

    def _each(self, instruments: Iterable[Instrument], side: int, unit: Unit) -> list[float]:
        """Return the exposure of each instrument on one side: `_one` of it.

        A decision asks about all that is held. Most of it has one owner, at most one stop, which
        covers all of it, and orders that do not replace each other: the risk of such a one is
        computed here, because calls cost more than that.
        """
        leaving = self._book.leaving
        if unit != "risk" or self._book.costs is not None:
            return [self._one(instrument, side, unit) for instrument in instruments]
        exposures: list[float] = []
        add, against = exposures.append, -side
        for one in instruments:
            parts = one.parts
            if len(parts) != 1:
                add(self._one(one, side, unit))
                continue
            part = parts[0]
            units, owner = part.size * side, part.owner
            sold = 0.0
            if leaving and units > 0.0 and part in leaving:
                units = max(0.0, units - leaving[part])
                sold = 0.0 if units else 0.0 * one.value  # NaN where that is not known
            if not one.orders:
                known = one.price - one.price  # NaN where there is no price
                distance = one.stop_distance() + known if units > SIZE_EPS else 0.0
                add(units * distance * one.multiplier if units > 0.0 else sold)
                continue
            stop, enters, opened, left = None, 0.0, 0.0, 0.0
            for w in one.orders.values():
                if w.owner is not owner:
                    break
                if w.side == against:
                    if w.kind == "stop" and units > 0.0:
                        if stop is not None or w.parent is not None or w.remaining < units:
                            break
                        stop = w
                elif not (w.own or w.waits):
                    if w.group != w.ref:
                        break
                    left += w.remaining
                    if w.opening > SIZE_EPS:
                        opened += w.opening
                        enters += w.opening * w.distance
            else:
                held = sold
                if stop is not None:
                    distance = side * (one.price - stop.price)
                    held = (units * distance if distance > 0.0 else 0.0) * one.multiplier
                elif units > SIZE_EPS:
                    known = one.price - one.price  # NaN where there is no price
                    held = units * (one.stop_distance() + known) * one.multiplier
                elif units > 0.0:
                    held = 0.0 * one.multiplier
                # What a position against them leaves of the entries is computed by `entering`.
                if opened <= SIZE_EPS or units >= 0.0 or opened <= left + units + SIZE_EPS:
                    add(held + enters * one.multiplier)
                    continue
            add(self._one(one, side, unit))
        return exposures

    def _each_with_copies(
        self, instruments: list[Instrument], side: int, unit: Unit
    ) -> list[float]:
        """Return the exposure of each instrument and its copies on one side: `of` it."""
        if [one for one in instruments if len(one.copies) > 1]:
            return [self.of(one, side, unit) for one in instruments]
        return self._each(instruments, side, unit)

    def _one(self, instrument: Instrument, side: int, unit: Unit) -> float:
        total, basis = 0.0, "notional" if unit == "notional" else "risk"
        for part in instrument.parts:
            if part.size * side > 0:
                total += self._held(part, side, unit)
            if instrument.orders:
                total += entering(part, side, basis) * instrument.multiplier
        return total

    def _of_part(self, part: OwnerPosition, side: int, unit: Unit) -> float:
        held = self._held(part, side, unit)
        return held + self._entering(part, side, unit) if part.instrument.orders else held

    def _held(self, part: OwnerPosition, side: int, unit: Unit) -> float:
        if part.size * side <= 0:
            return 0.0
        left, leaving = part.size * side, self._book.leaving
        if leaving and part in leaving:
            left = self._left_of(part)
        if unit == "notional" or not left:
            return abs(left * part.instrument.value)
        return self._risk(part, left, from_entry=unit == "trade")

    def _left_of(self, part: OwnerPosition) -> float:
        """Return the units held, without those that count as sold already."""
        return max(0.0, abs(part.size) - self._book.leaving.get(part, 0.0))

    @staticmethod
    def _entering(
        part: OwnerPosition, side: int, unit: Unit, kinds: Collection[str] | None = None
    ) -> float:
        """Return what working orders may open; with `kinds` only orders of these kinds."""
        basis = "notional" if unit == "notional" else "risk"
        return entering(part, side, basis, kinds) * part.instrument.multiplier


def _is_entered(instrument: Instrument) -> bool:
    """Return whether a working order may open a position in an instrument."""
    return any(w.opening > SIZE_EPS for w in instrument.orders.values())
