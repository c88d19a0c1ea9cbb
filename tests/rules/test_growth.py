import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.rules import growth
from bt_risk.rules.growth import fastest_growth
from bt_risk.rules.kelly import empirical_kelly

GRAIN = 2.0**-50


def by_halves(sample, halvings=50):
    """The bisection that `fastest_growth` replaced."""
    worst = -sample.min()
    if worst <= 0:
        return 1.0 if sample.max() > 0 else 0.0
    low, high = 0.0, 1 / worst
    for _ in range(halvings):
        middle = (low + high) / 2
        if (sample / (1 + middle * sample)).sum() > 0:
            low = middle
        else:
            high = middle
    return low


def exactly(sample):
    """The optimum to forty digits, as a share of ruin; of a sample with a loss."""
    with localcontext(prec=60):
        results = [Decimal(float(r)) for r in sample if r]
        worst = -min(results)
        shares = [r / worst for r in results]
        low, high = Decimal(0), Decimal(1)
        for _ in range(140):
            middle = (low + high) / 2
            grows = sum(share / (1 + middle * share) for share in shares) > 0
            low, high = (middle, high) if grows else (low, middle)
        return low


def share_of_ruin(sample):
    return empirical_kelly(sample) * -min(sample)


def mixed(generator, n_trades, spread):
    """Wins and losses of which the largest is up to 10 ** (2 spread) times the smallest."""
    wins = generator.random(n_trades) < generator.uniform(0.05, 0.98)
    size = 10 ** generator.uniform(-spread, spread, n_trades)
    return np.where(wins, size, -(10 ** generator.uniform(-spread, spread, n_trades)))


def samples(spread, count, n_trades=40):
    generator = np.random.default_rng(7)
    while count:
        sample = mixed(generator, generator.integers(2, n_trades), spread)
        if sample.min() < 0 < sample.sum():
            count -= 1
            yield sample


def ordinary(count):
    generator = np.random.default_rng(8)
    for _ in range(count):
        wins = generator.random(100) < generator.uniform(0.4, 0.7)
        yield np.where(wins, generator.exponential(1.8, 100), -generator.uniform(0.2, 1.4, 100))


@given(
    st.lists(
        st.floats(0.001, 1e4) | st.floats(-1e4, -0.001) | st.just(-1.0), min_size=2, max_size=25
    )
)
@settings(max_examples=150, deadline=None)
def test_fraction_is_the_optimum_to_the_last_digits(sample):
    if min(sample) < 0:
        optimum = float(exactly(sample))
        assert abs(share_of_ruin(sample) - optimum) <= 4 * GRAIN
        assert abs(share_of_ruin(sample) - optimum) <= (
            abs(by_halves(np.array(sample)) * -min(sample) - optimum) + GRAIN
        )


@pytest.mark.parametrize("spread", [0.5, 2, 4, 8])
def test_fraction_is_that_of_the_bisection(spread):
    for sample in samples(spread, 150):
        halves = by_halves(sample) * -min(sample)
        assert abs(share_of_ruin(sample) - halves) <= 8 * GRAIN


@pytest.mark.parametrize("spread", [1, 8])
def test_fraction_of_a_few_extreme_samples_is_the_optimum(spread):
    for sample in samples(spread, 8, n_trades=12):
        assert abs(share_of_ruin(sample) - float(exactly(sample))) <= 4 * GRAIN


def steps_needed(sample):
    """The least number of steps after which more of them change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        final = empirical_kelly(sample)
        for steps in range(growth._STEPS):
            patch.setattr(growth, "_STEPS", steps)
            if empirical_kelly(sample) == final:
                return steps
    return growth._STEPS


def test_two_distinct_results_take_one_step_and_a_check():
    for win, loss in [(1.5, 1.0), (1e6, 1e-6), (0.01, 20.0), (3.0, 3.0)]:
        sample = [win] * 99 + [-loss] * 10
        if sum(sample) > 0:
            assert steps_needed(sample) <= 2


def test_ordinary_samples_take_five_steps_and_extreme_ones_ten():
    assert max(map(steps_needed, ordinary(200))) <= 5
    assert max(map(steps_needed, samples(8, 200))) <= 10


def test_steps_are_bounded_even_if_newton_never_arrives(monkeypatch):
    # No step is ever small enough: the bracket keeps the answer where it was.
    monkeypatch.setattr(growth, "_CLOSE", 0.0)
    for sample in ordinary(20):
        assert empirical_kelly(sample) == pytest.approx(by_halves(sample), rel=1e-12)


def test_bisection_alone_arrives_as_well(monkeypatch):
    # Slopes of NaN: no step of Newton is taken.
    sample = next(ordinary(1))
    expected = empirical_kelly(sample)

    class NoSlope(float):
        def __mul__(self, other):
            return math.nan

    monkeypatch.setattr(growth, "float", NoSlope, raising=False)
    assert empirical_kelly(sample) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("n_small", "small", "n_wins", "win"), [(1000, 0.001, 100, 1e3), (2300, 0.0045, 64, 0.46)]
)
def test_a_step_of_newton_beyond_ruin_is_not_taken(n_small, small, n_wins, win):
    # Many small losses and one large: the straight line from no bet on leads beyond ruin. From
    # there the second sample would end at four times that.
    sample = np.array([-1.0] + [-small] * n_small + [win] * n_wins)
    assert abs(fastest_growth(sample) - by_halves(sample)) <= 8 * GRAIN


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ([1.0], 1.0),
        ([-1.0], 0.0),
        ([0.0], 0.0),
        ([2.0, 0.5], 1.0),
        ([-2.0, -0.5], 0.0),
        ([0.0, 1.0], 1.0),
        ([0.0, -1.0], 0.0),
        ([1e-12, -1e-12], 0.0),
        ([1e-9, -1e-9], 0.0),
        ([2e-9, -1e-9], 0.25e9),
        # p - q/b with p = q = 1/2 and b = 1e12: ruin is at 1.
        ([1e12, -1.0], 0.5 - 0.5e-12),
        # Ruin at 1e6: p - q/b of b = 1e12, times that.
        ([1e6, -1e-6], (0.5 - 0.5e-12) * 1e6),
        ([1e150, -1e-8], 0.5e8),
    ],
)
def test_samples_at_the_edges(sample, expected):
    assert empirical_kelly(sample) == pytest.approx(expected, rel=1e-14)


def test_a_mean_that_is_zero_but_for_rounding_is_no_edge():
    sample = [0.1, 0.2, -0.1 - 0.2]
    assert sum(map(Fraction, sample)) != 0
    assert empirical_kelly(sample) == 0.0
    assert empirical_kelly([1.0 + 2.0**-52, -1.0]) == 0.0


@pytest.mark.parametrize("n_wins", [10**3, 10**6])
def test_a_loss_seen_once_leaves_the_bet_just_below_ruin(n_wins):
    # p - q / b with one loss in n + 1 trades and b = 1: (n - 1) / (n + 1).
    fraction = empirical_kelly([1.0] * n_wins + [-1.0])
    assert fraction == pytest.approx((n_wins - 1) / (n_wins + 1), rel=1e-13)


def test_no_bet_reaches_ruin_however_rare_a_loss():
    # The optimum is within 1e-17 of ruin, nearer than a float can be.
    sample = [1e8] * 1000 + [-1e-9] * 1
    fraction = empirical_kelly(sample * 1000)
    assert fraction * 1e-9 < 1
    assert fastest_growth(np.array([-1.0, 1e300])) == pytest.approx(0.5, rel=1e-14)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=40), st.randoms())
def test_order_of_the_trades_changes_no_digit(sample, random):
    shuffled = random.sample(sample, len(sample))
    assert empirical_kelly(shuffled) == empirical_kelly(sample)
