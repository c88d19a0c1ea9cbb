"""The same runs in quiet and in wild markets, and in years in which the market rose or fell."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from bt_risk.evidence.metrics import volatility
from bt_risk.report.pyfolio import daily_returns
from bt_risk.report.record import RunRecord
from bt_risk.rules.drawdown import drawdown

__all__ = ["by_regime", "market_returns"]

WINDOW = 21  # days of the volatility that tells a regime, all before the day
LEAST = 10  # days of a regime that say anything
TERCILES = ("low", "middle", "high")
COLUMNS = ("days", "return", "sharpe", "worst_fall")


def by_regime(records: Mapping[str, RunRecord], year: float) -> pd.DataFrame:
    """Return what each run did in each regime of the market.

    Parameters
    ----------
    records : dict of str to RunRecord
        Of the same days.
    year : float
        Days a year.

    Returns
    -------
    DataFrame
        Indexed by regime and run: ``days``, ``return`` (the sum of simple daily returns, which adds
        up over regimes), annual ``sharpe``, and ``worst_fall`` (the largest drawdown of these days
        put together). A regime of fewer than 10 days is left out.

    Notes
    -----
    The market is the mean of the daily returns of all data feeds. Its volatility is that of the 21
    days before a day, so that a day does not choose its own regime; terciles are those of the whole
    history, which nobody knew in it. Years are rising or falling by the market's own return.
    """
    returns = {label: daily_returns(record) for label, record in records.items()}
    first = next(iter(records.values()))
    rows = {
        (regime, label): _figures(series[days].to_numpy(), year)
        for regime, days in _regimes(market_returns(first))
        if days.sum() >= LEAST
        for label, series in returns.items()
    }
    index = pd.MultiIndex.from_tuples(rows, names=["regime", "run"])
    return pd.DataFrame(list(rows.values()), index, columns=list(COLUMNS))


def market_returns(record: RunRecord) -> pd.Series:
    """Return the mean daily return of the data feeds of a run, for each of its days."""
    own = [name for place, name in enumerate(record.names) if record.roots[place] == place]
    daily = {}
    for name in own:
        closes = record.closes[name].dropna()
        last = closes[~closes.index.normalize().duplicated(keep="last")]
        daily[name] = last.set_axis(last.index.normalize()).reindex(record.days).ffill()
    frame = pd.DataFrame(daily, index=record.days)
    return frame.pct_change(fill_method=None).replace([np.inf, -np.inf], np.nan).mean(axis=1)


def _regimes(market: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each regime, and which days are part of it."""
    known = market.rolling(WINDOW).std().shift(1)
    low, high = known.quantile([1 / 3, 2 / 3])
    for name, days in zip(
        TERCILES, (known <= low, (known > low) & (known <= high), known > high), strict=True
    ):
        yield f"{name} volatility", days.to_numpy()
    years = pd.DatetimeIndex(market.index).year
    growth = (1.0 + market.fillna(0.0)).groupby(years).prod() - 1.0
    rising = growth.reindex(years).to_numpy() > 0
    yield "rising years", rising
    yield "falling years", ~rising


def _figures(returns: np.ndarray, year: float) -> tuple[float, ...]:
    spread = volatility(returns)
    sharpe = float(returns.mean() / spread * math.sqrt(year)) if spread > 0 else math.nan
    fall = float(drawdown(np.r_[1.0, np.cumprod(1.0 + returns)]).max())
    return len(returns), float(returns.sum()), sharpe, fall
