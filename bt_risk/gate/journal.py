"""One line for every decision: what was asked, what was allowed, and why."""

import logging
import math

import backtrader as bt

__all__ = ["FIELDS", "Journal"]

FIELDS = (
    "time",
    "data",
    "rule",
    "action",
    "requested",
    "allowed",
    "measured",
    "limit",
    "reason",
)

_log = logging.getLogger("bt_risk")

# What a user should hear about without asking; the rest is in the journal.
_LOUD = {"halt", "reduce", "resume", "open", "starved", "unprotected"}
_LOUD |= {"emulated", "equity", "stale", "doubt"}


class Journal:
    """The decisions of one run, oldest first, as tuples of `FIELDS`, and its closed trades.

    Actions: ``allow``, ``trim`` and ``reject`` judge an order; ``exit`` passes a reducing order
    that would have been lost; ``stop`` is a protective stop that filled; ``halt``, ``flat`` and
    ``rearm`` belong to the breaker; ``halt``, ``reduce``, ``resume``, ``flat`` and ``open`` (what a
    run that a signal has ended leaves open) to the kill switch; ``starved`` to the sizer;
    ``unprotected`` says that a position has no stop, ``emulated`` that this process is its stop;
    ``equity``, ``stale`` and ``doubt`` that the account, a data or an order is not to be trusted;
    ``note`` says what a user may wonder about. What is loud is logged as a warning, and passed to
    `notify` as one sentence.

    A `quiet` journal logs nothing as a warning: in observe mode nothing has happened.

    Parameters
    ----------
    quiet : bool
    notify : callable, optional
        Called with one sentence for every loud line.
    """

    def __init__(self, quiet=False, notify=None):
        self.quiet, self.notify = quiet, notify
        self.lines = []
        self.trades = []
        self._book = None

    def begin(self, book):
        """Take times and closed trades from the book of a run."""
        self._book, self.trades = book, book.trades

    def account(self, rule, action, reason, **numbers):
        """Add a line about the whole account."""
        self.record(self._book.latest, "", rule, action, reason=reason, **numbers)

    def instrument(self, instrument, rule, action, reason, **numbers):
        """Add a line about one instrument."""
        self.record(instrument.time, instrument.name, rule, action, reason=reason, **numbers)

    def order(self, order, rule, action, reason, allowed=math.nan):
        """Add a line about an order that was sent before."""
        instrument = self._book.find(order.data)
        self.instrument(
            instrument, rule, action, reason, requested=abs(order.size), allowed=allowed
        )

    def record(
        self,
        time,
        data,
        rule,
        action,
        requested=math.nan,
        allowed=math.nan,
        measured=math.nan,
        limit=math.nan,
        reason="",
    ):
        """Add one line; sizes are unsigned units, `time` is a Backtrader date number."""
        # With exactbars prices are numpy scalars, which are no plain values to a reader.
        numbers = [float(n) for n in (requested, allowed, measured, limit)]
        self.lines.append((float(time), data, rule, action, *numbers, reason))
        loud = action in _LOUD and not self.quiet
        level = logging.WARNING if loud else logging.DEBUG
        if _log.isEnabledFor(level):
            _log.log(level, "%s", _sentence(time, data, action, reason))
        if loud and self.notify is not None:
            self.notify(_sentence(time, data, action, reason))


def _sentence(time, data, action, reason):
    when = bt.num2date(time).isoformat(" ", "seconds") if time == time else "before start"
    where = f" {data}" if data else ""
    return f"{when}{where} {action} {reason}"
