"""Screener: who is ranked at a close, in what sequence, and that nothing else changes."""

import functools
import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
import talib
from helpers.frames import PandasData
from helpers.scenarios import MODES, bars, cerebro, random_walk, tape_of, taped

import bt_risk
from bt_risk import ParameterError, Screener

STOCKS = ("aapl_1d", "goog_1d", "ibm_1d", "msft_1d")


def closing(*closes, start="2020-01-01", **kwargs):
    """Return bars with these closes."""
    return bars(*((c, c + 1, c - 1, c) for c in closes), start=start, **kwargs)


class Reader(bt.Strategy):
    """Note the picks that it reads on each bar, before anything has begun, too."""

    def __init__(self):
        self.read = {}

    def prenext(self):
        self.next()

    def next(self):
        self.read[self.datetime.date()] = self.analyzers.screener.picks


def screened(frames, mode="runonce", strategy=Reader, engine=None, **params):
    """Return the strategy of a run over frames by name."""
    engine = engine or cerebro(*frames.values(), names=list(frames))
    engine.addstrategy(strategy)
    params = {"rank": "close", "rebalance": 1} | params
    engine.addanalyzer(Screener, **params)
    return engine.run(**MODES[mode])[0]


def rows(strategy, *columns):
    """Return the columns of all rows, those with a day as ``day of the month``."""
    frame = strategy.analyzers.screener.frame()
    frame["day"] = frame.time.dt.day
    return list(frame[list(columns)].itertuples(index=False, name=None))


def reason_of(strategy, name, day):
    frame = strategy.analyzers.screener.frame()
    return frame[(frame.data == name) & (frame.time.dt.day == day)].reason.item()


# -- ranks by hand ---------------------------------------------------------------------------------


def test_the_highest_is_first_and_equal_ones_are_in_the_sequence_of_their_names():
    frames = {"C": closing(5, 5), "A": closing(5, 7), "B": closing(9, 7)}
    strategy = screened(frames)
    assert rows(strategy, "day", "data", "rank", "score") == [
        (1, "B", 1, 9.0),
        (1, "A", 2, 5.0),
        (1, "C", 3, 5.0),
        (2, "A", 1, 7.0),
        (2, "B", 2, 7.0),
        (2, "C", 3, 5.0),
    ]


def test_a_mean_of_three_bars_by_hand():
    frames = {"A": closing(1, 2, 6, 4), "B": closing(3, 3, 3, 3)}
    strategy = screened(frames, rank="-sma(3)", where="close > close(-1) or close == 3")
    found = rows(strategy, "day", "data", "rank", "score", "reason")
    nan = found[0][3]
    assert math.isnan(nan)
    assert found[-4:] == [
        (3, "A", 1, -3.0, ""),
        (3, "B", 2, -3.0, ""),
        (4, "B", 1, -3.0, ""),
        (4, "A", 0, -4.0, "not close > close(-1) or close == 3"),
    ]
    assert [row[4] for row in found[:4]] == ["1 of 3 bars"] * 2 + ["2 of 3 bars"] * 2


def test_the_best_are_picked_and_read_on_the_bar_that_has_closed():
    frames = {"A": closing(1, 9, 1), "B": closing(5, 5, 5), "C": closing(7, 7, 2)}
    strategy = screened(frames, top=2)
    assert [picks for _, picks in sorted(strategy.read.items())] == [
        ("C", "B"),
        ("A", "C"),
        ("B", "C"),
    ]
    assert strategy.analyzers.screener.picks == ("B", "C")
    days = {
        time.day: names
        for time, names in strategy.analyzers.screener.get_analysis()["picks"].items()
    }
    assert days == {1: ["C", "B"], 2: ["A", "C"], 3: ["B", "C"]}


def test_a_part_of_an_expression_is_a_line_for_an_indicator():
    frames = {"A": closing(1, 2, 3, 4), "B": closing(8, 4, 2, 1)}
    strategy = screened(frames, rank="sma(close * 2 - 1, 2)")
    assert rows(strategy, "day", "data", "score")[-2:] == [(4, "A", 6.0), (4, "B", 2.0)]
    assert reason_of(strategy, "A", 1) == "1 of 2 bars"


@pytest.mark.parametrize(
    ("rebalance", "expected"),
    [
        ("daily", ["01-30", "01-31", "02-03", "02-04", "02-10", "02-11"]),
        ("weekly", ["01-30", "02-03", "02-10"]),
        ("monthly", ["01-30", "02-03"]),
        (1, ["01-30", "01-31", "02-03", "02-04", "02-10", "02-11"]),
        (4, ["01-30", "02-10"]),
        (9.0, ["01-30"]),
    ],
)
def test_the_days_of_a_rebalance(rebalance, expected):
    frame = closing(1, 2, 3, 4, 5, 6)
    frame.index = pd.to_datetime(
        [f"2020-{day}" for day in ("01-30", "01-31", "02-03", "02-04", "02-10", "02-11")]
    )
    strategy = screened({"A": frame}, rebalance=rebalance)
    assert [f"{time:%m-%d}" for time in strategy.analyzers.screener.frame().time] == expected


# -- who is not ranked -----------------------------------------------------------------------------


def test_a_name_that_is_listed_later_and_one_that_is_delisted():
    frames = {
        "A": closing(1, 1, 1, 1, 1),
        "late": closing(2, 2, 2, start="2020-01-03"),
        "gone": closing(3, 3),
    }
    strategy = screened(frames, rank="sma(2)")
    assert [reason_of(strategy, "late", day) for day in range(1, 6)] == [
        "no bar yet",
        "no bar yet",
        "1 of 2 bars",
        "",
        "",
    ]
    assert [reason_of(strategy, "gone", day) for day in range(1, 6)] == [
        "1 of 2 bars",
        "",
        *["its last bar, of 2020-01-02 00:00, is stale"] * 3,
    ]
    assert strategy.read[pd.Timestamp("2020-01-04").date()] == ("late", "A")


def test_a_holiday_of_one_name_is_taken_by_a_larger_age():
    holiday = closing(9, 9, 9).drop(pd.Timestamp("2020-01-02"))
    frames = {"A": closing(1, 1, 1), "B": holiday}
    assert reason_of(screened(frames), "B", 2) == "its last bar, of 2020-01-01 00:00, is stale"
    assert reason_of(screened(frames, max_age_days=1), "B", 2) == ""


def test_the_age_of_bars_within_a_day_is_counted_in_time():
    hours = {"freq": "h"}
    frames = {"A": closing(1, 1, 1, 1, **hours), "B": closing(2, 2, **hours)}
    stale = [row for row in rows(screened(frames), "data", "reason") if "stale" in row[1]]
    engine = bt.Cerebro(stdstats=False)
    for name, frame in frames.items():
        feed = PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=60)
        engine.adddata(feed, name=name)
    exact = [r for r in rows(screened({}, engine=engine), "data", "reason") if "stale" in r[1]]
    assert stale == []  # by default a data feed has bars of days
    assert [row[0] for row in exact] == ["B", "B"]


@pytest.mark.parametrize("close", [math.nan, math.inf])
def test_a_close_that_is_no_number(close):
    strategy = screened({"A": closing(1, close, 1), "B": closing(1, 1, 1)}, rank="volume")
    assert reason_of(strategy, "A", 2) == "its last close is no number"
    assert reason_of(strategy, "A", 3) == ""


def test_a_value_that_is_unknown_is_named():
    frame = closing(1, 2, 3, 4)
    frame.loc[frame.index[1], "volume"] = math.nan
    strategy = screened({"A": frame}, rank="close / (close - 3)", where="sma(volume, 2) > 0")
    assert [reason_of(strategy, "A", day) for day in range(1, 5)] == [
        "1 of 2 bars",
        "volume has no value",
        "sma(volume, 2) has no value",
        "",
    ]
    assert rows(strategy, "score")[-1] == (4.0,)
    strategy = screened({"A": closing(1, 2, 3)}, rank="close / (close - 3)")
    assert reason_of(strategy, "A", 3) == "close / (close - 3) has no value"


def test_an_indicator_that_fails_leaves_the_name_out_and_the_run_goes_on():
    level = [(5.0, 5.0, 5.0, 5.0)] * 6  # Williams %R divides by the range
    strategy = screened({"A": bars(*level), "B": closing(*range(6))}, rank="williamsr(3)")
    assert reason_of(strategy, "A", 6).startswith("an indicator failed: ZeroDivisionError")
    assert reason_of(strategy, "B", 6) == ""


@pytest.mark.parametrize("mode", ["runonce", "next", "no-preload"])
def test_an_indicator_that_fails_at_a_bar_is_ranked_up_to_there(mode):
    moves = [(c, c + 1, c - 1, c) for c in (3.0, 5.0, 4.0, 6.0)]
    frames = {"A": bars(*moves, *[(5.0, 5.0, 5.0, 5.0)] * 5)}
    strategy = screened(frames, mode, rank="williamsr(3)")
    failed = "an indicator failed: ZeroDivisionError"
    reasons = [row[0].partition(":")[0] for row in rows(strategy, "reason")]
    assert reasons[:6] == ["1 of 3 bars", "2 of 3 bars", "", "", "", ""]
    assert reasons[6:] == ["an indicator failed"] * 3
    assert reason_of(strategy, "A", 7).startswith(failed)
    # (highest - close) / (highest - lowest) of three bars, by hand.
    assert [row[0] for row in rows(strategy, "score")][2:4] == [-50.0, -25.0]


def test_a_name_without_a_move_has_an_rsi():
    strategy = screened({"A": closing(*[5.0] * 20)}, rank="rsi(5)")
    assert rows(strategy, "rank", "score")[-1] == (1, 50.0)


MEMBERS = [("A", "2020-01-02", "2020-01-03"), ("A", "2020-01-05", None), ("B", None, "2020-01-02")]


@pytest.mark.parametrize("kind", ["rows", "frame", "file"])
def test_names_are_ranked_on_days_of_their_membership(kind, tmp_path):
    table = MEMBERS
    if kind != "rows":
        table = pd.DataFrame(MEMBERS, columns=["Name", "From", "To"])
    if kind == "file":
        path = tmp_path / "members.csv"
        table.to_csv(path, index=False)
        table = path
    frames = {name: closing(1, 1, 1, 1, 1) for name in "ABC"}
    strategy = screened(frames, members=table)
    ranked = [(row[0], row[1]) for row in rows(strategy, "day", "data", "rank") if row[2]]
    assert ranked == [(1, "B"), (2, "A"), (2, "B"), (3, "A"), (5, "A")]
    assert reason_of(strategy, "C", 1) == "not a member on this day"


# -- against other programs ------------------------------------------------------------------------


def test_ranks_of_real_prices_are_those_of_pandas_and_talib():
    frames = {name: bt_risk.load_data(name).loc["2003-06":"2008"] for name in STOCKS}
    frames["ibm_1d"] = frames["ibm_1d"].loc[:"2008-06-12"]
    strategy = screened(
        frames,
        rank="roc(126) / natr(20)",
        where="close > sma(200) and talib.rsi(14) < 70",
        rebalance="monthly",
        strategy=bt.Strategy,
    )
    scores, passes, counts = {}, {}, {}
    for name, frame in frames.items():
        close = frame.close
        natr = talib.NATR(frame.high.values, frame.low.values, close.values, 20)
        scores[name] = (close / close.shift(126) - 1) / natr
        rsi = pd.Series(talib.RSI(close.values, 14), close.index)
        passes[name] = (close > close.rolling(200).mean()) & (rsi < 70)
        counts[name] = pd.Series(range(1, len(frame) + 1), close.index)
    days = sorted(set().union(*(frame.index for frame in frames.values())))
    firsts = (
        pd.Series(days, days)
        .groupby([pd.DatetimeIndex(days).year, pd.DatetimeIndex(days).month])
        .first()
    )
    found = strategy.analyzers.screener.frame()
    assert len(firsts) > 60
    assert list(found.time.drop_duplicates()) == list(firsts)
    compared = 0
    for day in firsts:
        expected = {
            name: scores[name][day]
            for name in STOCKS
            if day in passes[name] and counts[name][day] >= 200 and passes[name][day]
        }
        order = sorted(expected, key=lambda name: (-expected[name], name))
        here = found[(found.time == day) & (found["rank"] > 0)]
        assert list(here.data) == order
        np.testing.assert_allclose(here.score, [expected[name] for name in order], rtol=1e-9)
        compared += len(order)
    assert compared > 80


# -- no look-ahead, and the same in every mode ----------------------------------------------------


WALKS = {
    name: random_walk(k, 90, start=start)
    for k, (name, start) in enumerate(
        {"A": "2020-01-01", "B": "2020-02-01", "C": "2020-01-01", "D": "2019-12-20"}.items()
    )
}
RULE = {
    "rank": "roc(10) / natr(5) + talib.rsi(7) / 100 - ichimoku(3, 5, 8).senkou_span_a / close",
    "where": "close > sma(20) or sma(rsi(6), 3) < 60 or heikinashi().ha_open > close",
    "rebalance": 3,
    "top": 2,
}


def same(one, other):
    pd.testing.assert_frame_equal(
        one.analyzers.screener.frame(), other.analyzers.screener.frame(), check_exact=True
    )
    assert one.read == other.read


OF_THE_USER = {"rank": lambda data: bt.ind.SMA(data, period=5) - data.close, "rebalance": 3}


@pytest.mark.parametrize("rule", [RULE, OF_THE_USER], ids=["expression", "function"])
def test_later_bars_change_nothing_before_them(rule):
    changed = {
        name: frame.mul(np.where(frame.index < pd.Timestamp("2020-03-10"), 1.0, 1.5), axis=0)
        for name, frame in WALKS.items()
    }
    runs = [screened(frames, **rule).analyzers.screener.frame() for frames in (WALKS, changed)]
    before = [frame[frame.time < "2020-03-10"] for frame in runs]
    assert len(before[0]) > 60
    pd.testing.assert_frame_equal(*before, check_exact=True)
    assert not runs[0].equals(runs[1])


class MostOfAll(bt.Indicator):
    """Read every bar that is there, in place of those up to the present one."""

    lines = ("most",)

    def once(self, start, end):
        for place in range(start, end):
            self.lines.most.array[place] = max(self.data.array)


def test_a_function_of_the_user_sees_no_later_bar():
    strategy = screened({"A": closing(1, 5, 3, 9, 2)}, rank=lambda data: MostOfAll(data))
    assert [row[0] for row in rows(strategy, "score")] == [1.0, 5.0, 5.0, 9.0, 9.0]
    strategy = screened({"A": closing(1, 5, 3, 9, 2)}, where=lambda data: MostOfAll(data) - 9)
    assert [row[0] for row in rows(strategy, "reason")] == ["", "", "", *["not <lambda>(data)"] * 2]


# With exactbars=1 Backtrader needs equal clocks.
EQUAL = {name: random_walk(k, 90) for k, name in enumerate("ACD")}


@functools.cache
def plain(mode="runonce"):
    """Return the strategy of a run with `RULE` in the default mode, over what a mode can run."""
    return screened(EQUAL if mode == "exactbars" else WALKS, **RULE)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "runonce"])
def test_every_engine_mode_ranks_alike(mode):
    same(plain(mode), screened(EQUAL if mode == "exactbars" else WALKS, mode, **RULE))


@pytest.mark.parametrize("exactbars", [-1, -2])
def test_every_saving_of_memory_ranks_alike(exactbars, monkeypatch):
    monkeypatch.setitem(MODES, "saving", {"exactbars": exactbars})
    same(plain(), screened(WALKS, "saving", **RULE))


def test_the_quick_loop_ranks_alike():
    engine = cerebro(*WALKS.values(), names=list(WALKS))
    bt_risk.fast(engine)
    same(plain(), screened({}, engine=engine, **RULE))


class EveryBar(Reader):
    """Read the picks where the bar of the open is there already, too."""

    def next_open(self):
        self.opened = getattr(self, "opened", [])
        self.opened.append((self.data.datetime.date(0), self.analyzers.screener.picks))


def test_a_strategy_that_acts_at_the_open_gets_the_picks_of_the_close_before():
    frames = {"A": closing(1, 9, 1, 9), "B": closing(5, 5, 5, 5)}
    engine = cerebro(*frames.values(), names=list(frames), cheat_on_open=True)
    strategy = screened({}, engine=engine, strategy=EveryBar, top=1)
    assert [picks for _, picks in strategy.opened] == [("B",), ("A",), ("B",)]
    assert list(strategy.read.values()) == [("B",), ("A",), ("B",), ("A",)]


@pytest.mark.parametrize("mode", MODES)
def test_resampled_weeks_are_ranked_alike(mode):
    def run(mode):
        engine = bt.Cerebro(stdstats=False)
        for name in ("A", "C"):
            data = PandasData(dataname=WALKS[name])
            engine.resampledata(data, name=name, timeframe=bt.TimeFrame.Weeks)
        params = {"rank": "roc(3)", "rebalance": 1}
        return screened({}, mode, engine=engine, **params)

    one, other = run("runonce"), run(mode)
    same(one, other)
    weeks = WALKS["A"].close.resample("W").last()
    roc = dict(weeks.pct_change(3).dropna().items())
    found = one.analyzers.screener.frame().query("data == 'A' and rank > 0")
    assert len(found) > 7
    for row in found.itertuples():
        assert row.score == pytest.approx(roc[row.time + pd.offsets.Week(0, weekday=6)])


@pytest.mark.parametrize("mode", ["next", "no-preload", "exactbars"])
def test_a_replayed_bar_counts_as_it_stands(mode):
    engine = bt.Cerebro(stdstats=False)
    engine.replaydata(PandasData(dataname=WALKS["A"]), name="A", timeframe=bt.TimeFrame.Weeks)
    strategy = screened({}, mode, engine=engine, rank="close - close(-1)")
    found = strategy.analyzers.screener.frame()
    close = WALKS["A"].close
    last = close.iloc[-1] - close[close.index < "2020-03-30"].iloc[-1]
    assert found.score.iloc[-1] == pytest.approx(last)


# -- nothing changes -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protected", [False, True])
def test_a_screener_changes_nothing_else(mode, protected):
    plan = (
        (30, "buy", (("data", 0), ("size", 300))),
        (31, "sell", (("data", 2), ("size", 80))),
        (40, "close", (("data", 0),)),
        (
            50,
            "buy_bracket",
            (("data", 1), ("size", 20), ("stopprice", 90.0), ("limitprice", 140.0)),
        ),
    )

    def run(*added):
        frames = EQUAL if mode == "exactbars" else WALKS
        engine = cerebro(*frames.values(), names=list(frames))
        if protected:
            bt_risk.protect(engine)
        for analyzer in added:
            engine.addanalyzer(analyzer, **RULE)
        return taped(engine, plan, mode)

    bare, with_it = run(), run(Screener)
    assert tape_of(bare) == tape_of(with_it)
    assert with_it._minperiod == bare._minperiod
    assert with_it.getindicators() == []
    assert len(with_it.analyzers.screener.frame()) > 60


def test_a_strategy_waits_no_longer_for_the_indicators_of_a_screener():
    class Counts(Reader):
        def prenext(self):
            self.waited = len(self)

    frames = {"A": closing(*range(1, 9)), "B": closing(*range(1, 9))}
    assert not hasattr(screened(frames, strategy=Counts, rank="sma(6)"), "waited")


# -- room ------------------------------------------------------------------------------------------


def held(frames, on_no_room, limits=(), guards=(), **params):
    """Run under some rules, while 100 of A are held from bar 2 on."""

    class Buys(Reader):
        def next(self):
            super().next()
            if len(self) == 1:
                self.buy(self.datas[0], size=100)

    engine = cerebro(*frames.values(), names=list(frames))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, limits=limits, guards=guards))
    engine.broker.setcash(1e6)
    params = {"top": 2, "on_no_room": on_no_room} | params
    return screened({}, engine=engine, strategy=Buys, **params)


ONE_NAME = {"guards": [bt_risk.MaxPositions(1)]}
ROOMY = {"A": closing(5, 5, 5, 5), "B": closing(9, 9, 9, 9), "C": closing(1, 1, 1, 1)}


def at_the_end(strategy):
    frame = strategy.analyzers.screener.frame()
    return frame[frame.time == frame.time.max()].set_index("data")


def test_the_room_of_a_pick_is_in_its_row():
    strategy = held(ROOMY, "keep", **ONE_NAME)
    last = at_the_end(strategy)
    assert list(last.picked) == [True, True, False]
    assert last.loc["B", ["room", "rule"]].tolist() == [0.0, "MaxPositions"]
    assert last.loc["A", ["room", "rule"]].tolist() == [math.inf, ""]
    assert math.isnan(last.loc["C", "room"])


def test_a_name_without_room_is_left_out_but_never_one_that_is_held():
    strategy = held(ROOMY, "skip", **ONE_NAME)
    assert list(strategy.read.values()) == [("B", "A"), ("A",), ("A",), ("A",)]
    last = at_the_end(strategy)
    assert last.loc["B", "reason"].startswith("no room: MaxPositions")
    assert last.loc["B", "rank"] == 1


def test_the_picks_do_not_lose_a_name_that_is_held():
    strategy = held(ROOMY, "skip", limits=[bt_risk.NotionalLimit(0.0005)])
    last = at_the_end(strategy)
    assert last.loc["A", ["room", "rule"]].tolist() == [0.0, "NotionalLimit"]
    assert strategy.analyzers.screener.picks == ("B", "A")


def test_a_short_position_is_held_on_the_other_side():
    strategy = held(ROOMY, "skip", side=-1, **ONE_NAME)
    # A is long: selling closes that, so there is room; of the others nothing may be opened.
    assert list(strategy.read.values())[-1] == ("A",)


# -- journal, plain values, errors -----------------------------------------------------------------


def test_the_journal_has_every_pick_and_each_reason_once():
    frames = {"A": closing(*range(1, 7)), "B": closing(*range(2, 5))}
    engine = cerebro(*frames.values(), names=list(frames))
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = screened({}, engine=engine, rank="sma(2)", top=1)
    lines = [
        (line.time.day, line.data, line.action, line.measured, line.reason)
        for line in strategy.analyzers.riskjournal.frame().query("rule == 'Screener'").itertuples()
    ]
    first = [line[:3] + line[4:] for line in lines[:2]]
    assert first == [
        (1, "A", "unranked", "Screener: 1 of 2 bars"),
        (1, "B", "unranked", "Screener: 1 of 2 bars"),
    ]
    assert [line for line in lines[2:] if line[2] == "pick"] == [
        (2, "B", "pick", 2.5, "Screener: number 1 of 2 by sma(2)"),
        (3, "B", "pick", 3.5, "Screener: number 1 of 2 by sma(2)"),
        *[(n, "A", "pick", n - 0.5, "Screener: number 1 of 1 by sma(2)") for n in (4, 5, 6)],
    ]
    others = [line[:3] + line[4:] for line in lines[2:] if line[2] != "pick"]
    assert others == [
        (4, "B", "unranked", "Screener: its last bar, of 2020-01-03 00:00, is stale"),
    ]


def test_points_of_an_optimisation_come_back_from_other_processes():
    alone = plain().analyzers.screener
    for maxcpus in (1, 2):
        engine = cerebro(*WALKS.values(), names=list(WALKS))
        engine.optstrategy(Parametric, plan=[1, 2])
        engine.addanalyzer(Screener, **RULE)
        for point in engine.run(maxcpus=maxcpus):
            found = point[0].analyzers.screener
            pd.testing.assert_frame_equal(found.frame(), alone.frame(), check_exact=True)
            assert found.picks == alone.picks


class Parametric(Reader):
    params = {"plan": 0}


def mean(data):
    return bt.ind.SMA(data, period=3)


def test_a_function_makes_the_indicator():
    frames = {"A": closing(1, 2, 6), "B": closing(3, 3, 4)}
    strategy = screened(frames, rank=lambda data: bt.ind.SMA(data.close, period=3) / data.close)
    assert rows(strategy, "data", "score")[-2:] == [("B", 10 / 3 / 4), ("A", 0.5)]
    strategy = screened(frames, rank=mean, where=lambda data: data.close > 5)
    assert reason_of(strategy, "B", 3) == "not <lambda>(data)"
    assert rows(strategy, "data", "rank")[-2:] == [("A", 1), ("B", 0)]


def test_two_screeners_have_their_own_names():
    engine = cerebro(closing(1, 2), closing(2, 1), names=["A", "B"])
    engine.addanalyzer(Screener, _name="low", rank="-close", rebalance=1, top=1)
    strategy = screened({}, engine=engine, top=1)
    assert strategy.analyzers.low.picks == ("B",)
    assert strategy.analyzers.screener.picks == ("A",)


BAD = [
    (dict(rank=None), "rank must be an expression such as"),
    (dict(rank="rsy(14)"), "There is no indicator rsy. Did you mean 'rsi'"),
    (dict(rank="qqqqqq(14)"), "`bt-risk screen --indicators` lists them"),
    (dict(rank="14"), "A number alone is the same for every name"),
    (dict(rank="rsi(14, 30, 70, 1, 2, 3, 4)"), "rsi"),
    (dict(rank="rsi(preiod=14)"), "'preiod' is none of its parameters. Did you mean 'period'"),
    (dict(rank="rsi(14, period=14)"), "'period' is given twice"),
    (dict(rank="rsi(0)"), "period must be a whole number from 1 to 100000"),
    (dict(rank="rsi(2.5)"), "period must be a whole number from 1 to 100000"),
    (dict(rank="rsi(1000000000)"), "period must be a whole number from 1 to 100000"),
    (dict(rank="truerange(14)"), "truerange takes no number"),
    (dict(rank="talib.bbands(20, matype=50)"), "bbands says"),
    (dict(rank="atr(close, 14)"), "atr needs whole bars: leave close out"),
    (dict(rank="crossover(close)"), "crossover takes 2 lines: crossover(close, open)"),
    (dict(rank="sma(close, open, 3)"), "sma takes 1 line: sma(close)"),
    (dict(rank="talib.atr(close, 14)"), "takes 3 lines"),
    (dict(rank="mavp(3, 4)"), "mavp takes 2 lines"),
    (dict(rank="foo.rsi(14)"), "Write bt.rsi or talib.rsi"),
    (dict(rank="macd(3, 6, 2).signl"), "Did you mean 'signal'"),
    (dict(rank="rsi(14).upper"), "The lines of rsi are rsi"),
    (dict(rank="ichimoku().chikou_span"), "The lines of ichimoku are tenkan_sen, kijun_sen, "),
    (dict(rank=lambda data: 5), "a function that makes an indicator of the data feed"),
    (dict(rank=lambda data: [data]), "a function that makes an indicator of the data feed"),
    (dict(where="close > "), "where must be an expression"),
    (dict(top=0), "top must be a whole number of at least 1"),
    (dict(rebalance="yearly"), "rebalance must be 'daily', 'weekly', 'monthly' or"),
    (dict(rebalance=0), "rebalance must be"),
    (dict(rebalance=1.5), "rebalance must be"),
    (dict(side=0), "side must be one of 1, -1"),
    (dict(on_no_room="drop"), "on_no_room must be one of 'keep', 'skip'"),
    (dict(max_age_days=-1), "max_age_days must be zero or more"),
    (dict(datas=["A", "X"]), "datas must be data feeds of this Cerebro (A, B)"),
    (dict(datas=[]), "datas must be data feeds of this Cerebro (A, B)"),
    (dict(members=[("X", None, None)]), "members must be a table with some of the names"),
    (dict(members=[("A", None)]), "members must be a table of name, from and to"),
    (dict(members=[("A", "soon", None)]), "members must be a table of name, from and to"),
    (dict(members=[("A", "2020-02-01", "2020-01-01")]), "The last day of a row is before"),
    (dict(members=5), "members must be a table of name, from and to"),
    (dict(members="no-such-file.csv"), "No such file"),
    (dict(members=pd.DataFrame({"name": ["A"]})), "Its columns are name, from and to"),
]


@pytest.mark.parametrize(("params", "part"), BAD)
def test_a_mistake_says_what_to_do(params, part):
    with pytest.raises(ParameterError) as raised:
        screened({"A": closing(1, 2), "B": closing(2, 1)}, **params)
    assert str(raised.value).startswith("Screener: ")
    assert part in str(raised.value)


def test_two_feeds_of_one_name_are_no_universe():
    engine = cerebro(closing(1, 2), closing(2, 1), names=["A", "A"])
    with pytest.raises(ParameterError, match="datas must be data feeds with different names"):
        screened({}, engine=engine)


def test_some_of_the_feeds_by_name_or_as_they_are():
    engine = cerebro(closing(1, 2), closing(2, 1), closing(3, 3), names=["A", "B", "C"])
    strategy = screened({}, engine=engine, datas=["C", engine.datas[0]])
    assert {row[0] for row in rows(strategy, "data")} == {"A", "C"}


def test_an_unknown_parameter_is_no_parameter():
    with pytest.raises(TypeError):
        screened({"A": closing(1, 2)}, rnk="close")
