"""What does one decision cost with 500 datas? Microseconds of one ``review``, and of pandas.

    python -m benchmarks gate

The book has 500 names of one clock and a window of 252 returns. `first` is the first question of a
bar: its closes have just come in and nothing is computed yet. `again` is a later question of the
same bar. Both are whole decisions of a limit, from the request to the answer with its reason; the
order that carries it is `benchmarks.overhead`'s. `pandas` is ``returns.iloc[-252:].corr()`` on
the same 500 names. Figures are medians of CPU time on one thread, and an indication: compare what
one run prints.
"""

import argparse
import statistics
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from bt_risk.limits.base import Request
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import ExposureLimit, GrossLimit, NetLimit
from bt_risk.limits.volatility import VolatilityLimit
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument

NAMES, WINDOW, HELD = 500, 252, (20, 499)
GOALS = {20: 150.0, 499: 750.0}
TIMES_PANDAS = 200.0
BARS = 60

# A limit that nothing reaches goes through all that is held, and so does every one that refuses.
LIMITS = {
    "correlation": lambda: CorrelationLimit(1.0),
    "correlation, ewm": lambda: CorrelationLimit(1.0, estimator="ewm", halflife=63),
    "correlation, ledoit-wolf": lambda: CorrelationLimit(1.0, estimator="ledoit-wolf"),
    "correlation, downside": lambda: CorrelationLimit(1.0, downside=True),
    "volatility": lambda: VolatilityLimit(10.0),
    "exposure, one direction": lambda: ExposureLimit(1e9, allow_extreme=True),
    "exposure, gross": lambda: GrossLimit(1e9, allow_extreme=True),
    "exposure, net": lambda: NetLimit(1e9, allow_extreme=True),
}


class Line:
    """A line buffer as Backtrader's: `array`, `_idx` and `lencount`."""

    def __init__(self):
        self.array, self._idx, self.lencount = [], -1, 0

    def add(self, value):
        """Add the value of one bar."""
        self.array.append(value)
        self._idx += 1
        self.lencount += 1


class Market:
    """A book of names that share a market move, held long, and bar after bar of closes."""

    def __init__(self, limit, held, names=NAMES):
        lines = ("close", "high", "low", "datetime")
        self.datas = [SimpleNamespace(**{line: Line() for line in lines}) for _ in range(names)]
        self.book = Book([Instrument(data, i, f"N{i}") for i, data in enumerate(self.datas)])
        self.rng = np.random.default_rng(0)
        self.closes = np.full(names, 100.0)
        self.limit, self.day = limit, 730_000
        limit.prepare(self.book)
        for _ in range(WINDOW + 1):
            self.bar()
        self.book.equity = 1e6
        for instrument in self.book.instruments[1 : held + 1]:
            self.book.fill(self.book.part(instrument, "owner"), 1.0, 100.0, 0.0, self.day)

    def bar(self):
        """Let all names close once more."""
        self.day += 1
        moves = self.rng.normal(0, 0.01, len(self.closes)) + self.rng.normal(0, 0.01)
        self.closes = self.closes * np.exp(moves)
        for data, close in zip(self.datas, self.closes.tolist(), strict=True):
            data.close.add(close)
            data.high.add(close * 1.01)
            data.low.add(close / 1.01)
            data.datetime.add(float(self.day))
        self.book.update()

    def decide(self):
        """Judge an order for the first name."""
        instrument = self.book.instruments[0]
        request = Request(instrument, 1, 1.0, instrument.price, instrument.stop_distance())
        return self.limit.review(request, self.book)


def decisions(limit, held):
    """Return the medians of the first and of a later decision of a bar, in microseconds."""
    market = Market(limit(), held)
    first, again = [], []
    for _ in range(BARS):
        market.bar()
        first.append(_timed(market.decide))
        again.append(_timed(market.decide))
    return statistics.median(first), statistics.median(again)


def pandas_matrix(names=NAMES):
    """Return the median of ``returns.iloc[-252:].corr()``, in microseconds."""
    rng = np.random.default_rng(0)
    returns = pd.DataFrame(rng.normal(0, 0.01, (2 * WINDOW, names)))
    return statistics.median(_timed(lambda: returns.iloc[-WINDOW:].corr()) for _ in range(7))


def _timed(call):
    begin = time.process_time()
    call()
    return 1e6 * (time.process_time() - begin)


def show(console):
    """Print the tables."""
    table = Table("limit", "held", "first us", "again us", "goal us")
    for column in table.columns[1:]:
        column.justify = "right"
    measured = {}
    for name, limit in LIMITS.items():
        for held in HELD:
            first, again = measured[name, held] = decisions(limit, held)
            goal = f"{GOALS[held]:.0f}" if name == "correlation" else ""
            table.add_row(name, f"{held}", f"{first:,.0f}", f"{again:,.0f}", goal)
    console.print(table)
    matrix = pandas_matrix()
    first, _ = measured["correlation", HELD[-1]]
    console.print(
        f"{NAMES} names, window {WINDOW}. pandas, all pairs: {matrix:,.0f} us, "
        f"{matrix / first:,.0f} times the first decision with {HELD[-1]} held "
        f"(goal {TIMES_PANDAS:.0f})."
    )


def main(arguments=None):
    """Print the tables."""
    about = __doc__.partition("\n")[0]
    argparse.ArgumentParser("python -m benchmarks gate", description=about).parse_args(arguments)
    show(Console(highlight=False))
