"""The figures of a run, as empyrical computes them from its daily returns."""

import empyrical as ep
import numpy as np
import pandas as pd

from bt_risk.rules.loss_distribution import THRESHOLDS, LossDistribution

__all__ = ["figures", "loss_figures"]


def figures(
    returns: pd.Series, periods_per_year: float, benchmark: pd.Series | None = None
) -> dict[str, float]:
    """Return the figures of daily returns by name; all are fractions or ratios.

    Parameters
    ----------
    returns : Series of shape (n_days,)
        Simple daily returns.
    periods_per_year : float
        365 for a market that never closes, 252 for stocks.
    benchmark : Series, optional
        Simple daily returns with the same index: adds alpha and beta.

    Returns
    -------
    dict of str to float
        Drawdown, value at risk and expected shortfall are positive. NaN where a figure does not
        exist, such as a Sharpe ratio of constant returns.
    """
    year = {"annualization": periods_per_year}
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "Total return": ep.cum_returns_final(returns),
            "CAGR": ep.annual_return(returns, **year),
            "Volatility": ep.annual_volatility(returns, **year),
            "Sharpe": ep.sharpe_ratio(returns, **year),
            "Sortino": ep.sortino_ratio(returns, **year),
            "Calmar": ep.calmar_ratio(returns, **year),
            "Max drawdown": -ep.max_drawdown(returns),
            "Value at risk 5 %": -ep.value_at_risk(returns),
            "Expected shortfall 5 %": -ep.conditional_value_at_risk(returns),
            "Omega": ep.omega_ratio(returns, **year),
            "Tail ratio": ep.tail_ratio(returns),
            "Stability": ep.stability_of_timeseries(returns),
        }
        if benchmark is not None:
            found["Alpha"] = ep.alpha(returns, benchmark, **year)
            found["Beta"] = ep.beta(returns, benchmark)
    return {name: float(value) for name, value in found.items()}


def loss_figures(losses: LossDistribution) -> dict[str, float]:
    """Return the figures of the losses in R by name.

    Parameters
    ----------
    losses : LossDistribution

    Returns
    -------
    dict of str to float
        Shares of all trades with a known R; the worst trade is an R-multiple, the full stop-out
        and the cost of the entry bar are losses in R. NaN where a figure does not exist.
    """
    shares = {f"Trades beyond {limit:g} R": losses.share(limit) for limit in THRESHOLDS}
    return shares | {
        "Worst trade, R": losses.worst,
        "Full stop-out, R": losses.full_stop_out,
        "Entry bar, R": losses.entry_bar,
    }
