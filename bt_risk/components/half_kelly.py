"""Rule 2: size a new position by half Kelly and volatility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.components.kelly_estimate import KellyEstimate
from bt_risk.components.settings import SizerSettings
from bt_risk.errors import wrong_place
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.buying_power import affordable
from bt_risk.limits.base import Request
from bt_risk.orders import SizeProposal
from bt_risk.portfolio.instrument import Instrument
from bt_risk.rules.sizing import position_size, round_down
from bt_risk.rules.stop_costs import largest_within
from bt_risk.tolerances import SIZE_EPS

__all__ = ["HalfKellySizer"]


class HalfKellySizer(bt.Sizer):
    """Propose a size that risks half the Kelly bet, capped, at a stop of 2 x ATR.

    ``size = min(risk x equity / (stop_distance x multiplier), notional_limit x equity / (price x
    multiplier), what cash less working orders affords)``, rounded down to the step, with
    ``risk = clip(kelly_scale x f*, 0, kelly_limit)`` and ``stop_distance = atr_multiple x max(ATR,
    atr_floor x its 100-bar median)``. f* comes from the last `lookback` closed trades in multiples
    of the amount that they risked, net of commission. A sell that closes a long position returns
    its size. For a size of zero the strategy gets a Rejected order with the reason, so that
    brackets work.

    Backtrader calls a sizer only if the strategy names no size and no target: `protect` and
    `CorrelationCap` limit those.

    Params:

      - ``kelly_scale`` (default: ``0.5``) half Kelly, in (0, 1]
      - ``kelly_limit`` (default: ``0.02``) most that one trade may risk, fraction of equity
      - ``allow_extreme`` (default: ``False``) take risks of 0.5 and more, which are percent by
        mistake otherwise
      - ``lookback`` (default: ``100``) closed trades in the sample
      - ``min_trades`` (default: ``100``) closed trades from which on Kelly decides
      - ``warmup_risk`` (default: ``0.01``) fraction of equity at risk until then
      - ``probe_risk`` (default: ``0.001``) the same when Kelly is zero or less, so that the sample
        goes on; 0 refuses instead
      - ``recalculate`` (default: ``"weekly"``) ISO weeks in the time of the data feed (or
        ``"daily"``, ``"monthly"``): trades closed before the period count, and the result is frozen
        in it; ``"trade"`` counts every trade at once
      - ``estimator`` (default: ``"two-point"``) or ``"empirical"``
      - ``confidence`` (default: ``None``) size on the lower bound of Kelly at this confidence
      - ``history`` (default: ``None``) R-multiples that count as the first trades of the window
      - ``win_rate``, ``payoff_ratio`` (default: ``None``) the same, as `min_trades` trades
      - ``pool`` (default: ``"strategy"``) all trades of the strategy, or ``"data"``: those of the
        same data feed
      - ``atr_period``, ``atr_multiple`` (default: ``14``, ``2.0``) the stop that it sizes for
      - ``atr_floor`` (default: ``0.5``) least ATR that sizes come from, in multiples of its median
      - ``notional_limit`` (default: ``1.0``) of one position, fraction of equity; None: no limit
      - ``costs_in_risk`` (default: ``False``) count commission and slippage as part of the risk
      - ``slippage`` (default: ``0.0``) how far beyond its price a stop fills, fraction of the price
      - ``step`` (default: ``None``) size step; None: that of the broker's `instruments`, or 1

    ``state`` is WARMUP, KELLY, PROBE or STARVED (a probe is below the step or the minimum notional;
    the journal notes it once).

    Rule: bt_risk.rules.kelly, bt_risk.rules.sizing      Acts: on each order      Persisted: yes
    """

    _start = wrong_place("a sizer", "cerebro.addsizer({name})")
    by_policy = False  # whether `protect` has set it
    params = SizerSettings.defaults()

    def __init__(self, *misplaced: Any) -> None:
        if misplaced:  # data feeds, as `addobserver` and `addstrategy` pass them
            self._start()
        self._settings = SizerSettings.from_params("HalfKellySizer", self.p)
        self._starved: set[str] = set()
        self.state = "WARMUP"

    def set(self, strategy: Any, broker: Any) -> None:
        """Find the gate: it has the closed trades and the ATR that sizes come from."""
        self.strategy = strategy
        self.broker = RiskBroker.of(strategy)
        self.broker.venue.clamp_fills()  # to cut an order to what cash affords when it fills
        if self._settings.stop_costs is not None:
            self.broker.book.costs = self._settings.stop_costs
        self._kelly = KellyEstimate(self._settings, strategy, self.broker.book)
        for instrument in self.broker.book.instruments:
            instrument.track_atr(self._settings.atr_period)

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        held_in = self.broker.venue.held_in(data)
        position = self.broker.venue.position(data if held_in is None else held_in.data)
        held: float = position.size if position else 0.0
        if abs(held) > SIZE_EPS and (held > 0) != isbuy:
            return abs(held)
        instrument: Any = self.broker.find(data)
        return self._propose(instrument, 1 if isbuy else -1)

    def _propose(self, instrument: Instrument, side: int) -> SizeProposal:
        if math.isnan(instrument.closed):
            return _refusal(f"unknown: {instrument.why_unknown()}")
        settings = self._settings
        risk, reason = self._risk(instrument)
        distance = instrument.facts.get("atr_multiple", settings.atr_multiple)
        floored = distance * instrument.floored_atr(settings.atr_period, settings.atr_floor)
        distance *= instrument.atr(settings.atr_period)
        if math.isnan(distance):
            reason = reason or self._too_short(instrument)
        elif not distance > 0.0:
            reason = reason or f"unknown: {instrument.why_unknown()}"
        if reason:
            return _refusal(reason)
        gate, step = self.broker, settings.step or instrument.facts.get("step", 1.0)
        multiplier = gate.multiplier(instrument.data)
        equity = gate.equity()
        if math.isnan(equity):
            return _refusal("unknown: what the account is worth")
        risk *= gate.book.risk_scale
        size = position_size(equity, risk, floored, multiplier, step)
        if gate.book.costs is not None and size > 0:
            size = self._with_costs(instrument, side, size, risk * equity, floored)
            size = round_down(size, step)
        if size <= 0:
            return self._too_small(instrument, risk, step)
        size = min(size, self._notional_room(instrument, side, equity, multiplier))
        size = round_down(size, step)
        size = affordable(gate, instrument, side, size, step)
        if size <= 0 or self._below_minimum(instrument, size, multiplier):
            return self._too_small(instrument, risk, step)
        return SizeProposal(size, distance, step)

    def _with_costs(
        self, instrument: Instrument, side: int, size: float, budget: float, distance: float
    ) -> float:
        """Return how much of a size loses no more than a budget with the costs of a stop-out."""
        # The order is judged by the same numbers.
        costs = self.broker.book.costs
        order = Request(instrument, side, size, instrument.price, distance, costs=costs)
        return largest_within(budget, order.loss, size)

    def _risk(self, instrument: Instrument) -> tuple[float, str]:
        """Return the fraction of equity to risk, and the reason if it is none."""
        kelly = self._kelly.current(instrument)
        risk, self.state = self._kelly.risk_at(kelly)
        if risk > 0:
            return risk, ""
        return 0.0, f"Kelly {kelly:.4f} <= 0 over the last {self._settings.lookback} trades"

    def _too_short(self, instrument: Instrument) -> str:
        period = self._settings.atr_period
        return f"ATR({period}) needs {period + 1} bars, {instrument.name} has {instrument.length}"

    def _notional_room(
        self, instrument: Instrument, side: int, equity: float, multiplier: float
    ) -> float:
        """Return how many units `notional_limit` leaves."""
        limit = self._settings.notional_limit
        if limit is None:
            return math.inf
        used = self.broker.book.exposure.of(instrument, side, "notional")
        return max(0.0, (limit * equity - used) / (abs(instrument.price) * multiplier))

    def _below_minimum(self, instrument: Instrument, size: float, multiplier: float) -> bool:
        floor = instrument.facts.get("min_notional", 0.0)
        return bool(size * abs(instrument.price) * multiplier < floor)

    def _too_small(self, instrument: Instrument, risk: float, step: float) -> SizeProposal:
        reason = (
            f"{risk:.4f} of equity buys less than one step of {step:g} {instrument.name} "
            "(or its minimum notional, or cash is used up)"
        )
        if self.state == "PROBE" or instrument.name in self._starved:
            self.state = "STARVED"
            self._report_starved(instrument, reason)
        return _refusal(reason)

    def _report_starved(self, instrument: Instrument, reason: str) -> None:
        """Write to the journal, once for each instrument, that not even a probe can be sent."""
        if instrument.name not in self._starved:
            self._starved.add(instrument.name)
            self.broker.journal.instrument(instrument, "HalfKellySizer", "starved", reason)

    # -- across a restart, and for reports -------------------------------------------------------

    def persist(self) -> dict[str, Any]:
        """Return the state, and the estimates that are frozen."""
        return {"state": self.state, "kelly": self._kelly.persist()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with the saved estimates; the trades are in the book."""
        self.state = saved["state"]
        self._kelly.restore(saved["kelly"])

    def timeline(self, times: Sequence[float]) -> pd.DataFrame:
        """Return Kelly at the beginning of every period of a run, and its sample.

        Parameters
        ----------
        times : sequence of float
            Backtrader date numbers of the bars, not decreasing.

        Returns
        -------
        DataFrame
            A row whenever another sample counts: ``time``, ``pool`` (the data feed's name with
            ``pool="data"``, else empty), ``trades`` (in the sample), ``full``, ``half`` (scaled by
            `kelly_scale`) and ``lower`` (the bound at `confidence`, 0.95 if that is None), NaN
            for fewer than 10 trades; ``used``, the fraction of equity at risk; ``state``.
        """
        return self._kelly.timeline(times)

    def estimate(self) -> KellyEstimate:
        """Return the estimate from the trades so far, as plain values that outlive the run."""
        return self._kelly.detached()


def _refusal(reason: str) -> SizeProposal:
    return SizeProposal(0.0, reason=f"HalfKellySizer: {reason}", rule="HalfKellySizer")
