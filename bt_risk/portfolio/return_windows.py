"""The windows of closes that limits ask for, filled as bars close."""

import math
from itertools import pairwise

from bt_risk.rules.time_frames import TimeFrames

__all__ = ["ReturnWindows"]


class ReturnWindows:
    """Windows of the closes of all instruments, one for each window that a limit asks for.

    Copies of one instrument speak with the copy that was there first: it has the most closes.
    """

    def __init__(self, instruments):
        self._names = [instrument.name for instrument in instruments]
        self._frames = {}
        self._histories = {}
        self._updates = ()
        self._no_closes = [math.nan] * len(self._names)

    def __bool__(self):
        return bool(self._frames)

    def __getitem__(self, model):
        return self._frames[model.key]

    def add(self, model, history=None):
        """Keep the closes that a `ReturnModel` needs.

        `history` is ``(frame, kind)``, indexed by date numbers; what lies before the first bar of
        the run fills the window.
        """
        if model.key not in self._frames:
            self._frames[model.key] = TimeFrames(self._names, *model.key)
            self._updates = tuple(frames.update for frames in self._frames.values())
        if history is not None:
            self._histories[model.key] = history

    def update(self, fresh):
        """Take in the bars of these instruments that have just closed, in order of time."""
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
    def depth(self):
        """How many closes of a name the longest window looks back on."""
        return max((key[0] * key[-1] for key in self._frames), default=0) + 1

    def replay(self, rows):
        """Take in ``(time, {name: close})`` that an earlier run has kept, oldest first."""
        self._histories = {}
        rows = list(rows)
        for frames in self._frames.values():
            frames.expect([_shortest(name, rows) for name in self._names])
        for time, known in rows:
            closes = [known.get(name, math.nan) for name in self._names]
            for update in self._updates:
                update(time, closes)

    def _seed(self, before):
        for key, (frame, kind) in self._histories.items():
            self._frames[key].seed(frame, kind=kind, before=before)
        self._histories = {}

    def _push_by_time(self, fresh):
        for time in sorted({instrument.time for instrument in fresh}):
            self._push(time, [i for i in fresh if i.time == time])

    def _push(self, time, instruments):
        closes = self._no_closes[:]
        for instrument in instruments:
            closes[instrument.index] = instrument.closed
        for update in self._updates:
            update(time, closes)


def _shortest(name, rows):
    times = [time for time, known in rows if name in known]
    gaps = [later - time for time, later in pairwise(times) if later > time]
    return min(gaps, default=math.nan)
