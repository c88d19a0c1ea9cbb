"""What the suite costs in function calls per bar: the goals, and that it does not creep up."""

import json
import re
from pathlib import Path

import pytest
from helpers.benchmark_package import load

FOLDER = Path(__file__).parents[2] / "benchmarks"
CREEP = 1.02

overhead = load("overhead")
stored = json.loads((FOLDER / "overhead.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=sorted(overhead.GOALS), ids="{} datas".format)
def measured(request):
    """Return the number of datas, and the calls per bar bare, protected and by the quick loop."""
    return request.param, *overhead.calls_per_bar(request.param)


def same_minor(name):
    """Whether what is installed is of the release that the figure was measured with."""
    here = overhead.versions()[name]
    return here.split(".")[:2] == stored["versions"][name].split(".")[:2]


@pytest.mark.skipif(not same_minor("python"), reason="another Python counts other calls")
def test_the_whole_suite_costs_no_more_than_its_goal(measured):
    datas, bare, protected, _ = measured
    assert bare < protected <= overhead.GOALS[datas] * bare


@pytest.mark.parametrize("name", stored["versions"])
def test_the_stored_figure_names_what_it_was_measured_with(name):
    assert re.fullmatch(r"[\d.]+", stored["versions"][name])


@pytest.mark.skipif(
    not all(map(same_minor, stored["versions"])),
    reason=f"the stored figure is of {stored['versions']}",
)
def test_calls_per_bar_have_not_grown(measured):
    """If they had to: python -m benchmarks overhead --store, and say why in the commit."""
    datas, _, *now = measured
    before = stored["calls_per_bar"][str(datas)]
    assert all(one <= CREEP * limit for one, limit in zip(now, before, strict=True))


def test_the_quick_loop_and_feed_save_most_of_the_calls(measured):
    _, bare, _, quick = measured
    assert quick < 0.3 * bare
