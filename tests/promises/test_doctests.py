"""Every example in a docstring of the package runs, wherever the package is installed."""

import doctest
import importlib
import pkgutil

import bt_risk


def examples():
    """Return each docstring of the package that holds an example."""
    found = pkgutil.walk_packages(bt_risk.__path__, "bt_risk.")
    names = ["bt_risk", *(m.name for m in found if not m.name.endswith("__main__"))]
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in names for test in finder.find(importlib.import_module(name))]
    return [test for test in tests if test.examples]


def test_every_example_prints_what_it_says():
    report = []
    for example in examples():
        doctest.DocTestRunner().run(example, out=report.append)
    assert not report, "".join(report)
