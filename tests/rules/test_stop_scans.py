"""Every way to scan a stop gives the numbers of the plain loop, to the last bit."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk import rules
from bt_risk.rules import stop_scans
from bt_risk.rules.stop_scans import trail_closes, trail_extremes

# Small parts, so that short series have lanes, blocks and a rest.
SMALL = dict(_SHORT=8, _EARLY=3, _LONGEST=5, _BLOCK=40, _PART=2)
# Few distinct prices, so that stops are touched exactly as well as crossed.
prices = st.lists(st.integers(-5, 12).map(float), min_size=0, max_size=150)


def plain_closes(levels, lows):
    stop, stops = math.inf, []
    for level, low in zip(levels.tolist(), lows.tolist(), strict=True):
        if low <= stop or level > stop:
            stop = level
        stops.append(stop)
    return np.array(stops)


def plain_extremes(highs, lows, widths):
    stop, extreme, stops = math.inf, -math.inf, []
    for high, low, width in zip(highs.tolist(), lows.tolist(), widths.tolist(), strict=True):
        if low <= stop:
            extreme = high
            stop = high - width
        else:
            if high > extreme:
                extreme = high
            if extreme - width > stop:
                stop = extreme - width
        stops.append(stop)
    return np.array(stops)


def scanned(scan, *columns):
    columns = [column.copy() for column in columns]
    result = columns[0] if scan is trail_closes else columns[-1]
    scan(*columns)
    return result


def walk(n_bars, seed=3, volatility=0.01, multiple=2.0):
    """High, low, level and width of a random walk, as `atr_stop` has them."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, volatility, n_bars)))
    high = close * (1 + generator.random(n_bars) * volatility)
    low = close / (1 + generator.random(n_bars) * volatility)
    width = multiple * volatility * close * generator.uniform(0.8, 1.5, n_bars)
    return high, low, close - width, width


@pytest.fixture
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(stop_scans, name, value)


def compiled(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(stop_scans, "_BARS_UNTIL_COMPILED", 0)


@pytest.fixture(params=["lanes", "compiled"])
def way(request, small, monkeypatch):
    if request.param == "compiled":
        compiled(monkeypatch)
    return request.param


@given(data=st.data(), levels=prices)
@settings(max_examples=300, deadline=None)
def test_closes_are_those_of_the_plain_loop(data, levels):
    lows = data.draw(st.lists(st.integers(-5, 14), min_size=len(levels), max_size=len(levels)))
    levels, lows = np.array(levels), np.array(lows, dtype=float)
    expected = plain_closes(levels, lows)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(stop_scans, name, value)
        np.testing.assert_array_equal(scanned(trail_closes, levels, lows), expected)


@given(data=st.data(), highs=prices)
@settings(max_examples=300, deadline=None)
def test_extremes_are_those_of_the_plain_loop(data, highs):
    size = dict(min_size=len(highs), max_size=len(highs))
    falls = np.array(data.draw(st.lists(st.integers(0, 9), **size)), dtype=float)
    widths = np.array(data.draw(st.lists(st.integers(1, 9), **size)), dtype=float)
    highs = np.array(highs)
    expected = plain_extremes(highs, highs - falls, widths)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(stop_scans, name, value)
        result = scanned(trail_extremes, highs, highs - falls, widths)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("n_bars", [0, 1, 7, 8, 39, 40, 41, 47, 48, 80, 2000])
@pytest.mark.parametrize("multiple", [1.0, 2.0, 12.0])
def test_lanes_and_compiled_scans_give_the_numbers_of_the_plain_loop(way, n_bars, multiple):
    # Whole numbers, so that stops are touched exactly as well as crossed.
    high, low, level, width = (np.round(column) for column in walk(n_bars, multiple=multiple))
    np.testing.assert_array_equal(scanned(trail_closes, level, low), plain_closes(level, low))
    expected = plain_extremes(high, low, width)
    np.testing.assert_array_equal(scanned(trail_extremes, high, low, width), expected)


@pytest.mark.parametrize("multiple", [0.5, 2.0, 12.0, 60.0])
def test_long_series_of_several_blocks_are_those_of_the_plain_loop(multiple, monkeypatch):
    monkeypatch.setattr(stop_scans, "_BARS_UNTIL_COMPILED", math.inf)
    high, low, level, width = walk(300_000, multiple=multiple)
    assert len(high) > 2 * stop_scans._BLOCK
    np.testing.assert_array_equal(scanned(trail_closes, level, low), plain_closes(level, low))
    expected = plain_extremes(high, low, width)
    np.testing.assert_array_equal(scanned(trail_extremes, high, low, width), expected)


def bars_one_by_one(monkeypatch, level, low):
    """Return how many bars a scan of closes goes through in Python."""
    counted, by_bar = [], stop_scans._CLOSES.by_bar

    def counting(columns, begin):
        counted.append(columns[0].size)
        return by_bar(columns, begin)

    monkeypatch.setattr(stop_scans, "_CLOSES", stop_scans._CLOSES._replace(by_bar=counting))
    np.testing.assert_array_equal(scanned(trail_closes, level, low), plain_closes(level, low))
    return sum(counted)


@pytest.mark.parametrize(("multiple", "share"), [(2.0, 0.005), (5.0, 0.1)])
def test_hardly_a_bar_of_a_long_series_is_scanned_in_python(monkeypatch, multiple, share):
    _, low, level, _ = walk(100_000, multiple=multiple)
    assert bars_one_by_one(monkeypatch, level, low) < share * len(low)


def test_a_stop_that_no_later_bar_moves_or_touches_holds_through_every_lane(monkeypatch):
    # No lane can know of it: all bars are scanned once more, each once.
    level = np.full(50_000, 90.0)
    level[10] = 95.0
    low = np.full(50_000, 96.0)
    assert bars_one_by_one(monkeypatch, level, low) <= len(low)
    assert (scanned(trail_closes, level, low)[10:] == 95.0).all()


def test_the_rest_behind_the_last_lane_is_scanned_whatever_its_memory_held(small, monkeypatch):
    # Nine lanes of 5 bars and a rest of 4. From bar 20 on no lane knows the stop of bar 10; the
    # bars that are scanned again end within the rest, whose memory happens to hold that stop.
    for name, value in dict(_EARLY=5, _BLOCK=1000).items():
        monkeypatch.setattr(stop_scans, name, value)
    level, low = np.full(49, 90.0), np.full(49, 96.0)
    level[10], low[47] = 95.0, 94.0
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 95.0, dtype))
    np.testing.assert_array_equal(scanned(trail_closes, level, low), plain_closes(level, low))


def test_scans_are_compiled_only_once_they_go_through_many_bars(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(stop_scans, "_BARS_UNTIL_COMPILED", 20_000)
    compiler = stop_scans._Compiler()
    assert compiler.scans(9_000) is None
    assert compiler.scans(9_000) is None
    assert compiler.scans(9_000).__name__ == "bt_risk.rules.compiled_scans"


def test_without_numba_nothing_is_compiled_and_nobody_tries_again(monkeypatch):
    monkeypatch.setattr(stop_scans, "_BARS_UNTIL_COMPILED", 20_000)
    monkeypatch.delitem(sys.modules, "bt_risk.rules.compiled_scans", raising=False)
    monkeypatch.delattr(rules, "compiled_scans", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    compiler = stop_scans._Compiler()
    assert compiler.scans(30_000) is None
    assert compiler.bars == -math.inf


def test_short_series_never_import_numba():
    script = (
        "import sys, numpy as np, bt_risk; c = 100 + np.arange(5000) % 7.0;"
        " bt_risk.atr_stop(c + 1, c - 1, c); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
