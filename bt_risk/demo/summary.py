"""The figures of one run of the demo: return, drawdown, and the decisions of its rules."""

import math
from typing import Any

import pandas as pd

from bt_risk.demo.runs import DemoRun
from bt_risk.rules.drawdown import drawdown

__all__ = ["annual_growth", "leverage_summary", "max_drawdown", "sharpe_ratio", "summary"]

DAYS = 365.25

AT_THE_FILL = ("cash", "execution")
JUDGED = ("allow", "trim", "reject", "exit")


def annual_growth(equity: pd.Series) -> float:
    """Return the compound annual growth rate.

    Parameters
    ----------
    equity : Series of shape (n_bars,)
        Account value in currency by time, positive at the start.

    Returns
    -------
    float
        Fraction per year of 365.25 days; -1.0 for an account that ends at zero or less, NaN for
        less than one day.

    Notes
    -----
    ``(last / first) ** (1 / years) - 1``

    Examples
    --------
    >>> import pandas as pd
    >>> equity = pd.Series([100.0, 146.41], pd.to_datetime(["2020-01-01", "2024-01-01"]))
    >>> round(annual_growth(equity), 4)
    0.1
    """
    years = (equity.index[-1] - equity.index[0]).total_seconds() / 86400 / DAYS
    if years * DAYS < 1:
        return math.nan
    return float(max(0.0, equity.iloc[-1] / equity.iloc[0]) ** (1 / years) - 1)


def sharpe_ratio(equity: pd.Series, days_per_year: float) -> float:
    """Return the annual Sharpe ratio of daily returns, without a risk-free rate.

    Parameters
    ----------
    equity : Series of shape (n_bars,)
        Account value in currency by time; the last value of a day counts, and returns begin with
        the second day.
    days_per_year : int
        365 for a market that never closes, 252 for stocks.

    Returns
    -------
    float
        NaN with fewer than two returns, or when all are equal.

    Notes
    -----
    ``mean / standard deviation * sqrt(days_per_year)``, with the sample standard deviation.

    References
    ----------
    Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21 (1994).

    Examples
    --------
    >>> import pandas as pd
    >>> equity = pd.Series([100.0, 110.0, 99.0, 108.9], pd.date_range("2020-01-01", periods=4))
    >>> round(sharpe_ratio(equity, 252), 4)
    4.5826
    """
    days = equity.groupby(equity.index.normalize()).last()
    returns = days.pct_change().iloc[1:]
    spread = returns.std(ddof=1)
    return float(returns.mean() / spread * math.sqrt(days_per_year)) if spread > 0 else math.nan


def max_drawdown(equity: pd.Series) -> float:
    """Return the deepest fall from a high-water mark, as a positive fraction."""
    return float(drawdown(equity).max())


def summary(run: DemoRun) -> dict[str, Any]:
    """Return the figures of a `bt_risk.demo.DemoRun` by name.

    Ratios are fractions. The figures of a gate are None for a bare run, which has none.
    """
    equity, fills = run.equity, run.fills
    return {
        "first trade": fills["time"].iloc[0] if len(fills) else None,
        "final equity": float(equity.iloc[-1]),
        "CAGR": annual_growth(equity),
        "Sharpe": sharpe_ratio(equity, run.portfolio.days_per_year),
        "max drawdown": max_drawdown(equity),
        "exposure": float(run.exposure.mean()),
        "trades": run.trades,
        **_losses(run),
        **_decision_counts(run),
    }


def leverage_summary(run: DemoRun) -> dict[str, Any]:
    """Return the figures of a run with leverage by name; those of margin are None for a bare run.

    Equity is in currency, at the closes.
    """
    equity, use = run.equity, run.record.margin
    margin = {} if use is None else use.figures()
    names = "Liquidations", "Paid by insurance"
    return {
        "final equity": float(equity.iloc[-1]),
        "lowest equity": float(equity.min()),
        "bars below zero": int((equity < 0.0).sum()),
        "trades": run.trades,
        **{name.lower(): margin.get(name) for name in names},
    }


def _losses(run: DemoRun) -> dict[str, float | None]:
    """Return the share of trades that lost more than 1 R, and the worst R-multiple."""
    losses = run.record.losses
    known = run.portfolio.runs[run.label] is not None and losses.trades
    return {
        "beyond 1 R": losses.share(1.0) if known else None,
        "worst trade, R": losses.worst if known else None,
    }


def _decision_counts(run: DemoRun) -> dict[str, int | None]:
    names = ("orders judged", "rejected", "trimmed", "stops hit", "halts", "STARVED")
    if run.portfolio.runs[run.label] is None:
        return dict.fromkeys(names)
    journal = run.decisions
    # An order that is cut at the fill was judged before, and counts once.
    journal = journal[~journal.rule.isin(AT_THE_FILL)]
    judged = journal.action.isin(JUDGED)
    counts = journal.action.value_counts()
    actions = ("reject", "trim", "stop", "halt", "starved")
    values = [int(judged.sum()), *(int(counts.get(action, 0)) for action in actions)]
    return dict(zip(names, values, strict=True))
