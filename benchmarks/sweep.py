"""`bt_risk.sweep` on two processes, against two processes that run the same points."""

import multiprocessing
import time
from functools import partial

import backtrader as bt

import bt_risk
from benchmarks.job import CASH, COMMISSION, POLICY, RsiEntry
from benchmarks.prices import bitcoin
from benchmarks.row import Row
from benchmarks.timing import Spread, ratios, take_turns
from bt_risk.evidence.sweep_point import Job, objective_of
from bt_risk.evidence.sweep_space import Space

TITLE = "sweep: protected points on two processes, by the clock"
BARS, ROUNDS, PERIODS, RISKS = 2_500, 3, range(7, 23, 2), [0.002 * place for place in range(1, 9)]
QUICK_BARS, QUICK_ROUNDS = 300, 1
PROCESSES = 2
BARE, SAME = "two bare processes", "two processes, protected, with figures"
GOAL = 1 / 0.9  # of their throughput at least 0.9


class RsiOf(RsiEntry):
    """The strategy of the other rows, with another period."""

    params = dict(period=14)

    def __init__(self):
        self.rsi = [bt.ind.RSI(data, period=self.p.period, safediv=True) for data in self.datas]


def rows(options):
    """Yield the time of a sweep by that of processes which share out its points beforehand."""
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if options.quick else (BARS, ROUNDS)
    frame = bitcoin(bars)

    def build(period):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(bt.feeds.PandasData(dataname=frame), name="D0")
        cerebro.broker.setcash(CASH)
        cerebro.broker.setcommission(COMMISSION)
        cerebro.addstrategy(RsiOf, period=period)
        return cerebro

    few = slice(None, 2) if options.quick else slice(None)
    space = {"period": list(PERIODS)[few], "risk_limit": RISKS[few]}
    job = Job(build, POLICY, Space(space, build), objective_of("sweep", "sharpe"))
    points = list(job.space.grid())
    runs = {
        BARE: partial(_shared_out, lambda point: build(point["period"]).run(), points),
        SAME: partial(_shared_out, job.evaluate, points),
        "sweep": partial(bt_risk.sweep, build, space, policy=POLICY, n_jobs=PROCESSES, store=None),
    }
    times = take_turns(runs, rounds, time.perf_counter)
    work = f"{len(points)} points x {bars:,} bars"
    for anchor in (BARE, SAME):
        goal = GOAL if anchor == BARE and not options.quick else None
        seconds = Spread.of(times["sweep"]).median
        found = ratios(times, anchor)["sweep"]
        note = f"{1 / found.median:.2f} of their throughput; time by the clock"
        yield Row("sweep", work, "sweep", found, anchor, goal, seconds, "sweep", note=note)


def _shared_out(run, points):
    """Run the points in processes that are forked, each with its share."""
    context = multiprocessing.get_context("fork")
    shares = [points[place::PROCESSES] for place in range(PROCESSES)]
    processes = [context.Process(target=_each, args=(run, share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process ended with {process.exitcode}")


def _each(run, points):
    for point in points:
        run(point)
