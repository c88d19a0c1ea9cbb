"""EquityMonitor: check the account value of a live broker before sizer, gate and breaker use it.

The value is compared with what prices and fills explain. Some stores report a number that never
moves or leaves out positions, or fail for a moment, and a breaker that believes such a number would
sell everything for no reason. Backtrader's own simulation needs no check.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bt_risk.live.cash_flows import CashFlows, number
from bt_risk.live.two_bars import TwoBars
from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["EquityMonitor", "UserEquity"]

# A value that does not change through so many price changes, worth at least this fraction of
# equity, is not equity.
_FROZEN_CHANGES = 3
_FROZEN_MOVE = 1e-4
# Nor is one that has not changed for so many seconds of bar time: some brokers (IB) report it every
# three minutes. A pause of the market counts no more than its share.
_FROZEN_SECONDS = 600.0
_DAY = 86_400.0
# A value that differs from cash by no more than this fraction of the positions leaves them out.
_LEFT_OUT = 0.05
# Positions are assumed to move by no more than this fraction between two closes: a value beyond
# that leaves positions out.
_PRICE_MOVE = 0.5
_CENTS = 0.01
# A value within this fraction of what prices explain is believed at once: between two closes prices
# move by as much. What is further away has to stand.
_CLOSE = 0.01


class UserEquity:
    """Call the user's own ``equity=`` once a tick, behind Backtrader's own simulation."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._tick, self._value = -1, math.nan

    def value(self) -> float:
        """Return the equity of this tick."""
        if self._tick != self.gate.ticks:
            self._tick = self.gate.ticks
            self._value = number(self.gate.live.equity)
        return self._value


class EquityMonitor:
    """Check the value that the wrapped broker, or the user's ``equity=``, reports, once a tick.

    A value that prices explain is used at once. One that differs from that by more than `_CLOSE`
    has to stand for `equity_confirmations` samples; until then cash and positions at the last
    closes are used. Where it is a bar that differs, the value is used as long as it was right so
    far; beyond `equity_jump_limit` it is unknown (NaN) until the next bar agrees: entries are
    refused, and nothing is sold. A value that is not finite, not positive, does not move, or leaves
    out positions is replaced by cash and positions, as far as two bars agree on them. Where nothing
    agrees, it is unknown.

    Attributes
    ----------
    limit : float
        Fraction of equity that the value may move by without a price to explain it.
    confirmations : int
        Samples for which such a move must last.
    source : str
        Where the last value is from: ``"broker"``, ``"positions"`` or ``"unknown"``.
    flows : CashFlows
        Deposits and withdrawals.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate, self.book = gate, gate.book
        given = gate.live.equity
        sources = {None: gate.inner.getvalue, "broker": gate.inner.getvalue}
        sources["positions"] = self._cash_and_positions
        self.ask: Callable[[], Any] = given if callable(given) else sources[given]
        self.limit = gate.live.equity_jump_limit
        self.close = min(_CLOSE, self.limit)
        self.confirmations = gate.live.equity_confirmations
        self.source = ""
        self.flows = CashFlows(gate)
        self._tick, self._value = -1, math.nan
        # The last accepted value, what prices and fills had earned then, and what the account holds
        # beside cash and the positions known.
        self._anchor, self._level, self._other = math.nan, 0.0, 0.0
        # Whether a value of the broker was ever accepted: without one, cash and positions are all
        # that is known, and what else the account holds is not.
        self._known = False
        # Samples that an unexplained move has lasted, what it is, and when the next one counts.
        self._doubts, self._deviation = 0, math.nan
        self._next_doubt_at, self._doubt_round = 0.0, -1
        # The last reported value, what was earned when it was sampled last, and the price changes
        # that it has not followed, with the seconds that they have taken.
        self._reported, self._seen_level = math.nan, math.nan
        self._still, self._unmoved, self._seconds, self._time = 0, 0.0, 0.0, math.nan
        # Bars that contradict the value: number of bars by index of the instrument, and their sign;
        # the value of one unit of each at the anchor; the value that bars have overruled.
        self._held_back: dict[int, int] = {}
        self._values: dict[int, float] = {}
        self._sign, self._overruled = 0.0, math.nan
        self._closes = TwoBars(self.book)
        # The unit value to continue from, and what is saved.
        self._continued = math.nan
        self._saved: dict[str, Any] = {}
        self._saved_at: tuple[float, ...] = ()

    def value(self) -> float:
        """Return the equity of this tick, NaN while it is unknown."""
        if self._tick != self.gate.ticks:
            self._tick = self.gate.ticks
            self._value = self._check()
        return self._value

    def unit_value(self) -> float:
        """Return the value that drawdowns are taken of: deposits and withdrawals do not move it."""
        value = self.value()
        if self._continued == self._continued and value == value:
            self.flows.factor, self._continued = self._continued / value, math.nan
        return value * self.flows.factor

    @property
    def in_doubt(self) -> bool:
        """Return whether another sample may settle what the account is worth."""
        return self._value != self._value or self.source != "broker" or self.flows.waits

    # -- across brokers and restarts -------------------------------------------------------------

    def continue_from(self, unit_value: float) -> None:
        """Go on with this unit value once the value of another broker is known."""
        self._continued = unit_value

    def persist(self) -> dict[str, Any]:
        """Return the unit value and the cash as plain values, as they were at the last bar."""
        state = self.book.rounds, self.gate.fill_tracker.flow, self.flows.factor
        if state != self._saved_at:
            self._saved_at = state
            also = {"other": self._other, "known": self._known, "sizes": self._sizes()}
            self._saved = self.flows.persist() | also
        return self._saved

    def _sizes(self) -> dict[str, float]:
        return {i.name: i.size for i in self.book.instruments if i.size}

    def restore(self, saved: dict[str, Any]) -> None:
        """Expect what prices have made of the saved account since.

        Where other positions were restored than the saved account had, only the factor of the unit
        value is known.
        """
        whole = saved["sizes"] == self._sizes()
        self.flows.restore(saved, whole)
        if not whole:
            return
        self._other, self._known, self._level = saved["other"], saved["known"], self._earned()
        self._anchor = saved["value"] + self._level

    # -- checking --------------------------------------------------------------------------------

    def _check(self) -> float:
        reported, level = number(self.ask), self._earned()
        same = reported == self._reported and level == self._seen_level
        if same and self._value == reported and not self.flows.waits:
            return reported  # nothing has happened: the cash need not be requested as well
        if self._is_of_the_past() or self._unsettled():
            return math.nan
        cash, held = number(self.gate.inner.getcash), self._held()
        worth, expected = cash + held, self._anchor + level - self._level
        self._count_still(reported, level)
        sound = self._is_equity(reported, cash, held)
        usable = reported if sound else math.nan
        self.flows.ask(expected)
        flow = self.flows.check(usable, worth, level, expected)
        if math.isnan(flow):
            small = abs(self.flows.moved) <= self.limit * expected
            return expected if small and self.source else math.nan
        self._anchor, expected = self._anchor + flow, expected + flow
        self._closes.add(flow)
        if sound:
            value = self._judge(reported, worth, level, expected)
            if value is not None:
                return value
        return self._by_positions(reported, usable, worth, level, expected)

    def _judge(self, reported: float, worth: float, level: float, expected: float) -> float | None:
        """Return what a sound value of the broker leads to, None where it is not believed."""
        known = math.isfinite(expected)
        if self._within(reported, expected if known else worth, self.close):
            return self._accept(reported, "broker", worth, level)
        moved, deviation = level - self._level, reported - expected
        bars = self.source == "broker" and abs(moved) >= 0.5 * abs(deviation)
        if bars and self._within(reported, expected, self.limit):
            if reported != self._anchor:
                return self._accept(reported, "broker", worth, level)
            self._held_back = {}
            return reported  # it was right so far, and follows prices later
        if not bars and reported != self._overruled and self._lasts(reported, worth, expected):
            if known and not self._known:  # what else there is has not been known so far
                self.flows.go_on(expected, reported)
            return self._accept(reported, "broker", worth, level)
        return None if known else math.nan

    def _by_positions(
        self, reported: float, usable: float, worth: float, level: float, expected: float
    ) -> float:
        """Return cash and positions at the last closes, where they are explained."""
        marked = worth + self._other
        known = math.isfinite(expected)
        if not known and callable(self.gate.live.equity):
            return math.nan  # the user says that the numbers of the broker are something else
        if not (marked > 0.0 and (not known or self._within(marked, expected, self.limit))):
            return self._refuse(reported, marked, expected)
        if self._within(usable, expected, self.limit) and not self._held_back:
            # A value that has moved alone has to stand first.
            return expected if self.source else math.nan
        moved = level - self._level
        if known and abs(moved) > self.limit * abs(self._anchor) and not self._has_successor(moved):
            return math.nan
        if self._held_back:
            self._overruled = usable
            self._closes.begin(marked)
        self._accept(marked, "positions", worth, level, reported)
        return self._closes.follow(marked)

    def _unsettled(self) -> bool:
        """Return whether restored positions have not been compared with the broker's yet."""
        unknown = self.gate.fill_tracker.unknown
        return bool(unknown) and any(i.size for i in self.book.instruments if i.index in unknown)

    def _is_of_the_past(self) -> bool:
        """Return whether a position has a past price: many brokers mark it at that price, too."""
        behind = self.gate.feed_monitor.behind
        return any(behind(i) for i in self.book.instruments if i.size)

    def _is_equity(self, reported: float, cash: float, held: float) -> bool:
        """Return whether a value is positive, moves, and includes the positions."""
        if not reported > 0.0:
            return False
        waited = self._still >= _FROZEN_CHANGES and self._seconds >= _FROZEN_SECONDS
        if waited and self._unmoved > _FROZEN_MOVE * self._anchor:
            return False
        left_out = bool(held) and abs(reported - cash) <= _LEFT_OUT * abs(held)
        return not (left_out and self._is_held())

    def _is_held(self) -> bool:
        """Return whether the broker holds anything: a sale may not have been notified yet."""
        positions = [self.gate.venue.position(i.data) for i in self.book.instruments if i.size]
        return any(position is not None and position.size for position in positions)

    def _has_successor(self, moved: float) -> bool:
        """Return whether the bars that moved the account have had another that agrees."""
        sign = math.copysign(1.0, moved)
        if not self._held_back or sign != self._sign:
            held, self._held_back = [i for i in self.book.instruments if i.size], {}
            least = self.limit * abs(self._anchor) / max(len(held), 1)
            for one in held:
                if not abs(one.size * (one.value - self._values.get(one.index, math.nan))) < least:
                    self._held_back[one.index] = one.length
            self._sign = sign
            return not self._held_back
        held = [i for i in self.book.instruments if i.index in self._held_back and i.size]
        return all(i.length > self._held_back[i.index] for i in held)

    def _lasts(self, reported: float, worth: float, expected: float) -> bool:
        """Return whether a jump has lasted long enough, and is not beyond what prices can do."""
        base = expected if math.isfinite(expected) else 0.0
        deviation, now, rounds = reported - base, self.gate.live.clock(), self.book.rounds
        if not abs(deviation - self._deviation) <= self.limit * abs(reported):
            self._doubts = 0  # another jump
        if now >= self._next_doubt_at or rounds != self._doubt_round:
            # Samples of one moment are one: a loop asks many times a second.
            self._doubts += 1
            self._next_doubt_at, self._doubt_round = now + self.gate.live.retry_after, rounds
        self._deviation = deviation
        marked = worth + self._other
        could_move = _PRICE_MOVE * self._gross() + _CENTS * abs(marked)
        possible = not self._known or abs(reported - marked) <= could_move
        return self._doubts >= self.confirmations and possible

    def _within(self, value: float, expected: float, limit: float) -> bool:
        """Return whether a value is at most a fraction, `limit`, away from what is expected."""
        return abs(value - expected) <= limit * abs(expected)

    def _count_still(self, reported: float, level: float) -> None:
        """Count the price changes that the broker's value does not follow, and their time."""
        time = self.book.latest
        if reported != self._reported or math.isnan(reported):
            self._still, self._unmoved, self._seconds = 0, 0.0, 0.0
        elif level != self._seen_level:
            passed = (time - self._time) * _DAY if self._still and time > self._time else 0.0
            self._seconds += min(passed, _FROZEN_SECONDS / (_FROZEN_CHANGES - 1))
            self._still += 1
            self._unmoved += abs(level - self._seen_level)
        if level != self._seen_level or reported != self._reported:
            self._time = time
        self._reported, self._seen_level = reported, level

    def _accept(
        self, value: float, source: str, worth: float, level: float, reported: float = math.nan
    ) -> float:
        from_broker = source == "broker"
        self.flows.settle(value if from_broker else math.nan, worth, level, value)
        moved = value != self._anchor
        if from_broker:
            self._doubts, self._overruled, self._known = 0, math.nan, True
            self._held_back = {}
            self._closes.begin(value)
            if not self._still and math.isfinite(worth):
                self._other = value - worth
        self._report(source, value, reported)
        if moved or not from_broker:  # one that stands still may lag behind prices
            self._anchor, self._level, self._held_back = value, level, {}
            self._values = {i.index: i.value for i in self.book.instruments}
        return value

    def _refuse(self, reported: float, marked: float, expected: float) -> float:
        self._report("unknown", math.nan, reported, marked, expected)
        return math.nan

    # -- what prices explain ---------------------------------------------------------------------

    def _earned(self) -> float:
        """Return what prices and fills have earned, up to a constant."""
        held = [i for i in self.book.instruments if i.size and not i.unconverted]
        return sum([i.size * i.value for i in held]) + self.gate.fill_tracker.flow

    def _cash_and_positions(self) -> float:
        """Return the account value where the broker's own is known to be wrong."""
        return number(self.gate.inner.getcash) + self._held()

    def _held(self) -> float:
        """Return what the positions add to cash, in currency."""
        return sum([self._worth(i) for i in self.book.instruments if i.size])

    def _worth(self, instrument: Instrument) -> float:
        info = self.gate.inner.getcommissioninfo(instrument.data)
        if getattr(info, "stocklike", True):
            return instrument.size * instrument.value
        entered = sum([part.size * part.price for part in instrument.parts])
        # A future costs nothing to hold: only its profit or loss is added to cash.
        return instrument.size * instrument.value - entered * instrument.multiplier

    def _gross(self) -> float:
        return sum([abs(i.size * i.value) for i in self.book.instruments if i.size])

    def _report(
        self,
        source: str,
        value: float,
        reported: float,
        marked: float = math.nan,
        expected: float = math.nan,
    ) -> None:
        """Write a line where the source of the value changes."""
        if source == self.source or (source == "broker" and not self.source):
            self.source = source
            return
        self.source = source
        text = {
            "broker": f"the broker's value {value:.6g} is used again",
            "positions": f"the broker's value {reported:.6g} is not equity; cash and positions, "
            f"{value:.6g}, are used",
            "unknown": f"unknown: the broker reports {reported:.6g}, cash and positions are "
            f"{marked:.6g}, {expected:.6g} was expected. Pass equity=, a callable that returns it",
        }[source]
        action = "note" if source == "broker" else "equity"
        self.gate.journal.account("Equity", action, f"Equity: {text}")
