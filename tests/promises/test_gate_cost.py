"""What one decision costs: no pandas, and no more calls for more datas that are not held."""

import sys
import tracemalloc

import backtrader as bt
import pytest
from helpers.benchmark_package import load
from helpers.scenarios import cerebro, random_walk

import bt_risk

gate = load("gate")


def files_called(market):
    """Return the file of every function of ours or of a library below that a decision calls."""
    called = []

    def profile(frame, event, _):
        file = frame.f_code.co_filename
        if event == "call" and any(name in file for name in ("bt_risk", "numpy", "pandas")):
            called.append(file)  # and not what the garbage collector may call in between

    market.bar()
    sys.setprofile(profile)
    try:
        market.decide()
    finally:
        sys.setprofile(None)
    return called


@pytest.mark.parametrize("name", gate.LIMITS)
def test_a_decision_asks_about_what_is_held_and_never_pandas(name):
    small, large = (files_called(gate.Market(gate.LIMITS[name](), 5, names)) for names in (30, 90))
    assert not [file for file in large if "pandas" in file]
    assert len(small) == len(large)


@pytest.mark.parametrize("name", [n for n in gate.LIMITS if "exposure" not in n])
def test_a_decision_about_returns_makes_as_many_calls_for_more_names(name):
    few, many = (files_called(gate.Market(gate.LIMITS[name](), held, 90)) for held in (20, 80))
    extra = len(many) - len(few)
    assert extra == 0 if name.startswith("correlation") else extra < 10 * 60


@pytest.mark.parametrize("name", [n for n in gate.LIMITS if "exposure" in n])
def test_a_decision_about_exposure_asks_each_name_for_its_stop_distance_only(name):
    few, many = (files_called(gate.Market(gate.LIMITS[name](), held, 90)) for held in (20, 80))
    assert len(many) - len(few) <= 2 * 60


class Rebalanced(bt.Strategy):
    """Set the target of every name on every bar."""

    def next(self):
        for k, data in enumerate(self.datas):
            target = ((len(self) + k) % 5 - 2) / len(self.datas)
            self.order_target_percent(data, target=target)


def calls(frames, protected, fast=True):
    """Return the calls, of Python and of C, of a run."""
    engine = cerebro(*frames)
    engine.addstrategy(Rebalanced)
    if protected:
        bt_risk.protect(engine, bt_risk.Policy(drawdown_limit=None, min_periods=20), fast=fast)
    count = 0

    def profile(frame, event, _):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        engine.run()
    finally:
        sys.setprofile(None)
    return count


def test_a_target_for_every_name_on_every_bar_costs_few_calls_more():
    """Every order is reviewed, with all that is held and all that the bar has sent so far."""
    frames = [random_walk(seed, 80) for seed in range(12)]
    bare = calls(frames, False)
    assert calls(frames, True) < 0.67 * bare  # by the quick loop
    assert calls(frames, True, fast=False) < 1.12 * bare


class Waiting(bt.Strategy):
    def __init__(self):
        bt.ind.RSI(self.data, period=14)


def memory(bars, protected):
    """Return what a run has allocated at its end, and at most, in bytes."""
    engine = cerebro(random_walk(1, bars, freq="h"))
    engine.addstrategy(Waiting)
    if protected:
        bt_risk.protect(engine)
    tracemalloc.start()
    try:
        strategies = engine.run()
        return (len(strategies), *tracemalloc.get_traced_memory())[1:]
    finally:
        tracemalloc.stop()


def test_a_bar_takes_little_more_memory_than_in_a_bare_run():
    """What a run takes once, whatever its length, is left out."""
    for protected in (False, True):
        memory(200, protected)
    bare, protected = (
        [more - less for less, more in zip(memory(1000, one), memory(8000, one), strict=True)]
        for one in (False, True)
    )
    assert protected[0] <= 1.15 * bare[0]
    assert protected[1] <= 1.25 * bare[1]
