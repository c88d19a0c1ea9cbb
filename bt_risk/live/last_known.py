"""LastKnownValue, LastKnownPosition: answer for a live broker that fails for a moment.

Cerebro and strategies ask for cash, value and positions on every bar. An error there would end the
run, and the breaker with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backtrader.position import Position

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["LastKnownPosition", "LastKnownValue"]


class LastKnownValue:
    """Replace ``getvalue`` or ``getcash`` of a live broker."""

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


class LastKnownPosition:
    """Replace ``getposition`` of a live broker: where it fails, the book of the gate answers."""

    def __init__(
        self, gate: Gate, ask: Callable[..., Any], failed: Callable[[Exception, str], None]
    ) -> None:
        self.gate, self.ask, self.failed = gate, ask, failed

    def __call__(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the broker's answer, or the position that the gate has booked."""
        try:
            return self.ask(data, *args, **kwargs)
        except Exception as error:  # a store raises whatever its client raises
            instrument = self.gate.book.find(data)
            if instrument is None:
                raise
            self.failed(error, "getposition")
        paid = sum([part.size * part.price for part in instrument.parts])
        return Position(instrument.size, paid / instrument.size if instrument.size else 0.0)
