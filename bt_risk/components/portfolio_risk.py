"""PortfolioRisk: exposure, correlation and volatility of the portfolio at every close."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.components.quiet_analyzer import AddedAnalyzer
from bt_risk.gate.broker import RiskBroker
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.rules.covariance import effective_bets, risk_shares
from bt_risk.rules.return_model import ReturnModel

__all__ = ["PortfolioRisk", "held_pairs", "highest_correlation"]

SUMS = ("long_risk", "short_risk", "long_notional", "short_notional")
SCALARS = (*SUMS, "correlation", "volatility", "effective_bets")

# Signed values by instrument, and the correlation of two of them.
Positions = dict[Instrument, float]
Pair = tuple[Instrument, Instrument, float]


class PortfolioRisk(AddedAnalyzer):
    """Report exposure, correlation and volatility of the portfolio at every close.

    get_analysis: a dict of lists of equal length

      - ``time``: naive UTC datetimes
      - ``long_risk``, ``short_risk``: loss at the stops, fraction of equity; NaN while unknown
      - ``long_notional``, ``short_notional``: value of the positions, fraction of equity
      - ``gross``, ``net``: sum of absolute values and signed sum of notional, fraction of equity
      - ``correlation``: highest signed correlation between two positions, NaN with fewer than two
      - ``volatility``: ex-ante, of a year, fraction of equity; 0.0 when flat, NaN while unknown
      - ``effective_bets``: see `bt_risk.rules.covariance.effective_bets`
      - ``risk_share``: ``{name: share of the variance}``, adding up to 1, negative for a hedge
      - ``correlations``: ``{name: {other: rho}}`` of all pairs of positions, each once, not signed

    Returns are those of the gate's correlation or volatility limit; without such a limit, of 252
    bars with at least 60 in common. The cost grows with the square of the number of positions.
    """

    def __init__(self) -> None:
        gate = RiskBroker.of(self.strategy)
        self._gate: Any = gate
        models = [limit.model for limit in gate.registry.limits if hasattr(limit, "model")]
        self._model: ReturnModel = models[0] if models else ReturnModel()
        years = [getattr(limit, "periods_per_year", None) for limit in gate.registry.limits]
        self._per_year: float | None = next(filter(None, years), None)
        gate.book.windows.add(self._model)
        self._rows: list[tuple[Any, ...]] = []

    def next(self) -> None:
        """Measure the book at this close."""
        gate = self._gate
        book, equity = gate.book, gate.equity()
        held = [i for i in book.instruments if i.size]
        sums = [
            sum([measure(i) for i in held if i.size * side > 0]) / equity
            for measure in (book.exposure.position_risk, _notional)
            for side in (1, -1)
        ]
        time = bt.num2date(gate.latest) if gate.latest == gate.latest else None
        values = book.exposure.positions()
        pairs = held_pairs(book, self._model, values)
        moves = self._moves(book, values, equity)
        highest = highest_correlation(pairs, values)
        self._rows.append((time, *sums, highest, *moves, _nested(pairs)))

    def _moves(
        self, book: Book, values: Positions, equity: float
    ) -> tuple[float, float, dict[str, float]]:
        """Return volatility, the effective number of bets, and the shares of risk by name."""
        if not values:
            return 0.0, math.nan, {}
        covariance, _ = book.correlations.covariance(values, self._model)
        if covariance is None:
            return math.nan, math.nan, {}
        weights = np.fromiter(values.values(), float) / equity
        per_year = self._per_year or covariance.bars_per_year
        variance = max(0.0, float(weights @ covariance.times(weights)))
        shares = risk_shares(weights, covariance).tolist()
        share = {one.name: part for one, part in zip(values, shares, strict=True)}
        return math.sqrt(per_year * variance), effective_bets(weights, covariance), share

    def stop(self) -> None:
        """Drop the gate, so that optimisations can send the result between processes."""
        self._gate = None

    def get_analysis(self) -> dict[str, list[Any]]:
        """Return the measures by name."""
        frame = self.frame()
        report = {"time": frame.index.to_list(), **frame.to_dict("list")}
        report["risk_share"] = [row[-2] for row in self._rows]
        report["correlations"] = [row[-1] for row in self._rows]
        return report

    def frame(self) -> pd.DataFrame:
        """Return the measures with one number for each bar as a DataFrame indexed by time."""
        rows = [row[:-2] for row in self._rows]
        frame = pd.DataFrame(rows, columns=["time", *SCALARS]).set_index("time")
        frame.insert(4, "gross", frame.long_notional + frame.short_notional)
        frame.insert(5, "net", frame.long_notional - frame.short_notional)
        return frame


def held_pairs(book: Book, model: ReturnModel, values: Positions) -> list[Pair]:
    """Return ``(instrument, other, correlation)`` of every pair of positions."""
    held, pairs, rows = list(values), [], [instrument.index for instrument in values]
    for k, one in enumerate(held[:-1]):
        others = rows[:k] + rows[k + 1 :]  # all of them: "ledoit-wolf" uses their mean
        rho, _ = book.windows[model].correlations(rows[k], others, model.estimator)
        pairs += [(one, o, float(r)) for o, r in zip(held[k + 1 :], rho[k:], strict=True)]
    return pairs


def highest_correlation(pairs: Iterable[Pair], values: Positions) -> float:
    """Return the highest correlation of `held_pairs`, signed by side; NaN if all are unknown."""
    signed = [math.copysign(rho, rho * values[a] * values[b]) for a, b, rho in pairs]
    return max([value for value in signed if value == value], default=math.nan)


def _notional(instrument: Instrument) -> float:
    return abs(instrument.size * instrument.value)


def _nested(pairs: Iterable[Pair]) -> dict[str, dict[str, float]]:
    nested: dict[str, dict[str, float]] = {}
    for one, other, rho in pairs:
        nested.setdefault(one.name, {})[other.name] = rho
    return nested
