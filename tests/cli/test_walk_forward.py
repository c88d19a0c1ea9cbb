"""``bt-risk walk-forward``: its tables, its pages, and what it refuses."""

import json

import pytest
from helpers.command_line import command_in
from helpers.scenarios import random_walk

import bt_risk
from bt_risk.evidence.strategy_file import Script

SCRIPT = """
import backtrader as bt


class Swing(bt.Strategy):
    params = dict(period=10, hold=4)

    def next(self):
        place = len(self) % self.p.period
        if place == 0:
            self.buy(size=100)
        elif place == self.p.hold:
            self.close()
"""
WORDS = ["walk-forward", "swing.py:Swing", "--data", "walk.csv", "--set", "min_periods=5"]
WORDS += ["--train", "60", "--test", "40", "--jobs", "1"]
SPACE = ["--space", "risk_limit=0.005,0.02 period=6,9"]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    (tmp_path / "swing.py").write_text(SCRIPT)
    random_walk(4, 150, 0.02).to_csv(tmp_path / "walk.csv")
    monkeypatch.chdir(tmp_path)
    return command_in(160, monkeypatch, capsys)


def test_it_prints_what_came_of_it_and_every_fold_and_writes_both_pages(command, tmp_path):
    status, out, err = command(*WORDS, *SPACE, "--sheet", "sheet.html", "--trials", "9")
    assert (status, err) == (0, "")
    found = bt_risk.walk_forward(
        Script("swing.py", "Swing", ("walk.csv",)),
        {"risk_limit": [0.005, 0.02], "period": [6, 9]},
        60,
        40,
        policy=bt_risk.Policy(min_periods=5),
        n_jobs=1,
        trials=9,
    )
    text = " ".join(out.split())
    assert all(sentence in text for sentence in found.sentences())
    for _, row in found.frame.iterrows():
        assert f"{row['begin']:%Y-%m-%d} to {row['end']:%Y-%m-%d}" in text
    assert text.endswith("wrote bt-risk-walk-forward.html wrote sheet.html")
    page = (tmp_path / "bt-risk-walk-forward.html").read_text(encoding="utf-8")
    assert "Swing: walk" in page
    assert "Swing: walk, out of sample" in (tmp_path / "sheet.html").read_text(encoding="utf-8")


def test_as_json_it_has_the_figures_of_every_fold(command):
    status, out, err = command(*WORDS, *SPACE, "--purge", "3", "--anchored", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert len(found["folds"]) == 3
    assert {one["train_begin"] for one in found["folds"]} == {"2020-01-01 00:00:00"}
    assert found["folds"][0]["begin"] == "2020-03-04 00:00:00"  # 60 bars, and a gap of 3
    assert {one["period"] for one in found["folds"]} <= {6, 9}
    assert set(found["figures"]) > {"CAGR", "Sharpe"}
    assert found["page"] == "bt-risk-walk-forward.html"
    assert "sheet" not in found


def test_a_store_goes_on(command, tmp_path):
    words = [*WORDS, "--test", "80", "--space", "period=6,9", "--store", "kept", "--json"]
    first, second = command(*words), command(*words)
    assert first == second
    assert first[0] == 0
    files = sorted(one.name for one in (tmp_path / "kept").iterdir())
    assert files == ["fold-1.db", "fold-2.db"]
    status, _, err = command(*words, "--trials", "2", "--objective", "cagr")
    assert status == 2
    assert "walk_forward: store must be new, or one of this sweep" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*WORDS, "--space", "perid=6,9"], "walk_forward: space must be a dict of parameters"),
        ([*WORDS, "--space", "period"], "walk_forward: --space must be"),
        ([*WORDS, *SPACE, "--train", "0"], "walk_forward: train must be"),
        ([*WORDS, *SPACE, "--train", "400"], "must have more than 401 bars"),
        ([*WORDS, *SPACE, "--objective", "luck"], "walk_forward: objective must be one of"),
        ([*WORDS, *SPACE, "--sheet", "."], "walk_forward: --sheet must be"),
        ([*WORDS, *SPACE, "--store", "walk.csv"], "walk_forward: store must be"),
    ],
)
def test_a_mistake_is_one_line(command, words, said):
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
