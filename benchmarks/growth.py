"""CPU time and memory from 1,000 to 200,000 bars, with one data feed."""

import os
import pickle
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.job import protected
from benchmarks.prices import random_walk
from benchmarks.replay import record, replay
from benchmarks.row import Row
from benchmarks.speed import BARE, DEFAULT, run
from benchmarks.timing import Spread, take_turns

TITLE = "Growth with the number of bars, one data feed"
SIZES, ROUNDS = (1_000, 10_000, 50_000, 200_000), 3
QUICK_SIZES, QUICK_ROUNDS = (500, 1_500), 1
MEMORY_GOAL = 1.15


def rows(options):
    """Yield CPU time a bar by the number of bars, and the memory of the longest run."""
    sizes, rounds = (QUICK_SIZES, QUICK_ROUNDS) if options.quick else (SIZES, ROUNDS)
    jobs = {size: _job(size) for size in sizes}
    runs = {
        (name, size): partial(run, build, recording.value)
        for size, (_, recording, builds) in jobs.items()
        for name, build in builds.items()
    }
    times = take_turns(runs, rounds)
    for name in (BARE, DEFAULT):
        first = [one / sizes[0] for one in times[name, sizes[0]]]
        for size in sizes:
            taken = [one / size for one in times[name, size]]
            ratio = Spread.of([one / base for one, base in zip(taken, first, strict=True)])
            seconds = Spread.of(taken).median
            work = f"{size:,} bars"
            yield Row("growth", work, name, ratio, f"{sizes[0]:,} bars", None, seconds, size=size)
    goal = None if options.quick else MEMORY_GOAL
    yield _memory(*jobs[sizes[-1]][:2], goal)


def _job(size):
    frames = [random_walk(0, size, "h")]
    recording = record(frames)
    return (
        frames,
        recording,
        {
            BARE: partial(replay, frames, recording),
            DEFAULT: partial(protected, frames),
        },
    )


def _memory(frames, recording, goal):
    """Return the row of the memory that a run takes, each in a process of its own."""
    bars = len(frames[0])
    if not Path("/proc/self/status").exists():
        return Row("growth", f"{bars:,} bars", "memory", note="not measured: this needs /proc")
    taken = {name: _bytes(name, frames, recording) / bars for name in (BARE, DEFAULT)}
    ratio = Spread.of([taken[DEFAULT] / taken[BARE]])
    note = f"peak {taken[DEFAULT]:,.0f} bytes a bar, bare {taken[BARE]:,.0f}"
    return Row("growth", f"{bars:,} bars", "memory of protect", ratio, BARE, goal, note=note)


def _bytes(name, frames, recording):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job"
        path.write_bytes(pickle.dumps((name, frames, recording)))
        code = f"from benchmarks.growth import measure_memory; measure_memory({str(path)!r})"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout)


def measure_memory(path):
    """Print how many bytes one run adds to the peak of this process."""
    name, frames, recording = pickle.loads(Path(path).read_bytes())
    short = [frames[0].iloc[:500]]
    build = partial(replay, recording=recording) if name == BARE else protected
    build(short).run()  # what is loaded once is no part of it
    cerebro, before = build(frames), _peak()
    cerebro.run()
    print(_peak() - before)


def _peak():
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith("VmHWM"))
