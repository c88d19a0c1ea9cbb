"""The quick feed gives what PandasData gives, bar for bar, in every mode of the engine."""

import datetime
import sys

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.feed_worlds import frame as draw_frame
from helpers.feed_worlds import parameters, pick, preload
from helpers.scenarios import random_walk

from bt_risk.errors import DataError
from bt_risk.feeds.files import read_prices
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


@pytest.mark.parametrize("mode", MODES)
def test_no_cell_is_asked_for_one_by_one(mode, monkeypatch):
    # What the feed is there for; a clock would say it less surely.
    reads, read = [], type(pd.DataFrame().iloc).__getitem__

    def counted(self, key):
        reads.append(key)
        return read(self, key)

    monkeypatch.setattr(type(pd.DataFrame().iloc), "__getitem__", counted)
    frame = random_walk(10, bars=60)
    assert len(tape(FrameData, frame, mode=MODES[mode])) == 60
    assert 5 <= len(reads) <= 10


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prepare", [lambda data: None, lambda data: data.addfilter(keep)])
def test_random_frames_and_parameters_give_what_pandas_data_gives(seed, prepare):
    rng = np.random.default_rng(100 + seed)
    for _ in range(60):
        frame = draw_frame(rng)
        kwargs = parameters(rng, frame)
        kwargs["lookahead"] = pick(rng, [0, 0, 0, 1, 3])
        native = preload(bt.feeds.PandasData, frame, prepare, **kwargs)
        assert preload(FrameData, frame, prepare, **kwargs) == native, (frame, kwargs)


def keep(data):
    return False


@pytest.mark.parametrize("mode", ["runonce", "no-preload"])
def test_another_frame_is_read_by_the_next_run(mode):
    cerebro = bt.Cerebro(stdstats=False, **MODES[mode])
    feed = FrameData(dataname=random_walk(1, bars=40))
    cerebro.adddata(feed)
    cerebro.addstrategy(Tape)
    cerebro.run()
    feed.p.dataname = random_walk(2, bars=30)
    rows = [repr(row) for row in cerebro.run()[0].rows]
    assert rows == tape(bt.feeds.PandasData, feed.p.dataname)


def test_a_method_of_a_subclass_is_called_for_every_bar():
    class Doubled(FrameData):
        def _load(self):
            loaded = super()._load()
            self.lines.volume[0] *= 2
            return loaded

    class Native(bt.feeds.PandasData):
        def _load(self):
            loaded = super()._load()
            self.lines.volume[0] *= 2
            return loaded

    frame = random_walk(12, bars=30)
    rows = tape(Doubled, frame)
    assert rows == tape(Native, frame)
    assert "2000.0" in rows[0]


@pytest.mark.parametrize("name", ["prices.csv", "prices.csv.gz", "prices.parquet"])
def test_a_file_is_read_and_gives_its_name(name, tmp_path):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    frame, path = random_walk(13, bars=30), tmp_path / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path)
    expected = tape(bt.feeds.PandasData, read_prices(path))
    for source in (path, str(path)):
        assert tape(FrameData, source) == expected
        feed = FrameData(dataname=source)
        assert feed._name == "prices"
        assert feed._dataname is feed.p.dataname
    assert FrameData(dataname=path, name="SPX")._name == "SPX"
    cerebro = bt.Cerebro()
    cerebro.adddata(FrameData(dataname=path), name="BTC")
    cerebro.adddata(FrameData(dataname=path))
    assert list(cerebro.datasbyname) == ["BTC", "prices"]


def test_a_file_that_cannot_be_read_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        FrameData(dataname=tmp_path / "none.csv")


def polars_frame(frame, name="datetime", zone=None):
    polars = pytest.importorskip("polars")
    columns = {str(column): frame[column].to_numpy() for column in frame}
    times = polars.Series(name, frame.index.as_unit("us").to_numpy())
    times = times if zone is None else times.dt.replace_time_zone(zone)
    return polars.DataFrame({**columns, name: times})


@pytest.mark.parametrize("name", ["datetime", "Date", "when", "Open Time"])
def test_a_frame_of_polars_gives_what_its_columns_give(name):
    frame = random_walk(14, bars=30, freq="h").assign(count=np.arange(30), up=True)
    frame.iloc[3, 4] = np.nan
    expected = tape(bt.feeds.PandasData, frame)
    table = polars_frame(frame, name)
    assert tape(FrameData, table) == expected
    assert tape(FrameData, table.lazy()) == expected
    named = dict(datetime=name, volume="count", openinterest=6)
    assert tape(FrameData, table, **named) == tape(
        bt.feeds.PandasData, frame, volume="count", openinterest=6
    )


def test_zones_dates_texts_and_missing_values_of_polars_arrive():
    polars = pytest.importorskip("polars")
    frame = random_walk(15, bars=30)
    zoned = tape(bt.feeds.PandasData, frame.tz_localize("Europe/Berlin"))
    assert tape(FrameData, polars_frame(frame, zone="Europe/Berlin")) == zoned
    table = polars_frame(frame).with_columns(
        polars.col("datetime").cast(polars.Date),
        polars.lit("SPX").alias("ticker"),
        polars.Series("volume", [None, *range(29)]),
    )
    expected = frame.assign(volume=[np.nan, *range(29)])
    assert tape(FrameData, table) == tape(bt.feeds.PandasData, expected)
    with pytest.raises(DataError, match=r"column of dates or times; got close \(Float64\)"):
        FrameData(dataname=polars.DataFrame({"close": [1.0]}))


def test_frames_of_pandas_are_taken_where_nobody_has_imported_polars(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)  # an import of it would raise
    assert len(tape(FrameData, random_walk(16, bars=30))) == 30
