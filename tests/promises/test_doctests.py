"""Every example in a docstring of the package runs, wherever the package is installed."""

import doctest
import importlib
import pkgutil

import pytest

import bt_risk


def examples():
    """Return each docstring of the package that holds an example, by its dotted name."""
    found = pkgutil.walk_packages(bt_risk.__path__, "bt_risk.")
    names = ["bt_risk", *(m.name for m in found if not m.name.endswith("__main__"))]
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in names for test in finder.find(importlib.import_module(name))]
    return {test.name: test for test in tests if test.examples}


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_prints_what_it_says(name):
    report = []
    failed, _ = doctest.DocTestRunner().run(EXAMPLES[name], out=report.append)
    assert not failed, "".join(report)
