"""Shapley values: known games, all orders by brute force, and what holds for every game."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.evidence.shapley import (
    all_subsets,
    interactions,
    prefixes,
    sampled_orders,
    shapley_from_orders,
    shapley_values,
)

THREE = ["a", "b", "c"]


def game(members, worth):
    return {some: np.array(float(worth(some))) for some in all_subsets(members)}


def every(values):
    return st.lists(st.floats(-1e6, 1e6), min_size=values, max_size=values)


def test_two_left_gloves_and_a_right_one():
    """A pair is worth 1: the right glove is scarce, and gets two thirds."""
    pairs = game(["l1", "l2", "r"], lambda some: "r" in some and len(some) > 1)
    found = shapley_values(["l1", "l2", "r"], pairs)
    assert {one: float(value) for one, value in found.items()} == pytest.approx(
        {"l1": 1 / 6, "l2": 1 / 6, "r": 2 / 3}
    )


def test_members_that_add_up_are_worth_what_they_add_and_do_not_interact():
    own = {"a": 3.0, "b": -2.0, "c": 0.5}
    adding = game(THREE, lambda some: sum(own[one] for one in some))
    found = {one: float(value) for one, value in shapley_values(THREE, adding).items()}
    assert found == pytest.approx(own)
    between = [float(value) for value in interactions(THREE, adding).values()]
    assert between == pytest.approx([0, 0, 0])


@pytest.mark.parametrize(
    ("needed", "expected"),
    [("ab", {"ab": 1, "ac": 0, "bc": 0}), ("abc", {"ab": 0.5, "ac": 0.5, "bc": 0.5})],
)
def test_what_only_comes_of_all_is_an_interaction(needed, expected):
    """Of a game that pays 1 for t members or more of them, each pair has 1 / (t - 1)."""
    unanimous = game(THREE, lambda some: set(needed) <= some)
    found = {one + other: float(v) for (one, other), v in interactions(THREE, unanimous).items()}
    assert found == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), every(2**n))))
def test_values_are_the_mean_over_all_orders(drawn):
    count, worth = drawn
    members = list("abcd")[:count]
    values = dict(zip(all_subsets(members), map(np.array, worth), strict=True))
    gains = {one: [] for one in members}
    for order in permutations(members):
        for place, one in enumerate(order):
            before = frozenset(order[:place])
            gains[one].append(float(values[before | {one}] - values[before]))
    found = shapley_values(members, values)
    for one in members:
        assert float(found[one]) == pytest.approx(np.mean(gains[one]), abs=1e-6)
    whole = float(values[frozenset(members)] - values[frozenset()])
    assert sum(float(value) for value in found.values()) == pytest.approx(whole, abs=1e-6)
    estimates = shapley_from_orders(sampled_orders(members, 4, 1), values)
    assert sum(float(one) for one, _ in estimates.values()) == pytest.approx(whole, abs=1e-6)


def test_histories_are_one_call():
    rng = np.random.default_rng(1)
    values = {some: rng.normal(size=3) for some in all_subsets(THREE)}
    of_all = shapley_values(THREE, values)
    for place in range(3):
        one = shapley_values(THREE, {some: drawn[place] for some, drawn in values.items()})
        assert {name: of_all[name][place] for name in THREE} == pytest.approx(one)


def test_orders_come_in_pairs_of_opposites_and_a_seed_gives_them_again():
    orders = sampled_orders("abcdefgh", 7, seed=3)
    assert len(orders) == 8
    assert [order[::-1] for order in orders[::2]] == orders[1::2]
    assert all(sorted(order) == list("abcdefgh") for order in orders)
    assert len(set(orders)) == 8
    assert orders == sampled_orders("abcdefgh", 7, seed=3)
    assert orders != sampled_orders("abcdefgh", 7, seed=4)
    assert prefixes(("a", "b")) == [frozenset(), frozenset("a"), frozenset("ab")]


def test_an_estimate_from_orders_is_within_its_error_of_the_value():
    """Of 40 estimates of 8 values most lie within two standard errors, and more orders help."""
    members, rng = list("abcdefgh"), np.random.default_rng(5)
    values = {some: rng.normal(0, 1 + len(some), 1)[0] for some in all_subsets(members)}
    values = {some: np.array(value) for some, value in values.items()}
    exact, inside, errors = shapley_values(members, values), [], {}
    for count in (20, 200):
        for seed in range(20):
            found = shapley_from_orders(sampled_orders(members, count, seed), values)
            for one, (estimate, error) in found.items():
                inside.append(abs(estimate - exact[one]) < 2 * error)
                errors.setdefault(count, []).append(error)
    assert 0.88 < np.mean(inside) < 0.99
    assert np.mean(errors[200]) < np.mean(errors[20]) / 2.5
