"""All five rules at once: a policy, and the one line that protects a Cerebro with it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import backtrader as bt
import tomli_w

from bt_risk.components.drawdown_breaker import DrawdownBreaker
from bt_risk.components.half_kelly import HalfKellySizer
from bt_risk.components.risk_journal import RiskJournal
from bt_risk.components.settings import KellySettings, SizerSettings
from bt_risk.components.trailing_stop import ATRTrailingStop
from bt_risk.engine.fast import fast as run_fast
from bt_risk.errors import ParameterError, check_choice, check_flag, raised_as
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.bypass import ON_BYPASS
from bt_risk.limits.base import Limit, NotionalLimit, RiskPerTrade, check_limits
from bt_risk.limits.guard_config import check_guards, guard_from, guard_table
from bt_risk.limits.portfolio import portfolio_limits
from bt_risk.limits.settings import EXPOSURE_LIMIT, LimitSettings, TradeSettings
from bt_risk.limits.trade_guards import Guard
from bt_risk.live.settings import Live
from bt_risk.live.store_settings import StoreSettings
from bt_risk.monitors.settings import BreakerSettings, DrawdownSettings, StopSettings
from bt_risk.parameters import ATRLimit, EquityLimit, Flag, Settings, read_toml
from bt_risk.portfolio.bar_check import BAR_JUMP
from bt_risk.portfolio.instrument import check_instruments
from bt_risk.state.file import check_state

__all__ = ["Policy", "protect"]

_log = logging.getLogger("bt_risk")


@dataclass(frozen=True, kw_only=True)
class Policy(KellySettings, StopSettings, DrawdownSettings, LimitSettings, TradeSettings):
    """The five rules and their limits; ratios are fractions, durations are bars.

    The parameters are those of `HalfKellySizer`, `ATRTrailingStop`, `DrawdownBreaker` and
    `CorrelationCap` (whose `estimator` is `correlation_estimator` here), and `risk_limit`: what
    one position may lose at its stop, a fraction of equity.

    `guards` are additional rules: ``guards=[DailyLossLimit(0.03), CooldownGuard(5)]``, in a file
    one table each: ``[[guards]]``, ``guard = "DailyLossLimit"`` and its parameters.
    A limit of risk of 0.5 and more, and a drawdown of 1, are refused as percent that were written
    as numbers, unless ``allow_extreme=True`` is given.
    ``trailing_stop=False`` leaves the stops to the strategy (risk is then judged at its own stop
    orders, else at ``atr_multiple`` ATRs), ``sizer=False`` the sizes; every order is judged all
    the same.

    Examples
    --------
    >>> Policy(drawdown_limit=0.15).risk_limit
    0.01
    >>> Policy(risk_limit=1)
    Traceback (most recent call last):
    bt_risk.errors.ParameterError: Policy: risk_limit must be below 0.5, which is 50 %; got 1. \
Write 0.01 for 1 %, or add allow_extreme=True if you mean it.
    """

    exposure_limit: EquityLimit = EXPOSURE_LIMIT
    bar_jump: ATRLimit = BAR_JUMP
    instruments: dict[str, dict[str, Any]] | None = None
    guards: tuple[Guard, ...] = ()
    trailing_stop: Flag = True
    sizer: Flag = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("guards", check_guards("Policy", self.guards))
        check_instruments("Policy", self.instruments)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Return the policy of a TOML file: the fields by name, ``inf`` for no limit.

        Raises ParameterError with the file, the key, the constraint and the value.
        """
        path = Path(path)
        missing = ParameterError("Policy", "path", "an existing file", str(path))
        known = sorted([field.name for field in fields(cls)], key="allow_extreme".__eq__)
        values = read_toml(path, known, missing, "Keys are at the top level.")
        history = values.get("history", [])
        if not isinstance(history, list):
            raise ParameterError(str(path), "history", "a list of numbers", history)
        if history:
            values["history"] = tuple(history)
        guards = values.get("guards", [])
        if not isinstance(guards, list):
            raise ParameterError(str(path), "guards", "a list of tables, [[guards]]", guards)
        values["guards"] = tuple(guard_from(str(path), table) for table in guards)
        with raised_as(str(path)):
            return cls(**values)

    def to_toml(self, path: str | Path | None = None) -> str:
        """Return the policy as TOML, and write it to `path` if one is given."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in self.switches():
                value = math.inf
            if value is not None and (value or field.name != "allow_extreme"):
                values[field.name] = list(value) if isinstance(value, tuple) else value
        values["guards"] = [guard_table(guard) for guard in self.guards]
        text = tomli_w.dumps(values)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def describe(self) -> str:
        """Return every rule in words, with its unit, one on each line."""
        risk = f"{_percent(self.risk_limit)} of equity at its stop"
        unit = "at the stops" if self.exposure_unit == "risk" else "in positions"
        atr = f"{self.atr_multiple:g} x ATR({self.atr_period})"
        kelly = f"{self.kelly_scale:g} x Kelly of the last {self.lookback} trades"
        size = f"{kelly}, at most {_percent(self.kelly_limit)} of equity at risk"
        stop = f"{atr} behind the {self.anchor}, {self.trigger}"
        halt = "ends the run" if self.action == "stop" else self._pause()
        flat = "closes everything and " if self.flatten else ""
        lines = [
            (self.risk_limit, f"risk per trade: a position loses at most {risk}"),
            (True, f"size: {size if self.sizer else 'as the strategy has it'}"),
            (True, f"stop: {stop if self.trailing_stop else 'as the strategy has it'}"),
            (
                self.notional_limit,
                f"one position: worth at most {_percent(self.notional_limit)} of equity",
            ),
            (
                self.exposure_limit,
                f"one direction: at most {_percent(self.exposure_limit)} of equity {unit}",
            ),
            (
                self.correlation_limit,
                f"correlation: at most {self.correlation_limit} with what is held on the same "
                f"side of the bet, over {self.window} bars{self._estimate()}",
            ),
            (
                self.drawdown_limit,
                f"drawdown: {_percent(self.drawdown_limit)} below the high-water mark {flat}{halt}",
            ),
        ]
        described = [
            text if on is not None else f"{text.partition(':')[0]}: no limit" for on, text in lines
        ]
        optional = [text for on, text in self._optional(unit) if on is not None]
        guards = [guard.describe() for guard in self.guards if guard.active]
        return "\n".join([*described[:-1], *optional, described[-1], *guards])

    def _optional(self, unit: str) -> list[tuple[Any, str]]:
        """Return the limits that are off by default, in words."""
        limits = {name: _percent(getattr(self, name)) for name in self.switches()}
        at_most = {name: f"at most {limit} of equity" for name, limit in limits.items()}
        groups = "; ".join(f"{group}: {', '.join(of)}" for group, of in (self.groups or {}).items())
        return [
            (self.gross_limit, f"long and short together: {at_most['gross_limit']} {unit}"),
            (self.net_limit, f"long less short: {at_most['net_limit']} {unit}"),
            (self.position_limit, f"one instrument: {at_most['position_limit']} {unit}"),
            (self.group_limit, f"one group: {at_most['group_limit']} {unit} ({groups})"),
            (self.volatility_limit, f"volatility: {at_most['volatility_limit']} a year, ex-ante"),
        ]

    def _estimate(self) -> str:
        """Return how the measure of correlations differs from the default, in words."""
        fading = f"weights that halve every {self.halflife} of them"
        kinds = {"rolling": "", "ewm": fading, "ledoit-wolf": "drawn towards their mean"}
        words = [
            (self.correlation_estimator != "rolling", kinds[self.correlation_estimator]),
            (self.multi_bar > 1, f"returns of {self.multi_bar} bars"),
            (self.downside, "of falls where it is worse"),
            (self.hysteresis, f"released {self.hysteresis} below"),
        ]
        return "".join(f", {text}" for on, text in words if on)

    def _pause(self) -> str:
        until = "until rearm()" if self.cooldown_bars is None else f"for {self.cooldown_bars} bars"
        return f"refuses entries {until}"

    def limits(self) -> list[Limit]:
        """Return new limits for a run; those that are switched off are not active."""
        return [
            RiskPerTrade(self.risk_limit),
            NotionalLimit(self.notional_limit),
            *portfolio_limits(self),
            *self.guards,
        ]

    def params(self, kind: type[Settings]) -> dict[str, Any]:
        """Return the parameters of a component that the policy has, by name."""
        own = {one.name for one in fields(self)}
        return {one.name: getattr(self, one.name) for one in fields(kind) if one.name in own}


def _percent(fraction: float | None) -> str:
    return "no limit" if fraction is None else f"{100 * fraction:g} %"


def protect(
    cerebro: bt.Cerebro,
    policy: Policy | str | Path | None = None,
    mode: str = "enforce",
    *,
    limits: Sequence[Limit] = (),
    journal: str | Path | None = None,
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
    policy : Policy or path, optional
        Default: ``Policy()``; a path is read as TOML.
    mode : {"enforce", "observe"}
        "observe" changes nothing of the run: the journal has the decisions that would have been
        made on the same orders. There is no sizer, stop, rescue or halt then.
    limits : list, optional
        More limits that every order is judged by, such as your own: see `Limit`.
    journal : str or path, optional
        CSV file that the decisions are written to at the end of each run.
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
        Settings for a real broker, such as ``stale_after=90``: see `Live`.

    Notes
    -----
    Adds the analyzers ``riskjournal`` and ``drawdownbreaker`` and the observer
    ``atrtrailingstop``, which a strategy finds under these names after the run.
    """
    policy = Policy() if policy is None else policy
    if isinstance(policy, (str, Path)):
        policy = Policy.from_toml(policy)
    if not isinstance(policy, Policy):
        raise ParameterError("protect", "policy", "a bt_risk.Policy or a path", policy)
    if any(isinstance(store, _Install) for store in cerebro.stores):
        raise ParameterError("protect", "cerebro", "protected once", cerebro)
    observe = check_choice("protect", "mode", mode, ("enforce", "observe")) == "observe"
    state_file = check_state("protect", state)
    if observe and state_file is not None:
        remedy = "A run that decides nothing has nothing to save."
        raise ParameterError("protect", "state", "None in observe mode", str(state_file), remedy)
    added = check_limits("protect", limits)
    check_flag("protect", "fast", fast)
    check_choice("protect", "on_bypass", on_bypass, ON_BYPASS)
    instruments = policy.instruments
    if store is not None:
        own = _store_settings(store)
        live, instruments = own.live(live), own.facts(instruments)
    settings = Live.named("protect", **live) if live else None
    cerebro.addstore(
        _Install(cerebro, policy, added, observe, state_file, on_bypass, settings, instruments)
    )
    if fast:
        run_fast(cerebro)
    if policy.trailing_stop and not observe:
        cerebro.addobserver(ATRTrailingStop, **policy.params(StopSettings))
    cerebro.addanalyzer(DrawdownBreaker, **policy.params(BreakerSettings))
    cerebro.addanalyzer(_PolicyJournal, path=journal, policy=policy, _name="riskjournal")


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
    ) -> None:
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
            strategy.setsizer(HalfKellySizer(**policy.params(SizerSettings)))
            reason = "sizes come from HalfKellySizer: the strategy had the default of one unit"
        else:
            reason = f"sizes come from {type(sizer).__name__}, and the gate trims them"
        gate.journal.record(gate.latest, "", "protect", "note", reason=reason)

    def stop(self) -> None:
        """Check the broker a last time, and drop the gate, which must not be pickled."""
        self._next()
        self.gate = None
        super().stop()


def _chosen_sizer(strategy: bt.Strategy) -> Any:
    """Return the sizer that ``addsizer`` or ``addsizer_byidx`` set for this strategy, or None."""
    sizers = strategy.cerebro.sizers
    places = [i for i, s in enumerate(strategy.cerebro.runningstrats) if s is strategy]
    return sizers.get(places[0], sizers.get(None))
