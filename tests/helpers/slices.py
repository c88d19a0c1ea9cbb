"""Slice long matrices of parameters: a slice runs always, the rest with ``pytest -m full``."""

import pytest


def sliced(values, every, full_every=1):
    """Return `values` for ``parametrize``: the first of each `every` runs always, the rest is full.

    With `full_every` only the first of so many is full, and what is left is a soak. A tuple holds
    the values of several parameters, as ``parametrize`` takes it.
    """
    return [
        value
        if number % every == 0
        else _marked(value, pytest.mark.soak if number % full_every else pytest.mark.full)
        for number, value in enumerate(values)
    ]


def _marked(value, mark):
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=mark)
