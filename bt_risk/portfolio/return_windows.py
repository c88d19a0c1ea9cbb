"""Windows of closes for the limits that use returns, filled as bars close."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bt_risk.portfolio.loaded_instrument import LoadedInstrument
from bt_risk.rules.frames import FloatArray
from bt_risk.rules.time_frames import TimeFrames

if TYPE_CHECKING:
    import pandas as pd

    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.rules.return_model import ReturnModel

__all__ = ["ReturnWindows"]

_LOADED = {LoadedInstrument}
# Bars whose closes are taken out of the lines at once.
_BLOCK = 64


class _Block(NamedTuple):
    """Hold the next bars of instruments that hold all of theirs.

    `times` are those of the first instrument, or None where they are not those of all, one after
    the other; `own` are those of each. `closes` has a row for each bar.
    """

    times: array[float] | None
    own: list[array[float]]
    closes: FloatArray


class ReturnWindows:
    """Windows of the closes of all instruments, one for each `ReturnModel` that a limit adds.

    Of the copies of one instrument only the first has closes here: it has the most bars. Without a
    model it is not `active`: no closes are needed.
    """

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._instruments = list(instruments)
        self._leads = [one for one in self._instruments if one.copies[0] is one]
        self._names = [instrument.name for instrument in self._instruments]
        # Bars that have closed and are not added yet; where they begin, and the block of them,
        # which lasts until a bar of one instrument comes without one of every other.
        self._pending, self._bars = 0, [0]
        self._block: _Block | None = None
        self._used = 0
        self.active = False
        self._frames: dict[tuple[int, ...], TimeFrames] = {}
        self._histories: dict[tuple[int, ...], tuple[pd.DataFrame, str]] = {}
        self._updates: tuple[Any, ...] = ()
        self._no_closes = [math.nan] * len(self._names)

    def __getitem__(self, model: ReturnModel) -> TimeFrames:
        if self._pending:
            self._read_bars()
        return self._frames[model.key]

    def add(self, model: ReturnModel, history: tuple[pd.DataFrame, str] | None = None) -> None:
        """Collect the closes that a `ReturnModel` needs from now on.

        `history` is ``(frame, kind)``, a DataFrame of prices or returns with a column per name and
        an index of date numbers; its rows before the first bar of the run fill the window.
        """
        if model.key not in self._frames:
            self._frames[model.key] = TimeFrames(self._names, *model.key)
            self.active = True
            self._updates = tuple(frames.update for frames in self._frames.values())
        if history is not None:
            self._histories[model.key] = history

    def update(self, fresh: Sequence[Instrument]) -> None:
        """Add the bars of these instruments that have just closed, in order of time.

        Where every instrument holds all of its bars and has a new one, they are added when somebody
        reads the windows.
        """
        if len(fresh) == len(self._instruments) and set(map(type, fresh)) == _LOADED:
            if not self._pending and self._block is None:
                self._bars = [one.length - 1 for one in self._leads]
            self._pending += 1
            return
        if self._pending:
            self._read_bars()
        self._block = None
        self._add(fresh)

    def _read_bars(self) -> None:
        """Add the bars that have closed since the windows were read last."""
        while self._pending:
            if self._block is None or self._used == len(self._block.closes):
                self._block, self._used = self._next_block(), 0
            begin = self._used
            count = min(self._pending, len(self._block.closes) - begin)
            self._pending, self._used = self._pending - count, begin + count
            self._add_bars(self._block, begin, begin + count)

    def _next_block(self) -> _Block:
        """Return the next bars of all instruments, the first that is not added yet and others."""
        leads: list[tuple[Any, int]] = list(zip(self._leads, self._bars, strict=True))
        size = min([_BLOCK, *[len(one.close.array) - k for one, k in leads]])
        own = [one.datetime.array[k : k + size] for one, k in leads]
        closes = np.full((size, len(self._names)), math.nan)
        for one, k in leads:
            closes[:, one.index] = LoadedInstrument.closes(one, k, size)
        self._bars = [k + size for k in self._bars]
        same = _increasing(own[0]) and all(some == own[0] for some in own[1:])
        return _Block(own[0] if same else None, own, closes)

    def _add_bars(self, block: _Block, begin: int, end: int) -> None:
        """Add these bars of a block."""
        if self._histories:
            self._seed(before=min([some[begin] for some in block.own]))
        closes = block.closes[begin:end]
        if block.times is not None and not np.isnan(closes).any():
            for frames in self._frames.values():
                frames.extend(block.times[begin:end], closes)
            return
        for k in range(begin, end):
            self._add_by_time([some[k] for some in block.own], block.closes[k])

    def _add_by_time(self, times: Sequence[float], closes: FloatArray) -> None:
        """Add the closes of the first copies, each at a time of its own, in order of time."""
        leads = [one.index for one in self._leads]
        for time in sorted(set(times)):
            row = self._no_closes[:]
            for index, own in zip(leads, times, strict=True):
                if own == time:
                    row[index] = closes[index]
            for update in self._updates:
                update(time, row)

    def _add(self, fresh: Iterable[Instrument]) -> None:
        fresh = [i for i in fresh if i.time == i.time and i.copies[0] is i]
        if not fresh:
            return
        if self._histories:
            self._seed(before=min([instrument.time for instrument in fresh]))
        time = fresh[0].time
        for instrument in fresh:
            if instrument.time != time:
                self._push_by_time(fresh)
                return
        self._push(time, fresh)

    @property
    def depth(self) -> int:
        """Number of closes of one name in the longest window."""
        return max((key[0] * key[-1] for key in self._frames), default=0) + 1

    def replay(self, rows: Iterable[tuple[float, Mapping[str, float]]]) -> None:
        """Add saved closes, given as ``(time, {name: close})``, oldest first."""
        self._histories = {}
        rows = list(rows)
        for frames in self._frames.values():
            frames.expect([_shortest(name, rows) for name in self._names])
        for time, known in rows:
            closes = [known.get(name, math.nan) for name in self._names]
            for update in self._updates:
                update(time, closes)

    def _seed(self, before: float) -> None:
        for key, (frame, kind) in self._histories.items():
            self._frames[key].seed(frame, kind=kind, before=before)
        self._histories = {}

    def _push_by_time(self, fresh: Sequence[Instrument]) -> None:
        for time in sorted({instrument.time for instrument in fresh}):
            self._push(time, [i for i in fresh if i.time == time])

    def _push(self, time: float, instruments: Iterable[Instrument]) -> None:
        closes = self._no_closes[:]
        for instrument in instruments:
            closes[instrument.index] = instrument.closed
        for update in self._updates:
            update(time, closes)


def _increasing(times: Sequence[float]) -> bool:
    return all(before < after for before, after in pairwise(times))


def _shortest(name: str, rows: Sequence[tuple[float, Mapping[str, float]]]) -> float:
    """Return the shortest time between two closes of a name, NaN with fewer than two."""
    times = [time for time, known in rows if name in known]
    gaps = [later - time for time, later in pairwise(times) if later > time]
    return min(gaps, default=math.nan)
