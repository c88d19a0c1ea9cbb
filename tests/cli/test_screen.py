"""``bt-risk screen``: the ranks of a run, as a table and as JSON, and each mistake in one line."""

import json

import backtrader as bt
import pandas as pd
import pytest
from helpers.command_line import command_in
from helpers.scenarios import bars, cerebro, random_walk

import bt_risk

NAMES = ("aa", "bb", "cc")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs bt-risk in a folder with prices."""
    (tmp_path / "prices").mkdir()
    for k, name in enumerate(NAMES):
        random_walk(k, 60).to_csv(tmp_path / "prices" / f"{name}.csv")
    bars((1, 2, 1, 2), (2, 3, 2, 3)).to_csv(tmp_path / "gone.csv")
    (tmp_path / "prices" / "notes.md").write_text("no prices")
    monkeypatch.chdir(tmp_path)
    return command_in(80, monkeypatch, capsys)


def test_the_ranks_are_those_of_a_run(command):
    rank, where = "roc(5) / natr(9)", "close > sma(20)"
    engine = cerebro(*(random_walk(k, 60) for k in range(3)), names=list(NAMES))
    engine.addstrategy(bt.Strategy)
    engine.addanalyzer(bt_risk.Screener, rank=rank, where=where, rebalance=1)
    frame = engine.run()[0].analyzers.screener.frame()
    for day in ("2020-01-10", "2020-02-05", "2020-02-29"):
        words = ("screen", "--data", "prices", "--rank", rank, "--where", where, "--at", day)
        status, out, err = command(*words, "--json")
        assert (status, err) == (0, "")
        expected = frame[frame.time == day]
        rows = pd.DataFrame(json.loads(out)["rows"])
        assert rows["name"].tolist() == expected.data.tolist()
        assert rows["rank"].tolist() == expected["rank"].tolist()
        assert rows["score"].astype(float).fillna(0).tolist() == expected.score.fillna(0).tolist()
        assert rows["reason"].tolist() == expected.reason.tolist()


def test_the_table_has_80_columns_and_says_who_is_not_ranked(command):
    words = ("screen", "--rank", "close", "--top", "2", "--data", "prices", "gone.csv")
    status, out, err = command(*words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "3 of 4 ranked by close, at the close of 2020-02-29"
    assert [line.split("│")[0].strip() for line in lines if "│" in line] == ["1", "2", "gone"]
    assert "its last bar, of 2020-01-02 00:00, is stale" in out
    status, out, _ = command(*words, "--max-age-days", "100")
    assert out.startswith("4 of 4 ranked")


def test_members_are_those_of_the_day(command, tmp_path):
    (tmp_path / "members.csv").write_text("name,from,to\naa,2020-01-01,2020-01-31\nbb,,\n")
    words = ("screen", "--rank", "close", "--data", "prices", "--members", "members.csv", "--json")
    ranked = {}
    for day in ("2020-01-31", "2020-02-01"):
        rows = json.loads(command(*words, "--at", day)[1])["rows"]
        ranked[day] = {row["name"] for row in rows if row["rank"]}
    assert ranked == {"2020-01-31": {"aa", "bb"}, "2020-02-01": {"bb"}}


def test_the_indicators_are_listed(command):
    status, out, _ = command("screen", "--indicators", "--json")
    listed = json.loads(out)["indicators"]
    assert status == 0
    assert len(listed) == len(bt_risk.Screener.indicators())
    status, out, _ = command("screen", "--indicators")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "prices"], "screen: --rank must be given"),
        (["--rank", "rsi(14)"], "screen: --data must be a folder or files of prices"),
        (["--rank", "rsi(14)", "--data", "no"], "read_prices: no does not exist"),
        (["--rank", "rsi(14)", "--data", "prices/notes.md"], "read_prices: prices/notes.md"),
        (["--rank", "rsy(14)", "--data", "prices"], "screen: rank must be made of indicators"),
        (["--rank", "__import__('os')", "--data", "prices"], "screen: rank must be an expression"),
        (["--rank", "close", "--where", "close >", "--data", "prices"], "screen: where must be"),
        (["--rank", "close", "--data", "prices", "--top", "0"], "screen: --top must be"),
        (["--rank", "close", "--data", "prices", "--at", "soon"], "screen: --at must be a date"),
        (["--rank", "close", "--data", "prices", "--at", "1990"], "screen: --at must be on or"),
        (["--rank", "close", "--data", "prices", "--members", "no"], "screen: members must be"),
        (["--rank", "close", "--data", "prices", "prices/aa.csv"], "screen: --data must be files"),
        (["--rank", "close", "--data", "prices", "--max-age-days", "-1"], "screen: --max-age"),
    ],
)
def test_bad_input_is_one_line_and_status_2(command, words, message):
    status, out, err = command("screen", *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"bt-risk: {message}")
    assert err.count("\n") == 1
