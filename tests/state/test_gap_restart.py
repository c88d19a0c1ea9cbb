"""A restart: gaps and closes of the earlier run count, and so does the gap between the runs."""

import backtrader as bt
import pytest
from helpers.persistent_broker import bar_of
from helpers.restarts import run
from helpers.scenarios import flat

import bt_risk

OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
# 0.02 of 100,000 may be lost in the worst gap of 15 bars: a tenth, from 100 to 90 on bar 9.
POLICY = bt_risk.Policy(
    **OFF, trailing_stop=False, sizer=False, gap_limit=0.02, window=15, min_periods=5, atr_period=3
)
ROWS = [*flat(8), (90, 91, 89, 90), *flat(9, price=90.0)]
WIDER = [*ROWS[:12], (80, 81, 79, 80), *flat(5, price=80.0)]


class Once(bt.Strategy):
    """Ask for 1,000 units on bar 15."""

    def next(self):
        if bar_of(self.data) == 15 and not self.position:
            self.buy(size=1000)


def held(folder, rows, restarts, policy=POLICY):
    """Return what is held in the end, of runs that are cut off after some bars."""
    for last in (*restarts, None):
        strategy = run(folder, rows[:last], policy, strategy=Once)
    return strategy.position.size


@pytest.mark.parametrize("restarts", [(), (12,), (9, 10, 14)])
def test_a_gap_of_an_earlier_run_cuts_an_order(tmp_path, restarts):
    """A tenth of 90 is lost of each unit: 2,000 / 9."""
    assert held(tmp_path, ROWS, restarts) == 222


@pytest.mark.parametrize("restarts", [(), (12,), (9, 12)])
def test_the_gap_between_two_runs_counts(tmp_path, restarts):
    """From 90 to 80 while no run was active is a ninth: 2,000 / (80 / 9)."""
    assert held(tmp_path, WIDER, restarts) == 225


@pytest.mark.parametrize("restarts", [(), (14,), (9, 12)])
def test_closes_of_an_earlier_run_are_the_reference_of_a_collar(tmp_path, restarts):
    collar = bt_risk.PriceCollar(fraction=0.08, lookback=5)
    policy = bt_risk.Policy(**OFF, trailing_stop=False, sizer=False, guards=[collar])
    assert held(tmp_path, ROWS, restarts, policy) == 1000
