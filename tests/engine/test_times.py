"""Times of bars, many at once, are those of Backtrader."""

import datetime
from array import array

import backtrader as bt
import numpy as np

from bt_risk.engine.times import datetimes


def test_every_time_is_that_of_num2date():
    rng = np.random.default_rng(3)
    begin = datetime.datetime(1950, 1, 1)
    seconds = rng.integers(0, 5_000_000_000, 20_000)
    micros = rng.choice([0, 1, 9, 10, 999_989, 999_990, 999_991, 999_999, 123_456], 20_000)
    moments = [
        begin + datetime.timedelta(seconds=int(one), microseconds=int(two))
        for one, two in zip(seconds, micros, strict=True)
    ]
    numbers = array("d", [bt.date2num(moment) for moment in moments])
    assert datetimes(numbers) == [bt.num2date(number) for number in numbers]


def test_so_is_any_number_between():
    numbers = np.random.default_rng(4).uniform(600_000.0, 800_000.0, 20_000)
    assert datetimes(numbers) == [bt.num2date(number) for number in numbers]


def test_of_nothing_there_are_none():
    assert datetimes(array("d")) == []
