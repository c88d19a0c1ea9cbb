"""The lock of a state file: one run has the file, by whatever name, until its process ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
from helpers.restarts import in_child, start_child, status_of

import bt_risk
from bt_risk.state.file import StateFile, is_running, read_state
from bt_risk.state.lock import unused


@pytest.fixture
def path(tmp_path):
    """Return the path of a state file that a run has used."""
    path = tmp_path / "risk.db"
    file = StateFile(path)
    file.write({("run", "x"): '{"is": 1}'})
    file.close()
    return path


@pytest.fixture
def held(path, tmp_path):
    """Let another process have the file open, and end it by SIGKILL."""

    def holds():
        file = StateFile(path)
        file.write({("run", "x"): '{"is": 2}'})
        (tmp_path / "ready").touch()
        time.sleep(120)

    pid = start_child(holds)
    wait_for((tmp_path / "ready").exists)
    yield pid
    os.kill(pid, signal.SIGKILL)
    status_of(pid)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def itself(path):
    return path


def symbolic_link(path):
    link = path.with_name("link.db")
    link.symlink_to(path)
    return link


def link_to_a_link(path):
    link = path.with_name("second.db")
    link.symlink_to(symbolic_link(path).name)
    return link


def linked_folder(path):
    folder = path.parent / "folder"
    folder.symlink_to(path.parent)
    return folder / path.name


def hard_link(path):
    link = path.with_name("hard.db")
    os.link(path, link)
    return link


def relative(path):
    return os.path.relpath(path)


def moved(path):
    """Another process uses it under its old name."""
    return path.rename(path.with_name("moved.db"))


def without_lock_file(path):
    path.with_name("risk.db-lock").unlink()
    return path


NAMES = [itself, symbolic_link, link_to_a_link, linked_folder, hard_link, relative, moved]


@pytest.mark.parametrize("name", [*NAMES, without_lock_file])
def test_no_second_process_gets_a_file_that_a_run_has(path, held, name):
    other = name(path)
    assert is_running(other)
    with pytest.raises(bt_risk.StateError, match="in use"):
        StateFile(other)
    os.kill(held, signal.SIGKILL)
    wait_for(lambda: not is_running(other))


@pytest.mark.parametrize("name", [*NAMES, without_lock_file])
def test_no_second_run_of_the_process_gets_it_either(path, name):
    file = StateFile(path)
    other = name(path)
    assert is_running(other)
    with pytest.raises(bt_risk.StateError, match="in use"):
        StateFile(other)
    file.close()
    assert not is_running(other)


@pytest.mark.parametrize("name", [itself, symbolic_link, relative, without_lock_file])
def test_status_of_a_run_is_read_by_every_name(path, held, name):
    found = read_state(name(path))
    assert found.of("run")["x"] == {"is": 2}
    assert found.meta["process"] == str(held)
    assert not found.lost


def test_a_hard_link_of_a_file_in_use_is_not_read_past_its_wal(path, held):
    """SQLite's files are those of the other name: the state would be an old one."""
    with pytest.raises(bt_risk.StateError, match="in use under another name"):
        read_state(hard_link(path))
    with pytest.raises(bt_risk.StateError, match="in use under another name"):
        StateFile(path.with_name("hard.db"))


def test_a_run_holds_the_name_although_the_file_was_replaced(path, held):
    """A backup that is copied over the file is another file, and the account is the same."""
    backup = path.with_name("backup")
    backup.write_bytes(path.read_bytes())
    os.replace(backup, path)
    assert is_running(path)
    with pytest.raises(bt_risk.StateError, match="in use"):
        StateFile(path)


def test_a_run_that_is_killed_frees_the_file(path, held):
    os.kill(held, signal.SIGKILL)
    wait_for(lambda: not is_running(path))
    file = StateFile(path)
    assert file.saved.of("run")["x"] == {"is": 2}
    file.close()


def test_a_child_that_outlives_the_run_does_not_hold_its_lock(path, tmp_path):
    """A strategy may start workers by fork: they end later than a run that is killed."""

    def runs():
        StateFile(path)
        start_child(outlives)
        wait_for((tmp_path / "started").exists)
        os.kill(os.getpid(), signal.SIGKILL)

    def outlives():
        (tmp_path / "started").touch()
        wait_for((tmp_path / "done").exists)
        os._exit(0)

    try:
        assert in_child(runs) == signal.SIGKILL
        assert not is_running(path)
        StateFile(path).close()
    finally:
        (tmp_path / "done").touch()


def test_to_ask_within_the_process_of_the_run_ends_no_lock_of_it(path):
    """To open and close a file ends the POSIX locks of its process, which SQLite needs."""
    file = StateFile(path)
    without_lock_file(path)
    for _ in range(3):
        assert is_running(path)
        read_state(path)
        with pytest.raises(bt_risk.StateError):
            StateFile(path)

    # Another program that is the last to close the file would delete its -wal.
    looks = (
        "import sqlite3; db = sqlite3.connect('risk.db'); list(db.execute('SELECT * FROM meta'))"
    )
    subprocess.run([sys.executable, "-c", f"{looks}; db.close()"], cwd=path.parent, check=True)
    assert path.with_name("risk.db-wal").exists()
    file.write({("run", "x"): '{"is": 3}'})
    assert read_state(path).of("run")["x"] == {"is": 3}
    file.close()


def test_somebody_who_reads_is_no_run(path):
    with closing(unused(path)):
        assert not is_running(path)
        assert read_state(path).of("run")["x"] == {"is": 1}


def test_a_run_waits_for_somebody_who_reads(path):
    def reads():
        with closing(unused(path)):
            (path.parent / "reads").touch()
            time.sleep(0.3)

    pid = start_child(reads)
    wait_for((path.parent / "reads").exists)
    StateFile(path).close()
    assert status_of(pid) == 0


def test_to_ask_makes_no_files(tmp_path):
    assert not is_running(tmp_path / "risk.db")
    (tmp_path / "copy.db").touch()
    assert not is_running(tmp_path / "copy.db")
    assert [one.name for one in tmp_path.iterdir()] == ["copy.db"]
