"""How often is the evidence wrong? Simulated runs whose truth is known.

    python -m benchmarks coverage [--runs 2000] [--days 250 500 2000] [--processes N]

The first table has the size of `sharpe_test`: how often it claims at 95 % that a run differs from
bare where none does, with one variant and with six. The second one has the coverage of the
intervals of `compare`: how often they hold the true value. Returns are normal, of Student's t with
4 degrees of freedom, of a GARCH(1,1) or of an AR(1) with 0.2 and such t; the last market is one in
which a rule acts on 3 % of the days. Variants have half of bare's variance in common with it.

The standard error of a share of 5 % is 0.5 % with 2,000 runs. All cores work for an hour.
"""

import argparse
import math
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

import numpy as np
from rich.console import Console
from rich.table import Table

from bt_risk.evidence.bootstrap import block_length, intervals, resampled_days
from bt_risk.evidence.metrics import Days, measures
from bt_risk.evidence.sharpe_test import sharpe_test

MARKETS = ("normal", "t4", "garch", "ar and t4", "rule on 3 % of days")
VARIANTS, DAYS, RUNS = (1, 6), (250, 500, 2000), 2000
MEAN, SPREAD, YEAR = 0.0004, 0.01, 252
COMMON = 0.7  # of bare's and a variant's noise; 0.49 of the variance
ARCH, GARCH, AR = 0.10, 0.85, 0.2
BURN_IN, CHUNK, LONG = 200, 50, 400_000
HISTORIES = 400
COVERED = ("Sharpe", "CAGR", "Sortino", "Max drawdown")
DIFFERENCE = "Sharpe difference"


def main(arguments):
    """Print the tables."""
    parser = argparse.ArgumentParser("python -m benchmarks coverage", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--days", type=int, nargs="+", default=DAYS)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args(arguments)
    with ProcessPoolExecutor(chosen.processes) as pool:
        Console().print(_sizes(pool, chosen), _coverages(pool, chosen))


def _sizes(pool, chosen):
    cells = list(product(MARKETS, chosen.days, VARIANTS))
    found = dict(zip(cells, pool.map(partial(_size, chosen.runs), cells), strict=True))
    table = Table(title=f"Claims where nothing differs, of {chosen.runs:,} at 95 % confidence")
    table.add_column("returns")
    for days, variants in product(chosen.days, VARIANTS):
        table.add_column(f"{days:,} days, {variants}", justify="right")
    for market in MARKETS:
        cells = product([market], chosen.days, VARIANTS)
        table.add_row(market, *(f"{100 * found[cell]:.1f} %" for cell in cells))
    return table


def _coverages(pool, chosen):
    cells = list(product(MARKETS[:-1], chosen.days))
    found = dict(zip(cells, pool.map(partial(_coverage, chosen.runs), cells), strict=True))
    names = list(next(iter(found.values())))
    table = Table(title=f"Intervals of 95 % that hold the truth, of {chosen.runs:,}")
    for name in ("returns", "days", *names):
        table.add_column(name, justify="left" if name == "returns" else "right")
    for (market, days), shares in found.items():
        row = (f"{100 * shares[name]:.1f} %" for name in names)
        table.add_row(market, f"{days:,}", *row)
    return table


def _size(runs, cell):
    return size(*cell, runs)


def _coverage(runs, cell):
    return coverage(*cell, runs)


def size(market, days, variants, runs):
    """Return the share of runs in which the test claims evidence though nothing differs."""
    claims = 0
    for seed, returns in enumerate(histories(market, days, variants, runs)):
        found = {str(k): _days(one) for k, one in enumerate(returns)}
        tests = sharpe_test(found, "0", _block(returns), YEAR, seed=seed)
        claims += any(test.evidence for test in tests.values())
    return claims / runs


def coverage(market, days, runs):
    """Return the share of runs in which the interval of a figure holds the truth, by figure."""
    true, held = truth(market, days), dict.fromkeys((*COVERED, DIFFERENCE), 0)
    for seed, returns in enumerate(histories(market, days, 1, runs)):
        block = _block(returns)
        picks = resampled_days(days, block, HISTORIES, seed)
        found = {"bare": _days(returns[0]), "other": _days(returns[1])}
        of_run = intervals(found, "bare", picks, YEAR, block)["other"]
        for name in COVERED:
            held[name] += _holds(of_run[name][0], true[name])
        held[DIFFERENCE] += _holds(of_run["Sharpe"][1], 0.0)
    return {name: count / runs for name, count in held.items()}


def truth(market, days):
    """Return what a figure is in the long run; of the drawdown, the median of so many days."""
    (long,) = histories(market, LONG, 0, 1)
    found = measures(_days(long[0]), YEAR)
    many = np.concatenate(list(histories(market, days, 0, 20 * CHUNK)))
    return found | {"Max drawdown": np.median(measures(_days(many), YEAR)["Max drawdown"])}


def histories(market, days, variants, runs):
    """Yield the returns of bare and of variants, of shape (1 + variants, days), for each run."""
    rng = np.random.default_rng([MARKETS.index(market), days, variants])
    left = runs
    while left > 0:
        some = min(left, CHUNK)
        left -= some
        yield from MEAN + SPREAD * _noise(market, rng, (some, 1 + variants, days))


def _noise(market, rng, shape):
    """Return noise of variance 1; all runs of a history have a part of it in common."""
    runs, lines, days = shape
    shocks = partial(_shocks, rng, fat=market.endswith("t4"))
    whole = (runs, lines, days + BURN_IN)
    common = shocks((runs, 1, days + BURN_IN))
    noise = COMMON * common + math.sqrt(1.0 - COMMON**2) * shocks(whole)
    if market == "garch":
        _cluster(noise)
    elif market.startswith("ar"):
        for day in range(1, days + BURN_IN):
            noise[..., day] = AR * noise[..., day - 1] + math.sqrt(1.0 - AR**2) * noise[..., day]
    noise = noise[..., BURN_IN:]
    if market == MARKETS[-1]:
        acts = rng.random((runs, lines, days)) < 0.03
        noise = np.where(acts, rng.standard_normal(noise.shape), noise[:, :1])
    return noise


def _shocks(rng, shape, fat):
    return rng.standard_t(4, shape) / math.sqrt(2.0) if fat else rng.standard_normal(shape)


def _cluster(noise):
    """Turn noise into that of a GARCH(1,1) of variance 1, in its own place."""
    variance = np.ones(noise.shape[:-1])
    for day in range(noise.shape[-1]):
        noise[..., day] *= np.sqrt(variance)
        variance = (1.0 - ARCH - GARCH) + ARCH * noise[..., day] ** 2 + GARCH * variance


def _days(returns):
    return Days(returns, *(np.zeros_like(returns) for _ in range(4)))


def _block(returns):
    """Return the length of the blocks, as `compare` chooses it."""
    return block_length(returns[0], *(one - returns[0] for one in returns[1:]))


def _holds(interval, value):
    return interval.low <= value <= interval.high
