"""Count how often one buy crosses the borders between the modules of bt_risk.

    python -m benchmarks journeys             the counts
    python -m benchmarks journeys --path      and every crossing, indented by its depth

The order is a market buy of ten units that every limit of the default policy allows: one data feed,
no position, ATR known. It is counted from ``Strategy.buy`` until that returns. A crossing is a call
from a function in one file of bt_risk to a function in another, or the return of such a call; the
way into the package and the way out are two more. Only direct calls count: what Backtrader or the
standard library call in between does not. Methods that Python generates (``__init__`` of a
dataclass) belong to no file and are not counted.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import backtrader as bt
from rich.console import Console
from rich.table import Table

import bt_risk
from benchmarks.prices import random_walk

PACKAGE = Path(bt_risk.__file__).resolve().parent
BARS, BAR = 150, 100
GOALS = {"backtest": 50, "with a state file": 90}


@dataclass
class Journey:
    """Count calls, modules and crossings of one order, from the events of ``sys.setprofile``."""

    calls: int = 0
    modules: set = field(default_factory=set)
    crossings: int = 0
    path: list = field(default_factory=list)
    _stack: list = field(default_factory=list)

    def profile(self, frame, event, _):
        """Follow one call or return; C functions are no part of the package."""
        if event == "return" and self._stack:
            self._stack.pop()
        elif event == "call":
            module = _module(frame.f_code)
            if module:
                self._count(module, frame.f_code.co_qualname)
            self._stack.append(module)

    def _count(self, module, function):
        caller = self._stack[-1] if self._stack else None
        entered = not self.calls
        self.calls += 1
        self.modules.add(module)
        if entered or (caller and caller != module):
            self.crossings += 2  # the call and its return
            depth = sum(map(bool, self._stack))
            self.path.append(f"{'  ' * depth}{module} {function.rpartition('.<locals>.')[2]}")


def _module(code):
    """Return the name of the module below bt_risk that holds this code, or None."""
    path = Path(code.co_filename)
    if PACKAGE not in path.parents:
        return None
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


class BuyOnce(bt.Strategy):
    """Buy ten units at one bar, and count the way of this order."""

    def __init__(self):
        self.journey = Journey()

    def next(self):
        """Switch the profiler on for this one call of ``buy``."""
        if len(self) == BAR:
            sys.setprofile(self.journey.profile)
            try:
                self.buy(size=10)
            finally:
                sys.setprofile(None)


def journey(state=None):
    """Return the `Journey` of one buy; `state` is the path of a state file, None for no file."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=random_walk(0, BARS)), name="D0")
    cerebro.broker.setcash(100_000.0)
    cerebro.addstrategy(BuyOnce)
    bt_risk.protect(cerebro, bt_risk.Policy(), state=state)
    return cerebro.run()[0].journey


def journeys():
    """Return the journeys of the same buy by the names of `GOALS`."""
    with tempfile.TemporaryDirectory() as folder:
        return dict(zip(GOALS, (journey(), journey(Path(folder) / "state.db")), strict=True))


def main(arguments=None):
    """Run what the arguments request."""
    about = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser("python -m benchmarks journeys", description=about)
    parser.add_argument("--path", action="store_true", help="show every crossing")
    arguments = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    found = journeys()
    table = Table("one buy", "calls", "modules", "crossings", "goal")
    for name, one in found.items():
        goal = f"below {GOALS[name]}"
        table.add_row(name, f"{one.calls}", f"{len(one.modules)}", f"{one.crossings}", goal)
    console.print(table)
    for name, one in found.items() if arguments.path else ():
        console.print(f"\n{name}: each line is a call and its return")
        console.print("\n".join(one.path), markup=False)
