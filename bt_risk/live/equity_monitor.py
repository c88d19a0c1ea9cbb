"""EquityMonitor: check the account value of a live broker before sizer, gate and breaker use it.

The value is compared with what prices and fills explain. Some stores report a number that never
moves or leaves out positions, or fail for a moment, and a breaker that believes such a number would
sell everything for no reason. Backtrader's own simulation needs no check.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["EquityMonitor", "LastKnownValue", "UserEquity"]

# A value that does not change through so many price changes, worth at least this fraction of
# equity, is not equity.
_FROZEN_CHANGES = 3
_FROZEN_MOVE = 1e-4
# A value that differs from cash by no more than this fraction of the positions leaves them out.
_LEFT_OUT = 0.05
# Positions are assumed to move by no more than this fraction between two closes: a value beyond
# that leaves positions out.
_PRICE_MOVE = 0.5
_CENTS = 0.01


class LastKnownValue:
    """Replace ``getvalue`` or ``getcash`` of a live broker, which may fail for a moment.

    Cerebro calls both on every bar; an error there would end the run, and the breaker with it.
    """

    def __init__(self, gate: Gate, ask: Callable[..., float]) -> None:
        self.gate, self.ask = gate, ask
        self.last = math.nan

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        """Return the broker's answer, or the last one that it gave."""
        try:
            answer = self.ask(*args, **kwargs)
        except Exception:  # a store raises whatever its client raises
            if not self.gate.intervenes:
                raise
            return self.last
        if not (args or kwargs):
            self.last = answer
        return answer


class UserEquity:
    """Call the user's own ``equity=`` once a tick; an answer that is no number is unknown, NaN."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._tick, self._value = -1, math.nan

    def value(self) -> float:
        """Return the equity of this tick."""
        if self._tick != self.gate.ticks:
            self._tick = self.gate.ticks
            self._value = _number(self.gate.live.equity)
        return self._value


class EquityMonitor:
    """Check the value that the wrapped broker reports, once a tick.

    `value` is the broker's, or cash and positions marked at the last close where the broker's is
    not finite, not positive, does not move, or jumps by more than `equity_jump_limit` without a
    price to explain it. Where cash and positions do not explain it either, it is NaN: entries are
    refused, and nothing is sold. A jump that lasts for `equity_confirmations` samples is accepted:
    it is a deposit, or a price that has not closed yet.

    Attributes
    ----------
    limit : float
        Fraction of equity that the value may move by without a price to explain it.
    confirmations : int
        Samples for which such a move must last.
    source : str
        Where the last value is from: ``"broker"``, ``"positions"`` or ``"unknown"``.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate, self.book = gate, gate.book
        self.limit = gate.live.equity_jump_limit
        self.confirmations = gate.live.equity_confirmations
        self.source = ""
        self._tick, self._value = -1, math.nan
        # The last accepted value, and what the account holds beside cash and the positions known.
        self._anchor, self._other = math.nan, 0.0
        # Value of the positions, and cash from fills, when that value was accepted.
        self._marked = self._flow = 0.0
        # Samples that an unexplained move has lasted, and when the next one counts.
        self._doubts, self._next_doubt_at, self._doubt_round = 0, 0.0, -1
        # The last reported value, and the price changes that it has not followed.
        self._reported, self._still, self._unmoved = math.nan, 0, 0.0

    def value(self) -> float:
        """Return the equity of this tick, NaN while it is unknown."""
        if self._tick != self.gate.ticks:
            self._tick = self.gate.ticks
            self._value = self._check()
        return self._value

    # -- checking --------------------------------------------------------------------------------

    def _check(self) -> float:
        reported, move = _number(self.gate.inner.getvalue), self._explained()
        if reported == self._reported and self.source == "broker" and not move:
            return self._anchor  # nothing has happened: the cash need not be requested as well
        if self._is_of_the_past():
            return math.nan
        if self._unsettled():
            return reported if reported > 0.0 else math.nan
        cash, held = _number(self.gate.inner.getcash), self._held()
        marked = cash + held + self._other
        expected = self._anchor + move
        self._count_still(reported, move)
        sound = self._is_equity(reported, cash, held)
        if sound and (self._near(reported, expected) or self._lasts(reported, marked)):
            return self._accept(reported, "broker", cash + held)
        if self._near(marked, expected):
            return self._accept(marked, "positions", cash + held, reported)
        return self._refuse(reported, marked, expected)

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
        if self._still >= _FROZEN_CHANGES and self._unmoved > _FROZEN_MOVE * self._anchor:
            return False
        left_out = bool(held) and abs(reported - cash) <= _LEFT_OUT * abs(held)
        return not (left_out and self._is_held())

    def _is_held(self) -> bool:
        """Return whether the broker holds anything: a sale may not have been notified yet."""
        positions = [self.gate.venue.position(i.data) for i in self.book.instruments if i.size]
        return any(position is not None and position.size for position in positions)

    def _lasts(self, reported: float, marked: float) -> bool:
        """Return whether a jump has lasted long enough, and is not beyond what prices can do."""
        now, rounds = self.gate.live.clock(), self.book.rounds
        if now >= self._next_doubt_at or rounds != self._doubt_round:
            # Samples of one moment are one: a loop asks many times a second.
            self._doubts += 1
            self._next_doubt_at, self._doubt_round = now + self.gate.live.retry_after, rounds
        could_move = _PRICE_MOVE * self._gross() + _CENTS * abs(marked)
        return self._doubts >= self.confirmations and abs(reported - marked) <= could_move

    def _near(self, value: float, expected: float) -> bool:
        """Return whether prices explain a value; the first one is accepted."""
        if not (math.isfinite(value) and value > 0.0):
            return False
        return math.isnan(expected) or abs(value - expected) <= self.limit * abs(expected)

    def _count_still(self, reported: float, move: float) -> None:
        """Count the price changes that the broker's value does not follow."""
        if reported != self._reported or math.isnan(reported):
            self._reported, self._still, self._unmoved = reported, 0, 0.0
        elif abs(move) > 0.0:
            self._still += 1
            self._unmoved += abs(move)

    def _accept(
        self, value: float, source: str, marked: float, reported: float = math.nan
    ) -> float:
        if source == "broker":
            self._doubts = 0
            if not self._still:  # a value that does not move does not show what else there is
                self._other = value - marked if math.isfinite(marked) else 0.0
        self._report(source, value, reported)
        self._anchor, self._flow = value, self.gate.fill_tracker.flow
        self._marked = self._value_held()
        return value

    def _refuse(self, reported: float, marked: float, expected: float) -> float:
        self._report("unknown", math.nan, reported, marked, expected)
        return math.nan

    # -- what prices explain ---------------------------------------------------------------------

    def _explained(self) -> float:
        """Return the change of the account by prices and fills since the last sample."""
        return self._value_held() - self._marked + self.gate.fill_tracker.flow - self._flow

    def _value_held(self) -> float:
        return sum([i.size * i.value for i in self.book.instruments if i.size])

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
        return sum([abs(i.size) * i.value for i in self.book.instruments if i.size])

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


def _number(source: Callable[[], Any] | None) -> float:
    """Return the answer of a callable as a number, NaN where it fails or is not finite."""
    try:
        value = float(source()) if source is not None else math.nan
    except Exception:  # a store may raise anything, and one sample is not worth a run
        return math.nan
    return value if math.isfinite(value) else math.nan
