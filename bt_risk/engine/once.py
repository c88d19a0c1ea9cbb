"""bulk_forward: give the lines of indicators their length at once, where it grew bar by bar."""

from __future__ import annotations

import contextlib
import math
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineBuffer

from bt_risk.engine.strategy_step import plain_line

__all__ = ["bulk_forward"]

_OBS = bt.LineIterator.ObsType


@contextlib.contextmanager
def bulk_forward(strategies: Sequence[Any]) -> Iterator[None]:
    """Let every line below some strategies grow by many bars at once while this context lasts.

    Backtrader gives the line of an observer room for the whole run, and then lengthens it by each
    bar nevertheless. An observer whose class says ``grows_by_bar`` gets no such room.
    """
    found: dict[int, Any] = {}
    for strategy in strategies:
        _collect(strategy, found)
    lines = [line for line in found.values() if _is_plain(line)]
    observers = [one for strategy in strategies for one in strategy._lineiterators[_OBS]]
    growing = [one for one in observers if getattr(one, "grows_by_bar", False)]
    bare = {id(line) for one in growing for line in one.lines.lines}
    for line in lines:
        line.forward = partial(_move if id(line) in bare else _forward, line)
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


def _move(line: Any, value: float = math.nan, size: int = 1) -> None:
    """Do what ``LineBuffer.forward`` does, without room for the bars."""
    line._idx += size
    line.lencount += size


def _forward(line: Any, value: float = math.nan, size: int = 1) -> None:
    """Do what ``LineBuffer.forward`` does."""
    _move(line, value, size)
    bars = array("d", [value]) * size
    if line.array:
        line.array.extend(bars)
    else:  # `extend` would reserve room for bars that never come
        line.array = bars
