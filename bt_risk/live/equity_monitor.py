"""What the account is worth: the one place that sizer, gate and breaker ask.

Backtrader's own simulation is asked directly. Everybody else's value is compared with what prices
and fills explain: some stores report a number that never moves, leaves out what is held, or fails
for a moment, and a breaker that believes it would sell everything for nothing.
"""

import math

__all__ = ["EquityMonitor", "LastKnownValue", "UserEquity"]

# A value that stands still through so many price changes, worth at least this, is not equity.
_FROZEN_CHANGES = 3
_FROZEN_MOVE = 1e-4
# The value leaves out what is held if it is cash, but for this part of what is held.
_LEFT_OUT = 0.05
# What is held does not lose or gain more than this between two closes, for all we know: a value
# beyond it leaves positions out.
_PRICE_MOVE = 0.5
_CENTS = 0.01


class LastKnownValue:
    """Stand in for ``getvalue`` or ``getcash`` of a live broker, which may fail for a moment.

    Cerebro asks for both on every bar; an error there would end the run, and the breaker with it.
    """

    def __init__(self, gate, ask):
        self.gate, self.ask = gate, ask
        self.last = math.nan

    def __call__(self, *args, **kwargs):
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
    """The user's own ``equity=``, asked once a tick; what is no number is NaN: unknown."""

    def __init__(self, gate):
        self.gate = gate
        self._tick, self._value = None, math.nan

    def value(self):
        """Return the equity of this tick."""
        if self._tick != self.gate.ticks:
            self._tick = self.gate.ticks
            self._value = _ask(self.gate.live.equity)
        return self._value


class EquityMonitor:
    """Judge the value that the broker inside reports, once a tick.

    `value` is the broker's, or cash and positions marked at the last close where the broker's is
    not finite, not positive, does not move, or jumps by more than `equity_jump_limit` without a
    price to explain it. Where that is no better, it is NaN: entries are refused, nothing is sold.
    A jump that stands for `equity_confirmations` samples is believed: a deposit, or a price that
    has not closed yet.
    """

    def __init__(self, gate):
        self.gate, self.book = gate, gate.book
        self.limit = gate.live.equity_jump_limit
        self.confirmations = gate.live.equity_confirmations
        self.source = ""
        self._tick, self._value = None, math.nan
        self._anchor, self._other = math.nan, 0.0
        self._marked = self._flow = 0.0
        self._doubts, self._doubt_again, self._doubted = 0, 0.0, -1
        self._reported, self._still, self._unmoved = math.nan, 0, 0.0

    def value(self):
        """Return the equity of this tick, NaN while it is unknown."""
        if self._tick != self.gate.ticks:
            self._tick = self.gate.ticks
            self._value = self._judge()
        return self._value

    # -- judging ---------------------------------------------------------------------------------

    def _judge(self):
        reported, move = _ask(self.gate.inner.getvalue), self._explained()
        if reported == self._reported and self.source == "broker" and not move:
            return self._anchor  # nothing has happened: a store is not asked for its cash as well
        if self._is_of_the_past():
            return math.nan
        if self._unsettled():
            return reported if reported > 0.0 else math.nan
        cash, held = _ask(self.gate.inner.getcash), self._held()
        marked = cash + held + self._other
        expected = self._anchor + move
        self._watch(reported, move)
        sound = self._is_equity(reported, cash, held)
        if sound and (self._near(reported, expected) or self._stands(reported, marked)):
            return self._accept(reported, "broker", cash + held)
        if self._near(marked, expected):
            return self._accept(marked, "positions", cash + held, reported)
        return self._refuse(reported, marked, expected)

    def _unsettled(self):
        """Whether the book holds what an earlier run has left, not yet laid beside the broker's."""
        unknown = self.gate.fill_tracker.unknown
        return bool(unknown) and any(i.size for i in self.book.instruments if i.index in unknown)

    def _is_of_the_past(self):
        """Whether something is held at a price that it had once: many a broker marks it so, too."""
        behind = self.gate.feed_monitor.behind
        return any(behind(i) for i in self.book.instruments if i.size)

    def _is_equity(self, reported, cash, held):
        """Whether a value is one, moves, and counts what is held."""
        if not reported > 0.0:
            return False
        if self._still >= _FROZEN_CHANGES and self._unmoved > _FROZEN_MOVE * self._anchor:
            return False
        left_out = held and abs(reported - cash) <= _LEFT_OUT * abs(held)
        return not (left_out and self._is_held())

    def _is_held(self):
        """Whether the broker holds anything: the news of a sale may not have been taken in yet."""
        positions = [self.gate.venue.position(i.data) for i in self.book.instruments if i.size]
        return any(position is not None and position.size for position in positions)

    def _stands(self, reported, marked):
        """Whether a jump has stood long enough, and is not beyond what prices can do."""
        now, rounds = self.gate.live.clock(), self.book.rounds
        if now >= self._doubt_again or rounds != self._doubted:
            # Samples of one moment are one: a loop asks many times a second.
            self._doubts += 1
            self._doubt_again, self._doubted = now + self.gate.live.retry_after, rounds
        could_move = _PRICE_MOVE * self._gross() + _CENTS * abs(marked)
        return self._doubts >= self.confirmations and abs(reported - marked) <= could_move

    def _near(self, value, expected):
        """Whether prices explain a value; the first one is believed."""
        if not (math.isfinite(value) and value > 0.0):
            return False
        return math.isnan(expected) or abs(value - expected) <= self.limit * abs(expected)

    def _watch(self, reported, move):
        """Count the price changes that the broker's value does not answer to."""
        if reported != self._reported or math.isnan(reported):
            self._reported, self._still, self._unmoved = reported, 0, 0.0
        elif abs(move) > 0.0:
            self._still += 1
            self._unmoved += abs(move)

    def _accept(self, value, source, marked, reported=math.nan):
        if source == "broker":
            self._doubts = 0
            if not self._still:  # a value that does not move says nothing of what else there is
                self._other = value - marked if math.isfinite(marked) else 0.0
        self._say(source, value, reported)
        self._anchor, self._flow = value, self.gate.fill_tracker.flow
        self._marked = self._value_held()
        return value

    def _refuse(self, reported, marked, expected):
        self._say("unknown", math.nan, reported, marked, expected)
        return math.nan

    # -- what prices say -------------------------------------------------------------------------

    def _explained(self):
        """Return what prices and fills have made of the account since the last sample."""
        return self._value_held() - self._marked + self.gate.fill_tracker.flow - self._flow

    def _value_held(self):
        return sum([i.size * i.value for i in self.book.instruments if i.size])

    def _held(self):
        """Return what the positions add to cash, in currency."""
        return sum([self._worth(i) for i in self.book.instruments if i.size])

    def _worth(self, instrument):
        info = self.gate.inner.getcommissioninfo(instrument.data)
        if getattr(info, "stocklike", True):
            return instrument.size * instrument.value
        entered = sum([part.size * part.price for part in instrument.parts])
        # A future costs nothing to hold: only what it has made is added to cash.
        return instrument.size * instrument.value - entered * instrument.multiplier

    def _gross(self):
        return sum([abs(i.size) * i.value for i in self.book.instruments if i.size])

    def _say(self, source, value, reported, marked=math.nan, expected=math.nan):
        if source == self.source or (source == "broker" and not self.source):
            self.source = source
            return
        self.source = source
        text = {
            "broker": f"the broker's value {value:.6g} is used again",
            "positions": f"the broker's value {reported:.6g} is not equity; cash and positions, "
            f"{value:.6g}, are used",
            "unknown": f"unknown: the broker says {reported:.6g}, cash and positions are "
            f"{marked:.6g}, {expected:.6g} was expected. Pass equity=, a callable that knows it",
        }[source]
        action = "note" if source == "broker" else "equity"
        self.gate.journal.account("Equity", action, f"Equity: {text}")


def _ask(source):
    """Return a number from a callable of others, NaN for whatever else comes of it."""
    try:
        value = float(source())
    except Exception:  # a store may raise anything, and one sample is not worth a run
        return math.nan
    return value if math.isfinite(value) else math.nan
