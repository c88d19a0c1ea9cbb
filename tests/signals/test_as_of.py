"""Which signal counts when: by hand, never before it is known, and the same bar by bar."""

import math

import backtrader as bt
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bt_risk.signals.as_of import SignalsAsOf, SignalTable
from bt_risk.signals.record import Signal

DAY = bt.date2num(bt.datetime.datetime(2024, 1, 1))
EPOCH = 1_704_067_200  # 2024-01-01T00:00Z
NAN = math.nan


def signal(published, score=50.0, received=None, name=None):
    """Return a signal that was published so many seconds into 2024."""
    micros = (EPOCH + published) * 1_000_000
    got = None if received is None else (EPOCH + received) * 1_000_000
    return Signal(name or f"{published}", "", micros, got, score, 1 if score > 0 else -1, 0.5)


def at(seconds):
    return bt.date2num(bt.datetime.datetime(2024, 1, 1) + bt.datetime.timedelta(seconds=seconds))


def scores(signals, times, ttl=3600.0, delay=0.0):
    steps = SignalsAsOf(ttl, delay)
    steps.add(signals)
    return [steps.at(at(time))[0] for time in times]


def same(found, expected):
    return np.array_equal(found, expected, equal_nan=True)


def test_a_signal_counts_from_its_own_second_on_and_not_one_before():
    assert same(scores([signal(600)], [599, 600, 601]), [NAN, 50, 50])


def test_the_delay_is_added_and_the_receipt_counts_where_it_is_later():
    assert same(scores([signal(600)], [600, 659, 660], delay=60), [NAN, NAN, 50])
    late = [signal(600, received=700)]
    assert same(scores(late, [699, 700], delay=60), [NAN, 50])
    assert same(scores([signal(600, received=620)], [659, 660], delay=60), [NAN, 50])


def test_older_than_ttl_is_no_signal_and_as_old_as_ttl_is_one():
    steps = SignalsAsOf(300.0, 0.0)
    steps.add([signal(600)])
    assert steps.at(at(900)) == (50.0, 1, 0.5, 300.0)
    score, direction, conviction, age = steps.at(at(900.01))
    assert same([score, direction, conviction], [NAN] * 3)
    assert age == 300.01


def test_the_age_counts_from_publication_and_not_from_receipt():
    steps = SignalsAsOf(3600.0, 0.0)
    steps.add([signal(0, received=1800)])
    assert steps.at(at(1800))[3] == 1800.0


def test_a_late_one_does_not_replace_a_newer_one():
    signals = [signal(600, 70.0, received=600), signal(300, -70.0, received=900)]
    assert same(scores(signals, [600, 900]), [70, 70])


def test_of_two_of_one_time_the_later_counts():
    signals = [signal(600, 10.0, name="a"), signal(600, 20.0, name="b")]
    assert same(scores(signals, [600]), [20])
    signals = [signal(600, 10.0, received=650, name="a"), signal(600, 20.0, name="b")]
    assert same(scores(signals, [600, 650]), [20, 10])


def test_a_time_that_goes_back_has_no_signal():
    assert same(scores([signal(600)], [700, 650, 700]), [50, NAN, 50])
    table = SignalTable([signal(600)], 3600.0, 0.0)
    assert same(table.at(np.array([at(700), at(650), at(700)]))[0], [50, NAN, 50])


def test_no_signal_at_all():
    assert same(scores([], [0, 1]), [NAN, NAN])
    assert same(SignalTable([], 60.0, 0.0).at(np.array([at(0)]))[0], [NAN])


SIGNALS = st.lists(
    st.builds(
        signal,
        st.integers(0, 40),
        st.sampled_from([-60.0, 30.0, 90.0]),
        st.none() | st.integers(0, 50),
    ),
    max_size=12,
)
TIMES = st.lists(st.integers(0, 60), max_size=20)
SPAN = st.sampled_from([1.0, 5.0, 1000.0])


@given(SIGNALS, TIMES, SPAN, st.sampled_from([0.0, 3.0]))
def test_all_bars_at_once_equal_one_after_the_other(signals, times, ttl, delay):
    steps, numbers = SignalsAsOf(ttl, delay), np.array([at(time) for time in times], dtype=float)
    steps.add(signals)
    one_by_one = np.array([steps.at(number) for number in numbers]).reshape(-1, 4)
    at_once = SignalTable(signals, ttl, delay).at(numbers)
    assert np.array_equal(at_once.T, one_by_one, equal_nan=True)


@given(SIGNALS, st.lists(st.integers(0, 60), max_size=20).map(sorted), SPAN, st.integers(0, 60))
def test_no_look_ahead(signals, times, ttl, now):
    """What is seen up to a time does not change with what becomes known after it."""
    known = [
        one for one in signals if max(one.published, one.received or 0) <= (EPOCH + now) * 1_000_000
    ]
    numbers = np.array([at(time) for time in times if time <= now], dtype=float)
    whole, part = (SignalTable(some, ttl, 0.0).at(numbers) for some in (signals, known))
    assert np.array_equal(whole, part, equal_nan=True)
