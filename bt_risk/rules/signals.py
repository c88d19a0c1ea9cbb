"""The article's BTC mean reversion: a scan of one price series, sized, stopped and broken."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import talib

from bt_risk.errors import (
    ParameterError,
    check_fraction,
    check_positive,
    check_whole,
    is_number,
)
from bt_risk.rules.drawdown import RiskManager
from bt_risk.rules.frames import FloatArray, IntArray
from bt_risk.rules.sizing import position_size
from bt_risk.rules.trailing_stop import atr, ratchet

__all__ = ["generate_signal"]


def generate_signal(
    prices: pd.DataFrame,
    capital: float = 100000,
    rsi_period: int = 14,
    oversold: float = 30,
    risk_limit: float = 0.01,
    atr_period: int = 14,
    atr_multiple: float = 2.0,
    drawdown_limit: float = 0.10,
    multiplier: float = 1.0,
    commission: float = 0.0,
    step: float | None = None,
    warmup: int = 100,
) -> list[dict[str, Any]]:
    """Buy oversold bars, size by volatility, trail a stop, and stop trading at the drawdown limit.

    Parameters
    ----------
    prices : DataFrame of shape (n_bars, n_columns)
        Oldest first, with columns high, low and close in any case, and open if there is one. It is
        not changed. A bar with a NaN or infinite price is skipped.
    capital : float
        Equity at the start, in currency.
    rsi_period, atr_period : int
        Look-backs in bars.
    oversold : float
        The relative strength index, from 0 to 100, below which a bar is a signal.
    risk_limit : float
        Share of equity to lose at the first stop, as a fraction.
    atr_multiple : float
        Distance of the stop in average true ranges.
    drawdown_limit : float
        Fall of the equity of closed trades from its peak, as a fraction, beyond which signals end.
    multiplier : float
        Currency per price point and unit.
    commission : float
        Share of the notional paid on entry and again on exit, as a fraction.
    step : float or None
        Smallest tradable unit; None for any size.
    warmup : int
        Bars before the first signal, as in the article; the averages need them to settle.

    Returns
    -------
    list of dict
        One per signal, oldest first: ``bar`` (row number) and ``time`` (index label) of the signal,
        ``size`` (units), ``stop`` (the first stop, in price), ``entry``, ``exit`` (prices),
        ``exit_bar``, ``exit_time`` and ``pnl`` (currency, net of commission). In the last one
        ``exit`` and ``pnl`` are NaN and the exit's bar and time None while the trade is open. A
        signal on the last bar has no ``entry`` yet either, and its ``stop`` is measured from the
        close.

    Raises
    ------
    ParameterError
        If a column is missing or a parameter is outside its range.

    Notes
    -----
    Long only, one position at a time. A signal at the close is filled at the next open; its size is
    ``risk_limit * equity / stop_distance`` with ``stop_distance = atr_multiple * ATR`` of the
    signal's bar, and the first stop stands that far below the fill. From the close of the entry bar
    on the stop ratchets to ``close - atr_multiple * ATR``; it works from the next bar on, and a gap
    through it fills at the open. Without an open, the previous close counts as the open, as far as
    the bar's range reaches. A size of zero (no range, or below the step) is no signal.

    Nothing reads a bar that has not closed: with more prices, closed trades stay as they are, and
    ``bar``, ``time`` and ``size`` of the last signal too. Each price is read once.

    Differs from the article, which recomputes the average true range for each signal, opens a
    position on top of another, risks 1 % of the initial capital, and reports no loss to its
    breaker.

    Examples
    --------
    >>> import pandas as pd
    >>> close = np.r_[np.linspace(120, 100, 101), 101, 103, 105, 102, 99]
    >>> prices = pd.DataFrame({"high": close + 0.5, "low": close - 0.5, "close": close})
    >>> for s in generate_signal(prices):
    ...     print(s["bar"], round(s["size"], 1), round(s["stop"], 2), s["exit_bar"])
    100 500.0 98.5 104
    """
    _check(capital, oversold, risk_limit, atr_multiple, multiplier, commission, step)
    warmup = check_whole("generate_signal", "warmup", warmup, low=0)
    bars = _bars(prices, rsi_period, atr_period, atr_multiple)
    manager, signals, flat_since = RiskManager(capital, drawdown_limit), [], warmup
    for bar in np.flatnonzero(bars.rsi < oversold).tolist():
        if bar < flat_since:
            continue
        size = position_size(manager.capital, risk_limit, bars.width[bar], multiplier, step)
        if size == 0:
            continue
        signal, end = _trade(bars, bar, size, multiplier, commission)
        signals.append(signal)
        if end is None or not manager.update(signal["pnl"]):
            break
        flat_since = end
    return signals


class _Bars(NamedTuple):
    """Hold the known bars of a price frame; as lists where the scan goes from bar to bar."""

    row: list[int]
    time: pd.Index
    open: list[float]
    low: list[float]
    width: list[float]
    level: list[float]
    rsi: FloatArray


def _check(
    capital: float,
    oversold: float,
    risk_limit: float,
    atr_multiple: float,
    multiplier: float,
    commission: float,
    step: float | None,
) -> None:
    name = "generate_signal"
    check_positive(name, "capital", capital)
    if not (is_number(oversold) and 0 <= oversold <= 100):
        raise ParameterError(name, "oversold", "in [0, 100]", oversold, "The index ends at 100.")
    check_fraction(name, "risk_limit", risk_limit)
    check_positive(name, "atr_multiple", atr_multiple)
    check_positive(name, "multiplier", multiplier)
    check_fraction(name, "commission", commission, zero=True, one=False)
    if step is not None:
        check_positive(name, "step", step, remedy="None switches it off.")


def _bars(prices: pd.DataFrame, rsi_period: int, atr_period: int, atr_multiple: float) -> _Bars:
    rsi_period = check_whole("generate_signal", "rsi_period", rsi_period, low=2)
    atr_period = check_whole("generate_signal", "atr_period", atr_period)
    row, opens, high, low, close = _known_bars(prices)
    width = atr_multiple * atr(high, low, close, atr_period)
    long_enough = close.size > rsi_period
    rsi = talib.RSI(close, timeperiod=rsi_period) if long_enough else np.full(close.size, np.nan)
    return _Bars(
        row=row.tolist(),
        time=prices.index[row],
        open=opens.tolist(),
        low=low.tolist(),
        width=width.tolist(),
        level=(close - width).tolist(),
        rsi=rsi,
    )


def _known_bars(
    prices: pd.DataFrame,
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return row number, open, high, low and close of the bars that have all their prices."""
    names = [str(column).lower() for column in getattr(prices, "columns", ())]
    if missing := [name for name in ("high", "low", "close") if name not in names]:
        constraint = f"a DataFrame with columns high, low and close (no {', '.join(missing)})"
        raise ParameterError("generate_signal", "prices", constraint, names)
    wanted = [name for name in ("open", "high", "low", "close") if name in names]
    columns = [prices.iloc[:, names.index(name)].to_numpy(float) for name in wanted]
    known = np.isfinite(sum(columns))
    *opens, high, low, close = (column[known] for column in columns)
    if not opens:
        opens = [np.clip(np.concatenate((close[:1], close[:-1])), low, high)]
    return np.flatnonzero(known), opens[0], high, low, close


def _trade(
    bars: _Bars, bar: int, size: float, multiplier: float, commission: float
) -> tuple[dict[str, Any], int | None]:
    """Return the signal of one bar with the trade it leads to, and the bar that ends the trade."""
    signal = dict(
        bar=bars.row[bar], time=bars.time[bar], size=size, stop=bars.level[bar], entry=math.nan
    )
    signal.update(exit=math.nan, exit_bar=None, exit_time=None, pnl=math.nan)
    if bar + 1 == len(bars.row):
        return signal, None
    entry = bars.open[bar + 1]
    signal.update(entry=entry, stop=entry - bars.width[bar])
    touched = _touched(bars, bar + 1, signal["stop"])
    if touched is None:
        return signal, None
    end, price = touched
    pnl = size * multiplier * (price - entry - commission * (price + entry))
    signal.update(exit=price, exit_bar=bars.row[end], exit_time=bars.time[end], pnl=pnl)
    return signal, end


def _touched(bars: _Bars, entered: int, stop: float) -> tuple[int, float] | None:
    """Return the bar that touches the trailing stop of a long position and the price it pays."""
    for bar in range(entered + 1, len(bars.row)):
        stop = ratchet(stop, bars.level[bar - 1], +1)
        if bars.low[bar] <= stop:
            return bar, min(bars.open[bar], stop)
    return None
