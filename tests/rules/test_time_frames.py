"""Closes of different time frames, compared on the coarser one's bars, against a batch answer."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.return_window import ReturnWindow
from bt_risk.rules.time_frames import TimeFrames

DAY, HOUR = 1.0, 1 / 24
START = 737_000.0
LAST_MOMENT = 1 - 11e-6 / 86400  # 23:59:59.999989, where Backtrader stamps daily bars of CSV feeds


def walk(times, seed):
    """Return closes at these times; half of the moves are those of every other seed."""
    fine = np.arange(START - 1, times[-1] + 1, HOUR / 4)
    moves = np.random.default_rng(0).normal(0, 0.002, len(fine))
    own = np.random.default_rng(seed).normal(0, 0.002, len(fine))
    path = 100 * np.exp(np.cumsum(moves + own))
    return pd.Series(path[np.searchsorted(fine, times, side="right") - 1], times)


def hours(days, seed=1, session=range(24)):
    times = [START + day + hour * HOUR for day in range(days) for hour in session]
    return walk(np.round(times, 9), seed)


def days(count, seed=2, stamp=0.0, weekends=True):
    """Return daily closes; the close is that of the day's end, whatever the stamp."""
    dates = [START + day for day in range(count) if weekends or (START + day) % 7 < 5]
    closes = walk(np.array([date + LAST_MOMENT for date in dates]), seed)
    return pd.Series(closes.to_numpy(), [date + stamp for date in dates])


def run(*series, window=20, min_periods=5, until=None, **options):
    """Feed the closes in order of their stamps, as Backtrader delivers them."""
    frames = TimeFrames([f"N{i}" for i in range(len(series))], window, min_periods, **options)
    table = pd.DataFrame(dict(enumerate(series))).sort_index()
    for time, row in zip(table.index, table.to_numpy(), strict=True):
        if until is None or time <= until:
            frames.update(time, row)
    return frames


def batch(coarse, fine, now, window=20):
    """Join by hand: each coarse bar with the last fine close by its end, of what is there now."""
    coarse, fine = coarse[coarse.index <= now], fine[fine.index <= now]
    rows, before = [], -math.inf
    for time, close in coarse.items():
        end = time + 1 if time == int(time) else time
        since = fine[(fine.index > before) & (fine.index <= end)]
        if end <= now:
            rows.append((math.log(close), math.log(since.iloc[-1]) if len(since) else math.nan))
            before = end
    logs = np.array(rows)[-window - 1 :]
    if len(coarse) > len(rows):  # its end has not come: it takes a place in the window
        logs = np.array(rows)[-window:]
    logs = logs.reshape(-1, 2)
    returns = np.diff(logs[~np.isnan(logs).any(axis=1)], axis=0)
    if len(returns) < 2:
        return math.nan, len(returns)
    return np.corrcoef(returns.T)[0, 1], len(returns)


@pytest.mark.parametrize("stamp", [0.0, LAST_MOMENT, 16 * HOUR])
@pytest.mark.parametrize("session", [range(24), range(9, 17)])
@pytest.mark.parametrize("n_days", [8, 21, 22, 60])
def test_a_day_meets_the_last_hour_before_its_end(stamp, session, n_days):
    daily, hourly = days(n_days, stamp=stamp), hours(n_days, session=session)
    now = max(daily.index[-1], hourly.index[-1])
    for order in ((daily, hourly), (hourly, daily)):
        rho, counts = run(*order).correlations(0, [1])
        expected, n = batch(daily, hourly, now)
        assert counts[0] == n
        assert rho[0] == pytest.approx(expected, abs=1e-9)
        assert counts[0] >= min(n_days - 2, 19)


def test_a_day_beside_hours_is_known():
    daily, hourly = days(120), hours(120)
    rho, counts = run(daily, hourly, window=252, min_periods=60).correlations(0, [1])
    assert counts[0] >= 118
    assert 0.3 < rho[0] < 0.7  # half of the moves are common


def test_two_days_beside_an_hour_have_their_whole_window():
    daily, other, hourly = days(40), days(40, seed=5), hours(40)
    rho, counts = run(daily, other, hourly).correlations(0, [1, 2])
    assert counts[0] == 20
    alone, _ = run(daily, other).correlations(0, [1])
    assert rho[0] == pytest.approx(alone[0], abs=1e-12)


def test_hours_beside_a_day_are_compared_on_hours():
    daily, hourly, other = days(10), hours(10), hours(10, seed=5)
    mixed = run(hourly, other, daily, window=30).correlations(0, [1])
    alone = run(hourly, other, window=30).correlations(0, [1])
    assert mixed[0] == alone[0]
    assert mixed[1] == alone[1] == [30]


def test_three_time_frames_each_pair_on_the_coarser():
    hourly, daily = hours(90), days(90, stamp=LAST_MOMENT)
    weekly = daily.iloc[6::7]
    frames = run(hourly, daily, weekly, window=10)
    rho, counts = frames.correlations(2, [0, 1])
    for value, count, fine in zip(rho, counts, (hourly, daily), strict=True):
        expected, n = batch(weekly, fine, daily.index[-1], window=10)
        assert (value, count) == (pytest.approx(expected, abs=1e-9), n)
    assert frames.correlations(1, [0])[1] == [10]


def test_an_hour_without_a_bar_since_the_day_before_has_no_close():
    daily, hourly = days(12, stamp=LAST_MOMENT), hours(12)
    holes = hourly[(hourly.index < START + 5) | (hourly.index >= START + 8)]
    rho, counts = run(daily, holes).correlations(0, [1])
    assert counts[0] == batch(daily, holes, daily.index[-1])[1] == 8
    assert rho[0] == pytest.approx(batch(daily, holes, daily.index[-1])[0], abs=1e-9)


def test_what_has_not_closed_is_not_used():
    """On every hour the answer is that of the closes so far, and a day counts when it has ended."""
    daily, hourly = days(9), hours(9)
    for now in hourly.index[40:]:
        rho, counts = run(daily, hourly, window=5, min_periods=2, until=now).correlations(0, [1])
        expected, n = batch(daily, hourly, now, window=5)
        assert counts[0] == n
        assert rho[0] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_a_name_that_begins_late_moves_to_its_time_frame():
    daily, late = days(30), days(30, seed=5).iloc[10:]
    rho, counts = run(daily, late, min_periods=2).correlations(0, [1])
    logs = np.log(pd.DataFrame({"a": daily, "b": late}).dropna()).diff().dropna()
    assert counts[0] == len(logs) == 19
    assert rho[0] == pytest.approx(logs.corr().iloc[0, 1], abs=1e-9)


def test_stocks_that_begin_on_a_friday_lose_nothing():
    """Their first bars are three days apart, a coin's are one: still one time frame."""
    friday = next(day for day in range(7) if (START + day) % 7 == 4)
    stock, coin = days(40, weekends=False).iloc[friday:], days(40, seed=5).iloc[friday:]
    rho, counts = run(stock, coin, window=30).correlations(0, [1])
    axis = pd.DataFrame({"a": stock, "b": coin}).tail(31)
    logs = np.log(axis.dropna()).diff().dropna()
    assert counts[0] == len(logs)
    assert rho[0] == pytest.approx(logs.corr().iloc[0, 1], abs=1e-9)


@pytest.mark.parametrize("ratio", [0.96, 1.0, 28 / 31])
def test_bars_of_nearly_the_same_length_are_one_time_frame(ratio):
    times = START + np.cumsum(np.r_[0, 1, ratio, np.ones(30)])
    one, other = walk(times, 1), walk(times, 2)
    frames = run(one, other)
    whole = ReturnWindow("AB", 20, 5)
    for time in times:
        whole.update(time, [one[time], other[time]])
    assert frames.correlations(0, [1])[0] == whole.correlations(0, [1])[0]


@pytest.mark.parametrize("kind", ["prices", "returns"])
def test_history_of_two_time_frames_fills_both_windows(kind):
    daily, hourly = days(40, stamp=LAST_MOMENT), hours(40)
    table = pd.DataFrame({"N0": daily, "N1": hourly}).sort_index()
    if kind == "returns":
        table = table.apply(lambda column: column.dropna().pct_change()).reindex(table.index)
    frames = TimeFrames(["N0", "N1"], 20, 5)
    frames.seed(table, kind)
    rho, counts = frames.correlations(0, [1])
    expected, n = batch(daily, hourly, daily.index[-1])
    assert (rho[0], counts[0]) == (pytest.approx(expected, abs=1e-9), n)


def test_prices_from_before_the_run_equal_having_lived_through_them():
    daily, hourly = days(40, stamp=LAST_MOMENT), hours(40)
    table = pd.DataFrame({"N0": daily, "N1": hourly}).sort_index()
    lived, seeded = run(daily, hourly), TimeFrames(["N0", "N1"], 20, 5)
    seeded.seed(table, before=START + 30)
    for time, row in zip(table.index, table.to_numpy(), strict=True):
        if time >= START + 30:
            seeded.update(time, row)
    np.testing.assert_allclose(seeded.correlations(0, [1]), lived.correlations(0, [1]), atol=1e-9)


def test_a_bar_that_comes_late_has_missed_its_place():
    frames = run(hours(3), hours(3, seed=5))
    before = frames.correlations(0, [1])
    frames.update(START, [1.0, 500.0])
    assert frames.correlations(0, [1]) == before


# -- prices at and below zero ----------------------------------------------------------------------


def below(series, place, price=-1.0):
    series = series.copy()
    series.iloc[place] = price
    return series


@pytest.mark.parametrize("price", [0.0, -1.0])
def test_a_name_that_was_below_zero_in_the_window_has_no_returns(price):
    """Of 21 closes in the window the oldest is the one below zero; a bar later it has left."""
    one, other, third = days(40), days(40, seed=5), days(40, seed=6)
    clean, frames = run(one, other, third), run(one, below(other, -21, price), third)
    rho, counts = frames.correlations(0, [1, 2])
    assert math.isnan(rho[0])
    assert (rho[1], counts[1]) == (pytest.approx(clean.correlations(0, [2])[0][0]), 20)
    assert math.isnan(frames.correlations(1, [2])[0][0])
    assert frames.below_zero([0, 1, 2]).tolist() == [False, True, False]
    # The table of all pairs is computed once it has been asked for a few times.
    assert [clean.row(0) for _ in range(5)][-1] is not None
    assert [frames.row(0) for _ in range(5)][-1] is None
    assert frames.covariance([0, 2])[0] is not None
    assert frames.covariance([0, 1]) == (None, 19)
    later = run(one, below(other, -22, price), third)
    assert later.correlations(0, [1, 2])[0].tolist() == clean.correlations(0, [1, 2])[0].tolist()
    assert not later.below_zero([0, 1, 2]).any()


def test_below_zero_counts_in_the_window_of_the_coarser_name():
    """An hour of ten days ago: of no matter among hours, and within the 20 days beside days."""
    daily, hourly, other = days(40), hours(40), hours(40, seed=5)
    frames = run(daily, below(hourly, -240), other)
    assert not math.isnan(frames.correlations(1, [2])[0][0])
    assert np.isnan(frames.correlations(0, [1, 2])[0]).tolist() == [True, False]
    assert frames.covariance([0, 1])[0] is None
    assert frames.covariance([1, 2])[0] is not None


def test_a_name_that_was_never_above_zero_has_no_returns():
    daily = days(40)
    frames = run(daily, -days(40, seed=5))
    assert frames.below_zero([1]).tolist() == [True]
    assert math.isnan(frames.correlations(0, [1])[0][0])


def test_bad_parameters_raise():
    with pytest.raises(ParameterError, match="multi_bar must be a whole number of at least 1"):
        TimeFrames("AB", multi_bar=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.1, 0.5]),
    stamp=st.sampled_from([0.0, LAST_MOMENT, 16 * HOUR]),
    cut=st.integers(60, 239),
)
def test_whatever_the_holes_the_answer_is_that_of_the_batch(seed, share, stamp, cut):
    holes = np.random.default_rng(seed)
    daily, hourly = days(10, stamp=stamp), hours(10)
    daily = daily[(holes.random(10) > share / 2) | (np.arange(10) < 2)]
    hourly = hourly[(holes.random(240) > share) | (np.arange(240) < 2)]
    stamps = np.union1d(daily.index, hourly.index)
    now = stamps[stamps <= START + cut * HOUR][-1]
    frames = run(daily, hourly, window=6, min_periods=2, until=now)
    rho, counts = frames.correlations(0, [1])
    expected, n = batch(daily, hourly, now, window=6)
    assert counts[0] == n
    assert rho[0] == pytest.approx(expected, abs=1e-9, nan_ok=True)
