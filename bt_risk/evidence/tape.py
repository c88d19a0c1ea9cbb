"""What the shadow book needs of a protected run: its bars, and what every order asked for."""

from dataclasses import dataclass

import pandas as pd

from bt_risk.broker import RiskBroker
from bt_risk.journal import QuietAnalyzer
from bt_risk.report.calendar import timestamps
from bt_risk.report.record import unique_names

__all__ = ["ASKED", "OrderTape", "Tape"]

ASKED = ["time", "name", "side", "kind", "price", "opening", "allowed", "distance", "rule"]
_PRICES = ["open", "high", "low", "close"]


@dataclass(frozen=True)
class Tape:
    """Plain values of one run.

    Attributes
    ----------
    asked : DataFrame
        Every order that opens or closes something, columns `ASKED`; opening and allowed are the
        units that it opens, asked for and sent.
    bars : dict of DataFrame
        open, high, low, close by time, for each data.
    multipliers : dict of float
        Currency of one point of price, for each data.
    """

    asked: pd.DataFrame
    bars: dict
    multipliers: dict


class OrderTape(QuietAnalyzer):
    """Write down every order as it was asked for, and every bar; nothing of the run is changed.

    `tape` is the `Tape` of the run, once it is over.
    """

    def __init__(self):
        self.tape = None

    def start(self):
        """Follow the orders of the gate, if there is one."""
        self._names = unique_names(self.strategy.datas)
        self._rows, self._asked = [[] for _ in self._names], []
        gate = self.strategy.broker
        # Several strategies share one gate: the first of them follows for all.
        first = self.strategy is self.strategy.cerebro.runningstrats[0]
        if isinstance(gate, RiskBroker) and first:
            gate.desk.followers.append(self._ask)

    def _ask(self, asked):
        instrument, *rest = asked
        self._asked.append((instrument.time, self._names[instrument.index], *rest))

    def next(self):
        """Keep the bars that have closed; one that is still replayed is kept as it is last."""
        for feed, rows in zip(self.strategy.datas, self._rows, strict=True):
            if not len(feed):
                continue
            row = feed.datetime[0], feed.open[0], feed.high[0], feed.low[0], feed.close[0]
            if len(feed) > len(rows):
                rows.append(row)
            elif feed.replaying:
                rows[-1] = row

    def stop(self):
        """Keep plain values only, so that results can be sent between processes."""
        asked = pd.DataFrame(self._asked, columns=ASKED)
        bars, multipliers = {}, {}
        for name, feed, rows in zip(self._names, self.strategy.datas, self._rows, strict=True):
            frame = pd.DataFrame(rows, columns=["time", *_PRICES], dtype=float)
            bars[name] = frame[_PRICES].set_axis(timestamps(frame["time"]))
            info = self.strategy.broker.getcommissioninfo(feed)
            multipliers[name] = float(getattr(info.p, "mult", 1.0))
        self.tape = Tape(asked.assign(time=timestamps(asked["time"])), bars, multipliers)
        self._rows = self._asked = None
