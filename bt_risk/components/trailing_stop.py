"""Rule 2: a stop behind every position, resting at the broker, that only ever tightens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import backtrader as bt

from bt_risk.errors import wrong_place
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.other_engines import list_observer
from bt_risk.monitors.settings import StopSettings
from bt_risk.monitors.trailing_stop import TrailingStopMonitor

__all__ = ["ATRTrailingStop"]


class ATRTrailingStop(bt.Observer):
    """Keep a trailing stop behind every position, and draw it.

    ``cerebro.addobserver`` guards every data feed and draws the first; ``cerebro.addobservermulti``
    draws each. The stop is an order that rests at the broker and always has the size of the
    position. The strategy's ``notify_order`` is called when it fills, not when it moves.

    Params:

      - ``atr_period`` (default: ``14``) bars of Wilder's ATR
      - ``atr_multiple`` (default: ``2.0``) ATRs between price and stop (also known as
        atr_multiplier)
      - ``anchor`` (default: ``"close"``) the price that the stop trails: ``"close"``, or
        ``"extreme"`` (alias ``"high"``) for the highest high since entry, the lowest low for shorts
        (chandelier exit)
      - ``buffer`` (default: ``0.0``) ATRs beyond the level
      - ``trigger`` (default: ``"intrabar"``) ``"intrabar"``: an order rests at the broker;
        ``"close"``: the position is closed at the open after a close beyond the stop
      - ``min_step`` (default: ``0.0``) ATRs that the level must gain before the order moves
      - ``entry_stop`` (default: ``"next bar"``) ``"attached"``: the stop is active from the fill of
        the entry on

    The first stop is the entry fill less the distance that the order was judged with. From the
    close of the entry bar on it moves to ``anchor - side x atr_multiple x ATR`` wherever that is
    tighter, and never loosens. It is active from the next bar of its data feed: the bar of the
    entry is not protected. With ``entry_stop="attached"`` BackBroker judges it by the extreme of
    that bar, too, and a live broker with that capability gets it with the entry. After a gap it
    fills at the open.

    Lines: ``stop``, the price of the resting order, NaN without a position.

    Rule: bt_risk.rules.trailing_stop      Acts: inside the next bar      Persisted: yes

    References: Wilder, New Concepts in Technical Trading Systems (1978); LeBeau's chandelier exit.
    """

    set = _notify_cashvalue = wrong_place("an observer", "cerebro.addobserver({name})")
    _stclock = True
    lines: Any = ("stop",)
    params = StopSettings.defaults()
    plotinfo = dict(plot=True, subplot=False, plotlinelabels=True)
    plotlines = dict(stop=dict(_name="ATR stop", color="darkorange", drawstyle="steps-post"))

    def __init__(self) -> None:
        rule = StopSettings.from_params("ATRTrailingStop", self.p)
        if rule.anchor == "high":
            rule = replace(rule, anchor="extreme")
        gate = RiskBroker.of(self._owner)
        self._line = self.lines.stop
        monitor = gate.registry.monitor(TrailingStopMonitor)
        if monitor is None:
            monitor = TrailingStopMonitor(gate)
            gate.registry.add_monitor(monitor)
        gate.book.set_stop_rule(rule.atr_period, rule.atr_multiple)
        monitor.observers.append(self)
        found: list[Any] = [gate.find(data) for data in self.datas]
        instruments = [one for one in found if one is not None]  # signals have no prices
        self._instrument = next(iter(instruments), None)
        place = -1 if self._instrument is None else self._instrument.index
        self._key, self._stops = (place, self._owner), monitor.stops
        for instrument in instruments:
            monitor.guard(self._owner, instrument, rule)

    def _stage2(self) -> None:
        """Prepare for the run, as the last thing before the first bar."""
        super()._stage2()
        list_observer(self)

    def next(self) -> None:
        """Draw the price of the resting stop; without one the line has NaN already."""
        stop = self._stops.get(self._key)
        if stop is not None:
            self._line[0] = stop.orders[0].price
