import math
import pickle

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.trailing_stop import (
    WilderATR,
    atr,
    atr_step,
    atr_stop,
    ratchet,
    trail,
    true_range,
)

nan = math.nan


def random_bars(seed, n_bars=300, volatility=0.02, unknown=0.0):
    """High, low and close of a random walk; a share of the bars has one price missing."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, volatility, n_bars)))
    opening = close * np.exp(generator.normal(0, volatility, n_bars))
    spread = 1 + generator.random((2, n_bars)) * volatility
    bars = np.array(
        [np.maximum(opening, close) * spread[0], np.minimum(opening, close) / spread[1], close]
    )
    holes = np.flatnonzero(generator.random(n_bars) < unknown)
    bars[generator.integers(3, size=holes.size), holes] = generator.choice([nan, math.inf])
    return bars


# Few distinct prices, so that stops are touched exactly as well as crossed.
@st.composite
def small_bars(draw):
    n_bars = draw(st.integers(0, 40))
    close = draw(st.lists(st.integers(80, 120), min_size=n_bars, max_size=n_bars))
    above = draw(st.lists(st.integers(0, 6), min_size=n_bars, max_size=n_bars))
    below = draw(st.lists(st.integers(0, 6), min_size=n_bars, max_size=n_bars))
    close = np.array(close, dtype=float)
    return np.array([close + above, close - below, close]).reshape(3, n_bars)


def naive_stop(high, low, close, atr_period, atr_multiple, anchor, side, buffer=0.0):
    """Bar by bar with the one-bar functions, as a strategy would do it."""
    average, stop, extreme, stops = WilderATR(atr_period), nan, nan, []
    for bar in zip(high, low, close, strict=True):
        width = (atr_multiple + buffer) * average.update(*bar)
        if np.isfinite(bar).all() and width == width:
            touched = bar[1] <= stop if side > 0 else bar[0] >= stop
            if touched or stop != stop:
                stop = extreme = nan
            if anchor == "close":
                extreme = bar[2]
            else:
                extreme = ratchet(extreme, bar[0] if side > 0 else bar[1], side)
            stop = ratchet(stop, extreme - side * width, side)
        stops.append(stop)
    return np.array(stops)


# ---------------------------------------------------------------- the article


def test_article_row_5_the_stop_no_longer_loosens_when_the_range_widens():
    close = np.array([100, 110, 107, 108, 108.5])
    atrs = np.array([2.0, 2, 2, 2, 4])
    levels = close - 2 * atrs
    # The levels are 96, 106, 103, 104, 100.5; after 106 none of them is higher.
    np.testing.assert_array_equal(trail(levels), [96, 106, 106, 106, 106])
    np.testing.assert_array_equal(trail(levels, touch=close), [96, 106, 106, 106, 106])


def test_article_row_5_the_mirror_image_holds_for_a_short_position():
    levels = np.array([104.0, 94.0, 97.0, 96.0, 99.5])
    np.testing.assert_array_equal(trail(levels, side=-1), [104, 94, 94, 94, 94])


def test_the_articles_call_runs_as_it_is_written():
    high, low, close = random_bars(1)
    df = pd.DataFrame(dict(high=high, low=low, close=close))
    df["stop_long"] = atr_stop(df.high, df.low, df.close)
    assert df.stop_long.isna().sum() == 14
    by_position = atr_stop(df.high, df.low, df.close, 14, 2.0)
    pd.testing.assert_series_equal(by_position, df.stop_long, check_names=False)


# ---------------------------------------------------------------- true_range, atr_step, WilderATR


@pytest.mark.parametrize(
    ("bar", "expected"),
    [((105, 103, 104), 2), ((105, 103, 100), 5), ((105, 103, 109), 6), ((105, 103, 103), 2)],
    ids=["close within", "gap up", "gap down", "close at the low"],
)
def test_true_range_counts_the_gap(bar, expected):
    assert true_range(*bar) == expected


def test_atr_by_hand():
    # True ranges from the second bar on: 2, 4, 1. Seed (2 + 4) / 2 = 3, then (3 x 1 + 1) / 2 = 2.
    high, low = np.array([9.0, 10.0, 13.0, 12.0]), np.array([8.0, 8.0, 9.0, 11.0])
    np.testing.assert_array_equal(
        atr(high, low, np.array([8.0, 9.0, 12.0, 12.0]), 2), [nan, nan, 3, 2]
    )
    assert atr_step(3.0, 1.0, 2) == 2.0


@pytest.mark.parametrize("atr_period", [1, 2, 14, 50])
def test_one_bar_forms_agree_with_talib(atr_period):
    high, low, close = random_bars(7, n_bars=2000)
    average = WilderATR(atr_period)
    scanned = [average.update(*bar) for bar in zip(high, low, close, strict=True)]
    theirs = talib.ATR(high, low, close, timeperiod=atr_period)
    assert np.isnan(scanned).sum() == atr_period
    np.testing.assert_allclose(scanned, theirs, rtol=1e-9, atol=0)
    np.testing.assert_array_equal(atr(high, low, close, atr_period), theirs)
    assert average.value == scanned[-1]


@pytest.mark.parametrize("seed", range(5))
def test_one_bar_forms_agree_with_the_series_when_prices_are_missing(seed):
    high, low, close = random_bars(seed, unknown=0.2)
    average = WilderATR(5)
    scanned = [average.update(*bar) for bar in zip(high, low, close, strict=True)]
    np.testing.assert_allclose(atr(high, low, close, 5), scanned, rtol=1e-9)


@pytest.mark.parametrize("price", range(3))
@pytest.mark.parametrize("bad", [nan, math.inf, -math.inf])
def test_a_bad_bar_leaves_no_trace_in_the_average(price, bad):
    good = [tuple(bar) for bar in random_bars(3, n_bars=40).T]
    clean, dirty = WilderATR(5), WilderATR(5)
    broken = list(good[20])
    broken[price] = bad
    for bar in good[:20]:
        clean.update(*bar)
        dirty.update(*bar)
    assert dirty.update(*broken) == clean.value
    for bar in good[20:]:
        assert dirty.update(*bar) == clean.update(*bar)


def test_the_average_goes_on_after_pickling_in_the_middle_of_its_seed():
    bars = [tuple(bar) for bar in random_bars(3, n_bars=40).T]
    for split in (0, 3, 20):
        straight, first = WilderATR(5), WilderATR(5)
        for bar in bars[:split]:
            straight.update(*bar)
            first.update(*bar)
        second = pickle.loads(pickle.dumps(first))
        assert [second.update(*bar) for bar in bars[split:]] == pytest.approx(
            [straight.update(*bar) for bar in bars[split:]], rel=0, nan_ok=True
        )


def test_the_average_keeps_to_plain_floats():
    average = WilderATR(2)
    for bar in [(9.0, 8.0, 8.0), (10.0, 8.0, 9.0), (13.0, 9.0, 12.0)]:
        average.update(*bar)
    assert type(average.value) is float


# ---------------------------------------------------------------- atr


def test_atr_of_leading_and_inner_gaps_skips_them():
    high, low, close = random_bars(2, n_bars=60)
    holes = [0, 1, 2, 30, 31]
    kept = np.delete(np.arange(60), holes)
    expected = np.full(60, nan)
    expected[kept] = talib.ATR(high[kept], low[kept], close[kept], 5)
    expected[[30, 31]] = expected[29]
    high[holes[:3]], low[30], close[31] = nan, nan, nan
    np.testing.assert_array_equal(atr(high, low, close, 5), expected)


@pytest.mark.parametrize("n_bars", [0, 1, 5])
def test_atr_of_too_few_bars_is_unknown(n_bars):
    result = atr(*random_bars(1, n_bars=5)[:, :n_bars], 5)
    np.testing.assert_array_equal(result, np.full(n_bars, nan))


def test_atr_takes_whole_numbers_and_strided_columns():
    bars = np.arange(60).reshape(20, 3)[:, ::-1]  # high, low, close = 3i+2, 3i+1, 3i
    # Each bar: top 3i+2, the previous close 3i-3 below the low, so the true range is 5.
    np.testing.assert_array_equal(atr(*bars.T, 4), [nan] * 4 + [5.0] * 16)


def test_series_in_series_out_with_the_same_index():
    high, low, close = random_bars(4, n_bars=40)
    index = pd.date_range("2024-01-01", periods=40, freq="h")
    h, low_, c = (pd.Series(x, index=index, name="x") for x in (high, low, close))
    for result, expected in [
        (atr(h, low_, c, 5), atr(high, low, close, 5)),
        (atr_stop(h, low_, c, 5), atr_stop(high, low, close, 5)),
        (trail(c, low_), trail(close, low)),
    ]:
        assert isinstance(expected, np.ndarray)
        pd.testing.assert_series_equal(result, pd.Series(expected, index=index))


def test_inputs_are_not_changed():
    bars = random_bars(4, n_bars=60, unknown=0.1)
    before = bars.copy()
    for side in (1, -1):
        atr_stop(*bars, 5, side=side)
        trail(bars[2], bars[1], side)
    np.testing.assert_array_equal(bars, before)


# ---------------------------------------------------------------- ratchet, trail


@pytest.mark.parametrize(
    ("stop_price", "level", "side", "expected"),
    [
        (100.0, 101.0, 1, 101.0),
        (100.0, 99.0, 1, 100.0),
        (100.0, 101.0, -1, 100.0),
        (100.0, 99.0, -1, 99.0),
        (nan, 99.0, 1, 99.0),
        (nan, 99.0, -1, 99.0),
        (100.0, nan, 1, 100.0),
        (100.0, nan, -1, 100.0),
    ],
)
def test_ratchet_moves_only_with_the_position(stop_price, level, side, expected):
    assert ratchet(stop_price, level, side) == expected


def test_ratchet_of_two_unknowns_is_unknown_and_a_side_needs_a_sign():
    assert math.isnan(ratchet(nan, nan, 1))
    for side in (0, nan):
        with pytest.raises(ParameterError, match="ratchet: side must be"):
            ratchet(100.0, 101.0, side)


maybe_prices = st.lists(st.floats(-100, 100) | st.just(nan), max_size=30)


@given(maybe_prices, st.sampled_from([1, -1]))
def test_trail_without_touches_is_the_ratchet_bar_by_bar(levels, side):
    stop, expected = nan, []
    for level in levels:
        stop = ratchet(stop, level, side)
        expected.append(stop)
    np.testing.assert_array_equal(trail(np.array(levels), side=side), expected)


def test_trail_starts_anew_on_the_bar_that_touches_not_on_the_one_before():
    levels = np.array([90.0, 95.0, 93.0, 91.0, 92.0])
    lows = np.array([80.0, 95.5, 96.0, 95.0, 92.5])
    # The first low meets no stop yet. 95 is touched exactly by the fourth low: 91 from there on;
    # the last bar's low is above 91.
    np.testing.assert_array_equal(trail(levels, lows), [90, 95, 95, 91, 92])
    lows[3] = 95.0 + 1e-9
    np.testing.assert_array_equal(trail(levels, lows)[:4], [90, 95, 95, 95])


# ---------------------------------------------------------------- atr_stop


def test_stop_by_hand_ratchets_then_starts_anew_on_the_touch():
    # High and low are 1 around the close, so true ranges are 3, 3, 2, 5 from the second bar on and
    # ATR(2) is 3 at the third bar, 2.5 at the fourth, 3.75 at the fifth. Levels: 104 - 6 = 98,
    # 103 - 5 = 98, 99 - 7.5 = 91.5. The fifth low is 98 <= 98: touched, anew from its own level.
    close = np.array([100.0, 102.0, 104.0, 103.0, 99.0])
    np.testing.assert_array_equal(
        atr_stop(close + 1, close - 1, close, 2), [nan, nan, 98, 98, 91.5]
    )
    # With a low of 98.5 it is not touched, and the lower level does not loosen it.
    low = close - np.array([1, 1, 1, 1, 0.5])
    np.testing.assert_array_equal(atr_stop(close + 1, low, close, 2), [nan, nan, 98, 98, 98])


def test_extreme_hangs_from_the_highest_high_of_the_run():
    # As above, high 1 above the close: 105 - 6 = 99; high stays 105: 105 - 5 = 100 although the
    # close fell. The fifth low 98 touches 100: anew from its own high, 100 - 7.5 = 92.5.
    close = np.array([100.0, 102.0, 104.0, 103.0, 99.0])
    result = atr_stop(close + 1, close - 1, close, 2, anchor="extreme")
    np.testing.assert_array_equal(result, [nan, nan, 99, 100, 92.5])


@pytest.mark.parametrize("side", [1, -1])
def test_high_is_another_word_for_extreme(side):
    bars = random_bars(5)
    high, extreme = (atr_stop(*bars, anchor=a, side=side) for a in ("high", "extreme"))
    np.testing.assert_array_equal(high, extreme)


@pytest.mark.parametrize("side", [1, -1])
def test_buffer_moves_the_stop_away_from_the_price(side):
    high, low, close = random_bars(5, n_bars=15)
    plain, buffered = (atr_stop(high, low, close, side=side, buffer=b)[14] for b in (0, 0.5))
    average = atr(high, low, close)[14]
    assert plain == pytest.approx(close[14] - side * 2 * average, rel=1e-12)
    assert buffered == pytest.approx(close[14] - side * 2.5 * average, rel=1e-12)


@pytest.mark.parametrize("anchor", ["close", "extreme"])
@pytest.mark.parametrize("side", [1, -1])
@given(bars=small_bars(), atr_period=st.integers(1, 6), multiple=st.sampled_from([0.5, 1, 2, 3]))
def test_stop_is_the_one_bar_rules_bar_by_bar(anchor, side, bars, atr_period, multiple):
    expected = naive_stop(*bars, atr_period, multiple, anchor, side, buffer=0.25)
    result = atr_stop(*bars, atr_period, multiple, anchor, side, buffer=0.25)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("anchor", ["close", "extreme"])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("unknown", [0.0, 0.1])
def test_stop_is_the_one_bar_rules_on_long_walks_with_missing_prices(anchor, side, unknown):
    bars = random_bars(9, n_bars=3000, unknown=unknown)
    expected = naive_stop(*bars, 14, 2.0, anchor, side)
    np.testing.assert_allclose(atr_stop(*bars, 14, 2.0, anchor, side), expected, rtol=1e-12)


@pytest.mark.parametrize("anchor", ["close", "extreme"])
@pytest.mark.parametrize("side", [1, -1])
@given(bars=small_bars(), atr_period=st.integers(1, 6))
def test_stop_never_loosens_except_on_the_bar_that_touches_it(anchor, side, bars, atr_period):
    high, low, close = bars
    stop = atr_stop(high, low, close, atr_period, anchor=anchor, side=side)
    before, after = stop[:-1], stop[1:]
    loosened = side * after < side * before
    touched = low[1:] <= before if side > 0 else high[1:] >= before
    assert not (loosened & ~touched).any()


@pytest.mark.parametrize("anchor", ["close", "extreme"])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("unknown", [0.0, 0.15])
def test_stop_reads_no_later_bar(anchor, side, unknown):
    bars = random_bars(6, n_bars=120, unknown=unknown)
    whole = atr_stop(*bars, 5, 1.0, anchor, side)
    average = atr(*bars, 5)
    for end in range(bars.shape[1]):
        np.testing.assert_array_equal(atr_stop(*bars[:, :end], 5, 1.0, anchor, side), whole[:end])
        np.testing.assert_array_equal(atr(*bars[:, :end], 5), average[:end])


@pytest.mark.parametrize("anchor", ["close", "extreme"])
def test_short_is_long_with_the_prices_upside_down(anchor):
    high, low, close = random_bars(8)
    short = atr_stop(high, low, close, anchor=anchor, side=-1)
    long = atr_stop(1000 - low, 1000 - high, 1000 - close, anchor=anchor)
    np.testing.assert_allclose(short, 1000 - long, rtol=1e-9)


@pytest.mark.parametrize("anchor", ["close", "extreme"])
@pytest.mark.parametrize("side", [1, -1])
def test_stop_does_not_depend_on_the_currency(anchor, side):
    bars = random_bars(8)
    stop = atr_stop(*bars, anchor=anchor, side=side)
    # A power of two changes no digit, so equality is exact.
    np.testing.assert_array_equal(atr_stop(*(64 * bars), anchor=anchor, side=side), 64 * stop)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (dict(atr_period=0), "atr_period"),
        (dict(atr_period=2.5), "atr_period"),
        (dict(atr_multiple=0), "atr_multiple"),
        (dict(atr_multiple=nan), "atr_multiple"),
        (dict(anchor="low"), "anchor"),
        (dict(side=0), "side"),
        (dict(side=2), "side"),
        (dict(buffer=-0.1), "buffer"),
    ],
)
def test_stop_refuses_arguments_outside_their_range(arguments, param):
    with pytest.raises(ParameterError, match=f"atr_stop: {param} must be"):
        atr_stop(*random_bars(1, n_bars=20), **arguments)


@pytest.mark.parametrize("function", [atr, atr_stop])
def test_columns_of_different_length_are_refused(function):
    high, low, close = random_bars(1, n_bars=20)
    with pytest.raises(ParameterError, match=f"{function.__name__}: prices must be one-dim"):
        function(high, low[1:], close)
    with pytest.raises(ParameterError, match="trail: prices"):
        trail(close, low[1:])


def test_a_period_that_is_not_whole_is_refused():
    with pytest.raises(ParameterError, match="WilderATR: atr_period must be a whole number"):
        WilderATR(0)
    with pytest.raises(ParameterError, match="atr: atr_period must be a whole number"):
        atr(*random_bars(1, n_bars=20), atr_period=1.5)
    with pytest.raises(ParameterError, match="trail: side"):
        trail(np.ones(3), side=0)
