"""What a run was, for a journal that can be decided again: feeds, strategies, broker, rules."""

from __future__ import annotations

import math
from typing import Any

import backtrader as bt

from bt_risk.gate.broker import RiskBroker

__all__ = ["rules_of", "run_settings"]

# The parameters of a broker that change what it does with an order; its cash stands by itself.
_SKIPPED = ("commission", "cash")
_PLAIN = (bool, int, float, str, type(None))


def run_settings(gate: RiskBroker, policy: str | None) -> dict[str, Any]:
    """Return what a run was in plain values, at its end; `policy` is TOML."""
    cerebro = gate.cerebro
    return {
        "call": "run",
        "mode": "observe" if gate.observe else "enforce",
        "live": not gate.venue.direct,
        "restored": not getattr(getattr(gate.recovery, "file", None), "new", True),
        "policy": policy,
        "rules": rules_of(gate),
        "datas": [_feed(data) for data in cerebro.datas],
        "strategies": [
            {
                "name": type(one).__name__,
                "sizer": type(one.getsizer()).__name__,
                "by_policy": getattr(one.getsizer(), "by_policy", False),
            }
            for one in cerebro.runningstrats
        ],
        "cheat_on_open": bool(cerebro.p.cheat_on_open),
        "broker": _broker(gate),
    }


def rules_of(gate: RiskBroker) -> list[str]:
    """Return the names of the limits and monitors of a run."""
    return sorted(type(one).__name__ for one in (*gate.registry.limits, *gate.registry.monitors))


def _feed(data: Any) -> dict[str, Any]:
    count = len(data)
    try:
        first, last = data.datetime[1 - count], data.datetime[0]
    except IndexError:  # with exactbars it has forgotten it, or there was no bar
        first = last = math.nan
    derived = data.resampling or data.replaying or data._compensate is not None
    return {
        "name": data._name,
        "bars": count,
        "first": float(first),
        "last": float(last),
        "derived": bool(derived or data._filters),
    }


def _broker(gate: RiskBroker) -> dict[str, Any] | None:
    """Return how Backtrader's own simulation was set, None for any other broker."""
    inner = gate.inner
    if type(inner) is not bt.brokers.BackBroker:
        return None
    params = {name: getattr(inner.p, name) for name in inner.p._getkeys() if name not in _SKIPPED}
    commissions = {name or "": _commission(one) for name, one in inner.comminfo.items()}
    if not all(isinstance(value, _PLAIN) for value in params.values()) or None in (
        *commissions.values(),
    ):
        return None
    return {"cash": float(inner.startingcash), "params": params, "commissions": commissions}


def _commission(scheme: Any) -> dict[str, Any] | None:
    """Return the parameters of a scheme of Backtrader's own, None for any other."""
    if type(scheme) is not bt.CommInfoBase:
        return None
    params = {name: getattr(scheme.p, name) for name in scheme.p._getkeys()}
    # It has been applied to the commission already.
    return params | {"percabs": True}
