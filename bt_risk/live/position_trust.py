"""PositionTrust: which instruments share a position at the broker, and whether its count is used.

A store may count in other units, report no position at all, or answer for a while with the position
from before a fill. An order of ours for a false position would open one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from bt_risk.live.broker_view import Look
from bt_risk.portfolio.instrument import Instrument
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["Pool", "PositionTrust", "booked", "is_compensated", "tolerance"]

# Instruments that are one contract at the venue.
Pool = tuple[Instrument, ...]

# Seconds in which a broker may still answer with the position from before a fill.
_LAG = 15.0
# Seconds between two checks of the position after a fill, and how often it is checked.
_CHECK_EVERY, _CHECKS = 1.0, 30
# Brokers round to eight digits.
_ROUNDING = 1e-8


class PositionTrust:
    """Judge the positions that the broker of one `RiskBroker` reports."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._trusted: set[int] = set()
        self._disagreed: set[int] = set()
        self._checks: dict[int, int] = {}
        self._noticed: set[int] = set()
        self._check_due = -math.inf
        self._earlier: dict[int, deque[tuple[float, float]]] = {}
        self._filled_at: dict[int, float] = {}
        self._lag = _LAG

    # -- which instruments share a position ------------------------------------------------------

    def pool(self, instrument: Instrument) -> Pool:
        """Return the instruments that are one contract at the venue, this one among them."""
        name = getattr(instrument.data, "_dataname", None)
        if len(instrument.copies) > 1 or not isinstance(name, str):
            return instrument.copies
        book = self.gate.book.instruments
        return tuple(one for one in book if getattr(one.data, "_dataname", None) == name)

    def pools(self, traded: list[Instrument], answer: Look) -> list[Pool]:
        """Return the groups of instruments that share a position at the venue.

        A venue knows contracts, not data feeds; but a broker may answer by data feed.
        """
        pools: list[Pool] = []
        done: set[int] = set()
        for instrument in traded:
            if instrument.index in done:
                continue
            together = tuple(one for one in self.pool(instrument) if one.index in answer.sizes)
            sizes = [answer.sizes[one.index] for one in together]
            held = sizes[0]
            separate = any(size != held for size in sizes)
            if held and not separate:
                separate = all(abs(held - one.size) <= tolerance((one,), held) for one in together)
            for group in [(one,) for one in together] if separate else [together]:
                pools.append(group)
                done.update(one.index for one in group)
        return pools

    # -- whether to use what it reports ----------------------------------------------------------

    def note_fill(self, instrument: Instrument) -> None:
        """Note the position before a fill: a broker may answer with it for a while."""
        now, pool = self.gate.live.clock(), self.pool(instrument)
        rows = self._earlier.setdefault(pool[0].index, deque(maxlen=20))
        rows.append((now, booked(pool)))
        self._filled_at[pool[0].index] = now
        self._checks[pool[0].index] = 0

    def check(self) -> None:
        """Compare positions soon after a fill, to learn whether the broker's count can be used."""
        now, instruments = self.gate.live.clock(), self.gate.book.instruments
        for one in instruments:  # also what is held from before this run
            if one.size and one.index not in self._noticed:
                self._noticed.add(one.index)
                self._checks.setdefault(self.pool(one)[0].index, 0)
        if not self._checks or now < self._check_due:
            return
        self._check_due = now + _CHECK_EVERY
        for index in list(self._checks):
            pool, held = self.pool(instruments[index]), None
            if not is_compensated(pool[0], instruments):
                held = self.gate.venue.view.position(pool[0])
            sums = booked(pool), pool[0].size
            if held is not None and any(abs(held - one) <= tolerance(pool, held) for one in sums):
                self.agree(pool, held)
                continue
            self._checks[index] += 1
            if self._checks[index] > _CHECKS:
                del self._checks[index]

    def agree(self, pool: Pool, held: float) -> None:
        """Note that the broker holds what the book does."""
        index = pool[0].index
        if abs(held) > SIZE_EPS:
            self._trusted.update(one.index for one in pool)
            self._disagreed.discard(index)
        if self._checks.pop(index, 0):  # it has answered with an older position before
            now = self.gate.live.clock()
            self._lag = max(self._lag, 2.0 * (now - self._filled_at.get(index, now)))

    def is_trusted(self, instrument: Instrument) -> bool:
        """Return whether the broker and the book have agreed on a position in this run."""
        return instrument.index in self._trusted

    def believes(self, pool: Pool, held: float, answer: Look) -> bool:
        """Return whether the broker's count can be used.

        It can once both have agreed on a position, or where the book holds nothing and the number
        is not that of another instrument, which may be the same contract.
        """
        index = pool[0].index
        if index in self._trusted:
            return True
        if booked(pool) or index in self._disagreed:
            self._disagreed.add(index)
            return False
        others = [one for one in self.gate.book.instruments if one not in pool and one.size]
        return not any(answer.sizes.get(one.index) == held for one in others)

    def lags(self, pool: Pool, held: float) -> bool:
        """Return whether the answer is the position from before a fill of the last seconds."""
        now, near = self.gate.live.clock(), tolerance(pool, held)
        rows = self._earlier.get(pool[0].index, ())
        return any(now - at < self._lag and abs(held - size) <= near for at, size in rows)


def booked(pool: Pool) -> float:
    """Return what the book holds of a contract."""
    return sum([one.size for one in pool])


def tolerance(pool: Pool, held: float) -> float:
    """Return the difference that is none: rounding, and less than can be traded.

    Sums of floats differ by more, the larger they were.
    """
    largest = max([1.0, abs(held), *[part.peak for one in pool for part in one.parts]])
    return float(max(_ROUNDING * largest, 0.5 * pool[0].facts.get("step", 0.0)))


def is_compensated(instrument: Instrument, instruments: list[Instrument]) -> bool:
    """Return whether orders on one data feed change the position of another."""
    pooled = [getattr(one.data, "_compensate", None) for one in instruments]
    return pooled[instrument.index] is not None or any(p is instrument.data for p in pooled)
