"""``bt-risk compare``: what it runs, prints and writes, and what it answers to a mistake."""

import sys

import pytest

from bt_risk.cli import app as cli
from bt_risk.evidence.strategy_file import Script
from bt_risk.feeds.bundled import load_data

SOURCE = """
import backtrader as bt
import helper


class Cross(bt.Strategy):
    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=10), bt.ind.SMA(period=40))

    def next(self):
        for data in self.datas:
            if self.cross > 0 and not self.getposition(data):
                self.buy(data, size=helper.SIZE)
            elif self.cross < 0:
                self.close(data)


NOT = 3
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs ``bt-risk compare`` in a folder with a strategy and prices."""
    (tmp_path / "cross.py").write_text(SOURCE)
    (tmp_path / "helper.py").write_text("SIZE = 100\n")
    (tmp_path / "broken.py").write_text("import nothing_like_it\n")
    for name in ("ibm", "msft"):
        load_data(f"{name}_1d").iloc[:300].to_csv(tmp_path / f"{name}.csv")
    (tmp_path / "risk.toml").write_text("risk_limit = inf\ndrawdown_limit = 0.02\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bt-risk", "compare", *words])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return (exit_.value.code or 0, *capsys.readouterr())

    return run


def test_it_prints_the_comparison_and_writes_the_page(command, tmp_path):
    words = ["cross.py:Cross", "--data", "ibm.csv", "msft.csv", "--policy", "risk.toml"]
    status, out, err = command(*words, "--samples", "200", "--out", "new/page.html")
    assert (status, err) == (0, "")
    assert out.startswith("A drawdown of 2 % is reached within 252 days (a year)")
    assert "only stop" in out
    assert "only risk per trade" not in out  # the file has switched it off
    for row in ("CAGR", "Calmar", "Time under water", "Trades", "rule 2, stop", "total"):
        assert f"\n {row} " in out
    assert out.endswith("wrote new/page.html\n")
    assert "Cross: ibm, msft" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cross.py", "--data", "ibm.csv"], "must be like strategy.py:Cross; got 'cross.py'."),
        (["none.py:Cross", "--data", "ibm.csv"], "must be an existing file and a class in it"),
        (["cross.py:NOT", "--data", "ibm.csv"], "must be a bt.Strategy of cross.py; got 'NOT'."),
        (["cross.py:Gone", "--data", "ibm.csv"], "got 'Gone'. It has Cross."),
        (["broken.py:Cross", "--data", "ibm.csv"], "cannot be imported: ModuleNotFoundError"),
        (["cross.py:Cross"], "--data must be given; got 'nothing'. Prices: --data FILE ..."),
        (["cross.py:Cross", "--data", "gone.csv"], "gone.csv"),
        (["cross.py:Cross", "--data", "ibm.csv", "--cash", "-1"], "--cash must be positive"),
        (["cross.py:Cross", "--data", "ibm.csv", "--commission", "1"], "--commission must be in"),
        (["cross.py:Cross", "--data", "ibm.csv", "--rules", "some"], "rules must be one of"),
        (["cross.py:Cross", "--data", "ibm.csv", "--policy", "x.toml"], "path must be an existing"),
        (["cross.py:Cross", "--data", "ibm.csv", "ibm.csv"], "files with different names"),
    ],
)
def test_a_mistake_is_one_line(command, words, said):
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_two_files_of_one_name_are_two_scripts(tmp_path):
    text = "import backtrader as bt\n\n\nclass Cross(bt.Strategy):\n    params = dict({}=1)\n"
    seen = []
    for name in ("one", "two", "one"):
        (tmp_path / name).mkdir(exist_ok=True)
        script = tmp_path / name / "cross.py"
        script.write_text(text.format(name))
        seen += Script(str(script), "Cross", ()).strategy().params._getkeys()
    assert seen == ["one", "two", "one"]
