"""Requests of an operator: taken once, carried out, answered, and in the journal."""

import math
import os
import signal
import sqlite3
from contextlib import closing

import pytest
from helpers.persistent_broker import PersistentFeed, read
from helpers.restarts import ROWS, Wants, in_child, run
from helpers.scenarios import flat

import bt_risk
from bt_risk.state import file as state_file
from bt_risk.state import requests as tables
from bt_risk.state import schema
from bt_risk.state.file import StateFile, answer, read_state, request
from bt_risk.state.requests import OperatorRequest

AT = 1_600_000_000.0
HELD = ROWS[:23]  # 100 are held at the end
ANN = "ann@desk"


class Clock:
    """Stand in for `time.monotonic`: each call is `step` seconds later."""

    def __init__(self, step=1.0):
        self.step, self.seconds = step, 0.0

    def __call__(self):
        self.seconds += self.step
        return self.seconds


class Asks(Wants):
    """Leave the requests that stand at a bar of the run when that has come."""

    asks = None

    def next(self):
        super().next()
        for verb in self.asks.get(len(self), ()):
            wanted = OperatorRequest(verb, ANN, AT, {"reason": "news at 17:00"})
            request(self.folder / "risk.db", wanted)


def asked(folder, asks, rows=HELD, **kwargs):
    """Run with requests by bar; return the answers and the journal."""
    strategy = type("Asking", (Asks,), {"asks": asks, "folder": folder})
    live = {"clock": Clock()} | kwargs.pop("live", {})
    run(folder, rows=rows, strategy=strategy, live=live, **kwargs)
    saved = read_state(folder / "risk.db", 1000)
    count = sum(map(len, asks.values()))
    answers = [answer(folder / "risk.db", number) for number in range(1, count + 1)]
    assert not saved.requests
    return answers, saved


AFTER = len(ROWS) + 1


def after_a_trip(folder, asks, **kwargs):
    """Make requests in a run that begins halted by its breaker."""
    run(folder, **kwargs)
    return asked(folder, asks, rows=[*ROWS, *flat(6, price=89.0)], **kwargs)


def held(saved):
    return sum(part["size"] for part in saved.of("position").values())


def test_a_halt_is_answered_and_journalled_with_who_when_and_why(tmp_path):
    (text,), saved = asked(tmp_path, {22: ["halt"]})
    assert text == "HALTED: no entry passes; +100 D0 keeps its stops"
    lines = [line for line in saved.decisions if line[2] == "operator"]
    assert [line[3] for line in lines] == ["request"]
    assert lines[0][-1] == (
        "operator: halt by ann@desk at 2020-09-13 12:26:40 UTC: news at 17:00. Answer: " + text
    )
    record = saved.of("gate")["operator"]
    assert (record["state"], record["reason"]) == ("HALTED", "news at 17:00 (halt by ann@desk)")
    assert held(saved) == 100


def test_reduce_refuses_entries_and_leaves_the_position(tmp_path):
    (text,), saved = asked(tmp_path, {22: ["reduce"]})
    assert text == "REDUCING: only what reduces a position passes; +100 D0 keeps its stops"
    assert held(saved) == 100


def test_flatten_closes_everything(tmp_path):
    (text,), saved = asked(tmp_path, {22: ["flatten"]}, rows=[*HELD, *flat(3, price=108.0)])
    assert text == "HALTED: no entry passes; +100 D0 is being closed at the market"
    assert held(saved) == 0
    assert "flat" in [line[3] for line in saved.decisions]


def test_resume_takes_back_what_an_operator_has_requested(tmp_path):
    answers, saved = asked(tmp_path, {20: ["halt"], 21: ["resume"], 22: ["resume"]})
    assert answers[1:] == ["entries pass again", "nothing was halted: entries pass"]
    assert not saved.of("gate")


def test_resume_of_a_breaker_names_the_verb_that_ends_its_halt(tmp_path):
    (text,), _ = after_a_trip(tmp_path, {AFTER: ["resume"]})
    assert text.startswith("not possible: still HALTED: DrawdownBreaker: drawdown 0.0921")
    assert f"`bt-risk rearm {tmp_path / 'risk.db'}` takes that back" in text


def test_resume_says_what_stays_when_a_breaker_has_halted_too(tmp_path):
    answers, saved = after_a_trip(tmp_path, {AFTER: ["halt"], AFTER + 1: ["resume"]})
    assert answers[1].startswith(
        "the operator's own request is taken back; still HALTED: DrawdownBreaker: drawdown"
    )
    assert not saved.of("gate")


def test_rearm_ends_the_halt_of_a_breaker_and_a_second_one_changes_nothing(tmp_path):
    answers, _ = after_a_trip(tmp_path, {AFTER: ["rearm"], AFTER + 2: ["rearm"]})
    assert answers == ["entries pass again", "nothing was halted: entries pass"]


def test_rearm_waits_until_the_value_of_the_account_is_known(tmp_path):
    """Without it a breaker would have no high-water mark, and nothing to trip at."""
    run(tmp_path)

    class Unknown(Wants):
        def start(self):
            values = [math.nan] * 30
            self.broker.unit_value = lambda: values.pop() if values else 90_000.0

    rows = [*ROWS, *flat(20, price=89.0)]
    request(tmp_path / "risk.db", OperatorRequest("rearm", ANN, AT))
    run(tmp_path, rows=rows, strategy=Unknown, live={"clock": Clock()})
    saved = read_state(tmp_path / "risk.db", 1000)
    assert answer(tmp_path / "risk.db", 1) == "entries pass again"
    assert by_operator(saved)[0] == "operator: rearm waits until the value of the account is known"
    assert len(by_operator(saved)) == 2
    breaker = saved.of("breaker")["0:"]["state"]
    assert (breaker["status"], breaker["high_water_mark"]) == ("ARMED", 90_000.0)


def test_rearm_with_a_lifetime_limit_that_was_hit_is_not_possible(tmp_path):
    off = dict.fromkeys(("risk_limit", "notional_limit", "exposure_limit", "correlation_limit"))
    policy = bt_risk.Policy(**off, drawdown_limit=None, lifetime_limit=0.06, atr_multiple=5.0)
    (text,), _ = after_a_trip(tmp_path, {AFTER: ["rearm"]}, policy=policy)
    assert text == "not possible: the lifetime limit of a breaker cannot be re-armed"


def test_a_verb_that_is_unknown_is_answered(tmp_path):
    (text,), _ = asked(tmp_path, {21: ["explode"]})
    assert text == "not possible: the request 'explode' is unknown"


def test_in_observe_mode_the_answer_says_that_nothing_changes(tmp_path):
    class Observed(Asks):
        asks, folder = {21: ["flatten"]}, tmp_path

        def start(self):
            self.broker.observe = True

    run(tmp_path, rows=HELD, strategy=Observed, live={"clock": Clock()})
    text = answer(tmp_path / "risk.db", 1)
    assert text.startswith("observe mode: the request is noted, and nothing is refused or closed")


def test_a_request_is_taken_between_bars(tmp_path, monkeypatch):
    """The feed brings nothing in some rounds: the answer is there before the next bar.

    A data feed has gone one bar forward when it is asked for the next one.
    """
    load, found = PersistentFeed._load, []

    def watched(self):
        loaded = load(self)
        if loaded is None:
            found.append((len(self) - 1, answer(tmp_path / "risk.db", 1)))
        return loaded

    monkeypatch.setattr(PersistentFeed, "_load", watched)
    (text,), _ = asked(tmp_path, {22: ["halt"]})
    assert (22, text) in found


def test_requests_are_read_once_a_second(tmp_path, monkeypatch):
    """A round takes a few calls of this clock, each a tenth of a second."""
    read, calls = StateFile.requests, []
    clock = Clock(0.1)

    def counted(self):
        calls.append(clock.seconds)
        return read(self)

    monkeypatch.setattr(StateFile, "requests", counted)
    (text,), _ = asked(tmp_path, {5: ["halt"]}, rows=ROWS, live={"clock": clock})
    assert text
    assert len(calls) > 3
    assert min(b - a for a, b in zip(calls[:-1], calls[1:], strict=True)) > 0.99


# -- the kill file -------------------------------------------------------------------------------


class Kills(Wants):
    """Make the kill file at bar 22."""

    buys = True

    def next(self):
        if self.buys:
            super().next()
        if len(self) == 22:
            (self.folder / "risk.db.kill").write_text("enough")


def killed(folder, buys=True):
    strategy = type("Killing", (Kills,), {"folder": folder, "buys": buys})
    run(folder, rows=[*HELD, *flat(4, price=108.0)], strategy=strategy, live={"clock": Clock()})
    return read_state(folder / "risk.db", 1000)


def by_operator(saved):
    return [line[-1] for line in saved.decisions if line[2] == "operator"]


def test_the_kill_file_closes_everything_and_is_renamed(tmp_path):
    saved = killed(tmp_path)
    assert held(saved) == 0
    (line,) = by_operator(saved)
    assert line.startswith("operator: flatten by risk.db.kill at 20")
    assert "+100 D0 is being closed at the market" in line
    assert not (tmp_path / "risk.db.kill").exists()
    assert (tmp_path / "risk.db.kill.done").read_text() == "enough"
    assert saved.of("gate")["operator"]["state"] == "HALTED"


def test_the_halt_is_saved_before_the_kill_file_is_renamed(tmp_path, monkeypatch):
    replace, states = os.replace, []

    def recorded(source, target):
        if str(source).endswith(".kill"):
            states.append(read_state(tmp_path / "risk.db").of("gate").get("operator"))
        replace(source, target)

    monkeypatch.setattr("bt_risk.state.inbox.os.replace", recorded)
    killed(tmp_path, buys=False)  # an order to sell would save the state, too
    (state,) = states
    assert state["state"] == "HALTED"
    assert state["flattening"]


def test_a_kill_file_that_cannot_be_renamed_is_taken_once_and_said_once(tmp_path, monkeypatch):
    replace = os.replace

    def refused(source, target):
        if str(source).endswith(".kill"):
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr("bt_risk.state.inbox.os.replace", refused)
    saved = killed(tmp_path)
    assert held(saved) == 0
    taken, problem = by_operator(saved)
    assert taken.startswith("operator: flatten by risk.db.kill")
    assert "cannot be renamed (Permission denied)" in problem
    assert "delete it" in problem


def test_a_kill_file_is_taken_while_the_state_file_is_busy(tmp_path, monkeypatch):
    class Busy(Kills):
        folder = tmp_path

        def next(self):
            super().next()
            if len(self) == 22:
                self.other = sqlite3.connect(tmp_path / "risk.db", isolation_level=None)
                self.other.execute("BEGIN EXCLUSIVE")
            if len(self) == 25:
                self.size_while_busy = self.position.size
                self.other.close()

    opened = state_file.open_database

    def impatient(*args, **kwargs):
        db = opened(*args, **kwargs)
        db.execute("PRAGMA busy_timeout = 1")
        return db

    monkeypatch.setattr(state_file, "open_database", impatient)
    rows = [*HELD, *flat(4, price=108.0)]
    strategy = run(tmp_path, rows=rows, strategy=Busy, live={"clock": Clock()})
    assert strategy.size_while_busy == 0
    assert not (tmp_path / "risk.db.kill").exists()


def test_a_kill_file_from_before_the_start_closes_what_an_earlier_run_held(tmp_path):
    run(tmp_path, rows=HELD)
    (tmp_path / "risk.db.kill").touch()
    rows = [*HELD, *flat(4, price=108.0)]
    run(tmp_path, rows=rows, live={"clock": Clock()})
    assert held(read_state(tmp_path / "risk.db")) == 0


def test_a_kill_file_closes_a_position_that_is_known_only_later(tmp_path, monkeypatch):
    """The state is lost, and the data feed has no bar for some rounds."""
    run(tmp_path, rows=HELD)
    for file in tmp_path.glob("risk.db*"):
        file.unlink()
    (tmp_path / "risk.db.kill").touch()
    begin = PersistentFeed.start

    def begin_late(self):
        begin(self)
        self._wait = 5

    monkeypatch.setattr(PersistentFeed, "start", begin_late)
    rows = [*HELD, *flat(4, price=108.0)]
    run(tmp_path, rows=rows, live={"clock": Clock()})
    saved = read_state(tmp_path / "risk.db", 1000)
    assert held(saved) == 0
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 0
    assert "no position is known, and D0 has not been compared" in by_operator(saved)[0]


# -- files of version 1 --------------------------------------------------------------------------

V1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE trades (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE decisions (number INTEGER PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE requests (number INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL);
INSERT INTO requests (verb) VALUES ('rearm');
INSERT INTO meta VALUES ('run', '3');
PRAGMA application_id = 1651798561;
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(tmp_path):
    """Return the path of a state file of version 1, with a request."""
    path = tmp_path / "risk.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(V1)
    return path


def version(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_a_file_of_version_1_is_migrated_with_its_requests(old):
    assert read_state(old).requests == [OperatorRequest("rearm", number=1)]
    assert version(old) == 1
    file = StateFile(old)
    assert file.saved.requests == [OperatorRequest("rearm", number=1)]
    assert file.saved.meta["run"] == "4"
    file.close()
    assert version(old) == schema.VERSION
    assert not list(old.parent.glob("*.damaged*"))


def test_a_migration_that_is_interrupted_leaves_version_1(old, monkeypatch):
    monkeypatch.setattr(schema, "_TO_2", schema._TO_2 + "SELECT die();")

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def with_function(*args, **kwargs):
        db = connect(*args, **kwargs)
        db.create_function("die", 0, die)
        return db

    monkeypatch.setattr(sqlite3, "connect", with_function)
    assert in_child(StateFile, old) == signal.SIGKILL
    monkeypatch.undo()
    assert version(old) == 1
    StateFile(old).close()
    assert version(old) == schema.VERSION


def test_a_request_migrates_a_file_of_version_1_that_no_process_uses(old):
    assert request(old, OperatorRequest("halt", ANN, AT)) == 2
    assert version(old) == schema.VERSION
    assert [one.verb for one in read_state(old).requests] == ["rearm", "halt"]


def test_a_request_to_a_run_of_an_older_version_says_so(old):
    lock = state_file.take_lock(old)
    with pytest.raises(bt_risk.StateError, match="of an older bt_risk"):
        request(old, OperatorRequest("halt", ANN, AT))
    lock.close()
    assert version(old) == 1


def test_old_answers_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_REMEMBERED", 2)
    file = StateFile(tmp_path / "risk.db")
    answers = [tables.Answer(number, "halt", ANN, AT, "done") for number in range(1, 6)]
    file.write({}, answers=answers)
    file.close()
    found = [answer(tmp_path / "risk.db", number) for number in range(1, 6)]
    assert found == [None, None, None, "done", "done"]
