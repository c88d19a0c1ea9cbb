"""What the page embeds of many bars: fewer points, every extreme, and the same numbers again."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers.pages import numbers, unpacked

from bt_risk.report.line_charts import LineChart
from bt_risk.report.packing import differences, pack, seconds, unit_of
from bt_risk.report.thinning import Envelope, candles


def walk(count, seed=1):
    return np.random.default_rng(seed).normal(0, 1, count).cumsum()


@pytest.mark.parametrize("count", [1, 7, 99, 100, 101, 1234])
def test_a_line_keeps_every_extreme_in_its_order(count):
    values, times = walk(count), np.arange(count) * 60
    thin = Envelope(times, 100)
    line = thin.line(values)
    assert len(line) == len(thin.times) <= 100
    assert (np.diff(thin.times) > 0).all()
    assert line.max() == values.max()
    assert line.min() == values.min()
    if thin.width == 1:
        assert (line == values).all()
    for start in range(0, count - thin.width + 1, thin.width):
        part = values[start : start + thin.width]
        inside = (thin.times >= times[start]) & (thin.times <= times[start + thin.width - 1])
        found = line[inside].tolist()
        assert {part.min(), part.max()} == set(found)
        assert found == sorted(found, key=part.tolist().index)


def test_what_is_unknown_hides_nothing():
    values = np.full(1000, math.nan)
    values[503] = 5.0
    line = Envelope(np.arange(1000), 100).line(values)
    assert np.nanmax(line) == 5.0
    assert np.isnan(line).sum() == 98


def test_an_axis_has_each_time_once():
    times, values = np.array([0, 60, 60, 60, 120]), np.array([1.0, 2.0, 9.0, 3.0, 4.0])
    thin = Envelope(times, 100)
    assert thin.times.tolist() == [0, 60, 120]
    assert thin.line(values).tolist() == [1.0, 3.0, 4.0]
    assert candles(times, np.array([values] * 4), 100).prices[:, 1].tolist() == [2.0, 9.0, 2.0, 3.0]


@pytest.mark.parametrize("count", [0, 1, 10, 11, 257])
def test_a_candle_has_the_first_open_the_extremes_and_the_last_close(count):
    closes = walk(count) + 100
    prices = np.array([closes - 0.1, closes + 1, closes - 1, closes])
    shown = candles(np.arange(count) * 60, prices, 10)
    assert len(shown.times) <= 10
    for place in range(len(shown.times)):
        part = prices[:, place * shown.width : (place + 1) * shown.width]
        expected = [part[0, 0], part[1].max(), part[2].min(), part[3, -1]]
        assert shown.prices[:, place].tolist() == expected
        inside = shown.place(np.arange(count) * 60) == place
        assert inside.sum() == part.shape[1]


def test_a_bar_without_a_price_is_no_candle():
    prices = np.array([[1.0, math.nan, 3.0]] * 4)
    assert candles(np.array([0, 60, 120]), prices, 10).times.tolist() == [0, 120]


def test_numbers_come_back_and_unknown_ones_stay_unknown():
    values = np.array([math.nan, 0.12345678, -3.0, math.nan, math.inf, 7.0])
    unit = unit_of(values)
    found = numbers(unpacked(pack(differences(values, unit))), unit)
    assert unit == pytest.approx(1e-4)
    assert found[1:3] + found[5:] == pytest.approx([0.1235, -3.0, 7.0])
    assert [one is None for one in found] == [True, False, False, True, True, False]


def test_packed_text_ends_no_element_and_is_the_same_each_time():
    value = {"name": "</script><script>alert(1)</script>", "more": 'ü" \u2028'}
    assert pack(value) == pack(value)
    assert "<" not in pack(value)
    assert unpacked(pack(value)) == value


def test_times_never_decrease_and_unknown_ones_repeat():
    times = pd.DatetimeIndex(["2020-01-02", None, "2020-01-01", "2020-01-03 00:00:00.7"])
    day = 1577923200
    assert seconds(times).tolist() == [day, day, day, day + 86_400]


def test_a_chart_says_how_many_bars_share_a_point():
    chart = LineChart(pd.date_range("2020-01-01", periods=1000, freq="min"), points=100)
    chart.pane("one", "number")
    chart.line("walk", walk(1000), "#000000")
    found = chart.chart("A walk.")
    assert found.caption == (
        "A walk. The lines keep the lowest and the highest value of every 20 bars, because 1,000 "
        "bars are more than a screen shows."
    )
    (line,) = unpacked(found.block)["panes"][0]["lines"]
    assert max(numbers(line["steps"], line["unit"])) == pytest.approx(walk(1000).max(), rel=1e-4)
