"""Lines for ``cerebro.plot()``: drawdown, exposure and correlation, each with its limit."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import backtrader as bt

from bt_risk.components.portfolio_risk import held_pairs, highest_correlation
from bt_risk.errors import check_choice, wrong_place
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.other_engines import list_observer
from bt_risk.limits.base import Limit
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import ExposureLimit
from bt_risk.monitors.drawdown import DrawdownMonitor
from bt_risk.rules.drawdown import fall

__all__ = ["Correlation", "Drawdown", "Exposure"]

L = TypeVar("L", bound=Limit)

LIMIT = dict(color="firebrick", ls="--", _name="limit")


class _RiskObserver(bt.Observer):
    """Draw a panel below the prices from the book of the gate."""

    set = _notify_cashvalue = wrong_place(
        "an observer", "cerebro.addobserver({name})", "bt_risk.observers"
    )
    _stclock = True
    plotinfo = dict(plot=True, subplot=True, plotlinelabels=True)

    def __init__(self) -> None:
        self._gate = RiskBroker.of(self._owner)

    def _stage2(self) -> None:
        """Prepare for the run, as the last thing before the first bar."""
        super()._stage2()
        list_observer(self)

    def _find(self, kind: type[L]) -> L | None:
        """Return the limit of this class, None without one."""
        limits = self._gate.registry.limits
        return next((limit for limit in limits if isinstance(limit, kind)), None)


class Drawdown(_RiskObserver):
    """Draw the drawdown as `bt_risk.DrawdownBreaker` measures it, and its limit.

    Lines: ``drawdown`` and ``limit``, fractions of the high-water mark; the limit is NaN without a
    breaker.
    """

    lines: Any = ("drawdown", "limit")
    plotlines = dict(drawdown=dict(color="firebrick"), limit=LIMIT)

    def __init__(self) -> None:
        super().__init__()
        self._breaker: DrawdownMonitor | None = None
        self._mark = -math.inf

    def next(self) -> None:
        """Draw this close."""
        if self._breaker is None:
            self._breaker = self._gate.registry.monitor(DrawdownMonitor)
        if self._breaker is not None:
            limit = self._breaker.rule.drawdown_limit
            self.lines.drawdown[0] = self._breaker.drawdown
            self.lines.limit[0] = limit if math.isfinite(limit) else math.nan
            return
        value = self._gate.unit_value()
        if math.isfinite(value):
            self._mark = max(self._mark, value)
            self.lines.drawdown[0] = fall(value, self._mark)


class Exposure(_RiskObserver):
    """Draw the exposure of long and short positions, and the limit of rule 3 if it has that unit.

    Params:

      - ``unit`` (default: ``"risk"``) loss at the stops, or ``"notional"``: value of the positions

    Lines: ``long``, ``short`` (below zero), ``limit`` and ``floor``, its mirror image; fractions
    of equity.
    """

    lines: Any = ("long", "short", "limit", "floor")
    params = dict(unit="risk")
    plotlines = dict(
        long=dict(color="steelblue"),
        short=dict(color="darkorange"),
        limit=LIMIT,
        floor=LIMIT | dict(_name="-limit"),
    )

    def __init__(self) -> None:
        super().__init__()
        check_choice("Exposure", "unit", self.p.unit, ("risk", "notional"))

    def next(self) -> None:
        """Draw this close."""
        book, equity = self._gate.book, self._gate.equity()
        sums = {1: 0.0, -1: 0.0}
        for instrument in book.instruments:
            if instrument.size:
                value = abs(instrument.size * instrument.value)
                risk = self.p.unit == "risk"
                side = 1 if instrument.size > 0 else -1
                sums[side] += book.exposure.position_risk(instrument) if risk else value
        self.lines.long[0], self.lines.short[0] = sums[1] / equity, -sums[-1] / equity
        limit = self._find(ExposureLimit)
        if limit is not None and limit.unit == self.p.unit:
            self.lines.limit[0], self.lines.floor[0] = limit.limit, -limit.limit


class Correlation(_RiskObserver):
    """Draw the highest signed correlation between two positions, and the limit of rule 4.

    Lines: ``correlation``, NaN with fewer than two positions or too little history, and ``limit``.
    The correlation is the limit's own; nothing is drawn without a `CorrelationLimit`.
    """

    lines: Any = ("correlation", "limit")
    plotlines = dict(correlation=dict(color="steelblue"), limit=LIMIT)

    def next(self) -> None:
        """Draw this close."""
        limit, book = self._find(CorrelationLimit), self._gate.book
        if limit is not None and book.windows.active:
            values = book.exposure.positions()
            pairs = held_pairs(book, limit.model, values)
            self.lines.correlation[0] = highest_correlation(pairs, values)
            self.lines.limit[0] = limit.limit
