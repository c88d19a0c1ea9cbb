"""``bt-risk sweep``: its space, its tables, its page, and what it refuses."""

import json
import re

import pytest
from helpers.command_line import command_in
from helpers.scenarios import random_walk

from bt_risk import Between, ParameterError
from bt_risk.cli.space import space_of

SCRIPT = """
import backtrader as bt


class Cross(bt.Strategy):
    params = dict(fast=5, slow=20, lookback=3)

    def __init__(self):
        if self.p.fast >= self.p.slow:
            raise ValueError("fast must be below slow")
        averages = [bt.ind.SMA(period=period) for period in (self.p.fast, self.p.slow)]
        self.signal = bt.ind.CrossOver(*averages)

    def next(self):
        if self.signal[0] > 0:
            self.buy()
        elif self.signal[0] < 0:
            self.close()
"""
WORDS = ["sweep", "cross.py:Cross", "--data", "walk.csv", "--set", "min_periods=5"]
SPACE = "risk_limit=0.005,0.01 fast=4:8:4 slow=8"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    (tmp_path / "cross.py").write_text(SCRIPT)
    random_walk(4, 150, 0.02).to_csv(tmp_path / "walk.csv")
    monkeypatch.chdir(tmp_path)
    return command_in(160, monkeypatch, capsys)


def test_values_of_a_space_are_lists_ranges_and_what_lies_between():
    texts = ["risk_limit=0.005,0.01 fast=5:20:5", "sizer=true,false", "s=0.1:0.3:0.1 t=a,b"]
    assert space_of("sweep", texts) == {
        "risk_limit": [0.005, 0.01],
        "fast": [5, 10, 15, 20],
        "sizer": [True, False],
        "s": [0.1, 0.2, 0.3],
        "t": ["a", "b"],
    }
    drawn = space_of("sweep", ["fast=5..20 risk_limit=log:0.002..0.02 at='09:30','10:00'"])
    assert drawn == {
        "fast": Between(5, 20),
        "risk_limit": Between(0.002, 0.02, log=True),
        "at": ["09:30", "10:00"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "fast",
        "fast=",
        "=5",
        "fast=5:20",
        "fast=5:20:0",
        "fast=20:5:1",
        "fast=a..b",
        "fast=1 fast=2",
    ],
)
def test_what_is_no_space_is_refused(text):
    with pytest.raises(ParameterError, match=r"sweep: --space must be like fast=5:20:5"):
        space_of("sweep", [text])


def test_the_command_prints_the_best_and_writes_a_page(command, tmp_path):
    status, out, err = command(*WORDS, "--space", SPACE, "--jobs", 1)
    assert (status, err) == (0, "")
    assert out.startswith("- 4 of 4 points have run; 2 raised an error, the first ValueError: fast")
    assert "deflated Sharpe ratio is" in out
    assert out.endswith("wrote bt-risk-sweep.html\n")
    page = (tmp_path / "bt-risk-sweep.html").read_text(encoding="utf-8")
    assert "Cross: walk" in page
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"\bnan\b", text)
    for word in (
        "the luck of 2 distinct tries: its deflated Sharpe ratio",
        "Heat maps",
        "fast must be below slow (cross.py:10",
    ):
        assert word in text
    status, out, _ = command(*WORDS, "--space", SPACE, "--jobs", 1, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["best"].keys() == {"risk_limit", "fast", "slow"}
    assert [point["error"] == "" for point in found["points"]] == [True, False] * 2
    assert (found["tries"], found["complete"], found["asked"]) == (2, True, 4)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--space", "fst=1,2"], "Did you mean 'fast'?"),
        (["--space", "lookback=1,2"], "Write 'policy.lookback' or 'build.lookback'."),
        (["--space", "fast=5:20"], "--space must be like fast=5:20:5"),
        (["--space", "fast=5,6", "--objective", "sharp"], "objective must be one of"),
        (["--space", "fast=5,6", "--out", "."], "That is a folder"),
        (["--space", "fast=5,6", "--store", "no/sweep.db"], "There is no folder no"),
        (["--space", "fast=5..9"], "lists of values for a grid"),
        ([], "Missing option '--space'"),
    ],
)
def test_bad_input_is_one_line_and_the_status_2(command, words, reason, tmp_path):
    status, out, err = command(*WORDS, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert reason in err
    assert not (tmp_path / "sweep.db").exists()


def test_a_sweep_that_was_interrupted_says_so_and_ends_with_2(command, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("bt_risk.evidence.sweep_run._Sweeping.drive", interrupted)
    status, out, _ = command(*WORDS, "--space", SPACE, "--jobs", 1)
    assert status == 2
    assert "0 of 4 points have run; interrupted: the same call goes on with the rest" in out
