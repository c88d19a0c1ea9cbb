"""Killed between any two writes of its state, a run goes on: the venue's own book says so."""

import dataclasses
import functools
import itertools
import json
import math
import os
import signal
import sqlite3
from contextlib import closing

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.frames import PandasData
from helpers.live_feed import LiveFrame
from helpers.persistent_broker import (
    PersistentBroker,
    PersistentFeed,
    bar_of,
    meanwhile,
    read,
    write,
)
from helpers.restarts import (
    FRAME,
    POLICY,
    ROWS,
    Wants,
    count_writes,
    in_child,
    killed_run,
    levels,
    round_trips,
    run,
)
from helpers.scenarios import Script, bars, flat
from helpers.slices import sliced

import bt_risk
from bt_risk.state.file import StateFile, read_state, request
from bt_risk.state.requests import OperatorRequest

# -- what must hold, from the venue's book -------------------------------------------------------


def check_stops(book):
    """One stop behind every position, of its size and at its level, whenever a bar comes."""
    trips, still = round_trips(book["log"])
    spans = [(trip[:2], trip[2]) for trip in trips] + ([(still, 10**6)] if still else [])
    for row in book["log"]:
        if row["what"] != "guard":
            continue
        if not row["held"]:
            assert row["stops"] == [], row
        elif row["leaving"]:
            assert row["leaving"] == [-row["held"]], row
            assert row["stops"] == [], row
        else:
            entry = next(e for e, end in spans if e[0] < row["bar"] <= end)
            level = levels(entry, row["bar"])[row["bar"] - 1]
            assert row["stops"] == [[-row["held"], pytest.approx(level)]], row


def check_end(folder, book):
    """Flat and halted; no trade is lost or counted twice, and the mark is the highest there was."""
    assert book["orders"] == []
    assert book["positions"] == {"D0": [0, 0.0]}
    saved = read_state(folder / "risk.db")
    breaker = saved.of("breaker")["0:"]
    assert breaker["state"]["status"] == "LOCKED"
    assert breaker["trips"][-1]["flattened"]
    assert len(breaker["trips"]) == 1
    equity = [row["equity"] for row in book["log"] if row["what"] == "equity"]
    assert breaker["state"]["high_water_mark"] == pytest.approx(max(equity))
    trips, _ = round_trips(book["log"])
    assert [t["pnl"] for t in saved.trades.values()] == pytest.approx([t[3] for t in trips])
    assert len({t["opened"] for t in saved.trades.values()}) == len(trips)


def check_sent(book):
    """No order twice: what was sent was needed."""
    sent = [row for row in book["log"] if row["what"] == "sent"]
    entries = [row for row in sent if row["side"] > 0]
    trips, _ = round_trips(book["log"])
    assert len(entries) == len(trips)


@pytest.fixture(scope="module")
def writes(tmp_path_factory):
    return count_writes(tmp_path_factory.mktemp("whole"))


def test_the_run_that_nobody_kills_is_what_it_should_be(tmp_path):
    run(tmp_path)
    book = read(tmp_path / "venue.json")
    check_stops(book)
    check_end(tmp_path, book)
    check_sent(book)
    trips, _ = round_trips(book["log"])
    assert [(trip[0], trip[2]) for trip in trips] == [(21, 26), (29, 34)]


# Writes of the run that nobody kills: `test_every_write_is_a_point` says if they are not all.
POINTS = 69


def test_every_write_is_a_point(writes):
    assert writes == POINTS


@pytest.mark.parametrize(
    ("point", "after"), sliced(itertools.product(range(1, POINTS + 1), (False, True)), 11)
)
def test_killed_at_any_write_it_goes_on(point, after, tmp_path):
    assert in_child(killed_run, tmp_path, point, after) == signal.SIGKILL
    before = read_state(tmp_path / "risk.db").of("breaker").get("0:", {"state": {}})["state"]
    run(tmp_path)
    book = read(tmp_path / "venue.json")
    check_stops(book)
    check_end(tmp_path, book)
    check_sent(book)
    mark = read_state(tmp_path / "risk.db").of("breaker")["0:"]["state"]["high_water_mark"]
    assert mark >= before.get("high_water_mark", 0.0)


@pytest.mark.parametrize(
    ("first", "second"),
    sliced(itertools.product((22, 24, 30, 36, 49, 52, 58, 61), (1, 2, 3, 5, 8)), 7),
)
def test_killed_again_while_it_finds_its_way_back(first, second, tmp_path):
    assert in_child(killed_run, tmp_path, first, after=True) == signal.SIGKILL
    in_child(killed_run, tmp_path, second, after=False)  # or it had less to write than that
    run(tmp_path)
    book = read(tmp_path / "venue.json")
    check_stops(book)
    check_end(tmp_path, book)
    check_sent(book)


@pytest.mark.parametrize(
    ("point", "reports"), sliced(itertools.product(range(24, POINTS + 1, 3), (False, True)), 5)
)
def test_killed_and_the_market_goes_on_without_it(point, reports, tmp_path):
    """A bar passes at the venue before the next run; what rests there fills in it.

    Where the venue reports the fill, the trade is exact; else its price is what can be known.
    """
    assert in_child(killed_run, tmp_path, point, after=True) == signal.SIGKILL
    file = tmp_path / "venue.json"
    bar = read(file)["clock"]["D0"]
    meanwhile(file, "D0", ROWS[bar : bar + 1], first=bar + 1)
    run(tmp_path, reports=reports)
    book = read(file)
    trips, still = round_trips(book["log"])
    assert still is None
    assert book["orders"] == []
    saved = read_state(tmp_path / "risk.db").trades.values()
    if reports:
        assert [t["pnl"] for t in saved] == pytest.approx([trip[3] for trip in trips])
    assert len(saved) == len(trips)
    for row in book["log"]:
        if row["what"] == "guard" and row["held"] and not row["leaving"]:
            assert [size for size, _ in row["stops"]] == [-row["held"]], row


def holds_without_state(folder, point):
    """Whether the venue's book is as it should be after a restart that knows nothing."""
    assert in_child(killed_run, folder, point, after=False) == signal.SIGKILL
    held = bool(read(folder / "venue.json")["positions"].get("D0", [0])[0])
    run(folder, state=False)
    try:
        check_stops(read(folder / "venue.json"))
    except (AssertionError, StopIteration):
        return held, False
    return held, True


@pytest.mark.full
def test_without_a_state_the_same_check_fails(tmp_path):
    """Where a position is held when the run dies, it is not guarded as it should be afterwards.

    Not at every such point: a run that dies just after a stop has gone places it again by luck.
    """
    held = failed = 0
    for point in range(25, 67, 3):
        folder = tmp_path / str(point)
        folder.mkdir()
        is_held, holds = holds_without_state(folder, point)
        held += is_held
        failed += not holds
    assert failed >= held / 2 > 4


# -- a halt --------------------------------------------------------------------------------------


def test_halted_stays_halted_until_it_is_rearmed(tmp_path):
    rows = [*ROWS, *flat(6, price=89.0)]
    run(tmp_path)
    strategy = run(tmp_path, rows=rows[:44])
    assert strategy.broker.state == "HALTED"
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 0
    request(tmp_path / "risk.db", OperatorRequest("rearm"))
    strategy = run(tmp_path, rows=rows)
    assert strategy.broker.state == "ACTIVE"
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 1000
    mark = read_state(tmp_path / "risk.db").of("breaker")["0:"]["state"]["high_water_mark"]
    assert mark == pytest.approx(92_243.79, abs=0.01)  # rebased to what was left


def test_a_halt_of_an_operator_goes_on_and_flattens(tmp_path):
    class Halts(Wants):
        def next(self):
            super().next()
            if bar_of(self.data) == 22 and self.position:
                self.broker.halt("by hand", flatten=True)

    run(tmp_path, rows=ROWS[:22], strategy=Halts)
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 100
    strategy = run(tmp_path, rows=ROWS[:26])
    assert strategy.broker.trading_state.why == ("HALTED", "by hand")
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 0
    assert read(tmp_path / "venue.json")["orders"] == []
    request(tmp_path / "risk.db", OperatorRequest("rearm"))
    assert run(tmp_path, rows=ROWS[:31]).broker.state == "ACTIVE"


# -- what happened while no run was there --------------------------------------------------------


@pytest.mark.parametrize("reports", [False, True])
def test_a_stop_that_filled_in_the_meantime_is_one_trade(tmp_path, reports):
    run(tmp_path, rows=ROWS[:23])
    meanwhile(tmp_path / "venue.json", "D0", [(100, 100, 95, 96)], first=24)
    rows = [*ROWS[:23], (100, 100, 95, 96), *flat(2, price=96.0)]
    run(tmp_path, rows=rows, reports=reports)
    book = read(tmp_path / "venue.json")
    assert book["orders"] == []
    trips, still = round_trips(book["log"])
    assert still is None
    saved = read_state(tmp_path / "risk.db")
    (trade,) = saved.trades.values()
    assert trade["pnl"] == pytest.approx(trips[0][3])
    assert trade["stopped"]
    (key,) = saved.trades
    stop = next(row["id"] for row in book["log"] if row["what"] == "filled" and row["size"] < 0)
    assert key == f"{stop}/0"  # the venue's own id: told again, it is the same trade
    run(tmp_path, rows=[*rows, *flat(1, price=96.0)], reports=reports)
    assert len(read_state(tmp_path / "risk.db").trades) == 1


def test_a_fill_that_the_venue_reports_again_counts_once(tmp_path):
    run(tmp_path, rows=ROWS[:27])
    file = tmp_path / "venue.json"
    book = read(file)
    fill = [row for row in book["log"] if row["what"] == "filled"][-1]
    book["reports"] = [
        {"id": fill["id"], "data": "D0", "side": -1, "left": -100, "price": fill["price"]}
        | {"exectype": bt.Order.Stop, "price_filled": fill["price"], "time": 0.0}
    ]
    write(file, book)
    strategy = run(tmp_path, rows=[*ROWS[:27], *flat(1, price=97.0)], reports=True)
    assert strategy.broker.book.instruments[0].size == 0
    assert len(read_state(tmp_path / "risk.db").trades) == 1


def test_an_entry_that_filled_in_the_meantime_has_the_stop_that_was_planned(tmp_path):
    run(tmp_path, rows=ROWS[:20])
    meanwhile(tmp_path / "venue.json", "D0", [ROWS[20]], first=21)
    run(tmp_path, rows=ROWS[:23])
    book = read(tmp_path / "venue.json")
    check_stops(book)
    check_sent_once(book)


def check_sent_once(book):
    assert len([row for row in book["log"] if row["what"] == "sent" and row["side"] > 0]) == 1


def edited(folder, **changes):
    """Change the venue's book behind the back of every run."""
    book = read(folder / "venue.json")
    write(folder / "venue.json", book | changes)


def test_a_stop_whose_position_is_gone_is_cancelled(tmp_path):
    run(tmp_path, rows=ROWS[:23])
    assert len(read(tmp_path / "venue.json")["orders"]) == 1
    cash = read(tmp_path / "venue.json")["cash"] + 100 * 112.0
    edited(tmp_path, positions={"D0": [0, 0.0]}, cash=cash)
    run(tmp_path, rows=ROWS[:25])
    assert read(tmp_path / "venue.json")["orders"] == []
    assert guards(tmp_path, first=24) == [[], []]  # it could have sold what is not held


def test_a_stop_that_outlived_its_position_in_the_state_too_is_cancelled(tmp_path):
    """The run had seen the position go, and died before the cancel of the stop had arrived."""
    run(tmp_path, rows=ROWS[:23])
    cash = read(tmp_path / "venue.json")["cash"] + 100 * 112.0
    edited(tmp_path, positions={"D0": [0, 0.0]}, cash=cash)
    with closing(sqlite3.connect(tmp_path / "risk.db")) as db:
        db.execute("DELETE FROM records WHERE kind IN ('position', 'stop')")
        db.commit()
    run(tmp_path, rows=ROWS[:25])
    assert guards(tmp_path, first=24) == [[], []]
    assert any("has no position" in note for note in notes(tmp_path))


def notes(folder):
    return [
        line[-1] for line in read_state(folder / "risk.db", 100).decisions if line[2] == "state"
    ]


def test_a_position_that_nobody_knows_is_guarded_and_in_the_journal(tmp_path):
    run(tmp_path, rows=ROWS[:19])
    edited(tmp_path, positions={"D0": [50, 100.0]}, marks={"D0": 100.0})
    strategy = run(tmp_path, rows=[*ROWS[:19], *flat(2)])
    (order,) = read(tmp_path / "venue.json")["orders"]
    assert (order["left"], order["price"]) == (-50, 90.0)
    assert "state: +50 D0 are held that no run has saved: they are protected from now on" in notes(
        tmp_path
    )
    assert strategy.broker.state == "ACTIVE"


def test_a_part_of_a_position_that_somebody_closed_leaves_a_stop_of_the_rest(tmp_path):
    run(tmp_path, rows=ROWS[:23])
    cash = read(tmp_path / "venue.json")["cash"] + 60 * 112.0
    edited(tmp_path, positions={"D0": [40, 100.0]}, cash=cash)
    run(tmp_path, rows=ROWS[:25])
    (order,) = read(tmp_path / "venue.json")["orders"]
    assert order["left"] == -40
    assert guards(tmp_path, first=24) == [[-40], [-40]]


def guards(folder, first):
    """Return the sizes of the stops that rested when each bar came."""
    log = read(folder / "venue.json")["log"]
    rows = [row for row in log if row["what"] == "guard" and row["bar"] >= first]
    return [[size for size, _ in row["stops"]] for row in rows]


def test_the_state_of_another_data_is_kept(tmp_path):
    run(tmp_path, rows=ROWS[:23])
    run(tmp_path, rows=ROWS[:23], names=("OTHER",))
    saved = read_state(tmp_path / "risk.db")
    assert saved.of("position")["D0/0"]["size"] == 100
    assert any("this run has no such data" in note for note in notes(tmp_path))


# -- windows of prices ---------------------------------------------------------------------------


class Idle(bt.Strategy):
    pass


def windows(strategy):
    """Return ATR, correlation and common returns as the rules see them at the end of a run."""
    book = strategy.broker.book
    (frames,) = book.windows._frames.values()
    rho, counts = frames.correlations(0, [1])
    return book.instruments[0].atr(14), float(rho[0]), int(counts[0])


CORRELATED = bt_risk.Policy(window=30, min_periods=10)


def two(folder, rows, skip=0):
    names = ("D0", "D1")
    return run(folder, rows, policy=CORRELATED, strategy=Idle, names=names, skip=skip)


@pytest.mark.parametrize("skip", [0, 20, 30])
def test_windows_are_what_they_would_be_without_the_restart(tmp_path, skip):
    """All bars again, some of them, or none that was there before."""
    (tmp_path / "whole").mkdir()
    whole = windows(two(tmp_path / "whole", ROWS))
    two(tmp_path, ROWS[:30])
    assert windows(two(tmp_path, ROWS, skip)) == pytest.approx(whole)


def test_windows_begin_anew_after_bars_that_nobody_brings(tmp_path):
    two(tmp_path, ROWS[:30])
    atr, rho, counts = windows(two(tmp_path, ROWS, skip=34))
    assert math.isnan(atr)
    assert math.isnan(rho)
    assert counts < 10
    assert any("bars are missing" in note for note in notes(tmp_path))


def test_the_week_of_kelly_goes_on(tmp_path):
    run(tmp_path, rows=ROWS[:29])
    saved = read_state(tmp_path / "risk.db").of("sizer")["0"]
    strategy = run(tmp_path, rows=ROWS[:29])
    assert strategy.getsizer().persist() == {"state": saved["state"], "kelly": {}}
    assert [trade.r_multiple for trade in strategy.broker.book.trades] == pytest.approx(
        [strategy.broker.book.trades[0].pnl / 1000.0]
    )


def test_a_cool_down_goes_on_where_it_was(tmp_path):
    """The trade closes at bar 26; ten bars without an entry end with bar 35."""
    policy = dataclasses.replace(POLICY, guards=(bt_risk.CooldownGuard(10),))
    rows = [*ROWS[:26], *flat(16, price=97.0)]
    run(tmp_path, rows=rows[:30], policy=policy)
    run(tmp_path, rows=rows[:33], policy=policy)
    run(tmp_path, rows=rows, policy=policy, skip=25)
    log = read(tmp_path / "venue.json")["log"]
    entries = [row["bar"] for row in log if row["what"] == "sent" and row["side"] > 0]
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", rows=rows, policy=policy)
    log = read(tmp_path / "whole" / "venue.json")["log"]
    assert entries == [row["bar"] for row in log if row["what"] == "sent" and row["side"] > 0]


# -- no state, or a bad one ----------------------------------------------------------------------


def breaks(folder, how):
    path = folder / "risk.db"
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "scrambled":
        path.write_bytes(b"no database" * 1000)
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE records SET value = '{'")
            db.commit()


@pytest.mark.parametrize("how", ["missing", "cut", "scrambled", "no JSON"])
def test_without_its_state_a_run_with_positions_refuses_entries_and_places_stops(tmp_path, how):
    run(tmp_path, rows=ROWS[:21])
    breaks(tmp_path, how)
    edited(tmp_path, orders=[])
    rows = [*ROWS[:21], *flat(3)]
    strategy = run(tmp_path, rows=rows)
    state, reason = strategy.broker.trading_state.why
    assert state == "REDUCING"
    assert "bt-risk rearm" in reason
    assert "D0 is held" in reason
    assert [order["left"] for order in read(tmp_path / "venue.json")["orders"]] == [-100]
    aside = list(tmp_path.glob("risk.db.damaged*"))
    assert bool(aside) == (how != "missing")
    again = run(tmp_path, rows=[*rows, *flat(1)])  # nor does it forget that it is refusing
    assert again.broker.trading_state.why == (state, reason)
    request(tmp_path / "risk.db", OperatorRequest("rearm"))
    assert run(tmp_path, rows=[*rows, *flat(2)]).broker.state == "ACTIVE"


@pytest.mark.parametrize("runs", [1, 2])
def test_a_live_feed_may_bring_no_bar_in_its_first_rounds(tmp_path, runs):
    class LateFrame(LiveFrame):
        def start(self):
            super().start()
            self._wait = 3

    for _ in range(runs):
        engine = bt.Cerebro(stdstats=False)
        engine.adddata(LateFrame(dataname=bars(*flat(5))), name="D0")
        engine.setbroker(bt_risk.RiskBroker(FakeBroker(), state=tmp_path / "risk.db"))
        engine.addstrategy(Script)
        engine.run()
    assert read_state(tmp_path / "risk.db").of("instrument")["D0"]["bars"] == 5


def test_a_first_run_of_a_flat_account_is_no_loss(tmp_path):
    assert run(tmp_path, rows=ROWS[:19]).broker.state == "ACTIVE"


def test_a_run_whose_state_cannot_be_written_refuses_entries_and_keeps_its_stops(
    tmp_path, monkeypatch
):
    original = StateFile.write
    bar = []

    class Notes(Wants):
        def next(self):
            bar.append(bar_of(self.data))
            super().next()

    def full(self, *args, **kwargs):
        if bar and 22 <= bar[-1] <= 29:
            raise sqlite3.OperationalError("database or disk is full")
        original(self, *args, **kwargs)

    monkeypatch.setattr(StateFile, "write", full)
    strategy = run(tmp_path, rows=ROWS[:35], strategy=Notes)
    book = read(tmp_path / "venue.json")
    check_stops(book)
    entries = [row["bar"] for row in book["log"] if row["what"] == "sent" and row["side"] > 0]
    assert entries[0] == 20
    assert entries[1] > 29
    assert strategy.broker.state != "REDUCING"


def test_a_working_order_has_one_record_under_the_id_of_its_intent(tmp_path):
    strategy = run(tmp_path, rows=ROWS[:24])
    working = strategy.broker.book.working.values()
    records = read_state(tmp_path / "risk.db").of("order")
    assert [working.own for working in working] == [True]
    assert set(records) == {w.handle.info.client_id for w in working}


def test_an_entry_whose_intent_cannot_be_written_is_rejected_and_not_sent(tmp_path, monkeypatch):
    original = StateFile.write

    def without_orders(self, changed, *args, **kwargs):
        if any(kind == "order" for kind, _ in changed):
            raise sqlite3.OperationalError("database or disk is full")
        original(self, changed, *args, **kwargs)

    monkeypatch.setattr(StateFile, "write", without_orders)
    strategy = run(tmp_path, rows=ROWS[:23])
    assert [row for row in read(tmp_path / "venue.json")["log"] if row["what"] == "sent"] == []
    refused = [line for line in strategy.broker.journal.lines if line[3] == "reject"]
    reason = f"state: {tmp_path / 'risk.db'} cannot be written (database or disk is full)"
    assert refused[0][-1] == reason
    assert strategy.broker.state == "ACTIVE"  # everything else has been written since


# -- one process ---------------------------------------------------------------------------------


def test_a_second_run_on_one_state_stops_with_an_error(tmp_path):
    held = StateFile(tmp_path / "risk.db")
    with pytest.raises(bt_risk.StateError, match=f"in use by process {os.getpid()}"):
        run(tmp_path, rows=ROWS[:19])
    held.close()
    run(tmp_path, rows=ROWS[:19])


def test_the_points_of_an_optimisation_write_nothing(tmp_path):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=FRAME), name="D0")
    engine.optstrategy(Takes, size=[1, 2])
    bt_risk.protect(engine, POLICY, state=tmp_path / "risk.db")
    engine.run(maxcpus=1)
    assert list(tmp_path.iterdir()) == []


class Takes(bt.Strategy):
    params = (("size", 1),)

    def next(self):
        if not self.position:
            self.buy(size=self.p.size)


def test_a_backtest_keeps_what_it_is_asked_to_keep(tmp_path):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=FRAME), name="D0")
    engine.addstrategy(Takes)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, state=tmp_path / "risk.db"))
    engine.run()
    saved = read_state(tmp_path / "risk.db")
    assert saved.of("position")["D0/0"]["size"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"risk.db", "risk.db-lock"}


def test_a_state_for_a_run_that_decides_nothing_raises(tmp_path):
    with pytest.raises(bt_risk.ParameterError, match="state must be None in observe mode"):
        bt_risk.protect(bt.Cerebro(), POLICY, "observe", state=tmp_path / "risk.db")


def test_two_state_files_raise(tmp_path):
    engine = bt.Cerebro()
    engine.setbroker(bt_risk.RiskBroker(engine.broker, state=tmp_path / "one.db"))
    engine.adddata(PandasData(dataname=FRAME), name="D0")
    engine.addstrategy(Takes)
    bt_risk.protect(engine, POLICY, state=tmp_path / "two.db")
    with pytest.raises(bt_risk.ParameterError, match=r"the file of the RiskBroker, .*one\.db"):
        engine.run()


# -- other shapes --------------------------------------------------------------------------------


class Shorts(bt.Strategy):
    def next(self):
        if bar_of(self.data) == 20:
            self.sell(size=100)


MIRRORED = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in ROWS]


@pytest.mark.parametrize("until", [21, 22, 23, 25])
def test_the_stop_of_a_short_position_goes_on(tmp_path, until):
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", rows=MIRRORED[:25], strategy=Shorts)
    run(tmp_path, rows=MIRRORED[:until], strategy=Shorts)
    run(tmp_path, rows=MIRRORED[:25], strategy=Shorts)
    (order,) = read(tmp_path / "venue.json")["orders"]
    (whole,) = read(tmp_path / "whole" / "venue.json")["orders"]
    assert order["left"] == 100
    assert order["price"] == pytest.approx(whole["price"])


@pytest.mark.parametrize("until", [25, 26])
def test_a_stop_on_the_close_leaves_where_it_would_have_left(tmp_path, until):
    """Bar 26 closes beyond the stop: whichever run sees that sells at the open of bar 27."""
    policy = dataclasses.replace(POLICY, trigger="close")
    run(tmp_path, rows=ROWS[:until], policy=policy)
    run(tmp_path, rows=ROWS[:28], policy=policy)
    log = read(tmp_path / "venue.json")["log"]
    exits = [
        (row["bar"], row["price"]) for row in log if row["what"] == "filled" and row["size"] < 0
    ]
    assert exits == [(27, 97.0)]


class Leaves(Wants):
    """Sells at the market while a stop rests: the gate withdraws the stop first."""

    def next(self):
        super().next()
        if bar_of(self.data) == 23 and self.position and not self.leaving:
            self.leaving = self.close()

    leaving = None


@pytest.mark.parametrize("point", sliced(range(27, 40), 4))
def test_an_exit_that_waits_for_its_stop_leaves_no_position_unguarded(point, tmp_path):
    rows = ROWS[:27]
    died = in_child(killed_run, tmp_path, point, after=True, rows=rows, strategy=Leaves)
    assert died == signal.SIGKILL
    run(tmp_path, rows=rows, strategy=Leaves)
    book = read(tmp_path / "venue.json")
    held = book["positions"]["D0"][0]
    assert held in (0, 100)
    stops = [row["left"] for row in book["orders"] if row["exectype"] == bt.Order.Stop]
    assert stops == ([-held] if held else [])
    trips, _ = round_trips(book["log"])
    saved = read_state(tmp_path / "risk.db").trades.values()
    assert [trade["pnl"] for trade in saved] == pytest.approx([trip[3] for trip in trips])


class Second(bt.Strategy):
    def next(self):
        if bar_of(self.data) == 21:
            self.buy(size=30)


def test_two_strategies_have_each_its_own_part_and_stop_again(tmp_path):
    def both(rows):
        engine = bt.Cerebro(stdstats=False)
        history = read(tmp_path / "venue.json")["clock"].get("D0", 0)
        engine.adddata(PersistentFeed(dataname=bars(*rows), history=history), name="D0")
        engine.setbroker(PersistentBroker(file=str(tmp_path / "venue.json")))
        engine.addstrategy(Wants)
        engine.addstrategy(Second)
        bt_risk.protect(engine, POLICY, state=tmp_path / "risk.db")
        return engine.run()

    both(ROWS[:23])
    before = read(tmp_path / "venue.json")["orders"]
    strategies = both(ROWS[:23])
    assert read(tmp_path / "venue.json")["orders"] == before
    assert sorted(order["left"] for order in before) == [-100, -30]
    parts = strategies[0].broker.book.parts.values()
    assert [(p.size, p.owner is s) for p, s in zip(parts, strategies, strict=True)] == [
        (100, True),
        (30, True),
    ]


def test_every_order_of_a_bracket_is_written_down_before_it_is_sent(tmp_path):
    seen = []

    class Bracketing(FakeBroker):
        capabilities = {"brackets": True}

        def _make(self, kind, owner, data, size, price, exectype, *args):
            records = read_state(tmp_path / "risk.db").of("order").values()
            row = (exectype or bt.Order.Market, size)
            kinds = {bt.Order.Market: "market", bt.Order.Stop: "stop", bt.Order.Limit: "limit"}
            seen.append((kinds[row[0]], any(r["kind"] == kinds[row[0]] for r in records)))
            return super()._make(kind, owner, data, size, price, exectype, *args)

    def bracket(s):
        s.buy_bracket(size=10, exectype=bt.Order.Market, stopprice=95.0, limitprice=110.0)

    engine = bt.Cerebro(stdstats=False)
    engine.adddata(LiveFrame(dataname=bars(*flat(24))), name="D0")
    engine.setbroker(bt_risk.RiskBroker(Bracketing(), state=tmp_path / "risk.db"))
    engine.addstrategy(Script, actions={20: bracket})
    engine.run()
    assert seen == [("market", True), ("stop", True), ("limit", True)]


# -- what was cut, what rests at the venue, and where the first stop was ---------------------------

HALF = dataclasses.replace(POLICY, notional_limit=0.5)


def filled(folder):
    """Return the signed sizes of all fills at the venue."""
    log = read(folder / "venue.json")["log"]
    return [row["size"] for row in log if row["what"] == "filled"]


class HalfIn(bt.Strategy):
    """Ask for 1,000 on bar 20, of which the notional limit leaves 500; sell 1,000 on bar 23."""

    def next(self):
        bar = bar_of(self.data)
        if bar == 20 and not self.broker.book.working:
            self.buy(size=1000)
        if bar == 23 and self.position.size > 0:
            self.sell(size=1000)


@pytest.mark.parametrize("until", [20, 21, 22])
def test_what_was_cut_from_an_entry_is_void_on_the_way_out_after_a_restart(tmp_path, until):
    """On bar 20 the entry still works when the first run ends, on 21 it has filled."""
    rows = flat(26)
    run(tmp_path, rows=rows[:until], policy=HALF, strategy=HalfIn)
    run(tmp_path, rows=rows, policy=HALF, strategy=HalfIn)
    assert filled(tmp_path) == [500, -500]
    assert read(tmp_path / "venue.json")["orders"] == []


def rests(folder, side, size, price):
    """Let an order that no run has sent rest at the venue."""
    row = {"id": "X1", "data": "D0", "side": side, "left": side * size, "price": price}
    edited(folder, orders=[row | {"exectype": bt.Order.Limit}])


class Fills(bt.Strategy):
    """Ask for more than any limit allows on bar 22."""

    params = (("side", 1),)

    def next(self):
        if bar_of(self.data) == 22:
            (self.buy if self.p.side > 0 else self.sell)(size=5000)


@pytest.mark.parametrize(("side", "price"), [(1, 80.0), (-1, 120.0)])
def test_an_entry_that_rests_at_the_venue_takes_room_in_the_limits(tmp_path, side, price):
    """Half of 100,000 is the limit: 300 at 80 leave 26,000, and 300 at 120 leave 14,000."""
    rows = flat(25)
    sent = functools.partial(Fills, side=side)
    run(tmp_path, rows=rows[:20], policy=HALF, strategy=Idle)
    rests(tmp_path, side, 300, price)
    run(tmp_path, rows=rows, policy=HALF, strategy=sent)
    filled = [
        row["size"] for row in read(tmp_path / "venue.json")["log"] if row["what"] == "filled"
    ]
    assert filled == [side * int((50_000 - 300 * price) / 100)]


def test_an_entry_of_the_run_before_takes_room_in_the_limits(tmp_path):
    """It has sent a limit order for 300 at 80 itself: 26,000 are left, or 260 at 100."""

    class Rests(bt.Strategy):
        def next(self):
            if bar_of(self.data) == 18:
                self.buy(size=300, exectype=bt.Order.Limit, price=80.0)

    rows = flat(25)
    run(tmp_path, rows=rows[:20], policy=HALF, strategy=Rests)
    run(tmp_path, rows=rows, policy=HALF, strategy=Fills)
    filled = [
        row["size"] for row in read(tmp_path / "venue.json")["log"] if row["what"] == "filled"
    ]
    assert filled == [260]


class Adds(bt.Strategy):
    """Buy 100 on bar 20, which fill at 100, and 100 on bar 24, which fill at 116."""

    def next(self):
        if bar_of(self.data) in (20, 24):
            self.buy(size=100)


def test_the_first_stop_of_a_trade_is_that_of_its_entry_whatever_was_added(tmp_path):
    """100 at 100 with an ATR of 2 and a multiple of 5: 90. With 100 at 116 the average is 108."""
    firsts = []
    for until in (22, 26):
        run(tmp_path, rows=[*ROWS[:25], *flat(1, price=114.0)][:until], strategy=Adds)
        (stop,) = read_state(tmp_path / "risk.db").of("stop").values()
        firsts.append(stop["first"])
    assert read(tmp_path / "venue.json")["positions"]["D0"] == [200, 108.0]
    assert firsts == [90.0, 90.0]


# -- at what price something was closed while no run was active -----------------------------------


class TakesProfit(bt.Strategy):
    """Buy 100 on bar 20, and let a limit order at 110 close them."""

    def next(self):
        if bar_of(self.data) == 20 and not self.position:
            self.buy(size=100)
        if bar_of(self.data) == 21 and not self.broker.get_orders_open():
            self.sell(size=100, exectype=bt.Order.Limit, price=110.0)


def closed_meanwhile(folder, strategy, rows, **changes):
    """Run to bar 22, let the venue change, and return the one trade that the next run saves."""
    run(folder, rows=rows[:22], strategy=strategy)
    if changes:
        edited(folder, **changes)
    else:
        meanwhile(folder / "venue.json", "D0", rows[22:23], first=23)
    run(folder, rows=rows, strategy=strategy)
    (trade,) = read_state(folder / "risk.db").trades.values()
    return trade


def test_a_take_profit_that_filled_in_the_meantime_is_booked_at_its_price(tmp_path):
    """Bought at 100 and sold at 110, in a bar that closes at 111."""
    rows = [*flat(22), (105, 112, 105, 111), *flat(2, price=111.0)]
    trade = closed_meanwhile(tmp_path, TakesProfit, rows)
    assert (trade["pnl"], trade["stopped"]) == (1000.0, False)
    assert read(tmp_path / "venue.json")["orders"] == []


def test_where_stop_and_take_profit_are_both_gone_the_stop_has_closed(tmp_path):
    """The stop at 90, 5 ATR from 100, is the worse of both: 1,000 are lost."""
    trade = closed_meanwhile(
        tmp_path, TakesProfit, flat(24), orders=[], positions={"D0": [0, 0.0]}, cash=99_000.0
    )
    assert (trade["pnl"], trade["stopped"]) == (-1000.0, True)


# -- stops of ours that the run before has left in between ----------------------------------------


def test_of_two_stops_of_one_position_one_is_cancelled(tmp_path):
    """A run died after it had sent the second, and before the first was cancelled."""
    run(tmp_path, rows=ROWS[:23])
    (order,) = read(tmp_path / "venue.json")["orders"]
    edited(tmp_path, orders=[order, order | {"id": "X2"}])
    with closing(sqlite3.connect(tmp_path / "risk.db")) as db:
        ((text,),) = db.execute("SELECT value FROM records WHERE kind = 'order'").fetchall()
        second = json.dumps(json.loads(text) | {"venue_id": "X2"})
        db.execute("INSERT INTO records VALUES ('order', 'second', ?)", (second,))
        db.commit()
    run(tmp_path, rows=ROWS[:25])
    assert [order["left"] for order in read(tmp_path / "venue.json")["orders"]] == [-100]
    assert guards(tmp_path, first=24) == [[-100], [-100]]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", [25, 26, 27])
def test_a_close_beyond_the_stop_is_acted_upon_wherever_the_run_has_died(tmp_path, point, after):
    """Bar 26 closes beyond it; write 26 of that run is the intent to sell, 27 what was sent."""
    policy = dataclasses.replace(POLICY, trigger="close")
    run(tmp_path, rows=ROWS[:25], policy=policy)
    died = in_child(killed_run, tmp_path, point, after, rows=ROWS[:26], policy=policy)
    assert died == signal.SIGKILL
    run(tmp_path, rows=ROWS[:28], policy=policy)
    log = read(tmp_path / "venue.json")["log"]
    exits = [row for row in log if row["what"] == "filled" and row["size"] < 0]
    assert [(row["bar"], row["price"]) for row in exits] == [(27, 97.0)]


def test_a_venue_replaces_no_order_that_has_ended(tmp_path):
    """As `CapableBroker` answers, so that a stop that fills while it moves is a case of tests."""
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PersistentFeed(dataname=bars(*flat(6))), name="D0")
    venue = PersistentBroker(file=str(tmp_path / "venue.json"))
    engine.setbroker(bt_risk.RiskBroker(venue))
    actions = {
        2: lambda s: s.buy(size=1),
        4: lambda s: venue.replace(s.made[0], size=2, price=90.0),
    }
    engine.addstrategy(Script, actions=actions)
    assert engine.run()[0].made[1] is False
