"""The prices that come with the package, and the script that builds them."""

import gzip
import hashlib
import importlib.util
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.shared_data import ROOT, shared_data
from pandas.testing import assert_frame_equal

from bt_risk.errors import ParameterError
from bt_risk.feeds.bundled import CATALOGUE, list_data, load_data
from bt_risk.feeds.files import read_prices

# The series of the package.


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_series_is_clean_and_oldest_first(name):
    prices = load_data(name)
    assert list(prices.columns) == ["open", "high", "low", "close", "volume"]
    assert set(map(str, prices.dtypes)) == {"float64"}
    assert np.isfinite(prices.to_numpy()).all()
    assert prices.index.name == "datetime"
    assert prices.index.dtype == "datetime64[us]"
    assert prices.index.is_unique
    assert prices.index.is_monotonic_increasing
    body = prices[["open", "close"]]
    assert (prices["low"] <= body.min(axis=1)).all()
    assert (prices["high"] >= body.max(axis=1)).all()
    assert (prices["low"] > 0).all()
    assert (prices["volume"] >= 0).all()


def test_hourly_bitcoin_has_no_gaps_and_its_known_marks():
    prices = load_data("btcusd_1h")
    assert len(prices) == 20111
    assert prices.index[0] == pd.Timestamp("2017-07-01 11:00")
    assert prices.index[-1] == pd.Timestamp("2019-10-17 09:00")
    assert (np.diff(prices.index) == np.timedelta64(1, "h")).all()
    assert prices.iloc[0].to_list() == [2505.56, 2513.38, 2495.12, 2509.17, 114.6]
    # The peak of the bull market of 2017, as Coinbase printed it.
    assert prices["high"].idxmax() == pd.Timestamp("2017-12-17 12:00")
    assert prices["high"].max() == 19891.99
    # Fifteen hours without a trade on one day of 2018.
    assert (prices.loc["2018-08-10", "volume"] == 0).sum() == 15


@pytest.mark.parametrize(
    ("name", "day", "high"),
    [("sp500_1d", "2018-09-21", 2940.91), ("nasdaq_1d", "2018-08-30", 8133.30)],
)
def test_an_index_peaks_where_the_market_did(name, day, high):
    prices = load_data(name)
    assert len(prices) == 5031
    assert prices.index[0] == pd.Timestamp("1999-01-04")
    assert prices.index[-1] == pd.Timestamp("2018-12-31")
    assert prices["high"].idxmax() == pd.Timestamp(day)
    assert prices["high"].max() == high


def test_an_index_has_quotes_of_two_digits():
    for name in ("sp500_1d", "nasdaq_1d"):
        prices = load_data(name)[["open", "high", "low", "close"]]
        assert (prices == prices.round(2)).all(axis=None)


# First row of the ticker in stocks.csv.gz: open, high, low, close, volume, adjusted close.
SOURCE_ROWS = {
    "aapl_1d": ("2000-03-01", 118.56, 132.06, 118.5, 130.31, 9616100, 4.186662803811),
    "goog_1d": ("2004-08-19", 100.01, 104.06, 95.96, 100.335, 44659000, 50.322842),
}


@pytest.mark.parametrize("name", SOURCE_ROWS)
def test_a_stock_is_adjusted_by_the_ratio_of_its_closes(name):
    day, open_, high, low, close, volume, adjusted = SOURCE_ROWS[name]
    ratio = adjusted / close
    expected = [open_ * ratio, high * ratio, low * ratio, adjusted]
    bar = load_data(name).loc[day]
    assert bar.iloc[:4].to_list() == pytest.approx(expected, abs=1e-6)
    assert bar["volume"] == pytest.approx(volume / ratio, abs=20)


def test_no_split_is_left_in_a_stock():
    # Apple split 2 for 1 on 2000-06-21 and 2005-02-28, Microsoft on 2003-02-18.
    for name, day in (
        ("aapl_1d", "2000-06-21"),
        ("aapl_1d", "2005-02-28"),
        ("msft_1d", "2003-02-18"),
    ):
        move = load_data(name)["close"].pct_change().loc[day]
        assert abs(move) < 0.12, (name, day, move)


def test_the_stocks_trade_on_the_days_of_the_index():
    days = load_data("sp500_1d").loc["2000-03-01":"2013-03-01"].index
    for name in ("aapl_1d", "ibm_1d", "msft_1d"):
        assert load_data(name).index.equals(days)
    assert load_data("goog_1d").index.equals(days[days >= "2004-08-19"])


def test_each_call_returns_a_fresh_copy():
    spoilt = load_data("ibm_1d")
    spoilt.iloc[:, :] = 0.0
    spoilt.index.name = "spoilt"
    again = load_data("ibm_1d")
    assert (again["close"] > 0).all()
    assert again.index.name == "datetime"


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ParameterError, match=r"load_data: name must be one of .*; got 'btc'"):
        load_data("btc")
    with pytest.raises(ParameterError) as caught:
        load_data(None)
    assert all(name in str(caught.value) for name in CATALOGUE)


def test_list_data_says_what_load_data_gives():
    listed = list_data()
    assert list(listed.columns) == ["title", "bars", "first", "last", "source"]
    assert listed.index.name == "name"
    assert list(listed.index) == list(CATALOGUE)
    for name, row in listed.iterrows():
        prices = load_data(name)
        assert (row["bars"], row["first"], row["last"]) == (
            len(prices),
            prices.index[0],
            prices.index[-1],
        )


def test_the_catalogue_is_the_folder():
    files = {path.name.removesuffix(".csv.gz") for path in (ROOT / "data").glob("*.csv.gz")}
    assert files == set(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_readme_of_the_data_gives_its_fingerprint(name):
    content = gzip.decompress((ROOT / "data" / f"{name}.csv.gz").read_bytes())
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert f"| `{name}.csv.gz` | `{hashlib.sha256(content).hexdigest()}` |" in readme


def test_the_readme_of_the_data_gives_bars_and_dates():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name, row in list_data().iterrows():
        line = next(line for line in readme.splitlines() if line.startswith(f"| `{name}.csv.gz`"))
        assert f"| {row['bars']:,} | {row['first']:%Y-%m-%d}" in line
        assert f"| {row['last']:%Y-%m-%d}" in line
        assert row["source"] in line


def test_importing_the_module_reads_no_data():
    script = (
        "import sys; seen = []; sys.addaudithook(lambda event, args: seen.append(str(args[0]))"
        " if event == 'open' else None); import bt_risk.feeds.bundled;"
        " print([name for name in seen if name.endswith('.csv.gz')])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_series_pass_the_checks_for_files():
    for name in CATALOGUE:
        assert_frame_equal(read_prices(ROOT / "data" / f"{name}.csv.gz"), load_data(name))


@pytest.mark.parametrize("ticker", ["AAPL", "MSFT"])
def test_our_stocks_move_like_those_of_another_source(ticker):
    theirs = read_prices(shared_data(f"us_daily/{ticker}.csv.gz"))["close"].pct_change()
    ours = load_data(f"{ticker.lower()}_1d")["close"].pct_change()
    both = pd.concat([ours, theirs], axis=1, join="inner").dropna()
    assert len(both) > 2300
    # Theirs is not adjusted for dividends, so the days of a dividend differ a little.
    difference = (both.iloc[:, 0] - both.iloc[:, 1]).abs()
    assert (difference < 2e-4).mean() > 0.97
    assert difference.max() < 0.12


# The script that builds the data (all but its downloads).


@pytest.fixture(scope="module")
def build():
    """Return the module data/build.py."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "data" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_that_builds_the_data_refuses_what_is_not_as_described(build):
    text = gzip.decompress((ROOT / "data" / "sp500_1d.csv.gz").read_bytes()).decode()
    rows = [line.split(",") for line in text.splitlines()[1:]]
    build.check("sp500_1d", rows)
    with pytest.raises(SystemExit, match="sp500_1d: not as README.md says: landmarks$"):
        build.check("sp500_1d", rows[1:])
    impossible = [*rows[:-1], [rows[-1][0], "1", "1", "2", "1", "0"]]
    with pytest.raises(SystemExit, match="bars are possible$"):
        build.check("sp500_1d", impossible)


def test_the_script_that_builds_the_data_writes_text_without_time_or_name(build, tmp_path):
    name = "ibm_1d.csv.gz"
    text = gzip.decompress((ROOT / "data" / name).read_bytes()).decode()
    rows = [line.split(",") for line in text.splitlines()[1:]]
    build.write(tmp_path / name, rows)
    written = (tmp_path / name).read_bytes()
    assert gzip.decompress(written).decode() == text
    assert written[4:8] == bytes(4), "a time stamp in the file"
    assert written[3] == 0, "a file name in the file"


def test_the_script_that_builds_the_data_adjusts_and_orders(build):
    # A two-for-one split still ahead: half the prices, twice the volume.
    row = dict(Date="d", Open="10", High="12", Low="9", Close="11", Volume="100")
    adjusted = build.adjusted({**row, "Adj Close": "5.5"})
    assert adjusted == ["d", "5.000000", "6.000000", "4.500000", "5.500000", "200"]
    text = (
        "origin\ndate,symbol,open,high,low,close,volume_btc,volume\n"
        "2020-01-01 12-PM,X,1,2,1,1,5,9\n2020-01-01 12-AM,X,1,2,1,1,6,9\n"
    )
    assert [bar[0] for bar in build.bitcoin(text)] == ["2020-01-01 00:00:00", "2020-01-01 12:00:00"]
