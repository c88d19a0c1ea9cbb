"""Slice long matrices of parameters: the default run, ``pytest -m full`` and ``pytest -m soak``."""

import pytest

FULL_EVERY = 3


def sliced(values, every, full_every=FULL_EVERY):
    """Return `values` for ``parametrize``: the first of each `every` runs always.

    Of the others the first of each `full_every` is full, which CI runs too, and what is left is a
    soak. A tuple holds the values of several parameters, as ``parametrize`` takes it.
    """
    marked, others = [], 0
    for number, value in enumerate(values):
        if number % every:
            mark = pytest.mark.soak if others % full_every else pytest.mark.full
            marked.append(_marked(value, mark))
            others += 1
        else:
            marked.append(value)
    return marked


def _marked(value, mark):
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=mark)
