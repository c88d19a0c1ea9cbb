"""States of the gate, and the kill switch: who has asked for less than everything, and why."""

from bt_risk.errors import ParameterError, check_choice, check_flag
from bt_risk.monitors.base import Monitor
from bt_risk.orders import ACTIVE, HALTED, REDUCING

__all__ = ["TradingState"]

OPERATOR = "operator"
_OF_THIS_RUN = ("shutdown", "unwritten")
_ACTIONS = {ACTIVE: "resume", REDUCING: "reduce", HALTED: "halt"}


class TradingState:
    """What each source (an operator, a breaker) asks of one `RiskBroker`; the strictest counts.

    A halt that flattens adds a `Flatten` monitor to the gate.
    """

    def __init__(self, gate):
        self.gate = gate
        self.asked = {}
        self._closing = None

    def __bool__(self):
        return bool(self.asked)

    @property
    def why(self):
        """State of the gate and the reason for it."""
        return self.asked.get(self._strictest(), (ACTIVE, ""))

    @property
    def rule(self):
        """Name of the rule that has requested this state, for the journal."""
        return rule_of(self._strictest())

    def _strictest(self):
        """Return the source that counts: the first that has requested a halt, else the first."""
        halts = (source for source, (state, _) in self.asked.items() if state == HALTED)
        return next(halts, next(iter(self.asked), None))

    def ask(self, source, state, reason=""):
        """Let a source ask for a state, and see that nothing opens against it."""
        check_choice("RiskBroker", "state", state, tuple(_ACTIONS))
        if state == ACTIVE:
            self.asked.pop(source, None)
            return
        self.asked[source] = (state, reason)
        if self.gate.observe:
            return
        self.gate.venue.clamp_fills()
        self.gate.venue.refuse_entries(state, rule_of(source))

    def set(self, source, state, reason=""):
        """Ask for a state, and write a line about it."""
        before = self.asked.get(source)
        self.ask(source, state, reason)
        if self.asked.get(source) != before:
            self._journal(_ACTIONS[self.why[0]], reason or self.why[1] or f"{source}: {ACTIVE}")

    # -- the operator ----------------------------------------------------------------------------

    def halt(self, reason, flatten):
        """Refuse entries, cancel what rests, and close everything if that is asked for."""
        check_flag("RiskBroker", "flatten", flatten)
        self.set(OPERATOR, HALTED, _worded(reason))
        if flatten and not self.gate.observe:
            self._flatten(reason)

    def _flatten(self, reason):
        if self._closing is None:
            self._closing = Flatten(self.gate)
            self.gate.registry.add_monitor(self._closing)
        self._closing.begin(reason)

    @property
    def _flattening(self):
        """Reason for which everything is being closed, empty where nothing is."""
        return "" if self._closing is None else self._closing.reason

    def _end_flattening(self):
        if self._closing is not None:
            self._closing.reason = ""
        self.gate.venue.end_closing()

    def reduce_only(self, reason):
        """Let only pass what reduces; a halt stays a halt."""
        reason = _worded(reason)
        if self.asked.get(OPERATOR, ("",))[0] != HALTED:
            self.set(OPERATOR, REDUCING, reason)

    def resume(self):
        """Take back what the operator has asked for; what a breaker asks for is its own."""
        self._end_flattening()
        asked = self.asked.pop(OPERATOR, None)
        state, reason = self.why
        if asked or state != ACTIVE:
            left = f"; still {state}: {reason}" if state != ACTIVE else ""
            self._journal("resume", f"resumed by the operator{left}")

    # -- across a restart ------------------------------------------------------------------------

    def persist(self):
        """Return what is asked for and stays so in the next run, by source.

        Breakers keep their own state; what ended this run, or kept it from being written down,
        ends with it.
        """
        return {
            source: {"state": state, "reason": reason, "flattening": self._flattening}
            for source, (state, reason) in self.asked.items()
            if isinstance(source, str) and source not in _OF_THIS_RUN
        }

    def restore(self, kept):
        """Ask for what an earlier run was asked for, and go on with what it was closing."""
        for source, record in kept.items():
            self.set(source, record["state"], record["reason"])
            if record["flattening"]:
                self._flatten(record["flattening"])

    def rearm(self):
        """Take back everything but what the breakers ask for."""
        for source in [s for s in self.asked if isinstance(s, str) and s not in _OF_THIS_RUN]:
            self.asked.pop(source)
            self._journal("resume", f"{source}: re-armed by the operator")
        self._end_flattening()

    def _journal(self, action, reason):
        self.gate.journal.account("RiskBroker", action, reason)


class Flatten(Monitor):
    """Close every position as often as it takes, because an operator has requested it."""

    def __init__(self, gate):
        self.gate = gate
        self.reason = ""

    def begin(self, reason):
        """Close everything from now on."""
        self.reason = reason
        self.gate.exit_orders.close_all("RiskBroker", reason)

    def on_bar(self, fresh):
        """Close what is still held."""
        if not self.reason:
            return
        if self.gate.exit_orders.all_flat():
            self.gate.journal.account("RiskBroker", "flat", f"flat: {self.reason}")
            self.reason = ""
        else:
            self.gate.exit_orders.close_all("RiskBroker", self.reason)


def rule_of(source):
    """Return the name under which a source stands in the journal."""
    if isinstance(source, Monitor):
        return source.name
    return "RiskBroker" if source in (OPERATOR, None) else str(source)


def _worded(reason):
    if not (isinstance(reason, str) and reason.strip()):
        remedy = "It stands in the journal and on every order that is refused."
        raise ParameterError("RiskBroker", "reason", "a few words that say why", reason, remedy)
    return reason
