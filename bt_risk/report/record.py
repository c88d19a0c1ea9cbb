"""What a run leaves behind for its report: plain values, written down bar by bar."""

import math
from dataclasses import dataclass

import backtrader as bt
import pandas as pd

from bt_risk.components.half_kelly import HalfKellySizer
from bt_risk.components.kelly_estimate import TIMELINE
from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.errors import DataError, ParameterError
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.journal import FIELDS
from bt_risk.monitors.drawdown import DrawdownMonitor
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.report.calendar import remaining_times, timestamps
from bt_risk.rules.return_model import ReturnModel
from bt_risk.tolerances import SIZE_EPS

__all__ = ["RunRecord", "ReportData", "record_of", "unique_names"]

BARS = ["time", "equity", "unit_value", "breaker_drawdown", "risk_scale"]
EXPOSURE = ["long_risk", "short_risk", "long_notional", "short_notional"]
HELD = ["bar", "name", "size", "value", "stop"]
FILLS = ["time", "name", "size", "price", "multiplier", "commission", "stop"]
CLOSED = ["name", "side", "opened", "closed", "size", "pnl", "r_multiple"]
BREAKER = ["drawdown_limit", "lifetime_limit", "taper_from", "action"]


@dataclass(frozen=True)
class RunRecord:
    """One run as its report sees it; times are naive UTC, ratios fractions, sizes units.

    Attributes
    ----------
    strategy : str
        Name of the strategy's class.
    mode : {"bare", "enforce", "observe"}
        Bare is a run without a gate.
    names : tuple of str
        The data feeds, in Cerebro's order, each name once.
    roots : tuple of int
        For each feed the place of the one it is a resampled copy of, or its own.
    start : tuple of float
        Equity and unit value before the first bar.
    bars : DataFrame
        One row for each bar of the strategy: `BARS`, and `EXPOSURE` as fractions of equity.
    rest : DatetimeIndex
        Times of the bars that a halted run did not come to.
    closes : dict of Series
        Close by time for each feed.
    held : DataFrame
        One row for each bar and feed with a position: `HELD`; value is notional in currency,
        signed; stop is where ours rests, NaN without one.
    fills : DataFrame
        Every execution of the account: `FILLS`; size is signed, stop says if it was a stop of ours.
    decisions : DataFrame
        The journal (`bt_risk.gate.journal.FIELDS`).
    trades : DataFrame
        Closed trades, flat to flat: `CLOSED`.
    kelly : DataFrame
        What `HalfKellySizer` knew: see its ``timeline``.
    breakers : list of dict
        Limits of the drawdown breakers: `BREAKER`.
    limits : dict
        Ceiling of each limit of the gate, by its name.
    units : dict
        Unit of each limit that has two (``"risk"`` or ``"notional"``), by its name.
    model : bt_risk.rules.return_model.ReturnModel
        How the gate reads correlations.
    policy : bt_risk.Policy or None
        What `protect` was given.
    """

    strategy: str
    mode: str
    names: tuple
    roots: tuple
    start: tuple
    bars: pd.DataFrame
    rest: pd.DatetimeIndex
    closes: dict
    held: pd.DataFrame
    fills: pd.DataFrame
    decisions: pd.DataFrame
    trades: pd.DataFrame
    kelly: pd.DataFrame
    breakers: list
    limits: dict
    units: dict
    model: ReturnModel
    policy: object

    @property
    def halted(self):
        """Whether the run ended before its data."""
        return len(self.rest) > 0

    @property
    def times(self):
        """Times of the bars, as a DatetimeIndex."""
        return pd.DatetimeIndex(self.bars["time"])


class ReportData(QuietAnalyzer):
    """Write down what `bt_risk.report` needs: ``cerebro.addanalyzer(bt_risk.ReportData)``.

    It changes nothing of the run, needs no other component, and installs no gate. Positions and
    executions are those of the account: with several strategies each of them reports all.

    get_analysis: a dict of lists of equal length, one entry for each bar

      - ``time``: naive UTC datetimes
      - ``equity``, ``unit_value``: currency, and value of one share of the account
      - ``long_risk``, ``short_risk``, ``long_notional``, ``short_notional``: fractions of equity;
        risk is NaN without a gate
    """

    def __init__(self):
        self.record = None
        self._bars, self._held, self._fills = [], [], []
        self._seen = {}

    def start(self):
        """Note what the account begins with."""
        strategy = self.strategy
        self._feeds = [(i, feed, [], []) for i, feed in enumerate(strategy.datas)]
        self._roots = [feed for feed in strategy.datas if not feed._clone]
        self._begin = float(strategy.broker.getvalue()), _unit_value(strategy.broker)
        self._breaker = self._keeper = None

    def notify_order(self, order):
        """Keep each execution once: clones of an order share their list of them."""
        if order.status not in (order.Partial, order.Completed):
            return
        bits = order.executed.exbits
        seen = self._seen.get(order.ref, 0)
        self._seen[order.ref] = len(bits)
        reason = str(order.info.get("bt_risk", ""))
        ours = reason.startswith("ATRTrailingStop")
        feed = order.data
        info = self.strategy.broker.getcommissioninfo(feed)
        multiplier = float(getattr(info.p, "mult", 1.0))
        for bit in list(bits)[seen:]:
            size = math.copysign(abs(float(bit.size)), 1 if order.isbuy() else -1)
            commission = float(bit.openedcomm + bit.closedcomm)
            row = (float(bit.dt), feed, size, float(bit.price), multiplier, commission, ours)
            self._fills.append(row)

    def next(self):
        """Write down the account, the positions and the closes of this bar."""
        gate = self.strategy.broker
        gated = isinstance(gate, RiskBroker)
        if gated and self._keeper is None:
            self._keeper = gate.registry.monitor(TrailingStopMonitor)
            self._breaker = gate.registry.monitor(DrawdownMonitor)
        equity = float(gate.getvalue())
        time = max([feed.datetime[0] for feed in self._roots if len(feed)], default=math.nan)
        sums = self._positions(gate, gated, equity)
        fallen = self._breaker.drawdown if self._breaker is not None else math.nan
        scale = gate.book.risk_scale if gated else 1.0
        self._bars.append((time, equity, _unit_value(gate), fallen, scale, *sums))
        for _, feed, times, closes in self._feeds:
            if len(feed) > len(times):
                times.append(feed.datetime[0])
                closes.append(float(feed.close[0]))
            elif times and feed.replaying:
                times[-1], closes[-1] = feed.datetime[0], float(feed.close[0])

    def _positions(self, gate, gated, equity):
        """Write down what is held; return `EXPOSURE`."""
        bar, sums = len(self._bars), [0.0, 0.0, 0.0, 0.0]
        for i, feed, _, _ in self._feeds:
            size = _size(gate, feed)
            if abs(size) <= SIZE_EPS or not len(feed):
                continue
            short = size < 0
            risk = stop = math.nan
            if gated:
                instrument = gate.find(feed)
                risk = gate.book.exposure.position_risk(instrument) / equity
                stop = self._resting(instrument)
            info = gate.getcommissioninfo(feed)
            value = size * float(feed.close[0]) * float(getattr(info.p, "mult", 1.0))
            self._held.append((bar, i, size, value, stop))
            sums[short] += risk
            sums[2 + short] += abs(value) / equity
        return sums

    def _resting(self, instrument):
        """Return the nearest stop of any owner; one line is all that a picture can show."""
        if self._keeper is None:
            return math.nan
        stops = [self._keeper.price(part.owner, instrument) for part in instrument.parts]
        known = [stop for stop in stops if stop == stop]
        nearest = max if instrument.size > 0 else min
        return nearest(known, default=math.nan)

    def stop(self):
        """Keep plain values only, so that optimisations can send them between processes."""
        self.record = self._freeze()
        self._feeds = self._roots = self._breaker = self._keeper = None

    def get_analysis(self):
        """Return equity and exposure by bar."""
        bars = self.record.bars if self.record else self._bar_frame()
        columns = ["time", "equity", "unit_value", *EXPOSURE]
        analysis = {name: bars[name].tolist() for name in columns}
        return analysis | {"time": [time.to_pydatetime() for time in bars["time"]]}

    def _bar_frame(self):
        frame = pd.DataFrame(self._bars, columns=[*BARS, *EXPOSURE])
        frame["time"] = timestamps(frame["time"])
        return frame

    def _freeze(self):
        strategy, gate = self.strategy, self.strategy.broker
        gated = isinstance(gate, RiskBroker)
        names = unique_names(strategy.datas)
        feeds = list(strategy.datas)
        bars = self._bar_frame()
        closes = {
            names[i]: pd.Series(values, timestamps(times)) for i, _, times, values in self._feeds
        }
        breakers = (
            [m for m in gate.registry.monitors if isinstance(m, DrawdownMonitor)] if gated else []
        )
        limits = gate.registry.limits if gated else []
        return RunRecord(
            strategy=type(strategy).__name__,
            mode=("observe" if gate.observe else "enforce") if gated else "bare",
            names=names,
            roots=tuple(_place(feeds, feed.data if feed._clone else feed) for feed in feeds),
            start=self._begin,
            bars=bars,
            rest=remaining_times(strategy.cerebro, self._roots),
            closes=closes,
            held=_named(pd.DataFrame(self._held, columns=HELD), names),
            fills=_fill_frame(_all_fills(strategy), feeds, names),
            decisions=_decisions(gate.journal if gated else None),
            trades=_trades(gate.book.trades if gated else []),
            kelly=_kelly(strategy, bars),
            breakers=[_breaker_facts(breaker) for breaker in breakers],
            limits={limit.name: limit.limit for limit in limits if hasattr(limit, "limit")},
            units={limit.name: limit.unit for limit in limits if hasattr(limit, "unit")},
            model=next((limit.model for limit in limits if hasattr(limit, "model")), ReturnModel()),
            policy=_policy(strategy),
        )


def record_of(strategy, component="report"):
    """Return the `RunRecord` of a strategy as ``cerebro.run()`` returns it, optimised or not.

    Raises
    ------
    ParameterError
        If it ran without `ReportData`.
    DataError
        If it saw no bar.
    """
    if isinstance(strategy, RunRecord):
        return strategy
    found = [a for a in getattr(strategy, "analyzers", ()) if isinstance(a, ReportData)]
    if not found or found[0].record is None:
        remedy = "Call cerebro.addanalyzer(bt_risk.ReportData) before cerebro.run()."
        constraint = "a strategy that has run with bt_risk.ReportData"
        raise ParameterError(component, "strategy", constraint, type(strategy).__name__, remedy)
    record = found[0].record
    if not len(record.bars):
        raise DataError(f"{component}: the run of {record.strategy} had no bar to report on.")
    return record


def _unit_value(broker):
    """Return the value of one share of the account, which deposits do not move."""
    return float(getattr(broker, "fundvalue", math.nan) or broker.getvalue())


def _size(broker, feed):
    """Return the position's size; asking BackBroker by ``getposition`` would make an entry."""
    if isinstance(broker, RiskBroker):
        position = broker.venue.position(feed)
    elif isinstance(broker, bt.brokers.BackBroker):
        position = broker.positions.get(feed)
    else:
        position = broker.getposition(feed)
    return float(position.size) if position is not None else 0.0


def unique_names(feeds):
    """Return a name for each feed: its own, else its place; one that came before gets it too."""
    names = []
    for i, feed in enumerate(feeds):
        name = getattr(feed, "_name", "") or f"data{i}"
        names.append(f"{name} (data{i})" if name in (*names, "cash") else name)
    return tuple(names)


def _place(feeds, feed):
    return next(i for i, one in enumerate(feeds) if one is feed)


def _named(frame, names):
    return frame.assign(name=[names[i] for i in frame["name"]])


def _all_fills(strategy):
    """Return the executions of every strategy of the account, oldest first."""
    rows = [
        row
        for running in strategy.cerebro.runningstrats
        for analyzer in running.analyzers
        if isinstance(analyzer, ReportData)
        for row in analyzer._fills
    ]
    return sorted(rows, key=lambda row: row[0])


def _fill_frame(rows, feeds, names):
    named = [(time, names[_place(feeds, feed)], *rest) for time, feed, *rest in rows]
    frame = pd.DataFrame(named, columns=FILLS)
    frame["time"] = timestamps(frame["time"])
    return frame


def _decisions(journal):
    frame = pd.DataFrame(journal.lines if journal else [], columns=list(FIELDS))
    frame["time"] = timestamps(frame["time"])
    return frame


def _trades(trades):
    rows = [(t.instrument, t.side, t.opened, t.closed, t.size, t.pnl, t.r_multiple) for t in trades]
    frame = pd.DataFrame(rows, columns=CLOSED)
    return frame.assign(opened=timestamps(frame.opened), closed=timestamps(frame.closed))


def _kelly(strategy, bars):
    sizer = strategy.getsizer()
    if not isinstance(sizer, HalfKellySizer):
        return pd.DataFrame(columns=TIMELINE)
    frame = sizer.timeline([bt.date2num(time) for time in bars["time"].dropna()])
    return frame.assign(time=timestamps(frame["time"]))


def _breaker_facts(breaker):
    rule = breaker.rule
    facts = rule.drawdown_limit, rule.lifetime_limit, breaker.taper_from, breaker.action
    return dict(zip(BREAKER, facts, strict=True))


def _policy(strategy):
    """Return the policy that `protect` keeps with its journal, None without it."""
    policies = [getattr(analyzer.p, "policy", None) for analyzer in strategy.analyzers]
    return next((policy for policy in policies if policy is not None), None)
