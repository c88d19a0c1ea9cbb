"""Two policies compared: what the second one allows that the first one did not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

from bt_risk.limits.name_guards import Allow
from bt_risk.limits.trade_guards import Guard
from bt_risk.policy import Policy

__all__ = ["CHANGED", "LOOSENED", "TIGHTENED", "Change", "policy_changes"]

LOOSENED, TIGHTENED, CHANGED = "loosened", "tightened", "changed"

# A larger value allows more; None is no limit.
_CEILINGS = {
    "risk_limit",
    "notional_limit",
    "exposure_limit",
    "gross_limit",
    "net_limit",
    "position_limit",
    "group_limit",
    "correlation_limit",
    "correlated_scale",
    "volatility_limit",
    "gap_limit",
    "drawdown_limit",
    "lifetime_limit",
    "taper_from",
    "confirmations",
    "kelly_scale",
    "kelly_limit",
    "warmup_risk",
    "probe_risk",
    "max_stale_bars",
    "bar_jump",
    "stopout_limit",
    "streak_limit",
    "daily_loss_limit",
    "amount",
    "daily",
    "best_day_limit",
    "profit_target",
    "give_back",
    "profit_from",
    "bar_limit",
    "minute_limit",
    "day_limit",
    "atr",
    "fraction",
    "units",
    "currency",
    "volume_share",
    "n",
    "leverage",
    "call",
}
# A smaller value allows more.
_FLOORS = {
    "hysteresis",
    "min_periods",
    "min_trades",
    "atr_floor",
    "slippage",
    "edge_floor",
    "gap_floor",
    "within",
    "days",
}
# A larger value allows less, and None most of all: a pause without an end, a floor without a lock.
_PAUSES = {"cooldown_bars", "lock"}
# Words and switches from the strictest on.
_ORDERS: dict[str, tuple[Any, ...]] = {
    "on_exposure": ("reject", "trim"),
    "on_correlation": ("reject", "trim"),
    "on_volatility": ("reject", "trim"),
    "on_size": ("reject", "trim"),
    "unknown": ("refuse", "allow"),
    "action": ("stop", "pause", "report"),
    "on_daily": ("halt", "pause"),
    "mode": (
        *("trailing_intraday", "trailing_eod", "trailing_closed", "static"),
        *("isolated", "cross"),
    ),
    "entry_stop": ("attached", "next bar"),
    "flatten": (True, False),
    "downside": (True, False),
    "costs_in_risk": (True, False),
    "trailing_stop": (True, False),
    "allow_extreme": (False, True),
    "scope": ("all", "data"),
    "side_aware": (False, True),
    "drawdown_trigger": ("intrabar", "close"),
}
# What moves a rule without a direction: of these a change is named, and counts as neither.
_NEUTRAL = {
    "tiers",
    "liquidation_fee",
    "funding",
    "borrow_rate",
    "bars",
    "r",
    "at_r",
    "exposure_unit",
    "window",
    "correlation_estimator",
    "halflife",
    "multi_bar",
    "periods_per_year",
    "rearm_at",
    "atr_period",
    "atr_multiple",
    "anchor",
    "buffer",
    "trigger",
    "base",
    "reset",
    "daily_base",
    "reference",
    "of",
    "target",
    "initial_balance",
    "tz",
    "min_step",
    "lookback",
    "recalculate",
    "estimator",
    "confidence",
    "history",
    "win_rate",
    "payoff_ratio",
    "pool",
    "sizer",
    "step",
    "min_notional",
    "tick",
    "negative_prices",
    "unit",
}


@dataclass(frozen=True)
class Change:
    """One difference between two policies.

    Attributes
    ----------
    kind : str
        `LOOSENED`: the second policy allows more; `TIGHTENED`: it allows less; `CHANGED`: a
        parameter without such a direction. A parameter whose direction is not known counts as
        loosened.
    key : str
        The parameter; with the name of the instrument, group or guard where it belongs to one.
    before, after : object
        The two values; None for no limit, and for what the other policy does not have.
    """

    kind: str
    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.kind}: {self.key} {_words(self.before)} -> {_words(self.after)}"


def policy_changes(before: Policy, after: Policy) -> list[Change]:
    """Return every difference between two policies, in the sequence of the parameters."""
    found: list[Change] = []
    for one in fields(Policy):
        if one.name not in _PARTS:
            old, new = getattr(before, one.name), getattr(after, one.name)
            if old != new:
                found.append(Change(_kind(one.name, old, new), one.name, old, new))
    for compare in _PARTS.values():
        found += compare(before, after)
    return found


def _kind(key: str, before: Any, after: Any) -> str:
    """Return what a change of one parameter from a value to another means."""
    if key in _NEUTRAL or isinstance(before or after, str) and key == "currency":
        return CHANGED
    words = _ORDERS.get(key, ())
    if before in words and after in words:
        looser = words.index(after) > words.index(before)
    elif key in _CEILINGS:
        looser = _number(after) > _number(before)
    elif key in _FLOORS | _PAUSES:
        looser = _number(after) < _number(before)
    else:
        return LOOSENED
    return LOOSENED if looser else TIGHTENED


def _number(value: Any) -> float:
    return math.inf if value is None else float(value)


def _of_instruments(before: Policy, after: Policy) -> Iterable[Change]:
    """Yield the changes of the facts of each instrument; without its own, rule 1's limit counts."""
    old, new = before.instruments or {}, after.instruments or {}
    for name in dict.fromkeys([*old, *new]):
        was, facts = old.get(name, {}), new.get(name, {})
        for key in dict.fromkeys([*was, *facts]):
            if was.get(key) != facts.get(key):
                values = was.get(key), facts.get(key)
                if key == "risk_limit":
                    values = was.get(key, before.risk_limit), facts.get(key, after.risk_limit)
                kind = CHANGED if values[0] == values[1] else _kind(key, *values)
                yield Change(kind, f"instruments.{name}.{key}", *values)


def _of_groups(before: Policy, after: Policy) -> Iterable[Change]:
    """Yield the groups that have lost or won names."""
    old, new = before.groups or {}, after.groups or {}
    for name in dict.fromkeys([*old, *new]):
        was, members = sorted(old.get(name, ())), sorted(new.get(name, ()))
        if was != members:
            kind = TIGHTENED if set(was) <= set(members) else LOOSENED
            yield Change(kind, f"groups.{name}", was or None, members or None)


def _of_guards(before: Policy, after: Policy) -> Iterable[Change]:
    """Yield the guards that have come or gone, and the changes of each of the others.

    Of several guards of one kind the equal ones are paired first, then the others in sequence.
    """
    for name in dict.fromkeys([one.name for one in (*before.guards, *after.guards)]):
        old, new = _named(before, name), _named(after, name)
        for was in list(old):
            if was in new:
                old.remove(was)
                new.remove(was)
        for was, guard in zip_longest(old, new):
            if was is None or guard is None:
                kind = TIGHTENED if was is None else LOOSENED
                texts = [None if one is None else one.describe() for one in (was, guard)]
                yield Change(kind, name, *texts)
                continue
            for one in fields(guard):
                values = getattr(was, one.name), getattr(guard, one.name)
                if values[0] != values[1]:
                    if one.name == "names":
                        kind = _listed(guard, *map(set, values))
                    elif one.name == "side":
                        kind = _sided(guard, *values)
                    elif one.name == "trigger":  # the stop of a policy has one too
                        kind = LOOSENED if values[1] == "close" else TIGHTENED
                    else:
                        kind = _kind(one.name, *values)
                    yield Change(kind, f"{name}.{one.name}", *values)


def _sided(guard: Guard, before: int | None, after: int | None) -> str:
    """Return what a change of the side means: one in place of the other allows something new."""
    both, one = (after, before) if isinstance(guard, Allow) else (before, after)
    return TIGHTENED if one is None and both is not None else LOOSENED


def _listed(guard: Guard, before: set[str], after: set[str]) -> str:
    """Return what a change of a list of names means: `Allow` passes them, `Deny` refuses them."""
    more, fewer = after - before, before - after
    looser = more if isinstance(guard, Allow) else fewer
    return LOOSENED if looser else TIGHTENED


def _named(policy: Policy, name: str) -> list[Guard]:
    return [guard for guard in policy.guards if guard.name == name]


_PARTS: dict[str, Callable[[Policy, Policy], Iterable[Change]]] = {
    "groups": _of_groups,
    "instruments": _of_instruments,
    "guards": _of_guards,
}


def _words(value: Any) -> str:
    if value is None or value == math.inf:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
