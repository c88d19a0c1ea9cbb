"""Rule 5: stop at a drawdown. Block, cancel, close, wait until flat, and only then stop."""

import math
from dataclasses import asdict, replace

import backtrader as bt

from bt_risk.broker import ACTIVE, HALTED, REDUCING, RiskBroker
from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_flag,
    check_fraction,
    check_limit,
    check_whole,
)
from bt_risk.journal import QuietAnalyzer
from bt_risk.rules.drawdown import (
    ARMED,
    TRIPPED,
    BreakerRule,
    BreakerState,
    fall,
    rearm,
    step,
    taper,
)
from bt_risk.rules.limits import Decision

__all__ = ["DrawdownBreaker"]

LIVE_CONFIRMATIONS = 2


# What a breaker keeps across a restart, beside its state.
_KEPT = ("trips", "drawdown", "max_drawdown", "reason")


class Taper:
    """Scale orders that no risk budget governs by what a tapering breaker leaves."""

    active = True

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        if request.budgeted or book.risk_scale >= 1.0:
            return Decision(request.size)
        reason = f"DrawdownBreaker: tapered to {book.risk_scale:.4f} of the size"
        size = request.size * book.risk_scale
        return Decision(size, reason, "DrawdownBreaker", book.risk_scale, 1.0)


class Breaker:
    """One drawdown breaker of one gate; a hook that judges equity at every close."""

    def __init__(self, gate, rule, action, flatten, taper_from, equity):
        if not gate.simulated:  # one sample of a venue's is no reason to sell everything
            rule = replace(rule, confirmations=max(rule.confirmations, LIVE_CONFIRMATIONS))
        self.gate, self.rule = gate, rule
        self.action, self.flatten = action, flatten
        self.taper_from, self.equity = taper_from, equity
        self.state = BreakerState()
        self.trips = []
        self.drawdown = self.max_drawdown = 0.0
        self.finished = self.cleared = False
        self.reason = ""

    @property
    def settings(self):
        """What makes two breakers the same one."""
        return self.rule, self.action, self.flatten, self.taper_from, self.equity

    # -- across a restart ------------------------------------------------------------------------

    kept_as = "breaker"

    @property
    def unit(self):
        """What the marks are measured in."""
        return "unit value" if self.equity is None else "equity()"

    def persist(self):
        """Yield ``(key, plain values)`` of what is to survive."""
        record = {name: getattr(self, name) for name in _KEPT}
        also = {"unit": self.unit, "state": asdict(self.state), "gate": self._gate_state}
        yield "", record | also

    def restore(self, kept):
        """Be in the state that an earlier run has ended in: a halt is one until it is re-armed."""
        record = kept.get("")
        if record is None:
            return
        for name in _KEPT:
            setattr(self, name, record[name])
        self.state = BreakerState(**record["state"])
        if record["unit"] != self.unit:
            self._rebase(record["unit"])
        if self.state.status != ARMED:
            self.gate.states.ask(self, self._gate_state, self.reason)
        if self.state.status == TRIPPED and self.flatten and not self.gate.simulated:
            for part in self.gate.book.parts.values():
                self.gate.exits.closing[part] = part.number  # no stop again: it is on its way out

    def _rebase(self, unit):
        """Begin with new marks, and refuse entries until somebody says that this is right."""
        self.state = replace(self.state, high_water_mark=math.nan, lifetime_mark=math.nan)
        reason = f"state: the high-water mark was kept as {unit}, and is {self.unit} now"
        self.gate.states.set("state", REDUCING, reason)

    @property
    def _gate_state(self):
        return HALTED if self.action == "stop" else REDUCING

    # -- hooks of the gate -----------------------------------------------------------------------

    def on_fill(self, part):
        """Close what fills once all was flat; other fills are judged by what they do to equity."""
        if not (self.cleared and part.size and self.flatten) or self.state.status == ARMED:
            return
        self.cleared = self.finished = False
        self.state = replace(self.state, status=TRIPPED)
        held = f"{part.size:g} of {part.instrument.name}"
        self._journal("halt", f"{held} came after everything was closed, and is closed too")

    def on_end(self):
        """Nothing: the analyzer has kept what happened."""

    def on_missed(self, instruments):
        """Nothing: what is held now is not what was held then."""

    def on_bar(self, fresh):
        """Judge the account, act on a trip, and see a halt through."""
        if self.finished and not fresh:
            self.gate.stop_engine(between_bars=True)
            return
        before, value = self.state, self._value()
        data0 = self.gate.book.instruments[0]
        self.state = state = step(before, value, self.rule, new_bar=data0 in fresh)
        self._measure(value)
        if state.status == TRIPPED:
            self._halt(before, value)
        elif before.status != ARMED and state.status == ARMED:
            self._release("cool-down over")

    def _measure(self, value):
        """Keep the drawdown and taper the risk budgets; what is not a number says nothing."""
        if not math.isfinite(value):
            return
        self.drawdown = fallen = fall(value, self.state.high_water_mark)
        if fallen > self.max_drawdown:
            self.max_drawdown = fallen
        if self.taper_from is not None:
            left = taper(fallen, self.taper_from, self.rule.drawdown_limit)
            self.gate.book.risk_scales[self] = left

    def rearm(self):
        """Trade again: the high-water mark is rebased to the current value."""
        if self.state.final:
            raise ParameterError(
                "DrawdownBreaker",
                "rearm()",
                "called before the lifetime limit is hit",
                self.rule.lifetime_limit,
                "The lifetime limit cannot be re-armed.",
            )
        if self.state.status != ARMED:
            self.state = rearm(self.state, self._value())
            self._measure(self._value())
            self._release("re-armed by hand")

    def _value(self):
        if self.equity is not None:
            return float(self.equity())
        return self.gate.unit_value()

    # -- a halt ----------------------------------------------------------------------------------

    def _halt(self, before, value):
        if before.status != TRIPPED:
            self._trip(value)
        if self.gate.observe:  # what would be closed now is held on; the rest is the same
            self._after_flat()
            return
        if self.flatten:
            self.gate.exits.close_all(self.reason)
        if not self.flatten or self.gate.exits.all_flat():
            self._after_flat()

    def _trip(self, value):
        self.reason = reason = f"DrawdownBreaker: {self._measured(value)}"
        self.gate.states.ask(self, self._gate_state, reason)
        self.trips.append(
            {
                "tripped_at": self.gate.latest,
                "flat_at": math.nan,
                "drawdown_at_trip": self.drawdown,
                "drawdown_at_flat": math.nan,
                "flattened": False,
            }
        )
        self._journal("halt", reason)
        if not self.gate.observe:
            self.gate.exits.cancel_entries(reason)

    def _measured(self, value):
        rule = self.rule
        if self.state.final:
            fallen = fall(value, self.state.lifetime_mark)
            return f"drawdown {fallen:.4f} >= lifetime_limit {rule.lifetime_limit:.4f}"
        return f"drawdown {self.drawdown:.4f} >= drawdown_limit {rule.drawdown_limit:.4f}"

    def _after_flat(self):
        flat = self.gate.exits.all_flat()
        self.cleared = flat and not self.gate.observe
        self.trips[-1].update(
            flat_at=self.gate.latest if flat else math.nan,
            drawdown_at_flat=self.drawdown if flat else math.nan,
            flattened=flat,
        )
        self.state = step(self.state, math.nan, self.rule, flat=True, new_bar=False)
        if self.action == "stop" and not self.gate.observe:
            self.finished = True
        if flat:
            self._journal("flat", f"flat at a drawdown of {self.drawdown:.4f}")

    def _release(self, reason):
        self.gate.states.ask(self, ACTIVE)
        self._journal("rearm", reason)

    def _journal(self, action, reason):
        self.gate.journal.record(
            self.gate.latest,
            "",
            "DrawdownBreaker",
            action,
            measured=self.drawdown,
            limit=self.rule.drawdown_limit,
            reason=reason,
        )


class DrawdownBreaker(QuietAnalyzer):
    """Refuse entries, close everything and stop once the account has fallen too far.

    Params:

      - ``drawdown_limit`` (default: ``0.10``) fraction of the high-water mark; trips at the limit
        itself. None or infinity: never
      - ``action`` (default: ``"stop"``) ``"stop"`` ends the run once flat; ``"pause"`` goes on
        with entries refused, exits and stops at work
      - ``flatten`` (default: ``True``) close every position at the next open
      - ``cooldown_bars`` (default: ``None``) bars of data0 until a pause ends; None: locked until
        ``rearm()``
      - ``rearm_at`` (default: ``"rebase"``) after the cool-down trade again from the current equity
        as the new mark, or wait for ``"recovery"``: the old mark reached again (by positions that
        were kept: ``flatten=False``)
      - ``lifetime_limit`` (default: ``None``) fraction of the highest mark ever; no way back
      - ``taper_from`` (default: ``None``) drawdown from which risk is scaled down linearly, to
        nothing at the limit
      - ``confirmations`` (default: ``1``) consecutive values beyond the limit that it takes; at
        least 2 behind a live broker, where they may come between bars
      - ``equity`` (default: ``None``) a callable without arguments where the broker's value is not
        equity

    The drawdown is that of the unit value, which deposits and withdrawals do not move. It is
    judged at every close and acts at the next open: gaps overshoot, and the analysis says by how
    much.

    get_analysis:

      - ``state``: ARMED, TRIPPED, COOLING or LOCKED
      - ``tripped_at``, ``flat_at``: naive UTC datetimes of the last trip, or None
      - ``drawdown_at_trip``, ``drawdown_at_flat``, ``overshoot``: fractions, NaN without a trip
      - ``flattened``: whether the last trip ended flat; False when the data ended first
      - ``trips``: all of them, oldest first
      - ``drawdown``, ``max_drawdown``, ``high_water_mark`` (unit value)

    Rule: bt_risk.rules.drawdown      Acts: at the next bar's open      Persisted: yes
    """

    params = dict(
        drawdown_limit=0.10,
        action="stop",
        flatten=True,
        cooldown_bars=None,
        rearm_at="rebase",
        lifetime_limit=None,
        taper_from=None,
        confirmations=1,
        equity=None,
    )

    def __init__(self):
        settings = check_breaker("DrawdownBreaker", **self.p._getkwargs())
        self._gate = RiskBroker.of(self.strategy)
        breaker = Breaker(self._gate, *settings)
        same = [h for h in self._gate.hooks if getattr(h, "settings", None) == breaker.settings]
        if same:
            breaker = same[0]
        elif not math.isinf(min(breaker.rule.drawdown_limit, breaker.rule.lifetime_limit)):
            self._gate.add_hook(breaker)
            if breaker.taper_from is not None:
                self._gate.add_limit(Taper())
        self._breaker = breaker
        self._analysis = None

    def next(self):
        """End the run after the last strategy has seen this bar, once all is flat."""
        last = self.strategy is self.strategy.cerebro.runningstrats[-1]
        if self._breaker.finished and last:
            self._gate.stop_engine()

    def rearm(self):
        """Trade again after a trip, with the high-water mark rebased to the current value."""
        self._breaker.rearm()

    @property
    def state(self):
        """ARMED, TRIPPED, COOLING or LOCKED."""
        return self.get_analysis()["state"]

    def stop(self):
        """Keep plain values only, so that optimisations can send them between processes."""
        self._analysis = self._summary()
        self._breaker = self._gate = None

    def get_analysis(self):
        """Return what happened so far."""
        return self._analysis or self._summary()

    def _summary(self):
        breaker = self._breaker
        trips = [_dated(trip, breaker.rule.drawdown_limit) for trip in breaker.trips]
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


def _dated(trip, limit):
    dates = {key: _date(trip[key]) for key in ("tripped_at", "flat_at")}
    return trip | dates | {"overshoot": trip["drawdown_at_flat"] - limit}


def _date(number):
    return None if math.isnan(number) else bt.num2date(number)


def check_breaker(
    component,
    drawdown_limit=0.10,
    action="stop",
    flatten=True,
    cooldown_bars=None,
    rearm_at="rebase",
    lifetime_limit=None,
    taper_from=None,
    confirmations=1,
    equity=None,
):
    """Return ``(rule, action, flatten, taper_from, equity)``, every parameter checked."""
    limit = check_limit(component, "drawdown_limit", drawdown_limit, fraction=True)
    check_choice(component, "action", action, ("stop", "pause"))
    check_flag(component, "flatten", flatten)
    check_choice(component, "rearm_at", rearm_at, ("rebase", "recovery"))
    if rearm_at == "recovery" and flatten:
        remedy = "A flat account never recovers: use flatten=False, or rearm_at='rebase'."
        raise ParameterError(component, "rearm_at", "'rebase' with flatten=True", rearm_at, remedy)
    if cooldown_bars is not None:
        cooldown_bars = check_whole(component, "cooldown_bars", cooldown_bars)
        if action == "stop":
            remedy = "A run that has ended cannot cool down: use action='pause'."
            raise ParameterError(
                component, "cooldown_bars", "None with action='stop'", cooldown_bars, remedy
            )
    lifetime = check_limit(component, "lifetime_limit", lifetime_limit, fraction=True)
    if taper_from is not None:
        check_fraction(component, "taper_from", taper_from, zero=True)
        if taper_from >= limit or math.isinf(limit):
            raise ParameterError(component, "taper_from", "below drawdown_limit", taper_from)
    if equity is not None and not callable(equity):
        raise ParameterError(component, "equity", "a callable without arguments", equity)
    confirmations = check_whole(component, "confirmations", confirmations)
    rule = BreakerRule(limit, cooldown_bars, rearm_at, lifetime, confirmations)
    return rule, action, flatten, taper_from, equity
