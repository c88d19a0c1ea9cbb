"""Files of signals: three formats with one content, and records that are refused and counted."""

import json
import logging

import pandas as pd
import pytest

from bt_risk.errors import DataError, ParameterError
from bt_risk.signals.files import line_of, read_signals

ROWS = [
    {"published": "2024-01-01T10:00:00+00:00", "symbol": "BTC", "score": 40.0, "id": "1"},
    {"published": "2024-01-01T11:00:00+00:00", "symbol": "ETH", "score": -75.5, "id": "2"},
    {"published": "2024-01-01T12:00:00+00:00", "symbol": "BTC", "score": 0.0, "id": "3"},
]
TABLE = pd.DataFrame(ROWS)


def written(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    elif name.endswith(".parquet"):
        TABLE.assign(published=pd.to_datetime(TABLE["published"])).to_parquet(path)
    else:
        TABLE.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.jsonl"])
def test_every_format_has_the_same_signals(tmp_path, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    found = read_signals(written(tmp_path, name))
    assert [(one.symbol, one.score, one.direction) for one in found.signals] == [
        ("BTC", 40.0, 1),
        ("ETH", -75.5, -1),
        ("BTC", 0.0, 0),
    ]
    assert found.signals == read_signals(TABLE).signals
    assert not found.refused


def test_a_file_of_lines_is_read_back_as_it_was_written(tmp_path):
    signals = read_signals(TABLE).signals
    path = tmp_path / "again.jsonl"
    path.write_text("".join(map(line_of, signals)), encoding="utf-8")
    assert read_signals(path).signals == signals


def test_records_that_cannot_be_true_are_refused_and_counted(tmp_path, caplog):
    path = tmp_path / "odd.csv"
    path.write_text(
        "time,ticker,score,id\n"
        "2024-01-01T10:00Z,BTC,50,1\n"
        "2024-01-01T11:00Z,BTC,150,2\n"
        "2024-01-01T12:00Z,BTC,-101,3\n"
        "2024-01-01T13:00Z,BTC,51,1\n"
        ",BTC,52,4\n"
    )
    with caplog.at_level(logging.WARNING, "bt_risk"):
        found = read_signals(path)
    assert [one.score for one in found.signals] == [50.0]
    kinds = {"score is out of range": 2, "id seen before": 1, "no published time": 1}
    assert found.refused == kinds
    assert "refused 4 of its records: 2 x score is out of range" in caplog.text


def test_a_line_that_was_cut_short_is_one_refused_record(tmp_path):
    path = tmp_path / "cut.jsonl"
    path.write_text(json.dumps(ROWS[0]) + '\n\n[1]\n{"published": "2024-01-01T')
    found = read_signals(path)
    assert len(found.signals) == 1
    assert found.refused == {"not JSON": 1, "not an object with names": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("when,score\n2024-01-01T10:00Z,1\n", "must have a column published"),
        ("published,price\n2024-01-01T10:00Z,1\n", "must have a column published, and score"),
        ("published,score\n2024-01-01T10:00Z,500\n", "has no signal: 1 x score is out of range"),
    ],
)
def test_a_file_without_signals_is_one_error(tmp_path, content, reason):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=reason):
        read_signals(path)


def test_a_missing_file_and_another_object_are_errors(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_signals(tmp_path / "none.csv")
    with pytest.raises(ParameterError, match="dataname must be the path of a file"):
        read_signals(17)


def test_a_recording_without_a_signal_yet_is_no_error(tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text("")
    assert read_signals(path).signals == ()
