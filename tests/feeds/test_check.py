"""What is found in a file of prices before a backtest."""

import numpy as np
import pandas as pd
import pytest
from helpers.shared_data import shared_data

from bt_risk.errors import DataError
from bt_risk.feeds.check import check_file


@pytest.fixture
def report(tmp_path):
    """Return a function that saves closes with a range of 2 around them and checks the file."""

    def check(closes, times, change=None, **options):
        closes = pd.Series(np.asarray(closes, float))
        opens = closes.shift().fillna(closes.iloc[0])
        frame = pd.DataFrame({"open": opens, "close": closes})
        if change is not None:
            change(frame)
        frame["high"] = frame[["open", "close"]].max(axis=1) + 1
        frame["low"] = frame[["open", "close"]].min(axis=1) - 1
        path = tmp_path / "prices.csv"
        frame.set_index(pd.DatetimeIndex(times, name="datetime")).to_csv(path)
        return check_file(path, **options)

    return check


def test_a_clean_file_has_no_findings_and_its_call_reads_it(report, tmp_path):
    found = report([100] * 30, pd.bdate_range("2024-01-01", periods=30), tz="UTC", sort=None)
    assert found == {
        "file": str(tmp_path / "prices.csv"),
        "format": "columns with names",
        "bars": 30,
        "first": "2024-01-01 00:00:00",
        "last": "2024-02-09 00:00:00",
        "interval": "1 day",
        "volume": False,
        "repairs": [],
        "gaps": {"count": 0, "examples": []},
        "zero_ranges": {"count": 0, "examples": []},
        "jumps": {"count": 0, "examples": []},
        "splits": {"count": 0, "examples": []},
        "call": f"bt_risk.read_prices({str(tmp_path / 'prices.csv')!r}, tz='UTC')",
    }


@pytest.mark.parametrize(
    ("freq", "text"),
    [("D", "1 day"), ("4h", "4 hours"), ("5min", "5 minutes"), ("s", "1 second"), ("7D", "7 days")],
)
def test_the_interval_is_the_most_frequent_step(report, freq, text):
    assert report([100] * 9, pd.date_range("2024-01-01", periods=9, freq=freq))["interval"] == text


def test_one_bar_has_no_interval(report):
    found = report([100], ["2024-01-01"])
    assert (found["bars"], found["interval"], found["gaps"]["count"]) == (1, None, 0)


def test_a_gap_of_a_market_without_weekends_is_found(report):
    times = pd.date_range("2024-01-01", periods=300, freq="h").delete([100, 101, 200])
    gaps = report([100] * 297, times)["gaps"]
    assert gaps["count"] == 2
    assert gaps["examples"][0] == {
        "from": "2024-01-05 03:00:00",
        "to": "2024-01-05 06:00:00",
        "length": "3 hours",
    }


def test_weekends_and_holidays_are_no_gaps_and_a_week_is(report):
    times = pd.bdate_range("2024-01-01", periods=100)
    assert report([100] * 99, times.delete(15))["gaps"]["count"] == 0  # a Monday
    gaps = report([100] * 95, times.delete(range(15, 20)))["gaps"]
    assert [row["length"] for row in gaps["examples"]] == ["10 days"]


def test_nights_are_no_gaps_and_a_missing_hour_is(report):
    days = pd.bdate_range("2024-01-01", periods=40)
    times = pd.DatetimeIndex([day + pd.Timedelta(hours=h) for day in days for h in range(14, 21)])
    gaps = report([100] * 279, times.delete(10))["gaps"]
    assert [row["length"] for row in gaps["examples"]] == ["2 hours"]


def test_bars_without_a_range_are_counted(tmp_path):
    path = tmp_path / "prices.csv"
    lines = [f"2024-01-{day:02},5,5,5,5" for day in range(1, 9)]
    path.write_text("\n".join(["date,open,high,low,close", *lines, "2024-01-09,5,6,5,5"]))
    found = check_file(path)["zero_ranges"]
    assert found["count"] == 8
    assert found["examples"] == [{"time": f"2024-01-0{day} 00:00:00"} for day in range(1, 6)]


@pytest.mark.parametrize(("step", "count"), [(21, 1), (19, 0), (-21, 1)])
def test_a_jump_is_more_than_ten_atr(report, step, count):
    closes = [100] * 20 + [100 + step] * 20
    jumps = report(closes, pd.date_range("2024-01-01", periods=40, freq="h"))["jumps"]
    assert jumps["count"] == count
    if count:
        assert jumps["examples"] == [
            {"time": "2024-01-01 20:00:00", "atr": step / 2, "change": step / 100}
        ]


@pytest.mark.parametrize(
    ("factor", "ratio"),
    [(1 / 4, "4:1"), (10, "1:10"), (2 / 3, "1.5:1"), (0.51, "2:1"), (0.8, None)],
)
def test_a_split_is_suspected_by_its_ratio(report, factor, ratio):
    def split(frame):
        frame.loc[20:] *= factor
        frame.loc[20, "open"] = frame.loc[20, "close"]

    times = pd.date_range("2024-01-01", periods=40)
    splits = report([100] * 40, times, split)["splits"]
    expected = [{"time": "2024-01-21 00:00:00", "ratio": ratio}] if ratio else []
    assert splits["examples"] == expected


def test_a_bad_tick_is_no_split(report):
    def tick(frame):
        frame.loc[20, "open"] = 50

    splits = report([100] * 40, pd.date_range("2024-01-01", periods=40), tick)["splits"]
    assert splits["count"] == 0


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        check_file(tmp_path / "absent.csv")


def test_the_closed_days_of_a_real_market_are_its_gaps():
    found = check_file(shared_data("us_daily/AAPL.csv.gz"))
    days = [(row["from"][:10], row["to"][:10]) for row in found["gaps"]["examples"]]
    # Two closures of the exchange that met a holiday or a weekend.
    assert days == [("2006-12-29", "2007-01-03"), ("2012-10-26", "2012-10-31")]
    assert (found["jumps"]["count"], found["splits"]["count"]) == (0, 0)
