"""What the gate knows: positions, working orders, windows of prices, equity, closed trades.

Pure state. The broker feeds it fills, orders and bars; limits, stops, sizer and breaker read it.
It does not import Backtrader: a data feed is anything with ``close``, ``high``, ``low`` and
``datetime`` line buffers, an owner is anything that can be a key.
"""

import math

import numpy as np

from bt_risk.portfolio.correlation import Correlations
from bt_risk.portfolio.equity_curve import EquityCurve
from bt_risk.portfolio.exposure import Exposure
from bt_risk.portfolio.instrument import STALE_BARS
from bt_risk.portfolio.position import (
    EPS,
    OwnerPosition,
    SentOrder,
    closed_trade,
)
from bt_risk.portfolio.return_windows import ReturnWindows

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
    windows : Windows
        Of closes, as the limits ask for them.
    max_stale_bars : int
        Bars of other feeds after which one without a bar is stale.
    latched : set
        Pairs that were above a correlation limit and have not fallen far enough since.
    """

    def __init__(self, instruments=(), atr_period=14, atr_multiple=2.0, max_stale_bars=STALE_BARS):
        self.instruments = list(instruments)
        self.by_data = {id(instrument.data): instrument for instrument in self.instruments}
        for one in self.instruments:
            one.copies = tuple(i for i in self.instruments if i.root is one.root)
        self.sides = np.zeros(len(self.instruments), dtype=int)
        self.equity = math.nan
        self.risk_scale = 1.0
        self._risk_scales = {}
        self.trades, self.sent = [], None
        self.curve = EquityCurve()
        self.rounds = 0
        self.working = {}
        self.parts = {}
        self.windows = ReturnWindows(self.instruments)
        self.max_stale_bars = max_stale_bars
        self.latched = set()
        self.exposure = Exposure(self)
        self.correlations = Correlations(self)
        self.set_stop_rule(atr_period, atr_multiple)

    @property
    def latest(self):
        """Time of the newest bar of any data, as a date number; NaN before the first."""
        return max([i.time for i in self.instruments if i.length], default=math.nan)

    def find(self, data):
        """Return the `Instrument` of a data feed, None for one that this book does not have."""
        return self.by_data.get(id(data))

    def now(self, instrument, side):
        """Return the time and the bars of this moment, as an order sent now would have them."""
        lead = instrument.lead
        return SentOrder(lead.index, side, lead.length, self.rounds, self.latest)

    # -- what is watched -------------------------------------------------------------------------

    def set_stop_rule(self, atr_period, atr_multiple):
        """Say how far away the stop of a position is that has no stop order (yet)."""
        for instrument in self.instruments:
            instrument.track_atr(atr_period)
            instrument.stop_rule = (atr_period, atr_multiple)

    def set_risk_scale(self, source, scale):
        """Let a tapering breaker scale every risk budget; the smallest of all scales counts."""
        self._risk_scales[source] = scale
        self.risk_scale = min(self._risk_scales.values())

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
            if self.windows:
                self.windows.update(fresh)
        return fresh

    # -- orders and fills ------------------------------------------------------------------------

    def part(self, instrument, owner):
        """Return the owner's part of the position, made on first use."""
        key = (instrument.index, owner)
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = OwnerPosition(instrument, owner)
            instrument.parts.append(part)
        return part

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
        self.sides[instrument.index] = (instrument.size > 0) - (instrument.size < 0)

    def _forget_lost(self, part):
        entries = [
            w
            for w in part.instrument.orders.values()
            if w.owner is part.owner and w.opening > EPS and w.side == part.lost_side
        ]
        if part.size * part.lost_side <= 0 and not entries:
            part.lost, part.lost_side = 0.0, 0

    def reachable(self, working):
        """Whether an order can fill on the next bar: children wait for their parent."""
        return working.parent is None or working.parent not in self.working

    def is_stale(self, instrument):
        """Return whether other feeds have gone on long after the last bar of an instrument.

        Long is more than `max_stale_bars` of their bars, and more time than twice the longest gap
        between its own bars: weekends and holidays do not count.
        """
        if self.rounds - instrument.round <= self.max_stale_bars:
            return False
        return self.latest - instrument.time > 2.0 * instrument.longest_gap
