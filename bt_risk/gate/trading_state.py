"""States of the gate, and the kill switch: who has asked for less than everything, and why."""

from bt_risk.errors import ParameterError, check_choice, check_flag
from bt_risk.orders import ACTIVE, HALTED, REDUCING

__all__ = ["KillSwitch", "TradingState"]

OPERATOR = "operator"
_OF_THIS_RUN = ("shutdown", "unwritten")
_ACTIONS = {ACTIVE: "resume", REDUCING: "reduce", HALTED: "halt"}


class TradingState:
    """What each source (an operator, a breaker) asks of one `RiskBroker`; the strictest counts.

    It is a hook of the gate while a halt is flattening, to see that through.
    """

    def __init__(self, gate):
        self.gate = gate
        self.asked = {}
        self._flattening = ""

    def __bool__(self):
        return bool(self.asked)

    @property
    def why(self):
        """State of the gate and the reason for it."""
        states = self.asked.values()
        halted = next((s for s in states if s[0] == HALTED), None)
        return halted or next(iter(states), (ACTIVE, ""))

    def ask(self, source, state, reason=""):
        """Let a source ask for a state, and see that nothing opens against it."""
        check_choice("RiskBroker", "state", state, tuple(_ACTIONS))
        if state == ACTIVE:
            self.asked.pop(source, None)
            return
        self.asked[source] = (state, reason)
        if self.gate.observe:
            return
        self.gate.hook_execution()
        if state == HALTED or not self.gate.simulated:
            self.gate.exit_orders.cancel_entries(reason)
        else:  # what rests can be held back; a market order would fill at some other time
            self.gate.exit_orders.cancel_entries(reason, "market")

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
        self._flattening = reason
        if self not in self.gate.hooks:
            self.gate.add_hook(self)
        self.gate.exit_orders.close_all(reason)

    def reduce_only(self, reason):
        """Let only pass what reduces; a halt stays a halt."""
        reason = _worded(reason)
        if self.asked.get(OPERATOR, ("",))[0] != HALTED:
            self.set(OPERATOR, REDUCING, reason)

    def resume(self):
        """Take back what the operator has asked for; what a breaker asks for is its own."""
        self._flattening = ""
        self.gate.exit_orders.closing.clear()
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
        self._flattening = ""
        self.gate.exit_orders.closing.clear()

    def _journal(self, action, reason):
        self.gate.journal.record(self.gate.latest, "", "RiskBroker", action, reason=reason)

    # -- hooks of the gate -----------------------------------------------------------------------

    def on_fill(self, part):
        """Nothing: the next bar sees what is left."""

    def on_end(self):
        """Nothing: the journal has kept what happened."""

    def on_missed(self, instruments):
        """Nothing: nothing was closed then."""

    def on_bar(self, fresh):
        """Close what is still there, as often as it takes."""
        if not self._flattening:
            return
        if self.gate.exit_orders.all_flat():
            self._journal("flat", f"flat: {self._flattening}")
            self._flattening = ""
        else:
            self.gate.exit_orders.close_all(self._flattening)


def _worded(reason):
    if not (isinstance(reason, str) and reason.strip()):
        remedy = "It stands in the journal and on every order that is refused."
        raise ParameterError("RiskBroker", "reason", "a few words that say why", reason, remedy)
    return reason


class KillSwitch:
    """What an operator can ask of a `RiskBroker`, from a strategy or from anywhere else."""

    @property
    def state(self):
        """ACTIVE, REDUCING (only what reduces passes) or HALTED (and nothing rests)."""
        return self.trading_state.why[0]

    def set_state(self, source, state, reason=""):
        """Let `source` ask for a state, ACTIVE takes it back; the strictest of all counts."""
        self.trading_state.set(source, state, reason)

    def halt(self, reason, flatten=False):
        """Refuse every entry and cancel those that rest, until `resume`; exits and stops work on.

        Parameters
        ----------
        reason : str
            Stands in the journal and on every order that is refused.
        flatten : bool
            Also close every position at the next open, and the orders behind it.
        """
        self.trading_state.halt(reason, flatten)

    def reduce_only(self, reason):
        """Refuse every entry until `resume`: what would open is refused, what reduces passes.

        It is judged on the position and all working orders: two exits do not close twice. Limit and
        stop entries that rest are held back until `resume`; where that cannot be done, at a venue,
        they are cancelled, and so are market entries that have not filled.
        """
        self.trading_state.reduce_only(reason)

    def resume(self):
        """Take back `halt` and `reduce_only`.

        A breaker that has tripped goes on refusing entries: its own ``rearm()`` is the way back.
        """
        self.trading_state.resume()
