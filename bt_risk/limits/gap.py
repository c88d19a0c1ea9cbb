"""GapLimit: a ceiling on what a position loses in a gap, where no stop can fill."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.limits.settings import LimitSettings
from bt_risk.parameters import ceiling
from bt_risk.portfolio.bar_history import track_gaps
from bt_risk.tolerances import LIMIT_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["GapLimit"]

# Share of its 100-bar median below which an ATR has collapsed.
COLLAPSED = 0.25


class GapLimit(Limit):
    """A position loses at most `gap_limit` of equity in a gap like the worst of the window.

    A gap is the way from a close to the next open, over night or from bar to bar: a stop fills only
    behind it. What is held and what works on that side counts. An order is cut to what fits.

    An ATR that has collapsed, because half of its bars have no range or because it is below a
    quarter of its 100-bar median, says nothing about the risk: entries are refused.

    Parameters
    ----------
    gap_limit : float, optional
        Fraction of equity; None or infinity switches it off.
    gap_floor : float
        Least gap that is assumed, as a fraction of the price.
    window, min_periods : int
        Bars whose gaps count, and the least number of them.
    unknown : {"refuse", "allow"}
        What to do while the gap is unknown, and while the ATR has collapsed. `gap_floor` counts
        alone then.
    allow_extreme : bool, default False
        Take a limit of 0.5 and more, which is percent by mistake otherwise.

    Notes
    -----
    ``(held + working + size) x max(worst gap / its close x price, gap_floor x price) x multiplier
    <= gap_limit x equity``. Where prices may be below zero the gap counts in points.
    """

    def __init__(
        self,
        gap_limit: float | None = LimitSettings.gap_limit,
        gap_floor: float = LimitSettings.gap_floor,
        window: int = LimitSettings.window,
        min_periods: int = LimitSettings.min_periods,
        unknown: str = LimitSettings.unknown,
        allow_extreme: bool = LimitSettings.allow_extreme,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        settings = LimitSettings.checked(self.name, given)
        self.limit, self.floor = ceiling(settings.gap_limit), settings.gap_floor
        self.window, self.min_periods = settings.window, settings.min_periods
        self.unknown = settings.unknown

    def prepare(self, book: Book) -> None:
        """Record the gaps of every instrument."""
        track_gaps(book, self.window)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        instrument, equity = request.instrument, book.equity
        if not (equity > 0 and math.isfinite(equity)):
            return self.refuse(0.0, f"equity {equity:.6g} is not positive")
        why = self._why_unknown(request)
        if why and self.unknown == "refuse":
            return self.refuse(0.0, why)
        gap, per_unit, used = self._loss(request, book)
        lost = used + request.size * per_unit
        if lost <= self.limit * equity * (1 + LIMIT_EPS):
            return Decision(request.size)
        if not math.isfinite(lost):
            return self.refuse(0.0, f"gap unknown: {instrument.why_unknown()}")
        measured = lost / equity
        reason = f"{measured:.4f} of equity in a gap of {gap:.6g} > gap_limit {self.limit:.4f}"
        room = max(0.0, (self.limit * equity - used) / per_unit)
        return self.refuse(min(room, request.size), reason, measured)

    def _loss(self, request: Request, book: Book) -> tuple[float, float, float]:
        """Return the gap in points, and what it takes: of one unit, and of all that is there."""
        instrument, gaps = request.instrument, request.instrument.lead.gaps
        if instrument.negative_prices:
            # The price may be anywhere near zero: a share of it says nothing.
            points = 0.0 if gaps is None else gaps.worst()
            points = max(points, self.floor * max(abs(request.price), abs(instrument.price)))
            per_unit = points * instrument.multiplier
            used = per_unit * book.exposure.units(instrument, request.side)
            return points, per_unit, used + self._beyond(instrument, request.side, points)
        share = max(0.0 if gaps is None else gaps.worst(relative=True), self.floor)
        used = book.exposure.of(instrument, request.side, "notional")
        return share * abs(request.price), share * request.unit_notional, share * used

    def _beyond(self, instrument: Instrument, side: int, points: float) -> float:
        """Return what entries lose beyond a gap of `points`, where they rest at a higher price."""
        lost = [
            w.opening * max(0.0, self.floor * abs(w.dearest) - points)
            for copy in instrument.copies
            for w in copy.orders.values()
            if w.side == side and not (w.own or w.waits)
        ]
        return sum(lost) * instrument.multiplier

    def _why_unknown(self, request: Request) -> str:
        """Return why the gaps, or the ATR, say nothing; an empty text where they do."""
        instrument = request.instrument
        gaps, name, (period, _) = instrument.lead.gaps, instrument.name, instrument.stop_rule
        known = 0 if gaps is None else gaps.count
        if gaps is None or known < self.min_periods:
            return f"gap unknown: {known} of {self.min_periods} bars"
        if gaps.stale:
            still, bars = gaps.still()
            return f"ATR({period}) of {name} has collapsed: {still} of {bars} bars have no range"
        atr, floored = instrument.atr(period), instrument.floored_atr(period, COLLAPSED)
        if atr < floored:
            share = f"{COLLAPSED * atr / floored:.2f} of its 100-bar median"
            return f"ATR({period}) of {name} has collapsed: {atr:.6g} is {share}"
        return ""
