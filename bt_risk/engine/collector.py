"""leave_old_objects: keep the garbage collector from going through a run's objects too often."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

__all__ = ["leave_old_objects"]

# So many objects are made before the collector goes through them, and a hundred times as many
# before it goes through all of a run again; Python's own number is 700.
_YOUNG = 10_000


class _Runs:
    """The runs of this process for which older objects are frozen, by their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[int] = []
        self._before = self._during = gc.get_threshold()

    def begin(self) -> bool:
        """Freeze what exists, unless a run has; return whether `end` is to be called."""
        with self._lock:
            if not self._threads:
                self._before = young, middle, old = gc.get_threshold()
                if not gc.isenabled() or not young or gc.get_freeze_count():
                    return False  # whoever has frozen objects himself thaws them himself
                gc.freeze()
                self._during = max(young, _YOUNG), middle, old
                gc.set_threshold(*self._during)
            self._threads.append(threading.get_ident())
            return True

    def end(self) -> None:
        """Thaw what was frozen, once no other run is left."""
        with self._lock:
            self._threads.remove(threading.get_ident())
            if not self._threads:
                self._thaw()

    def forked(self) -> None:
        """Forget, in a forked process, the runs of threads that it does not have."""
        self._lock = threading.Lock()
        others = bool(self._threads)
        self._threads = [one for one in self._threads if one == threading.get_ident()]
        if others and not self._threads:
            self._thaw()

    def _thaw(self) -> None:
        gc.unfreeze()
        if gc.get_threshold() == self._during:  # nobody has set another one meanwhile
            gc.set_threshold(*self._before)


_runs = _Runs()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_runs.forked)


@contextlib.contextmanager
def leave_old_objects() -> Iterator[None]:
    """Freeze what exists while this context lasts: garbage among it waits until the end.

    Imported modules and loaded prices are more than 100,000 objects. A run that keeps its orders
    makes the garbage collector go through all of them again and again, and find nothing. It goes
    through what the run itself makes more seldom, too.
    """
    counted = _runs.begin()
    try:
        yield
    finally:
        if counted:
            _runs.end()
