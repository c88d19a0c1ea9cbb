"""bulk_forward: give the lines of indicators their length at once, where it grew bar by bar."""

from __future__ import annotations

import contextlib
import math
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from backtrader.linebuffer import LineBuffer

from bt_risk.engine.strategy_step import plain_line

__all__ = ["bulk_forward"]


@contextlib.contextmanager
def bulk_forward(strategies: Sequence[Any]) -> Iterator[None]:
    """Let every line below some strategies grow by many bars at once while this context lasts."""
    found: dict[int, Any] = {}
    for strategy in strategies:
        _collect(strategy, found)
    lines = [line for line in found.values() if _is_plain(line)]
    for line in lines:
        line.forward = partial(_forward, line)
    try:
        yield
    finally:
        for line in lines:
            del line.forward


def _collect(holder: Any, found: dict[int, Any]) -> None:
    """Add the lines of an object, and of all indicators and observers below it."""
    if isinstance(holder, LineBuffer):
        found[id(holder)] = holder
        return
    found.update((id(line), line) for line in holder.lines.lines)
    for others in holder._lineiterators.values():
        for other in others:
            _collect(other, found)


def _is_plain(line: Any) -> bool:
    own = type(line).forward is LineBuffer.forward and "forward" not in vars(line)
    return own and plain_line(line)


def _forward(line: Any, value: float = math.nan, size: int = 1) -> None:
    """Do what ``LineBuffer.forward`` does."""
    line._idx += size
    line.lencount += size
    bars = array("d", [value]) * size
    if line.array:
        line.array.extend(bars)
    else:  # `extend` would reserve room for bars that never come
        line.array = bars
