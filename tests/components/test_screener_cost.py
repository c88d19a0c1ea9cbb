"""What a Screener costs: calls for each name at each rebalance, of Python and of C."""

import functools
import json
from pathlib import Path

import pytest
from helpers.benchmark_package import load
from helpers.scenarios import cerebro, random_walk

import bt_risk

count_calls, overhead = load("counting").count_calls, load("overhead")
stored = json.loads(Path(overhead.STORED).read_text(encoding="utf-8"))
RULE = {"rank": "roc(26) / natr(20)", "where": "close > sma(40)", "top": 2, "rebalance": 1}
NAMES, BARS = 4, (60, 80)

pytestmark = pytest.mark.skipif(
    not overhead.versions()["python"].startswith(stored["versions"]["python"][:4]),
    reason="another Python counts other calls",
)


def run(bars, **params):
    engine = cerebro(*[random_walk(k, bars) for k in range(NAMES)])
    engine.addanalyzer(bt_risk.RiskJournal)
    if params:
        engine.addanalyzer(bt_risk.Screener, **params)
    return count_calls(engine.run).total()


@functools.cache
def bare(bars):
    run(bars, **RULE)  # what is imported and looked up once
    return run(bars)


def a_bar(**params):
    """Return the calls of a late bar beyond those of a run without a Screener."""
    fixed = [bare(bars) for bars in BARS]
    few, many = (run(bars, **(RULE | params)) for bars in BARS)
    return (many - few - (fixed[1] - fixed[0])) / (BARS[1] - BARS[0])


@pytest.mark.parametrize(
    ("params", "budget"),
    [({}, 90.0), ({"top": NAMES}, 130.0), ({"rank": "rsi(14)", "where": None}, 104.0)],
)
def test_a_name_that_is_ranked_costs_no_more_calls_than_its_budget(params, budget):
    """A pick costs most: the gate is asked for its room, and the journal has a line."""
    assert 0.0 < a_bar(**params) / NAMES <= budget


def test_a_bar_without_a_rebalance_costs_no_more_calls_than_its_budget():
    """The gate reads the bars of each name one by one, because their times are asked for."""
    assert 0.0 < a_bar(rebalance=10_000) / NAMES <= 14.0
