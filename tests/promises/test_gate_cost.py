"""What one decision costs: no pandas, and no more calls for more datas that are not held."""

import sys

import pytest
from helpers.benchmark_package import load

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
