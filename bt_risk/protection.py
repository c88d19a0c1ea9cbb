"""protect: apply a policy to everything that a Cerebro does, in one line."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import backtrader as bt

from bt_risk.components.drawdown_breaker import DrawdownBreaker
from bt_risk.components.end_notes import halt_note, traded
from bt_risk.components.half_kelly import HalfKellySizer
from bt_risk.components.risk_journal import RiskJournal
from bt_risk.components.settings import SizerSettings
from bt_risk.components.trailing_stop import ATRTrailingStop
from bt_risk.engine.fast import fast as run_fast
from bt_risk.errors import ParameterError, check_choice, check_flag, check_names, check_output
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.bypass import ON_BYPASS
from bt_risk.limits.base import Limit, check_limits
from bt_risk.live.settings import Live
from bt_risk.live.store_settings import StoreSettings
from bt_risk.monitors.settings import BreakerSettings, StopSettings
from bt_risk.policy import Policy, policy_of
from bt_risk.report.no_trades import NO_TRADES, refusals
from bt_risk.report.page_at_end import ReportPage
from bt_risk.state.file import check_state
from bt_risk.state.journal_file import is_journal_file

__all__ = ["protect"]

_log = logging.getLogger("bt_risk")


def protect(
    cerebro: bt.Cerebro,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    mode: str = "enforce",
    *,
    limits: Sequence[Limit] = (),
    journal: str | Path | None = None,
    report: str | Path | None = None,
    state: str | Path | None = None,
    on_bypass: str = "alert",
    store: str | Path | None = None,
    fast: bool = True,
    **live: Any,
) -> None:
    """Apply all five rules of a policy to everything that this Cerebro does.

    The strategy stays as it is. At the start of a run the gate wraps the broker that the Cerebro
    has then, before any strategy is built. Strategies with Backtrader's default sizer get a
    `HalfKellySizer`; another sizer stays, and the gate trims the sizes that it proposes.

    Parameters
    ----------
    cerebro : backtrader.Cerebro
    policy : Policy, dict or path, optional
        Default: ``Policy()``; a dict has the parameters of one, a path is read as TOML. Without
        it, they may be given by name: ``protect(cerebro, risk_limit=0.005)``.
    mode : {"enforce", "observe"}
        "observe" changes nothing of the run: the journal has the decisions that would have been
        made on the same orders. There is no sizer, stop, rescue or halt then.
    limits : list, optional
        More limits that every order is judged by, such as your own: see `Limit`.
    journal : str or path, optional
        File that the decisions are written to at the end of each run: CSV, or where its name ends
        in ``.db`` one whose lines have hashes, for `verify`. Points of an optimisation write none
        of that kind.
    report : str or path, optional
        Page that `bt_risk.report.tear_sheet` writes at the end of each run. Points of an
        optimisation write none.
    state : str or path, optional
        File in which everything is saved that must survive the process: drawdown and halt, stops,
        working orders, closed trades, windows of prices, the journal. The next run with this file
        goes on from there, whatever ended this one. Points of an optimisation write nothing.
    on_bypass : {"alert", "halt"}
        What follows where something got around the gate: an order that was sent to the wrapped
        broker, a position that no order explains, a broker that a strategy sets. Each is written
        to the journal, passed to ``notify``, and brought under stops and limits. "halt" refuses
        every entry from then on as well; exits and stops work on.
    store : str or path, optional
        TOML file with the settings of a store, which `check_store` and ``bt-risk doctor`` write.
        What is passed by name, and the policy's facts of an instrument, go before those in it.
    fast : bool
        Run by the quick loop where that changes no result (see `bt_risk.fast`); False: always by
        Backtrader's own.
    **live
        Settings for a real broker, such as ``stale_after=90``: see `Live`; and parameters of a
        `Policy` where none is given.

    Notes
    -----
    Adds the analyzers ``riskjournal`` and ``drawdownbreaker`` and the observer
    ``atrtrailingstop``, which a strategy finds under these names after the run.
    """
    if not isinstance(cerebro, bt.Cerebro):
        raise ParameterError("protect", "cerebro", "a backtrader.Cerebro", cerebro)
    policy = _policy_of(policy, live)
    if any(isinstance(store, _Install) for store in cerebro.stores):
        raise ParameterError("protect", "cerebro", "protected once", cerebro)
    observe = check_choice("protect", "mode", mode, ("enforce", "observe")) == "observe"
    state_file = check_state("protect", state)
    if observe and state_file is not None:
        remedy = "A run that decides nothing has nothing to save."
        raise ParameterError("protect", "state", "None in observe mode", str(state_file), remedy)
    added = check_limits("protect", limits)
    check_flag("protect", "fast", fast)
    if journal is not None:
        check_output("protect", "journal", journal)
    if report is not None:
        check_output("protect", "report", report)
    check_choice("protect", "on_bypass", on_bypass, ON_BYPASS)
    instruments = policy.instruments
    if store is not None:
        own = _store_settings(store)
        live, instruments = own.live(live), own.facts(instruments)
    settings = Live.named("protect", **live) if live else None
    where = on_bypass, settings, instruments, is_journal_file(journal)
    cerebro.addstore(_Install(cerebro, policy, added, observe, state_file, *where))
    if fast:
        run_fast(cerebro)
    if policy.trailing_stop and not observe:
        cerebro.addobserver(ATRTrailingStop, **policy.params(StopSettings))
    cerebro.addanalyzer(DrawdownBreaker, **policy.params(BreakerSettings))
    cerebro.addanalyzer(_PolicyJournal, path=journal, policy=policy, _name="riskjournal")
    if report is not None:
        cerebro.addanalyzer(ReportPage, path=report, _name="reportdata")


def _policy_of(policy: Any, given: dict[str, Any]) -> Policy:
    """Return the policy of `protect`; parameters of one are taken out of `given`."""
    names = [one.name for one in fields(Policy)]
    check_names("protect", given, [*names, *(one.name for one in fields(Live))])
    return policy_of("protect", policy, {name: given.pop(name) for name in names if name in given})


def _store_settings(store: Any) -> StoreSettings:
    if not isinstance(store, (str, Path)):
        remedy = "The broker of a store is set by cerebro.setbroker."
        raise ParameterError("protect", "store", "a path of a TOML file", store, remedy)
    return StoreSettings.from_toml(store)


class _Install:
    """Install the gate at the start of every run, and remove it at the end.

    Cerebro starts its stores before its broker and before it builds strategies: a gate that a
    store installs gets every order, whatever broker has been set by then.
    """

    def __init__(
        self,
        cerebro: bt.Cerebro,
        policy: Policy,
        limits: Sequence[Limit],
        observe: bool,
        state: Path | None,
        on_bypass: str,
        live: Live | None,
        instruments: dict[str, dict[str, Any]] | None,
        keeps_inputs: bool,
    ) -> None:
        self.keeps_inputs = keeps_inputs
        self.cerebro, self.policy, self.limits = cerebro, policy, limits
        self.on_bypass, self.instruments = on_bypass, instruments
        self.observe, self.state, self.live = observe, state, live
        self._installed: RiskBroker | None = None

    def start(self) -> None:
        """Wrap the broker that the Cerebro has now."""
        broker = self.cerebro._broker
        if not isinstance(broker, RiskBroker):
            broker = self._installed = RiskBroker(broker)
            broker.install(self.cerebro)
        elif self.observe and broker is not self._installed:
            remedy = "A RiskBroker that was set enforces its own limits."
            raise ParameterError("protect", "mode", "'enforce' with it", "observe", remedy)
        broker.observe = self.observe
        broker.keeps_inputs = self.keeps_inputs
        broker.live = self.live or broker.live
        if broker.state_file not in (None, self.state) and self.state is not None:
            constraint = f"the file of the RiskBroker, {broker.state_file}"
            raise ParameterError("protect", "state", constraint, str(self.state))
        broker.state_file = self.state or broker.state_file
        if self.on_bypass != "alert":
            broker.on_bypass = self.on_bypass
        rule = (self.policy.atr_period, self.policy.atr_multiple)
        jump = self.policy.bar_jump
        broker.bar_jump = math.inf if jump is None else jump
        broker.call_stale_after(self.policy.max_stale_bars)
        broker.bind([*self.policy.limits(), *self.limits], self.instruments, rule)

    def stop(self) -> None:
        """Give the Cerebro its own broker back."""
        if self._installed is not None:
            self._installed.uninstall()
            self._installed = None

    def get_notifications(self) -> tuple[Any, ...]:
        """Return no notifications: Cerebro asks every store for them."""
        return ()


class _PolicyJournal(RiskJournal):
    """The journal of a protected run; its first line names the source of sizes.

    It also notices, at the close of every bar, that a strategy has set another broker.
    """

    params = dict(policy=None)
    gate: RiskBroker | None = None

    def _next(self) -> None:
        if self.strategy.broker is not self.gate or self.strategy.cerebro._broker is not self.gate:
            self.gate = RiskBroker.of(self.strategy)

    _prenext = _nextstart = _next

    def start(self) -> None:
        """Give a strategy with Backtrader's default sizer that of the policy."""
        strategy, policy = self.strategy, self.p.policy
        gate = self.gate = RiskBroker.of(strategy)
        super().start()
        if strategy is strategy.cerebro.runningstrats[0]:
            mode = "observe: nothing is changed" if gate.observe else "enforce"
            _log.info("%s; %s", mode, policy.describe().replace("\n", "; "))
        if gate.observe:
            reason = "observe: these lines are the decisions that would have been made"
            gate.journal.record(gate.latest, "", "protect", "note", reason=reason)
            return
        sizer = strategy.getsizer()
        default = type(sizer) is bt.sizers.FixedSize and sizer.p.stake == 1
        if not policy.sizer:
            reason = f"sizes come from {type(sizer).__name__}: the policy leaves them as they are"
        elif default and not _chosen_sizer(strategy):
            sizer = HalfKellySizer(**policy.params(SizerSettings))
            sizer.by_policy = True
            strategy.setsizer(sizer)
            reason = "sizes come from HalfKellySizer: the strategy had the default of one unit"
        else:
            reason = f"sizes come from {type(sizer).__name__}, and the gate trims them"
        gate.journal.record(gate.latest, "", "protect", "note", reason=reason)

    def stop(self) -> None:
        """Check the broker a last time, and drop the gate, which must not be pickled."""
        self._next()
        self._warn()
        self.gate = None
        super().stop()

    def _policy_text(self) -> str | None:
        try:
            text: str = self.p.policy.to_toml()
        except TypeError:  # a value that TOML does not have: `verify` must be given the policy
            return None
        return text

    def _warn(self) -> None:
        """Log what a backtest that the rules have shaped does not show by itself."""
        gate, strategy = self.gate, self.strategy
        cerebro = strategy.cerebro
        if gate is None or gate.observe or cerebro._dooptimize or cerebro._dolive:
            return
        if not any(traded(one) for one in cerebro.runningstrats):
            text = refusals([line[2:4] + line[-1:] for line in gate.journal.lines])
            if text and strategy is cerebro.runningstrats[0]:
                _log.warning("%s", text, extra={"topic": NO_TRADES})
        if text := halt_note(strategy, gate):
            _log.warning("%s", text)


def _chosen_sizer(strategy: bt.Strategy) -> Any:
    """Return the sizer that ``addsizer`` or ``addsizer_byidx`` set for this strategy, or None."""
    sizers = strategy.cerebro.sizers
    places = [i for i, s in enumerate(strategy.cerebro.runningstrats) if s is strategy]
    return sizers.get(places[0], sizers.get(None))
