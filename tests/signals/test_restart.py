"""A run that starts again: signals from before count until they are too old, none comes twice."""

import json
import math
import os
import signal

import backtrader as bt
import pandas as pd
import pytest
from helpers.persistent_broker import PersistentBroker, PersistentFeed, bar_of, read
from helpers.restarts import STILL, in_child
from helpers.scenarios import bars, cerebro, flat, random_walk

import bt_risk
from bt_risk.signals import recorded
from bt_risk.signals.files import read_signals
from bt_risk.signals.sources import SignalSource, SignalTail

FRAME = random_walk(8, 60)
SCORES = (80, -40, 15, -90, 60)


def minutes(bar, late):
    """Return a time so many minutes before (or after) that of a bar, counted from 1."""
    return (FRAME.index[bar - 1] + pd.Timedelta(minutes=late)).isoformat() + "Z"


# Made known hours before it arrives; some arrive just after the bar at which they are read, and of
# two of them the older one comes last.
PLAN = {
    bar: {
        "id": str(bar),
        "symbol": ("D0", "", "d0")[bar % 3],
        "score": SCORES[bar % 5],
        "published": minutes(bar, -300 - 6000 * (bar % 7 == 0)),
        "received": minutes(bar, 2 if bar % 4 == 0 else -3),
    }
    for bar in range(5, 55, 3)
}
OTHERS = {bar: row | {"id": f"x{bar}", "symbol": "OTHER"} for bar, row in PLAN.items()}


class Beside(SignalTail):
    """A file to which a receiver adds lines as bars come, but for the `first` ones of the run."""

    def __init__(self, path, bar=1, first=0):
        super().__init__(path)
        self.bar, self.first = bar, first

    def take(self):
        if self.first <= 0:
            write(self.path, self.bar, self.bar)
        self.bar, self.first = self.bar + 1, self.first - 1
        return super().take()


def write(path, first, last):
    """Add what arrives between two bars, both included."""
    with path.open("a") as file:
        for bar in range(first, last + 1):
            for plan in (OTHERS, PLAN):
                if bar in plan:
                    file.write(json.dumps(plan[bar]) + "\n")


class EveryLine(bt.Strategy):
    def __init__(self):
        self.seen = {}

    def next(self):
        signals = self.datas[1]
        lines = (signals.score, signals.direction, signals.conviction, signals.age)
        self.seen[self.data.datetime[0]] = tuple(float(line[0]) for line in lines)


def seen(frame, source, ttl="4d", **params):
    """Return the lines of the signals at the time of each bar."""
    engine = cerebro(frame)
    engine.adddata(bt_risk.SignalData(dataname=source, ttl=ttl, **params), name="S")
    engine.addstrategy(EveryLine)
    return engine.run()[0].seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what a run that is not interrupted sees."""
    found = seen(FRAME, Beside(tmp_path_factory.mktemp("whole") / "signals.jsonl"))
    unknown = sum(math.isnan(values[0]) for values in found.values())
    assert 3 < unknown < 20
    return found


@pytest.mark.parametrize("backfills", [True, False])
@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize(("end", "down"), [(4, 0), (5, 0), (8, 3), (21, 1), (30, 9), (44, 0)])
def test_after_a_restart_the_lines_are_those_of_a_run_without_one(
    tmp_path, whole, end, down, records, backfills
):
    """The receiver goes on while the run is down for some bars, whether they come later or not."""
    path = tmp_path / "signals.jsonl"
    record = {"record": tmp_path / "record.jsonl"} if records else {}
    first = seen(FRAME[:end], Beside(path), **record)
    assert repr(first) == repr(dict(list(whole.items())[:end]))
    write(path, end + 1, end + down)
    begin = 0 if backfills else end + down
    source = Beside(path, begin + 1, first=end + down - begin)
    again = seen(FRAME[begin:], source, **record)
    expected = dict(list(whole.items())[end + down :])
    assert repr({time: again[time] for time in expected}) == repr(expected)
    if records:
        ids = [one.id for one in read_signals(record["record"]).signals]
        assert sorted(ids, key=int) == [str(bar) for bar in PLAN]


class Bringing(SignalSource):
    """Bring records at bars of one run, as a server that states them again and again."""

    def __init__(self, plan):
        super().__init__()
        self.plan, self.bar = plan, 0

    def take(self):
        self.bar += 1
        rows = self.plan.get(self.bar, [])
        moment = int(FRAME.index[self.bar - 1].timestamp()) * 1_000_000
        return self.accept(rows, moment)


NAMELESS = {"id": "1", "symbol": "D0", "score": 80}


def test_of_a_server_what_was_recorded_counts_and_is_no_younger_when_it_comes_again(tmp_path):
    record = tmp_path / "record.jsonl"
    first = seen(FRAME[:10], Bringing({8: [NAMELESS]}), record=record)
    assert list(first.values())[-1] == (80.0, 1.0, 0.8, 2 * 86400.0)
    again = seen(FRAME[:16], source := Bringing({11: [NAMELESS]}), record=record)
    ages = [values[3] / 86400.0 for values in again.values()][7:]
    assert ages == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    scores = [values[0] for values in again.values()]
    assert scores[7:12] == [80.0] * 5
    assert all(map(math.isnan, scores[:7] + scores[12:]))
    assert source.refused == {"id seen before": 1}
    assert len(read_signals(record).signals) == 1


def test_of_a_server_what_was_not_recorded_comes_with_its_next_answer():
    again = seen(FRAME[:16], Bringing({11: [NAMELESS]}))
    assert [not math.isnan(values[0]) for values in again.values()].index(True) == 10


# -- what a file has when a run begins -----------------------------------------------------------


def started(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = SignalTail(path)
    source.start()
    return source


def test_a_line_from_before_whose_age_is_unknown_does_not_count(tmp_path):
    timeless, later = {"id": "1", "score": 5}, {"id": "2", "score": 5, "time": "2190-01-01T00:00Z"}
    good = {"id": "3", "score": 5, "time": "2020-01-01T00:00Z"}
    source = started(tmp_path / "signals.jsonl", timeless, later, good)
    assert [(one.id, one.received) for one in source.take()] == [("3", None)]
    assert source.refused == {"no published time": 1, "published after it was received": 1}
    assert source.take() == []


def test_only_the_end_of_a_long_file_is_read(tmp_path, monkeypatch):
    rows = [{"id": str(k), "score": 5, "time": "2020-01-01T00:00Z"} for k in range(100)]
    size = len(json.dumps(rows[-1])) + 1
    monkeypatch.setattr(recorded, "BACKLOG_BYTES", 3 * size + 5)
    source = started(tmp_path / "signals.jsonl", *rows)
    assert [one.id for one in source.take()] == ["97", "98", "99"]
    assert source.refused == {}


def test_a_file_that_cannot_be_read_at_the_start_is_read_as_one_from_before(tmp_path):
    path = tmp_path / "signals.jsonl"
    path.mkdir()
    source = SignalTail(path)
    source.start()
    assert source.take() == []
    assert "cannot be read" in source.trouble
    path.rmdir()
    known = {"id": "2", "score": 5, "time": "2020-01-01T00:00Z"}
    path.write_text('{"id": "1", "score": 5}\n' + json.dumps(known) + "\n")
    assert [one.id for one in source.take()] == ["2"]
    assert source.trouble == ""


def test_the_receiver_states_when_a_line_arrived_and_a_hand_may_leave_that_out(tmp_path):
    path = tmp_path / "signals.jsonl"
    source = started(path)
    with path.open("a") as file:
        file.write('{"id": "1", "score": 5, "received": "2020-01-05T00:00Z"}\n')
        file.write('{"id": "2", "score": 5}\n')
    first, second = source.take()
    assert first.received == first.published == 1_578_182_400_000_000
    assert second.received == second.published > 1_700_000_000_000_000


# -- the record of a run -------------------------------------------------------------------------


def test_a_line_that_a_crash_has_cut_short_takes_no_other_one_with_it(tmp_path):
    record = tmp_path / "record.jsonl"
    seen(FRAME[:10], Bringing({5: [NAMELESS]}), record=record)
    with record.open("a") as file:
        file.write('{"id": "torn", "sco')
    seen(FRAME[:10], Bringing({6: [NAMELESS | {"id": "2"}]}), record=record)
    assert [one.id for one in read_signals(record).signals] == ["1", "2"]


def test_a_record_that_cannot_be_written_ends_no_run_and_is_written_later(tmp_path):
    folder, sentences = tmp_path / "later", []

    class Makes(bt.Strategy):
        def next(self):
            if len(self) == 20:
                folder.mkdir()

    engine = cerebro(FRAME)
    source = Bringing({5: [NAMELESS], 25: [NAMELESS | {"id": "2"}]})
    record = folder / "record.jsonl"
    engine.adddata(bt_risk.SignalData(dataname=source, ttl="9d", record=record), name="S")
    engine.addstrategy(Makes)
    bt_risk.protect(engine, sizer=False, notify=sentences.append)
    assert len(engine.run()[0]) == 60
    (alert,) = [one for one in sentences if "SignalData" in one]
    assert "record.jsonl cannot be written" in alert
    assert [one.id for one in read_signals(record).signals] == ["1", "2"]


def test_a_record_that_cannot_be_read_is_trouble_and_ends_no_run(tmp_path):
    found = bt_risk.SignalData(dataname=Bringing({}), ttl=60, record=tmp_path)
    engine = cerebro(FRAME[:3])
    engine.adddata(found, name="S")
    engine.run()
    assert "cannot be read" in found.trouble


# -- killed while it trades ----------------------------------------------------------------------

ROWS = flat(40)
DAYS = bars(*ROWS)


def stamped(bar, score):
    published = (DAYS.index[bar - 1] - pd.Timedelta(hours=1)).isoformat() + "Z"
    received = (DAYS.index[bar - 1] - pd.Timedelta(minutes=50)).isoformat() + "Z"
    return {"id": str(bar), "score": score, "published": published, "received": received}


# Long from 22 on; the one of 30 is against it, and that of 36 is old when the run ends.
SIGNALS = [stamped(22, 80), stamped(30, -60), stamped(34, 90)]


class Follows(bt.Strategy):
    """Enter at the one bar at which a signal is new, leave four bars later; die at a bar.

    Of the bars that the run before has `known` it acts upon the last one again.
    """

    dies = known = 0

    def next(self):
        bar, signals = bar_of(self.data), self.datas[1]
        if bar < self.known:
            return
        new = signals.age[0] < 86_400.0
        if new and signals.direction[0] > 0 and not self.position and not self.waiting():
            self.buy(size=100)
        elif bar in (26, 38) and self.position:
            self.close()
        if bar == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)

    def waiting(self):
        return [one for one in self.broker.book.working.values() if one.side > 0]


def live(folder, dies=0, strategy=Follows):
    """Trade at the venue in `folder`, where it stands, until the bars end or the strategy dies."""
    known = read(folder / "venue.json")["clock"].get("D0", 0)
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PersistentFeed(dataname=DAYS, history=known), name="D0")
    path = folder / "signals.jsonl"
    tail = Arriving(path, known)
    signals = bt_risk.SignalData(dataname=tail, ttl="5d", record=folder / "record.jsonl")
    engine.adddata(signals, name="S")
    engine.setbroker(PersistentBroker(file=str(folder / "venue.json")))
    engine.addstrategy(type("Dies", (strategy,), {"dies": dies, "known": known}))
    bt_risk.protect(
        engine,
        bt_risk.Policy(sizer=False, trailing_stop=False, guards=[bt_risk.SignalGate()]),
        state=folder / "risk.db",
        **STILL,
    )
    return engine.run()[0]


class Arriving(SignalTail):
    """A receiver's file: a line is there when its bar comes for the first time."""

    def __init__(self, path, known):
        super().__init__(path)
        self.bar, self.known = 0, known

    def take(self):
        self.bar += 1
        with self.path.open("a") as file:
            for row in SIGNALS:
                if int(row["id"]) == self.bar > self.known:
                    file.write(json.dumps(row) + "\n")
        return super().take()


def fills(folder):
    return [
        (row["bar"], row["size"])
        for row in read(folder / "venue.json")["log"]
        if row["what"] == "filled"
    ]


@pytest.mark.parametrize("dies", [None, 21, 22, 23, 25, 26, 30, 34, 35])
def test_killed_at_any_bar_a_run_acts_on_each_signal_once(tmp_path, dies):
    if dies is not None:
        assert in_child(live, tmp_path, dies) == signal.SIGKILL
    live(tmp_path)
    assert fills(tmp_path) == [(23, 100), (27, -100), (35, 100), (39, -100)]


class EntersLate(Follows):
    """Enter at bars at which no signal is new."""

    def next(self):
        super().next()
        if bar_of(self.data) in (25, 29, 33):
            self.buy(size=10)


def test_a_signal_from_before_the_crash_judges_entries_until_it_is_too_old(tmp_path):
    """The signal of bar 22 lets that of 25 pass, is 7 days old at 29, and that of 30 is against."""
    assert in_child(live, tmp_path, 23) == signal.SIGKILL
    (tmp_path / "signals.jsonl").unlink()  # the record is enough
    strategy = live(tmp_path, strategy=EntersLate)
    assert fills(tmp_path) == [(23, 100), (26, 10), (27, -110), (35, 100), (39, -100)]
    journal = strategy.analyzers.riskjournal.frame().query("rule == 'SignalGate'")
    assert [reason.partition(";")[0] for reason in journal.reason] == [
        "SignalGate: no signal: the last of S is 7 days, 1:00:00 old > ttl 5 days, 0:00:00",
        "SignalGate: no long entry in D0: S is short, score -60",
    ]
