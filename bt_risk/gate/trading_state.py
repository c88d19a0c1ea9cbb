"""TradingState: which sources have requested REDUCING or HALTED, and why; the strictest counts."""

from __future__ import annotations

from typing import Any

from bt_risk.errors import ParameterError, check_choice, check_flag
from bt_risk.live.differences import FOREIGN, RECONCILIATION
from bt_risk.live.unread_positions import UNREAD
from bt_risk.monitors.base import Monitor
from bt_risk.orders import ACTIVE, HALTED, REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.state.unlisted_stops import STOPS

__all__ = ["TradingState"]

OPERATOR = "operator"
_OF_THIS_RUN = ("shutdown", "unwritten", RECONCILIATION, FOREIGN, UNREAD)
_ACTIONS = {ACTIVE: "resume", REDUCING: "reduce", HALTED: "halt"}


class TradingState:
    """Hold the state that each source (an operator, a breaker) requests of one `RiskBroker`.

    A halt that flattens adds a `Flatten` monitor to the gate.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.asked: dict[Any, tuple[str, str]] = {}
        self._closing: Flatten | None = None

    def __bool__(self) -> bool:
        return bool(self.asked)

    @property
    def why(self) -> tuple[str, str]:
        """Return the state of the gate and the reason for it."""
        return self.asked.get(self._strictest(), (ACTIVE, ""))

    @property
    def rule(self) -> str:
        """Return the name of the rule that has requested this state, for the journal."""
        return rule_of(self._strictest())

    def _strictest(self) -> Any:
        """Return the source that counts: the first that has requested a halt, else the first."""
        halts = (source for source, (state, _) in self.asked.items() if state == HALTED)
        return next(halts, next(iter(self.asked), None))

    def ask(self, source: Any, state: str, reason: str = "") -> None:
        """Let a source request a state, and cancel the entries that it forbids."""
        check_choice("RiskBroker", "state", state, tuple(_ACTIONS))
        if state == ACTIVE:
            self.asked.pop(source, None)
            return
        self.asked[source] = (state, reason)
        if self.gate.observe:
            return
        self.gate.venue.clamp_fills()
        self.gate.venue.refuse_entries(state, rule_of(source))

    def set(self, source: Any, state: str, reason: str = "") -> None:
        """Let a source request a state, with a line in the journal if that is new."""
        before = self.asked.get(source)
        self.ask(source, state, reason)
        if self.asked.get(source) == before:
            return
        now, why = self.why
        if reason and state != now:  # a stricter request of another source counts on
            self._journal(_ACTIONS[state], f"{reason}; still {now}: {why}")
        else:
            self._journal(_ACTIONS[now], reason or why or f"{source}: {ACTIVE}")

    # -- the operator ----------------------------------------------------------------------------

    def halt(self, reason: str, flatten: bool) -> None:
        """Refuse entries, cancel those that rest, and close everything if `flatten`."""
        check_flag("RiskBroker", "flatten", flatten)
        self.set(OPERATOR, HALTED, _worded(reason))
        if flatten and not self.gate.observe:
            self._flatten(reason)

    def _flatten(self, reason: str) -> None:
        if self._closing is None:
            self._closing = Flatten(self.gate)
            self.gate.registry.add_monitor(self._closing)
        self._closing.begin(reason)

    @property
    def _flattening(self) -> str:
        """Return why everything is being closed, empty where nothing is."""
        return "" if self._closing is None else self._closing.reason

    def _end_flattening(self) -> None:
        if self._closing is not None:
            self._closing.reason = ""
        self.gate.venue.end_closing()

    def reduce_only(self, reason: str) -> None:
        """Let only reducing orders pass; a halt stays a halt."""
        reason = _worded(reason)
        if self.asked.get(OPERATOR, ("",))[0] != HALTED:
            self.set(OPERATOR, REDUCING, reason)

    def resume(self) -> None:
        """Take back what the operator has requested; what a breaker has requested stays."""
        self._end_flattening()
        asked = self.asked.pop(OPERATOR, None)
        state, reason = self.why
        if asked or state != ACTIVE:
            left = f"; still {state}: {reason}" if state != ACTIVE else ""
            self._journal("resume", f"resumed by the operator{left}")

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> dict[str, dict[str, Any]]:
        """Return the requests that stay in the next run, by source.

        Breakers save their own state; a signal that ended this run, a state file that could not be
        written, and differences from the broker's book do not halt the next one.
        """
        return {
            source: {"state": state, "reason": reason, "flattening": self._flattening}
            for source, (state, reason) in self.asked.items()
            if isinstance(source, str) and source not in _OF_THIS_RUN
        }

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Request what an earlier run had requested, and go on closing what it was closing."""
        for source, record in saved.items():
            self.set(source, record["state"], record["reason"])
            if record["flattening"]:
                for part in self.gate.book.parts.values():
                    self.gate.venue.mark_closing(part)
                self._flatten(record["flattening"])

    def rearm(self) -> None:
        """Take back everything but what the breakers and unlisted stops have requested."""
        stay = (*_OF_THIS_RUN, STOPS)
        for source in [s for s in self.asked if isinstance(s, str) and s not in stay]:
            self.asked.pop(source)
            self._journal("resume", f"{source}: re-armed by the operator")
        self._end_flattening()

    def _journal(self, action: str, reason: str) -> None:
        self.gate.journal.account("RiskBroker", action, reason)


class Flatten(Monitor):
    """Close every position as often as it takes, because an operator has requested it."""

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.reason = ""

    def begin(self, reason: str) -> None:
        """Close everything from now on."""
        self.reason = reason
        self.gate.exit_orders.close_all("RiskBroker", reason)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Close what is still held."""
        if not self.reason:
            return
        unknown = not self.gate.venue.direct and self.gate.fill_tracker.unknown
        if self.gate.exit_orders.all_flat() and not unknown:
            self.gate.journal.account("RiskBroker", "flat", f"flat: {self.reason}")
            self.reason = ""
        else:
            self.gate.exit_orders.close_all("RiskBroker", self.reason)


def rule_of(source: Any) -> str:
    """Return the name under which a source stands in the journal."""
    if isinstance(source, Monitor):
        return source.name
    return "RiskBroker" if source in (OPERATOR, None) else str(source)


def _worded(reason: str) -> str:
    if not (isinstance(reason, str) and reason.strip()):
        remedy = "It stands in the journal and on every order that is refused."
        raise ParameterError("RiskBroker", "reason", "a few words that say why", reason, remedy)
    return reason
