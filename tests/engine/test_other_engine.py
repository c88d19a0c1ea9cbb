"""What relies on the internals of one engine steps aside on any other, and says so."""

import logging
import re
import subprocess
import sys

import backtrader as bt
import pytest
from helpers.recording import play
from helpers.scenarios import cerebro, random_walk
from helpers.shared_data import ROOT

import bt_risk
from bt_risk import known_engine
from bt_risk.feeds.bulk import use_bulk_preload

NAME = f"{bt.Cerebro.__module__.split('.')[0]} {bt.__version__}"


@pytest.fixture
def another(monkeypatch):
    """Let the engine that runs the tests be one that is not known."""
    monkeypatch.setattr(known_engine, "_KNOWN", ("an engine", "1.0"))


def test_the_known_engine_is_backtrader_as_it_is_installed_with_bt_risk():
    assert known_engine.other_engine() in ("", NAME)
    assert (known_engine.other_engine() == "") is (NAME == "backtrader 1.9.78.123")


@pytest.mark.parametrize("mode", [{}, {"runonce": False}, {"preload": False}])
@pytest.mark.parametrize("add", [bt_risk.fast, bt_risk.protect])
def test_the_loop_is_that_of_the_engine_and_the_log_says_why(another, caplog, mode, add):
    engine = cerebro(random_walk(1, bars=30), **mode)
    own = dict(vars(engine))
    add(engine)
    with caplog.at_level(logging.INFO, logger="bt_risk"):
        strategy = play(engine, {18: lambda s: s.buy(size=10)})
    assert len(strategy) == 30
    (line,) = [one for one in caplog.messages if one.startswith("loop: ")]
    assert line == f"loop: Backtrader's own, because the engine is {NAME}"
    assert not {"_runonce", "_runnext"} & (set(vars(engine)) - set(own))


def test_a_plain_data_feed_loads_as_it_does(another):
    data = cerebro(random_walk(1, bars=5)).datas[0]
    assert use_bulk_preload(data) == f"the engine is {NAME}"
    assert "preload" not in vars(data)


def test_the_lines_of_the_documentation_let_another_engine_take_the_place(tmp_path):
    pytest.importorskip("backtrader_next")
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    code = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    code += "print(bt_risk.known_engine.other_engine())\n"
    code += "specs = [getattr(module, '__spec__', None) for module in sys.modules.values()]\n"
    code += "print([spec.name for spec in specs if spec and spec.name.startswith('backtrader.')])\n"
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["Submitted", "Accepted", "Completed"]
    assert lines[-2:] == [NAME, "[]"]
