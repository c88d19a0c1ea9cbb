"""walk_forward: nothing is known of the future, nothing crosses a fold, and sums are right."""

import math
from dataclasses import replace

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import bars, random_walk
from hypothesis import given
from hypothesis import strategies as st

import bt_risk
from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence import sweep_pool
from bt_risk.evidence.folds import Fold, folds
from bt_risk.evidence.metrics import days_of, measures
from bt_risk.evidence.sharpe import expected_best, probabilistic_sharpe
from bt_risk.evidence.sweep_point import Job
from bt_risk.evidence.variants import RULES, without
from bt_risk.evidence.walk_windows import bar_numbers, windows_of
from bt_risk.report.calendar import timestamps
from bt_risk.report.pyfolio import pyfolio_inputs

OFF = without(bt_risk.Policy(), *RULES)
LOOSE = bt_risk.Policy(drawdown_limit=0.5, min_periods=5)
DAILY = random_walk(3, 140, 0.02)

# -- folds -----------------------------------------------------------------------------------------


def test_folds_by_hand():
    assert folds(10, train=4, test=2, purge=0) == [
        Fold((0, 4), (4, 6)),
        Fold((2, 6), (6, 8)),
        Fold((4, 8), (8, 10)),
    ]
    assert folds(11, train=4, test=3, purge=2) == [
        Fold((0, 4), (6, 9)),
        Fold((3, 7), (9, 11)),  # what is left
    ]
    assert folds(11, train=4, test=3, purge=2, anchored=True) == [
        Fold((0, 4), (6, 9)),
        Fold((0, 7), (9, 11)),
    ]
    assert folds(6, train=4, test=100) == [Fold((0, 4), (5, 6))]


@given(
    st.integers(1, 300), st.integers(1, 80), st.integers(1, 80), st.integers(0, 20), st.booleans()
)
def test_no_bar_is_trained_on_before_it_is_tested_and_each_is_tested_once(
    count, train, test, purge, anchored
):
    if count <= train + purge:
        with pytest.raises(DataError, match="must have more than"):
            folds(count, train, test, purge, anchored)
        return
    found = folds(count, train, test, purge, anchored)
    tested = [bar for fold in found for bar in range(*fold.test)]
    assert tested == list(range(train + purge, count))
    for (first, end), (begin, last) in found:
        assert 0 <= first < end == begin - purge
        assert 0 < last - begin <= test
        assert first == 0 if anchored else end - first == train


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        (dict(train=0), "train"),
        (dict(test=2.5), "test"),
        (dict(purge=-1), "purge"),
        (dict(anchored=1), "anchored"),
        (dict(warmup=-1), "warmup"),
        (dict(trials=-1), "trials"),
        (dict(objective="luck"), "objective"),
        (dict(space={"peroid": [1]}), "space"),
        (dict(n_jobs=0), "n_jobs"),
    ],
)
def test_what_makes_no_sense_raises_in_the_name_of_the_function(changed, param):
    usual = dict(space={"period": [8]}, train=40, test=20)
    with pytest.raises(ParameterError) as caught:
        bt_risk.walk_forward(swinging(), **(usual | changed))
    assert (caught.value.component, caught.value.param) == ("walk_forward", param)


# -- windows ---------------------------------------------------------------------------------------


class Seen(bt.Strategy):
    """Note the time of each bar of each data feed."""

    def __init__(self):
        self.seen = {data: [] for data in self.datas}

    def prenext(self):
        self.next()

    def next(self):
        for data, times in self.seen.items():
            if len(data) > len(times):
                times.append(bt.num2date(data.datetime[0]))


def two_clocks(first="D", second="8h", tz=None, **kwargs):
    """Return a Cerebro of 20 bars of one clock, and of ten days of another."""
    engine = bt.Cerebro(stdstats=False, **kwargs)
    for name, freq in (("A", first), ("B", second)):
        frame = random_walk(1, 20 if name == "A" else 30, freq=freq)
        engine.adddata(bt_risk.FrameData(dataname=frame, tz=tz), name=name)
    engine.addstrategy(Seen)
    return engine


def seen_in(window, **kwargs):
    engine = two_clocks(**kwargs)
    window.apply(engine)
    (strategy,) = engine.run()
    return [pd.DatetimeIndex(times).round("ms") for times in strategy.seen.values()]


@pytest.mark.parametrize("tz", [None, "US/Eastern", "Asia/Tokyo"])
def test_a_window_has_the_bars_of_every_clock_up_to_its_last_bar(tz):
    """The first feed has a bar each day; the second one each 8 hours for the same ten days."""
    numbers = bar_numbers(two_clocks(tz=tz))
    times = timestamps(numbers)
    assert list(times) == list(pd.date_range("2020-01-01", periods=20))
    train, test = windows_of(numbers, Fold((2, 5), (6, 8)), None)
    daily, hours = seen_in(train, tz=tz)
    assert (daily[0], daily[-1]) == (times[0], times[4])
    assert (hours[0], hours[-1]) == (times[0], times[4])  # not 08:00 and 16:00 of that day
    assert (train.begin, test.begin) == (times[1], times[5])
    daily, hours = seen_in(test, tz=tz)
    assert (daily[-1], hours[-1]) == (times[7], times[7])
    last = windows_of(numbers, Fold((2, 5), (6, 20)), 3)[1]
    daily, hours = seen_in(last, tz=tz)
    assert (daily[0], daily[-1]) == (times[3], times[19])
    assert (hours[0], hours[-1]) == (times[3], pd.Timestamp("2020-01-10 16:00"))


@pytest.mark.parametrize("mode", [{}, {"preload": False}, {"exactbars": 1}])
@pytest.mark.parametrize("kind", ["plain", "resampled", "replayed"])
def test_the_bars_of_a_feed_are_those_that_it_says_it_has(mode, kind):
    frame = random_walk(1, 40, freq="6h")

    def engine():
        made = bt.Cerebro(stdstats=False, **mode)
        data = bt_risk.FrameData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=360)
        days = dict(timeframe=bt.TimeFrame.Days)
        if kind == "plain":
            made.adddata(data)
        elif kind == "resampled":
            made.resampledata(data, **days)
        else:
            made.replaydata(data, **days)
        made.addstrategy(Seen)
        return made

    numbers = bar_numbers(engine())
    times = timestamps(numbers)
    assert len(times) == (40 if kind == "plain" else 10)
    assert times.is_monotonic_increasing
    window = windows_of(numbers, Fold((0, 4), (5, 8)), None)[1]
    made = engine()
    window.apply(made)
    (seen,) = made.run()[0].seen.values()
    assert len(seen) == 8  # no part of the ninth


# -- a walk ----------------------------------------------------------------------------------------


class Swing(bt.Strategy):
    """Buy every `period` bars, and close after `hold` of them."""

    params = dict(period=10, hold=4, feed=0)

    def next(self):
        data = self.datas[self.p.feed]
        place = len(data) % self.p.period
        if place == 0:
            self.buy(data, size=100)
        elif place == self.p.hold:
            self.close(data)


def swinging(frame=None, other=None, feed=0):
    frame = DAILY if frame is None else frame

    def build(period=10, hold=4):
        engine = bt.Cerebro(stdstats=False)
        for name, one in (("A", frame), ("B", other)):
            if one is not None:
                engine.adddata(bt_risk.FrameData(dataname=one), name=name)
        engine.broker.setcash(100_000)
        engine.broker.setcommission(0.001)
        engine.addstrategy(Swing, period=period, hold=hold, feed=feed)
        return engine

    return build


def holding_back(period=10):
    engine = swinging(DAILY.iloc[:90])(period)
    engine.strats.clear()
    engine.addstrategy(Swing, period=period, hold=2)
    return engine


SPACE = {"period": [6, 9], "risk_limit": [0.005, 0.02]}


def walked(build, **kwargs):
    usual = dict(space=SPACE, train=60, test=30, policy=LOOSE, n_jobs=1)
    return bt_risk.walk_forward(build, **(usual | kwargs))


@pytest.fixture(scope="module")
def walk():
    return walked(swinging(), trials=5)


def altered(frame, after):
    """Return a frame whose prices jump to half, and then walk elsewhere, after a time."""
    other = random_walk(77, len(frame), 0.05).set_axis(frame.index) * 0.5
    return pd.concat([frame[frame.index <= after], other[other.index > after]])


SIX = random_walk(5, 170, 0.01, freq="6h")
WORLDS = {
    "one feed": (swinging, DAILY, {}),
    "anchored": (swinging, DAILY, dict(anchored=True, purge=3)),
    "warm-up": (swinging, DAILY, dict(warmup=20, purge=0)),
    "intraday": (swinging, SIX, dict(train=70, test=35)),
}


# Intraday is the one of them that always runs: its days are cut.
KINDS = [pytest.param(one, marks=pytest.mark.full if one != "intraday" else ()) for one in WORLDS]


def worlds(kind, frame):
    """Return a build of a world with other prices, and what is passed on."""
    make, _, arguments = WORLDS[kind]
    return make(frame), arguments


@pytest.mark.parametrize("kind", KINDS)
def test_prices_from_a_test_on_change_nothing_of_what_was_chosen_for_it(kind):
    frame = WORLDS[kind][1]
    build, arguments = worlds(kind, frame)
    found = walked(build, **arguments)
    for fold in (0, 1):
        row = found.frame.iloc[fold]
        after = row["begin"] - pd.Timedelta(milliseconds=1)
        changed = walked(worlds(kind, altered(frame, after))[0], **arguments)
        same, other = (one.sweeps[fold].frame.drop(columns="seconds") for one in (found, changed))
        pd.testing.assert_frame_equal(same, other)
        assert found.sweeps[fold].best == changed.sweeps[fold].best
        # It is no property of prices that do nothing: the test itself is another one.
        assert found.frame["return"].iloc[fold] != changed.frame["return"].iloc[fold]


@pytest.mark.parametrize("kind", KINDS)
def test_prices_after_a_test_change_nothing_of_its_returns(kind):
    frame = WORLDS[kind][1]
    build, arguments = worlds(kind, frame)
    found = walked(build, **arguments)
    for fold in (0, 1):
        end = found.frame["end"].iloc[fold]
        changed = walked(worlds(kind, altered(frame, end))[0], **arguments)
        upto = found.record.bars["time"] <= end
        pd.testing.assert_frame_equal(found.record.bars[upto], changed.record.bars[upto])
        fills, others = (one.record.fills for one in (found, changed))
        pd.testing.assert_frame_equal(fills[fills.time <= end], others[others.time <= end])
        pd.testing.assert_series_equal(found.frame.iloc[fold], changed.frame.iloc[fold])
        assert found.figures["CAGR"] != changed.figures["CAGR"]


@pytest.mark.parametrize("feed", [pytest.param(0, marks=pytest.mark.full), 1])
def test_feeds_of_two_clocks_see_no_future_either(feed):
    """The first feed has a bar each day, and counts; the other one each 6 hours."""
    days, hours = random_walk(3, 40, 0.02), random_walk(5, 160, 0.01, freq="6h")
    arguments = dict(train=18, test=10, space={"period": [6, 9]})
    found = walked(swinging(days, hours, feed), **arguments)
    row = found.frame.iloc[1]
    after = row["begin"] - pd.Timedelta(days=1)  # the last bar of the first feed before the test
    changed = walked(swinging(altered(days, after), altered(hours, after), feed), **arguments)
    same, other = (one.sweeps[1].frame.drop(columns="seconds") for one in (found, changed))
    pd.testing.assert_frame_equal(same, other)
    changed = walked(
        swinging(altered(days, row["end"]), altered(hours, row["end"]), feed), **arguments
    )
    upto = found.record.bars["time"] <= row["end"]
    pd.testing.assert_frame_equal(found.record.bars[upto], changed.record.bars[upto])
    # Between two bars of the first feed the other one has three more, and each is tested.
    assert found.record.times.is_unique
    begin = found.frame["begin"].iloc[0]
    assert (found.record.times >= begin).sum() == (hours.index >= begin).sum()
    assert len(found.record.times) == (hours.index > begin - pd.Timedelta(days=1)).sum()


def test_no_order_counts_from_before_a_test_and_no_position_crosses_one(walk):
    record = walk.record
    for _, row in walk.frame.iterrows():
        inside = record.fills[(record.fills.time >= row["begin"]) & (record.fills.time <= row.end)]
        assert inside.time.min() > row["begin"]  # an order of its first bar fills on the next one
        assert inside.groupby("name")["size"].sum().abs().max() < 1e-9
    assert len(record.fills) > 2 * len(walk.frame)
    assert not set(record.times[record.held["bar"]]) & set(walk.frame["end"])
    # Indicators and counters of a strategy were warm: the first entry is not the first multiple
    # of its period after the begin of the test, but of the data.
    assert record.decisions.time.min() >= walk.frame["begin"].iloc[0]


def test_the_frame_says_which_bars_and_which_point(walk):
    frame, days = walk.frame, DAILY.index
    assert len(frame) == 3
    assert list(frame["train_begin"]) == [days[30 * k] for k in range(3)]
    assert list(frame["train_end"]) == [days[59 + 30 * k] for k in range(3)]
    assert list(frame["begin"]) == [days[61 + 30 * k] for k in range(3)]
    assert list(frame["end"]) == [days[90], days[120], days[-1]]
    for (_, row), sweep in zip(frame.iterrows(), walk.sweeps, strict=True):
        assert row[["period", "risk_limit"]].to_dict() == sweep.best
        assert row["in_sample"] == sweep.frame["objective"].max()
        assert (row["runs"], row["failed"]) == (4, 0)


def test_a_training_is_a_sweep_of_these_bars_and_no_other(walk):
    """With a strategy that does not count from the first bar of the data, cutting is the same."""
    frame = DAILY.iloc[:60]
    alone = bt_risk.sweep(swinging(frame), SPACE, policy=LOOSE, n_jobs=1, store=None)
    pd.testing.assert_frame_equal(
        walk.sweeps[0].frame.drop(columns="seconds"), alone.frame.drop(columns="seconds")
    )


def test_the_returns_are_those_of_one_account(walk):
    returns, record = walk.returns, walk.record
    assert list(returns.index) == list(DAILY.index[61:])
    end = record.bars["equity"].iloc[-1]
    assert 100_000 * (1 + returns).prod() == pytest.approx(end)
    assert (1 + walk.frame["return"]).prod() == pytest.approx(end / 100_000)
    days, _, year = days_of(record)
    assert walk.figures == {name: float(one) for name, one in measures(days, year).items()}
    made, positions, _ = pyfolio_inputs(record)
    np.testing.assert_allclose(positions.sum(axis=1), 100_000 * (1 + made).cumprod())
    fills = record.fills
    paid = -(fills["size"] * fills["price"]).sum() - fills["commission"].sum()
    assert paid == pytest.approx(end - 100_000)  # all of it is in the fills


def test_tries_are_every_distinct_ratio_of_a_training_and_those_stated(walk):
    scaled, count = [], 5
    for sweep in walk.sweeps:
        ratios = (sweep.frame["Sharpe"] / sweep.frame["year"] ** 0.5).round(12).unique()
        scaled.append(np.var(ratios, ddof=1) * sweep.frame["days"].iloc[0])
        count += len(ratios)
    assert walk.tries == count
    returns = walk.returns.to_numpy()
    luck = expected_best(math.sqrt(np.mean(scaled) / len(returns)), count)
    assert walk.deflated == pytest.approx(probabilistic_sharpe(returns, luck))
    assert walk.probabilistic == probabilistic_sharpe(returns)
    assert walk.deflated < walk.probabilistic


def test_one_point_in_one_fold_is_one_try_and_no_try_is_lucky():
    found = walked(swinging(DAILY.iloc[:91]), space={"period": [6]})
    assert found.tries == 1
    assert math.isnan(found.deflated)  # nothing says how far tries without skill spread
    assert "no evidence that it is more than the luck of 1 try: " in str(found)
    assert expected_best(0.1, 1) == 0.0


@pytest.mark.full
def test_several_processes_choose_the_same(walk, monkeypatch):
    monkeypatch.setattr(sweep_pool, "can_fork", lambda: True)
    both = walked(swinging(), trials=5, n_jobs=2)
    pd.testing.assert_frame_equal(walk.frame, both.frame)
    pd.testing.assert_frame_equal(walk.record.bars, both.record.bars)


# -- the store -------------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch):
    """Return a list of what runs in training: the end of its bars, and the point."""
    found, evaluate = [], Job.evaluate

    def noted(job, point):
        if len(found) == getattr(noted, "cut", None):
            raise KeyboardInterrupt
        found.append((job.window.until, job.space.key(point)))
        return evaluate(job, point)

    monkeypatch.setattr(Job, "evaluate", noted)
    return found, noted


@pytest.mark.parametrize("name", ["walk", pytest.param("walk.parquet", marks=pytest.mark.full)])
def test_a_walk_that_is_cut_goes_on_and_runs_no_point_twice(walk, ran, tmp_path, name):
    if name == "walk.parquet":
        pytest.importorskip("pyarrow")
    found, noted = ran
    noted.cut = 6
    with pytest.raises(KeyboardInterrupt):
        walked(swinging(), store=tmp_path / name, trials=5)
    assert len(found) == 6
    noted.cut = None
    again = walked(swinging(), store=tmp_path / name, trials=5)
    assert len(found) == len(set(found)) == 12
    pd.testing.assert_frame_equal(walk.frame, again.frame)
    pd.testing.assert_frame_equal(walk.record.bars, again.record.bars)
    assert again.deflated == walk.deflated
    suffix = ".parquet" if name == "walk.parquet" else ".db"
    files = [tmp_path / name / f"fold-{number}{suffix}" for number in (1, 2, 3)]
    assert [one.store for one in again.sweeps] == files


def test_with_later_bars_only_the_new_folds_run(ran, tmp_path):
    found, _ = ran
    space = {"period": [6]}
    walked(swinging(DAILY.iloc[:91]), space=space, store=tmp_path / "walk")
    assert len(found) == 1
    longer = walked(swinging(DAILY.iloc[:121]), space=space, store=tmp_path / "walk")
    assert len(longer.frame) == 2
    assert len(found) == len(set(found)) == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(train=50), "differs in window, prices"),
        (dict(policy=bt_risk.Policy(drawdown_limit=0.4)), "differs in policy"),
        (dict(build=holding_back), "differs in code"),
    ],
)
def test_the_store_of_another_walk_is_refused_before_anything_runs(ran, tmp_path, changed, words):
    found, _ = ran
    short = swinging(DAILY.iloc[:90])
    usual = dict(build=short, space={"period": [6]}, store=tmp_path / "walk")
    walked(**usual)
    del found[:]
    with pytest.raises(ParameterError, match="walk_forward: store must be new") as caught:
        walked(**(usual | changed))
    assert words in str(caught.value)
    assert not found


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (3, "the path of a folder, or None"),
        ("walk.db", "Each fold has a store of its own in it"),
        ("file", "Each fold has a store of its own in it"),
        ("no/such/walk", "There is no folder no/such"),
    ],
)
def test_what_is_no_folder_is_refused(ran, tmp_path, monkeypatch, store, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ParameterError, match=f"walk_forward: store must be.*{words}"):
        walked(swinging(), store=store)
    assert ran[0] == []
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


# -- by hand ---------------------------------------------------------------------------------------


class Hold(bt.Strategy):
    """Hold 100 units whenever that is possible."""

    params = dict(size=100)

    def next(self):
        if not self.position:
            self.buy(size=self.p.size)


RISING = bars(*((100.0 + k, 101.0 + k, 99.0 + k, 100.5 + k) for k in range(12)))


def holding(frame=RISING, strategy=Hold):
    def build(size=100):
        engine = bt.Cerebro(stdstats=False)
        engine.adddata(bt_risk.FrameData(dataname=frame), name="A")
        engine.broker.setcash(50_000)
        engine.broker.setcommission(0.001)
        engine.addstrategy(strategy, size=size)
        return engine

    return build


def test_equity_is_carried_and_positions_are_closed_at_the_last_close_by_hand():
    """Two tests of 4 bars, from bars 4 and 8: bought at the open of 5 and 9, closed at 7 and 11."""
    found = bt_risk.walk_forward(
        holding(), {"size": [10, 100]}, 4, 4, "final_equity", purge=0, policy=OFF, n_jobs=1
    )
    assert list(found.frame["size"]) == [100, 100]
    equity, cash = [], 50_000.0
    for bought in (5, 9):
        price = 100.0 + bought
        cash -= 100 * price * 1.001
        equity += [cash + 100 * price * 1.001]  # flat at the close of the first bar
        equity += [cash + 100 * (100.5 + k) for k in (bought, bought + 1)]
        cash += 100 * (102.5 + bought) * 0.999
        equity.append(cash)
    assert found.record.bars["equity"].tolist() == pytest.approx(equity)
    assert found.record.start[0] == 50_000
    closing = found.record.fills[found.record.fills["size"] < 0]
    assert closing["price"].tolist() == [107.5, 111.5]
    assert closing["commission"].tolist() == pytest.approx([10.75, 11.15])
    assert list(closing["time"]) == list(found.frame["end"])
    assert found.frame["return"].tolist() == pytest.approx(
        [equity[3] / 50_000 - 1, equity[7] / equity[3] - 1]
    )
    assert found.frame["trades"].tolist() == [1, 1]
    assert found.figures["Trades"] == 2


def test_an_objective_to_be_small_is_chosen_small():
    found = bt_risk.walk_forward(
        holding(RISING.iloc[::-1].set_axis(RISING.index)),
        {"size": [10, 100]},
        4,
        4,
        "max_drawdown",
        policy=OFF,
        n_jobs=1,
    )
    assert list(found.frame["size"]) == [10, 10]
    assert "worse than in sample in" in found.sentences()[1]


def test_a_halt_ends_one_test_and_not_the_walk():
    """The second test falls; the third has a new high-water mark."""
    close = [100.0] * 40 + [100.0 - 3 * k for k in range(1, 11)] + [70.0 + k for k in range(1, 21)]
    frame = bars(*((one, one + 1, one - 1, one) for one in close))
    policy = replace(OFF, drawdown_limit=0.05)
    found = bt_risk.walk_forward(
        holding(frame), {"size": [400]}, 30, 10, "final_equity", purge=0, policy=policy, n_jobs=1
    )
    assert found.frame["halted"].tolist() == [False, True, False, False]
    assert len(found.returns) == 40
    bars_of = found.record.bars.set_index("time")["equity"]
    second = bars_of[found.frame["begin"].iloc[1] : found.frame["end"].iloc[1]]
    assert len(second) == 10
    assert second.iloc[-3:].nunique() == 1
    assert not found.record.halted
    assert found.frame["return"].iloc[2] > 0
    assert any(one.startswith("a halt ended 1 of 4 tests early") for one in found.sentences())


class Late(bt.Strategy):
    """Trade in the second half only."""

    params = dict(size=100)

    def next(self):
        if len(self) > 30 and not self.position:
            self.buy(size=self.p.size)


def test_where_nothing_can_be_chosen_nothing_is_traded():
    frame = random_walk(1, 50)
    found = bt_risk.walk_forward(
        holding(frame, Late), {"size": [10, 20]}, 20, 10, policy=OFF, n_jobs=1
    )
    assert found.frame["size"].isna().tolist() == [True, True, False]
    begin = found.frame["begin"].iloc[2]
    assert found.record.fills.time.min() > begin
    assert found.returns[:begin].eq(0).all()
    assert found.returns[begin:].ne(0).any()
    said = found.sentences()
    assert "in 2 of 3 folds no point had an objective: nothing traded" in said
    build = holding(frame.iloc[:30], Late)
    with pytest.raises(DataError, match="in no training a point has an objective. No run traded."):
        bt_risk.walk_forward(build, {"size": [10]}, 20, 9, policy=OFF, n_jobs=1)


def test_a_feed_that_begins_later_than_a_window_does_not_end_it():
    """Backtrader fails where a feed has fewer bars than an indicator needs, unless bar by bar."""
    late = random_walk(9, 40, start="2020-05-01")

    class Averages(Swing):
        def __init__(self):
            self.averages = [bt.ind.SMA(data, period=15) for data in self.datas]

        def prenext(self):
            self.next()

    def build(period=8):
        engine = bt.Cerebro(stdstats=False)
        for name, frame in (("A", DAILY), ("B", late)):
            engine.adddata(bt_risk.FrameData(dataname=frame), name=name)
        engine.addstrategy(Averages, period=period)
        return engine

    found = bt_risk.walk_forward(build, {"period": [6, 9]}, 60, 60, policy=LOOSE, n_jobs=1)
    assert found.frame["failed"].sum() == 0
    assert found.frame["trades"].min() > 0


def test_files_are_read_again_for_each_window(tmp_path):
    """Bars of a CSV file are kept for the runs of one window, and are not those of another."""
    DAILY.round(4).to_csv(tmp_path / "prices.csv")

    def build(period=9):
        engine = swinging(None)(period)
        engine.datas.clear()
        columns = dict(datetime=0, open=1, high=2, low=3, close=4, volume=5, openinterest=-1)
        path = str(tmp_path / "prices.csv")
        data = bt.feeds.GenericCSVData(dataname=path, dtformat="%Y-%m-%d", **columns)
        engine.adddata(data, name="A")
        return engine

    files = bt_risk.walk_forward(build, {"period": [6, 9]}, 60, 30, policy=LOOSE, n_jobs=1)
    frame = swinging(DAILY.round(4))
    frames = bt_risk.walk_forward(frame, {"period": [6, 9]}, 60, 30, policy=LOOSE, n_jobs=1)
    columns = ["period", "in_sample", "out_of_sample", "return", "trades"]
    pd.testing.assert_frame_equal(files.frame[columns], frames.frame[columns])
    assert [one.frame["days"].unique().tolist() for one in files.sweeps] == [[60], [60], [60]]


def test_points_that_fail_are_counted_and_others_chosen():
    class Failing(Swing):
        def __init__(self):
            if self.p.hold >= self.p.period:
                raise ValueError(f"hold {self.p.hold} is too long")

    def build(period=8, hold=4):
        engine = swinging()(period, hold)
        engine.strats = []
        engine.addstrategy(Failing, period=period, hold=hold)
        return engine

    space = {"period": [4, 8], "hold": [3, 5]}
    found = bt_risk.walk_forward(build, space, 60, 60, policy=LOOSE, n_jobs=1)
    assert found.frame["failed"].tolist() == [1] * len(found.frame)
    assert "ValueError: hold 5 is too long" in found.sentences()[-1]
    space = {"period": [4], "hold": [5]}
    with pytest.raises(DataError, match="The first run failed: ValueError: hold 5 is too long"):
        bt_risk.walk_forward(build, space, 60, 60, policy=LOOSE, n_jobs=1)


# -- what is said ----------------------------------------------------------------------------------


def test_sentences_name_the_result_the_decay_the_choices_and_the_certainty(walk):
    first, second, *choices, last = walk.sentences()
    end = walk.record.bars["equity"].iloc[-1]
    assert first.startswith(f"out of sample 100,000 became {end:,.0f} in 3 folds and 0.2 years: ")
    known = walk.frame[["in_sample", "out_of_sample"]]
    worse = (known["out_of_sample"] < known["in_sample"]).sum()
    assert second == (
        f"Sharpe of what was chosen: {known['in_sample'].mean():.2f} in sample, "
        f"{known['out_of_sample'].mean():.2f} out of sample, the means of 3 folds; worse than in "
        f"sample in {worse} of them"
    )
    for name, said in zip(walk.parameters, choices, strict=True):
        assert said.startswith((f"{name} changed ", f"{name} never changed: chosen "))
        counts = walk.frame[name].value_counts()
        assert all(f"{value} ({count})" in said for value, count in counts.items())
    assert walk.deflated < 0.95
    assert last == (
        f"no evidence that it is more than the luck of {walk.tries} tries: the deflated Sharpe "
        f"ratio out of sample is {walk.deflated:.2f}, and 0.95 would be evidence; without any try "
        f"it is {walk.probabilistic:.2f}"
    )
    assert replace(walk, deflated=0.96).sentences()[-1].startswith("evidence that it is more than")
    assert str(walk) == "\n".join(walk.sentences())


def test_the_page_the_notebook_and_the_tear_sheet(walk, tmp_path):
    page = walk.write(tmp_path / "page.html", "A <b>walk").read_text(encoding="utf-8")
    html = walk._repr_html_()
    for sentence in walk.sentences():
        assert f"<li>{sentence}</li>" in page
        assert f"<li>{sentence}</li>" in html
    assert "A &lt;b&gt;walk" in page
    assert page.count('<th scope="row">') >= 3 + 12
    assert "nan" not in "".join(page.split("<td>")[1:])[:20_000]
    sheet = bt_risk.report.tear_sheet(walk.record, tmp_path / "sheet.html")
    assert "Swing" in sheet.read_text(encoding="utf-8")


def test_limits_and_policy_that_differ_between_folds_are_not_said_of_all():
    """Where prices rise the larger positions are chosen, and where they fall the smaller ones."""
    close = np.r_[np.linspace(100, 200, 70), np.linspace(200, 100, 70)]
    frame = bars(*((one, one + 1, one - 1, one) for one in close))
    space = {"notional_limit": [0.05, 0.1]}
    found = bt_risk.walk_forward(
        swinging(frame), space, 60, 40, "final_equity", policy=LOOSE, n_jobs=1
    )
    assert found.frame["notional_limit"].tolist() == [0.1, 0.05]
    assert found.record.policy is None
    assert "NotionalLimit" not in found.record.limits
    assert found.record.limits["RiskPerTrade"] == 0.01
    assert math.isnan(found.record.losses.worst)
