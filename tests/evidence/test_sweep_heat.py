"""The heat maps of a sweep: what each cell says."""

import pandas as pd
import pytest

from bt_risk import Between, Policy
from bt_risk.evidence.sweep import Sweep
from bt_risk.evidence.sweep_heat import heat_maps
from bt_risk.evidence.sweep_point import objective_of
from bt_risk.evidence.sweep_space import Space


def made(space, rows, objective="sharpe"):
    space = Space(space, lambda **params: None)
    frame = pd.DataFrame(rows, columns=[*space.names, "objective"])
    goal = objective_of("sweep", objective)
    return Sweep(frame, None, Policy(), goal, float("nan"), 0, len(frame), True, None, space)


ROWS = [
    (1, 10, "x", 0.0),
    (1, 10, "y", 1.0),
    (1, 20, "x", 1.0),
    (1, 20, "y", 1.0),
    (2, 10, "x", 4.0),
    (2, 10, "y", 2.0),
    (2, 20, "x", float("nan")),
    (2, 20, "y", float("nan")),
]
SPACE = {"a": [1, 2], "b": [10, 20], "c": ["x", "y"]}


def test_a_cell_is_the_median_of_all_other_parameters():
    """By a: 1 and 3; by b: 1.5 and 1; by c: 1 and 1: a matters most, then b."""
    first, *others = heat_maps(made(SPACE, ROWS))
    assert (first.across, first.down) == ("a", "b")
    assert first.columns == ["1", "2"]
    assert [label for label, _ in first.rows] == ["10", "20"]
    (low, best), (third, missing) = (cells for _, cells in first.rows)
    assert (low, best, third) == (("0.50", 0.0), ("3.00", 1.0), ("1.00", pytest.approx(0.2)))
    assert missing[0] == "-"
    assert missing[1] != missing[1]
    assert len(others) == 2


def test_of_losses_the_smallest_is_the_warmest():
    (found,) = heat_maps(made({"a": [1, 2]}, [(1, 0.1), (2, 0.3)], "max_drawdown"))
    assert (found.across, found.down, found.columns) == ("a", "", ["1", "2"])
    assert found.rows == [("Max drawdown", [("10.0 %", 1.0), ("30.0 %", 0.0)])]


def test_what_was_drawn_is_shown_in_ranges():
    rows = [(place / 32, float(place)) for place in range(32)]
    (found,) = heat_maps(made({"a": Between(0.0, 1.0)}, rows))
    assert len(found.columns) == 8
    assert found.columns[:2] == ["0 to 0.09375", "0.125 to 0.2188"]
    ((_, cells),) = found.rows
    assert [text for text, _ in cells][:2] == ["1.50", "5.50"]


def test_a_parameter_with_one_value_and_none_among_values():
    space = {"a": [None, 0.1], "b": [5]}
    (found,) = heat_maps(made(space, [(None, 5, 1.0), (0.1, 5, 2.0)]))
    assert (found.across, found.columns) == ("a", ["None", "0.1"])
    assert heat_maps(made(space, [(0.1, 5, float("nan"))])) == []
    assert heat_maps(made({"b": [5]}, [(5, 1.0)])) == []
