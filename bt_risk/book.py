"""What the gate knows: positions, working orders, windows of prices, equity, closed trades.

Pure state. The broker feeds it fills, orders and bars; limits, stops, sizer and breaker read it.
It does not import Backtrader: a data feed is anything with ``close``, ``high``, ``low`` and
``datetime`` line buffers, an owner is anything that can be a key.
"""

import math
from dataclasses import dataclass, field

from bt_risk.instrument import Instrument
from bt_risk.rules.correlation import ReturnWindow, same_bet

__all__ = ["EPS", "Book", "ClosedTrade", "Part", "Working", "shrink_exits"]

# 3 x 0.1 - 0.3 leaves 5.6e-17 of a position; nobody trades a billionth of a unit.
EPS = 1e-9


@dataclass(slots=True)
class Part:
    """One owner's share of a position; the sizes of all owners add up to the broker's position.

    A trade runs from flat to flat: `entry`, `stop_distance` and the fields below them belong to
    the trade that is open, and `number` counts trades, so that a stop knows when it is another's.
    """

    instrument: Instrument
    owner: object
    size: float = 0.0
    price: float = 0.0
    entry: float = math.nan
    stop_distance: float = math.nan
    peak: float = 0.0
    pnl: float = 0.0
    opened: float = math.nan
    number: int = 0
    tradeid: int = 0
    # What the gate cut from the entries of this trade, and on which side: see `Book.split`.
    lost: float = 0.0
    lost_side: int = 0

    @property
    def side(self):
        """+1 long, -1 short, 0 flat."""
        return (self.size > 0) - (self.size < 0)


@dataclass(slots=True)
class Working:
    """An order that may still fill.

    `remaining` is what is not filled yet and `opening` the part of it that would open; `distance`
    is the stop distance that it was judged with. Orders of one `group` (OCO, or the children of
    one parent) replace each other. `own` marks the orders of bt_risk itself.
    """

    ref: int
    instrument: Instrument
    owner: object
    side: int
    remaining: float
    opening: float
    kind: str
    price: float
    distance: float = math.nan
    group: object = None
    parent: int | None = None
    own: bool = False
    size: float = 0.0
    handle: object = None

    def __post_init__(self):
        self.size = self.remaining
        self.group = self.ref if self.group is None else self.group

    @property
    def closing(self):
        """The part of `remaining` that would close."""
        return self.remaining - self.opening

    def filled(self, size):
        """Take `size` off what remains; what closes goes first."""
        self.remaining = max(0.0, self.remaining - size)
        self.opening = min(self.opening, self.remaining)


@dataclass(frozen=True)
class ClosedTrade:
    """A trade from flat to flat: net profit in currency, and in multiples of what it risked."""

    instrument: str
    owner: object = field(repr=False, compare=False)
    side: int = 1
    opened: float = math.nan
    closed: float = math.nan
    size: float = 0.0
    pnl: float = 0.0
    r_multiple: float = math.nan


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
    """

    def __init__(self, instruments=(), atr_period=14, atr_multiple=2.0):
        self.instruments = list(instruments)
        self.equity = math.nan
        self.risk_scales = {}
        self.trades = []
        self.working = {}
        self.parts = {}
        self.returns = {}
        self._closes = [math.nan] * len(self.instruments)
        self.set_stop_rule(atr_period, atr_multiple)

    @property
    def risk_scale(self):
        """What the tapering breakers leave of every risk budget, 1 without one."""
        return min(self.risk_scales.values(), default=1.0)

    # -- what is watched -------------------------------------------------------------------------

    def set_stop_rule(self, atr_period, atr_multiple):
        """Say how far away the stop of a position is that has no stop order (yet)."""
        for instrument in self.instruments:
            instrument.watch(atr_period)
            instrument.stop_rule = (atr_period, atr_multiple)

    def watch_returns(self, window, min_periods, history=None):
        """Keep the window of closes that correlations are computed from."""
        names = [instrument.name for instrument in self.instruments]
        returns = ReturnWindow(names, window=window, min_periods=min_periods)
        if history is not None:
            frame, kind = history
            returns.seed(frame, kind=kind)
        self.returns[window, min_periods] = returns

    def update(self):
        """Take in the bars that have closed since the last call; return their instruments."""
        fresh = [i for i in self.instruments if i.close.lencount != i.length]
        for instrument in fresh:
            instrument.advance()
        if fresh and self.returns:
            self._push_closes(fresh)
        return fresh

    def _push_closes(self, fresh):
        closes = self._closes[:]
        for instrument in fresh:
            closes[instrument.index] = instrument.closed
        time = max([instrument.time for instrument in fresh])
        for returns in self.returns.values():
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

    def drop(self, ref):
        """Forget an order that cannot fill any more."""
        working = self.working.pop(ref, None)
        if working is not None:
            del working.instrument.orders[ref]
            self._forget_lost(self.part(working.instrument, working.owner))

    def fill(self, part, size, price, commission, time, distance=math.nan):
        """Book one execution: `size` is signed, `commission` is what it cost in currency."""
        closing = 0.0
        if part.size * size < 0:
            closing = math.copysign(min(abs(size), abs(part.size)), size)
        share = closing / size
        if closing:
            self._close(part, closing, price, commission * share, time)
        opening = size - closing
        if abs(opening) > EPS:
            self._open(part, opening, price, commission * (1.0 - share), time, distance)
        self._settle(part.instrument, price, time)

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

    def _close(self, part, size, price, commission, time):
        part.pnl += -size * (price - part.price) * part.instrument.multiplier - commission
        side = part.side
        part.size += size
        if abs(part.size) <= EPS:
            part.size = 0.0
            self._log_trade(part, side, time)
            self._forget_lost(part)

    def _settle(self, instrument, price, time):
        """Keep the net size; where owners offset each other exactly, nothing is held at all."""
        instrument.size = sum([part.size for part in instrument.parts])
        if abs(instrument.size) <= EPS:
            instrument.size = 0.0
            for part in instrument.parts:
                if part.size:
                    self._close(part, -part.size, price, 0.0, time)

    def _log_trade(self, part, side, time):
        risk = part.stop_distance * part.peak * part.instrument.multiplier
        r_multiple = part.pnl / risk if risk > 0 else math.nan
        self.trades.append(
            ClosedTrade(
                part.instrument.name,
                part.owner,
                side,
                part.opened,
                time,
                part.peak,
                part.pnl,
                r_multiple,
            )
        )

    def _forget_lost(self, part):
        entries = [
            w
            for w in part.instrument.orders.values()
            if w.owner is part.owner and w.opening > EPS and w.side == part.lost_side
        ]
        if not part.size and not entries:
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
        held = self.held_against(part, side)
        closing = min(size, max(0.0, held - self.exiting(part, side)))
        rest = size - closing
        void = min(rest, part.lost) if part.lost_side == -side else 0.0
        return closing, rest - void, void

    def spare(self, part, side, size):
        """Return how much of an order could close if no resting exit filled before it."""
        return min(
            size, max(0.0, self.held_against(part, side) - self.exiting(part, side, "market"))
        )

    def exiting(self, part, side, kind=None):
        """Return what the owner's working exits on `side` will close, alternatives once."""
        groups = {}
        for w in part.instrument.orders.values():
            if w.side != side or w.own or not self._reachable(w):
                continue
            if kind is None or w.kind == kind:
                groups[w.group] = max(groups.get(w.group, 0.0), w.closing)
        return sum(groups.values())

    def held_against(self, part, side):
        """Return the size held against `side`: the owner's, or all owners' together if that is more."""
        return max(0.0, -side * part.size, -side * part.instrument.size)

    def _reachable(self, working):
        """Whether an order can fill as things are: children wait for their parent."""
        return working.parent is None or working.parent not in self.working

    # -- what is at stake ------------------------------------------------------------------------

    def risk(self, instrument, side):
        """Return what positions and working orders of `side` lose at their stops, in currency."""
        held = self.position_risk(instrument) if instrument.size * side > 0 else 0.0
        return held + self._entering(instrument, side, "risk")

    def notional(self, instrument, side):
        """Return what is held and about to be held on `side`, in currency."""
        held = abs(instrument.size) * instrument.value if instrument.size * side > 0 else 0.0
        return held + self._entering(instrument, side, "notional")

    def exposure(self, side, unit="risk"):
        """Return risk or notional of all instruments on one side, in currency."""
        measure = self.risk if unit == "risk" else self.notional
        return sum([measure(instrument, side) for instrument in self.live()])

    def position_risk(self, instrument):
        """Return what a position loses at its stops: nearest first, the rest at the ATR distance.

        NaN where the ATR distance is needed and not known yet.
        """
        side = 1 if instrument.size > 0 else -1
        left, lost = abs(instrument.size), 0.0
        stops = [
            (max(0.0, side * (instrument.price - w.price)), w.remaining)
            for w in instrument.orders.values()
            if w.kind == "stop" and w.side == -side and self._reachable(w)
        ]
        for distance, size in sorted(stops):
            covered = min(left, size)
            lost += covered * distance
            left -= covered
        if left > EPS:
            lost += left * instrument.stop_distance()
        return lost * instrument.multiplier

    def cover_distance(self, instrument, side):
        """Return the distance to bt_risk's own stop behind a position of `side`, else NaN."""
        for w in instrument.orders.values():
            if w.own and w.kind == "stop" and w.side == -side:
                return max(0.0, side * (instrument.price - w.price))
        return math.nan

    def _entering(self, instrument, side, unit):
        groups = {}
        for w in instrument.orders.values():
            if w.side == side and w.opening > EPS:
                per_unit = w.distance if unit == "risk" else w.price
                stake = w.opening * per_unit * instrument.multiplier
                groups[w.group] = max(groups.get(w.group, 0.0), stake)
        return sum(groups.values())

    def same_bets(self, instrument, side, window, min_periods):
        """Yield ``(other, signed correlation, common returns)`` for every other live name.

        The signed correlation is NaN where it is unknown. Copies of one instrument (resampled or replayed) are that instrument.
        """
        others = [o for o in self.live() if o.root is not instrument.root]
        if not others:
            return
        returns = self.returns[window, min_periods]
        rho, counts = returns.correlations(instrument.index, [o.index for o in others])
        for other, value, count in zip(others, rho, counts, strict=True):
            for other_side in self._sides(other):
                known = not math.isnan(value)
                signed = same_bet(side, other_side, value) if known else math.nan
                yield other, signed, int(count)

    def _sides(self, instrument):
        sides = {w.side for w in instrument.orders.values() if w.opening > EPS}
        if instrument.size:
            sides.add(1 if instrument.size > 0 else -1)
        return sides


def shrink_exits(orders, before, after):
    """Say what is left of the exits of a position that has just become smaller.

    The orders against the position are walked in order of submission. Up to the position as it
    was before the fill they are exits, and they shrink to what is left of it; what exceeds it
    opens on purpose and stays. Orders of one group replace each other and are counted once, and
    so do a limit and a stop: a position has one take-profit and one stop-loss for each unit.

    Parameters
    ----------
    orders : list of (ref, group, kind, remaining)
        Oldest first, all of them against the position.
    before, after : float
        Size of the position before and after the fill, positive.

    Returns
    -------
    dict
        New remaining size by ref, only for the orders that change.

    Examples
    --------
    >>> orders = [(1, 1, "limit", 10.0), (2, 2, "limit", 10.0), (3, 3, "stop", 10.0)]
    >>> shrink_exits(orders, before=10.0, after=0.0)
    {1: 0.0, 3: 0.0}
    """
    free = dict.fromkeys(("limit", "stop"), before)
    left = dict.fromkeys(("limit", "stop"), after)
    taken, kept, changed = {}, {}, {}
    for ref, group, kind, remaining in orders:
        kinds = ("limit", "stop") if kind == "market" else (kind,)
        was, now = taken.get(group, 0.0), kept.get(group, 0.0)
        exits = min(remaining, was + min([free[k] for k in kinds]))
        keeps = min(exits, now + min([left[k] for k in kinds]))
        for k in kinds:
            free[k] -= max(0.0, exits - was)
            left[k] -= max(0.0, keeps - now)
        taken[group], kept[group] = max(was, exits), max(now, keeps)
        if exits - keeps > EPS:
            changed[ref] = remaining - exits + keeps
    return changed
