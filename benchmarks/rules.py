"""Each rule and guard alone in a run, and the plain functions against other implementations."""

import importlib.util
import math
from functools import partial

import numpy as np
import pandas as pd
import talib
from scipy.optimize import brentq

import bt_risk
from benchmarks import guards
from benchmarks.job import POLICY, protected
from benchmarks.prices import panel, random_walk
from benchmarks.replay import record, replay
from benchmarks.row import Row, number
from benchmarks.speed import BARE, run
from benchmarks.timing import Spread, parts_of_cpu, ratios, take_turns
from bt_risk.evidence.variants import active, alone
from bt_risk.rules import stop_scans

TITLE = "The rules: each alone in a run, and the plain functions"
COMPILED = "atr_stop, extra fast"
NAMES, BARS, ROUNDS = 10, 1_000, 5
QUICK_BARS, QUICK_ROUNDS = 100, 1
_MUCH = 0.01  # seconds of the system


def rows(options):
    """Yield the rows of the rules, and of the functions."""
    yield from _alone(*((QUICK_BARS, QUICK_ROUNDS) if options.quick else (BARS, ROUNDS)))
    yield from guards.rows(options.quick)
    for work, anchor, calls, goals, rounds in _functions(options.quick):
        parts = take_turns(calls, 1 if options.quick else rounds, clock=parts_of_cpu)
        times = {name: [float(whole) for whole, _ in taken] for name, taken in parts.items()}
        for name, ratio in ratios(times, anchor).items():
            if name != anchor:
                seconds = Spread.of(times[name]).median
                own = None if options.quick else goals.get(name)
                note = _of_the_system(parts, name, anchor)
                yield Row("rules", work, name, ratio, anchor, own, seconds, "call", note=note)


def _of_the_system(parts, name, anchor):
    """Return what the system took of the time of a function, where that is much, else nothing."""
    system = Spread.of([float(taken) for _, taken in parts[name]]).median
    if system < _MUCH:
        return ""
    computing = {way: [float(whole - taken) for whole, taken in parts[way]] for way in parts}
    ratio = number(ratios(computing, anchor)[name].median)
    return f"{ratio} without the system, which took {1e3 * system:.0f} ms for memory"


def _alone(bars, rounds):
    """Yield a row for each rule alone, against the bare run that sends the same orders."""
    frames = panel(NAMES, bars)
    ways = {f"only {rule}": dict(policy=alone(POLICY, rule)) for rule in active(POLICY)}
    ways |= {"all rules": {}, "observe": dict(mode="observe")}
    for name, settings in ways.items():
        recording = record(frames, **settings)
        builds = {
            BARE: partial(replay, frames, recording),
            name: partial(protected, frames, **settings),
        }
        times = take_turns(
            {way: partial(run, build, recording.value) for way, build in builds.items()}, rounds
        )
        seconds = Spread.of(times[name]).median / bars
        note = f"{recording.orders:,} orders"
        ratio = ratios(times, BARE)[name]
        yield Row("rules", f"{NAMES} x {bars:,} bars", name, ratio, BARE, None, seconds, note=note)


def _functions(quick):
    """Return work, the anchor, what is called by name, goals by name and the rounds."""
    bars, names = (10_000, 10) if quick else (1_000_000, 100)
    walk = random_walk(0, bars, "min")
    high, low, close = (walk[name].to_numpy() for name in ("high", "low", "close"))
    returns = pd.DataFrame(np.random.default_rng(0).normal(0, 0.01, (2_520, names)))
    compiled = {}
    if importlib.util.find_spec("numba"):
        compiled[COMPILED] = lambda: _scanned(math.inf, high, low, close)
        compiled[COMPILED]()  # compiles
    trades = np.random.default_rng(1).normal(0.2, 1.0, 100)
    return [
        (
            f"{bars:,} bars",
            "TA-Lib's ATR",
            {
                "TA-Lib's ATR": lambda: talib.ATR(high, low, close, 14),
                "atr_stop": lambda: _scanned(-math.inf, high, low, close),
                **compiled,
            },
            {"atr_stop": 20.0, COMPILED: 5.0},
            7,
        ),
        (
            f"{names} names x 2,520, window 252",
            "pandas",
            {
                "pandas": lambda: returns.rolling(252).corr(),
                "rolling_correlation": lambda: bt_risk.rolling_correlation(returns),
            },
            {"rolling_correlation": 1 / 20},
            3,
        ),
        (
            "100 trades",
            "scipy's brentq",
            {
                "scipy's brentq": lambda: [_growth_by_brentq(trades) for _ in range(50)],
                "empirical_kelly": lambda: [bt_risk.empirical_kelly(trades) for _ in range(50)],
            },
            {},
            7,
        ),
    ]


def _scanned(bars_before, *prices):
    """Call `atr_stop` as a process does that has scanned so many bars before."""
    stop_scans._compiler.bars = bars_before
    return bt_risk.atr_stop(*prices)


def _growth_by_brentq(trades):
    """Return the same fraction by the usual root finder."""
    most = -1.0 / trades.min()
    return brentq(lambda f: (trades / (1.0 + f * trades)).mean(), 0.0, most * (1 - 1e-9))
