"""A preload of whole columns leaves exactly what a preload of single bars leaves."""

import datetime
import gc
import pickle
import sys

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.feed_worlds import frame as draw_frame
from helpers.feed_worlds import parameters, pick, preload
from helpers.scenarios import random_walk

from bt_risk.feeds import dates
from bt_risk.feeds.bulk import bulk_load, undo_bulk_preload, use_bulk_preload


def arm(data):
    assert use_bulk_preload(data) is None


def both(frame, **kwargs):
    """Return what is left by Backtrader's own preload and by one in bulk."""
    feed = kwargs.pop("feed", bt.feeds.PandasData)
    return preload(feed, frame, **kwargs), preload(feed, frame, arm, **kwargs)


def reason(frame, prepare=lambda data: None, **kwargs):
    """Return why a frame is not loaded in bulk."""
    reasons = []

    def note(data):
        prepare(data)
        reasons.append(bulk_load(data))
        data.preload = lambda: None

    result = preload(bt.feeds.PandasData, frame, note, **kwargs)
    return reasons[0] if reasons else result


@pytest.mark.parametrize("seed", range(6))
def test_random_frames_and_parameters_give_the_same_lines(seed):
    rng = np.random.default_rng(seed)
    in_bulk, errors = 0, 0
    for _ in range(100):
        frame = draw_frame(rng)
        kwargs = parameters(rng, frame)
        kwargs["lookahead"] = pick(rng, [0, 0, 0, 1, 3])
        native, bulk = both(frame, **kwargs)
        assert native == bulk, (frame, kwargs)
        in_bulk += reason(frame, **kwargs) is None
        errors += isinstance(native, str)
    assert in_bulk > 60
    assert errors < 35


HOURS = pd.DatetimeIndex(["2020-03-27 10:00", "2020-03-27 11:00", "2020-03-27 12:00"])


def hours(**columns):
    """Return three hourly bars; columns that are named replace those drawn at random."""
    return random_walk(1, bars=3).set_axis(HOURS).assign(**columns)


def test_every_microsecond_has_the_number_of_date2num(monkeypatch):
    rng = np.random.default_rng(1)
    year = 365 * 86_400_000_000
    micros = np.r_[
        rng.integers(-1968 * year, 8000 * year, 20_000),
        rng.integers(-year, 60 * year, 20_000),
        rng.integers(-year, 60 * year, 20_000) // 1_000_000 * 1_000_000,
    ]
    epoch = datetime.datetime(1970, 1, 1)
    times = [epoch + datetime.timedelta(microseconds=int(one)) for one in micros]
    expected = np.array([bt.date2num(one) for one in times])
    assert dates.date_numbers(micros).tobytes() == expected.tobytes()
    monkeypatch.setattr(dates, "TIE", 0.0)  # now every sum counts as one in the middle
    assert dates.date_numbers(micros[:2_000]).tobytes() == expected[:2_000].tobytes()


@pytest.mark.parametrize("zone", ["US/Eastern", "Europe/Dublin", "Australia/Lord_Howe", "CST"])
@pytest.mark.parametrize("start", ["2024-10-20", "2024-03-01", "1883-11-10", "1942-02-01"])
def test_tzinput_agrees_in_every_quarter_of_an_hour_around_a_change(zone, start):
    index = pd.date_range(start, periods=3000, freq="15min")
    frame = pd.DataFrame({"close": 1.0}, index=index)
    native, bulk = both(frame, tzinput=zone)
    assert reason(frame, tzinput=zone) is None
    assert native == bulk


def test_a_time_without_a_number_of_its_own_is_left_to_pandas_data():
    for index in (HOURS + pd.Timedelta(1, "ns"), HOURS[:2].append(pd.DatetimeIndex([pd.NaT]))):
        frame = hours().set_axis(index)
        assert "nanoseconds" in reason(frame)
        native, bulk = both(frame)
        assert native == bulk
    assert "NaT" in native


@pytest.mark.parametrize(
    "index", [HOURS.astype(str), HOURS.astype(object), HOURS.to_period("h"), pd.Index([1.0, 2, 3])]
)
def test_times_that_are_no_timestamps_end_as_they_do_with_pandas_data(index):
    frame = hours().set_axis(index)
    assert "DatetimeIndex" in reason(frame)
    native, bulk = both(frame)
    assert native == bulk


def test_todate_ends_the_feed_at_the_first_bar_beyond_it():
    frame = random_walk(2, bars=30)
    index = frame.index.to_numpy().copy()
    index[10] = np.datetime64("2021-01-01")
    frame.index = pd.DatetimeIndex(index)
    bounds = dict(fromdate=datetime.datetime(2020, 1, 5), todate=datetime.date(2020, 2, 1))
    for lookahead in (0, 2):
        native, bulk = both(frame, lookahead=lookahead, **bounds)
        assert native == bulk
        assert native[1][0] == 10
        assert native[3] == 6
    assert reason(frame, **bounds) is None


def test_a_wrong_column_raises_what_pandas_data_raises():
    for kwargs in (dict(close=17), dict(close=True), dict(close=1.0), dict(close="none")):
        native, bulk = both(hours(), **kwargs)
        assert "Error" in native
        assert native == bulk
    native, bulk = both(hours(volume=[1, None, "x"]))
    assert "must be real number" in native
    assert native == bulk


def no_mondays(data):
    if data.datetime.date(0).weekday():
        return False
    data.backwards()
    return True


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda data: data.addfilter(no_mondays), "a filter changes the bars"),
        (lambda data: data._add2stack([1.0] * 7), "a filter changes the bars"),
        (lambda data: data._add2stack([1.0] * 7, stash=True), "a filter changes the bars"),
        (lambda data: data.close.addbinding(bt.linebuffer.LineBuffer()), "a line has a binding"),
        (lambda data: data.qbuffer(1), "a line has a binding or a buffer of limited length"),
        (lambda data: data.load(), "the data feed is not at its start"),
        (lambda data: data.forward(), "a line is not empty"),
        (lambda data: setattr(data, "_load", lambda: False), "PandasData._load is overridden"),
        (lambda data: setattr(data, "load", lambda: False), "PandasData.load is overridden"),
        (lambda data: setattr(data, "forward", data.forward), "PandasData.forward is overridden"),
    ],
)
def test_what_changes_bars_on_their_way_is_left_alone(prepare, expected):
    assert reason(random_walk(3, bars=20), prepare).startswith(expected)

    def prepared(data):
        arm(data)
        prepare(data)

    frame = random_walk(3, bars=20)
    one = preload(bt.feeds.PandasData, frame, prepare)
    assert one == preload(bt.feeds.PandasData, frame, prepared)


@pytest.mark.parametrize("name", ["_load", "load", "preload", "forward", "_fromstack"])
def test_a_method_of_the_class_that_somebody_replaced_is_called(name, monkeypatch):
    calls, native = [], getattr(bt.feeds.PandasData, name)

    def counted(self, *args, **kwargs):
        calls.append(name)
        return native(self, *args, **kwargs)

    monkeypatch.setattr(bt.feeds.PandasData, name, counted)
    reasons = []
    preload(bt.feeds.PandasData, hours(), lambda data: reasons.append(use_bulk_preload(data)))
    assert reasons == [f"PandasData.{name} is overridden"]
    assert calls


def test_only_pandas_data_itself_is_changed():
    class Mine(bt.feeds.PandasData):
        pass

    before = dict(vars(bt.feeds.PandasData))
    mine, plain = Mine(dataname=hours()), bt.feeds.PandasData(dataname=hours())
    assert use_bulk_preload(mine) == "Mine is not bt.feeds.PandasData"
    assert "preload" not in vars(mine)
    attributes = set(vars(plain))
    assert use_bulk_preload(plain) is None
    assert use_bulk_preload(plain) is None
    assert set(vars(plain)) - attributes == {"preload"}
    undo_bulk_preload(plain)
    undo_bulk_preload(plain)
    assert set(vars(plain)) == attributes
    assert dict(vars(bt.feeds.PandasData)) == before
    plain.preload = own = lambda: None
    assert use_bulk_preload(plain) == "PandasData.preload is overridden"
    undo_bulk_preload(plain)
    assert plain.preload is own


def test_a_cerebro_is_pickled_with_its_feeds_before_and_after_the_call():
    plain = bt.feeds.PandasData(dataname=hours())
    arm(plain)
    copy = pickle.loads(pickle.dumps(plain))
    assert copy.preload.args == (copy,)


def test_a_subclass_of_a_frame_is_read_cell_by_cell():
    class Table(pd.DataFrame):
        pass

    assert reason(Table(hours())) == "Table is not a pandas.DataFrame"


def calls_of_a_preload(rows, **kwargs):
    """Return how many functions, in Python and in C, a preload in bulk calls."""
    calls = []

    def count(frame, event, argument):
        if event in ("call", "c_call"):
            calls.append(event)

    data = bt.feeds.PandasData(dataname=random_walk(4, bars=rows, freq="h"), **kwargs)
    bt.Cerebro().adddata(data)
    data.reset()
    data._start()
    arm(data)
    gc.collect()
    gc.disable()  # what it finalises calls functions, too
    sys.setprofile(count)
    try:
        data.preload()
    finally:
        sys.setprofile(None)
        gc.enable()
    assert data.buflen() > rows / 4
    return len(calls)


@pytest.mark.parametrize(
    "kwargs", [{}, dict(fromdate=datetime.datetime(2020, 1, 2)), dict(tzinput="Asia/Kolkata")]
)
def test_calls_do_not_grow_with_the_rows(kwargs):
    calls_of_a_preload(100, **kwargs)  # what pandas and numpy import late is not counted
    few = calls_of_a_preload(1_000, **kwargs)
    assert calls_of_a_preload(10_000, **kwargs) < few + 9 < 2_000  # caches make a few more or less


class Trader(bt.Strategy):
    """Buy and sell by an average, and write down what is seen at every bar."""

    def __init__(self):
        self.averages = [bt.ind.SMA(data.close, period=5) for data in self.datas]
        self.rows = []

    def prenext(self):
        self.next()

    def next(self):
        for data, average in zip(self.datas, self.averages, strict=True):
            if len(data) > 5:
                self.order_target_size(data, 10 if data.close[0] > average[0] else -10)
            if len(data):
                values = [float(line[0]) for line in data.lines]
                tick = getattr(data, "tick_close", None)
                self.rows.append((len(data), *values, tick, data.datetime.datetime(0)))
        self.rows.append(self.broker.getvalue())


def whole_run(frames, prepare, change=lambda cerebro: None, runs=1, **mode):
    """Return all that a strategy sees, and all lines and the account after the run."""
    cerebro = bt.Cerebro(**mode)
    for frame in frames:
        cerebro.adddata(bt.feeds.PandasData(dataname=frame, fromdate=frame.index[3]))
    change(cerebro)
    cerebro.addstrategy(Trader)
    seen = []
    for _ in range(runs):
        for data in cerebro.datas:
            prepare(data)
        strategy = cerebro.run()[0]
        observed = [[list(line.array) for line in one.lines] for one in strategy.observers]
        lines = [[list(line.array) for line in data.lines] for data in cerebro.datas]
        seen += [repr((strategy.rows, observed, lines)), cerebro.broker.getvalue()]
    return seen


@pytest.mark.parametrize(
    "mode",
    [
        {},
        dict(runonce=False),
        dict(preload=False),
        dict(exactbars=-1),
        dict(lookahead=3),
        dict(cheat_on_open=True),
        dict(runs=2),
    ],
    ids=lambda mode: next(iter(mode), "runonce"),
)
def test_a_whole_run_ends_the_same(mode):
    late, whole = random_walk(5, bars=60).iloc[17:], random_walk(6, bars=60)
    frames = [whole, late, whole.iloc[:40]]
    expected = whole_run(frames, lambda data: None, **mode)
    assert whole_run(frames, arm, **mode) == expected


def test_a_run_with_short_buffers_loads_bar_by_bar():
    frames = [random_walk(5, bars=60), random_walk(6, bars=60)]
    expected = whole_run(frames, lambda data: None, exactbars=1)
    assert whole_run(frames, arm, exactbars=1) == expected


def resampled(cerebro):
    cerebro.resampledata(cerebro.datas[0], timeframe=bt.TimeFrame.Weeks)


def replayed(cerebro):
    cerebro.replaydata(cerebro.datas[0], timeframe=bt.TimeFrame.Weeks)


def filtered(cerebro):
    cerebro.datas[0].addfilter(no_mondays)


def alone(cerebro):
    cerebro.datas[0].resample(timeframe=bt.TimeFrame.Weeks)


@pytest.mark.parametrize("change", [resampled, replayed, filtered, alone])
def test_a_run_with_bars_that_are_made_of_others_ends_the_same(change):
    frames = [random_walk(7, bars=90)]
    expected = whole_run(frames, lambda data: None, change)
    assert whole_run(frames, arm_plain, change) == expected


def arm_plain(data):
    """Arm what can be: the copy that resampledata makes is no PandasData."""
    assert (use_bulk_preload(data) is None) is (type(data) is bt.feeds.PandasData)


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_the_points_of_an_optimisation_end_the_same(maxcpus):
    results = []
    for prepare in (lambda data: None, use_bulk_preload):
        cerebro = bt.Cerebro(stdstats=False, maxcpus=maxcpus)
        cerebro.adddata(bt.feeds.PandasData(dataname=random_walk(8, bars=60)))
        cerebro.optstrategy(Averager, period=[3, 5, 8])
        cerebro.addanalyzer(bt.analyzers.TimeReturn)
        prepare(cerebro.datas[0])
        results.append([one[0].analyzers[0].get_analysis() for one in cerebro.run()])
    assert results[0] == results[1]
    assert len(results[0]) == 3


class Averager(bt.Strategy):
    """Hold while the price is above an average."""

    params = dict(period=3)

    def __init__(self):
        self.average = bt.ind.SMA(period=self.p.period)

    def next(self):
        self.order_target_size(target=10 if self.data.close[0] > self.average[0] else 0)
