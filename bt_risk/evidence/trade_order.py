"""How deep could it have been? The trades of a run in other sequences."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bt_risk.report.record import RunRecord
from bt_risk.tolerances import SIZE_EPS

__all__ = ["TradeOrder", "closed_trades", "trade_order"]

PERCENTS = (5, 50, 95)
LEAST = 10  # trades whose sequence says anything


class TradeOrder(NamedTuple):
    """The largest drawdown of closed trades, as they came and in other sequences.

    Attributes
    ----------
    trades : int
    drawdown : float
        As they came, from close to close of a trade; fraction of the high-water mark.
    low, median, high : float
        The 5th, 50th and 95th percentile of all sequences; NaN with fewer than 10 trades.
    """

    trades: int
    drawdown: float
    low: float
    median: float
    high: float


def closed_trades(record: RunRecord) -> np.ndarray:
    """Return what each closed trade made as a fraction of equity, in the sequence of their ends.

    A trade lasts from flat to flat, of a gated run or a bare one, net of commission. Equity is the
    initial one and what earlier trades have made.
    """
    made = [pnl for _, pnl in sorted(_closed(record), key=lambda one: one[0])]
    wealth = record.start[0] + np.cumsum([0.0, *made])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(wealth[:-1] > 0, np.array(made) / wealth[:-1], 0.0)


def _closed(record: RunRecord) -> Iterator[tuple[int, float]]:
    """Yield the place of the last fill and the profit of each closed trade."""
    held: dict[str, tuple[float, float]] = {}
    columns = ("name", "size", "price", "multiplier", "commission")
    for place, fill in enumerate(record.fills[list(columns)].itertuples(index=False)):
        size, cash = held.get(fill.name, (0.0, 0.0))
        left = size + fill.size
        if size and left * size < 0:  # it changed sides: the fill is the end of one and a beginning
            share = -size / fill.size
            cash += -share * fill.size * fill.price * fill.multiplier - share * fill.commission
            yield place, cash
            opening = left * fill.price * fill.multiplier + (1.0 - share) * fill.commission
            held[fill.name] = left, -opening
            continue
        cash += -fill.size * fill.price * fill.multiplier - fill.commission
        if abs(left) <= SIZE_EPS:
            held.pop(fill.name, None)
            yield place, cash
        else:
            held[fill.name] = left, cash


def trade_order(record: RunRecord, samples: int = 1000, seed: int = 0) -> TradeOrder:
    """Return how deep the drawdown is when the same trades come in other sequences.

    Parameters
    ----------
    record : RunRecord
    samples : int
        Sequences that are drawn.
    seed : int

    Returns
    -------
    TradeOrder

    Notes
    -----
    Each trade keeps its result as a fraction of equity. Trades that depend on each other, and those
    that were open at the same time, do not come in any sequence: the percentiles answer what luck
    with the sequence alone has done, nothing else.
    """
    made = closed_trades(record)
    found = _deepest(made[None])[0] if len(made) else 0.0
    if len(made) < LEAST:
        return TradeOrder(len(made), float(found), math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    drawn = _deepest(rng.permuted(np.tile(made, (samples, 1)), axis=1))
    return TradeOrder(len(made), float(found), *map(float, np.percentile(drawn, PERCENTS)))


def _deepest(made: np.ndarray) -> np.ndarray:
    """Return the largest drawdown of each row of results."""
    wealth = np.cumprod(np.maximum(1.0 + made, 0.0), axis=1)
    marks = np.maximum(np.maximum.accumulate(wealth, axis=1), 1.0)
    deepest: np.ndarray = (1.0 - wealth / marks).max(axis=1)
    return deepest
