"""Bars that were loaded once, for the data feeds of every later Cerebro that reads the same file.

Backtrader's CSV feeds read their file line by line: half of a short run.
"""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import backtrader as bt

from bt_risk.evidence.forked import loaded
from bt_risk.known_engine import other_engine

__all__ = ["LoadedFeeds"]

_ENGINES = ("backtrader.", "bt_risk.", "builtins")


class _Loaded(NamedTuple):
    kind: type
    params: Mapping[str, Any]
    lines: list[array[float]]  # none where the feed cannot be loaded before a run


class LoadedFeeds:
    """Keep the bars of CSV feeds, and give them to feeds of the same class and parameters.

    Another process begins without any.
    """

    def __init__(self) -> None:
        self._known: list[_Loaded] = []

    def __reduce__(self) -> tuple[type[LoadedFeeds], tuple[()]]:
        return LoadedFeeds, ()

    def give(self, cerebro: bt.Cerebro, make: Callable[[], bt.Cerebro]) -> None:
        """Let the feeds of a Cerebro take over bars, in place of reading their files.

        `make` returns another Cerebro with the same feeds, in which those that are not known are
        loaded.
        """
        plain = [data for data in cerebro.datas if _plain(data)]
        if any(self._find(data) is None for data in plain):
            self._load(make())
        for data in plain:
            found = self._find(data)
            if found is not None and found.lines:
                data.preload = partial(_fill, data, found.lines)

    def _load(self, cerebro: bt.Cerebro) -> None:
        with loaded(cerebro):
            for data in cerebro.datas:
                if _plain(data) and self._find(data) is None:
                    lines = [line.array[:] for line in data.lines] if data.buflen() else []
                    self._known.append(_Loaded(type(data), _params(data), lines))

    def _find(self, data: Any) -> _Loaded | None:
        params = _params(data)
        known = (one for one in self._known if one.kind is type(data) and one.params == params)
        return next(known, None)


def _plain(data: Any) -> bool:
    """Return whether a feed reads a file as Backtrader does, and nothing changes its bars."""
    if other_engine() or not isinstance(data, bt.feed.CSVDataBase):
        return False
    if not isinstance(data.p.dataname, str) or data._filters or data._ffilters:
        return False
    own = [one for one in type(data).__mro__ if not one.__module__.startswith(_ENGINES)]
    members = [member for one in own for member in vars(one).values()]
    return not any(inspect.isroutine(one) or isinstance(one, property) for one in members)


def _params(data: Any) -> dict[str, Any]:
    return dict(data.p._getkwargs())


def _fill(data: Any, lines: list[array[float]]) -> None:
    """Stand for ``preload`` of a CSV feed: its lines are filled, and at their begin."""
    del data.preload
    for line, values in zip(data.lines, lines, strict=True):
        line.array = values[:]
    data.home()
    data.f.close()
    data.f = None
