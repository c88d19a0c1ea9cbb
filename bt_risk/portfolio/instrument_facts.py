"""Facts of instruments: what a user says of them beyond what their data feeds tell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bt_risk.errors import (
    ParameterError,
    check_extreme,
    check_flag,
    check_fraction,
    check_positive,
    check_text,
)

__all__ = ["check_instruments"]

_FACTS: dict[str, Callable[..., Any]] = {
    "step": check_positive,
    "min_notional": partial(check_positive, zero=True),
    "tick": check_positive,
    "atr_multiple": check_positive,
    "negative_prices": check_flag,
    "risk_limit": check_fraction,
    "allow_extreme": check_flag,
    "currency": check_text,
}


def check_instruments(
    component: str, instruments: Any, allow_extreme: bool = False
) -> dict[str, dict[str, float]]:
    """Return a copy of ``{name: {fact: value}}``, every fact checked; None gives no facts.

    A `risk_limit` of 0.5 and more is percent by mistake, unless `allow_extreme` is given, here or
    among the facts of the instrument.
    """
    checked: dict[str, dict[str, float]] = {}
    facts_of = {} if instruments is None else instruments
    if not isinstance(facts_of, dict) or not all(isinstance(f, dict) for f in facts_of.values()):
        raise ParameterError(
            component, "instruments", "a dict of dicts by name of the data feed", instruments
        )
    for name, facts in facts_of.items():
        for fact, value in facts.items():
            if fact not in _FACTS:
                raise ParameterError(
                    component,
                    f"instruments[{name!r}]",
                    f"facts named {', '.join(_FACTS)}",
                    fact,
                )
            _FACTS[fact](component, f"instruments[{name!r}][{fact!r}]", value)
        allowed = allow_extreme or bool(facts.get("allow_extreme"))
        param = f"instruments[{name!r}]['risk_limit']"
        check_extreme(component, param, facts.get("risk_limit"), allowed)
        checked[name] = dict(facts)
    return checked
