"""Rule 2: size a new position by half Kelly and volatility."""

import datetime
import math
from collections.abc import Iterable

import backtrader as bt
import pandas as pd

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_fraction,
    check_limit,
    check_positive,
    check_whole,
    is_number,
)
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.buying_power import affordable
from bt_risk.orders import SizeProposal
from bt_risk.rules.kelly import (
    empirical_kelly,
    kelly_lower_bound,
    kelly_risk,
    two_point_kelly,
)
from bt_risk.rules.sizing import position_size, round_down
from bt_risk.tolerances import SIZE_EPS

__all__ = ["HalfKellySizer"]

ESTIMATORS = {"two-point": two_point_kelly, "empirical": empirical_kelly}
PERIODS = ("weekly", "daily", "monthly", "trade")
TIMELINE = ["time", "pool", "trades", "full", "half", "lower", "used", "state"]
SMALLEST_SAMPLE = 10  # below it an estimate is not worth a picture


class HalfKellySizer(bt.Sizer):
    """Propose a size that risks half the Kelly bet, capped, at a stop of 2 x ATR.

    ``size = min(risk x equity / (stop_distance x multiplier), notional_limit x equity / (price x
    multiplier), what cash net of working orders affords)``, rounded down to the step, with
    ``risk = clip(kelly_scale x f*, 0, kelly_limit)`` and ``stop_distance = atr_multiple x max(ATR,
    atr_floor x its 100-bar median)``. f* comes from the last `lookback` closed trades in multiples
    of what they risked, net of commission. A sell that closes a long returns the position. A zero
    reaches the strategy as a Rejected order with the reason, so brackets survive.

    A sizer is not asked when a strategy names a size or a target: `protect` and `CorrelationCap`
    bound those.

    Params:

      - ``kelly_scale`` (default: ``0.5``) half Kelly, in (0, 1]
      - ``kelly_limit`` (default: ``0.02``) most that one trade may risk, fraction of equity
      - ``lookback`` (default: ``100``) closed trades in the sample
      - ``min_trades`` (default: ``100``) closed trades before Kelly speaks
      - ``warmup_risk`` (default: ``0.01``) fraction of equity at risk until then
      - ``probe_risk`` (default: ``0.001``) the same when Kelly is zero or less, so that the sample
        stays alive; 0 refuses instead
      - ``recalculate`` (default: ``"weekly"``) ISO weeks of the data's own time (or ``"daily"``,
        ``"monthly"``): trades closed before the period began count, and the result is frozen in
        it; ``"trade"`` counts every trade at once
      - ``estimator`` (default: ``"two-point"``) or ``"empirical"``
      - ``confidence`` (default: ``None``) size on the lower bound of Kelly at this confidence
      - ``history`` (default: ``None``) R-multiples that count as the first trades of the window
      - ``win_rate``, ``payoff_ratio`` (default: ``None``) the same, as `min_trades` trades
      - ``pool`` (default: ``"strategy"``) all its trades, or ``"data"``: those of the same data
      - ``atr_period``, ``atr_multiple`` (default: ``14``, ``2.0``) the stop that it sizes for
      - ``atr_floor`` (default: ``0.5``) calm markets do not grow sizes below this many medians
      - ``notional_limit`` (default: ``1.0``) of one position, fraction of equity; None: no limit
      - ``step`` (default: ``None``) size step; None: that of the broker's `instruments`, or 1

    ``state`` is WARMUP, KELLY, PROBE or STARVED (a probe below the step or the minimum notional:
    journalled, and warned of once).

    Rule: bt_risk.rules.kelly, bt_risk.rules.sizing      Acts: when asked      Persisted: yes
    """

    params = dict(
        kelly_scale=0.5,
        kelly_limit=0.02,
        lookback=100,
        min_trades=100,
        warmup_risk=0.01,
        probe_risk=0.001,
        recalculate="weekly",
        estimator="two-point",
        confidence=None,
        history=None,
        win_rate=None,
        payoff_ratio=None,
        pool="strategy",
        atr_period=14,
        atr_multiple=2.0,
        atr_floor=0.5,
        notional_limit=1.0,
        step=None,
    )

    def __init__(self):
        check_sizer("HalfKellySizer", **self.p._getkwargs())
        self._history = _history(self.p)
        self._kelly = {}
        self._starved = set()
        self.state = "WARMUP"

    def set(self, strategy, broker):
        """Find the gate, which keeps the trade log and the ATR that sizes come from."""
        self.strategy = strategy
        self.broker = RiskBroker.of(strategy)
        self.broker.venue.clamp_fills()  # to cut an order to what cash affords when it fills
        for instrument in self.broker.book.instruments:
            instrument.track_atr(self.p.atr_period)

    def _getsizing(self, comminfo, cash, data, isbuy):
        position = self.broker.venue.position(data)
        held = position.size if position else 0.0
        if abs(held) > SIZE_EPS and (held > 0) != isbuy:
            return abs(held)
        return self._propose(self.broker.find(data), 1 if isbuy else -1, comminfo)

    def _propose(self, instrument, side, comminfo):
        if not instrument.closed > 0:
            return _refusal(f"unknown: {instrument.why_unknown()}")
        risk, reason = self._risk(instrument)
        distance = instrument.facts.get("atr_multiple", self.p.atr_multiple)
        floored = distance * instrument.floored_atr(self.p.atr_period, self.p.atr_floor)
        distance *= instrument.atr(self.p.atr_period)
        if math.isnan(distance):
            reason = reason or self._too_short(instrument)
        if reason:
            return _refusal(reason)
        gate, step = self.broker, self._step(instrument)
        multiplier = getattr(comminfo.p, "mult", 1.0)
        equity = gate.equity()
        if math.isnan(equity):
            return _refusal("unknown: what the account is worth")
        risk *= gate.book.risk_scale
        size = position_size(equity, risk, floored, multiplier, step)
        if size <= 0:
            return self._too_small(instrument, risk, step)
        size = min(size, self._notional_room(instrument, side, equity, multiplier))
        size = round_down(size, step)
        size = affordable(gate, instrument, side, size, step)
        if size <= 0 or self._below_minimum(instrument, size, multiplier):
            return self._too_small(instrument, risk, step)
        return SizeProposal(size, distance, step)

    def _too_short(self, instrument):
        return (
            f"ATR({self.p.atr_period}) needs {self.p.atr_period + 1} bars, "
            f"{instrument.name} has {instrument.length}"
        )

    def _step(self, instrument):
        return self.p.step or instrument.facts.get("step", 1.0)

    def _notional_room(self, instrument, side, equity, multiplier):
        if self.p.notional_limit is None or math.isinf(self.p.notional_limit):
            return math.inf
        used = self.broker.book.exposure.of(instrument, side, "notional")
        room = self.p.notional_limit * equity - used
        return max(0.0, room / (instrument.price * multiplier))

    def _below_minimum(self, instrument, size, multiplier):
        floor = instrument.facts.get("min_notional", 0.0)
        return size * instrument.price * multiplier < floor

    def _too_small(self, instrument, risk, step):
        reason = (
            f"{risk:.4f} of equity buys less than one step of {step:g} {instrument.name} "
            "(or its minimum notional, or cash is used up)"
        )
        if self.state == "PROBE" or instrument.name in self._starved:
            self.state = "STARVED"
            self._say_starved(instrument, reason)
        return _refusal(reason)

    def _say_starved(self, instrument, reason):
        if instrument.name not in self._starved:
            self._starved.add(instrument.name)
            self.broker.journal.record(
                instrument.time, instrument.name, "HalfKellySizer", "starved", reason=reason
            )

    # -- across a restart ------------------------------------------------------------------------

    def persist(self):
        """Return the estimates that are frozen, each with the period that it is of."""
        return {"state": self.state, "kelly": {k or "": v for k, v in self._kelly.items()}}

    def restore(self, kept):
        """Go on with the estimates of an earlier run; the trades are in the book."""
        self.state = kept["state"]
        self._kelly = {k or None: tuple(v) for k, v in kept["kelly"].items()}

    # -- Kelly -----------------------------------------------------------------------------------

    def _risk(self, instrument):
        """Return the fraction of equity to risk, and the reason if it is none."""
        kelly = self._current_kelly(instrument)
        risk, self.state = self._risk_at(kelly)
        if risk > 0:
            return risk, ""
        return 0.0, f"Kelly {kelly:.4f} <= 0 over the last {self.p.lookback} trades"

    def _risk_at(self, kelly):
        """Return the fraction of equity to risk at an estimate of Kelly, and the state that is."""
        if kelly is None:
            return self.p.warmup_risk, "WARMUP"
        risk = kelly_risk(kelly, self.p.kelly_scale, self.p.kelly_limit)
        return (risk, "KELLY") if risk > 0 else (self.p.probe_risk, "PROBE")

    def _current_kelly(self, instrument):
        """Return Kelly as of the beginning of the period that this bar lies in."""
        pool = instrument.name if self.p.pool == "data" else None
        begin = self._period_begin(instrument.time)
        trades = len(self.broker.book.trades) if begin == math.inf else begin
        known, value = self._kelly.get(pool, (None, None))
        if known != trades:
            value = self._estimate(self._sample(pool, begin))
            self._kelly[pool] = trades, value
        return value

    def _period_begin(self, time):
        if self.p.recalculate == "trade":
            return math.inf
        day = bt.num2date(time).date()
        if self.p.recalculate == "weekly":
            day -= datetime.timedelta(days=day.weekday())
        elif self.p.recalculate == "monthly":
            day = day.replace(day=1)
        return bt.date2num(day)

    def timeline(self, times):
        """Return what Kelly was at the beginning of every period of a run, and its sample.

        Parameters
        ----------
        times : sequence of float
            Backtrader date numbers of the bars, not decreasing.

        Returns
        -------
        DataFrame
            A row whenever another sample counts: ``time``, ``pool`` (the data's name with
            ``pool="data"``, else empty), ``trades`` (in the sample), ``full``, ``half`` (scaled by
            `kelly_scale`) and ``lower`` (the bound at `confidence`, 0.95 if that is None), NaN
            below `SMALLEST_SAMPLE` trades; ``used``, the fraction of equity at risk; ``state``.
        """
        names = [i.name for i in self.broker.book.instruments]
        pools = names if self.p.pool == "data" else [None]
        rows = [row for pool in pools for row in self._pool_timeline(pool, times)]
        return pd.DataFrame(rows, columns=TIMELINE).sort_values("time", kind="stable")

    def _pool_timeline(self, pool, times):
        counted = None
        for time, begin in self._periods(times):
            known = sum(trade.closed < begin for trade in self.broker.book.trades)
            if known == counted:
                continue
            counted, sample = known, self._sample(pool, begin)
            risk, state = self._risk_at(self._estimate(sample))
            estimates = self._estimates(sample)
            yield (time, pool or "", len(sample), *estimates, risk, state)

    def _periods(self, times):
        """Yield the time from which each period counts, and the close that trades are before."""
        if self.p.recalculate == "trade":
            closes = {trade.closed for trade in self.broker.book.trades}
            yield from ((time, math.nextafter(time, math.inf)) for time in sorted(closes))
            return
        begins = {}
        for time in times:
            begins.setdefault(self._period_begin(time), time)
        yield from ((time, begin) for begin, time in begins.items())

    def _estimates(self, sample):
        if len(sample) < SMALLEST_SAMPLE:
            return math.nan, math.nan, math.nan
        full = float(ESTIMATORS[self.p.estimator](sample))
        lower = kelly_lower_bound(sample, self.p.confidence or 0.95, estimator=self.p.estimator)
        return full, self.p.kelly_scale * full, lower

    def _sample(self, pool, begin):
        own = [
            trade.r_multiple
            for trade in self.broker.book.trades
            if trade.owner is self.strategy
            and pool in (None, trade.instrument)
            and trade.closed < begin
            and not math.isnan(trade.r_multiple)
        ]
        return (self._history + own)[-self.p.lookback :]

    def _estimate(self, sample):
        if len(sample) < self.p.min_trades:
            return None
        if self.p.confidence is not None:
            return kelly_lower_bound(sample, self.p.confidence, estimator=self.p.estimator)
        return float(ESTIMATORS[self.p.estimator](sample))


def _refusal(reason):
    return SizeProposal(0.0, reason=f"HalfKellySizer: {reason}", rule="HalfKellySizer")


def _history(p):
    """Return the R-multiples that count as the first trades of the window."""
    if p.win_rate is not None:
        wins = round(p.win_rate * p.min_trades)
        return [float(p.payoff_ratio)] * wins + [-1.0] * (p.min_trades - wins)
    return [float(r) for r in p.history] if p.history is not None else []


def check_sizer(component, **p):
    """Raise ParameterError for the first parameter that is outside its range."""
    check_fraction(component, "kelly_scale", p["kelly_scale"])
    check_fraction(component, "kelly_limit", p["kelly_limit"])
    check_fraction(component, "warmup_risk", p["warmup_risk"])
    check_fraction(component, "probe_risk", p["probe_risk"], zero=True)
    check_whole(component, "min_trades", p["min_trades"], remedy="It counts closed trades.")
    low = p["min_trades"]
    check_whole(component, "lookback", p["lookback"], low=low, remedy="min_trades must fit in it.")
    check_choice(component, "recalculate", p["recalculate"], PERIODS)
    check_choice(component, "estimator", p["estimator"], tuple(ESTIMATORS))
    check_choice(component, "pool", p["pool"], ("strategy", "data"))
    check_whole(component, "atr_period", p["atr_period"])
    check_positive(component, "atr_multiple", p["atr_multiple"])
    check_positive(component, "atr_floor", p["atr_floor"], zero=True)
    check_limit(component, "notional_limit", p["notional_limit"])
    if p["confidence"] is not None:
        check_fraction(component, "confidence", p["confidence"], one=False)
    if p["step"] is not None:
        check_positive(component, "step", p["step"])
    _check_history(component, p["history"], p["win_rate"], p["payoff_ratio"])


def _check_history(component, history, win_rate, payoff_ratio):
    if (win_rate is None) != (payoff_ratio is None):
        raise ParameterError(
            component, "win_rate and payoff_ratio", "given together", (win_rate, payoff_ratio)
        )
    if win_rate is not None:
        check_fraction(component, "win_rate", win_rate, zero=True)
        check_positive(component, "payoff_ratio", payoff_ratio)
    if history is None:
        return
    if win_rate is not None:
        raise ParameterError(component, "history", "None when win_rate is given", "both")
    numbers = isinstance(history, Iterable) and all(map(is_number, history))
    if not (numbers and all(map(math.isfinite, history))):
        raise ParameterError(
            component, "history", "finite multiples of the risk taken (R)", history
        )
