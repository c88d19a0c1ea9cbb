"""SavedCloses: the closes from which the next run rebuilds its windows of returns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.return_windows import ReturnWindows

__all__ = ["Closes", "SavedCloses", "thinned"]

# Closes by time in days and by name of the instrument.
Closes = dict[float, dict[str, float]]


class SavedCloses:
    """Collect the closes of a run, as many as the windows look back on.

    Parameters
    ----------
    windows : ReturnWindows
        The windows of the run.
    saved : dict
        Closes of the last run, ``{repr(time): {name: close}}``.

    Attributes
    ----------
    rows : dict
        Closes to save, ``{time: {name: close}}``.
    decided : bool
        Whether the first bar has shown if bars are missing since the last run: the saved closes
        have then been restored or forgotten.
    """

    def __init__(self, windows: ReturnWindows, saved: dict[str, dict[str, float]]) -> None:
        self._windows = windows
        self.rows: Closes = dict(sorted((float(key), row) for key, row in saved.items()))
        self.decided = False
        self._room = 0.0

    def restore(self) -> None:
        """Fill the windows from the saved closes."""
        self.decided = True
        if self.rows:
            self._windows.replay(self.rows.items())

    def forget(self) -> None:
        """Begin with empty windows: bars are missing since the saved closes."""
        self.rows, self.decided = {}, True

    def add(self, instruments: Iterable[Instrument]) -> None:
        """Add the last closes of these instruments."""
        if not self.decided or not self._windows.active:
            return
        for one in instruments:
            if one.lead is one and one.closed == one.closed:
                self.rows.setdefault(one.time, {})[one.name] = one.closed
        if len(self.rows) > self._room:
            self.rows = thinned(self.rows, self._windows.depth)
            self._room = 1.25 * len(self.rows)


def thinned(closes: Closes, depth: int) -> Closes:
    """Return the closes that the windows are rebuilt from, oldest first.

    Those are the last `depth` of each name and, where another name has bars so old that these do
    not reach back to them, the last one before each of those bars ended; and the last one of each
    at or below zero, where no return exists.

    Parameters
    ----------
    closes : dict
        ``{time: {name: close}}``, times in days.
    depth : int
        Closes that a window looks back on.
    """
    times: dict[str, list[float]] = {}
    for time in sorted(closes):
        for name in closes[time]:
            times.setdefault(name, []).append(time)
    last = {name: of_name[-depth:] for name, of_name in times.items()}
    ends = {time for of_name in last.values() for time in of_name}
    ends |= {time + 1.0 for time in ends if time == int(time)}  # a day that is stamped at midnight
    rows: Closes = {}
    for name, of_name in times.items():
        before = [end for end in ends if of_name[0] <= end < last[name][0]]
        older = {of_name[bisect_right(of_name, end) - 1] for end in before}
        below = [time for time in of_name if closes[time][name] <= 0.0][-1:]
        for time in older.union(last[name], below):
            rows.setdefault(time, {})[name] = closes[time][name]
    return dict(sorted(rows.items()))
