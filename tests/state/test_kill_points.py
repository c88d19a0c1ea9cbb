"""A process may die between any two statements: the last whole write is what the next run finds."""

import os
import signal
import sqlite3

import pytest
from helpers.restarts import in_child

from bt_risk.state.file import StateFile, read_state
from bt_risk.state.requests import Answer

HALT = ("gate", "operator")
BEFORE = {("order", "old"): {"side": -1}, ("position", "D0/0"): {"size": 10}}
AFTER = {
    ("order", "new"): {"side": 1},
    ("position", "D0/0"): {"size": 20},
    HALT: {"state": "HALTED", "reason": "lunch", "flattening": ""},
}


def write(file, halts):
    file.write(
        {
            ("order", "new"): '{"side": 1}',
            ("position", "D0/0"): '{"size": 20}',
            HALT: '{"state": "HALTED", "reason": "lunch", "flattening": ""}',
        },
        [("order", "old")],
        [("V2/0", '{"pnl": 2.0}')],
        [('["second"]', "", 2.0)],
        [Answer(1, "halt", "ann", 2.0, "done")],
        [("new", 2.0, '{"side": 1}')],
        halts=halts,
    )


@pytest.fixture
def path(tmp_path):
    """Return the path of a file whose process has died after a write."""
    path = tmp_path / "risk.db"

    def dies():
        file = StateFile(path)
        file.write(
            {("order", "old"): '{"side": -1}', ("position", "D0/0"): '{"size": 10}'},
            decisions=[('["first"]', "", 1.0)],
        )
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(dies) == signal.SIGKILL
    return path


def statements(work, *args, at=0):
    """Do `work` in a process of its own that dies before statement `at`; 0 lets it end.

    Return the statements of all its connections.
    """
    reader, writer = os.pipe()
    connect = sqlite3.connect

    def count(statement):
        os.write(writer, statement.split()[0].encode() + b"\n")
        seen.append(statement)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(*args, **kwargs):
        db = connect(*args, **kwargs)
        db.set_trace_callback(count)
        return db

    def child():
        sqlite3.connect = traced
        work(*args)
        os._exit(0)  # an end without `close`

    seen = []
    assert in_child(child) == (signal.SIGKILL if at else 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return pipe.read().split()


def deaths(folder, work, *args, every=1):
    """Yield after each death, before every statement or every so many, of the same files."""
    saved = {one: one.read_bytes() for one in folder.iterdir()}

    def restore():
        for one in folder.iterdir():
            one.unlink()
        for one, content in saved.items():
            one.write_bytes(content)

    count = len(statements(work, *args))
    assert count > 10
    for number in range(count, 0, -every)[::-1]:
        restore()
        assert len(statements(work, *args, at=number)) == number
        yield number


def writes(path, halts):
    write(StateFile(path), halts)


@pytest.mark.parametrize("halts", [False, True])
def test_a_process_that_dies_at_any_statement_leaves_the_last_whole_write(path, halts):
    """From the opening of the file to the copy of a halt from the -wal to the file."""
    committed = []
    for _ in deaths(path.parent, writes, path, halts, every=1 if halts else 3):
        found = read_state(path, 100)
        committed.append(found.records == AFTER)
        assert not found.lost
        assert found.records == (AFTER if committed[-1] else BEFORE)
        assert len(found.decisions) == 1 + committed[-1]
        assert len(found.trades) == committed[-1]
        file = StateFile(path)
        assert not file.lost
        assert file.saved.records == found.records
        file.close()
        assert read_state(path, 100).records == found.records
    assert committed == sorted(committed)  # once it is written, it stays
    assert not committed[0]
    assert committed[-1] == halts  # without a halt nothing follows the commit


def test_a_halt_is_in_the_file_alone_from_the_copy_on(path):
    shown = []
    for _ in deaths(path.parent, writes, path, True, every=2):
        alone = path.with_name("alone.db")
        alone.write_bytes(path.read_bytes())
        shown.append(HALT in read_state(alone).records)
        alone.unlink()
    assert shown == sorted(shown)
    assert shown[-1]


def test_a_first_start_that_dies_leaves_no_file_that_is_trusted_by_mistake(tmp_path):
    path = tmp_path / "risk.db"
    for _ in deaths(tmp_path, StateFile, path, every=2):
        file = StateFile(path)
        assert file.new or "is missing" in file.lost
        assert file.new or file.saved.of("gate")["state"]["state"] == "REDUCING"
        file.close()


def test_a_start_on_a_lost_state_that_dies_refuses_entries_all_the_same(path):
    path.write_bytes(b"")
    for _ in deaths(path.parent, StateFile, path, every=2):
        file = StateFile(path)
        assert file.saved.of("gate")["state"]["state"] == "REDUCING"
        file.close()
