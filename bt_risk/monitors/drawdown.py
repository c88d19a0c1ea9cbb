"""DrawdownMonitor: block, cancel, close, wait until flat, and only then stop (rule 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from bt_risk.errors import ParameterError
from bt_risk.monitors.base import Monitor
from bt_risk.monitors.halt import Halt
from bt_risk.monitors.settings import BreakerSettings
from bt_risk.orders import HALTED, REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.portfolio.worst_equity import worst_change
from bt_risk.rules.drawdown import (
    ARMED,
    TRIPPED,
    BreakerState,
    fall,
    rearm,
    step,
    taper,
)
from bt_risk.tolerances import RATIO_EPS

__all__ = ["DrawdownMonitor"]

# What is saved of a breaker, beside its state.
_SAVED = ("trips", "drawdown", "max_drawdown")

# What tells a bar on which nothing changes but the drawdown: the state of the breaker, the
# BackBroker, and its shares; where bars are judged at their worst, the instrument that is held, the
# line of its lows (of a short its highs), the units of it per share, and the unit value that a low
# of no new drawdown stays above. The instrument is None where a close tells enough.
_Calm: TypeAlias = tuple[BreakerState | None, Any, float, Any, Any, float, float]
_NOTHING: _Calm = (None, None, 0.0, None, None, 0.0, math.inf)


class DrawdownMonitor(Monitor):
    """Judge the equity of one gate at every close, and act on a drawdown beyond the limit.

    Where bars are judged at their worst, that of a bar counts before its close.
    """

    def __init__(self, gate: Any, settings: BreakerSettings) -> None:
        # One sample of a live broker is no reason to sell everything.
        confirmations = max(settings.confirmations, gate.venue.min_confirmations)
        self.settings = replace(settings, confirmations=confirmations)
        self.gate, self.book, self.rule = gate, gate.book, self.settings.rule
        self.action = settings.action
        self.halt = Halt(gate, self, self._gate_state, settings.flatten, self._journal)
        self.taper_from, self.equity = settings.taper_from, settings.equity
        self.intrabar = settings.trigger == "intrabar"
        self.state = BreakerState()
        self.trips: list[dict[str, Any]] = []
        self.drawdown = self.max_drawdown = 0.0
        # A lifetime limit is measured from another mark: every value is judged in full then.
        limits = self.rule.drawdown_limit, self.rule.lifetime_limit
        self._held, self._changes = list[tuple[Instrument, float, Any]](), -1
        self._plain, self._calm = False, _NOTHING
        self._trips_at = limits[0] - RATIO_EPS if limits[1] == math.inf else -math.inf

    # -- across a restart ------------------------------------------------------------------------

    name, state_kind = "DrawdownBreaker", "breaker"

    @property
    def unit(self) -> str:
        """Return what the marks are measured in."""
        return "unit value" if self.equity is None else "equity()"

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yield ``(key, plain values)`` of the breaker."""
        record = {name: getattr(self, name) for name in _SAVED}
        also = {"unit": self.unit, "state": asdict(self.state), "gate": self._gate_state}
        yield "", record | {"reason": self.halt.reason} | also

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on in the saved state: a halt lasts until it is re-armed."""
        record = saved.get("")
        if record is None:
            return
        for name in _SAVED:
            setattr(self, name, record[name])
        self.state = BreakerState(**record["state"])
        if record["unit"] != self.unit:
            self._rebase(record["unit"])
        status = self.state.status
        self.halt.restore(record["reason"], lasts=status != ARMED, closing=status == TRIPPED)

    def _rebase(self, unit: str) -> None:
        """Begin with new marks, and refuse entries until an operator re-arms."""
        self.state = replace(self.state, high_water_mark=math.nan, lifetime_mark=math.nan)
        reason = f"state: the high-water mark was saved as {unit}, and is {self.unit} now"
        self.gate.trading_state.set("state", REDUCING, reason)

    @property
    def _gate_state(self) -> str:
        return HALTED if self.action == "stop" else REDUCING

    # -- hooks of the gate -----------------------------------------------------------------------

    def on_fill(self, part: OwnerPosition) -> None:
        """Close what fills after everything was flat; other fills are judged through equity."""
        if self.state.status != ARMED and self.halt.reopens(part):
            self.state = replace(self.state, status=TRIPPED)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Judge the account, act on a trip, and continue a halt until everything is flat.

        A bar on which nothing changes but the drawdown (`_find_calm`) needs no further call. A bar
        that is not believed is none: it is a change of the book.
        """
        state, broker, shares, one, line, units, least = self._calm
        if state is self.state and self.book.changes == self._changes:
            value, mark = broker._fundval, self.state.high_water_mark
            fallen = 1.0 - value / mark
            if (
                value <= mark
                and fallen < self._trips_at
                and (
                    one is None
                    or value + units * (line.array[line._idx] - one.price) * one.multiplier > least
                    and broker._fundshares == shares
                )
            ):
                self.drawdown = fallen
                if fallen > self.max_drawdown:
                    self.max_drawdown = fallen
                if self.taper_from is not None:
                    self._taper(fallen, self.taper_from)
                return
        self._judge(fresh)

    def _judge(self, fresh: list[Instrument]) -> None:
        """Do what `on_bar` does where more may change than the drawdown."""
        if not fresh and self.halt.finished:
            self.gate.stop_engine(between_bars=True)
            return
        before, value = self.state, self._value()
        worst = value
        if self.intrabar and fresh:
            worst = self._inside(value, fresh)
        if value <= before.high_water_mark and before.status == ARMED and not before.breaches:
            fallen = fall(value, before.high_water_mark)
            deepest = fallen if worst == value else fall(worst, before.high_water_mark)
            if deepest < self._trips_at:  # nothing changes but the drawdown
                self._set_drawdown(fallen, deepest)
                if fresh and self.gate.venue.direct:
                    self._find_calm()
                return
        data0 = self.book.instruments[0]
        self.state = state = step(before, value, self.rule, worst=worst, new_bar=data0 in fresh)
        self._measure(value, worst, before)
        if state.status == TRIPPED:
            self._halt(before, worst)
        elif before.status != ARMED and state.status == ARMED:
            self.halt.end("cool-down over")
        elif before.cooldown_left > state.cooldown_left == 0 and value <= 0.0:
            self._journal("note", f"cool-down over, and {self.unit} is {value:g}: it stays halted")

    def _measure(self, value: float, worst: float, before: BreakerState) -> None:
        """Set the drawdown and taper the risk budgets; a NaN changes nothing."""
        if not math.isfinite(value):
            return
        fallen = deepest = fall(value, self.state.high_water_mark)
        if worst < value and not math.isnan(before.high_water_mark):
            deepest = fall(worst, before.high_water_mark)
        tripped = self.state.status == TRIPPED != before.status
        self._set_drawdown(deepest if tripped else fallen, deepest)

    def _set_drawdown(self, fallen: float, deepest: float) -> None:
        self.drawdown = fallen
        if deepest > self.max_drawdown:
            self.max_drawdown = deepest
        if self.taper_from is not None:
            self._taper(fallen, self.taper_from)

    def _taper(self, fallen: float, begins_at: float) -> None:
        left = taper(fallen, begins_at, self.rule.drawdown_limit)
        self.book.set_risk_scale(self, left)

    @property
    def final(self) -> bool:
        """Return whether the lifetime limit was hit."""
        return self.state.final

    def rearm(self) -> None:
        """Trade again: the high-water mark is rebased to the current value, once there is one."""
        before = self.state.status
        if self.state.final:
            raise ParameterError(
                "DrawdownBreaker",
                "rearm()",
                "called before the lifetime limit is hit",
                self.rule.lifetime_limit,
                "The lifetime limit cannot be re-armed.",
            )
        if before != ARMED:
            self.state = rearm(self.state, self._value())
        if before != ARMED == self.state.status:  # it has no new mark while equity is unknown
            value = self._value()
            self._measure(value, value, self.state)
            self.halt.end("re-armed by hand")

    def _value(self) -> float:
        if self.equity is not None:
            return float(self.equity())
        if self.book.suspects and self.book.doubt(bars=1):
            return math.nan  # one suspect bar moves no mark and trips nothing
        return self.gate.unit_value()

    def _inside(self, value: float, fresh: list[Instrument]) -> float:
        """Return the value at the worst point of new bars; itself where that is nothing new.

        Every position counts with the low of its last bar (the high for shorts), stops or not: that
        is no better than `_worst`, and takes a fraction of its time.
        """
        state, book, change = self.state, self.book, 0.0
        left = book.left_inside
        if left is None or (left and left[0].round == book.rounds):
            return self._worst(value, fresh)  # what was closed inside the bar counts, too
        if state.status != ARMED or state.breaches:
            return self._worst(value, fresh)
        if book.changes != self._changes:
            self._find_held()
        for one, size, line in self._held:
            if line is not None:
                extreme = line.array[line._idx]
            else:
                extreme = one.bottom if size > 0.0 else one.top
            less = size * (extreme - one.price)
            if not less >= 0.0:
                change += less * one.multiplier
        if not change:
            return value
        mark = state.high_water_mark
        if self._plain:
            equity = self.gate.inner._value
        else:
            equity = value if self.equity is not None else self.gate.equity()
        if equity > 0.0 and mark > 0.0:
            lowest = value * (1.0 + change / equity)
            deepest = 1.0 - lowest / (value if value > mark else mark) + RATIO_EPS
            if deepest < self._trips_at:
                if deepest < self.max_drawdown:
                    return value
                if self._plain and len(self._held) == 1 and self._tells(*self._held[0]):
                    return lowest
        return self._worst(value, fresh)

    def _find_calm(self) -> None:
        """Note on which bars nothing changes but the drawdown, until something else changes.

        Where bars are judged at their worst, that can be told of a single position. A low that is
        within rounding of the deepest drawdown is judged in full.
        """
        if self.book.changes != self._changes:
            self._find_held()
        state, broker = self.state, self.gate.inner
        if not (self._plain and state.high_water_mark > 0.0):
            return
        if not (self.intrabar and self._held):
            self._calm = state, broker, 0.0, None, None, 0.0, 0.0
            return
        one, size, line = self._held[0]
        if len(self._held) > 1 or line is None:
            return
        deepest = min(self._trips_at, self.max_drawdown) - 2.0 * RATIO_EPS
        least = state.high_water_mark * (1.0 - deepest)
        shares = broker._fundshares
        self._calm = state, broker, shares, one, line, size / shares, least

    def _tells(self, one: Instrument, size: float, line: Any) -> bool:
        """Return whether a position has a new bar without any contradiction."""
        return bool(
            one.round == self.book.rounds
            and one.closed == one.price
            and one.bottom <= one.price <= one.top
        )

    def _find_held(self) -> None:
        """Note what is held, and whether the account is worth what BackBroker has computed.

        Where all bars are loaded, the extreme of the last one is read from its line.
        """
        self._held, self._calm = [], _NOTHING
        for part in self.book.parts.values():
            if part.size:
                one = part.instrument
                line = one.low if part.size > 0.0 else one.high
                self._held.append((one, part.size, line if one.loaded else None))
        self._plain = self.equity is None and self.gate.venue.plain_account()
        # A live broker may change what is held and is worth at any time.
        self._changes = self.book.changes if self.gate.venue.direct else -1

    def _worst(self, value: float, fresh: list[Instrument]) -> float:
        """Return the value at the worst point of the new bars for what is held, NaN for NaN."""
        venue = self.gate.venue
        change = worst_change(self.book, fresh, resting=not venue.direct)
        if not change:
            return value
        equity = value if self.equity is not None else self.gate.equity()
        return value * (1.0 + change / equity) if equity > 0.0 else value

    # -- a halt ----------------------------------------------------------------------------------

    def _halt(self, before: BreakerState, value: float) -> None:
        if before.status != TRIPPED:
            self._trip(value)
        if self.halt.advance():
            self._after_flat()

    def _trip(self, value: float) -> None:
        self.trips.append(
            {
                "tripped_at": self.gate.latest,
                "flat_at": math.nan,
                "drawdown_at_trip": self.drawdown,
                "drawdown_at_flat": math.nan,
                "flattened": False,
            }
        )
        self.halt.begin(f"DrawdownBreaker: {self._measured(value)}")

    def _measured(self, value: float) -> str:
        rule, inside = self.rule, ", inside a bar" if self.intrabar else ""
        if self.state.final:
            fallen = fall(value, self.state.lifetime_mark)
            return f"drawdown {fallen:.4f}{inside} >= lifetime_limit {rule.lifetime_limit:.4f}"
        measured = f"drawdown {self.drawdown:.4f}{inside}"
        return f"{measured} >= drawdown_limit {rule.drawdown_limit:.4f}"

    def _after_flat(self) -> None:
        flat = self.halt.settle()
        self.trips[-1].update(
            flat_at=self.gate.latest if flat else math.nan,
            drawdown_at_flat=self.drawdown if flat else math.nan,
            flattened=flat,
        )
        self.state = step(self.state, math.nan, self.rule, flat=True, new_bar=False)
        if self.action == "stop" and not self.gate.observe:
            self.halt.finish()
        if flat:
            self._journal("flat", f"flat at a drawdown of {self.drawdown:.4f}")

    def _journal(self, action: str, reason: str) -> None:
        limit = self.rule.drawdown_limit
        self.gate.journal.account(self.name, action, reason, measured=self.drawdown, limit=limit)
