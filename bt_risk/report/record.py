"""The record of a run for its reports: plain values, recorded bar by bar."""

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.components.half_kelly import HalfKellySizer
from bt_risk.components.kelly_estimate import TIMELINE, KellyEstimate
from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.components.screener import Screener
from bt_risk.errors import DataError, ParameterError
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.journal import FIELDS
from bt_risk.gate.registry import Registry
from bt_risk.monitors.drawdown import DrawdownMonitor
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.report.calendar import last_of_days, remaining_times, timestamps
from bt_risk.report.floors import floor_frames
from bt_risk.report.held_positions import EXPOSURE, HeldPositions, plain_point_value, unit_value
from bt_risk.report.margin_use import MarginUse, margin_use
from bt_risk.report.seen_bars import seen_bars
from bt_risk.rules.loss_distribution import LossDistribution, loss_distribution
from bt_risk.rules.return_model import ReturnModel

__all__ = [
    "ReportData",
    "RunRecord",
    "exchange_of",
    "is_trailing_stop",
    "record_of",
]

ACCOUNT = ["equity", "unit_value", "breaker_drawdown", "risk_scale"]
BARS = ["time", *ACCOUNT]
FILLS = ["time", "name", "size", "price", "multiplier", "commission", "stop"]
CLOSED = ["name", "side", "opened", "closed", "size", "pnl", "r_multiple", "cause"]
RANGE = ["open", "high", "low"]
BREAKER = ["drawdown_limit", "lifetime_limit", "taper_from", "action"]


@dataclass(frozen=True)
class RunRecord:
    """One run as its reports read it; times are naive UTC, ratios fractions, sizes units.

    Attributes
    ----------
    strategy : str
        Name of the strategy's class.
    mode : {"bare", "enforce", "observe"}
        Bare is a run without a gate.
    names : tuple of str
        The data feeds, in Cerebro's order, each name once.
    roots : tuple of int
        For each feed the place of the feed that it resamples, or its own place.
    start : tuple of float
        Equity and unit value before the first bar.
    bars : DataFrame
        One row for each bar of the strategy: `BARS`, and `EXPOSURE` as fractions of equity.
    rest : DatetimeIndex
        Times of the bars that a halted run did not reach.
    closes : dict of Series
        Close by time for each feed.
    ranges : dict of array of shape (3, n_bars)
        Open, high and low of the same bars, with the seven digits that a chart needs.
    held : DataFrame
        One row for each bar and feed with a position: `HELD`; value is notional in currency,
        signed; stop is the price of our stop, NaN without one.
    fills : DataFrame
        Every execution of the account: `FILLS`; size is signed, stop tells whether the order was a
        stop of `bt_risk.ATRTrailingStop`.
    decisions : DataFrame
        The journal (`bt_risk.gate.journal.FIELDS`).
    trades : DataFrame
        Closed trades, flat to flat: `CLOSED`; cause is why one lost more than 1 R, else empty.
    losses : LossDistribution
        How many of them lost more than they risked, and why.
    kelly_timeline : callable
        Returns `kelly`.
    breakers : list of dict
        Limits of the drawdown breakers: `BREAKER`.
    floors : list of DataFrame
        The levels of each `AccountFloor`, with the time of each change.
    margin : MarginUse or None
        What the `MarginAccount` did.
    limits : dict
        Value of each limit of the gate, by its name.
    units : dict
        Unit of each limit that has two (``"risk"`` or ``"notional"``), by its name.
    model : bt_risk.rules.return_model.ReturnModel
        How the gate computes correlations.
    policy : bt_risk.Policy or None
        The policy that `protect` applied.
    screened : dict of DataFrame
        The rows of each `Screener` of the strategy, by what it ranks by.
    """

    strategy: str
    mode: str
    names: tuple[str, ...]
    roots: tuple[int, ...]
    start: tuple[float, float]
    bars: pd.DataFrame
    rest: pd.DatetimeIndex
    closes: dict[str, pd.Series]
    ranges: dict[str, np.ndarray]
    held: pd.DataFrame
    fills: pd.DataFrame
    decisions: pd.DataFrame
    trades: pd.DataFrame
    losses: LossDistribution
    kelly_timeline: Callable[[], pd.DataFrame]
    breakers: list[dict[str, Any]]
    floors: list[pd.DataFrame]
    margin: MarginUse | None
    limits: dict[str, float]
    units: dict[str, str]
    model: ReturnModel
    policy: Any
    screened: dict[str, pd.DataFrame]

    @cached_property
    def kelly(self) -> pd.DataFrame:
        """The estimates of `HalfKellySizer` through time: see its ``timeline``."""
        return self.kelly_timeline()

    @property
    def halted(self) -> bool:
        """Return whether the run ended before its data."""
        return len(self.rest) > 0

    @cached_property
    def times(self) -> pd.DatetimeIndex:
        """Times of the bars, as a DatetimeIndex."""
        return pd.DatetimeIndex(self.bars["time"])

    @cached_property
    def days(self) -> pd.DatetimeIndex:
        """Return the days with a bar, to the end of the data."""
        times = pd.DatetimeIndex(self.bars["time"].dropna()).union(self.rest)
        return times.normalize().unique().sort_values().rename("date")

    @cached_property
    def day_ends(self) -> pd.Series:
        """Return the number of the last bar of each day whose equity is known, by day."""
        bars = self.bars[np.isfinite(self.bars["equity"]) & self.bars["time"].notna()]
        places = last_of_days(pd.DatetimeIndex(bars["time"]))
        return pd.Series(bars.index[places.to_numpy()], places.index)


class ReportData(QuietAnalyzer):
    """Record what `bt_risk.report` needs: ``cerebro.addanalyzer(bt_risk.ReportData)``.

    It does not change the run, needs no other component, and installs no gate. Positions and
    executions are those of the account: with several strategies each of them reports all.

    get_analysis: a dict of lists of equal length, one entry for each bar

      - ``time``: naive UTC datetimes
      - ``equity``, ``unit_value``: currency, and value of one share of the account
      - ``long_risk``, ``short_risk``, ``long_notional``, ``short_notional``: fractions of equity;
        risk is NaN without a gate
    """

    analysis_only_answers = True

    def __init__(self) -> None:
        self._record: RunRecord | None = None
        self._facts: dict[str, Any] | None = None
        self._account = array("d")  # `ACCOUNT` at each bar that has changed it, behind its number
        self._row: tuple[float, ...] = ()
        self._bars = 0
        self._fills: list[tuple[Any, ...]] = []
        self._executed: dict[int, int] = {}

    @property
    def record(self) -> RunRecord | None:
        """The record of the run, derived when it is first asked for; None before its end."""
        if self._record is None and self._facts is not None:
            self._record = self._derive(self._facts)
            del self._seen, self._held, self._account
        return self._record

    def start(self) -> None:
        """Record the account before the first bar."""
        strategy = self.strategy
        self._seen = seen_bars(strategy, ["close", *RANGE])
        feeds = self._seen.feeds
        self._names = dict(zip(map(id, feeds), self._seen.feed_names, strict=True))
        self._held = HeldPositions(feeds)
        self._held.ask(strategy.broker)
        self._begin = float(strategy.broker.getvalue()), float(unit_value(strategy.broker))
        self._breaker: DrawdownMonitor | None = None
        self._monitors = 0

    def notify_order(self, order: bt.Order) -> None:
        """Record each execution once: clones of an order share one list of executions."""
        if order.status not in (order.Partial, order.Completed):
            return
        bits = order.executed.exbits
        seen = self._executed.get(order.ref, 0)
        self._executed[order.ref] = len(bits)
        feed, stop = order.data, is_trailing_stop(order)
        name = self._names[id(feed)]
        info = self.strategy.broker.getcommissioninfo(feed)
        price = float(order.executed.price)
        multiplier = plain_point_value(info, price) * exchange_of(self.strategy.broker, feed)
        for bit in list(bits)[seen:]:
            size = math.copysign(abs(float(bit.size)), 1 if order.isbuy() else -1)
            commission = float(bit.openedcomm + bit.closedcomm)
            row = (float(bit.dt), name, size, float(bit.price), multiplier, commission, stop)
            self._fills.append(row)

    def next(self) -> None:
        """Record what is held, and the account where it has changed; the rest is derived later.

        Mostly nobody is called: with one data feed a call is a hundredth of a bar.
        """
        held, seen, bar = self._held, self._seen, self._bars
        gate = held.gate
        if self.strategy.broker is not held.broker or (
            gate is not None and gate.inner is not held.inner
        ):
            held.ask(self.strategy.broker)  # the gate may wrap another broker from now on
            gate = held.gate
        fall, scale = math.nan, 1.0
        if gate is not None:
            if held.stops is None and len(gate.registry.monitors) != self._monitors:
                self._find_monitors(gate.registry)
            scale = gate.book.risk_scale
            if self._breaker is not None:
                fall = self._breaker.drawdown
        if seen.only is None:
            seen.note()
        else:
            seen.counts.append(seen.only.lencount)
        if held.reads:
            inner = held.inner
            for feed, position in inner.positions.items():
                if position.size:
                    held.hold(bar, feed, position.size)
            row = inner._value, inner._fundval or inner._value, fall, scale
        else:
            row = *held.note(bar), fall, scale
        if row != self._row:
            self._row = row
            self._account.extend((bar, *row))
        self._bars = bar + 1

    def _find_monitors(self, registry: Registry) -> None:
        self._monitors = len(registry.monitors)
        self._held.stops = registry.monitor(TrailingStopMonitor)
        self._breaker = registry.monitor(DrawdownMonitor)

    def stop(self) -> None:
        """Keep plain values only, so that processes of an optimisation can send them."""
        self._facts = self._take()
        self._seen.keep()
        self._held.keep()
        self._breaker = None

    def get_analysis(self) -> dict[str, list[Any]]:
        """Return equity and exposure by bar. A run with a writer asks for it at its end."""
        names = ("equity", "unit_value", *EXPOSURE)
        if self._record is not None:
            bars = self._record.bars
            times, columns = pd.DatetimeIndex(bars["time"]), [bars[name] for name in names]
        else:
            account = self._accounts()
            times = self._times()
            columns = [*account.T[:2], *self._held.exposure(self._seen, account[:, 0])]
        lists = [column.tolist() for column in columns]
        return {"time": times.to_pydatetime().tolist(), **dict(zip(names, lists, strict=True))}

    def _accounts(self) -> np.ndarray:
        """Return the columns `ACCOUNT`, of shape (bars, columns)."""
        changes = np.array(self._account).reshape(-1, 1 + len(ACCOUNT))
        last = np.append(changes[1:, 0], self._bars)
        return np.repeat(changes[:, 1:], (last - changes[:, 0]).astype(np.intp), axis=0)

    def _times(self) -> pd.DatetimeIndex:
        return timestamps(self._seen.latest(self._seen.originals, before=math.nan))

    def _frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the bars, and what was held."""
        account = self._accounts()
        exposure = self._held.exposure(self._seen, account[:, 0])
        columns = dict(zip([*ACCOUNT, *EXPOSURE], [*account.T, *exposure], strict=True))
        held = self._held.frame(self._seen)
        return pd.DataFrame({"time": self._times(), **columns}), held

    def _take(self) -> dict[str, Any]:
        """Return the fields of the record as plain values; `_derive` makes tables of some."""
        strategy, gate = self.strategy, self.strategy.broker
        gated = isinstance(gate, RiskBroker)
        feeds, names = self._seen.feeds, self._seen.feed_names
        breakers = (
            [m for m in gate.registry.monitors if isinstance(m, DrawdownMonitor)] if gated else []
        )
        limits = gate.registry.limits if gated else []
        return dict(
            strategy=type(strategy).__name__,
            mode=("observe" if gate.observe else "enforce") if gated else "bare",
            names=names,
            roots=tuple(_place(feeds, feed.data if feed._clone else feed) for feed in feeds),
            start=self._begin,
            rest=remaining_times(strategy.cerebro, [feed for feed in feeds if not feed._clone]),
            fills=_all_fills(strategy),
            decisions=list(gate.journal.lines) if gated else [],
            trades=_trade_rows(gate.book.trades if gated else []),
            kelly_timeline=_estimate(strategy),
            breakers=[_breaker_facts(breaker) for breaker in breakers],
            floors=floor_frames(gate.registry.monitors if gated else []),
            margin=margin_use(gate) if gated else None,
            limits={limit.name: limit.limit for limit in limits if hasattr(limit, "limit")},
            units={limit.name: limit.unit for limit in limits if hasattr(limit, "unit")},
            model=next((limit.model for limit in limits if hasattr(limit, "model")), ReturnModel()),
            policy=_policy(strategy),
            screened={
                one.title: one.frame() for one in strategy.analyzers if isinstance(one, Screener)
            },
        )

    def _derive(self, facts: dict[str, Any]) -> RunRecord:
        """Return the record: a run whose report nobody reads does not pay for its tables."""
        bars, held = self._frames()
        names, trades = facts["names"], facts["trades"]
        tables = dict(
            bars=bars,
            held=held,
            closes={name: self._closes(place) for place, name in enumerate(names)},
            ranges={name: self._range(place) for place, name in enumerate(names)},
            fills=_fill_frame(facts["fills"]),
            decisions=_decisions(facts["decisions"]),
            trades=_trades(trades),
            losses=loss_distribution(loss for *_, loss in trades),
            kelly_timeline=_kelly(facts["kelly_timeline"], bars),
        )
        return RunRecord(**{**facts, **tables})

    def _closes(self, place: int) -> pd.Series:
        closes, times = (self._seen.bars(place, name) for name in ("close", "datetime"))
        return pd.Series(closes, timestamps(times))

    def _range(self, place: int) -> np.ndarray:
        return np.array([self._seen.bars(place, name) for name in RANGE], dtype=np.float32)


def record_of(strategy: bt.Strategy | RunRecord, component: str = "report") -> RunRecord:
    """Return the `RunRecord` of a strategy as ``cerebro.run()`` returns it, optimised or not.

    Raises
    ------
    ParameterError
        If it ran without `ReportData`.
    DataError
        If it had no bar.
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


def is_trailing_stop(order: bt.Order) -> bool:
    """Return whether `bt_risk.ATRTrailingStop` sent this order."""
    return str(order.info.get("bt_risk", "")).startswith("ATRTrailingStop")


def exchange_of(broker: bt.BrokerBase, feed: bt.AbstractDataBase) -> float:
    """Return what the currency of a data feed is worth in that of the account, 1.0 without a gate.

    It is the rate that the gate has measured the instrument with.
    """
    instrument = broker.find(feed) if isinstance(broker, RiskBroker) else None
    return 1.0 if instrument is None else float(instrument.exchange)


def _place(feeds: Sequence[bt.AbstractDataBase], feed: bt.AbstractDataBase) -> int:
    return next(i for i, one in enumerate(feeds) if one is feed)


def _all_fills(strategy: bt.Strategy) -> list[tuple[Any, ...]]:
    """Return the executions of every strategy of the account, oldest first."""
    rows = [
        row
        for running in strategy.cerebro.runningstrats
        for analyzer in [one for one in running.analyzers if isinstance(one, ReportData)][:1]
        for row in analyzer._fills
    ]
    return sorted(rows, key=lambda row: row[0])


def _fill_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=FILLS)
    frame["time"] = timestamps(frame["time"])
    return frame


def _decisions(lines: list[Any]) -> pd.DataFrame:
    frame = pd.DataFrame(lines, columns=list(FIELDS))
    frame["time"] = timestamps(frame["time"])
    return frame


def _trade_rows(trades: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return the columns `CLOSED` of each trade, with its whole loss in the place of the cause."""
    return [
        (t.instrument, t.side, t.opened, t.closed, t.size, t.pnl, t.r_multiple, t.loss)
        for t in trades
    ]


def _trades(rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame([(*row, loss.cause) for *row, loss in rows], columns=CLOSED)
    return frame.assign(opened=timestamps(frame.opened), closed=timestamps(frame.closed))


def _estimate(strategy: bt.Strategy) -> KellyEstimate | None:
    sizer = strategy.getsizer()
    return sizer.estimate() if isinstance(sizer, HalfKellySizer) else None


def _kelly(estimate: KellyEstimate | None, bars: pd.DataFrame) -> Callable[[], pd.DataFrame]:
    """Return what computes Kelly through time: only a page needs it, and it takes a bootstrap."""
    if estimate is None:
        return partial(pd.DataFrame, columns=TIMELINE)
    times = bars["time"].dropna()
    # A period begins with a day, so the first bar of each is enough.
    firsts = times[~times.dt.normalize().duplicated()]
    return partial(_timeline, estimate, firsts)


def _timeline(estimate: KellyEstimate, times: pd.Series) -> pd.DataFrame:
    frame = estimate.timeline([bt.date2num(time) for time in times])
    return frame.assign(time=timestamps(frame["time"]))


def _breaker_facts(breaker: DrawdownMonitor) -> dict[str, Any]:
    rule = breaker.rule
    facts = rule.drawdown_limit, rule.lifetime_limit, breaker.taper_from, breaker.action
    return dict(zip(BREAKER, facts, strict=True))


def _policy(strategy: bt.Strategy) -> Any:
    """Return the policy that `protect` stores in its analyzers, None without it."""
    policies = [getattr(analyzer.p, "policy", None) for analyzer in strategy.analyzers]
    return next((policy for policy in policies if policy is not None), None)
