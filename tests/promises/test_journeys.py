"""One buy crosses the borders between modules seldom enough for a reader to follow it."""

import pytest
from helpers.benchmark_package import load

journeys = load("journeys")


@pytest.fixture(scope="module")
def measured():
    """Return the journey of one buy in a backtest, and of one with a state file."""
    return journeys.journeys()


@pytest.mark.parametrize("name", journeys.GOALS)
def test_one_buy_crosses_fewer_borders_than_its_goal(measured, name):
    assert 10 < measured[name].crossings < journeys.GOALS[name], "\n".join(measured[name].path)


def test_with_a_state_file_the_order_is_written_down_on_its_way(measured):
    backtest, stateful = measured.values()
    assert "state.file" not in backtest.modules
    assert "state.file" in stateful.modules
