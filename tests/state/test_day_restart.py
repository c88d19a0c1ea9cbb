"""A restart in the middle of a trading day: what it is measured from, and that it is over."""

import os

import backtrader as bt
import pandas as pd
import pytest
from helpers import persistent_broker
from helpers.persistent_broker import PersistentBroker, PersistentFeed, read
from helpers.restarts import STILL, in_child
from helpers.scenarios import bars, flat

import bt_risk
from bt_risk.state.file import read_state

OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)

BARS_A_DAY = {"h": 24, "min": 1440}


class Once(bt.Strategy):
    """Buy at the bars of `at`, by number of units; bars count from the first run on."""

    params = dict(at=())

    def next(self):
        size = dict(self.p.at).get(persistent_broker.bar_of(self.data))
        if size:
            self.buy(size=size)


@pytest.fixture(autouse=True)
def bars_of(monkeypatch):
    """Let the venue number its bars by the hour or the minute: it numbers days otherwise."""

    def number(freq):
        begin, count = bt.date2num(pd.Timestamp("2020-01-01")), BARS_A_DAY[freq]
        bar_of = lambda data: round((data.datetime[0] - begin) * count) + 1  # noqa: E731
        monkeypatch.setattr(persistent_broker, "bar_of", bar_of)

    number("h")
    return number


def run(folder, rows, guard, at, freq="h", last=None, **venue):
    """Let a run trade the first `last` rows at the venue in `folder`; return its strategy."""
    file = folder / "venue.json"
    history = read(file)["clock"].get("D0", 0)
    engine = bt.Cerebro(stdstats=False)
    frame = bars(*rows[:last], freq=freq)
    engine.adddata(PersistentFeed(dataname=frame, history=history), name="D0")
    engine.setbroker(PersistentBroker(file=str(file), **venue))
    engine.addstrategy(Once, at=tuple(at.items()))
    policy = bt_risk.Policy(**OFF, trailing_stop=False, sizer=False, guards=[guard])
    bt_risk.protect(engine, policy, state=folder / "risk.db", **STILL)
    return engine.run()[0]


def sent(folder, side=1):
    return [
        row["bar"]
        for row in read(folder / "venue.json")["log"]
        if row["what"] == "sent" and row["side"] == side
    ]


FALL = [*flat(6), (100, 100, 93, 94), *flat(6, price=96.0), *flat(11, price=99.0)]
FALL = [*FALL, *flat(10, price=99.0)]


@pytest.mark.parametrize("restarts", [(), (9,), (8, 9, 12)])
def test_a_day_that_is_over_stays_over(tmp_path, restarts):
    """500 units lose 3 % on bar 7; the account recovers, and bar 25 is on the next day."""
    tries = {4: 500, 10: 1, 14: 1, 24: 1, 26: 1}
    guard = bt_risk.DailyLossLimit(0.03)
    for last in (*restarts, None):
        run(tmp_path, FALL, guard, tries, last=last)
    assert sent(tmp_path) == [4, 26]


def test_a_day_of_many_bars_is_measured_from_its_begin(tmp_path, bars_of):
    """2 % are lost 560 bars before the restart, and 1.1 % after it."""
    bars_of("min")
    rows = [*flat(40), *flat(560, price=98.0), *flat(20, price=96.9)]
    guard = bt_risk.DailyLossLimit(0.03)
    tries = {5: 1000, 590: 1, 610: 1}
    run(tmp_path, rows, guard, tries, freq="min", last=570)
    run(tmp_path, rows, guard, tries, freq="min")
    assert sent(tmp_path) == [5, 590]


@pytest.mark.parametrize(
    ("trigger", "base", "unit"),
    [
        ("close", "equity", "currency"),
        ("close", "balance", "fraction"),
        ("intrabar", "balance", "currency"),
    ],
)
def test_the_result_of_a_day_is_that_of_a_run_without_a_restart(tmp_path, trigger, base, unit):
    rows = [*flat(6), *flat(18, price=103.0), *flat(4, price=102.0), *flat(8, price=101.0)]
    limit = 0.4 if unit == "fraction" else 50_000
    guard = bt_risk.DailyLossLimit(limit, trigger=trigger, base=base, unit=unit)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, lasts in ((whole, (None,)), (parts, (10, 24, 30, None))):
        folder.mkdir()
        for last in lasts:
            strategy = run(folder, rows, guard, {4: 300}, last=last)
        (day,) = strategy.broker.book.days.days(guard)
        gain = {"equity": -600.0, "balance": 300.0}[base]
        share = 1.0 if unit == "currency" else {"equity": 100_900.0, "balance": 100_000.0}[base]
        assert day.gain == pytest.approx(gain / share)
        (saved,) = read_state(folder / "risk.db").of("day").values()
        assert saved["gain"] == pytest.approx(day.gain)


def test_a_run_that_dies_while_it_closes_goes_on_closing(tmp_path):
    """Two closes agree on bar 8: the exit is sent, and the process is gone before it fills."""
    guard = bt_risk.DailyLossLimit(0.03, flatten=True)
    rows = [*flat(6), *flat(14, price=93.0)]

    def dies():
        run(tmp_path, rows, guard, {4: 500}, last=8)
        os._exit(0)

    in_child(dies)
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 500
    strategy = run(tmp_path, rows, guard, {4: 500, 12: 1})
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 0
    assert sent(tmp_path) == [4]
    assert len(sent(tmp_path, -1)) == 1
    frame = strategy.analyzers.riskjournal.frame()
    assert (frame.action == "flat").sum() == 1
    assert (frame.action == "over").sum() == 0  # the first run has written it


@pytest.mark.parametrize("restarts", [(), (21,), (21, 23, 25), (27,), (27, 29)])
def test_entries_in_a_row_are_counted_over_a_restart_and_stay_refused(tmp_path, restarts):
    tries = dict.fromkeys(range(20, 34, 2), 1)
    for last in (*restarts, None):
        strategy = run(tmp_path, flat(40), bt_risk.RepeatedOrders(3), tries, last=last)
    assert sent(tmp_path) == [20, 22, 24]
    assert strategy.broker.state == "REDUCING"


@pytest.mark.parametrize("restarts", [(), (20,), (21,), (21, 23)])
def test_a_repeated_order_is_refused_over_a_restart(tmp_path, restarts):
    """Within four bars: those of bars 22 and 23 repeat that of bar 20."""
    for last in (*restarts, None):
        run(tmp_path, flat(40), bt_risk.DuplicateOrder(4), {20: 1, 22: 1, 23: 1, 24: 1}, last=last)
    assert sent(tmp_path) == [20, 24]


@pytest.mark.parametrize("restarts", [(), (21,), (23, 25), (26,), (27,)])
def test_bars_held_are_counted_over_a_restart(tmp_path, restarts):
    """Filled on bar 21; the exit is sent at the close of bar 26, once."""
    for last in (*restarts, None):
        run(tmp_path, flat(40), bt_risk.TimeExit(5), {20: 3}, last=last)
    assert sent(tmp_path) == [20]
    assert sent(tmp_path, side=-1) == [26]
