"""Slice long matrices of parameters: a slice runs always, the rest with ``pytest -m full``."""

import pytest


def sliced(values, every):
    """Return `values` for ``parametrize``: the first of each `every` runs always, the rest is full.

    A tuple holds the values of several parameters, as ``parametrize`` takes it.
    """
    return [value if number % every == 0 else _full(value) for number, value in enumerate(values)]


def _full(value):
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.full)
