"""How strictly a user's own file of prices is read."""

import gzip
import re
import sys
import tempfile
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.shared_data import shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from bt_risk.errors import DataError
from bt_risk.feeds.files import read_prices

HEADER = "datetime,open,high,low,close,volume"
BARS = [
    "2024-01-01 00:00,10,12,9,11,100",
    "2024-01-01 01:00,11,13,10,12,200",
    "2024-01-01 02:00,12,14,11,13,300",
]
TIMES = pd.DatetimeIndex(
    ["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00"], dtype="datetime64[us]"
)


def bars(times=TIMES):
    """Return what every spelling of BARS must read as."""
    columns = dict(
        open=[10.0, 11.0, 12.0],
        high=[12.0, 13.0, 14.0],
        low=[9.0, 10.0, 11.0],
        close=[11.0, 12.0, 13.0],
        volume=[100.0, 200.0, 300.0],
    )
    return pd.DataFrame(columns, index=pd.DatetimeIndex(times, name="datetime"))


@pytest.fixture
def price_file(tmp_path):
    """Return a function that writes lines to prices.csv and gives its path."""

    def write(*lines, name="prices.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def refusal(path):
    """Return the message with which `path` is refused."""
    with pytest.raises(DataError) as caught:
        read_prices(path)
    return str(caught.value)


# Spellings of the same bars.


def test_columns_are_found_in_any_case_and_order(price_file):
    path = price_file(
        "Close,VOLUME, Open ,Low,High,Adj Close,DateTime",
        "11,100,10,9,12,1,2024-01-01 00:00",
        "12,200,11,10,13,1,2024-01-01 01:00",
        "13,300,12,11,14,1,2024-01-01 02:00",
    )
    assert_frame_equal(read_prices(path), bars())


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_the_separator_is_that_of_the_first_line(price_file, separator):
    path = price_file(*(line.replace(",", separator) for line in [HEADER, *BARS]))
    assert_frame_equal(read_prices(str(path)), bars())


def test_a_separator_at_the_end_of_each_line_moves_nothing(price_file):
    path = price_file(*(line + "," for line in [HEADER, *BARS]))
    assert_frame_equal(read_prices(path), bars())


@pytest.mark.parametrize(
    "name", ["Date", "time", "TIMESTAMP", "open_time", "Open time", "", "when"]
)
def test_the_time_is_found_by_its_name_or_in_the_first_column(price_file, name):
    assert_frame_equal(read_prices(price_file(HEADER.replace("datetime", name), *BARS)), bars())


def test_a_row_count_before_the_time_is_no_time(price_file):
    lines = [f"{row},{line}" for row, line in enumerate(BARS)]
    assert_frame_equal(read_prices(price_file(f",{HEADER}", *lines)), bars())


def test_date_and_time_in_two_columns_are_one_time(price_file):
    lines = [line.replace(" ", ",", 1).replace("-", ".") for line in BARS]
    path = price_file("Date,Time,Open,High,Low,Close,Volume", *lines)
    assert_frame_equal(read_prices(path), bars())


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_an_epoch_is_recognised_by_its_size(price_file, per_second):
    start = 1704067200
    lines = [
        line.replace(line.split(",")[0], str((start + 3600 * row) * per_second))
        for row, line in enumerate(BARS)
    ]
    assert_frame_equal(read_prices(price_file(HEADER, *lines)), bars())


def test_dates_written_as_numbers_are_dates(price_file):
    lines = [line.replace(line[:16], str(20240131 + 70 * row)) for row, line in enumerate(BARS[:2])]
    times = read_prices(price_file(HEADER, *lines)).index
    assert times.to_list() == [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-01")]


def test_times_with_a_zone_become_utc_across_a_change_of_clocks(price_file):
    zoned = ["2024-03-31 00:00+00:00", "2024-03-31 03:00+02:00", "2024-03-31T04:00:00+02:00"]
    lines = [time + line[16:] for time, line in zip(zoned, BARS, strict=True)]
    expected = pd.to_datetime(["2024-03-31 00:00", "2024-03-31 01:00", "2024-03-31 02:00"])
    assert_frame_equal(read_prices(price_file(HEADER, *lines)), bars(expected.as_unit("us")))


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (("30/01/2024", "31/01/2024", "01/02/2024"), ("2024-01-30", "2024-01-31", "2024-02-01")),
        (("1/30/2024", "1/31/2024", "2/1/2024"), ("2024-01-30", "2024-01-31", "2024-02-01")),
        (("30.01.2024", "31.01.2024", "01.02.2024"), ("2024-01-30", "2024-01-31", "2024-02-01")),
    ],
)
def test_day_and_month_are_told_apart_by_the_other_dates(price_file, dates, expected):
    lines = [date + line[16:] for date, line in zip(dates, BARS, strict=True)]
    times = read_prices(price_file(HEADER, *lines)).index
    assert times.to_list() == [pd.Timestamp(day) for day in expected]


def test_day_and_month_are_not_guessed(price_file):
    lines = [f"0{row}/01/2024{line[16:]}" for row, line in enumerate(BARS, start=1)]
    message = refusal(price_file(HEADER, *lines))
    assert "datetime must say which is the day and which the month; got '01/01/2024'" in message
    assert "2024-01-31" in message


def klines(scale):
    """Return BARS as Binance writes them, with counts of 1 / scale seconds."""
    start = 1704067200
    return [
        f"{(start + 3600 * row) * scale},{line.partition(',')[2]},"
        f"{(start + 3600 * (row + 1)) * scale - 1},1100.5,42,50.1,550.2,0"
        for row, line in enumerate(BARS)
    ]


@pytest.mark.parametrize("scale", [10**3, 10**6])
def test_klines_without_names_are_read_in_both_units(price_file, scale):
    assert_frame_equal(read_prices(price_file(*klines(scale))), bars())


def test_klines_may_change_their_unit_within_one_file(price_file):
    # Binance went from milliseconds to microseconds with 2025.
    path = price_file(*klines(10**3)[:1], *klines(10**6)[1:])
    assert_frame_equal(read_prices(path), bars())


@pytest.mark.parametrize("lines", [[HEADER, *BARS], klines(10**3)], ids=["named", "klines"])
def test_gzip_and_a_byte_order_mark_are_no_obstacle(tmp_path, lines):
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress("\r\n".join(lines).encode("utf-8-sig")))
    assert_frame_equal(read_prices(path), bars())


def test_a_file_without_volume_gives_no_volume(price_file):
    path = price_file(*(line.rpartition(",")[0] for line in [HEADER, *BARS]))
    assert_frame_equal(read_prices(path), bars().drop(columns="volume"))


@pytest.mark.parametrize("index", [True, False])
def test_parquet_is_read_with_its_times_in_the_index_or_in_a_column(tmp_path, index):
    pytest.importorskip("pyarrow")
    path = tmp_path / "prices.parquet"
    frame = bars().rename(columns=str.title).tz_localize("UTC").tz_convert("America/New_York")
    frame.index = frame.index.as_unit("ns")
    (frame.rename_axis(None) if index else frame.reset_index()).to_parquet(path)
    assert_frame_equal(read_prices(path), bars())


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "prices.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refusal(path) == f"read_prices: {path} needs pyarrow. pip install pyarrow"


# What is refused.


def with_cell(row, column, value):
    """Return the lines of the file with one cell replaced (rows count from 1)."""
    lines = [line.split(",") for line in BARS]
    lines[row - 1][HEADER.split(",").index(column)] = value
    return [HEADER, *(",".join(line) for line in lines)]


REFUSED = [
    ("open", "", "open must be a number; got nan in line 3"),
    ("close", "n/a", "close must be a number; got nan in line 3"),
    ("close", "12.5x", "close must be a number; got '12.5x' in line 3"),
    ("high", "inf", "high must be a number; got inf in line 3"),
    ("volume", "", "volume must be a number; got nan in line 3"),
    ("low", "0", "low must be above zero; got 0.0 in line 3"),
    ("open", "-11", "open must be above zero; got -11.0 in line 3"),
    ("volume", "-1", "volume must be zero or more; got -1.0 in line 3"),
    ("high", "9.9", "high must be at least low; got 9.9 in line 3"),
    ("open", "13.5", "open must be between low and high; got 13.5 in line 3"),
    ("open", "9.5", "open must be between low and high; got 9.5 in line 3"),
    ("close", "13.5", "close must be between low and high; got 13.5 in line 3"),
    ("close", "9.5", "close must be between low and high; got 9.5 in line 3"),
]


@pytest.mark.parametrize(("column", "value", "words"), REFUSED)
def test_a_value_that_cannot_be_true_is_refused_by_place(price_file, column, value, words):
    path = price_file(*with_cell(2, column, value))
    message = refusal(path)
    assert message.startswith(f"read_prices: {words} (2024-01-01 01:00:00) of {path}. ")
    assert re.search(r"\. [A-Z][^.]+\.$", message), "no remedy"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", "nan"),
        ("yesterday", "'yesterday'"),
        ("10:30", "'10:30'"),
        ("10:30:00.1234", "'10:30:00.1234'"),
        ("2024-02-30", "'2024-02-30'"),
    ],
)
def test_a_time_that_cannot_be_read_is_refused_by_place(price_file, value, shown):
    path = price_file(*with_cell(2, "datetime", value))
    assert refusal(path).startswith(
        f"read_prices: datetime must be a time; got {shown} in line 3 of {path}. "
    )


@pytest.mark.parametrize("value", ["1", "99999999", "-1704067200", "5e18", "", "soon"])
def test_a_number_that_is_no_time_is_refused(price_file, value):
    lines = [HEADER, "1704067200" + BARS[0][16:], value + BARS[1][16:]]
    assert "datetime must be a time; got" in refusal(price_file(*lines))
    assert "in line 3 of" in refusal(price_file(*lines))


def test_times_in_no_order_are_refused(price_file):
    message = refusal(price_file(HEADER, BARS[1], BARS[0], BARS[2]))
    assert "datetime must ascend; got 2024-01-01 00:00:00 in line 3" in message
    assert "after 2024-01-01 01:00:00. Sort the file by time, oldest first, or read" in message


def test_a_time_with_two_bars_is_refused(price_file):
    message = refusal(price_file(HEADER, *BARS, BARS[2].replace("300", "301")))
    assert "datetime must be unique; got 2024-01-01 02:00:00 again in line 5" in message


def test_all_missing_columns_are_named_at_once(price_file):
    path = price_file("datetime,open,high,price", "2024-01-01,1,1,1")
    assert refusal(path) == (
        f"read_prices: {path} must have a column low, close; got 'datetime', 'open', 'high', "
        "'price'. Name the columns in the first line, or give columns=."
    )


def test_a_file_without_times_is_refused(price_file):
    message = refusal(price_file("open,high,low,close", "1,1,1,1"))
    assert "must have a column of times; got 'open', 'high', 'low', 'close'" in message


@pytest.mark.parametrize("twin", ["close", "Close"])
def test_two_columns_of_one_name_are_refused(price_file, twin):
    path = price_file(f"{HEADER},{twin}", *(line + ",12" for line in BARS))
    assert "has two columns named close. Keep one of them." in refusal(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", HEADER.encode() + b"\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    assert "is empty. It must hold one line per bar." in refusal(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "absent.csv"
    assert refusal(path) == f"read_prices: {path} does not exist. Check the path."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prices.csv", b"\xff\xff\x00\x01"),
        ("prices.csv.gz", b"not gzip"),
        ("prices.csv.gz", gzip.compress("\n".join([HEADER, *BARS]).encode(), mtime=0)[:40]),
        ("prices.csv.gz", gzip.compress(b"a", mtime=0)[:10] + b"\xff" * 20),
        ("prices.csv", "\n".join([HEADER, BARS[0], BARS[1] + ",1,2,3"]).encode()),
        ("prices.csv", "\n".join([HEADER, *(f"{line},1" for line in BARS)]).encode()),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(f"read_prices: {path} cannot be read: ")
    assert message.endswith("Save it as CSV in UTF-8.")


def test_a_folder_is_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(("over", "kept"), [(0.5e-9, True), (2e-9, False)])
def test_float_noise_makes_no_bar_impossible(price_file, over, kept):
    path = price_file(*with_cell(2, "close", repr(13 * (1 + over))))
    if kept:
        assert read_prices(path)["close"].iloc[1] == 13 * (1 + over)
    else:
        assert "close must be between low and high" in refusal(path)


# Properties.

positive = st.floats(1e-6, 1e9, allow_subnormal=False)


@st.composite
def price_frames(draw):
    """Return any frame of possible bars, minutes to weeks apart."""
    steps = draw(st.lists(st.integers(1, 10_000), min_size=1, max_size=20))
    minutes = np.cumsum(steps)
    start = datetime(1999, 1, 1)
    times = [start + timedelta(minutes=int(minute)) for minute in minutes]
    rows = [sorted(draw(st.lists(positive, min_size=4, max_size=4))) for _ in times]
    flips = draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    table = [
        (b, high, low, a) if flip else (a, high, low, b)
        for (low, a, b, high), flip in zip(rows, flips, strict=True)
    ]
    frame = pd.DataFrame(table, columns=["open", "high", "low", "close"])
    frame["volume"] = [draw(st.floats(0, 1e12)) for _ in times]
    frame.index = pd.DatetimeIndex(times, name="datetime").as_unit("us")
    return frame


@settings(max_examples=100, deadline=None, derandomize=True)
@given(frame=price_frames(), packed=st.booleans())
def test_what_to_csv_writes_is_read_back_to_the_last_digit(frame, packed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prices.csv.gz" if packed else "prices.csv")
        frame.to_csv(path)
        assert_frame_equal(read_prices(path), frame, check_exact=True)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(content=st.binary(max_size=200) | st.text(",;0123456789.-:\nopenhighlwcsdat", max_size=200))
def test_no_content_whatever_gives_more_than_a_data_error(content):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "prices.csv")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError):
            read_prices(path)


cells = st.text("0123456789.-+:eE/ TZnaif\u00e9", max_size=12) | st.floats().map(str)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(row=st.integers(1, 3), column=st.sampled_from(HEADER.split(",")), value=cells)
def test_one_cell_of_anything_gives_clean_bars_or_a_data_error(row, column, value):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "prices.csv")
        path.write_text("\n".join(with_cell(row, column, value)), encoding="utf-8")
        try:
            prices = read_prices(path)
        except DataError:
            return
    assert np.isfinite(prices.to_numpy()).all()
    assert prices.index.is_unique
    assert prices.index.is_monotonic_increasing
    assert len(prices) == 3


# Real files that are not part of the product.


@pytest.mark.parametrize("asset", ["BTC", "ETH", "SOL", "LTC"])
def test_a_year_of_hourly_crypto_is_read_whole(asset):
    prices = read_prices(shared_data(f"crypto_1h_2024/{asset}USDT_1h_2024.csv.gz"))
    assert len(prices) == 8784
    assert (np.diff(prices.index) == np.timedelta64(1, "h")).all()


def test_the_reader_finds_the_known_marks_of_bitcoin_in_2024():
    prices = read_prices(shared_data("crypto_1h_2024/BTCUSDT_1h_2024.csv.gz"))
    assert prices.loc["2024-01-01", "close"].iloc[-1] == 44179.55
    assert prices.loc["2024-03-14", "high"].max() == 73777
    assert prices.loc["2024-08-05", "low"].min() == 49000
    assert prices["close"].iloc[-1] == 93576
