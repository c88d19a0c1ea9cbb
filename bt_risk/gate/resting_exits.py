"""RestingExits: which of our exits a bar leaves alone, because its prices do not reach them.

A stop or a limit rests for many bars and fills on one. As long as only such orders are on the
queue of a BackBroker, comparing prices takes the place of trying them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.gate.simulated_execution import SimulatedExecution

__all__ = ["RestingExits"]

# The price of a resting order, the line that knows which bar it is, the opens, the lows or highs
# that reach the order, and whether the market has to fall for that.
_Resting = tuple[Any, Any, Sequence[float], Sequence[float], bool]

# Rounds after which it may be worth the time to look ahead, and how far. Where a price was amended
# before that has paid, the next look comes after twice as many rounds, at most `_LATEST`.
_LOOK_AFTER, _AHEAD, _LATEST = 8, 512, 1024


class RestingExits:
    """Compare the orders of ours on the queue of one BackBroker with the prices of a bar.

    A backtest by preloaded bars holds all of them, so that it is known for how many rounds no order
    is reached. An order executes on its bar, by the prices of that.

    `known` says that BackBroker's own calls, but for those of the gate, are what it executes with.
    `free_until` is the round of the book before which none is reached; 0 where that is not known,
    as after a change of a price. That holds as of `changes` of the book and with `last` as the last
    order of the queue, as long as BackBroker has no notification that the gate has not read.
    """

    def __init__(self, execution: SimulatedExecution) -> None:
        self.execution, self.inner = execution, execution.inner
        self.book, self.known = execution.gate.book, False
        # What rests on the queue; None: some of it does not rest.
        self._resting: Sequence[_Resting] | None = None
        self.changes, self.last = -1, None
        self.free_until = self._look_at = 0
        self._wait = _LOOK_AFTER

    def are_left_alone(self, resting: Sequence[_Resting] | None = None) -> bool:
        """Return whether trying each order of the queue on this bar would do nothing.

        With `resting` it is asked about these.
        """
        inner, whole = self.inner, resting is None
        if resting is None:
            if self.changes != self.book.changes or self.last is not inner.pending[-1]:
                self._read_queue()
            resting = self._resting
        if resting is None or inner.notifs:
            return False
        for created, line, opens, extremes, falls in resting:
            price, k = created.price, line._idx
            if falls:
                if not opens[k] > price < extremes[k]:
                    return False
            elif not opens[k] < price > extremes[k]:
                return False
        if whole and self.book.rounds >= self._look_at:
            self._look_ahead(resting)
        return True

    def _look_ahead(self, resting: Sequence[_Resting]) -> None:
        """Find for how many rounds none of these orders is reached."""
        self._wait = _LOOK_AFTER if self.free_until else min(2 * self._wait, _LATEST)
        rounds = self.book.rounds
        # A data feed gets a bar at most in a round, and this one may have begun without a bar.
        self.free_until = rounds + min([_bars_away(*one) for one in resting]) - 1
        self._look_at = max(self.free_until, rounds + self._wait)

    def is_left_alone(self, order: Any) -> bool:
        """Return whether trying an order on this bar would do nothing."""
        resting = self._waits_for(order)
        return resting is not None and self.are_left_alone([resting])

    def _read_queue(self) -> None:
        """Find what the orders of the queue wait for, if each is a resting exit of ours.

        That changes with the book, and when an order comes to the end of the queue. An order that
        has left the queue waits for nothing. The price of an order is read when it is compared.
        """
        pending = self.inner.pending
        self.changes, self.last, self._resting = self.book.changes, pending[-1], None
        self.free_until, self._look_at = 0, self.book.rounds + _LOOK_AFTER
        # What a strategy has just sent comes last.
        if self.execution.liquidation is not None or self._waits_for(pending[-1]) is None:
            return
        found = [self._waits_for(order) for order in pending]
        resting = [one for one in found if one is not None]
        self._resting = resting if len(resting) == len(found) else None

    def _waits_for(self, order: Any) -> _Resting | None:
        """Return what an order waits for; None for one that may have to be tried."""
        working = self.book.working.get(order.ref)
        ours = working is not None and working.own and order._active  # none of ours expires
        if working is None or not ours or working.kind == "market" or not self.known:
            return None
        one: Instrument = working.instrument
        held = working.part.size * working.side < 0.0 and one.data._compensate is None
        if not held or order.status == order.Partial or not one.loaded:
            return None
        falls = (working.side < 0) == (working.kind == "stop")
        return (
            order.created,
            one.close,
            one.open.array,
            (one.low if falls else one.high).array,
            falls,
        )


def _bars_away(
    created: Any, line: Any, opens: Sequence[float], extremes: Sequence[float], falls: bool
) -> int:
    """Return on how many bars from this one on an order is not reached, as far as is looked."""
    price, place = created.price, slice(line._idx, line._idx + _AHEAD)
    beyond = np.greater if falls else np.less
    away = beyond(opens[place], price) & beyond(extremes[place], price)
    return len(away) if away.all() else int(away.argmin())
