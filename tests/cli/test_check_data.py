"""``bt-risk check-data``."""

import json

import pytest
from typer.testing import CliRunner

from bt_risk.cli import app as cli

DAYS = [f"{day:02}.01.2024" for day in (1, 2, 3, 4, 5, 6, 7, 8, 20)]
TEXT = "\n".join(
    ["Date;Open;High;Low;Close", *(f"{day};10,5;10,5;10,5;10,5" for day in DAYS[::-1])]
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text(TEXT)
    return path


def test_the_report_says_what_a_file_is_and_how_to_read_it(path):
    result = CliRunner().invoke(cli.app, ["check-data", str(path), "--tz", "UTC"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{path}: columns with names, 9 bars, without volume",
        "from 2024-01-01 00:00:00 to 2024-01-20 00:00:00 (UTC), interval 1 day",
        "repaired: turned the rows round: the file has the newest first",
        "gaps: 1",
        "  2024-01-08 00:00:00 to 2024-01-20 00:00:00: 12 days",
        "bars with high equal to low: 9",
        *(f"  2024-01-0{day} 00:00:00" for day in range(1, 6)),
        "  ...",
        "jumps of more than 10 ATR: 0",
        "suspected splits: 0",
        f"read it with: bt_risk.read_prices({str(path)!r}, tz='UTC')",
    ]


def test_json_is_one_object(path):
    result = CliRunner().invoke(cli.app, ["check-data", str(path), "--json"])
    found = json.loads(result.stdout)
    assert (found["bars"], found["gaps"]["count"]) == (9, 1)


@pytest.mark.parametrize("options", [["--no-sort"], ["--format", "%m/%d/%Y"], ["--decimal", "."]])
def test_a_file_that_cannot_be_read_so_is_answered_by_one_line_and_status_2(
    path, options, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["bt-risk", "check-data", str(path), *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    assert shown.err.startswith("bt-risk: read_prices: ")
    assert shown.err.count("\n") == 1
