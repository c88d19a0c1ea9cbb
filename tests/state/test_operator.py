"""bt-risk status and bt-risk rearm, as an operator uses them: on a run that is there or gone."""

import os
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from helpers.command_line import command_in
from helpers.restarts import ROWS, Wants, in_child, killed_run, run, start_child, status_of
from helpers.scenarios import flat

import bt_risk
from bt_risk.cli.operate import whoami
from bt_risk.state.file import StateFile, is_running, read_state
from bt_risk.state.schema import VERSION


@pytest.fixture
def command(monkeypatch, capsys):
    return command_in(160, monkeypatch, capsys)


def test_status_of_a_run_that_was_killed_with_a_position(tmp_path, command):
    in_child(killed_run, tmp_path, 40, after=True)
    status, out, err = command("status", tmp_path / "risk.db")
    assert (status, err) == (0, "")
    assert "no run has it open" in out
    assert "gate ACTIVE" in out
    assert "breaker ARMED: 0.00 % below the mark of 101," in out
    row = next(line for line in out.splitlines() if line.strip().startswith("D0"))
    assert [cell.strip() for cell in row.split("│")][:4] == ["D0", "+100", "100", "99.31778"]
    assert "allow" in out


def test_status_of_a_halt_says_why_and_rearm_ends_it_with_the_next_run(tmp_path, command):
    run(tmp_path)
    path = tmp_path / "risk.db"
    out = command("status", path)[1]
    assert "gate HALTED: DrawdownBreaker: drawdown 0.0921 >= drawdown_limit 0.0600" in out
    assert "2 closed trades" in out
    assert "No position when this was saved. The broker may hold something else by now." in out
    status, out, _ = command("rearm", path)
    assert status == 0
    assert "no run has it open; `rearm` is taken when the next run starts" in out
    assert "`rearm` is requested by" in command("status", path)[1]
    run(tmp_path, rows=[*ROWS, *flat(2, price=89.0)])
    out = command("status", path)[1]
    assert "gate ACTIVE" in out
    assert "+1000" in out
    assert command("rearm", path)[1].endswith("nothing is halted\n")


AFTER = flat(8, price=89.0)


class Waits(Wants):
    """Wait after `ROWS` until the operator has acted, and at the end until they have the answer."""

    def next(self):
        super().next()
        folder = self.cerebro.folder
        if len(self) == len(ROWS):
            (folder / "ready").touch()
        if len(self) == len(ROWS) + 1:
            wait_for(lambda: read_state(folder / "risk.db").requests)
            time.sleep(1.0)  # the next round takes it
        if len(self) == len(ROWS) + len(AFTER):
            wait_for((folder / "answered").exists)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_running_process_picks_a_rearm_up(tmp_path, command, monkeypatch):
    """It holds the lock all the while: the request needs none."""
    monkeypatch.setattr("backtrader.Cerebro.folder", tmp_path, raising=False)
    run(tmp_path)
    pid = start_child(run, tmp_path, rows=[*ROWS, *AFTER], strategy=Waits)
    wait_for((tmp_path / "ready").exists)
    assert is_running(tmp_path / "risk.db")
    assert f"in use by process {pid}" in command("status", tmp_path / "risk.db")[1]
    assert "entries pass again" in command("rearm", tmp_path / "risk.db")[1]
    (tmp_path / "answered").touch()
    assert status_of(pid) == 0
    saved = read_state(tmp_path / "risk.db", 100)
    assert not saved.requests
    assert [line[3] for line in saved.decisions if line[2] == "DrawdownBreaker"].count("rearm") == 1


@pytest.mark.parametrize("verb", ["halt", "reduce", "flatten"])
def test_a_request_without_a_run_says_when_it_is_taken(tmp_path, command, verb):
    run(tmp_path, rows=ROWS[:23])
    path = tmp_path / "risk.db"
    status, out, err = command(verb, path, "--reason", "news", "--who", "ann@desk")
    assert (status, err) == (0, "")
    assert f"no run has it open; `{verb}` is taken when the next run starts" in out
    (saved,) = read_state(path).requests
    assert (saved.verb, saved.who, saved.args) == (verb, "ann@desk", {"reason": "news"})
    run(tmp_path, rows=[*ROWS[:23], *flat(4, price=108.0)])
    saved = read_state(path)
    assert sum(part["size"] for part in saved.of("position").values()) == 100 * (verb != "flatten")
    assert saved.of("gate")["operator"]["reason"] == f"news ({verb} by ann@desk)"


def test_resume_without_a_run_names_rearm_where_a_breaker_has_tripped(tmp_path, command):
    run(tmp_path)
    path = tmp_path / "risk.db"
    status, out, err = command("resume", path)
    assert (status, out) == (2, "")
    assert "HALTED: DrawdownBreaker: drawdown 0.0921 >= drawdown_limit 0.0600" in err
    assert f"`bt-risk rearm {path}` is the verb" in err
    assert not read_state(path).requests
    command("halt", path)
    assert "`resume` is taken when the next run starts" in command("resume", path)[1]


def test_resume_without_a_run_and_without_a_halt_leaves_no_request(tmp_path, command):
    run(tmp_path, rows=ROWS[:23])
    assert command("resume", tmp_path / "risk.db")[1].endswith("nothing is halted\n")
    assert not read_state(tmp_path / "risk.db").requests


def test_resume_with_an_answer_about_the_stops_is_taken_where_there_is_a_question(
    tmp_path, command
):
    run(tmp_path, rows=ROWS[:23])
    path = tmp_path / "risk.db"
    status, out, _ = command("resume", "--stops-are-gone", path)
    assert (status, out) == (0, f"{path}: no stop of an earlier run is in question\n")
    run(tmp_path, rows=ROWS[:25], lists="none")
    assert "gate REDUCING: state: the broker lists no orders" in command("status", path)[1]
    status, out, err = command("resume", path)
    assert status != 0
    assert "Give it --stops-are-gone or --stops-are-there." in out + err
    assert (
        "exclude each other" in command("resume", "--stops-are-gone", "--stops-are-there", path)[2]
    )
    status, out, _ = command("resume", "--stops-are-there", path)
    assert status == 0
    assert "taken when the next run starts" in out
    assert run(tmp_path, rows=ROWS[:25], lists="none").broker.state == "ACTIVE"


def test_a_process_that_does_not_answer_is_named(tmp_path, command, monkeypatch):
    monkeypatch.setattr("bt_risk.cli.operate.PATIENCE", 0.1)
    held = StateFile(tmp_path / "risk.db")
    status, out, _ = command("flatten", tmp_path / "risk.db")
    assert status == 0
    assert f"process {os.getpid()} has not answered within 0.1 s. The request stays" in out
    held.close()


def test_who_asks_is_the_user_at_this_host_unless_it_is_said(tmp_path, command):
    StateFile(tmp_path / "risk.db").close()
    command("halt", tmp_path / "risk.db")
    (saved,) = read_state(tmp_path / "risk.db").requests
    assert saved.who == whoami()
    assert abs(saved.at - time.time()) < 60


def test_a_run_that_refuses_gives_another_status(tmp_path, command, monkeypatch):
    monkeypatch.setattr("bt_risk.cli.operate.is_running", lambda path: True)
    monkeypatch.setattr("bt_risk.cli.operate.answer", lambda path, number: "not possible: no")
    StateFile(tmp_path / "risk.db").close()
    status, out, _ = command("resume", tmp_path / "risk.db")
    assert (status, out) == (1, f"{tmp_path / 'risk.db'}: not possible: no\n")


def test_the_lock_ends_with_the_process_that_is_killed(tmp_path):
    def hold():
        StateFile(tmp_path / "risk.db")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(hold) == signal.SIGKILL
    assert not is_running(tmp_path / "risk.db")
    StateFile(tmp_path / "risk.db").close()


def test_a_second_process_is_told_who_has_the_file(tmp_path):
    held = StateFile(tmp_path / "risk.db")

    def second():
        with pytest.raises(bt_risk.StateError, match=f"in use by process {os.getppid()}"):
            StateFile(tmp_path / "risk.db")

    assert in_child(second) == 0
    held.close()


@pytest.mark.parametrize("word", ["status", "rearm"])
def test_a_file_that_is_not_there_is_an_error_and_is_not_made(tmp_path, command, word):
    status, _, err = command(word, tmp_path / "risk.db")
    assert status == 2
    assert "risk.db does not exist" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["status", "rearm"])
def test_a_damaged_file_is_an_error_that_says_how_to_go_on(tmp_path, command, word):
    path = tmp_path / "risk.db"
    path.write_bytes(b"no database" * 1000)
    status, _, err = command(word, path)
    assert status == 2
    assert "cannot be read" in err
    assert "start the run" in err


def change(path, statement):
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


def test_a_file_of_a_newer_version_is_an_error_everywhere(tmp_path, command):
    run(tmp_path, rows=ROWS[:19])
    change(tmp_path / "risk.db", f"PRAGMA user_version = {VERSION + 1}")
    before = (tmp_path / "risk.db").read_bytes()
    reads = f"version {VERSION + 1}, and this bt_risk reads version {VERSION}"
    with pytest.raises(bt_risk.StateError, match=reads):
        run(tmp_path, rows=ROWS[:19])
    assert command("status", tmp_path / "risk.db")[0] == 2
    assert (tmp_path / "risk.db").read_bytes()[100:] == before[100:]


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "risk.db"
    change(path, "CREATE TABLE mine (x)")
    with pytest.raises(bt_risk.StateError, match="database of something else"):
        StateFile(path)
    change(path, "INSERT INTO mine VALUES (1)")


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(bt_risk.StateError, match="the folder of"):
        StateFile(tmp_path / "no" / "risk.db")


def test_the_file_is_whole_by_itself_after_the_run(tmp_path):
    run(tmp_path, rows=ROWS[:23])
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "risk.db").write_bytes((tmp_path / "risk.db").read_bytes())
    assert read_state(copy / "risk.db").records == read_state(tmp_path / "risk.db").records
    assert {path.name for path in tmp_path.glob("risk.db*")} == {"risk.db", "risk.db-lock"}


def test_a_lifetime_limit_cannot_be_rearmed(tmp_path, command):
    policy = bt_risk.Policy(
        risk_limit=None,
        notional_limit=None,
        exposure_limit=None,
        correlation_limit=None,
        drawdown_limit=None,
        lifetime_limit=0.06,
        atr_multiple=5.0,
    )
    run(tmp_path, policy=policy)
    status, _, err = command("rearm", tmp_path / "risk.db")
    assert status == 2
    assert "cannot be re-armed" in err
