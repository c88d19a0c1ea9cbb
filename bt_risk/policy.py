"""Policy: the parameters of all five rules at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import pandas as pd
import tomli_w

from bt_risk.components.settings import KellySettings
from bt_risk.errors import ParameterError, check_choice, check_names, raised_as
from bt_risk.limits.base import Limit, NotionalLimit, RiskPerTrade
from bt_risk.limits.exit_rules import BreakEven
from bt_risk.limits.guard_config import check_guards, guard_from, guard_table
from bt_risk.limits.portfolio import portfolio_limits
from bt_risk.limits.presets import PRESETS
from bt_risk.limits.settings import EXPOSURE_LIMIT, LimitSettings, TradeSettings
from bt_risk.limits.trade_guards import Guard
from bt_risk.monitors.settings import (
    ATTACHED,
    BreakerSettings,
    BreakerTrigger,
    DrawdownSettings,
    StopSettings,
)
from bt_risk.parameters import ATRLimit, EquityLimit, Flag, Settings, read_toml
from bt_risk.portfolio.bar_check import BAR_JUMP
from bt_risk.portfolio.instrument_facts import check_instruments

__all__ = ["Policy", "policy_of"]


@dataclass(frozen=True, kw_only=True)
class Policy(KellySettings, StopSettings, DrawdownSettings, LimitSettings, TradeSettings):
    """The five rules and their limits; ratios are fractions, durations are bars.

    The parameters are those of `HalfKellySizer`, `ATRTrailingStop`, `DrawdownBreaker` and
    `CorrelationCap` (whose `estimator` is `correlation_estimator` here, and the breaker's `trigger`
    `drawdown_trigger`), and `risk_limit`: what
    one position may lose at its stop, a fraction of equity.

    `guards` are additional rules: ``guards=[DailyLossLimit(0.03), CooldownGuard(5)]``, in a file
    one table each: ``[[guards]]``, ``guard = "DailyLossLimit"`` and its parameters.
    A limit of risk of 0.5 and more, and a drawdown of 1, are refused as percent that were written
    as numbers, here and in `instruments`, unless ``allow_extreme=True`` is given.
    ``trailing_stop=False`` leaves the stops to the strategy (risk is then judged at its own stop
    orders, else at ``atr_multiple`` ATRs), ``sizer=False`` the sizes; every order is judged all
    the same.

    Examples
    --------
    >>> Policy(drawdown_limit=0.15).risk_limit
    0.01
    >>> try:
    ...     Policy(risk_limit=1)
    ... except ParameterError as error:
    ...     print(error)
    Policy: risk_limit must be below 0.5, which is 50 %; got 1. \
Write 0.01 for 1 %, or add allow_extreme=True if you mean it.
    """

    drawdown_trigger: BreakerTrigger = "close"
    exposure_limit: EquityLimit = EXPOSURE_LIMIT
    bar_jump: ATRLimit = BAR_JUMP
    instruments: dict[str, dict[str, Any]] | None = None
    guards: tuple[Guard, ...] = ()
    trailing_stop: Flag = True
    sizer: Flag = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("guards", check_guards("Policy", self.guards))
        if not self.trailing_stop and any(
            isinstance(g, BreakEven) and g.active for g in self.guards
        ):
            remedy = "It moves the stop of bt_risk: leave trailing_stop as it is."
            raise ParameterError("Policy", "trailing_stop", "True with BreakEven", False, remedy)
        check_instruments("Policy", self.instruments, self.allow_extreme)

    @classmethod
    def checks(cls, name: str, **params: Any) -> Self:
        """Return a policy with the guards of a preset, before any that are given.

        Parameters
        ----------
        name : {"market-access"}
            Guards of a single order and of repetition that regulators ask for:
            docs/market-access.md says which rule each of them answers.
        **params
            Parameters of the policy.

        Examples
        --------
        >>> [guard.name for guard in Policy.checks("market-access").guards]
        ['PriceCollar', 'DuplicateOrder', 'OrderRateLimit', 'RepeatedOrders']
        """
        check_choice("Policy.checks", "name", name, tuple(PRESETS))
        guards = check_guards("Policy", params.pop("guards", ()))
        return cls(guards=(*PRESETS[name], *guards), **params)

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
        risk = f"{_percent(self.risk_limit)} of equity at its stop{self._costs()}"
        unit = "at the stops" if self.exposure_unit == "risk" else "in positions"
        atr = f"{self.atr_multiple:g} x ATR({self.atr_period})"
        kelly = f"{self.kelly_scale:g} x Kelly of the last {self.lookback} trades"
        size = f"{kelly}, at most {_percent(self.kelly_limit)} of equity at risk"
        attached = ", active within the bar of the entry" if self.entry_stop == ATTACHED else ""
        stop = f"{atr} behind the {self.anchor}, {self.trigger}{attached}"
        halt = "ends the run" if self.action == "stop" else self._pause()
        flat = "closes everything and " if self.flatten else ""
        inside = ", each bar at its worst," if self.drawdown_trigger == "intrabar" else ""
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
                f"drawdown: {_percent(self.drawdown_limit)} below the high-water mark{inside} "
                f"{flat}{halt}",
            ),
        ]
        described = [
            text if on is not None else f"{text.partition(':')[0]}: no limit" for on, text in lines
        ]
        optional = [text for on, text in self._optional(unit) if on is not None]
        guards = [guard.describe() for guard in self.guards if guard.active]
        return "\n".join([*described[:-1], *optional, described[-1], *guards])

    def _repr_html_(self) -> str:
        """Return `describe` as a table, for a notebook."""
        rows = [line.partition(": ")[::2] for line in self.describe().splitlines()]
        frame = pd.DataFrame(rows, columns=["rule", "limit"])
        html: str = frame.to_html(index=False, justify="left", border=0)
        return html

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
            (self.gap_limit, f"gap: {at_most['gap_limit']} lost in {self._gap()}"),
            (self.volatility_limit, f"volatility: {at_most['volatility_limit']} a year, ex-ante"),
        ]

    def _gap(self) -> str:
        """Return which gap is assumed, in words."""
        least = f", {_percent(self.gap_floor)} of the price at least" if self.gap_floor else ""
        return f"a gap like the worst of {self.window} bars{least}"

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

    def _costs(self) -> str:
        """Return which costs are part of the risk, in words."""
        slips = f" and slippage of {_percent(self.slippage)}" if self.slippage else ""
        return f", commission{slips} included" if self.costs_in_risk else ""

    def _pause(self) -> str:
        until = "until rearm()" if self.cooldown_bars is None else f"for {self.cooldown_bars} bars"
        return f"refuses entries {until}"

    def limits(self) -> list[Limit]:
        """Return new limits for a run; those that are switched off are not active."""
        return [
            RiskPerTrade(
                self.risk_limit,
                self.costs_in_risk,
                self.slippage,
                allow_extreme=self.allow_extreme,
            ),
            NotionalLimit(self.notional_limit),
            *portfolio_limits(self),
            *self.guards,
        ]

    def params(self, kind: type[Settings]) -> dict[str, Any]:
        """Return the parameters of a component that the policy has, by name."""
        own = {one.name for one in fields(self)}
        values = {one.name: getattr(self, one.name) for one in fields(kind) if one.name in own}
        return values | ({"trigger": self.drawdown_trigger} if kind is BreakerSettings else {})


def policy_of(component: str, policy: Any, named: Mapping[str, Any] | None = None) -> Policy:
    """Return the policy that a function was given: as one, a dict, a path or by parameters.

    Parameters
    ----------
    component : str
        The function, for messages.
    policy : Policy, dict, path or None
        The default policy where it is None.
    named : dict, optional
        Parameters that the function was given by name.
    """
    own = dict(named or {})
    if policy is None or isinstance(policy, Mapping):
        own = {**(policy or {}), **own}
        check_names(component, own, [one.name for one in fields(Policy)])
        return Policy(**own)
    if isinstance(policy, (str, Path)):
        policy = Policy.from_toml(policy)
    if not isinstance(policy, Policy):
        raise ParameterError(component, "policy", "a bt_risk.Policy, a dict or a path", policy)
    if own:
        name, value = next(iter(own.items()))
        remedy = f"Write Policy({name}={value!r}, ...), or dataclasses.replace(policy, ...)."
        constraint = "part of the policy where one is given"
        raise ParameterError(component, name, constraint, value, remedy)
    return policy


def _percent(fraction: float | None) -> str:
    return "no limit" if fraction is None else f"{100 * fraction:g} %"
