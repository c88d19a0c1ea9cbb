"""`bt_risk.compare` with ten variants of one job, against single runs of it."""

from functools import partial

import backtrader as bt

import bt_risk
from benchmarks.job import CASH, COMMISSION, POLICY, RsiEntry, build, protected
from benchmarks.prices import bitcoin
from benchmarks.row import Row
from benchmarks.timing import Spread, ratios, take_turns
from bt_risk.evidence.variants import variants

TITLE = "compare: ten variants, against single runs"
BARS, ROUNDS = 8_784, 3
QUICK_BARS, QUICK_ROUNDS = 1_000, 1
SINGLE, PROTECTED = "one bare run with FrameData", "one protected run"
GOAL = 12.0


def rows(options):
    """Yield the rows of compare in one process and in several."""
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if options.quick else (BARS, ROUNDS)
    frame = bitcoin(bars)
    make = partial(build, [frame])
    runs = {
        SINGLE: lambda: _frame_data(frame).run(),
        PROTECTED: lambda: protected([frame]).run(),
        "compare, workers=1": lambda: bt_risk.compare(make, POLICY, workers=1),
    }
    if not options.quick:
        runs["compare"] = lambda: bt_risk.compare(make, POLICY)
    times = take_turns(runs, rounds)
    work = f"{len(variants(POLICY))} variants x {bars:,} bars"
    for anchor in (SINGLE, PROTECTED):
        for name in list(runs)[2:]:
            goal = GOAL if anchor == SINGLE and not options.quick else None
            seconds = Spread.of(times[name]).median
            ratio = ratios(times, anchor)[name]
            yield Row("compare", work, name, ratio, anchor, goal, seconds, "comparison")


def _frame_data(frame):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=frame), name="D0")
    cerebro.addstrategy(RsiEntry)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(COMMISSION)
    return cerebro
