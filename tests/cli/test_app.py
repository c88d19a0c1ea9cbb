"""The bt-risk command, as a user meets it: what it prints, writes and answers to a mistake."""

import json
import os
import pty
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest

import bt_risk
from bt_risk.cli import app as cli
from bt_risk.demo import runs as demo
from bt_risk.demo.charts import STRETCH, _stretch
from bt_risk.evidence.user_traceback import user_traceback
from bt_risk.feeds.bundled import load_data

PNG = b"\x89PNG\r\n\x1a\n"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(bt_risk.__file__).parents[1]), "COLUMNS": "80"}


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs bt-risk in this process and gives status, stdout and stderr."""
    monkeypatch.setattr(demo, "cores", lambda: 1)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bt-risk", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return (exit_.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def prices(tmp_path):
    """Return a file of 700 hours of bitcoin."""
    path = tmp_path / "coin.csv"
    load_data("btcusd_1h").iloc[:700].to_csv(path)
    return path


def test_it_says_its_version_and_where_the_components_are(command):
    assert command("--version") == (0, f"bt-risk {bt_risk.__version__}\n", "")
    status, out, _ = command("path")
    assert status == 0
    assert Path(out.strip()).samefile(bt_risk.__file__)


def test_help_names_every_command_and_option(command):
    status, out, _ = command("--help")
    assert status == 0
    assert "demo" in out
    assert "path" in out
    status, out, _ = command("demo", "--help")
    assert status == 0
    assert all(option in out for option in ("--data", "--out", "--step"))


def test_btrun_finds_the_components_in_the_file_and_they_share_one_gate(tmp_path, command):
    frame = load_data("ibm_1d").iloc[:600]
    frame.assign(openinterest=0).to_csv(tmp_path / "ibm.csv")
    (tmp_path / "cross.py").write_text(
        "import backtrader as bt\n"
        "class Cross(bt.Strategy):\n"
        "    def __init__(self):\n"
        "        self.x = bt.ind.CrossOver(bt.ind.SMA(period=10), bt.ind.SMA(period=40))\n"
        "    def next(self):\n"
        "        self.buy(size=100) if self.x > 0 else None\n"
        "    def stop(self):\n"
        "        print('hooks', *(type(hook).__name__ for hook in self.broker.registry.monitors))\n"
        "        print('stops', sum(line[3] == 'stop' for line in self.broker.journal.lines))\n"
    )
    file = command("path")[1].strip()
    words = [
        "--nostdstats",
        "--format",
        "btcsv",
        "--data",
        "ibm.csv",
        "--strategy",
        "cross.py:Cross",
    ]
    words += ["--observer", f"{file}:ATRTrailingStop", "--analyzer", f"{file}:DrawdownBreaker"]
    program = f"import sys; from backtrader.btrun import btrun; btrun({words!r})"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
        check=True,
    )
    hooks, stops = run.stdout.splitlines()
    assert hooks == "hooks TrailingStopMonitor DrawdownMonitor"
    assert int(stops.split()[1]) > 0


def test_the_demo_shows_the_tables_and_writes_what_it_names(command, prices, tmp_path):
    out = tmp_path / "new" / "folder"
    status, text, error = command("demo", "--data", prices, "--out", out)
    assert (status, error) == (0, "")
    assert "\x1b" not in text  # nothing but text in a pipe
    assert "running" not in text
    assert "Mean reversion: coin ---" in text
    assert "Mean reversion with momentum filter: coin ---" in text
    # A row of each table; what each run ends with is said in a sentence, too.
    assert len(re.findall("^ *max drawdown", text, re.MULTILINE)) == 2
    assert max(map(len, text.splitlines()[:-7])) <= 80
    written = [Path(line.removeprefix("wrote ")) for line in text.splitlines()[-6:]]
    assert sorted(written) == sorted(out.iterdir())
    assert [path.name for path in written] == [
        "own-pause.html",
        "own-filter-pause.html",
        "own-equity.png",
        "own-filter-equity.png",
        "own-stops.png",
        "journal.csv",
    ]
    for page in written[:2]:
        assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    check_pictures(written[2:5])
    check_journal(written[5], text)


def check_pictures(paths):
    for path in paths:
        assert path.read_bytes().startswith(PNG)
        pixels = matplotlib.image.imread(path)[:, :, :3]
        assert pixels.shape[0] > 600
        assert pixels.shape[1] > 1000
        # The limit line, or the stops: both are drawn in this red.
        red = pixels[:, :, 0] - pixels[:, :, 1:].max(axis=2) > 0.3
        assert red.sum() > 300, path


def check_journal(path, text):
    journal = pd.read_csv(path, parse_dates=["time"])
    assert list(journal.columns[:5]) == ["portfolio", "run", "time", "data", "rule"]
    assert set(journal.run) == {"protected", "pause", "rules"}
    assert set(journal.portfolio) == {"own", "own-filter"}
    first = journal[journal.portfolio == "own"]
    stops = first[first.action == "stop"].groupby("run").size()
    row = next(line for line in text.splitlines() if line.startswith(" stops hit"))
    assert [cell.strip() for cell in row.split("\u2502")[2:]] == [
        str(stops["protected"]),
        str(stops["pause"]),
        str(stops["rules"]),
    ]


@pytest.mark.full
def test_the_demo_as_json_has_the_figures_of_each_run(command, prices, tmp_path):
    status, text, error = command("demo", "--data", prices, "--out", tmp_path / "out", "--json")
    assert (status, error) == (0, "")
    found = json.loads(text)
    assert set(found["portfolios"]) == {"own", "own-filter"}
    runs = found["portfolios"]["own"]
    assert runs["bare"]["orders judged"] is None
    assert runs["protected"]["orders judged"] > 0
    assert all(Path(file).is_file() for file in found["wrote"])


def test_the_demo_runs_from_any_folder_and_its_bar_leaves_no_trace(prices, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as pool:
        bar = pool.submit(read_all, ours)
        run = subprocess.run(
            [sys.executable, "-m", "bt_risk", "demo", "--data", prices],
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            cwd=elsewhere,
            env=ENVIRONMENT | {"TERM": "xterm"},
            check=False,
        )
        os.close(theirs)
        bar = bar.result()
    os.close(ours)
    assert run.returncode == 0, bar
    assert "running" in bar
    assert "8/8" in bar
    assert bar.rstrip().endswith("\x1b[2K")  # the last thing it does is to erase itself
    assert "\x1b" not in run.stdout
    assert run.stdout.startswith("How likely the breaker is to halt the bare strategy")
    assert "\nbare: " in run.stdout
    assert len(list((elsewhere / "bt-risk-demo").iterdir())) == 6


def read_all(terminal):
    """Return all that is written to a terminal until the last writer has closed it."""
    parts = []
    while True:
        try:
            parts.append(os.read(terminal, 4096))
        except OSError:  # how Linux says that nobody is left to write
            return b"".join(parts).decode()


BAD_FILES = {
    "absent": (None, "does not exist"),
    "no prices": ("a,b\n1,2\n", "must have a column open, high, low, close"),
    "empty": ("", "is empty"),
    "too short": (
        "date,open,high,low,close\n2024-01-01,1,1,1,1\n2024-01-02,1,1,1,1\n",
        "must hold at least 300 bars; got 2",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_answered_by_one_line_and_status_2(command, tmp_path, kind):
    content, words = BAD_FILES[kind]
    path = tmp_path / "prices.csv"
    if content is not None:
        path.write_text(content)
    status, out, error = command("demo", "--data", path, "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert error.startswith("bt-risk: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_name_of_two_lines_is_answered_in_one(command):
    status, _, error = command("demo", "--data", "two\nlines.csv")
    assert (status, error) == (
        2,
        "bt-risk: read_prices: two lines.csv does not exist. Check the path.\n",
    )


def test_a_folder_that_cannot_be_made_is_answered_before_anything_runs(
    command, tmp_path, prices, monkeypatch
):
    def refuse(*args):
        raise AssertionError("it ran")

    monkeypatch.setattr(demo, "run", refuse)
    (tmp_path / "file").write_text("")
    status, out, error = command("demo", "--data", prices, "--out", tmp_path / "file")
    assert (status, out) == (2, "")
    assert error.startswith("bt-risk: demo: --out must be a folder that can be made; got ")
    assert error.endswith("File exists.\n")


def test_a_page_that_is_a_folder_is_answered_before_anything_runs(command, prices, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text("import backtrader as bt\nclass Mine(bt.Strategy):\n    params = 1 / 0\n")
    words = "compare", f"{script}:Mine", "--data", prices, "--out", tmp_path
    status, out, error = command(*words)
    assert (status, out) == (2, "")
    assert "compare: --out must be the path of a file that can be written" in error
    assert "That is a folder" in error


@pytest.mark.parametrize("words", [["demo", "--step", "0"], ["demo", "--step", "nan"]])
def test_a_bad_step_is_answered_by_one_line_and_status_2(command, prices, words):
    status, _, error = command(*words, "--data", prices)
    assert status == 2
    assert error.startswith("bt-risk: demo: step must be positive and finite; got ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [(["demo", "--bogus"], "--bogus"), (["demo", "--step", "x"], "--step"), (["dmeo"], "dmeo")],
)
def test_a_mistyped_command_has_status_2_and_no_traceback(command, words, named):
    status, out, error = command(*words)
    assert (status, out) == (2, "")
    assert "Traceback" not in error
    assert named in error


def test_the_picture_of_the_stops_shows_where_most_kinds_of_events_are():
    index = pd.date_range("2020-01-01", periods=1000, freq="h")
    here = pd.Series(index[500:503])
    many = pd.Series(index[0:100])
    events = {"bought": (0, 0, many, 0), "sold": (0, 0, here, 0), "refused": (0, 0, here, 0)}
    stretch = _stretch(index, events)
    assert stretch.start <= here.iloc[0]
    assert here.iloc[-1] <= stretch.stop
    assert index.get_loc(stretch.stop) - index.get_loc(stretch.start) == STRETCH - 1
    short = _stretch(index[:50], {})
    assert (short.start, short.stop) == (index[0], index[49])


FAULTY = """import backtrader as bt
class Raises(bt.Strategy):
    def next(self):
        self.helper()
    def helper(self):
        self.undefined
class Dies(bt.Strategy):
    def __init__(self):
        bt.ind.SMA(perod=3)
"""


@pytest.mark.parametrize(("verb", "name"), [("run", "Raises"), ("compare", "Dies")])
def test_a_strategy_that_raises_shows_the_lines_of_its_user(verb, name, command, prices, tmp_path):
    script = tmp_path / f"faulty_{verb}_{name}.py"
    script.write_text(FAULTY)
    page = ("--out", tmp_path / "page.html") if verb == "compare" else ()
    status, out, err = command(verb, f"{script}:{name}", "--data", prices, *page)
    lines = err.splitlines()
    assert (status, out) == (1, "")
    assert lines[0] == "Traceback (most recent call last), without the lines of packages:"
    assert f'File "{script}"' in lines[1]
    assert err.count("  File ") == (3 if name == "Raises" else 2)
    assert "undefined" in lines[-1] if name == "Raises" else "perod" in lines[-1]


def test_an_error_without_a_line_of_a_user_keeps_its_whole_traceback():
    error = ZeroDivisionError("of ours")
    assert user_traceback(error) is None


def test_a_run_without_trades_says_so_before_its_figures(command, prices, tmp_path):
    (tmp_path / "idle.py").write_text("import backtrader as bt\nclass Idle(bt.Strategy): pass\n")
    script = f"{tmp_path / 'idle.py'}:Idle"
    status, out, _ = command("run", script, "--data", prices)
    assert status == 0
    assert out.index("No order was executed: the strategy sent none.") < out.index("CAGR")
    _, out, _ = command("run", script, "--data", prices, "--json")
    assert json.loads(out)["no_trades"].startswith("No order was executed")
    _, out, _ = command("compare", script, "--data", prices, "--out", tmp_path / "page.html")
    assert out.count("no trades in bare: No order was executed.") == 1
