"""The inputs of pyfolio: daily returns, end-of-day positions, and every transaction.

Backtrader's own PyFolio analyzer loses every asset but the last, and gives intraday positions with
daily returns; neither raises an error.
"""

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.report.record import RunRecord, record_of

__all__ = [
    "bar_returns",
    "daily_equity",
    "daily_positions",
    "daily_returns",
    "pyfolio_inputs",
    "transactions",
]


def pyfolio_inputs(
    strategy: bt.Strategy | RunRecord,
) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame | None]:
    """Return the inputs of pyfolio's tear sheets: ``create_full_tear_sheet(*pyfolio_inputs(s))``.

    Parameters
    ----------
    strategy : Strategy
        As ``cerebro.run()`` returns it, run with `bt_risk.ReportData`.

    Returns
    -------
    returns : Series of shape (n_days,)
        Simple returns from end of day to end of day, compounded from bars of any size; the first
        begins at the start of the run. They are returns of the unit value, which deposits and
        withdrawals do not change.
    positions : DataFrame of shape (n_days, n_feeds + 1)
        Signed notional in currency at the end of each day, ``size x close x multiplier``, a column
        for each feed by its name, and ``cash``: the rest of equity, so that each row sums to
        equity. For a future that is what its notional leaves of equity, and may be negative.
    transactions : DataFrame of shape (n_executions, 3), or None
        Indexed by time of execution: ``amount`` (size x multiplier, so that amount x price is what
        changes hands), ``price``, ``symbol`` (the feed's name). None without any, as pyfolio
        expects: an empty frame makes it raise.

    All three are indexed in UTC. A halted run continues flat to the end of its data.

    Raises
    ------
    ParameterError
        If the strategy ran without `ReportData`.
    DataError
        If it saw no bar.
    """
    record = record_of(strategy, "pyfolio_inputs")
    returns, positions = daily_returns(record), daily_positions(record)
    executions = transactions(record)
    for frame in (returns, positions, executions):
        if frame is not None:
            frame.index = frame.index.tz_localize("UTC")
    return returns, positions, executions


def daily_equity(record: RunRecord) -> pd.Series:
    """Return equity at the end of each day, indexed by midnight, to the end of the data."""
    return _daily(record, "equity")


def daily_returns(record: RunRecord) -> pd.Series:
    """Return simple daily returns of the unit value; a ruined account has one return of -1."""
    units = _daily(record, "unit_value").to_numpy()
    return pd.Series(_returns(units, record.start[1]), record.days, name="returns")


def _returns(units: np.ndarray, first: float) -> np.ndarray:
    before = np.r_[first, units[:-1]]
    alive = np.minimum.accumulate(before) > 0
    growth = np.divide(units, before, out=np.ones(len(units)), where=alive)
    returns = np.maximum(growth, 0.0) - 1.0
    return np.asarray(returns)


def bar_returns(record: RunRecord) -> pd.Series:
    """Return the simple return of the unit value at each bar, by time; 0 after a halt.

    Where no date has more than one bar they are `daily_returns`.
    """
    bars = record.bars[np.isfinite(record.bars["unit_value"]) & record.bars["time"].notna()]
    times = pd.DatetimeIndex(bars["time"])
    if times.normalize().is_unique:
        return daily_returns(record)
    found = pd.Series(_returns(bars["unit_value"].to_numpy(), record.start[1]), times)
    rest = record.days[~record.days.isin(times.normalize())]
    if len(rest):
        found = pd.concat([found, pd.Series(0.0, rest)])
    return found.sort_index().rename("returns")


def daily_positions(record: RunRecord) -> pd.DataFrame:
    """Return signed notional by feed, and cash, at the end of each day."""
    equity = daily_equity(record)
    places = record.day_ends
    values = record.held.pivot_table(index="bar", columns="name", values="value", aggfunc="sum")
    values = values.reindex(index=places.to_numpy(), columns=_columns(record)).fillna(0.0)
    positions = values.set_axis(places.index).reindex(equity.index).ffill().fillna(0.0)
    positions.columns.name = None
    return positions.assign(cash=equity - positions.sum(axis=1))


def transactions(record: RunRecord) -> pd.DataFrame | None:
    """Return every execution by time, None without any."""
    fills = record.fills
    if fills.empty:
        return None
    frame = pd.DataFrame(
        {
            "amount": (fills["size"] * fills["multiplier"]).to_numpy(),
            "price": fills["price"].to_numpy(),
            "symbol": fills["name"].astype(object).to_numpy(),
        },
        index=pd.DatetimeIndex(fills["time"], name="date"),
    )
    return frame.sort_index(kind="stable")


def _columns(record: RunRecord) -> list[str]:
    """Return the feeds to show: each instrument once, and a resampled copy if it was traded."""
    traded = set(record.held["name"]) | set(record.fills["name"])
    own = [record.roots[i] == i for i in range(len(record.names))]
    pairs = zip(record.names, own, strict=True)
    return [name for name, first in pairs if first or name in traded]


def _daily(record: RunRecord, column: str) -> pd.Series:
    ends = record.day_ends
    values = record.bars[column].loc[ends.to_numpy()].set_axis(ends.index)
    first = record.start[column == "unit_value"]
    return values.reindex(record.days).ffill().fillna(first).rename(column)
