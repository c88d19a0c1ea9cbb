"""Shapley values: what each member of a set is worth, from what its subsets are worth.

Values are arrays of any one shape, so that thousands of resampled histories are one call.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

__all__ = [
    "Order",
    "Subset",
    "all_subsets",
    "interactions",
    "prefixes",
    "sampled_orders",
    "shapley_from_orders",
    "shapley_values",
]

Subset = frozenset[str]
Order = tuple[str, ...]
Values = Mapping[Subset, np.ndarray]


def all_subsets(members: Sequence[str]) -> list[Subset]:
    """Return all subsets, the smallest first."""
    sizes = range(len(members) + 1)
    return [frozenset(some) for size in sizes for some in combinations(members, size)]


def shapley_values(members: Sequence[str], values: Values) -> dict[str, np.ndarray]:
    """Return the Shapley value of each member.

    Parameters
    ----------
    members : list of str
    values : dict of frozenset to ndarray
        What each of all subsets is worth.

    Returns
    -------
    dict of str to ndarray
        They sum to what the whole set is worth, less what the empty set is worth.

    Notes
    -----
    The mean gain of adding a member, over all orders in which the set can be built up:
    ``sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))``.

    References
    ----------
    Shapley, A Value for n-Person Games, Contributions to the Theory of Games II (1953).

    Examples
    --------
    >>> gloves = {(): 0, ("left",): 0, ("right",): 0, ("left", "right"): 1}
    >>> values = {frozenset(some): np.array(value) for some, value in gloves.items()}
    >>> {name: float(value) for name, value in shapley_values(["left", "right"], values).items()}
    {'left': 0.5, 'right': 0.5}
    """
    count, found = len(members), {}
    for member in members:
        rest = [one for one in members if one != member]
        parts = [
            _weight(len(some), count) * (values[some | {member}] - values[some])
            for some in all_subsets(rest)
        ]
        found[member] = np.sum(parts, axis=0)
    return found


def interactions(members: Sequence[str], values: Values) -> dict[tuple[str, str], np.ndarray]:
    """Return the Shapley interaction index of each pair.

    It is what two members add together, beyond what each of them adds without the other.

    Notes
    -----
    ``sum over S without i, j of |S|! (n - |S| - 2)! / (n - 1)! (v(S + i + j) - v(S + i) - v(S + j)
    + v(S))``

    References
    ----------
    Grabisch & Roubens, An Axiomatic Approach to the Concept of Interaction among Players in
    Cooperative Games, International Journal of Game Theory 28 (1999).
    """
    found = {}
    for one, other in combinations(members, 2):
        rest = [member for member in members if member not in (one, other)]
        parts = []
        for some in all_subsets(rest):
            both, first, second = some | {one, other}, some | {one}, some | {other}
            beyond = values[both] - values[first] - values[second] + values[some]
            parts.append(_weight(len(some), len(members) - 1) * beyond)
        found[one, other] = np.sum(parts, axis=0)
    return found


def _weight(size: int, count: int) -> float:
    """Return the share of all orders of `count` in which exactly `size` given ones come first."""
    return 1.0 / (count * math.comb(count - 1, size))


def sampled_orders(members: Sequence[str], count: int, seed: int) -> list[Order]:
    """Return random orders of the members, each followed by its reverse.

    References
    ----------
    Mitchell, Cooper, Frank & Holmes, Sampling Permutations for Shapley Value Estimation, Journal of
    Machine Learning Research 23 (2022): antithetic pairs.
    """
    rng, orders = np.random.default_rng(seed), list[Order]()
    while len(orders) < count:
        order = tuple(members[place] for place in rng.permutation(len(members)))
        orders += [order, order[::-1]]
    return orders


def prefixes(order: Order) -> list[Subset]:
    """Return the subsets that an order goes through, from the empty one to the whole."""
    return [frozenset(order[:size]) for size in range(len(order) + 1)]


def shapley_from_orders(
    orders: Iterable[Order], values: Values
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Estimate the Shapley value of each member, with its standard error.

    Parameters
    ----------
    orders : list of tuple
        As `sampled_orders` returns them: a pair of an order and its reverse is one sample.
    values : dict of frozenset to ndarray
        What each subset that the orders go through is worth.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Whatever the sample, the values sum to what the whole set is worth, less what the empty set
        is worth.
    """
    gains: dict[str, list[np.ndarray]] = {}
    for order in orders:
        steps = pairwise(prefixes(order))
        for member, (before, after) in zip(order, steps, strict=True):
            gains.setdefault(member, []).append(values[after] - values[before])
    found = {}
    for member, of_orders in gains.items():
        pairs = (np.array(of_orders[::2]) + np.array(of_orders[1::2])) / 2
        error = pairs.std(axis=0, ddof=1) / math.sqrt(len(pairs))
        found[member] = pairs.mean(axis=0), error
    return found
