import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bt_risk.errors import ParameterError
from bt_risk.rules.sizing import (
    floored_atr,
    position_size,
    round_down,
    volatility_floor,
)

STEPS = [1, 0.1, 1e-5, 100, 0.25, 1 / 3]
AT_MOST = 1 + 1e-11  # what rounding may add to a budget

sizes = st.floats(0, 1e7)
positive = st.floats(1e-4, 1e8)


# ---------------------------------------------------------------- position_size


def test_size_loses_the_risk_at_the_stop():
    # 1 % of 100,000 is 1,000; at 2 x 150 a unit that is 3.33 units, or 3 whole ones.
    assert position_size(100_000, 0.01, 300.0) == pytest.approx(10 / 3, rel=1e-15)
    assert position_size(100_000, 0.01, 300.0, step=1) == 3.0


def test_multiplier_makes_each_contract_lose_more():
    # 20 points at 50 a point are 1,000 a contract: one contract for 1,000, none for 999.
    assert position_size(100_000, 0.01, 20.0, multiplier=50, step=1) == 1.0
    assert position_size(99_900, 0.01, 20.0, multiplier=50, step=1) == 0.0


def test_rounding_error_costs_no_step():
    assert 0.3 / 0.1 < 3
    assert position_size(1.0, 0.3, 1.0, step=0.1) == 0.3
    assert position_size(30, 0.01, 0.1, step=1) == 3.0


@given(positive, st.floats(1e-4, 1), positive, st.floats(0.1, 1000), st.sampled_from(STEPS))
@example(100_000, 0.01, 2e-4, 1.0, 1e-5)
def test_size_is_a_whole_number_of_steps_within_the_budget(
    equity, risk, distance, multiplier, step
):
    size = position_size(equity, risk, distance, multiplier, step)
    lost_at_stop = size * distance * multiplier
    assert 0 <= lost_at_stop <= risk * equity * AT_MOST
    assert (size + step) * distance * multiplier >= risk * equity * (1 - 1e-11)
    assert size / step == pytest.approx(round(size / step), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0])
@pytest.mark.parametrize("param", ["equity", "risk", "stop_distance", "multiplier"])
@pytest.mark.parametrize("step", [None, 1])
def test_size_is_zero_when_an_input_is_unknown_or_not_positive(param, bad, step):
    inputs = dict(equity=1000.0, risk=0.5, stop_distance=2.0, multiplier=1.0)
    assert position_size(**inputs, step=step) == 250.0
    assert position_size(**{**inputs, param: bad}, step=step) == 0.0


def test_two_negative_inputs_do_not_make_a_size():
    assert position_size(-1000.0, -0.5, 2.0) == 0.0


def test_no_size_is_infinite():
    assert position_size(math.inf, 0.01, 2.0) == 0.0
    assert position_size(1000.0, 0.01, math.inf) == 0.0
    assert position_size(1e300, 1.0, 1e-300) == 0.0


def test_size_is_a_plain_float_for_numbers_of_any_kind():
    for equity in (1000, 1000.0, np.float64(1000)):
        size = position_size(equity, 0.01, 2, step=np.float64(0.5))
        assert size == 5.0
        assert type(size) is float


def test_size_of_a_series_keeps_its_index():
    distance = pd.Series([np.nan, 4.0, 3.0, 0.0], index=list("abcd"), name="stop")
    expected = pd.Series([0.0, 25.0, 33.0, 0.0], index=list("abcd"), name="stop")
    pd.testing.assert_series_equal(position_size(10_000, 0.01, distance, step=1), expected)
    array = position_size(10_000, 0.01, distance.to_numpy(), step=1)
    np.testing.assert_array_equal(array, expected.to_numpy())


@given(positive, st.floats(1e-3, 1), positive)
def test_size_does_not_depend_on_the_currency(equity, risk, distance):
    # A power of two changes no digit, so equality is exact.
    assert position_size(equity * 64, risk, distance * 64) == position_size(equity, risk, distance)


# ---------------------------------------------------------------- round_down


@pytest.mark.parametrize(
    ("size", "step", "expected"),
    [
        (3.999, 1, 3.0),
        (4.0, 1, 4.0),
        (0.3, 0.1, 0.3),
        (0.7, 0.1, 0.7),
        (0.1 + 0.7, 0.1, 0.8),  # 0.7999999999999999
        (0.29, 0.1, 0.2),
        (0.123456, 1e-5, 0.12345),
        (1e-5, 1e-5, 1e-5),
        (0.9e-5, 1e-5, 0.0),
        (1299.0, 100, 1200.0),
        (99.99, 100, 0.0),
        (3.3, None, 3.3),
        (2.9999999, 1, 2.0),
        (1e10 - 0.5, 1, 1e10 - 1),
    ],
)
def test_rounding_down_to_the_step(size, step, expected):
    assert round_down(size, step) == expected


@pytest.mark.parametrize("step", [None, 1, 1e-5])
def test_rounding_of_unknown_negative_and_unlimited_sizes(step):
    assert round_down(math.nan, step) == 0.0
    assert round_down(-2.0, step) == 0.0
    assert round_down(math.inf, step) == math.inf


def test_multiples_of_a_small_step_print_clean_and_survive_every_multiple():
    for n in range(1, 2000):
        size = round_down(n * 1e-5, 1e-5)
        assert size == float(f"{n}e-5")
        assert len(repr(size)) <= 8


@given(sizes, st.sampled_from(STEPS))
def test_rounding_never_adds_and_takes_less_than_a_step(size, step):
    rounded = round_down(size, step)
    assert rounded <= size * AT_MOST
    assert size - rounded < step * AT_MOST


@example(1.797693134862316e296, 1e-12)
@given(
    st.one_of(sizes, st.floats(), st.integers(-5, 10**6)),
    st.one_of(st.none(), st.sampled_from(STEPS), st.floats(1e-12, 1e12)),
)
def test_one_size_is_rounded_as_a_column_of_sizes(size, step):
    (expected,) = round_down(np.array([size], dtype=float), step)
    assert repr(round_down(size, step)) == repr(float(expected))


numbers = st.one_of(st.floats(), st.floats(1e-9, 1e9), st.integers(-3, 10**6))


@given(numbers, numbers, numbers, st.one_of(st.just(1.0), numbers), st.sampled_from([None, *STEPS]))
def test_one_position_is_sized_as_a_column_of_positions(equity, risk, stop, multiplier, step):
    column = np.array([equity], dtype=float)
    (expected,) = position_size(column, risk, stop, multiplier, step)
    assert repr(position_size(equity, risk, stop, multiplier, step)) == repr(float(expected))


@given(sizes, st.sampled_from(STEPS))
def test_rounding_twice_changes_nothing(size, step):
    rounded = round_down(size, step)
    assert round_down(rounded, step) == rounded


@given(st.lists(sizes, min_size=1, max_size=5), st.sampled_from([None, *STEPS]))
def test_arrays_are_rounded_like_their_numbers(values, step):
    one_by_one = [round_down(value, step) for value in values]
    np.testing.assert_array_equal(round_down(np.array(values), step), one_by_one)


@pytest.mark.parametrize("step", [0, -1, math.nan, math.inf])
def test_a_step_that_is_not_positive_is_refused(step):
    with pytest.raises(ParameterError, match="round_down: step must be positive"):
        round_down(1.0, step)


# ---------------------------------------------------------------- volatility_floor

atrs = arrays(float, st.integers(0, 40), elements=st.floats(0.01, 100) | st.just(np.nan))


def test_floor_is_half_the_median_of_the_window():
    # Medians of the last three: 8, 7, 6, 4, 2; their halves: 4, 3.5, 3, 2, 1.
    atr = np.array([8.0, 6.0, 1.0, 4.0, 2.0])
    np.testing.assert_array_equal(volatility_floor(atr, window=3), [8.0, 6.0, 3.0, 4.0, 2.0])
    np.testing.assert_array_equal(volatility_floor(atr, 1.0, 3), [8.0, 7.0, 6.0, 4.0, 2.0])


@given(atrs, st.floats(0, 2), st.integers(1, 12))
def test_floor_of_each_bar_is_the_floor_of_the_values_up_to_it(atr, atr_floor, window):
    result = volatility_floor(atr, atr_floor, window)
    for end in range(1, atr.size + 1):
        seen = atr[:end]
        recent = seen[~np.isnan(seen)][-window:]
        expected = np.nan if np.isnan(seen[-1]) else floored_atr(recent, atr_floor)
        np.testing.assert_equal(result[end - 1], expected)
        np.testing.assert_array_equal(volatility_floor(seen, atr_floor, window), result[:end])


@given(atrs, st.floats(0, 2))
def test_floor_never_lowers_a_value(atr, atr_floor):
    known = ~np.isnan(atr)
    assert (volatility_floor(atr, atr_floor)[known] >= atr[known]).all()


def test_floor_of_zero_is_no_floor_and_the_input_is_not_changed():
    atr = np.array([np.nan, 8.0, 1.0])
    np.testing.assert_array_equal(volatility_floor(atr, atr_floor=0), atr)
    volatility_floor(atr)
    np.testing.assert_array_equal(atr, [np.nan, 8.0, 1.0])


def test_floor_of_a_series_keeps_its_index():
    atr = pd.Series([np.nan, 8.0, 1.0], index=list("abc"), name="atr")
    expected = pd.Series([np.nan, 8.0, 2.25], index=list("abc"), name="atr")
    pd.testing.assert_series_equal(volatility_floor(atr), expected)


def test_floor_of_nothing_is_unknown():
    assert math.isnan(floored_atr([]))
    assert math.isnan(floored_atr([4.0, math.nan]))
    assert floored_atr([math.nan, 4.0, 4.0, 1.0]) == 2.0


@pytest.mark.parametrize("arguments", [dict(atr_floor=-0.5), dict(window=0), dict(window=2.5)])
def test_floor_refuses_arguments_outside_their_range(arguments):
    with pytest.raises(ParameterError, match=f"volatility_floor: {next(iter(arguments))} must be"):
        volatility_floor(np.ones(3), **arguments)
