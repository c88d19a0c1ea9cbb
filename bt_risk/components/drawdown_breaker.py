"""Rule 5: stop at a drawdown. Block, cancel, close, wait until flat, and only then stop."""

from __future__ import annotations

import math
from typing import Any

import backtrader as bt

from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.gate.broker import RiskBroker
from bt_risk.monitors.drawdown import DrawdownMonitor
from bt_risk.monitors.settings import BreakerSettings

__all__ = ["DrawdownBreaker"]


class DrawdownBreaker(QuietAnalyzer):
    """Refuse entries, close everything and stop once the drawdown has reached a limit.

    Params:

      - ``drawdown_limit`` (default: ``0.10``) fraction of the high-water mark; exactly the limit
        trips it. None or infinity: never
      - ``action`` (default: ``"stop"``) ``"stop"`` ends the run once flat; ``"pause"`` goes on with
        entries refused, exits and stops at work
      - ``flatten`` (default: ``True``) close every position at the next open
      - ``cooldown_bars`` (default: ``None``) bars of the first data feed until a pause ends; None:
        locked until ``rearm()``
      - ``rearm_at`` (default: ``"rebase"``) after the cool-down the current equity is the new mark;
        ``"recovery"`` waits until the old mark is reached again (by positions that are still open:
        ``flatten=False``)
      - ``allow_extreme`` (default: ``False``) take a limit of 1, which is 1 % by mistake otherwise
      - ``lifetime_limit`` (default: ``None``) fraction of the highest mark ever; it trips for good
      - ``taper_from`` (default: ``None``) drawdown from which risk is scaled down linearly, to
        nothing at the limit
      - ``confirmations`` (default: ``1``) consecutive values beyond the limit that trip it; at
        least 2 behind a live broker, where values may arrive between bars
      - ``trigger`` (default: ``"close"``) ``"intrabar"`` judges each bar at its worst for what is
        held: longs at the low, shorts at the high, all of them at once. What a stop has closed
        counts at the price of its fill. The high-water mark is that of closes
      - ``equity`` (default: ``None``) a callable without arguments that returns equity, where the
        broker's value is something else

    The drawdown is that of the unit value, which deposits and withdrawals do not move. It is
    judged at every close, and positions are closed at the next open: after a gap the loss exceeds
    the limit. ``overshoot`` is by how much; with ``trigger="intrabar"`` the drawdown inside the bar
    that has tripped it counts where that was more.

    get_analysis:

      - ``state``: ARMED, TRIPPED, COOLING or LOCKED
      - ``tripped_at``, ``flat_at``: naive UTC datetimes of the last trip, or None
      - ``drawdown_at_trip``, ``drawdown_at_flat``, ``overshoot``: fractions, NaN without a trip
      - ``flattened``: whether the last trip ended flat; False if the prices ended first
      - ``trips``: all of them, oldest first
      - ``drawdown``, ``max_drawdown``, ``high_water_mark`` (unit value)

    Rule: bt_risk.rules.drawdown      Acts: at the next bar's open      Persisted: yes
    """

    params = BreakerSettings.defaults()

    def __init__(self) -> None:
        settings = BreakerSettings.from_params("DrawdownBreaker", self.p)
        self._gate: Any = RiskBroker.of(self.strategy)
        breaker = DrawdownMonitor(self._gate, settings)
        monitors = self._gate.registry.monitors
        others = [one for one in monitors if isinstance(one, DrawdownMonitor)]
        same = [one for one in others if one.settings == breaker.settings]
        if same:
            breaker = same[0]
        elif not math.isinf(min(breaker.rule.drawdown_limit, breaker.rule.lifetime_limit)):
            self._gate.registry.add_monitor(breaker)
            if breaker.taper_from is not None:
                self._gate.registry.add_taper()
        self._breaker: Any = breaker
        self._ending: Any = self._gate.ending
        self._analysis: dict[str, Any] | None = None

    def next(self) -> None:
        """End the run after the last strategy has seen this bar, once all is flat."""
        if self._ending and self.strategy is self.strategy.cerebro.runningstrats[-1]:
            self._gate.stop_engine()

    def rearm(self) -> None:
        """Trade again after a trip, with the high-water mark rebased to the current value."""
        if self._gate.inputs is not None:
            self._gate.inputs.add("rearm")
        self._breaker.rearm()

    @property
    def state(self) -> str:
        """ARMED, TRIPPED, COOLING or LOCKED."""
        state: str = self.get_analysis()["state"]
        return state

    def stop(self) -> None:
        """Keep plain values only: an optimisation sends them between processes."""
        self._analysis = self._summary()
        self._breaker = self._gate = self._ending = None

    def get_analysis(self) -> dict[str, Any]:
        """Return the state and the trips so far."""
        return self._analysis or self._summary()

    def _summary(self) -> dict[str, Any]:
        breaker = self._breaker
        limit, inside = breaker.rule.drawdown_limit, breaker.intrabar
        trips = [_dated(trip, limit, inside) for trip in breaker.trips]
        last = trips[-1] if trips else _dated(dict(_NO_TRIP), math.nan)
        return {
            "state": breaker.state.status,
            **last,
            "trips": trips,
            "drawdown": breaker.drawdown,
            "max_drawdown": breaker.max_drawdown,
            "high_water_mark": breaker.state.high_water_mark,
        }


_NO_TRIP = {
    "tripped_at": math.nan,
    "flat_at": math.nan,
    "drawdown_at_trip": math.nan,
    "drawdown_at_flat": math.nan,
    "flattened": False,
}


def _dated(trip: dict[str, Any], limit: float, inside: bool = False) -> dict[str, Any]:
    dates = {key: _date(trip[key]) for key in ("tripped_at", "flat_at")}
    drawdown = trip["drawdown_at_flat"]
    if inside and not drawdown > trip["drawdown_at_trip"]:  # NaN: it is not flat
        drawdown = trip["drawdown_at_trip"]
    return trip | dates | {"overshoot": drawdown - limit}


def _date(number: float) -> Any:
    return None if math.isnan(number) else bt.num2date(number)
