import math

import numpy as np
import pytest
from helpers.rolling_by_blocks import matrices_by_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.rules import rolling_matrices as module
from bt_risk.rules.rolling_matrices import rolling_matrices


def world(seed, n_bars, n_names):
    """Return returns with a bad tick, a halted name, a level far from zero, or missing values."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.01, (n_bars, n_names)) + rng.normal(0, 0.01, (n_bars, 1))
    kind, name, bar = rng.integers(6), rng.integers(n_names), rng.integers(n_bars)
    if kind == 0:
        returns[bar, name] = 10.0 ** rng.integers(1, 9)
    elif kind == 1:
        returns[bar:, name] *= 1e-6
    elif kind == 2:
        returns[bar:, name] = rng.choice([0.0, 0.01])
    elif kind == 3:
        returns += 10.0 ** rng.integers(0, 6)
    elif kind == 4:
        returns[rng.random(returns.shape) < 0.02] = rng.choice([math.nan, math.inf])
    return returns


@given(
    seed=st.integers(0, 10_000),
    n_bars=st.integers(0, 120),
    n_names=st.integers(1, 7),
    window=st.integers(2, 45),
    chunk=st.sampled_from([1, 2000, 2**22]),
)
@settings(max_examples=100, deadline=None)
def test_a_pair_has_the_digits_that_it_has_in_a_matrix_of_all(seed, n_bars, n_names, window, chunk):
    returns = world(seed, n_bars or 1, n_names)[:n_bars]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_BYTES", chunk)
        patch.setattr(module, "_FEW_BARS", 5)
        patch.setattr(module, "_FEWER_BARS", 3)
        matrices = rolling_matrices(returns, window)
    expected = matrices_by_blocks(returns, window)
    above = np.triu_indices(n_names)
    np.testing.assert_array_equal(matrices[:, above[0], above[1]], expected[:, above[0], above[1]])
    np.testing.assert_array_equal(matrices, matrices.swapaxes(1, 2))


def test_hundred_names_have_the_digits_that_they_have_in_a_matrix_of_all():
    returns = world(5, 530, 100)
    matrices, expected = rolling_matrices(returns, 252), matrices_by_blocks(returns, 252)
    above = np.triu_indices(100)
    np.testing.assert_array_equal(matrices[:, above[0], above[1]], expected[:, above[0], above[1]])
    np.testing.assert_array_equal(matrices, matrices.swapaxes(1, 2))
    np.testing.assert_allclose(matrices, expected, rtol=0, atol=1e-14)


def test_each_pair_is_multiplied_about_twice_a_bar(monkeypatch):
    # Once for the sums of its own block, and once for those of the next one.
    sizes, einsum = [], np.einsum
    monkeypatch.setattr(np, "einsum", lambda *a, **k: sizes.append(einsum(*a, **k)) or sizes[-1])
    rolling_matrices(world(5, 2520, 60), 252)
    products = sum(product.size for product in sizes if len(product) > module._FEW_BARS)
    assert products < 2.7 * 2520 * 60 * 60 / 2


def test_bars_without_a_whole_window_are_not_computed(monkeypatch):
    scaled, clip = [], np.clip
    monkeypatch.setattr(np, "clip", lambda a, *b, **k: scaled.append(len(a)) or clip(a, *b, **k))
    matrices = rolling_matrices(world(5, 500, 4), 252)
    assert sum(scaled) == 500 - 251
    assert np.isnan(matrices[:251]).all()
