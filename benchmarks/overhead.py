"""What does the whole suite cost? Function calls and CPU time per bar, protected and bare.

    python -m benchmarks overhead             the table
    python -m benchmarks overhead --where     and which calls are ours
    python -m benchmarks overhead --store     and keep the calls in overhead.json, for the tests

Calls are the same on every run and on every machine with the same versions; CPU time is not, and is
only an indication.
"""

import argparse
import gc
import json
import time
from collections import Counter
from pathlib import Path

import backtrader as bt
from rich.console import Console
from rich.table import Table

import bt_risk
from benchmarks.counting import count_calls
from benchmarks.environment import versions
from benchmarks.prices import random_walk

STORED = Path(__file__).with_name("overhead.json")
BARS = {1: 1500, 10: 200, 50: 100}
GOALS = {1: 1.15, 10: 1.10, 50: 1.05}
REPEATS = 7


class Cross(bt.Strategy):
    """Be long above the crossing of two averages, in every data."""

    def __init__(self):
        self.cross = [
            bt.ind.CrossOver(bt.ind.SMA(data, period=5), bt.ind.SMA(data, period=20))
            for data in self.datas
        ]

    def next(self):
        """Buy ten on a cross upwards, close on one downwards."""
        for data, cross in zip(self.datas, self.cross, strict=True):
            if cross[0] > 0 and not self.getposition(data):
                self.buy(data, size=10)
            elif cross[0] < 0 and self.getposition(data):
                self.close(data)


def build(datas, protected, fast=False):
    """Return a Cerebro with this strategy; the breaker is there, and out of reach.

    Both run by Backtrader's own loop, so that the difference is what the rules cost; `fast` is how
    a protected run is by default.
    """
    cerebro = bt.Cerebro(stdstats=False)
    for number in range(datas):
        feed = bt.feeds.PandasData(dataname=random_walk(number, BARS[datas]))
        cerebro.adddata(feed, name=f"D{number}")
    cerebro.broker.setcash(100_000.0)
    cerebro.addstrategy(Cross)
    if protected:
        bt_risk.protect(cerebro, bt_risk.Policy(drawdown_limit=0.5), fast=fast)
    return cerebro


def calls(datas, protected, runonce=True, fast=False):
    """Return a Counter of the calls per bar, by ``file:function`` that is called."""
    cerebro = build(datas, protected, fast)
    counts = count_calls(lambda: cerebro.run(runonce=runonce))
    return Counter({name: count / BARS[datas] for name, count in counts.items()})


def calls_per_bar(datas, runonce=True):
    """Return the calls per bar bare, protected, and protected by the quick loop."""
    runs = [(False, False), (True, False), (True, True)]
    return tuple(
        round(sum(calls(datas, protected, runonce, fast).values()), 2) for protected, fast in runs
    )


def cpu_per_bar(datas):
    """Return the least CPU time per bar of the bare and of the protected run, in microseconds.

    The runs take turns, so that what else the machine does meets both.
    """
    times = {False: [], True: []}
    for _ in range(REPEATS):
        for protected, taken in times.items():
            cerebro = build(datas, protected)
            gc.collect()
            begin = time.process_time()
            cerebro.run()
            taken.append(time.process_time() - begin)
    return tuple(1e6 * min(taken) / BARS[datas] for taken in times.values())


def _row(datas):
    bare, guarded, quick = calls_per_bar(datas)
    slow, slower = cpu_per_bar(datas)
    goal = GOALS.get(datas)
    return [
        f"{datas}",
        f"{BARS[datas]}",
        f"{bare:,.0f}",
        f"{guarded:,.0f}",
        f"{guarded / bare:.3f}",
        f"{goal:.2f}" if goal else "",
        f"{quick:,.0f}",
        f"{slow:,.0f}",
        f"{slower:,.0f}",
        f"{slower / slow:.2f}",
    ]


def show(console):
    """Print the table."""
    table = Table("datas", "bars", "calls bare", "protected", "ratio", "goal", "quick")
    for name in ("us bare", "protected", "ratio"):
        table.add_column(name)
    for column in table.columns:
        column.justify = "right"
    for datas in BARS:
        table.add_row(*_row(datas))
    console.print(table)
    console.print("Calls and CPU time per bar of all datas together, runonce.")


def show_where(console, datas, most=30):
    """Print the functions that the protected run calls more often than the bare one."""
    bare, guarded = calls(datas, False), calls(datas, True)
    extra = Counter({name: count - bare[name] for name, count in guarded.items()})
    console.print(f"\n{datas} datas: {sum(extra.values()):.1f} more calls per bar, the most of it:")
    for name, count in extra.most_common(most):
        console.print(f"{count:8.2f}  {name}")


def store():
    """Keep the calls per bar that the tests compare with."""
    figures = {str(datas): calls_per_bar(datas)[1:] for datas in GOALS}
    text = json.dumps({"versions": versions(), "calls_per_bar": figures}, indent=2)
    STORED.write_text(text + "\n", encoding="utf-8")


def main(arguments=None):
    """Run what the arguments request."""
    about = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser("python -m benchmarks overhead", description=about)
    parser.add_argument("--where", action="store_true", help="show which calls are added")
    parser.add_argument("--store", action="store_true", help="keep the calls for the tests")
    arguments = parser.parse_args(arguments)
    console = Console(highlight=False)
    show(console)
    if arguments.where:
        for datas in GOALS:
            show_where(console, datas)
    if arguments.store:
        store()
