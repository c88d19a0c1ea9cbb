"""A state file that lost a part fails closed; one that is whole never does."""

import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing

import pytest
from helpers.restarts import ROWS, in_child, run
from helpers.scenarios import flat

import bt_risk
from bt_risk.cli import app as cli
from bt_risk.state.file import StateFile, read_state, request
from bt_risk.state.requests import OperatorRequest

SIZE, HALT = ("note", "size"), ("gate", "operator")
HALTED = '{"state": "HALTED", "reason": "lunch", "flattening": ""}'


def die_in_use(path, *writes):
    """Open the file in another process, make these writes, and die without an end."""

    def work():
        file = StateFile(path)
        for size, halts in writes:
            changed = {SIZE: f'{{"size": {size}}}'} | ({HALT: HALTED} if halts else {})
            file.write(changed, halts=halts)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == signal.SIGKILL


@pytest.fixture
def path(tmp_path):
    """Return the path of a file whose process died: a halt is in the file, later writes are not."""
    path = tmp_path / "risk.db"
    StateFile(path).close()
    die_in_use(path, (1, False), (2, True), (3, False), (4, False))
    return path


def wal_of(path):
    return path.with_name(f"{path.name}-wal")


def empty(path):
    path.write_bytes(b"")


def one_byte(path):
    path.write_bytes(path.read_bytes()[:1])


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_wal(path):
    wal_of(path).unlink()


def empty_wal(path):
    wal_of(path).write_bytes(b"")


def zeros_in_wal(path):
    wal_of(path).write_bytes(bytes(wal_of(path).stat().st_size))


def wal_without_pages(path):
    wal_of(path).write_bytes(wal_of(path).read_bytes()[:100])


def wal_of_another_file(path):
    other = path.with_name("other.db")
    die_in_use(other, (7, False))
    shutil.move(wal_of(other), wal_of(path))


def older_file(path):
    """A copy of before the halt comes back beside the -wal of after it."""
    whole, before = path.read_bytes(), path.with_name("before.db")
    path.unlink()
    wal_of(path).unlink()
    StateFile(path).close()
    shutil.copy(path, before)
    die_in_use(path, (1, False), (2, True), (3, False))
    shutil.copy(before, path)
    assert whole


def wal_of_before_the_halt(path):
    """The -wal comes back as it was before the halt was copied to the file."""
    path.unlink()
    wal_of(path).unlink()

    def work():
        file = StateFile(path)
        file.write({SIZE: '{"size": 1}'})
        older = wal_of(path).read_bytes()
        file.write({HALT: HALTED}, halts=True)
        wal_of(path).write_bytes(older)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == signal.SIGKILL


INCOMPLETE = {
    no_wal: "did not end, and risk.db-wal is missing or empty",
    empty_wal: "did not end, and risk.db-wal is missing or empty",
    zeros_in_wal: "did not end, and risk.db-wal is missing or empty",
    wal_without_pages: "did not end, and risk.db-wal is missing or empty",
    wal_of_another_file: "risk.db-wal belongs to another file",
    older_file: "it is older than risk.db-wal",
    wal_of_before_the_halt: "risk.db-wal is older than the file, or was cut short",
}
UNREADABLE = {
    empty: "was damaged (it is empty)",
    one_byte: "was damaged (file is not a database)",
    half: "was damaged (",
}


@pytest.fixture
def status(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")

    def call(path, verb="status"):
        monkeypatch.setattr(sys, "argv", ["bt-risk", verb, str(path)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code or 0, " ".join(capsys.readouterr())

    return call


def names(path):
    return sorted(one.name for one in path.parent.glob(f"{path.name}*"))


@pytest.mark.parametrize(("loses", "why"), (INCOMPLETE | UNREADABLE).items())
def test_a_lost_part_is_set_aside_and_entries_are_refused(path, loses, why):
    loses(path)
    before = path.read_bytes()
    file = StateFile(path)
    assert why in file.lost
    assert file.lost.endswith("and has been renamed to risk.db.damaged")
    assert path.with_name("risk.db.damaged").read_bytes() == before
    gate = file.saved.of("gate")["state"]
    assert gate["state"] == "REDUCING"
    assert gate["reason"] == f"state: {file.lost}: no entries until `bt-risk rearm {path}`"
    assert SIZE not in file.saved.records
    file.close()
    again = StateFile(path)  # before the first round of a run has written anything
    assert again.saved.of("gate")["state"] == gate
    again.close()


@pytest.mark.parametrize("loses", UNREADABLE)
def test_status_of_an_unreadable_file_says_why(path, loses, status):
    loses(path)
    code, text = status(path)
    assert code == 2
    assert "cannot be read" in text
    assert "empty" in text or loses is not empty
    assert status(path, "rearm")[0] == 2


@pytest.mark.parametrize("loses", INCOMPLETE)
def test_status_shows_what_an_incomplete_file_has_and_says_that_it_is(path, loses, status):
    loses(path)
    code, text = status(path)
    assert code == 2
    assert f"INCOMPLETE: {read_state(path).lost}" in text
    code, text = status(path, "rearm")
    assert code == 2
    assert "start the run" in text  # the run would set the request aside with the file


@pytest.mark.parametrize("loses", [no_wal, empty_wal, zeros_in_wal, wal_of_before_the_halt])
def test_a_halt_outlives_the_loss_of_what_came_after_it(path, loses):
    loses(path)
    assert read_state(path).of("gate")["operator"]["reason"] == "lunch"
    file = StateFile(path)
    assert file.saved.of("gate")["operator"]["reason"] == "lunch"
    file.close()


def test_a_missing_file_beside_its_lock_is_lost(path, status):
    path.unlink()
    wal_of(path).unlink()
    code, text = status(path)
    assert code == 2
    assert "risk.db is missing, and risk.db-lock shows that a run has used it" in text
    strategy = run(path.parent, rows=ROWS[:23])
    state, reason = strategy.broker.trading_state.why
    assert state == "REDUCING"
    assert "risk.db is missing, and risk.db-lock shows that a run has used it" in reason


def test_a_missing_file_beside_its_wal_is_lost_and_the_wal_is_set_aside(path):
    path.unlink()
    path.with_name("risk.db-lock").unlink()
    file = StateFile(path)
    assert "risk.db is missing, and risk.db-wal shows" in file.lost
    assert not file.new
    file.close()
    assert "risk.db.damaged-wal" in names(path)


def test_a_file_that_was_only_touched_is_lost_and_a_rearm_goes_on(tmp_path):
    path = tmp_path / "risk.db"
    path.touch()
    strategy = run(tmp_path, rows=ROWS[:24])
    state, reason = strategy.broker.trading_state.why
    assert state == "REDUCING"
    assert "it is empty" in reason
    assert strategy.position.size == 0
    request(path, OperatorRequest("rearm"))
    assert run(tmp_path, rows=ROWS[:25]).broker.state == "ACTIVE"


def test_an_sqlite_file_without_tables_is_no_new_state(tmp_path):
    with closing(sqlite3.connect(tmp_path / "risk.db")) as db:
        db.execute("PRAGMA user_version = 1")
        db.execute("PRAGMA user_version = 0")
    file = StateFile(tmp_path / "risk.db")
    assert "it has no tables" in file.lost
    file.close()


def test_a_lifetime_limit_is_not_forgotten_with_the_wal(tmp_path):
    off = dict.fromkeys(("risk_limit", "notional_limit", "exposure_limit", "correlation_limit"))
    policy = bt_risk.Policy(**off, drawdown_limit=None, lifetime_limit=0.06, atr_multiple=5.0)

    def dies():
        write = StateFile.write

        def until_final(self, *args, **kwargs):
            write(self, *args, **kwargs)
            found = read_state(self.path).of("breaker").get("0:", {"state": {"final": False}})
            if found["state"]["final"]:
                os.kill(os.getpid(), signal.SIGKILL)

        StateFile.write = until_final
        run(tmp_path, policy=policy)

    assert in_child(dies) == signal.SIGKILL
    wal_of(tmp_path / "risk.db").unlink()
    run(tmp_path, policy=policy)
    request(tmp_path / "risk.db", OperatorRequest("rearm"))
    broker = run(tmp_path, policy=policy, rows=[*ROWS, *flat(2, price=89.0)]).broker
    assert broker.state == "HALTED"
    assert read_state(tmp_path / "risk.db").of("breaker")["0:"]["state"]["final"]


# -- what is no loss -----------------------------------------------------------------------------


def nothing(path):
    """The next run finds it as the process has left it."""


def plain_sqlite(path):
    """Somebody looks with another program, which copies the -wal to the file at its end."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM records").fetchone()
    assert not wal_of(path).exists()


def bt_risk_status(path):
    before = path.read_bytes(), wal_of(path).read_bytes()
    read_state(path)
    assert (path.read_bytes(), wal_of(path).read_bytes()) == before


def request_of_an_operator(path):
    request(path, OperatorRequest("reduce"))


def no_shm(path):
    path.with_name("risk.db-shm").unlink()


def no_lock(path):
    path.with_name("risk.db-lock").unlink()


def moved(path):
    """All of it is moved elsewhere and back under another name of its folder."""
    folder = path.parent / "elsewhere"
    folder.mkdir()
    for name in names(path):
        shutil.move(path.parent / name, folder / name)
    for one in folder.iterdir():
        shutil.move(one, path.parent / one.name)


@pytest.mark.parametrize(
    "happens",
    [nothing, plain_sqlite, bt_risk_status, request_of_an_operator, no_shm, no_lock, moved],
)
def test_a_file_whose_process_died_is_whole_with_its_wal(path, happens):
    happens(path)
    assert read_state(path).lost == ""
    file = StateFile(path)
    assert file.lost == ""
    assert file.saved.records[SIZE] == {"size": 4}
    file.close()


def test_a_file_after_its_run_is_whole_by_itself_under_any_name(path):
    StateFile(path).close()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    assert read_state(copy).lost == ""
    assert names(copy) == ["copy.db"]  # to look at it leaves nothing behind
    file = StateFile(copy)
    assert file.lost == ""
    assert file.saved.records[SIZE] == {"size": 4}
    file.close()


def test_a_run_that_died_before_its_first_round_left_no_loss(tmp_path):
    path = tmp_path / "risk.db"
    die_in_use(path)
    file = StateFile(path)
    assert file.new
    file.close()


# -- a halt is in the file itself ----------------------------------------------------------------


def halted(saved):
    """Return what halts a run, by source."""
    found = {key: (one["state"], one["reason"]) for key, one in saved.of("gate").items()}
    breakers = {key: one["state"]["status"] for key, one in saved.of("breaker").items()}
    return found, breakers


def test_the_file_alone_shows_every_halt_as_soon_as_it_is_written(tmp_path, monkeypatch):
    """Of a breaker that trips, is flat and is re-armed, and of an operator who halts."""
    write, path, seen = StateFile.write, tmp_path / "risk.db", []

    def compared(self, *args, **kwargs):
        write(self, *args, **kwargs)
        alone = tmp_path / "alone.db"
        shutil.copy(path, alone)
        now = halted(read_state(path))
        if now[1]:
            assert halted(read_state(alone)) == now
            seen.append((sorted(now[0]), *now[1].values()))

    monkeypatch.setattr(StateFile, "write", compared)
    run(tmp_path)
    request(path, OperatorRequest("halt", "ann", 1.0, {"reason": "lunch"}))
    request(path, OperatorRequest("rearm"))
    rows = [*ROWS, *flat(2, price=89.0)]
    run(tmp_path, rows=rows)
    assert {status for _, status in seen} >= {"ARMED", "TRIPPED"}
    assert {tuple(sources) for sources, _ in seen} >= {()}


def test_a_copy_of_the_file_of_a_run_that_was_killed_in_a_halt_trades_nothing(tmp_path):
    def dies():
        file = StateFile(tmp_path / "risk.db")
        file.write({HALT: HALTED}, halts=True)
        file.write({SIZE: '{"size": 1}'})
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(dies) == signal.SIGKILL
    copy = tmp_path / "mounted"
    copy.mkdir()
    shutil.copy(tmp_path / "risk.db", copy / "risk.db")
    strategy = run(copy, rows=ROWS[:24])
    assert strategy.broker.state == "HALTED"
    assert strategy.position.size == 0


def test_somebody_who_reads_delays_the_copy_and_the_next_write_makes_it(tmp_path):
    path, alone = tmp_path / "risk.db", tmp_path / "alone.db"
    file = StateFile(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM records").fetchall()
        file.write({HALT: HALTED}, halts=True)
        shutil.copy(path, alone)
        assert not read_state(alone).of("gate")
        reader.execute("COMMIT")
        file.write({SIZE: '{"size": 1}'})
        shutil.copy(path, alone)
    assert read_state(alone).of("gate")["operator"]["reason"] == "lunch"
    file.close()


def test_the_wal_is_copied_to_the_file_now_and_then(tmp_path):
    file = StateFile(tmp_path / "risk.db")
    for size in range(1000):
        file.write({SIZE: f'{{"size": {size}}}'})
    assert wal_of(tmp_path / "risk.db").stat().st_size < 5e6
    shutil.copy(tmp_path / "risk.db", tmp_path / "alone.db")
    assert read_state(tmp_path / "alone.db").records[SIZE]["size"] > 800
    file.close()


@pytest.mark.parametrize("loses", [no_wal, empty_wal])
def test_the_wal_of_a_run_that_was_never_halted_is_missed_too(tmp_path, loses):
    path = tmp_path / "risk.db"
    StateFile(path).close()
    die_in_use(path, (1, False))
    loses(path)
    file = StateFile(path)
    assert "risk.db-wal is missing or empty" in file.lost
    file.close()
