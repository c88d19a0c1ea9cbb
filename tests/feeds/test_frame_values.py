"""FrameData shows the values of its frame, whatever engine runs: no other data feed is asked."""

import datetime

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import random_walk

from bt_risk.feeds.frame import FrameData

MODES = {"runonce": {}, "next": {"runonce": False}, "no-preload": {"preload": False}}
NOON = datetime.datetime(2020, 1, 5, 12)
SPANS = {
    "all": {},
    "from": {"fromdate": NOON},
    "to": {"todate": NOON},
    "to the end of a day": {"todate": datetime.date(2020, 1, 5)},
    "both": {"fromdate": NOON, "todate": datetime.datetime(2020, 1, 9, 3)},
    "none": {"fromdate": datetime.datetime(2030, 1, 1)},
}


class Tape(bt.Strategy):
    """Write down the times and values of every bar."""

    def __init__(self):
        self.rows = []

    def next(self):
        lines = self.data.lines
        values = [lines.open[0], lines.high[0], lines.low[0], lines.close[0]]
        self.rows.append((lines.datetime[0], *values, lines.volume[0], lines.openinterest[0]))


def shown(frame, mode, **params):
    """Return the rows that a strategy sees."""
    cerebro = bt.Cerebro(stdstats=False, **MODES[mode])
    cerebro.adddata(FrameData(dataname=frame, **params))
    cerebro.addstrategy(Tape)
    return np.array(cerebro.run()[0].rows).reshape(-1, 7)


def hours(rows=300):
    frame = random_walk(3, bars=rows, freq="h")
    frame["volume"] = np.arange(rows)
    frame.loc[frame.index[::7], "close"] = np.nan
    return frame


def expected(frame, times=None, openinterest=None):
    """Return the rows of a frame, with `times` in place of its own."""
    numbers = [bt.date2num(time) for time in (frame.index if times is None else times)]
    last = np.full(len(frame), np.nan) if openinterest is None else openinterest
    names = ["open", "high", "low", "close", "volume"]
    return np.column_stack([numbers, frame[names].to_numpy(dtype=float), last])


def within(frame, fromdate=None, todate=None):
    first = frame.index[0] if fromdate is None else pd.Timestamp(fromdate)
    last = frame.index[-1] if todate is None else pd.Timestamp(todate)
    if type(todate) is datetime.date:
        last += pd.Timedelta(hours=23, minutes=59, seconds=59, milliseconds=999)
    return frame[(frame.index >= first) & (frame.index <= last)]


@pytest.mark.parametrize("span", SPANS.values(), ids=list(SPANS))
@pytest.mark.parametrize("mode", MODES)
def test_the_bars_from_one_date_to_another_have_the_values_of_the_frame(mode, span):
    frame = hours()
    rows = shown(frame, mode, **span)
    np.testing.assert_array_equal(rows, expected(within(frame, **span)))


@pytest.mark.parametrize("mode", MODES)
def test_columns_are_found_by_name_and_by_place(mode):
    frame = hours().rename(columns={"volume": "Count", "close": "CLOSE"})
    frame["day"] = frame.index
    frame["open contracts"] = np.arange(len(frame), dtype="float32")
    params = {"datetime": "day", "volume": "count", "openinterest": 6}
    rows = shown(frame.reset_index(drop=True), mode, **params)
    named = frame.rename(columns=str.lower).rename(columns={"count": "volume"})
    np.testing.assert_array_equal(rows, expected(named, named["day"], frame["open contracts"]))


@pytest.mark.parametrize("mode", MODES)
def test_times_of_a_zone_are_those_of_utc(mode):
    frame = hours().tz_localize("UTC").tz_convert("Europe/Berlin")
    times = frame.index.tz_convert("UTC").tz_localize(None)
    np.testing.assert_array_equal(shown(frame, mode), expected(frame, times))


@pytest.mark.parametrize("mode", MODES)
def test_times_are_read_in_the_zone_of_tzinput(mode):
    zone = pytest.importorskip("pytz").timezone("US/Eastern")
    frame = hours()
    rows = shown(frame, mode, tzinput=zone)
    times = frame.index.tz_localize("US/Eastern").tz_convert("UTC").tz_localize(None)
    np.testing.assert_allclose(rows[:, 0], expected(frame, times)[:, 0], rtol=0, atol=1e-9)


def test_a_frame_under_the_name_of_another_engine_is_taken_there():
    if not hasattr(bt.feeds.PandasData.params, "dataframe"):
        pytest.skip("Backtrader has no parameter `dataframe`")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(FrameData(dataframe=hours()))
    cerebro.addstrategy(Tape)
    np.testing.assert_array_equal(cerebro.run()[0].rows, expected(hours()))
