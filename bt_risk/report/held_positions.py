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
from bt_risk.known_engine import other_engine
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.point_value import point_value
from bt_risk.report.seen_bars import SeenBars
from bt_risk.tolerances import SIZE_EPS

__all__ = ["EXPOSURE", "HELD", "HeldPositions", "plain_point_value", "unit_value"]

EXPOSURE = ["long_risk", "short_risk", "long_notional", "short_notional"]
HELD = ["bar", "name", "size", "value", "stop"]
_ELSEWHERE = 0, None  # of a data feed that the strategy does not have
_NOTED = 6  # numbers of one position at one bar: bar, place, size, point value, risk, stop


class HeldPositions:
    """Record what is held at each bar; the bars of the data feeds give it a value afterwards.

    Attributes
    ----------
    broker : broker
        The account, as the strategy knows it.
    gate : RiskBroker or None
        The same, if it is one.
    inner : broker or None
        What the gate wraps, or the account itself.
    reads : bool
        Whether `inner` is a BackBroker that is worth what it has last computed: nobody is asked.
    stops : TrailingStopMonitor or None
        Its stops, once they are known.
    """

    def __init__(self, feeds: Sequence[bt.AbstractDataBase]) -> None:
        self._feeds = list(feeds)
        # Each data feed's place, and the line whose length is its own.
        self._places = {feed: (i, feed.lines[0]) for i, feed in enumerate(self._feeds)}
        self._rows = array("d")
        self.stops: TrailingStopMonitor | None = None

    def ask(self, broker: Any) -> None:
        """Ask this broker from now on, and what it wraps."""
        self.broker, self.gate = broker, broker if isinstance(broker, RiskBroker) else None
        self.inner = broker if self.gate is None else self.gate.inner
        self.reads = _holds_its_value(broker, self.inner)

    def note(self, bar: int) -> tuple[float, float]:
        """Record every position at a bar; return what the account and one share of it are worth."""
        inner, broker = self.inner, self.broker
        if isinstance(inner, bt.brokers.BackBroker):
            # Asking for a position would add an empty one.
            for feed, position in inner.positions.items():
                if position.size:
                    self.hold(bar, feed, position.size)
            return broker.getvalue(), inner.fundvalue or inner.getvalue()
        ask = broker.getposition if self.gate is None else self.gate.venue.position
        for feed in self._feeds:
            position = ask(feed)
            if position is not None and position.size:
                self.hold(bar, feed, position.size)
        return broker.getvalue(), unit_value(broker)

    def hold(self, bar: int, feed: Any, size: float) -> None:
        """Record one position at a bar."""
        place, head = self._places.get(feed, _ELSEWHERE)
        if head is None or not head.lencount or -SIZE_EPS <= size <= SIZE_EPS:
            return
        gate, stops, risk, stop = self.gate, self.stops, math.nan, math.nan
        if gate is None:
            worth = plain_point_value(self.broker.getcommissioninfo(feed), feed.close[0])
        else:
            book = gate.book
            instrument = book.by_data[id(feed)]
            worth, risk = instrument.multiplier, book.exposure.position_risk(instrument)
            if stops is not None:
                parts = instrument.parts
                stop = (
                    stops.price(parts[0].owner, instrument)
                    if len(parts) == 1
                    else _nearest_stop(stops, instrument)
                )
        self._rows.extend((bar, place, size, worth, risk, stop))

    def keep(self) -> None:
        """Let go of the account after the last bar: plain values are left."""
        self.broker = self.gate = self.inner = self.stops = None
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


def _holds_its_value(broker: Any, inner: Any) -> bool:
    """Return whether an account is worth what a BackBroker has last computed, and no more."""
    own, call = bt.brokers.BackBroker, broker.getvalue
    if type(inner) is not own or other_engine():
        return False
    known = getattr(call, "__func__", None) is own.get_value
    return known and getattr(call, "__self__", None) is inner


def unit_value(broker: bt.BrokerBase) -> float:
    """Return the value of one share of the account, which deposits do not change."""
    return getattr(broker, "fundvalue", math.nan) or broker.getvalue()


def _named(places: np.ndarray, names: Sequence[str]) -> Any:
    return pd.array(list(names), dtype="str").take(places)


def plain_point_value(scheme: Any, price: float) -> float:
    """Return what a point is worth at a price: see `point_value`."""
    if type(scheme).profitandloss is bt.CommInfoBase.profitandloss:
        return float(scheme.p.mult)  # what `point_value` measures of a scheme that multiplies
    return point_value(scheme, float(price))


def _nearest_stop(stops: TrailingStopMonitor, instrument: Instrument) -> float:
    """Return the nearest stop of any owner; a chart shows one line only."""
    prices = [stops.price(part.owner, instrument) for part in instrument.parts]
    known = [price for price in prices if price == price]
    return (max if instrument.size > 0 else min)(known, default=math.nan)
