"""Rule 2: a stop behind every position, resting at the broker, that only ever tightens."""

from dataclasses import replace

import backtrader as bt

from bt_risk.gate.broker import RiskBroker
from bt_risk.monitors.settings import StopSettings
from bt_risk.monitors.trailing_stop import TrailingStopMonitor

__all__ = ["ATRTrailingStop"]


class ATRTrailingStop(bt.Observer):
    """Keep a trailing stop behind every position, and draw it.

    ``cerebro.addobserver`` guards every data and draws the first; ``cerebro.addobservermulti``
    draws each. The stop is an order that rests at the broker, sized to the position at all times.
    The strategy's ``notify_order`` sees it fill, and nothing of its moves.

    Params:

      - ``atr_period`` (default: ``14``) bars of Wilder's ATR
      - ``atr_multiple`` (default: ``2.0``) ATRs between price and stop (also known as
        atr_multiplier)
      - ``anchor`` (default: ``"close"``) what the stop trails: ``"close"``, or ``"extreme"`` (alias
        ``"high"``) for the highest high since entry, the lowest low for shorts (chandelier exit)
      - ``buffer`` (default: ``0.0``) ATRs beyond the level
      - ``trigger`` (default: ``"intrabar"``) ``"intrabar"`` rests an order; ``"close"`` leaves at
        the next open after a close beyond the stop
      - ``min_step`` (default: ``0.0``) ATRs that the level must gain before the order moves

    The first stop is the entry fill less the distance that the order was judged with; from the
    close of the entry bar on it ratchets to ``anchor - side x atr_multiple x ATR`` and never
    loosens. It is active from the next bar of its data: the bar of the entry is not protected.
    Gaps fill at the open.

    Lines: ``stop``, the price it rests at, NaN without a position.

    Rule: bt_risk.rules.trailing_stop      Acts: inside the next bar      Persisted: yes

    References: Wilder, New Concepts in Technical Trading Systems (1978); LeBeau's chandelier exit.
    """

    _stclock = True
    lines = ("stop",)
    params = StopSettings.defaults()
    plotinfo = dict(plot=True, subplot=False, plotlinelabels=True)
    plotlines = dict(stop=dict(_name="ATR stop", color="darkorange", drawstyle="steps-post"))

    def __init__(self):
        rule = StopSettings.from_params("ATRTrailingStop", self.p)
        if rule.anchor == "high":
            rule = replace(rule, anchor="extreme")
        gate = RiskBroker.of(self._owner)
        self._line = self.lines.stop
        self._keeper = gate.registry.monitor(TrailingStopMonitor)
        if self._keeper is None:
            self._keeper = TrailingStopMonitor(gate)
            gate.registry.add_monitor(self._keeper)
        gate.book.set_stop_rule(rule.atr_period, rule.atr_multiple)
        self._keeper.observers.append(self)
        self._instrument = gate.find(self.datas[0])
        for data in self.datas:
            self._keeper.guard(self._owner, gate.find(data), rule)

    def next(self):
        """Draw where the stop rests."""
        self._line[0] = self._keeper.price(self._owner, self._instrument)
