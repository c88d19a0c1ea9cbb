"""Guards on what may be opened at all: which instruments, which side, and how many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_risk.errors import ParameterError, check_choice
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import Guard, check_count_limit
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["Allow", "Deny", "LongOnly", "MaxPositions"]

_SIDES = {1: "long", -1: "short", None: "long and short"}


@dataclass(frozen=True)
class _Names(Guard):
    """Refuse entries by the name of the data feed, on one side or both."""

    names: Sequence[str] = ()
    side: int | None = None

    def __post_init__(self) -> None:
        names = self.names
        listed = isinstance(names, (list, tuple, set, frozenset))
        if not listed or not all(isinstance(one, str) and one for one in names):
            raise ParameterError(self.name, "names", "a list of names of data feeds", names)
        check_choice(self.name, "side", self.side, tuple(_SIDES))
        self._set(names=tuple(names) if isinstance(names, (list, tuple)) else tuple(sorted(names)))

    def _listed(self, request: Request) -> bool:
        """Return whether the instrument, or a copy of it, is named."""
        return any(copy.name in self.names for copy in request.instrument.copies)

    def _concerned(self, request: Request) -> bool:
        return self.side is None or self.side == request.side

    def _words(self) -> str:
        return f"{_SIDES[self.side]} in {', '.join(self.names) or 'nothing'}"


@dataclass(frozen=True)
class Allow(_Names):
    """Entries of some instruments only.

    Parameters
    ----------
    names : list of str
        Names of data feeds; a resampled copy counts as the data feed that it is made of.
    side : {None, 1, -1}
        The side that is allowed in them (1 is long); the other is refused everywhere. None: both.
    """

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if self._listed(request) and self._concerned(request):
            return Decision(request.size)
        name = request.instrument.name
        reason = f"no {_SIDES[request.side]} entry in {name}: it is not in names"
        return self._refuse(reason, math.nan, math.nan)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"allowed: entries {self._words()} only"


@dataclass(frozen=True)
class Deny(_Names):
    """No entry in some instruments: a restricted list.

    Parameters
    ----------
    names : list of str
        Names of data feeds; a resampled copy counts as the data feed that it is made of.
    side : {None, 1, -1}
        The side that is refused (-1 is short); None: both.
    """

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return bool(self.names)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if not (self._listed(request) and self._concerned(request)):
            return Decision(request.size)
        reason = f"no {_SIDES[request.side]} entry in {request.instrument.name}: it is in names"
        return self._refuse(reason, math.nan, math.nan)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"denied: no entry {self._words()}"


@dataclass(frozen=True)
class LongOnly(Guard):
    """No short position: a sell order closes what is held, and opens nothing."""

    @property
    def active(self) -> bool:
        """Return True."""
        return True

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if request.side > 0:
            return Decision(request.size)
        return self._refuse(f"no short entry in {request.instrument.name}", math.nan, math.nan)

    def describe(self) -> str:
        """Return the rule in words."""
        return "long only: no short entry"


@dataclass(frozen=True)
class MaxPositions(Guard):
    """No entry in one more instrument while so many are held, or may be opened by working orders.

    A position that a market exit closes before the entry fills does not count. Adding to a position
    is no new one. Resampled copies of an instrument are one.

    Parameters
    ----------
    n : int, default 10
        Instruments; None or infinity switches the guard off.
    """

    n: float = 10

    def __post_init__(self) -> None:
        self._set(n=check_count_limit(self.name, "n", self.n))

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.n)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        others = {
            one.lead.index
            for one in book.exposure.live()
            if one.root is not request.instrument.root and not self._leaves(one, book)
        }
        count = len(others)
        if count < self.n:
            return Decision(request.size)
        return self._refuse(f"{count} other instruments held >= n {self.n}", count, self.n)

    @staticmethod
    def _leaves(instrument: Instrument, book: Book) -> bool:
        """Return whether what is held leaves before the entry fills, and nothing else may open."""
        side = 1 if instrument.size > 0 else -1
        if (instrument.index, side) not in book.gone:
            return False
        return not any(w.opening > SIZE_EPS for w in instrument.orders.values())

    def describe(self) -> str:
        """Return the rule in words."""
        return f"positions: at most {self.n} instruments at a time"
