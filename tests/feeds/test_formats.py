"""Files as vendors, platforms and spreadsheets write them, with made-up prices."""

import gzip
import logging
import zipfile

import pandas as pd
import pytest
from helpers.price_files import DAYS, HEAD, HOURS, ROWS, TYPICAL

from bt_risk.errors import DataError, ParameterError
from bt_risk.feeds.files import read_prices

# Beside the 34 typical files: (content, times); each holds the two bars of ROWS.
FILES = {
    "ccxt or HistData, without names (text)": (
        "20240130 090000;10;12;9;11;1000\n20240130 100000;11;13;10;12;2000\n",
        HOURS,
    ),
    "MetaTrader 5 (an exchange)": (
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
        "2024.01.30\t09:00:00\t10\t12\t9\t11\t7\t1000\t5\n"
        "2024.01.30\t10:00:00\t11\t13\t10\t12\t8\t2000\t5\n",
        HOURS,
    ),
    "Alpha Vantage": (
        "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient\n"
        "2024-01-31,11,13,10,12,12,2000,0,1\n2024-01-30,10,12,9,11,11,1000,0,1\n",
        DAYS,
    ),
    "Investing.com (names of months)": (
        '"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"Jan 31, 2024","12","11","13","10","2K","9.09%"\n'
        '"Jan 30, 2024","11","10","12","9","1K","0.1%"\n',
        DAYS,
    ),
    "columns with names (Stooq)": (HEAD + ROWS, DAYS),
    "Backtrader's GenericCSVData": (
        "2024-01-30,09:00:00,10,12,9,11,1000,0\n2024-01-30,10:00:00,11,13,10,12,2000,0\n",
        HOURS,
    ),
    "columns with names (separators at the ends)": (
        HEAD + ROWS.replace("\n", ",\n").replace(",\n", ",\n\n", 1),
        DAYS,
    ),
}


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes a text and gives its path."""

    def save(text, encoding="utf-8", name="prices.csv"):
        path = tmp_path / name
        content = text.encode(encoding)
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        return path

    return save


def check(prices, times, volume=(1000.0, 2000.0)):
    """Hold `prices` against the two bars of ROWS."""
    assert list(prices.index) == [pd.Timestamp(time) for time in times]
    assert prices[["open", "high", "low", "close"]].to_numpy().tolist() == [
        [10, 12, 9, 11],
        [11, 13, 10, 12],
    ]
    if volume:
        assert prices["volume"].tolist() == list(volume)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_as_its_vendor_writes_it(saved, kind, encoding):
    text, times = FILES[kind]
    prices = read_prices(saved(text, encoding))
    check(prices, times)
    assert prices.attrs["format"] == kind.partition(" (")[0].partition(", hours")[0]


def test_thousands_are_recognised_beside_a_point(saved):
    text = HEAD + '2024-01-30,999.50,"1,012.25",990,"1,001.00","3,743,050,000"\n'
    prices = read_prices(saved(text))
    assert prices.iloc[0].tolist() == [999.5, 1012.25, 990, 1001, 3743050000]


def test_a_comma_that_can_be_both_is_refused_and_settled(saved):
    path = saved(HEAD.replace(",", ";") + "2024-01-30;1,100;1,200;1,000;1,150;5\n")
    with pytest.raises(DataError, match=r"got '1,100' in line 2 of .*Give decimal=',' or"):
        read_prices(path)
    assert read_prices(path, decimal=",")["close"].tolist() == [1.15]
    assert read_prices(path, decimal=".")["close"].tolist() == [1150]


def test_a_comma_beside_a_decimal_point_separates_thousands(saved):
    head = HEAD.replace(",", ";")
    row = "2024-01-30;{};{};{};{};1,234\n"
    told = read_prices(saved(head + row.format("10.50", "12.00", "9.00", "11.00")))
    assert told.iloc[0].tolist() == [10.5, 12, 9, 11, 1234]
    # 10.500 may be ten thousand five hundred where the comma is a decimal mark.
    with pytest.raises(DataError, match="got '1,234' in line 2 of .*which can be both"):
        read_prices(saved(head + row.format("10.500", "12.000", "9.000", "11.000")))


def test_a_comma_is_never_dropped_from_a_fraction(saved):
    path = saved(HEAD.replace(",", ";") + "2024-01-30;10,5;12,5;9,5;11,5;5\n")
    with pytest.raises(DataError, match="open must be a number; got '10,5' in line 2"):
        read_prices(path, decimal=".")


@pytest.mark.parametrize(("volume", "decimal"), [("5", ","), ("1234.5", None)])
def test_a_point_is_never_dropped_from_a_fraction(saved, volume, decimal):
    price = "10.5" if decimal else "10,5"
    row = ";".join(["2024-01-30", price, price, price, price, volume])
    path = saved(HEAD.replace(",", ";") + row)
    with pytest.raises(DataError, match=r"as decimal mark, .*got '(10.5|1234.5)' in line 2"):
        read_prices(path, decimal=decimal)


def test_a_dash_is_no_volume(saved):
    text = TYPICAL["Investing.com"].content.replace("2.00K", "-").replace("0.001M", "-")
    prices = read_prices(saved(text))
    assert "volume" not in prices
    assert "left out the column volume, which has no value" in prices.attrs["repairs"]


def test_format_settles_dates_that_can_be_both(saved):
    text = HEAD + ROWS.replace("2024-01-30", "01/02/2024").replace("2024-01-31", "02/02/2024")
    with pytest.raises(DataError, match=r"line 2 of .*Give format='%d/%m/%Y' or '%m/%d/%Y'"):
        read_prices(saved(text))
    check(read_prices(saved(text), format="%d/%m/%Y"), ["2024-02-01", "2024-02-02"])
    check(read_prices(saved(text), format="%m/%d/%Y"), ["2024-01-02", "2024-02-02"])


def test_a_time_that_is_not_as_format_says_is_refused(saved):
    with pytest.raises(DataError, match=r"in line 2 of .*\(format is '%d/%m/%Y'\)"):
        read_prices(saved(HEAD + ROWS), format="%d/%m/%Y")


def test_tz_is_the_zone_of_times_that_name_none(saved):
    text = "2024.01.30,04:00,10,12,9,11,1000\n2024.01.30,05:00,11,13,10,12,2000\n"
    check(read_prices(saved(text), tz="America/New_York"), HOURS)


def test_tz_moves_no_time_that_names_its_zone(saved):
    for kind in ("Alpaca", "Polygon", "Interactive Brokers, with a zone"):
        check(read_prices(saved(TYPICAL[kind].content), tz="Asia/Tokyo"), HOURS)


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_hour_that_a_zone_has_twice_is_told_by_its_neighbours(saved, newest_first):
    hours = ["00:30", "01:00", "01:30", "01:00", "01:30", "02:00"]
    lines = [f"20241103 {hour}:00 America/New_York,10,12,9,11,5" for hour in hours]
    text = HEAD + "\n".join(reversed(lines) if newest_first else lines)
    times = read_prices(saved(text)).index
    assert times[0] == pd.Timestamp("2024-11-03 04:30")
    assert (times[1:] - times[:-1] == pd.Timedelta(minutes=30)).all()


def test_a_time_that_its_zone_does_not_have_is_refused(saved):
    text = HEAD + "20240310 02:30:00 America/New_York,10,12,9,11,5\n"
    with pytest.raises(DataError, match="has times that America/New_York does not have"):
        read_prices(saved(text))


def test_columns_names_what_no_rule_knows(saved):
    text = "when,first,top,bottom,last,size,close\n" + ROWS.replace("000\n", "000,1\n")
    names = dict(open="first", high="Top", low="bottom", close="last", volume="size")
    check(read_prices(saved(text), columns=names), DAYS)
    names["volume"] = None
    assert "volume" not in read_prices(saved(text), columns=names)


def test_the_first_column_that_names_no_instrument_has_the_times(saved):
    text = "Ticker,Date/Time,Open,High,Low,Close,Volume\n" + ROWS.replace("2024", "ABC,2024")
    check(read_prices(saved(text)), DAYS)


@pytest.mark.parametrize("head", ["", "a,b,c,d,e,f\n"])
def test_a_list_of_columns_is_for_files_without_names_and_in_place_of_them(saved, head):
    text = head + "10,9,12,11,7,2024-01-30\n11,10,13,12,8,2024-01-31\n"
    names = ["open", "low", "high", "close", "count", "datetime"]
    check(read_prices(saved(text), columns=names), DAYS, volume=None)


def test_columns_that_are_not_there_are_refused(saved):
    with pytest.raises(DataError, match=r"has no column 'last'; got 'date', 'open'"):
        read_prices(saved(HEAD + ROWS), columns={"close": "last"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(columns="close"), "columns must be a dict or a list; got 'close'"),
        (dict(columns={"price": "close"}), "columns must be one of 'datetime', 'open'"),
        (dict(decimal=";"), "decimal must be one of '.', ','; got ';'"),
        (dict(tz="Mars/Olympus"), "tz must be a time zone; got 'Mars/Olympus'"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(saved, options, words):
    with pytest.raises(ParameterError) as caught:
        read_prices(saved(HEAD + ROWS), **options)
    assert words in str(caught.value)


REPAIRS = {
    "turned the rows round: the file has the newest first": HEAD
    + "2024-01-31,11,13,10,12,2000\n2024-01-30,10,12,9,11,1000\n",
    "left out rows that repeat a whole row: 1 (the first is line 4)": HEAD
    + ROWS
    + "2024-01-30,10,12,9,11,1000\n",
    "left out rows without any price: 1 (the first is line 3)": HEAD
    + ROWS.replace("\n", "\n2024-01-30,null,null,null,null,null\n", 1),
}


@pytest.mark.parametrize("sentence", REPAIRS)
def test_what_changes_no_bar_is_repaired_and_said(saved, caplog, sentence):
    path = saved(REPAIRS[sentence])
    with caplog.at_level(logging.WARNING, "bt_risk"):
        prices = read_prices(path)
    check(prices, DAYS)
    assert prices.attrs["repairs"] == [sentence]
    assert [record.getMessage() for record in caplog.records] == [
        f"read_prices: {path}: {sentence}"
    ]


def test_a_clean_file_needs_no_repair(saved, caplog):
    with caplog.at_level(logging.WARNING, "bt_risk"):
        assert read_prices(saved(HEAD + ROWS)).attrs["repairs"] == []
    assert not caplog.records


def test_sort_sorts_and_refuses(saved):
    lines = ["2024-01-31,11,13,10,12,2000", "2024-01-30,10,12,9,11,1000"]
    path = saved(HEAD + "\n".join(lines))
    with pytest.raises(DataError, match="datetime must ascend; got 2024-01-30 00:00:00 in line 3"):
        read_prices(path, sort=False)
    mixed = saved(HEAD + "\n".join([*lines, "2024-02-01,11,13,10,12,2000"]))
    assert read_prices(mixed, sort=True).index.is_monotonic_increasing


@pytest.mark.parametrize(
    "text",
    [
        "symbol," + HEAD + "ABC,2024-01-30,10,12,9,11,5\nDEF,2024-01-30,10,12,9,11,5\n",
        "Price,Close,Close,High,High,Low,Low,Open,Open\nTicker,ABC,DEF,ABC,DEF,ABC,DEF,ABC,DEF\n"
        "Date,,,,,,,,\n2024-01-30,11,11,12,12,9,9,10,10\n",
    ],
)
def test_a_file_of_two_instruments_is_refused(saved, text):
    with pytest.raises(DataError, match=r"must hold one instrument; got 2 .*ABC, DEF.*for each"):
        read_prices(saved(text))


def test_values_in_unknown_order_are_refused(saved):
    with pytest.raises(DataError, match="the order of its 7 columns is not known"):
        read_prices(saved("2024-01-30,10,12,9,11,11,5\n"))


def test_the_line_counts_titles_and_empty_lines(saved):
    text = "my prices\n\n" + HEAD + "\n" + ROWS.replace("12,2000", "0,2000")
    with pytest.raises(DataError, match="close must be above zero; got 0.0 in line 6 "):
        read_prices(saved(text))


def test_a_packed_file_is_recognised_too(saved):
    text = TYPICAL["MetaTrader 5"].content
    check(read_prices(saved(text, "utf-16", "prices.csv.gz")), HOURS)


def packed(path, **members):
    """Write a zip archive with a member for each name, dots written as double underscores."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)
    return path


def test_a_zip_archive_of_one_file_is_read(tmp_path):
    text = TYPICAL["Binance klines"].content
    path = packed(tmp_path / "BTCUSDT-1h.zip", BTCUSDT__csv=text)
    check(read_prices(path), HOURS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._BTCUSDT.csv", "x")  # macOS packs its notes too
    check(read_prices(path), HOURS)
    packed(path, a__csv=text, b__csv=text)
    with pytest.raises(DataError, match=r"must hold one file; got 2 \(a.csv, b.csv\)"):
        read_prices(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot be read: File is not a zip file"):
        read_prices(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "is a web page"),
        ("\n<HTML><head></head></HTML>", "is a web page"),
        ('[[1704067200000,"42283.58","42554.57"]]', "is JSON. Save its bars as CSV"),
        ('{"s": "ok", "c": [1.0]}', "is JSON"),
    ],
)
def test_what_is_no_text_of_bars_is_named(saved, text, words):
    for name in ("prices.csv", "prices.csv.gz"):
        with pytest.raises(DataError, match=words):
            read_prices(saved(text, name=name))


def test_an_excel_workbook_is_named(tmp_path):
    path = tmp_path / "prices.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match="is an Excel workbook. Save the sheet"):
        read_prices(path)
