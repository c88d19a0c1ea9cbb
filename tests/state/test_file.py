"""The state file: all of a write is in it, or nothing of it."""

import os
import signal

import pytest
from helpers.restarts import in_child

from bt_risk.state.file import StateFile, answer, read_state, request
from bt_risk.state.requests import Answer, OperatorRequest

KEY = ("position", "D0/0")


def contents(path):
    """Return what the file holds, each kind of thing by itself."""
    saved = read_state(path, 100)
    return saved.records, saved.trades, saved.decisions, saved.requests


def write_and_die(path, dies):
    """Write every kind of thing in one go, and die while the one that is named is written."""

    def rows(name, *values):
        yield from values
        if name == dies:
            os.kill(os.getpid(), signal.SIGKILL)

    StateFile(path).write(
        {KEY: '{"size": 20}', ("order", "new"): '{"side": 1}'},
        rows("removed", ("order", "old")),
        rows("trades", ("V2/0", '{"pnl": 2.0}')),
        rows("decisions", ('["second"]', "c-1", 0.0)),
        rows("answers", Answer(1, "rearm", "ann@desk", 0.0, "entries pass again")),
        rows("events", ("c-1", 0.0, '{"what": "ended"}')),
    )


@pytest.fixture
def path(tmp_path):
    """Return the path of a file that holds one thing of every kind."""
    path = tmp_path / "risk.db"
    file = StateFile(path)
    file.write(
        {KEY: '{"size": 10}', ("order", "old"): '{"side": -1}'},
        trades=[("V1/0", '{"pnl": 1.0}')],
        decisions=[('["first"]', "", 0.0)],
    )
    file.close()
    request(path, OperatorRequest("rearm", "ann@desk", 0.0))
    return path


@pytest.mark.parametrize("dies", ["removed", "trades", "decisions", "answers", "events"])
def test_a_process_that_dies_within_a_write_leaves_the_last_state_whole(path, dies):
    before = contents(path)
    assert in_child(write_and_die, path, dies) == signal.SIGKILL
    assert contents(path) == before


def test_a_write_that_is_not_interrupted_changes_all_of_it(path):
    assert in_child(write_and_die, path, "nothing") == 0
    records, trades, decisions, requests = contents(path)
    assert records == {KEY: {"size": 20}, ("order", "new"): {"side": 1}}
    assert list(trades) == ["V1/0", "V2/0"]
    assert decisions == [["first"], ["second"]]
    assert requests == []
    assert answer(path, 1) == "entries pass again"


def test_an_error_within_a_write_leaves_the_last_state_whole(path):
    before = contents(path)
    file = StateFile(path)

    def broken():
        yield "V2/0", '{"pnl": 2.0}'
        raise RuntimeError("no such trade")

    with pytest.raises(RuntimeError, match="no such trade"):
        file.write({KEY: '{"size": 20}'}, trades=broken())
    file.close()
    assert contents(path) == before
