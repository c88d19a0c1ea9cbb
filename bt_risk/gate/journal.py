"""Journal: one line for every decision: what was requested, what was allowed, and why."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import backtrader as bt

from bt_risk.live.differences import DIFFERENCES
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import ClosedTrade

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

# These actions are logged as warnings; the others are only in the journal.
_LOUD = {"halt", "over", "reduce", "resume", "open", "starved", "unprotected"}
_LOUD |= {"emulated", "equity", "stale", "doubt", "bypass", "silent", "request", "flow"}
_LOUD |= {"unanswered", "unfinished", "left over", "margin", "margin call", "liquidation"}
_LOUD |= set(DIFFERENCES)


# The start of a live run stands in the log, and is no warning.
_LEVELS = {"start": logging.INFO}


class Journal:
    """The decisions of one run, oldest first, as tuples of `FIELDS`, and its closed trades.

    `orders` has the ref of the order that a line is about, by the number of the line.

    Actions: ``allow``, ``trim`` and ``reject`` judge an order; ``exit`` passes a reducing order
    that would have been lost; ``stop`` is a protective stop that filled; ``halt``, ``flat`` and
    ``rearm`` belong to the breaker; ``over`` and ``flat`` to the guards of a day; ``halt``,
    ``reduce``, ``resume``, ``flat`` and ``open`` (a position or an entry that a run leaves open
    when a signal ends it) to the kill switch; ``starved`` to the sizer; ``unprotected`` says that a
    position has no stop, ``emulated`` that this process is its stop; ``equity``, ``stale`` and
    ``doubt`` that the account, a data feed or an order cannot be trusted; ``bypass`` that an order,
    a position or a broker got around the gate; those in `DIFFERENCES` that the broker's book is not
    that of the gate; ``silent`` that a strategy has ordered nothing since a stop closed its
    position; ``request`` that an operator has requested something, with the answer; ``unanswered``
    that the broker answers no request to cancel an order, ``left over`` that such a stop may
    outlive its position, ``unfinished`` that a position which is being closed stands still;
    ``flow`` is a deposit or a withdrawal; ``margin call`` and ``liquidation`` belong to a margin
    account, ``margin`` says that its venue reports no margin ratio; ``start`` what a live run with
    a state file has restored;
    ``pick`` is a name that a screener has picked, ``unranked`` one that it cannot rank, and why;
    ``note`` explains what a user may wonder about.
    Loud lines are logged as warnings and passed to `notify`.

    Parameters
    ----------
    quiet : bool
        Whether nothing is loud: in observe mode nothing has happened.
    notify : callable, optional
        Called with one sentence for every loud line.
    """

    def __init__(self, quiet: bool = False, notify: Callable[[str], None] | None = None) -> None:
        self.quiet, self.notify = quiet, notify
        self.lines: list[tuple[Any, ...]] = []
        self.trades: list[ClosedTrade] = []
        self.orders: dict[int, int] = {}
        self._book = Book()
        self._noted: set[object] = set()

    def begin(self, book: Book) -> None:
        """Take times and closed trades from the book of a run."""
        self._book, self.trades = book, book.trades

    def once(self, key: object) -> bool:
        """Return whether a note with this key is to be written: the first time only."""
        first = key not in self._noted
        self._noted.add(key)
        return first

    def account(self, rule: str, action: str, reason: str, **numbers: float) -> None:
        """Add a line about the whole account."""
        self.record(self._book.latest, "", rule, action, reason=reason, **numbers)

    def instrument(
        self, instrument: Instrument, rule: str, action: str, reason: str, **numbers: float
    ) -> None:
        """Add a line about one instrument."""
        self.record(instrument.time, instrument.name, rule, action, reason=reason, **numbers)

    def order(
        self, order: Any, rule: str, action: str, reason: str, allowed: float = math.nan
    ) -> None:
        """Add a line about an order that was sent before."""
        instrument = self._book.by_data[id(order.data)]
        self.orders[len(self.lines)] = order.ref
        self.instrument(
            instrument, rule, action, reason, requested=abs(order.size), allowed=allowed
        )

    def record(
        self,
        time: float,
        data: str,
        rule: str,
        action: str,
        requested: float = math.nan,
        allowed: float = math.nan,
        measured: float = math.nan,
        limit: float = math.nan,
        reason: str = "",
    ) -> None:
        """Add one line; sizes are unsigned units, `time` is a Backtrader date number."""
        # With exactbars prices are numpy scalars; readers expect plain numbers.
        numbers = [float(n) for n in (requested, allowed, measured, limit)]
        self.lines.append((float(time), data, rule, action, *numbers, reason))
        loud = action in _LOUD and not self.quiet
        level = logging.WARNING if loud else _LEVELS.get(action, logging.DEBUG)
        if _log.isEnabledFor(level):
            _log.log(level, "%s", _sentence(time, data, action, reason))
        if loud and self.notify is not None:
            self.notify(_sentence(time, data, action, reason))


def _sentence(time: float, data: str, action: str, reason: str) -> str:
    when = bt.num2date(time).isoformat(" ", "seconds") if time == time else "before start"
    where = f" {data}" if data else ""
    return f"{when}{where} {action} {reason}"
