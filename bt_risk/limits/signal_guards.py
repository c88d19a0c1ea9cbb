"""Guards on signals: no entry against them or without one, and risk by their conviction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bt_risk.errors import EXTREME, ParameterError, check_extreme, check_fraction, is_number
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import Guard
from bt_risk.portfolio.signals import SIDES
from bt_risk.rules.conviction import conviction_scale

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.signals import Reading

__all__ = ["ConvictionScale", "SignalGate", "SignalGuard"]


@dataclass(frozen=True)
class SignalGuard(Guard):
    """Judge entries by the signals of their instrument; the base class of such guards.

    Of several data feeds of signals for one instrument each counts, and the strictest decides.
    """

    names: Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        names = self.names
        if names is None:
            return
        listed = isinstance(names, (list, tuple)) and len(names) > 0
        if not listed or not all(isinstance(one, str) and one for one in names):
            constraint = "a list of names of data feeds, or None for all"
            raise ParameterError(self.name, "names", constraint, names)
        self._set(names=tuple(names))

    @property
    def active(self) -> bool:
        """Return True."""
        return True

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        instrument = request.instrument
        if self.names is not None and not any(c.name in self.names for c in instrument.copies):
            return Decision(request.size)
        if request.again and instrument.repeats:  # the run before the restart had its signal
            return Decision(request.size)
        readings = book.signals.of(instrument, book.latest)
        if not readings:
            return self._no_signal(f"{instrument.name} has no SignalData")
        for reading in readings:
            if reading.why:
                return self._no_signal(reading.why)
        return min((self._judge(request, book, one) for one in readings), key=_size)

    def _no_signal(self, why: str) -> Decision:
        return self._refuse(f"no signal: {why}", math.nan, math.nan)

    def _judge(self, request: Request, book: Book, signal: Reading) -> Decision:
        """Return the answer to a signal that there is."""
        raise TypeError(f"{self.name} judges nothing")

    def _where(self) -> str:
        return "" if self.names is None else f" in {', '.join(self.names)}"


@dataclass(frozen=True)
class SignalGate(SignalGuard):
    """No entry against the direction of the signal, and none without a signal.

    A resting entry is cancelled once the signal turns against it, or is too old. Positions stay.

    Parameters
    ----------
    names : list of str, optional
        Names of the data feeds whose entries need a signal; None: all.
    """

    def _judge(self, request: Request, book: Book, signal: Reading) -> Decision:
        if signal.direction == request.side:
            return Decision(request.size)
        stated = SIDES[int(signal.direction)]
        score = "" if math.isnan(signal.score) else f", score {signal.score:g}"
        reason = f"no {SIDES[request.side]} entry in {request.instrument.name}: {signal.name} is"
        return self._refuse(f"{reason} {stated}{score}", signal.direction, request.side)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"signals: no entry{self._where()} against the signal, and none without one"


@dataclass(frozen=True)
class ConvictionScale(SignalGuard):
    """The risk of a position grows with the size of the score: less for a weak signal.

    A position loses at most ``base x clip((|score| - s0) / (100 - s0), 0, 1)`` of equity at its
    stop. It is a ceiling beside the others, so that it never allows more than they do. The sign of
    the score does not count: `SignalGate` judges the direction.

    Parameters
    ----------
    base : float, optional
        Fraction of equity at a score of 100; None: the `risk_limit` that holds for the instrument.
        Where there is no such limit either, the order is scaled instead.
    s0 : float, default 20.0
        Size of the score up to which nothing is opened, in [0, 100).
    names : list of str, optional
        Names of the data feeds that it holds for; None: all.
    allow_extreme : bool, default False
        Take a `base` of 0.5 and more, which is percent by mistake otherwise.
    """

    base: float | None = None
    s0: float = 20.0
    allow_extreme: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base is not None:
            check_fraction(self.name, "base", self.base)
            check_extreme(self.name, "base", self.base, self.allow_extreme, EXTREME)
        if not is_number(self.s0) or not 0.0 <= self.s0 < 100.0:
            remedy = "Scores go from -100 to 100."
            raise ParameterError(self.name, "s0", "in [0, 100)", self.s0, remedy)

    def _judge(self, request: Request, book: Book, signal: Reading) -> Decision:
        scale: Any = conviction_scale(signal.score, self.s0)
        if math.isnan(scale):
            return self._no_signal(f"{signal.name} states no score")
        limit = self._base(request, book) * book.risk_scale
        shown = f"{signal.name} scores {signal.score:g}"
        if scale <= 0.0:
            return self._refuse(f"{shown}, not beyond s0 {self.s0:g}", signal.score, self.s0)
        if math.isinf(limit):
            if request.again or scale >= 1.0:
                return Decision(request.size)
            reason = f"{self.name}: {shown}: {scale:.4f} of the size"
            return Decision(request.size * scale, reason, self.name, scale, 1.0)
        used = book.exposure.of_owner(request.instrument, request.owner, request.side, "trade")
        return self.cap(request, book.equity, used, "risk", limit * scale, f"base x {scale:.4f} =")

    def _base(self, request: Request, book: Book) -> float:
        if self.base is not None:
            return self.base
        limit: float = request.instrument.facts.get("risk_limit", book.risk_limit)
        return limit

    def describe(self) -> str:
        """Return the rule in words."""
        base = "the risk limit" if self.base is None else f"{100.0 * self.base:g} % of equity"
        return (
            f"conviction: risk{self._where()} up to {base} at a score of 100, "
            f"nothing up to {self.s0:g}, in proportion between"
        )


def _size(decision: Decision) -> float:
    return decision.size
