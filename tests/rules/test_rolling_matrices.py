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


def check(matrices, expected):
    np.testing.assert_allclose(matrices, expected, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(matrices, matrices.swapaxes(1, 2))


@given(
    seed=st.integers(0, 10_000),
    n_bars=st.integers(0, 120),
    n_names=st.integers(1, 7),
    window=st.integers(2, 45),
    group=st.integers(1, 20),
    names=st.sampled_from([2, 3, 125]),
    few=st.sampled_from([1, 500, 2**19]),
)
@settings(max_examples=150, deadline=None)
def test_each_matrix_is_that_of_its_window(seed, n_bars, n_names, window, group, names, few):
    returns = world(seed, n_bars or 1, n_names)[:n_bars]
    sizes = dict(_EDGE_CELLS=1, _LEAST_GROUP=group, _NAMES=names, _FEW_BYTES=few)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sizes.items():
            patch.setattr(module, name, value)
        matrices = rolling_matrices(returns, window)
    check(matrices, matrices_by_blocks(returns, window))


@pytest.mark.parametrize("n_names", [100, 130])
def test_many_names_have_the_matrices_of_their_windows(n_names):
    returns = world(5, 530, n_names)
    check(rolling_matrices(returns, 252), matrices_by_blocks(returns, 252))


@pytest.mark.parametrize("trace", [1e9, math.nan])
@pytest.mark.parametrize("bar", [0, 16, 47, 60, 119])
def test_nothing_outside_a_window_reaches_its_matrix(bar, trace):
    """A sum that ever held 1e18 has lost all digits of returns."""
    returns = np.random.default_rng(bar).normal(0, 0.01, (120, 3))
    disturbed = returns.copy()
    disturbed[bar] = trace
    clean, matrices = rolling_matrices(returns, 40), rolling_matrices(disturbed, 40)
    # A window is known by its last bar.
    without = np.r_[39 : max(bar, 39), bar + 40 : 120]
    np.testing.assert_allclose(matrices[without], clean[without], rtol=0, atol=1e-13)
    assert len(without) >= 41


@pytest.mark.parametrize("where", ["the edges", "the cores"])
def test_matrices_are_symmetric_whatever_blas_makes_of_their_products(monkeypatch, where):
    """The place of a sum in a matrix may decide in which sequence its terms are added."""
    matmul = np.matmul

    def rounded(*factors, out=None):
        product = matmul(*factors, out=out)
        if (out is not None and out.ndim == 3) == (where == "the edges"):
            product *= 1 + 1e-15 * np.tri(*product.shape[-2:])
        return product

    monkeypatch.setattr(np, "matmul", rounded)
    returns = world(5, 300, 6)
    check(rolling_matrices(returns, 40), matrices_by_blocks(returns, 40))


def test_a_window_is_multiplied_anew_for_a_few_of_its_bars_only(monkeypatch):
    """No product is so large that OpenBLAS would share it among threads, which cost more."""
    terms, sizes, matmul = [], [], np.matmul

    def counted(left, right, out=None):
        product = matmul(left, right, out=out)
        terms.append(product.size * left.shape[-1])
        sizes.append(np.prod(product.shape[-2:]) * left.shape[-1])
        return product

    monkeypatch.setattr(np, "matmul", counted)
    rolling_matrices(world(5, 2520, 60), 252)
    assert sum(terms) < 25 * 2520 * 60 * 60
    rolling_matrices(world(5, 300, 260), 252)
    assert max(sizes) <= 2**18


def test_bars_without_a_whole_window_are_not_computed(monkeypatch):
    scaled, clip = [], np.clip
    monkeypatch.setattr(np, "clip", lambda a, *b, **k: scaled.append(len(a)) or clip(a, *b, **k))
    matrices = rolling_matrices(world(5, 500, 4), 252)
    assert sum(scaled) == 500 - 251
    assert np.isnan(matrices[:251]).all()
