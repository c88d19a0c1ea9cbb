"""What a gate asks before anything opens, and whom it calls on every fill and bar."""

from bt_risk.gate.simulated_execution import SimulatedExecution
from bt_risk.limits.base import RiskPerTrade
from bt_risk.limits.trade_guards import Guard
from bt_risk.monitors.guards import GuardMonitor

__all__ = ["Registry"]


class Registry:
    """The limits and hooks of a `RiskBroker`, which inherits from this."""

    def bind(self, limits, instruments, stop_rule):
        """Let a policy add its limits and facts to the next run."""
        self._bound = list(limits)
        self.instruments.update(instruments or {})
        self._stop_rule = stop_rule

    def call_stale_after(self, bars):
        """Let a data be stale after so many bars of others without one; the fewest count."""
        self.max_stale_bars = min(bars, self.max_stale_bars or bars)

    def add_limit(self, limit):
        """Ask this limit too, before anything opens in this run."""
        if limit.active:
            self.limits.append(limit)
            if hasattr(limit, "watch"):
                limit.watch(self.book)
            if isinstance(limit, Guard):
                GuardMonitor.of(self).add(limit)
            self.hook_execution()

    def _enforce_own_risk_limits(self):
        if not any(isinstance(limit, RiskPerTrade) for limit in self.limits):
            self.limits.append(RiskPerTrade(None))
            self.hook_execution()

    def add_hook(self, hook):
        """Call its ``on_fill(part)``, ``on_bar``, ``on_missed(instruments)`` and ``on_end()``."""
        self.hooks.append(hook)
        self.hook_execution()

    def hook_of(self, kind):
        """Return the hook of this class, or None."""
        return next((hook for hook in self.hooks if isinstance(hook, kind)), None)

    def hook_execution(self):
        """Be there at the moment an order executes, where the broker inside lets us."""
        if self.execution is None and self.simulated and not self.observe:
            self.execution = SimulatedExecution(self, self.inner)
