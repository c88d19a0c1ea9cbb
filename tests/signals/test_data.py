"""SignalData: a bar at each bar of its clock, in every mode of the engine, and no instrument."""

import logging
import math
import pickle

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import MODES, Script, bars, cerebro, flat, random_walk

import bt_risk
from bt_risk.errors import DataError, ParameterError

FRAME = random_walk(1, 120)
SCORES = np.random.default_rng(7).uniform(-100, 100, 40).round(1)
TABLE = pd.DataFrame(
    {
        "published": [day + pd.Timedelta(minutes=7) for day in FRAME.index[2:82:2]],
        "score": SCORES,
    }
)


class SeenSignals(bt.Strategy):
    """Keep what the lines of the signals show on each bar."""

    params = {"buys": ()}

    def __init__(self):
        self.seen = []

    def next(self):
        signals = self.datas[-1]
        assert len(signals) == len(self.data) or self.data.replaying
        assert signals.datetime[0] == self.data.datetime[0]
        names = ("score", "direction", "conviction", "age", "close", "volume")
        values = tuple(float(getattr(signals, name)[0]) for name in names)
        self.seen.append((self.data.datetime[0], *values))
        for bar in self.p.buys:
            if bar == len(self):
                self.buy(data=signals, size=1)


def run(*frames, ttl="3d", table=TABLE, mode="runonce", protected=False, **params):
    engine = cerebro(*frames)
    engine.adddata(bt_risk.SignalData(dataname=table, ttl=ttl, **params), name="S")
    engine.addstrategy(SeenSignals)
    if protected:
        bt_risk.protect(engine, sizer=False)
    return engine.run(**MODES[mode])[0].seen


def by_hand(frame, table, ttl_days):
    """Return the scores of a plain loop over bars and rows."""
    found = []
    for time in frame.index:
        known = [row for row in table.itertuples() if row.published <= time]
        newest = max(known, key=lambda row: row.published, default=None)
        fresh = newest is not None and time - newest.published <= pd.Timedelta(days=ttl_days)
        found.append(newest.score if fresh else math.nan)
    return found


def test_the_scores_equal_those_of_a_plain_loop():
    seen = run(FRAME)
    assert len(seen) == len(FRAME)
    scores = [row[1] for row in seen]
    assert np.array_equal(scores, by_hand(FRAME, TABLE, 3), equal_nan=True)
    assert sum(math.isnan(score) for score in scores) == 3 + 120 - 83 - 1
    assert {row[5:] for row in seen} == {(0.0, 0.0)}


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_shows_the_same(mode, protected):
    assert repr(run(FRAME, mode=mode, protected=protected)) == repr(run(FRAME))


def test_cut_off_anywhere_the_bars_before_are_the_same():
    """No look-ahead: later signals and later bars change nothing that was seen."""
    whole = run(FRAME)
    for cut in (1, 4, 30, 90):
        part = run(FRAME[:cut], table=TABLE[TABLE["published"] <= FRAME.index[cut - 1]].head(99))
        assert repr(part) == repr(whole[:cut])


def test_bars_that_bear_the_time_of_their_open_are_judged_at_their_end():
    seen = [row[1] for row in run(FRAME, stamped="open")]
    later = by_hand(FRAME.set_axis(FRAME.index + pd.Timedelta(days=1)), TABLE, 3)
    assert np.array_equal(seen, later, equal_nan=True)
    engine = cerebro(FRAME)
    engine.datas[0]._timeframe = bt.TimeFrame.Months
    engine.adddata(bt_risk.SignalData(dataname=TABLE, ttl=60, stamped="open"))
    with pytest.raises(ParameterError, match="stamped must be 'close' for bars that have no fixed"):
        engine.run()


HOURS = random_walk(3, 24 * 30, freq="h", start="2020-01-01 01:00")


@pytest.mark.parametrize("way", ["resampledata", "replaydata"])
def test_a_clock_of_days_that_are_made_of_hours(way):
    engine = bt.Cerebro(stdstats=False)
    data = bt.feeds.PandasData(dataname=HOURS, timeframe=bt.TimeFrame.Minutes, compression=60)
    getattr(engine, way)(data, timeframe=bt.TimeFrame.Days, name="D")
    signals = bt_risk.SignalData(dataname=TABLE, ttl="3d", symbol="")
    engine.adddata(signals, name="S")
    engine.addstrategy(SeenSignals)
    seen = engine.run()[0].seen
    assert len(seen) == (31 if way == "resampledata" else 720)  # the last is a midnight
    index = pd.DatetimeIndex([bt.num2date(row[0]) for row in seen])
    expected = by_hand(pd.DataFrame(index=index), TABLE, 3)
    assert np.array_equal([row[1] for row in seen], expected, equal_nan=True)


@pytest.mark.parametrize("mode", ["runonce", "next", "no-preload"])
def test_two_clocks_of_different_length_have_a_signal_each(mode):
    late = FRAME[40:].drop(FRAME.index[60:70])
    engine = cerebro(FRAME, late)
    table = TABLE.assign(symbol=["D0", "D1"] * 20)
    for name, data in zip("AB", list(engine.datas), strict=True):
        engine.adddata(bt_risk.SignalData(dataname=table, ttl="5d", clock=data), name=name)
    rows = []

    class Both(bt.Strategy):
        def next(self):
            rows.append([(len(data), float(data.score[0])) for data in self.datas[2:]])

    engine.addstrategy(Both)
    engine.run(**MODES[mode])
    for place, (frame, name) in enumerate([(FRAME, "D0"), (late, "D1")]):
        expected = by_hand(frame, table[table["symbol"] == name], 5)
        for row in rows:
            length, score = row[place]
            assert repr(score) == repr(float(expected[length - 1]))


def test_an_optimisation_on_two_processes_sees_the_same():
    engine = cerebro(FRAME)
    engine.adddata(bt_risk.SignalData(dataname=TABLE, ttl="3d"), name="S")
    engine.optstrategy(Picked, bar=[10, 30])
    found = [points[0].analyzers.shown.get_analysis() for points in engine.run(maxcpus=2)]
    plain = [row[1] for row in run(FRAME)]
    assert repr(found) == repr([{"score": plain[9]}, {"score": plain[29]}])


class Shown(bt.Analyzer):
    def get_analysis(self):
        return {"score": self.strategy.shown}

    def stop(self):
        self.get_analysis = {"score": self.strategy.shown}.copy


class Picked(bt.Strategy):
    params = {"bar": 1}

    def __init__(self):
        self.shown = None
        self._addanalyzer(Shown, _name="shown")

    def next(self):
        if len(self) == self.p.bar:
            self.shown = float(self.datas[1].score[0])


def test_a_second_run_of_one_cerebro_sees_the_same():
    engine = cerebro(FRAME)
    engine.adddata(bt_risk.SignalData(dataname=TABLE, ttl="3d"), name="S")
    engine.addstrategy(SeenSignals)
    assert repr(engine.run()[0].seen) == repr(engine.run()[0].seen)
    assert pickle.loads(pickle.dumps(engine.datas[1])).ttl == 259200.0


def test_the_quick_loop_runs_with_signals(caplog):
    with caplog.at_level(logging.INFO, "bt_risk"):
        run(FRAME, protected=True)
    assert "loop: quick" in caplog.text


def test_refused_records_are_counted_after_the_run():
    odd = pd.concat([TABLE, TABLE.head(3).assign(score=[101, 200, -300])])
    engine = cerebro(FRAME)
    signals = bt_risk.SignalData(dataname=odd, ttl="3d")
    engine.adddata(signals, name="S")
    engine.run()
    assert signals.refused == {"score is out of range": 3}


# -- no instrument -------------------------------------------------------------------------------


def scripted(actions, mode="enforce", guards=(), frames=(), **policy):
    engine = cerebro(*(frames or [bars(*flat(60))]))
    table = pd.DataFrame({"published": ["2020-01-01T00:00Z"], "score": [80]})
    engine.adddata(bt_risk.SignalData(dataname=table, ttl="99d"), name="S")
    engine.addstrategy(Script, actions=actions)
    bt_risk.protect(engine, bt_risk.Policy(guards=guards, sizer=False, **policy), mode=mode)
    return engine.run()[0]


def test_an_order_on_signals_is_rejected_with_a_reason():
    strategy = scripted({30: lambda s: s.buy(data=s.datas[1], size=5)})
    _, _, status, size, done, _, reason = strategy.orders[-1]
    assert (status, size, done) == ("Rejected", 5, 0)
    assert reason == "SignalData: S has signals and no prices: order on the data feed of its clock"
    line = strategy.analyzers.riskjournal.get_analysis()["decisions"][-1]
    assert (line["data"], line["rule"], line["action"]) == ("S", "SignalData", "reject")
    assert strategy.held[-1] == (0, 0)


def test_sell_close_and_targets_on_signals_open_nothing():
    strategy = scripted(
        {
            30: lambda s: s.sell(data=s.datas[1], size=5),
            31: lambda s: s.close(data=s.datas[1]),
            32: lambda s: s.buy_bracket(
                data=s.datas[1], size=5, price=1, limitprice=2, stopprice=0.5
            ),
            33: lambda s: s.order_target_size(data=s.datas[1], target=7),
        }
    )
    assert {row[2] for row in strategy.orders} == {"Rejected"}
    assert strategy.held[-1] == (0, 0)


def test_a_backtest_with_signals_that_nobody_reads_is_the_same_as_without():
    def journal(signals):
        engine = cerebro(random_walk(5, 200))
        if signals:
            table = TABLE.assign(published=TABLE["published"])
            engine.adddata(bt_risk.SignalData(dataname=table, ttl="3d"), name="S")
        engine.addstrategy(Script, actions={k: lambda s: s.buy() for k in range(20, 190, 7)})
        engine.addobservermulti(bt_risk.ATRTrailingStop)
        engine.addanalyzer(bt.analyzers.PyFolio)
        bt_risk.protect(engine)
        strategy = engine.run()[0]
        frame = strategy.analyzers.riskjournal.frame()
        return frame, strategy.broker.getvalue(), [row[0] for row in strategy.held]

    (with_, value, held), (without, plain, alone) = journal(True), journal(False)
    pd.testing.assert_frame_equal(with_, without)
    assert (value, held) == (plain, alone)
    assert (with_["action"] == "stop").any()


def test_the_report_and_a_comparison_have_no_prices_of_signals(tmp_path):
    engine = built()
    bt_risk.protect(engine, guards=[bt_risk.SignalGate()], report=tmp_path / "page.html")
    record = engine.run()[0].analyzers.reportdata.record
    assert record.names == ("D0",)
    assert (tmp_path / "page.html").exists()
    found = bt_risk.compare(built, FEW, samples=200, workers=1)
    assert {"only signals", "no signals"} <= set(found.records)
    journal = found.records["only signals"].decisions
    assert set(journal["rule"]) >= {"SignalGate"}
    assert "SignalGate" not in set(found.records["no signals"].decisions["rule"])
    assert "SignalGate" in set(found.records["protected"].decisions["rule"])


# Few rules, so that there are few variants to run.
FEW = bt_risk.Policy(
    correlation_limit=None,
    exposure_limit=None,
    notional_limit=None,
    trailing_stop=False,
    sizer=False,
    guards=[bt_risk.SignalGate()],
)


class Buyer(bt.Strategy):
    def next(self):
        if len(self) % 5 == 0 and not self.position:
            self.buy(size=10)
        elif len(self) % 5 == 3:
            self.close()


def built():
    engine = cerebro(random_walk(11, 150))
    engine.adddata(bt_risk.SignalData(dataname=TABLE, ttl="3d"), name="S")
    engine.addstrategy(Buyer)
    return engine


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "SignalData: ttl must be given"),
        ({"ttl": 0}, "SignalData: ttl must be positive and finite; got 0"),
        ({"ttl": math.inf}, "SignalData: ttl must be positive and finite"),
        ({"ttl": "soon"}, "SignalData: ttl must be a span of time; got 'soon'"),
        ({"ttl": 60, "delay": -1}, "SignalData: delay must be zero or more, and finite; got -1"),
        ({"ttl": 60, "stamped": "middle"}, "stamped must be one of 'close', 'open'"),
    ],
)
def test_a_parameter_out_of_range_raises_when_the_feed_is_built(params, message):
    with pytest.raises(ParameterError, match=message):
        bt_risk.SignalData(dataname=TABLE, **params)


def test_it_is_added_after_its_clock():
    prices = bt.feeds.PandasData(dataname=FRAME)
    engine = bt.Cerebro()
    for params in ({}, {"clock": prices}):
        signals = bt_risk.SignalData(dataname=TABLE, ttl=60, **params)
        with pytest.raises(ParameterError, match="clock must be a data feed of prices that was"):
            engine.adddata(signals)


def test_signals_for_other_names_alone_are_an_error_with_their_names():
    engine = cerebro(FRAME)
    table = TABLE.assign(symbol="BTCUSDT")
    engine.adddata(bt_risk.SignalData(dataname=table, ttl="1d"), name="S")
    with pytest.raises(DataError, match="has no signal for 'D0'; it has 'BTCUSDT'. Give symbol="):
        engine.run()
    assert repr(run(FRAME, table=table, symbol="btcusdt")) == repr(run(FRAME))
