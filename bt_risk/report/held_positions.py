"""HeldPositions: every position of an account at each bar, with its risk and its stop."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.gate.broker import RiskBroker
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.point_value import point_value
from bt_risk.report.seen_bars import SeenBars
from bt_risk.tolerances import SIZE_EPS

__all__ = ["EXPOSURE", "HELD", "HeldPositions", "unit_value"]

EXPOSURE = ["long_risk", "short_risk", "long_notional", "short_notional"]
HELD = ["bar", "name", "size", "value", "stop"]
_NOTED = 6  # numbers of one position at one bar: bar, place, size, point value, risk, stop


class HeldPositions:
    """Record what is held at each bar; the bars of the data feeds give it a value afterwards.

    Attributes
    ----------
    broker : broker
        The account, as the strategy knows it.
    gate : RiskBroker or None
        The same, if it is one.
    stops : TrailingStopMonitor or None
        Its stops, once they are known.
    """

    def __init__(self, feeds: Sequence[bt.AbstractDataBase]) -> None:
        self._feeds = list(feeds)
        # Each data feed's place, and the line whose length is its own.
        self._places = {id(feed): (i, feed.lines[0]) for i, feed in enumerate(self._feeds)}
        self._rows = array("d")
        self._bar = 0
        self.stops: TrailingStopMonitor | None = None

    def ask(self, broker: Any) -> None:
        """Ask this broker from now on."""
        self.broker, self.gate = broker, broker if isinstance(broker, RiskBroker) else None

    def note(self) -> float:
        """Record every position at one bar; return the value of one share of the account."""
        gate = self.gate
        # The gate may wrap another broker from now on.
        inner = self.broker if gate is None else gate.inner
        if isinstance(inner, bt.brokers.BackBroker):
            # Asking for a position would add an empty one.
            for feed, position in inner.positions.items():
                if position.size:
                    self._hold(feed, position.size)
            value = inner.fundvalue or inner.getvalue()
        else:
            value = self._note_answers()
        self._bar += 1
        return value

    def _note_answers(self) -> float:
        ask = self.broker.getposition if self.gate is None else self.gate.venue.position
        for feed in self._feeds:
            position = ask(feed)
            if position is not None and position.size:
                self._hold(feed, position.size)
        return unit_value(self.broker)

    def _hold(self, feed: Any, size: float) -> None:
        place, head = self._places.get(id(feed), (0, None))
        if head is None or not head.lencount or abs(size) <= SIZE_EPS:
            return
        gate, risk, stop = self.gate, math.nan, math.nan
        if gate is None:
            worth = _point_value(self.broker, feed)
        else:
            book = gate.book
            instrument = book.by_data[id(feed)]
            worth, risk = instrument.multiplier, book.exposure.position_risk(instrument)
            if self.stops is not None:
                stop = _nearest_stop(self.stops, instrument)
        self._rows.extend((self._bar, place, size, worth, risk, stop))

    def keep(self) -> None:
        """Let go of the account after the last bar: plain values are left."""
        self.broker = self.gate = self.stops = None
        self._feeds, self._places = [], {}

    def exposure(self, seen: SeenBars, equity: np.ndarray) -> np.ndarray:
        """Return `EXPOSURE` at every bar as fractions of equity, of shape (4, bars)."""
        bar, _, size, value, risk, _ = self._columns(seen)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = risk / equity[bar], np.abs(value) / equity[bar]
        sums = np.zeros((len(EXPOSURE), len(equity)))
        for first, share in enumerate(shares):
            # One after the other, as the rows stand: another sequence rounds otherwise.
            np.add.at(sums, (2 * first + (size < 0), bar), share)
        return sums

    def frame(self, seen: SeenBars) -> pd.DataFrame:
        """Return the table `HELD`."""
        bar, place, size, value, _, stop = self._columns(seen)
        columns = bar, _named(place, seen.feed_names), size, value, stop
        return pd.DataFrame(dict(zip(HELD, columns, strict=True)))

    def _columns(self, seen: SeenBars) -> tuple[np.ndarray, ...]:
        """Return bar, place, size, value, risk and stop of every position at every bar."""
        rows = np.frombuffer(self._rows).reshape(-1, _NOTED)
        # A broker lists its positions as they were first opened, the table as the feeds are.
        rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
        bar, place = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        size, worth, risk, stop = rows[:, 2:].T
        return bar, place, size, size * self._closes(seen, bar, place) * worth, risk, stop

    def _closes(self, seen: SeenBars, bar: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return the close that each row saw."""
        closes = np.full(len(bar), math.nan)
        for one in np.unique(place):
            rows = place == one
            closes[rows] = seen.seen(one, "close")[bar[rows]]
        return closes


def unit_value(broker: bt.BrokerBase) -> float:
    """Return the value of one share of the account, which deposits do not change."""
    return getattr(broker, "fundvalue", math.nan) or broker.getvalue()


def _named(places: np.ndarray, names: Sequence[str]) -> Any:
    return pd.array(list(names), dtype="str").take(places)


def _point_value(broker: bt.BrokerBase, feed: bt.AbstractDataBase) -> float:
    """Return what a point is worth at this bar: see `point_value`."""
    scheme = broker.getcommissioninfo(feed)
    if type(scheme).profitandloss is bt.CommInfoBase.profitandloss:
        return float(scheme.p.mult)  # what `point_value` measures of a scheme that multiplies
    return point_value(scheme, float(feed.close[0]))


def _nearest_stop(stops: TrailingStopMonitor, instrument: Instrument) -> float:
    """Return the nearest stop of any owner; a chart shows one line only."""
    parts = instrument.parts
    if len(parts) == 1:
        return stops.price(parts[0].owner, instrument)
    known = [p for p in [stops.price(part.owner, instrument) for part in parts] if p == p]
    return (max if instrument.size > 0 else min)(known, default=math.nan)
