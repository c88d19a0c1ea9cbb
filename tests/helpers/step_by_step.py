"""`ReportData` and `OrderLogger` in their plain form: every column is recorded at every bar.

They are the oracles of the product's, which note what cannot be derived and derive the rest at the
end of a run. Only what differs stands here.
"""

import math

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.evidence.order_log import OrderLogger
from bt_risk.gate.broker import RiskBroker
from bt_risk.monitors.drawdown import DrawdownMonitor
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.portfolio.point_value import point_value
from bt_risk.report.held_positions import EXPOSURE, HELD
from bt_risk.report.record import BARS, ReportData
from bt_risk.report.seen_bars import unique_names
from bt_risk.tolerances import SIZE_EPS


def timestamps(numbers):
    """Return date numbers as timestamps, one by one."""
    times = [bt.num2date(n) if n == n else pd.NaT for n in numbers]
    return pd.DatetimeIndex(pd.to_datetime(times)).as_unit("us").round("ms")


class StepReportData(ReportData):
    """Record every number of `bars`, `held`, `closes` and `ranges` at every bar."""

    def start(self):
        super().start()
        self._rows, self._positions = [], []
        self._feeds = [(i, feed, [], [], []) for i, feed in enumerate(self.strategy.datas)]
        self._stops = None

    def next(self):
        gate = self.strategy.broker
        gated = isinstance(gate, RiskBroker)
        if gated and self._stops is None:
            self._stops = gate.registry.monitor(TrailingStopMonitor)
            self._breaker = gate.registry.monitor(DrawdownMonitor)
        equity = float(gate.getvalue())
        roots = [feed for feed in self.strategy.datas if not feed._clone]
        time = max([feed.datetime[0] for feed in roots if len(feed)], default=math.nan)
        sums = self._exposure(gate, gated, equity)
        drawdown = self._breaker.drawdown if self._breaker is not None else math.nan
        scale = gate.book.risk_scale if gated else 1.0
        unit_value = float(getattr(gate, "fundvalue", math.nan) or gate.getvalue())
        self._rows.append((time, equity, unit_value, drawdown, scale, *sums))
        for _, feed, times, closes, ranges in self._feeds:
            if not len(feed):
                continue
            prices = feed.open[0], feed.high[0], feed.low[0]
            if len(feed) > len(times):
                times.append(feed.datetime[0])
                closes.append(float(feed.close[0]))
                ranges.append(prices)
            elif times and feed.replaying:
                times[-1], closes[-1] = feed.datetime[0], float(feed.close[0])
                ranges[-1] = prices

    def _exposure(self, gate, gated, equity):
        bar, sums = len(self._rows), [0.0, 0.0, 0.0, 0.0]
        for i, feed, *_ in self._feeds:
            size = position_size(gate, feed)
            if abs(size) <= SIZE_EPS or not len(feed):
                continue
            short = size < 0
            risk = stop = math.nan
            if gated:
                instrument = gate.find(feed)
                risk = risk_of(gate.book, instrument) / equity
                stop = self._nearest_stop(instrument)
            close = float(feed.close[0])
            scheme = gate.getcommissioninfo(feed)
            worth = instrument.multiplier if gated else point_value(scheme, close)
            value = size * close * worth
            self._positions.append((bar, i, size, value, stop))
            sums[short] += risk
            sums[2 + short] += abs(value) / equity
        return sums

    def _nearest_stop(self, instrument):
        if self._stops is None:
            return math.nan
        stops = [self._stops.price(part.owner, instrument) for part in instrument.parts]
        known = [stop for stop in stops if stop == stop]
        return (max if instrument.size > 0 else min)(known, default=math.nan)

    def _frames(self):
        names = unique_names(self.strategy.datas)
        bars = pd.DataFrame(self._rows, columns=[*BARS, *EXPOSURE])
        bars["time"] = timestamps(bars["time"])
        held = pd.DataFrame(self._positions, columns=HELD)
        return bars, held.assign(name=[names[i] for i in held["name"]])

    def _closes(self, place):
        _, _, times, closes, _ = self._feeds[place]
        return pd.Series(closes, timestamps(times), dtype=float)

    def _range(self, place):
        return np.array(self._feeds[place][-1], dtype=np.float32).reshape(-1, 3).T


def risk_of(book, instrument):
    """Return what the parts of a position lose at their stops, from the last close on."""
    return sum([part_risk(book, instrument, part) for part in instrument.parts if part.size])


def part_risk(book, instrument, part):
    left, lost, side = abs(part.size), 0.0, 1 if part.size > 0 else -1
    stops = []
    for order in instrument.orders.values():
        mine = order.kind == "stop" and order.side == -side and order.owner is part.owner
        if mine and (order.parent is None or order.parent not in book.working):
            distance = max(0.0, side * (instrument.price - order.price))
            stops.append((distance, order.remaining))
    for distance, covers in sorted(stops):
        covered = min(left, covers)
        lost += covered * distance
        left -= covered
    if left > SIZE_EPS:
        lost += left * instrument.stop_distance()
    return lost * instrument.multiplier


def position_size(broker, feed):
    """Return the size of a position, without making an entry for it."""
    if isinstance(broker, RiskBroker):
        position = broker.venue.position(feed)
    elif isinstance(broker, bt.brokers.BackBroker):
        position = broker.positions.get(feed)
    else:
        position = broker.getposition(feed)
    return float(position.size) if position is not None else 0.0


class StepOrderLogger(OrderLogger):
    """Record every bar of every data feed, and the cash with its time, at every bar."""

    def start(self):
        super().start()
        self._rows = [[] for _ in self._names]
        self._times = []

    def next(self):
        latest = -math.inf
        for feed, rows in zip(self.strategy.datas, self._rows, strict=True):
            if not len(feed):
                continue
            time = feed.datetime[0]
            latest = max(latest, time)
            row = time, feed.open[0], feed.high[0], feed.low[0], feed.close[0], time
            if len(feed) > len(rows):
                rows.append(row)
            elif feed.replaying:
                rows[-1] = row
        self._cash.append(self.strategy.broker.getcash())
        self._times.append(latest)

    def _last_close(self, place):
        feed = self.strategy.datas[place]
        if self.strategy.cerebro.p.exactbars == 1:
            return self._rows[place][-1][4] if self._rows[place] else math.nan
        return float(feed.close[0]) if len(feed) else math.nan

    def _cash_by_time(self):
        frame = pd.DataFrame({"cash": list(self._cash)}, dtype=float)
        return frame["cash"].set_axis(timestamps(self._times))

    def _bars(self, place):
        columns = ["open", "high", "low", "close", "number"]
        frame = pd.DataFrame(self._rows[place], columns=["time", *columns], dtype=float)
        return frame[columns].set_axis(timestamps(frame["time"]))


# -- comparing -------------------------------------------------------------------------------------


def bits(values):
    """Return what makes two columns equal: the type, and every value with its sign."""
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return str(values.dtype), [repr(value) for value in values.tolist()]
    return "float", [value.hex() if value == value else "nan" for value in values.tolist()]


def plain(value):
    """Return a record, a log, or a part of one as plain values that are compared exactly."""
    if isinstance(value, pd.DataFrame):
        if value.empty:  # its columns have no type
            return list(value.columns)
        columns = {name: (str(value[name].dtype), bits(value[name])) for name in value}
        return list(value.columns), index_of(value), columns
    if isinstance(value, pd.Series):
        return value.name, str(value.dtype), index_of(value), bits(value)
    if isinstance(value, pd.DatetimeIndex):
        return str(value.dtype), value.asi8.tolist()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return repr(value)


def index_of(frame):
    return plain(frame.index) if isinstance(frame.index, pd.DatetimeIndex) else list(frame.index)
