"""Operator: carry out what an operator requests of a run, and answer in a sentence."""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING

from bt_risk.errors import BtRiskError
from bt_risk.gate.trading_state import OPERATOR
from bt_risk.monitors.base import Monitor
from bt_risk.orders import ACTIVE, HALTED
from bt_risk.state.requests import REFUSED, OperatorRequest
from bt_risk.state.unlisted_stops import STOPS
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["Operator"]


class Operator:
    """Carry out the requests of an operator at one `RiskBroker`."""

    def __init__(self, gate: RiskBroker) -> None:
        self.gate = gate

    def waits(self, request: OperatorRequest) -> bool:
        """Return whether a request cannot be carried out yet, with a line the first time.

        A breaker needs the value of the account for its new high-water mark.
        """
        tripped = any(isinstance(source, Monitor) for source in self.gate.trading_state.asked)
        if request.verb != "rearm" or not tripped or math.isfinite(self.gate.unit_value()):
            return False
        if self.gate.journal.once(("rearm waits", request.number)):
            reason = "operator: rearm waits until the value of the account is known"
            self.gate.journal.account("operator", "request", reason)
        return True

    def carry_out(self, request: OperatorRequest) -> str:
        """Do what is requested, write a line about it, and return the answer."""
        verbs = {
            "halt": self._halt,
            "reduce": self._reduce,
            "flatten": self._flatten,
            "resume": self._resume,
            "rearm": self._rearm,
        }
        who = request.who or "an operator"
        reason = request.args.get("reason") or "no reason given"
        try:
            carry_out, stops = verbs.get(request.verb), request.args.get("stops")
            if carry_out is None:
                text = f"{REFUSED}the request {request.verb!r} is unknown"
            elif request.verb == "resume" and stops:
                text = self._settle_stops(stops == "gone")
            else:
                text = carry_out(f"{reason} ({request.verb} by {who})")
        except BtRiskError as error:  # the run and its stops go on
            text = f"{REFUSED}{error}"
        when = f" at {_when(request.at)}" if request.at else ""
        line = f"operator: {request.verb} by {who}{when}: {reason}. Answer: {text}"
        self.gate.journal.account("operator", "request", line)
        return text

    # -- verbs -----------------------------------------------------------------------------------

    def _halt(self, reason: str) -> str:
        self.gate.trading_state.halt(reason, False)
        return f"{self._state()}; {self._held('keeps its stops')}"

    def _reduce(self, reason: str) -> str:
        self.gate.trading_state.reduce_only(reason)
        return f"{self._state()}; {self._held('keeps its stops')}"

    def _flatten(self, reason: str) -> str:
        self.gate.trading_state.halt(reason, True)
        return f"{self._state()}; {self._held('is being closed at the market')}"

    def _resume(self, reason: str) -> str:
        state = self.gate.trading_state
        asked = OPERATOR in state.asked
        state.resume()
        now, why = state.why
        if now == ACTIVE:
            return "entries pass again" if asked else "nothing was halted: entries pass"
        remedy = self._remedy()
        if asked:
            return f"the operator's own request is taken back; still {now}: {why}. {remedy}"
        return f"{REFUSED}still {now}: {why}. {remedy}"

    def _settle_stops(self, gone: bool) -> str:
        """Carry out what the operator has found at the venue; a halt of theirs stays."""
        text = self.gate.recovery.settle_stops(gone)
        now, why = self.gate.trading_state.why
        return f"{text}; entries pass" if now == ACTIVE else f"{text}; still {now}: {why}"

    def _remedy(self) -> str:
        """Return which verb takes back what still refuses entries."""
        state = self.gate.trading_state
        if state.asked.get(STOPS) == state.why:
            return "Plain `resume` does not take that back"
        if any(monitor.final for monitor in self.gate.registry.monitors):
            return "The lifetime limit of a breaker cannot be re-armed"
        return f"`bt-risk rearm {self.gate.state_file}` takes that back"

    def _rearm(self, reason: str) -> str:
        state, monitors = self.gate.trading_state, self.gate.registry.monitors
        before = state.why[0]
        state.rearm()
        final = [monitor for monitor in monitors if monitor.final]
        for monitor in monitors:
            if monitor not in final:
                monitor.rearm()
        if final:
            return f"{REFUSED}the lifetime limit of a breaker cannot be re-armed"
        now, why = state.why
        if now != ACTIVE:
            return f"still {now}: {why}"
        return "nothing was halted: entries pass" if before == ACTIVE else "entries pass again"

    # -- what an answer says ---------------------------------------------------------------------

    def _state(self) -> str:
        gate = self.gate
        if gate.observe:
            return "observe mode: the request is noted, and nothing is refused or closed"
        now = gate.state
        words = "no entry passes" if now == HALTED else "only what reduces a position passes"
        left = [w for w in gate.book.working.values() if not w.own and w.opening > SIZE_EPS]
        cancels = f", {len(left)} working entries are being cancelled" if left else ""
        return f"{now}: {words}{cancels}"

    def _held(self, follows: str) -> str:
        """Return what the book holds, and what it cannot know yet."""
        gate = self.gate
        held = [f"{i.size:+g} {i.name}" for i in gate.book.instruments if abs(i.size) > SIZE_EPS]
        unknown = [i.name for i in gate.book.instruments if i.index in gate.fill_tracker.unknown]
        text = f"{', '.join(held)} {follows}" if held else "nothing is held"
        if unknown:
            known = text if held else "no position is known"
            text = f"{known}, and {', '.join(unknown)} has not been compared with the broker yet"
        return "no position changes" if gate.observe else text


def _when(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
