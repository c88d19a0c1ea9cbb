"""The quick feed gives what PandasData gives, bar for bar, in every mode of the engine."""

import datetime

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import random_walk

from bt_risk.feeds.frame import FrameData

MODES = {
    "runonce": {},
    "next": dict(runonce=False),
    "no-preload": dict(preload=False),
    "exactbars": dict(exactbars=1),
    "exactbars -1": dict(exactbars=-1),
    "exactbars -2": dict(exactbars=-2),
    "live": dict(live=True),
    "lookahead": dict(lookahead=3),
}


class Tape(bt.Strategy):
    """Write down every value of every line, and indicator values that need history."""

    def __init__(self):
        self.rows = []
        self.average = [bt.ind.SMA(data.close, period=5) for data in self.datas]

    def prenext(self):
        self.next()

    def next(self):
        for data, average in zip(self.datas, self.average, strict=True):
            if len(data):
                lines = [float(line[0]) for line in data.lines]  # numpy's own with exactbars=1
                past = average[0] if len(data) > 4 else None
                self.rows.append((len(data), *lines, past, data.datetime.datetime(0)))


def tape(feed, *frames, change=lambda cerebro: None, mode=(), **kwargs):
    """Run over `frames` and return what the strategy saw."""
    cerebro = bt.Cerebro(stdstats=False, **dict(mode))
    for frame in frames:
        cerebro.adddata(feed(dataname=frame, **kwargs))
    change(cerebro)
    cerebro.addstrategy(Tape)
    return [repr(row) for row in cerebro.run()[0].rows]


def both(*frames, **kwargs):
    """Return what is seen through PandasData and through FrameData; something must be seen."""
    expected = tape(bt.feeds.PandasData, *frames, **kwargs)
    assert len(expected) > 20
    return expected, tape(FrameData, *frames, **kwargs)


@pytest.mark.parametrize("mode", MODES)
def test_it_gives_what_pandas_data_gives(mode):
    expected, seen = both(random_walk(1, bars=60), random_walk(2, bars=60), mode=MODES[mode])
    assert seen == expected


@pytest.mark.parametrize("mode", ["runonce", "next", "no-preload"])
def test_datas_of_different_length_stay_in_step(mode):
    late, whole = random_walk(3, bars=60).iloc[17:], random_walk(4, bars=60)
    expected, seen = both(whole, late, whole.iloc[:40], mode=MODES[mode])
    assert seen == expected


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(fromdate=datetime.datetime(2020, 1, 10)),
        dict(todate=datetime.datetime(2020, 2, 10)),
        dict(openinterest="volume", volume=None),
        dict(open=3, close="Open"),
        dict(tz="Europe/Berlin"),
        dict(tzinput="US/Eastern"),
    ],
    ids=lambda kwargs: next(iter(kwargs)),
)
@pytest.mark.parametrize("mode", ["runonce", "no-preload"])
def test_the_parameters_of_pandas_data_mean_the_same(mode, kwargs):
    if kwargs.keys() & {"tz", "tzinput"}:
        pytest.importorskip("pytz")
    expected, seen = both(random_walk(5, bars=60), mode=MODES[mode], **kwargs)
    assert seen == expected


@pytest.mark.parametrize("mode", ["runonce", "next", "no-preload"])
@pytest.mark.parametrize("method", ["resampledata", "replaydata"])
def test_resampled_and_replayed_copies_agree(mode, method):
    def add(cerebro):
        getattr(cerebro, method)(cerebro.datas[0], timeframe=bt.TimeFrame.Weeks)

    expected, seen = both(random_walk(6, bars=60), change=add, mode=MODES[mode])
    assert seen == expected


@pytest.mark.parametrize("mode", ["runonce", "no-preload"])
def test_a_filter_sees_every_bar(mode):
    def no_mondays(data):
        if data.datetime.date(0).weekday():
            return False
        data.backwards()
        return True

    def add(cerebro):
        cerebro.datas[0].addfilter(no_mondays)

    expected, seen = both(random_walk(11, bars=60), change=add, mode=MODES[mode])
    assert len(expected) == 52
    assert seen == expected


def test_gaps_time_zones_and_microseconds_arrive_as_they_are():
    frame = random_walk(7, bars=60, freq="h")
    frame.iloc[[3, 30], [3, 4]] = np.nan
    frame.index = frame.index.tz_localize("America/New_York") + pd.Timedelta(123457, "us")
    expected, seen = both(frame)
    assert seen == expected


def test_times_in_a_column_and_lines_of_ones_own_are_found():
    class Both(FrameData):
        lines = ("pe",)
        params = (("pe", -1), ("datetime", "When"))

    class Slow(bt.feeds.PandasData):
        lines = ("pe",)
        params = (("pe", -1), ("datetime", "When"))

    frame = random_walk(8, bars=60).assign(PE=np.arange(60.0))
    frame = frame.assign(When=frame.index).reset_index(drop=True)
    assert tape(Both, frame) == tape(Slow, frame)


class Total(bt.Strategy):
    """Add an average up."""

    params = dict(period=3)

    def __init__(self):
        self.average, self.total = bt.ind.SMA(period=self.p.period), 0.0

    def next(self):
        self.total += self.average[0]

    def stop(self):
        self.env.totals.append((self.p.period, len(self), self.total))


def totals(feed, add, runs):
    """Return what several runs of one Cerebro add up."""
    cerebro = bt.Cerebro(stdstats=False, maxcpus=1)
    cerebro.adddata(feed(dataname=random_walk(9, bars=60)))
    cerebro.totals = []
    add(cerebro)
    for _ in range(runs):
        cerebro.run()
    return cerebro.totals


@pytest.mark.parametrize(
    ("add", "runs"),
    [
        (lambda cerebro: cerebro.addstrategy(Total), 2),
        (lambda cerebro: cerebro.optstrategy(Total, period=[3, 5]), 1),
    ],
    ids=["run twice", "optimised"],
)
def test_every_run_starts_from_the_first_bar(add, runs):
    seen = totals(FrameData, add, runs)
    assert [bars for _, bars, _ in seen] == [60, 60]
    assert seen == totals(bt.feeds.PandasData, add, runs)


def test_no_cell_is_asked_for_one_by_one(monkeypatch):
    # What the feed is there for; a clock would say it less surely.
    def refuse(*args):
        raise AssertionError("PandasData._load was called")

    monkeypatch.setattr(bt.feeds.PandasData, "_load", refuse)
    loads = []
    monkeypatch.setattr(FrameData, "_load", lambda self: loads.append(1))
    assert len(tape(FrameData, random_walk(10, bars=60))) == 60
    assert len(loads) <= 1  # one look beyond the last bar
