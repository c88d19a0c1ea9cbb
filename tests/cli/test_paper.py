"""`bt-risk paper`: an exchange, the example and its status, by one command."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

import bt_risk
from bt_risk.paper import session
from bt_risk.paper.session import STATE, PaperSession, example_folder
from bt_risk.report.state_summary import summary
from bt_risk.state.file import StateFile, read_state

EXTRA = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("ccxt", "aiohttp")),
    reason="a paper run needs bt_risk[live]",
)


def command(*arguments):
    return [sys.executable, "-m", "bt_risk", *arguments]


def status(folder):
    done = subprocess.run(
        command("status", STATE, "--json"), cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def children_of(folder):
    """Return the processes that run in a folder."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd") == str(folder):
                found.append(int(name))
    return found


@EXTRA
def test_a_paper_run_trades_shows_its_status_and_leaves_a_state(tmp_path):
    done = subprocess.run(
        command("paper", "--speed", "10", "--bars", "80"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    log = (tmp_path / "bt-risk-paper.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert f"bt-risk status {STATE}" in done.stdout
    assert "drawdown_limit" in done.stdout  # the status was shown
    assert "Completed: +" in log
    assert "Traceback" not in log
    found = status(tmp_path)
    assert found["process"] is None
    assert children_of(tmp_path) == []


@EXTRA
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_ends_a_paper_run_and_its_processes(number, tmp_path):
    running = subprocess.Popen(
        command("paper", "--speed", "5"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 90
    while not (tmp_path / STATE).exists() or not beats(tmp_path / STATE):
        assert time.monotonic() < until
        assert running.poll() is None
        time.sleep(0.2)
    assert len(children_of(tmp_path)) == 3  # this one, the exchange, the example
    second = subprocess.run(command("paper"), cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 2
    assert f"another run uses {STATE}" in second.stderr
    running.send_signal(number)
    text, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "The run has ended" in text
    assert children_of(tmp_path) == []
    assert status(tmp_path)["process"] is None


def test_the_status_of_a_file_whose_run_has_just_begun(tmp_path, monkeypatch):
    path = tmp_path / STATE
    StateFile(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM meta WHERE key = 'process'")
    monkeypatch.setattr("bt_risk.report.state_summary.is_running", lambda path: True)
    assert summary(path, 0.0)["process"] is None


def beats(path):
    with contextlib.suppress(bt_risk.BtRiskError):
        return ("run", "heartbeat") in read_state(path).records
    return False


@EXTRA
def test_a_new_paper_run_begins_with_a_new_account(tmp_path):
    for name in (STATE, f"{STATE}-wal", "risk.db"):
        (tmp_path / name).write_bytes(b"")
    PaperSession(tmp_path, 1.0, None)._forget_earlier()
    assert [path.name for path in tmp_path.iterdir()] == ["risk.db"]


@pytest.mark.parametrize("package", ["ccxt", "aiohttp"])
def test_without_the_extra_it_is_one_clear_error(package, monkeypatch, tmp_path):
    monkeypatch.setattr(
        session.importlib.util, "find_spec", lambda name: None if name == package else True
    )
    with pytest.raises(bt_risk.BtRiskError, match=rf"{package} is missing.*bt_risk\[live\]"):
        PaperSession(tmp_path, 1.0, None)


@EXTRA
def test_an_example_that_fails_is_reported(tmp_path, monkeypatch):
    broken = tmp_path / "run.py"
    broken.write_text("import sys; open(sys.argv[2], 'w').close(); sys.exit(3)")
    monkeypatch.setattr(session, "example_folder", lambda: tmp_path)
    paper = PaperSession(tmp_path, 1.0, None)
    try:
        paper.start()
        until = time.monotonic() + 30
        while paper.goes_on:
            assert time.monotonic() < until
            time.sleep(0.05)  # until the process has ended
        assert paper.failed == 3
    finally:
        paper.stop()


def test_the_example_is_found():
    assert {"run.py", "store.py"} <= {path.name for path in example_folder().iterdir()}
