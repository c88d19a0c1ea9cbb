"""CPU time of runs that take turns, and ratios of it."""

import gc
import os
import statistics
import time
from dataclasses import dataclass

import numpy as np

try:
    import resource
except ImportError:  # Windows
    resource = None

__all__ = ["Spread", "cpu_seconds", "parts_of_cpu", "ratios", "take_turns"]


@dataclass(frozen=True)
class Spread:
    """The median of several figures, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        """Return the spread of `values`."""
        return cls(statistics.median(values), min(values), max(values))


def cpu_seconds():
    """Return the CPU time of this process and of its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def parts_of_cpu():
    """Return the CPU time of this process, and what of it the system took, as an array.

    The system takes time to give memory: the same memory several times more on one day than on
    another one.
    """
    if resource is None:
        return np.array([time.process_time(), os.times().system])
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([used.ru_utime + used.ru_stime, used.ru_stime])


def take_turns(runs, rounds, clock=cpu_seconds):
    """Return the seconds of each round, by the names of `runs`, which are called in turn.

    They are those of `clock`: CPU seconds, where nothing else is given.

    What else the machine does then meets all of them. Every other round goes backwards. The first
    round of several does not count; a single one, which is to show that all works, does.
    """
    for run in runs.values() if rounds > 1 else ():
        run()
    times = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs) if number % 2 else list(reversed(runs))
        for name in names:
            gc.collect()
            begin = clock()
            runs[name]()
            times[name].append(clock() - begin)
    return times


def ratios(times, anchor):
    """Return the spread of the ratios, round by round, to the times of `anchor`."""
    return {
        name: Spread.of([one / base for one, base in zip(taken, times[anchor], strict=True)])
        for name, taken in times.items()
    }
