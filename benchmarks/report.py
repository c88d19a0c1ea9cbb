"""What the data of a report cost during a run, and what the tear sheet takes after it."""

import tempfile
from functools import partial
from pathlib import Path

import bt_risk
from benchmarks.job import protected
from benchmarks.prices import bitcoin, panel
from benchmarks.row import Row
from benchmarks.timing import Spread, ratios, take_turns

TITLE = "Reports: ReportData during a run, and the tear sheet after it"
GOAL, SHEET_GOAL = 1.15, 3.0
# Data feeds: bars, rounds of the quick loop, whose runs are short, and of everything else.
JOBS = {1: (8_784, 21, 7), 50: (2_520, 11, 3)}
QUICK = {1: (1_000, 1, 1)}


def rows(options):
    """Yield the rows of ReportData and of the tear sheet."""
    for feeds, (bars, *rounds) in (QUICK if options.quick else JOBS).items():
        frames = [bitcoin(bars)] if feeds == 1 else panel(feeds, bars)
        work = f"{feeds} x {bars:,} bars"
        yield from _recording(work, frames, rounds, None if options.quick else GOAL)
        yield _sheet(work, frames, min(*rounds, 3))


def _recording(work, frames, rounds, goal):
    """Yield the run with ReportData against the run without, by both loops."""
    for settings, number in zip(({}, dict(fast=False)), rounds, strict=True):
        name = "protect, fast=False" if settings else "protect"
        build = partial(protected, frames, **settings)
        recorded = f"{name}, ReportData"
        ways = {name: partial(_run, build), recorded: partial(_run, build, True)}
        times = take_turns(ways, number)
        ratio, seconds = ratios(times, name)[recorded], Spread.of(times[recorded]).median
        yield Row("report", work, recorded, ratio, name, goal, seconds / len(frames[0]))


def _sheet(work, frames, rounds):
    """Return the time of the tear sheet, after a first one that loads what it needs."""
    strategy = _run(partial(protected, frames), True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.html"
        sheet = partial(bt_risk.report.tear_sheet, strategy, path)
        seconds = Spread.of(take_turns({"sheet": sheet}, rounds)["sheet"])
        note = f"{path.stat().st_size / 1e6:.1f} MB"
    ratio = Spread(*(one / SHEET_GOAL for one in (seconds.median, seconds.low, seconds.high)))
    anchor = f"{SHEET_GOAL:g} s"
    own = 1.0 if len(frames) > 1 else None
    return Row("report", work, "tear_sheet", ratio, anchor, own, seconds.median, "page", note=note)


def _run(build, recorded=False):
    cerebro = build()
    if recorded:
        cerebro.addanalyzer(bt_risk.ReportData)
    return cerebro.run()[0]
