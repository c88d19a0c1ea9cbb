"""The Cerebro of a run, made from its journal and files of prices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.errors import DataError, ParameterError
from bt_risk.feeds.files import read_prices
from bt_risk.feeds.frame import FrameData

__all__ = ["FromFiles"]

_MOMENT = pd.Timedelta("1ms")  # a date number of Backtrader is some microseconds off


@dataclass(frozen=True)
class FromFiles:
    """Build the Cerebro of a run with prices of files; its strategies are not in it.

    Attributes
    ----------
    run : dict
        What the run was: see `bt_risk.components.run_settings.run_settings`.
    files : list of path
        One for each data feed; its name is that of the feed.
    component : str
        The name for errors.
    """

    run: Mapping[str, Any]
    files: Sequence[str | Path]
    component: str

    def __post_init__(self) -> None:
        names = [Path(file).name.split(".")[0] for file in self.files]
        wanted = [feed["name"] for feed in self.run["datas"]]
        remedy = "The name of a file is that of its data feed."
        if sorted(names) != sorted(wanted):
            constraint = f"a file for each of {', '.join(wanted)}"
            raise ParameterError(self.component, "data", constraint, names, remedy)
        derived = [feed["name"] for feed in self.run["datas"] if feed["derived"]]
        remedy = "In Python, verify(journal, build) takes a function that builds the Cerebro."
        if derived:
            constraint = "of feeds that were neither resampled nor filtered"
            raise ParameterError(self.component, "data", constraint, derived, remedy)
        if self.run["broker"] is None:
            constraint = "of a run whose broker and commissions were Backtrader's own"
            raise ParameterError(self.component, "data", constraint, "another broker", remedy)

    def __call__(self) -> bt.Cerebro:
        """Return a new Cerebro."""
        run, files = self.run, {Path(file).name.split(".")[0]: file for file in self.files}
        cerebro = bt.Cerebro(stdstats=False, cheat_on_open=run["cheat_on_open"])
        for feed in run["datas"]:
            prices = self._prices(files[feed["name"]], feed)
            cerebro.adddata(FrameData(dataname=prices), name=feed["name"])
        broker = run["broker"]
        cerebro.setbroker(bt.brokers.BackBroker(cash=broker["cash"], **broker["params"]))
        for name, params in broker["commissions"].items():
            cerebro.broker.addcommissioninfo(bt.CommInfoBase(**params), name=name or None)
        return cerebro

    def _prices(self, file: str | Path, feed: Mapping[str, Any]) -> pd.DataFrame:
        """Return the bars that the run has seen."""
        prices = read_prices(file)
        if math.isfinite(feed["first"]):
            first, last = (pd.Timestamp(bt.num2date(feed[end])) for end in ("first", "last"))
            prices = prices.loc[first - _MOMENT : last + _MOMENT]
        if len(prices) != feed["bars"]:
            raise DataError(
                f"{self.component}: {file} has {len(prices):,} bars of the time of the run, and "
                f"{feed['name']} had {feed['bars']:,} then. Give the prices of that run."
            )
        return prices
