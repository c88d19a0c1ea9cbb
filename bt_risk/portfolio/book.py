"""The book: positions, working orders, closed trades, equity and closes of one run.

The gate writes fills, orders and bars into it; limits, monitors, sizers and reports read it. It
does not import Backtrader: a data feed is any object with the line buffers ``close``, ``high``,
``low`` and ``datetime``, an owner is any object that can be a key.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from bt_risk.portfolio.bar_check import BAR_JUMP
from bt_risk.portfolio.bar_history import note_bars
from bt_risk.portfolio.correlation import Correlations
from bt_risk.portfolio.day_results import DayResults
from bt_risk.portfolio.exposure import Exposure
from bt_risk.portfolio.instrument import STALE_BARS, Instrument
from bt_risk.portfolio.loaded_instrument import load
from bt_risk.portfolio.position import (
    ClosedTrade,
    OwnerPosition,
    SentOrder,
    WorkingOrder,
    closed_trade,
    identity,
)
from bt_risk.portfolio.reachable import note_dormant
from bt_risk.portfolio.return_windows import ReturnWindows
from bt_risk.portfolio.signals import Signals
from bt_risk.portfolio.stop_costs import StopCosts
from bt_risk.portfolio.tradeids import book_tradeid, book_unnamed
from bt_risk.tolerances import SIZE_EPS

__all__ = ["Book"]


class Book:
    """Everything that an order is judged by.

    A limit of your own reads `equity`, `instruments`, `exposure`, `correlations` and `trades`.

    Attributes
    ----------
    instruments : list of Instrument
        One for each data feed, in Cerebro's order.
    by_data : dict of int to Instrument
        The same by ``id()`` of the data feed.
    equity : float
        Cash and value of the positions in currency, as the broker reported it last.
    exposure : Exposure
        Risk and notional of positions and working orders.
    correlations : Correlations
        Correlation and covariance of the returns of what is held.
    windows : ReturnWindows
        The closes that they are computed from, as far as a limit has requested them.
    risk_scale : float
        Factor that breakers and floors put on every risk budget, in [0, 1]; 1 without one.
    margin_doubt : str
        Why no margin account can open anything at the moment: see `MarginMonitor`; else empty.
    notes_bars : bool
        Whether a limit needs gaps or closes of the last bars: see `Instrument.gaps`.
    costs : StopCosts or None
        What counts as risk beside the distances to the stops; None: nothing.
    trades : list of ClosedTrade
        Oldest first.
    working : dict of int to WorkingOrder
        Orders that may still fill, by ref.
    market_orders : dict of int to WorkingOrder
        Those of them that fill at the next price: of kind ``"market"``.
    parts : dict of (int, owner) to OwnerPosition
        What each owner holds, by index of the instrument.
    converting : list of Instrument
        Those whose point value was measured and depends on a price or a rate.
    sides : ndarray of int, shape (n instruments,)
        Side that owners hold of each instrument: +1, -1 or 0; +1 where they hold both.
    opposed : set of int
        Indexes of the instruments of which owners hold both sides.
    leaving : dict of OwnerPosition to float
        Units that count as closed while an order is reviewed: a market exit fills before it.
    gone : dict by (int, int)
        Instrument and side of which that leaves nothing, where one owner alone holds it.
    sent : list of SentOrder or None
        Orders that strategies have sent, oldest first, a bracket once; None where no guard counts
        them.
    days : DayResults
        Results of the trading day, where a guard needs them.
    left_inside : list of LeftInside or None
        What limit orders have closed since the last bar; None where no bar is judged at its worst.
    repeats : Counter of (int, int, owner)
        Entries in a row, by index of the first copy of the instrument, side and owner; counted like
        `sent`, and forgotten once the position is closed.
    changes : int
        How often a position, the set of working orders or what one may open has changed, or a bar
        was not believed.
    rounds : int
        Points in time so far at which at least one data feed had a new bar.
    max_stale_bars : int
        Bars of other data feeds after which one without a new bar is stale.
    suspects : dict of int to Instrument
        Instruments whose newest bar is not believed yet, by index.
    loads_bars : bool
        Whether data feeds hold all of their bars once the first of them arrives, so that what is
        computed of each bar can be computed at once: see `LoadedInstrument`.
    signals : Signals
        What the data feeds of signals said in the last round.
    risk_limit : float
        What a position may lose at its stop, a fraction of equity; infinity without such a limit.
    latched : set
        Keys of `CorrelationLimit` for the pairs that it has refused and not released since.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument] = (),
        atr_period: int = 14,
        atr_multiple: float = 2.0,
        max_stale_bars: int = STALE_BARS,
        bar_jump: float = BAR_JUMP,
        signals: Signals | None = None,
    ) -> None:
        self.instruments = list(instruments)
        self.by_data = {id(instrument.data): instrument for instrument in self.instruments}
        for one in self.instruments:
            one.copies = tuple(i for i in self.instruments if i.root is one.root)
        self.converting: list[Instrument] = []
        self.sides = np.zeros(len(self.instruments), dtype=int)
        self.opposed: set[int] = set()
        self.leaving: defaultdict[OwnerPosition, float] = defaultdict(float)
        self.gone: dict[tuple[int, int], bool] = {}
        self.equity, self.risk_scale = math.nan, 1.0
        self.risk_scales: dict[object, float] = {}
        self.margin_doubt = ""
        self.costs: StopCosts | None = None
        self.trades: list[ClosedTrade] = []
        self.sent: list[SentOrder] | None = None
        self.repeats: Counter[tuple[int, int, object]] = Counter()
        self.days = DayResults()
        self.left_inside: list[Any] | None = None
        self.rounds = self.changes = 0
        self.working: dict[int, WorkingOrder] = {}
        self.market_orders: dict[int, WorkingOrder] = {}
        self.parts: dict[tuple[int, object], OwnerPosition] = {}
        self.windows = ReturnWindows(self.instruments)
        self.max_stale_bars = max_stale_bars
        self.suspects: dict[int, Instrument] = {}
        self.loads_bars = self.notes_bars = False
        self.signals = signals or Signals()
        self._reads_signals = bool(self.signals)  # a call on every bar otherwise
        self.risk_limit = math.inf
        for one in self.instruments:
            one.bar_jump = bar_jump
        self.latched: set[tuple[int, frozenset[int], int]] = set()
        self.exposure = Exposure(self)
        self.correlations = Correlations(self)
        self.set_stop_rule(atr_period, atr_multiple)

    @property
    def latest(self) -> float:
        """Return the time of the newest bar of all feeds, a date number; NaN before the first."""
        return max([i.time for i in self.instruments if i.length], default=math.nan)

    def find(self, data: Any) -> Instrument | None:
        """Return the `Instrument` of a data feed, None for one that this book does not have."""
        return self.by_data.get(id(data))

    def measure(self, instrument: Instrument, scheme: Any) -> None:
        """Find what a point of an instrument is worth under a commission scheme."""
        instrument.measure(scheme)
        if instrument.scheme is None and instrument not in self.converting:
            self.converting.append(instrument)

    def now(self, instrument: Instrument, side: int) -> SentOrder:
        """Return the record of an order on `side` that is sent now."""
        lead = instrument.lead
        return SentOrder(lead.index, side, lead.length, self.rounds, self.latest)

    # -- settings and bars -----------------------------------------------------------------------

    def set_stop_rule(self, atr_period: int, atr_multiple: float) -> None:
        """Set the stop distance of positions that have no stop order (yet), in ATRs."""
        for instrument in self.instruments:
            instrument.track_atr(atr_period)
            instrument.stop_rule = (atr_period, atr_multiple)

    def doubt(self, bars: int | None = None) -> str:
        """Return why equity is in doubt: a held position whose newest bar is suspect, or nothing.

        With `bars` only positions count whose bars have been suspect for at most so long.
        """
        for one in self.suspects.values():
            if one.size and (bars is None or one.suspect_bars <= bars):
                return one.suspect
        return ""

    def set_risk_scale(self, source: object, scale: float) -> None:
        """Let a tapering monitor scale every risk budget; the smallest of all scales counts."""
        self.risk_scales[source] = scale
        self.risk_scale = min(self.risk_scales.values())

    def count_orders(self) -> None:
        """Record the orders that strategies send from now on in `sent`."""
        self.sent = self.sent or []

    def update(self) -> list[Instrument]:
        """Process the bars that have closed since the last call; return their instruments."""
        fresh = [i for i in self.instruments if i.close.lencount > i.length]
        if self._reads_signals:
            self.signals.read()
        if fresh:
            self.rounds += 1
            if self.loads_bars:
                self.loads_bars = False
                for instrument in self.instruments:
                    load(instrument)
            for instrument in fresh:
                instrument.advance(self.rounds)
                if instrument.suspect:
                    self.suspects[instrument.index] = instrument
                    self.changes += 1
                elif self.suspects:
                    self.suspects.pop(instrument.index, None)
            if self.windows.active:
                self.windows.update(fresh)
            if self.notes_bars:
                note_bars(fresh)
        return fresh

    # -- orders and fills ------------------------------------------------------------------------

    def part(self, instrument: Instrument, owner: object) -> OwnerPosition:
        """Return what an owner holds of an instrument; the record is made on first use."""
        key = (instrument.index, owner)
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = OwnerPosition(instrument, owner)
            instrument.parts.append(part)
        return part

    def add(self, working: WorkingOrder) -> None:
        """Add an order that may fill from now on."""
        self.add_back(working)
        if not working.waits:
            self.count(working)

    def count(self, working: WorkingOrder) -> None:
        """Count an order among those that strategies have sent, a bracket once."""
        if self.sent is not None and not working.own and working.parent is None:
            order = None if working.request is None else identity(working.request)
            self.sent.append(self.now(working.instrument, working.side)._replace(order=order))
            if working.opening > SIZE_EPS:
                self.repeats[working.instrument.lead.index, working.side, working.owner] += 1
                self.changes += 1

    def add_back(self, working: WorkingOrder) -> None:
        """Add an order that was sent before this run."""
        self.changes += 1
        self.working[working.ref] = working
        if working.kind == "market":
            self.market_orders[working.ref] = working
        working.instrument.orders[working.ref] = working
        part = working.part = self.part(working.instrument, working.owner)
        working.had_position |= working.shared or part.size * working.side < 0.0
        if self.costs is not None:
            self.set_distance(working, working.distance)

    def set_distance(self, working: WorkingOrder, distance: float) -> None:
        """Set the stop distance that an order was judged with, and what a stop-out costs then."""
        self.changes += 1
        working.distance = distance
        if self.costs is not None:
            self.costs.charge(working)

    def cut(self, ref: int, size: float) -> None:
        """Let no more than `size` of an order remain; what it loses of its allowance is lost."""
        working = self.working.get(ref)
        if working is not None:
            opening = working.opening
            working.cut += max(0.0, working.remaining - size)
            working.cut_to(size)
            working.part.lose(working.side, opening - working.opening)
            self.set_distance(working, working.distance)

    def drop(self, ref: int) -> None:
        """Remove an order that cannot fill any more."""
        working = self.working.pop(ref, None)
        if working is not None:
            self.changes += 1
            self.market_orders.pop(ref, None)
            del working.instrument.orders[ref]
            part = working.part
            if part.lost_side == -working.side:
                part.lost += min(working.void, working.remaining)  # what it has not used up
            self._forget_lost(part)
            if working.instrument.orders:
                note_dormant(part, working.side)

    def rekey(self, working: WorkingOrder, order: Any) -> None:
        """Replace the stand-in of an order by the broker's own order, and its ref by that one's."""
        self.changes += 1
        for orders in (self.working, self.market_orders, working.instrument.orders):
            if orders.pop(working.ref, None) is not None:
                orders[order.ref] = working
        for child in self.working.values():
            if child.parent == working.ref:
                child.parent = order.ref
                if child.group == ("children of", working.ref):
                    child.group = "children of", order.ref
        working.ref, working.handle = order.ref, order

    def fill(
        self,
        part: OwnerPosition,
        size: float,
        price: float,
        commission: float,
        time: float,
        distance: float = math.nan,
        stopped: bool = False,
        tradeid: Any = None,
    ) -> None:
        """Book one execution.

        Parameters
        ----------
        part : OwnerPosition
            What it changes.
        size, price : float
            Signed units, and the price of one.
        commission : float
            Cost in currency.
        time : float
            Date number.
        distance : float
            Price distance to the stop of a trade that it opens; NaN: the ATR distance.
        stopped : bool
            Whether a stop order was executed.
        tradeid : hashable, optional
            That of the order; None where no order of the owner is known.
        """
        self.changes += 1
        closing = 0.0
        if part.size * size < 0:
            closing = math.copysign(min(abs(size), abs(part.size)), size)
        share = closing / size
        if closing:
            self._close(part, closing, price, commission * share, time, stopped)
        opening = size - closing
        if abs(opening) > SIZE_EPS:
            self._open(part, opening, price, commission * (1.0 - share), time, distance)
        if tradeid is None:
            book_unnamed(part, size)
        else:
            book_tradeid(part, tradeid, size)
        self.sum_up(part.instrument)
        for working in part.instrument.orders.values():
            if working.owner is part.owner and part.size * working.side < 0.0:
                working.had_position = True
                if working.opening > SIZE_EPS:
                    note_dormant(part, working.side)
        for one in part.instrument.parts:
            self._forget_lost(one)

    def _open(
        self,
        part: OwnerPosition,
        size: float,
        price: float,
        commission: float,
        time: float,
        distance: float,
    ) -> None:
        if not part.size:
            part.number += 1
            part.entry, part.opened, part.beyond = price, time, {}
            part.since = part.instrument.length - part.instrument.forming
            part.stop_distance = distance
            if math.isnan(distance):
                part.stop_distance = part.instrument.stop_distance()
            part.pnl = part.paid = part.peak = part.price = 0.0
        total = part.size + size
        part.price = (part.price * part.size + price * size) / total
        part.size = total
        part.peak = max(part.peak, abs(total))
        part.pnl -= commission
        part.paid += commission

    def _close(
        self,
        part: OwnerPosition,
        size: float,
        price: float,
        commission: float,
        time: float,
        stopped: bool = False,
    ) -> None:
        part.pnl += -size * (price - part.price) * part.instrument.multiplier - commission
        part.paid += commission
        side = part.side
        part.size += size
        if part.excess:
            part.excess = side * max(0.0, side * (part.excess + size))
        if abs(part.size) <= SIZE_EPS:
            part.size = part.excess = 0.0
            self.trades.append(closed_trade(part, side, time, stopped, self.rounds + 1, self.costs))

    def sum_up(self, instrument: Instrument) -> None:
        """Update the net size of an instrument, and the sides that owners hold of it."""
        parts = instrument.parts
        self.correlations.forget_held()
        if not parts[1:]:
            instrument.size, side = parts[0].size, parts[0].side
            instrument.held, self.sides[instrument.index] = side != 0, side
            return
        instrument.size = sum([part.size for part in parts])
        if abs(instrument.size) <= SIZE_EPS:
            instrument.size = 0.0
        sides = {part.side for part in parts if part.size}
        instrument.held = bool(sides)
        self.sides[instrument.index] = max(sides, default=0)
        (self.opposed.add if len(sides) > 1 else self.opposed.discard)(instrument.index)

    def _forget_lost(self, part: OwnerPosition) -> None:
        """Forget what was cut from the entries of a trade that is over."""
        if not part.lost_side:
            part.lost = 0.0
            return
        entries = [
            w
            for w in part.instrument.orders.values()
            if w.owner is part.owner and w.opening > SIZE_EPS and w.side == part.lost_side
        ]
        if part.size * part.lost_side <= 0 and not entries:
            part.lost, part.lost_side = 0.0, 0

    def reachable(self, working: WorkingOrder) -> bool:
        """Return whether an order can fill on the next bar: children wait for their parent."""
        return working.parent is None or working.parent not in self.working

    def is_stale(self, instrument: Instrument) -> bool:
        """Return whether other feeds have gone on long after the last bar of an instrument.

        Long is more than `max_stale_bars` of their bars, and more time than twice the longest gap
        between its own bars: weekends and holidays do not count.
        """
        if self.rounds - instrument.round <= self.max_stale_bars:
            return False
        return self.latest - instrument.time > 2.0 * instrument.longest_gap
