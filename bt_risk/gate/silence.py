"""Silence: name a strategy that orders nothing any more since our stop closed its position."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from bt_risk.portfolio.position import OwnerPosition

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["Silence"]

# A strategy is silent after so many bars, and so many of its usual intervals, without an order.
_BARS, _INTERVALS = 100, 3
_FAQ = "docs/faq.md: 'My strategy traded, and then never again'"


class Silence:
    """Watch the strategies whose last position a stop of bt_risk has closed.

    A strategy that keeps a flag of its own does not learn that its position was closed. It waits
    for an exit that never comes, and its silence looks like a choice.

    Attributes
    ----------
    asked : dict of owner to list of int
        Rounds of the book in which each owner has sent an order, whatever became of it.
    """

    def __init__(self, gate: RiskBroker) -> None:
        self.gate = gate
        self.asked: defaultdict[Any, list[int]] = defaultdict(list)
        self._stopped: dict[Any, tuple[int, OwnerPosition]] = {}
        self._named: set[Any] = set()

    def stopped(self, part: OwnerPosition) -> None:
        """Remember that a stop has closed a position; this is rare enough to check the others."""
        self.check()
        if not part.size and part.owner not in self._named:
            self._stopped[part.owner] = self.gate.book.rounds, part

    def check(self) -> None:
        """Name the owners that have ordered nothing for long, once in a run."""
        now = self.gate.book.rounds
        for owner, (since, part) in list(self._stopped.items()):
            asked = self.asked[owner]
            if asked and asked[-1] >= since:
                del self._stopped[owner]
            elif now - since > _BARS and now - since > _INTERVALS * _usual_interval(asked):
                del self._stopped[owner]
                self._named.add(owner)
                self._name(part, now - since, _usual_interval(asked))

    def _name(self, part: OwnerPosition, bars: int, usual: float) -> None:
        before = f" (before that, every {usual:g} bars)" if usual else ""
        reason = (
            f"ATRTrailingStop: {type(part.owner).__name__} has ordered nothing for {bars} bars "
            f"since the stop closed its position in {part.instrument.name}{before}. If it keeps a "
            f"flag of its own, it does not know that: see {_FAQ}"
        )
        self.gate.journal.instrument(part.instrument, "ATRTrailingStop", "silent", reason)


def _usual_interval(rounds: list[int]) -> float:
    """Return the median of the rounds from one order to the next, 0.0 for less than two orders."""
    intervals = [later - earlier for earlier, later in pairwise(rounds) if later > earlier]
    return float(median(intervals)) if intervals else 0.0
