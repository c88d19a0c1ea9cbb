"""How the files of vendors and platforms look: their columns, or the order of these."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pandas as pd

__all__ = ["COLUMNS", "PRICES", "TIMES", "Layout", "bare_layout", "named_layout", "plain_name"]

PRICES = ["open", "high", "low", "close"]
COLUMNS = [*PRICES, "volume"]
TIMES = ["datetime", "date", "time", "timestamp", "open_time", "open time"]
OHLCV = tuple(COLUMNS)
KLINES = (
    *("open_time", *OHLCV, "close_time", "quote_volume", "trades", "taker_base"),
    *("taker_quote", "ignored"),
)


@dataclass(frozen=True)
class Layout:
    """The columns of one kind of file.

    Parameters
    ----------
    name : str
        Who writes such files.
    columns : tuple of str
        Lower-case names by which a file with names is recognised, or, for a file without names,
        the name of each column.
    renamed : dict
        The name that a column of the file has in a frame, by its name in the file.
    grouped : bool
        Whether a comma always separates thousands.
    """

    name: str
    columns: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)
    grouped: bool = False


BINANCE = {"open time": "datetime", "open_time": "datetime"}
SHORT = dict(zip("tohlcv", ("datetime", *OHLCV), strict=True))
# Column names, lower-case and without < >. The first layout whose columns are all there is taken.
NAMED = (
    Layout("Binance klines", ("open_time", *OHLCV, "close_time"), BINANCE),
    Layout("Binance klines", ("open time", *OHLCV, "close time"), BINANCE),
    Layout("CryptoDataDownload", ("unix", "symbol", *PRICES), {"unix": "datetime"}),
    Layout("MetaTrader 5", ("date", *PRICES, "tickvol"), {"vol": "volume", "tickvol": "volume"}),
    Layout("Stooq", ("ticker", "per", "date", *PRICES, "vol"), {"vol": "volume"}),
    Layout("Polygon", ("ticker", "window_start", *OHLCV), {"window_start": "datetime"}),
    Layout("Alpaca", ("t", "o", "h", "l", "c"), SHORT),
    Layout("Alpaca", ("timestamp", *OHLCV, "trade_count", "vwap")),
    Layout("Nasdaq", ("date", "close/last", "open", "high", "low"), {"close/last": "close"}, True),
    Layout(
        "Investing.com",
        ("date", "price", "open", "high", "low", "vol."),
        {"price": "close", "vol.": "volume"},
        True,
    ),
    Layout("Alpha Vantage", ("timestamp", *OHLCV)),
    Layout("Yahoo", ("date", *PRICES, "adj close")),
)
BARE = (
    Layout("Binance klines without names", KLINES),
    Layout("ccxt or HistData, without names", ("datetime", *OHLCV)),
    Layout("MetaTrader 4", ("date", "time", *OHLCV)),
    Layout("Backtrader's GenericCSVData", ("date", "time", *OHLCV, "openinterest")),
)
PLAIN = Layout("columns with names", ())
CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d)?$")


def plain_name(name: object) -> str:
    """Return the name of a column as layouts have it: <CLOSE> and "4. close" are close."""
    return re.sub(r"^\d+\. ", "", str(name).strip().strip("<>").lower())


def named_layout(table: pd.DataFrame) -> tuple[Layout, dict[str, str]]:
    """Return the layout of a table with lower-case names, and the columns to rename in it."""
    found = set(table.columns)
    layout = next((one for one in NAMED if found >= set(one.columns)), PLAIN)
    renamed = {old: new for old, new in layout.renamed.items() if old in found}
    if layout.name == "MetaTrader 5":
        # Brokers without an exchange write a volume of 0 and count ticks instead.
        real = "vol" in found and bool((table["vol"] != 0).any())
        renamed.pop("tickvol" if real else "vol", None)
    if "volume" not in found and "volume" not in renamed.values():
        renamed |= _base_volume(table)
    return layout, renamed


def _base_volume(table: pd.DataFrame) -> dict[str, str]:
    """Find the volume of the traded coin where there is one more in the money it is paid in."""
    volumes = [name for name in table.columns if re.fullmatch(r"volume \S+", name)]
    symbol = str(table["symbol"].iloc[0]).lower() if "symbol" in table else ""
    first = [name for name in volumes if symbol.startswith(name.split()[1])] or volumes[:1]
    return {first[0]: "volume"} if first else {}


def bare_layout(cells: list[str]) -> Layout | None:
    """Return the layout of a line of values without names, None where no file is known to be so."""
    timed = len(cells) > 1 and CLOCK.match(cells[1]) is not None
    for layout in BARE:
        if len(layout.columns) == len(cells) and ("time" in layout.columns) == timed:
            return layout
    return None
