"""A sizer that splits capital by risk: every position at its weight of the portfolio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import backtrader as bt

from bt_risk.components.target_weights import Allocation, AllocationSettings
from bt_risk.errors import wrong_place
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.buying_power import affordable
from bt_risk.orders import SizeProposal
from bt_risk.parameters import OptionalPositive
from bt_risk.portfolio.instrument import Instrument
from bt_risk.rules.sizing import round_down
from bt_risk.tolerances import SIZE_EPS

__all__ = ["RiskParitySettings", "RiskParitySizer"]


@dataclass(frozen=True, kw_only=True)
class RiskParitySettings(AllocationSettings):
    """The parameters of `RiskParitySizer`, which describes them."""

    component: ClassVar[str] = "RiskParitySizer"

    step: OptionalPositive = None  # units


class RiskParitySizer(bt.Sizer):
    """Propose the size that brings a position to its weight in a portfolio of all data feeds.

    The weight is that of `target_weights`: equal shares of the portfolio's risk, from closes
    joined on time, frozen within a week or month. A buy of an instrument that is held already adds
    the missing part, and a sell that closes a long position returns its size. While there is too
    little history the order is Rejected with the reason.

    Params:

      - ``method`` (default: ``"risk_parity"``) or ``"inverse_volatility"``, ``"equal"``
      - ``volatility_target`` (default: ``None``) standard deviation of the portfolio per year, a
        fraction; None: weights of all data feeds add up to 1
      - ``budgets`` (default: ``None``) shares of risk by name of the data feed, or one for
        each
      - ``refresh`` (default: ``"weekly"``) or ``"monthly"``: how long an estimate holds
      - ``rebalance_buffer`` (default: ``0.1``) share of its weight that may be missing before a
        position is added to
      - ``gross_limit`` (default: ``1.0``) ceiling on the sum of absolute weights; None: no ceiling
      - ``window``, ``min_periods`` (default: ``252``, ``60``) bars of log returns, and how many
        all must have in common
      - ``periods_per_year`` (default: ``None``) bars of a year; None: counted
      - ``step`` (default: ``None``) size step; None: that of the broker's `instruments`, or 1

    The signs are those of the positions and of the order itself; the other data feeds count as
    long.

    Rule: bt_risk.rules.allocation      Acts: on each order      Persisted: no
    """

    _start = wrong_place("a sizer", "cerebro.addsizer({name})")
    params = RiskParitySettings.defaults()

    def __init__(self, *misplaced: Any) -> None:
        if misplaced:  # data feeds, as `addobserver` and `addstrategy` pass them
            self._start()
        self._settings = RiskParitySettings.from_params("RiskParitySizer", self.p)

    def set(self, strategy: Any, broker: Any) -> None:
        """Find the gate, which records the closes that weights come from."""
        self.strategy = strategy
        self.broker = RiskBroker.of(strategy)
        self.broker.venue.clamp_fills()  # to cut an order to what cash affords when it fills
        Allocation.of(self.broker, self._settings)

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        held: float = self.broker.getposition(data).size
        if abs(held) > SIZE_EPS and (held > 0) != isbuy:
            return abs(held)
        instrument: Any = self.broker.find(data)
        side = 1 if isbuy else -1
        weight = self._weight(instrument, side)
        if weight is None:
            return _refusal(f"no weight for {instrument.name} yet: {self._why(instrument)}")
        return self._propose(instrument, side, abs(weight), self.broker.multiplier(data))

    def _weight(self, instrument: Instrument, side: int) -> float | None:
        allocation = Allocation.of(self.broker, self._settings)
        signs = allocation.signs(None) | {instrument.lead.index: side}
        return allocation.weights(signs, self._settings).get(instrument.lead.index)

    def _why(self, instrument: Instrument) -> str:
        if math.isnan(instrument.price):
            return instrument.why_unknown()
        return f"fewer than {self._settings.min_periods} returns are common to all instruments"

    def _propose(
        self, instrument: Instrument, side: int, weight: float, multiplier: float
    ) -> SizeProposal:
        gate, unit = self.broker, abs(instrument.price) * multiplier
        instrument.multiplier = multiplier
        step = self._settings.step or instrument.facts.get("step", 1.0)
        target = weight * gate.book.risk_scale * gate.equity()
        missing = target - gate.book.exposure.of(instrument, side, "notional")
        if missing <= self._settings.rebalance_buffer * target:
            return _refusal(f"{instrument.name} is at its weight of {weight:.4f} already")
        size = affordable(gate, instrument, side, round_down(missing / unit, step), step)
        if size <= 0 or size * unit < instrument.facts.get("min_notional", 0.0):
            return _refusal(f"a weight of {weight:.4f} buys less than {step:g} {instrument.name}")
        return SizeProposal(size, step=step)


def _refusal(reason: str) -> SizeProposal:
    return SizeProposal(0.0, reason=f"RiskParitySizer: {reason}", rule="RiskParitySizer")
