"""KellyEstimate: the closed trades of a strategy, the Kelly fraction they give, and the risk."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pandas as pd

from bt_risk.components.settings import ESTIMATORS, KellySettings
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import with_owner
from bt_risk.rules.kelly import kelly_lower_bound, kelly_risk

__all__ = ["TIMELINE", "KellyEstimate"]

TIMELINE = ["time", "pool", "trades", "full", "half", "lower", "used", "state"]
SMALLEST_SAMPLE = 10  # with fewer trades an estimate is not drawn


class KellyEstimate:
    """Estimate Kelly from one strategy's closed trades, once a period.

    A pool is the name of a data feed where each has a sample of its own, and None where all trades
    of the strategy are one sample.
    """

    def __init__(self, settings: KellySettings, strategy: Any, book: Book) -> None:
        self.settings = settings
        self._strategy, self._book = strategy, book
        self._first_trades = settings.first_trades()
        # Of each pool: the period, or with "trade" the number of trades, and Kelly in it.
        self._known: dict[str | None, tuple[float, float | None]] = {}

    def current(self, instrument: Instrument) -> float | None:
        """Return Kelly as of the beginning of the period of the instrument's last bar.

        It is None while there are fewer than `min_trades` closed trades.
        """
        pool = instrument.name if self.settings.pool == "data" else None
        begin = self._period_begin(instrument.time)
        period = float(len(self._book.trades)) if begin == math.inf else begin
        known, value = self._known.get(pool, (None, None))
        if known != period:
            value = self._estimate(self._sample(pool, begin))
            self._known[pool] = period, value
        return value

    def risk_at(self, kelly: float | None) -> tuple[float, str]:
        """Return the fraction of equity to risk at an estimate of Kelly, and the state."""
        settings = self.settings
        if kelly is None:
            return settings.warmup_risk, "WARMUP"
        risk = kelly_risk(kelly, settings.kelly_scale, settings.kelly_limit)
        return (risk, "KELLY") if risk > 0 else (settings.probe_risk, "PROBE")

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> dict[str, tuple[float, float | None]]:
        """Return the estimates that are frozen, each with its period, by pool."""
        return {pool or "": known for pool, known in self._known.items()}

    def restore(self, saved: dict[str, Sequence[Any]]) -> None:
        """Go on with the saved estimates; the trades are in the book."""
        self._known = {pool or None: (known[0], known[1]) for pool, known in saved.items()}

    # -- the whole run ---------------------------------------------------------------------------

    def detached(self) -> KellyEstimate:
        """Return the estimate from the trades so far, without any object of the run."""
        book = self._book
        trades = [with_owner(t, t.owner is self._strategy) for t in book.trades]
        names = [SimpleNamespace(name=instrument.name) for instrument in book.instruments]
        plain: Any = SimpleNamespace(trades=trades, instruments=names)
        return KellyEstimate(self.settings, True, plain)

    def timeline(self, times: Sequence[float]) -> pd.DataFrame:
        """Return Kelly at the beginning of every period of a run; see `HalfKellySizer.timeline`."""
        names = [instrument.name for instrument in self._book.instruments]
        pools: list[str | None] = [*names] if self.settings.pool == "data" else [None]
        rows = [row for pool in pools for row in self._pool_timeline(pool, times)]
        return pd.DataFrame(rows, columns=TIMELINE).sort_values("time", kind="stable")

    def _pool_timeline(self, pool: str | None, times: Sequence[float]) -> Iterator[tuple[Any, ...]]:
        counted = None
        for time, begin in self._periods(times):
            known = sum(trade.closed < begin for trade in self._book.trades)
            if known == counted:
                continue
            counted, sample = known, self._sample(pool, begin)
            risk, state = self.risk_at(self._estimate(sample))
            yield (time, pool or "", len(sample), *self._estimates(sample), risk, state)

    def _periods(self, times: Sequence[float]) -> Iterator[tuple[float, float]]:
        """Yield the first time of each period, and the time before which its trades have closed."""
        if self.settings.recalculate == "trade":
            closes = {trade.closed for trade in self._book.trades}
            yield from ((time, math.nextafter(time, math.inf)) for time in sorted(closes))
            return
        begins: dict[float, float] = {}
        for time in times:
            begins.setdefault(self._period_begin(time), time)
        yield from ((time, begin) for begin, time in begins.items())

    def _estimates(self, sample: list[float]) -> tuple[float, float, float]:
        """Return full Kelly, scaled Kelly and the lower bound, NaN for a small sample."""
        if len(sample) < SMALLEST_SAMPLE:
            return math.nan, math.nan, math.nan
        settings = self.settings
        full = float(ESTIMATORS[settings.estimator](sample))
        lower = kelly_lower_bound(sample, settings.confidence or 0.95, estimator=settings.estimator)
        return full, settings.kelly_scale * full, lower

    # -- periods and samples ---------------------------------------------------------------------

    def _period_begin(self, time: float) -> float:
        """Return when the period of a bar began; trades that closed before it count."""
        if self.settings.recalculate == "trade":
            return math.inf
        day = int(time)
        if self.settings.recalculate == "weekly":
            day -= (day - 1) % 7  # day 1 was a Monday
        elif self.settings.recalculate == "monthly":
            day = datetime.date.fromordinal(day).replace(day=1).toordinal()
        return float(day)

    def _sample(self, pool: str | None, begin: float) -> list[float]:
        """Return the last `lookback` R-multiples of the trades that closed before `begin`."""
        lookback = self.settings.lookback
        newest_first = (
            trade.r_multiple
            for trade in reversed(self._book.trades)
            if trade.owner is self._strategy
            and pool in (None, trade.instrument)
            and trade.closed < begin
            and not math.isnan(trade.r_multiple)
        )
        own = list(islice(newest_first, lookback))
        return (self._first_trades + own[::-1])[-lookback:]

    def _estimate(self, sample: list[float]) -> float | None:
        settings = self.settings
        if len(sample) < settings.min_trades:
            return None
        if settings.confidence is not None:
            return kelly_lower_bound(sample, settings.confidence, estimator=settings.estimator)
        return float(ESTIMATORS[settings.estimator](sample))
