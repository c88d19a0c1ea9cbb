"""`bt-risk doctor`, as a user meets it: the table, the file, the status, and mistakes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import backtrader
import pytest

import bt_risk
from bt_risk.live.store_settings import StoreSettings

TESTS = Path(__file__).parents[1]
STORE = (
    "from helpers import doctor_brokers as brokers\n\nmake, book = brokers.factory(brokers.{})\n"
)


@pytest.fixture
def doctor(tmp_path):
    """Return a function that runs the command in a folder with a store."""

    def run(kind, *words, columns=80, **variables):
        (tmp_path / "my_store.py").write_text(STORE.format(kind))
        path = os.pathsep.join([str(Path(bt_risk.__file__).parents[1]), str(TESTS)])
        env = os.environ | {"PYTHONPATH": path, "COLUMNS": str(columns)} | variables
        command = [sys.executable, "-m", "bt_risk", "doctor", "my_store.py:make", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    return run


def test_without_yes_it_prints_what_would_be_sent(doctor):
    done = doctor("Sound", "--timeout", "2", columns=120)
    assert done.returncode == 0, done.stderr
    assert "would send a purchase at the market: 1 AAA, worth" in done.stdout
    assert "if --size is 1" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_json_is_the_same_report(doctor):
    found = json.loads(doctor("Sound", "--timeout", "2", "--json").stdout)
    assert found["passed"] is True
    assert {row["result"] for row in found["checks"]} <= {"pass", "not tested"}
    assert any("would send" in row["seen"] for row in found["checks"])
    assert isinstance(found["settings"], dict)


def test_a_fault_is_in_the_table_and_the_status(doctor, tmp_path):
    """The book of this store is in memory: a restart in a new process knows nothing."""
    words = ("--yes", "--size", "1", "--timeout", "3", "--out", "store.toml")
    done = doctor("Sound", *words)
    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "a second broker, in a new process," in done.stdout
    assert "wrote store.toml" in done.stdout
    settings = StoreSettings.from_toml(tmp_path / "store.toml")
    assert settings.capabilities["order_lists"] is False
    assert settings.instruments == {"AAA": {"tick": 0.05, "step": 1.0}}
    assert "# restart: position: a second broker" in (tmp_path / "store.toml").read_text()


def test_mistakes_are_one_line(doctor):
    done = doctor("Sound", "--yes")
    assert done.returncode == 2
    assert done.stderr.startswith("bt-risk: check_store: size must be given with yes; got None.")
    done = doctor("Missing")
    assert done.returncode == 2
    assert "my_store.py cannot be imported" in done.stderr


def test_python_does_not_warn_of_backtrader_before_that_line(doctor, tmp_path):
    """What it would warn of is told when a module is compiled, and by default from 3.12 on."""
    copy = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(backtrader.__file__).parent, tmp_path / "backtrader", ignore=copy)
    done = doctor("Sound", "--yes", PYTHONWARNINGS="default", PYTHONDONTWRITEBYTECODE="1")
    assert "size must be given with yes" in done.stderr
    assert "invalid escape sequence" not in done.stderr
