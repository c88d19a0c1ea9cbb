"""bt-risk journal and bt-risk explain: what they print, and as JSON."""

import json
import sqlite3
from contextlib import closing

import pytest
from helpers.command_line import command_in
from helpers.restarts import ROWS, run

import bt_risk
from bt_risk.report.times import duration, parse_since

OFF = dict.fromkeys(("notional_limit", "exposure_limit", "correlation_limit"))
POLICY = bt_risk.Policy(**OFF, risk_limit=0.002, drawdown_limit=0.06, atr_multiple=5.0)
AT = 1_600_000_000.0


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return the state file of a run that has bought 20 instead of 100."""
    folder = tmp_path_factory.mktemp("history")
    run(folder, rows=ROWS[:23], policy=POLICY, live={"now": lambda: AT})
    return folder / "risk.db"


@pytest.fixture
def command(monkeypatch, capsys):
    return command_in(140, monkeypatch, capsys)


def rows(out):
    return [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if "│" in line]


def test_the_journal_has_a_number_a_time_and_the_reason(path, command):
    status, out, _ = command("journal", path, "--rule", "RiskPerTrade")
    assert status == 0
    (row,) = rows(out)
    assert row[1:4] == ["09-13 12:26:40", "D0", "trim"]
    assert row[4] == "100 cut to 20; RiskPerTrade: 0.0100 of equity > risk_limit 0.0020"


def test_the_journal_shows_the_times_of_the_bars(path, command):
    (row,) = rows(command("journal", path, "--data", "D0", "--bars")[1])
    assert row[1] == "2020-01-20 00:00:00"


def test_the_journal_as_json(path, command):
    lines = [json.loads(line) for line in command("journal", path, "--json")[1].splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    first, start, last = lines
    assert start["action"] == "start"
    assert (first["rule"], first["order"], first["requested"]) == ("protect", None, None)
    assert last["written"] == "2020-09-13 12:26:40"
    assert last["order"].endswith("-1-1")
    assert (last["requested"], last["allowed"]) == (100.0, 20.0)


def test_the_life_of_an_order_as_json(path, command):
    number = [json.loads(line) for line in command("journal", path, "--json")[1].splitlines()][-1]
    found = json.loads(command("explain", path, number["order"], "--json")[1])
    assert found["order"] == number["order"]
    assert found["decisions"] == [number]
    assert found["events"][0].keys() == {"time", "what"}
    assert found["working"] is None  # it has filled
    refused = json.loads(command("explain", path, "2", "--json")[1])
    assert (refused["order"], refused["events"]) == (None, [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "--watch", "--json"], "--watch and --json exclude each other"),
        (["status", "3"], "SECONDS goes with --watch"),
        (["journal", "--bars", "--json"], "--bars is for the table"),
    ],
)
def test_an_option_without_effect_is_refused(path, command, words, said):
    status, out, err = command(words[0], path, *words[1:])
    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--last", "1"], 1),
        (["--last", "5"], 3),
        (["--data", "D1"], 0),
        (["--since", "2020-09-13T12:26:40"], 3),
        (["--since", "2020-09-13T12:26:41"], 0),
        (["--since", "2020-09-13T14:26:40+02:00"], 3),
        (["--since", "1h"], 0),
    ],
)
def test_the_journal_is_filtered(path, command, words, count):
    assert len(command("journal", path, "--json", *words)[1].splitlines()) == count


def test_an_empty_journal_says_so(path, command):
    assert command("journal", path, "--rule", "none")[1] == "No line of the journal fits.\n"


def test_a_time_that_is_none_is_an_error(path, command):
    status, _, err = command("journal", path, "--since", "yesterday")
    assert status == 2
    assert "a duration such as 30m, 12h or 2d" in err


def test_a_duration_counts_back_from_now():
    assert parse_since("90s", 1000.0) == 910.0
    assert parse_since("1.5h", 10_000.0) == 4600.0
    assert parse_since("2d", 200_000.0) == 27_200.0


def test_spans_of_time_have_one_unit():
    spans = [duration(seconds) for seconds in (3, 119, 120, 7199, 7200, 200_000)]
    assert spans == ["3 s", "119 s", "2 min", "120 min", "2.0 h", "2.3 d"]


def test_explain_tells_the_life_of_an_order(path, command):
    status, out, _ = command("explain", path, "V1")
    assert status == 0
    assert [row[1] for row in rows(out)] == [
        "100 cut to 20; RiskPerTrade: 0.0100 of equity > risk_limit 0.0020 (line 3)",
        "sent by strategy 0: buy 20 D0, market, an entry",
        "the venue calls it V1",
        "ended Completed, 20 filled at 100",
    ]
    assert out.splitlines()[0].endswith("-1-1")
    assert out.endswith("It does not work any more.\n")


def test_explain_says_where_an_order_rests(path, command):
    stop = next(iter(bt_risk.state.file.read_state(path).of("order").values()))
    out = command("explain", path, stop["venue_id"])[1]
    price = f"{stop['price']:g}"
    assert out.endswith(
        f"It works: 20 of 20 are left at {price}, as {stop['venue_id']} at the venue.\n"
    )


def test_explain_of_a_line_without_an_order(path, command):
    out = command("explain", path, "#1")[1]
    assert out.splitlines()[0] == "#1: no order was sent"
    assert "note: protect: sizes come from HalfKellySizer" in out


@pytest.mark.parametrize("name", ["V99", "77", "#0"])
def test_an_order_that_is_not_there_is_an_error(path, command, name):
    status, out, err = command("explain", path, name)
    assert (status, out) == (2, "")
    assert f"has no order {name}. Give the id" in err


def test_a_file_of_version_1_says_what_brings_it_up_to_date(tmp_path, command):
    path = tmp_path / "risk.db"
    run(tmp_path, rows=ROWS[:19])
    with closing(sqlite3.connect(path)) as db:
        db.executescript("ALTER TABLE decisions DROP COLUMN client_id; PRAGMA user_version = 1")
    status, _, err = command("journal", path)
    assert status == 2
    assert "is of version 1. The next run with this bt_risk brings it to this version" in err
