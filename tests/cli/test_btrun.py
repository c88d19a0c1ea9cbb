"""Backtrader's own command line with components of bt_risk, as docs/btrun.md has it."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import backtrader as bt
import pytest

import bt_risk
from bt_risk.cli import app as cli

DOCS = Path(__file__).parents[2] / "docs"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(bt_risk.__file__).parents[1])}

STRATEGY = """
import backtrader as bt


class Cross(bt.Strategy):
    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=5), bt.ind.SMA(period=20))

    def next(self):
        if not self.position and self.cross > 0:
            self.buy(size=500)
        elif self.position and self.cross < 0:
            self.close()
"""

# Says what happened: it is the last option, and prints at the end of the run.
WITNESS = """
import backtrader as bt
import bt_risk


class Witness(bt.Analyzer):
    def start(self):
        self.fills = []

    def notify_order(self, order):
        if order.status == order.Completed:
            self.fills.append((order.executed.size, round(order.executed.price, 6)))

    def stop(self):
        gate = self.strategy.broker
        registry = getattr(gate, "registry", None)
        self.saw = {
            "fills": self.fills,
            "bars": len(self.strategy),
            "gate": type(gate).__name__,
            "inside": type(gate.inner).__name__ if hasattr(gate, "inner") else None,
            "monitors": [type(one).__name__ for one in getattr(registry, "monitors", [])],
            "limits": len(getattr(gate, "limits", [])),
        }
        print(self.saw)
"""

HOOK = """
import bt_risk


def risk(cerebro, drawdown_limit=0.10):
    cerebro.addsizer(bt_risk.HalfKellySizer)
    cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker, exposure_limit=0.05))
    cerebro.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=drawdown_limit)
"""


@pytest.fixture
def folder(tmp_path):
    prices = bt_risk.load_data("sp500_1d").loc["2000":"2001"].assign(openinterest=0)
    prices.to_csv(tmp_path / "spx.csv", date_format="%Y-%m-%d")
    files = {"cross.py": STRATEGY, "witness.py": WITNESS, "risk.py": HOOK}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def btrun(folder):
    """Return a function that runs btrun in a process of its own, and what the witness saw."""
    fixed = [
        "--data",
        "spx.csv",
        "--nostdstats",
        "--cash",
        "1000000",
        "--strategy",
        "cross.py:Cross",
    ]

    def run(*options):
        command = [sys.executable, "-c", "from backtrader.btrun import btrun; btrun()"]
        done = subprocess.run(
            [*command, *fixed, *options, "--analyzer", "witness.py:Witness"],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return ast.literal_eval(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def path(monkeypatch, capsys):
    """Return what ``bt-risk path`` prints."""
    monkeypatch.setattr(sys, "argv", ["bt-risk", "path"])
    with pytest.raises(SystemExit):
        cli.main()
    return capsys.readouterr().out.strip()


def load(folder, name):
    """Import a file of the folder; Backtrader looks for it in sys.modules."""
    spec = importlib.util.spec_from_file_location(f"btrun_{name}", folder / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script(folder, add):
    """Run the same in this process, as a script would; return what the witness saw."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.BacktraderCSVData(dataname=str(folder / "spx.csv")))
    cerebro.addstrategy(load(folder, "cross").Cross)
    cerebro.broker.setcash(1_000_000)
    add(cerebro)
    cerebro.addanalyzer(load(folder, "witness").Witness)
    return cerebro.run()[0].analyzers.witness.saw


def test_observer_and_analyzer_share_one_gate_and_do_what_a_script_does(btrun, path, folder):
    saw = btrun("--observer", f"{path}:ATRTrailingStop", "--analyzer", f"{path}:DrawdownBreaker")
    assert saw["gate"] == "RiskBroker"
    assert saw["inside"] == "BackBroker"
    assert sorted(saw["monitors"]) == ["DrawdownMonitor", "TrailingStopMonitor"]

    def add(cerebro):
        cerebro.addobserver(bt_risk.ATRTrailingStop)
        cerebro.addanalyzer(bt_risk.DrawdownBreaker)

    assert saw == script(folder, add)
    bare = btrun()
    assert bare["bars"] > saw["bars"]  # the breaker has ended the run
    assert bare["fills"] != saw["fills"]
    assert bare["gate"] == "BackBroker"


def test_parameters_follow_the_name(btrun, path, folder):
    saw = btrun(
        *("--observer", f"{path}:ATRTrailingStop:atr_multiple=3.0,anchor='extreme'"),
        *("--analyzer", f"{path}:DrawdownBreaker:drawdown_limit=0.3"),
    )

    def add(cerebro):
        cerebro.addobserver(bt_risk.ATRTrailingStop, atr_multiple=3.0, anchor="extreme")
        cerebro.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.3)

    assert saw == script(folder, add)


def test_a_hook_protects_with_everything(btrun, path, folder):
    assert btrun("--hook", f"{path}:protect") == script(folder, bt_risk.protect)


def test_a_hook_reads_a_policy(btrun, path, folder):
    policy = bt_risk.Policy(drawdown_limit=0.2, risk_limit=0.02)
    policy.to_toml(folder / "policy.toml")
    saw = btrun("--hook", f"{path}:protect:policy='policy.toml'")
    assert saw == script(folder, lambda cerebro: bt_risk.protect(cerebro, policy))


def test_a_hook_observes_and_writes_the_journal(btrun, path, folder):
    saw = btrun("--hook", f"{path}:protect:mode='observe',journal='risk.csv'")
    assert saw["fills"] == btrun()["fills"]
    assert "RiskPerTrade,trim" in (folder / "risk.csv").read_text()


def test_a_hook_of_ones_own_adds_sizer_and_broker(btrun):
    saw = btrun("--hook", "risk.py:risk:drawdown_limit=0.2")
    assert saw["gate"] == "CorrelationCap"
    assert saw["inside"] == "BackBroker"
    assert saw["monitors"] == ["DrawdownMonitor"]


def test_the_page_shows_the_hook_that_is_tested_here():
    page = (DOCS / "btrun.md").read_text(encoding="utf-8")
    assert HOOK.strip() in page
    for line in ("$(bt-risk path):ATRTrailingStop", "$(bt-risk path):protect", "risk.py:risk"):
        assert line in page


@pytest.mark.full
def test_the_bash_of_the_page_runs_as_it_stands(folder, path):
    """With the two commands of the page on the path, under their names."""
    tools = folder / "bin"
    tools.mkdir()
    btrun = f'exec {sys.executable} -c "from backtrader.btrun import btrun; btrun()" "$@"'
    for name, line in {"btrun": btrun, "bt-risk": f"echo {path}"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    bt_risk.Policy(drawdown_limit=0.2).to_toml(folder / "policy.toml")
    page = (DOCS / "btrun.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    places = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", "\n".join(blocks)],
        cwd=folder,
        env=ENVIRONMENT | {"PATH": places},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "ATRTrailingStop" in done.stdout
