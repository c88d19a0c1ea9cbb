"""The indicators that an expression can name: Backtrader's own, and TA-Lib's as `bt.talib`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.errors import ParameterError, did_you_mean
from bt_risk.rules.expressions import LINES, Call

__all__ = ["Entry", "counts_whole", "find", "indicators"]

SOURCES = ("bt", "talib")
# What others are made from, or what has no value: one needs a line of alphas, one a function that
# pandas no longer has, and one takes its own result away from itself.
_LEFT_OUT = {
    "ApplyN",
    "BaseApplyN",
    "Envelope",
    "ExponentialSmoothingDynamic",
    "FindFirstIndex",
    "FindLastIndex",
    "Indicator",
    "MovingAverageBase",
    "OLS_BetaN",
    "OperationN",
    "Oscillator",
    "OscillatorMixIn",
    "PeriodN",
    "ReduceN",
    "ZeroLagIndicatorOscillator",
}
# Written into bars of the past: the value at a close comes later.
_LATER = "chikou_span"
# Periods beyond this are a mistake; some indicators reserve room for all of theirs at once.
_LONGEST = 100_000


@dataclass(frozen=True)
class Entry:
    """One indicator.

    Attributes
    ----------
    name, source : str
        As in an expression, and ``"bt"`` or ``"talib"``.
    kind : type
        Its class.
    inputs : tuple of str or None
        Lines that it reads by itself; None where it takes what it needs from the bars. A name that
        is no line must be given.
    outputs : tuple of str
        Its own lines, the first is meant where none is named.
    parameters : dict of str to float
        Its numbers and their defaults, in sequence.
    aliases : list of str
        Its other names.
    """

    name: str
    source: str
    kind: Any
    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...]
    parameters: dict[str, float]
    aliases: list[str] = field(default_factory=list)

    @property
    def least(self) -> int:
        """Return how many lines must be given."""
        if self.inputs is None:
            return int(self.kind._mindatas) if self.kind._mindatas > 1 else 0
        return 0 if set(self.inputs) <= set(LINES) else len(self.inputs)

    def arguments(self, component: str, param: str, call: Call) -> dict[str, float]:
        """Return the parameters of a call by name, each checked."""
        names = list(self.parameters)
        if len(call.numbers) > len(names):
            takes = f"the numbers {', '.join(names)}" if names else "no number"
            raise _error(component, param, call, f"{self.name} takes {takes}.")
        given = list(zip(names, call.numbers, strict=False)) + list(call.named)
        values: dict[str, float] = {}
        for name, value in given:
            if name not in self.parameters:
                near = did_you_mean(name, names).removeprefix("; ").capitalize()
                remedy = near or f"{self.name} takes {', '.join(names) or 'no number'}."
                raise _error(
                    component, param, call, f"{name!r} is none of its parameters. {remedy}"
                )
            if name in values:
                raise _error(component, param, call, f"{name!r} is given twice.")
            values[name] = self._number(component, param, call, name, value)
        return values

    def _number(self, component: str, param: str, call: Call, name: str, value: float) -> float:
        if isinstance(self.parameters[name], float) or "band" in name:
            return value
        least = 0 if "matype" in name else 1  # all others count bars
        if value != int(value) or not least <= value <= _LONGEST:
            remedy = f"{name} must be a whole number from {least} to {_LONGEST}."
            raise _error(component, param, call, remedy)
        return int(value)


def find(component: str, param: str, call: Call) -> Entry:
    """Return the indicator of a call, Backtrader's where TA-Lib has one of that name, too."""
    name, source = call.name.lower(), call.source.lower()
    if source and source not in SOURCES:
        remedy = f"Write bt.{call.name} or talib.{call.name}, or the name alone."
        raise _error(component, param, call, remedy)
    for one in [source] if source else SOURCES:
        entry = _catalogue()[one].get(name)
        if entry is not None:
            return entry
    known = [name for one in SOURCES for name in _catalogue()[one]]
    near = get_close_matches(name, known, 1)
    listed = f"Did you mean {near[0]!r}?" if near else "`bt-risk screen --indicators` lists them."
    raise _error(component, param, call, f"There is no indicator {call.name}. {listed}")


def indicators() -> pd.DataFrame:
    """Return a table of every indicator that an expression can name.

    Returns
    -------
    DataFrame
        Columns source, other_names, lines and parameters (with their defaults); index `name`.

    Examples
    --------
    >>> indicators().loc["rateofchange", "other_names"]
    'roc'
    """
    rows = [
        {
            "name": name,
            "source": source,
            "other_names": " ".join(entry.aliases),
            "lines": " ".join(entry.outputs),
            "parameters": " ".join(f"{n}={value:g}" for n, value in entry.parameters.items()),
        }
        for source in SOURCES
        for name, entry in _catalogue()[source].items()
        if name == entry.name
    ]
    return pd.DataFrame(rows).set_index("name")


def _error(component: str, param: str, call: Call, remedy: str) -> ParameterError:
    return ParameterError(component, param, "made of indicators that exist", call.text, remedy)


@cache
def _catalogue() -> dict[str, dict[str, Entry]]:
    """Return the indicators of each source by name in lower case."""
    return {"bt": _backtrader(), "talib": _talib()}


def _backtrader() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    kinds: dict[str, Any] = {
        name: kind
        for name, kind in vars(bt.ind).items()
        if isinstance(kind, type) and issubclass(kind, bt.Indicator) and _outputs(kind)
    }
    # An alias is a subclass that knows the name of its original.
    for name, kind in sorted(kinds.items(), key=lambda item: bool(item[1].aliased)):
        original = kind.aliased or kind.__name__
        if original in _LEFT_OUT or name.startswith("_"):
            continue
        known = found.get(original.lower())
        if known is None:
            known = Entry(original.lower(), "bt", kind, None, _outputs(kind), _numbers(kind))
            found[original.lower()] = known
        if name.lower() not in found:
            known.aliases.append(name.lower())
            found[name.lower()] = known
    return dict(sorted(found.items()))


def _talib() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, kind in vars(bt.talib).items():
        if not (isinstance(kind, type) and hasattr(kind, "_tabstract")):
            continue
        inputs: list[str] = []
        for read in kind._tabstract.input_names.values():
            inputs += [read] if isinstance(read, str) else read
        outputs = tuple(line for line in _outputs(kind) if not line.startswith("_"))
        low = name.lower()
        found[low] = Entry(low, "talib", kind, tuple(inputs), outputs, counts_whole(_numbers(kind)))
    return dict(sorted(found.items()))


def counts_whole(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of an indicator of TA-Lib, of which 0.6.5 says 14.0 and takes only 14."""
    counts = ("period", "matype")
    return {
        name: int(value) if any(one in name for one in counts) else value
        for name, value in numbers.items()
    }


def _outputs(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in kind.lines._getlines() if name != _LATER)


def _numbers(kind: Any) -> dict[str, float]:
    pairs = kind.params._getpairs().items()
    return {n: value for n, value in pairs if type(value) in (int, float) and n[0] != "_"}
