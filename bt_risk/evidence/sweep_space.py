"""The space of a sweep: which parameter has which values, and whose parameter it is."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bt_risk.errors import ParameterError, check_flag, did_you_mean, is_number
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.runner import check_build
from bt_risk.policy import Policy

__all__ = ["COLUMNS", "FINAL", "Between", "Point", "Space", "label"]

COMPONENT = "sweep"
POLICY, BUILD = "policy", "build"
FINAL = "Final equity"
# What stands beside the parameters in the table of a sweep.
COLUMNS = (
    "objective",
    FINAL,
    *MEASURES,
    "days",
    "year",
    "skewness",
    "kurtosis",
    "seconds",
    "error",
)
_TAKEN = frozenset(name.casefold() for name in ("number", "point", *COLUMNS))
_FIELDS = frozenset(one.name for one in fields(Policy))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
Point = dict[str, Any]


@dataclass(frozen=True)
class Between:
    """Any number from `low` to `high`, for a sweep that draws its points.

    Parameters
    ----------
    low, high : float or int
        The ends, which are drawn as well. Whole numbers are drawn where both are ``int``.
    log : bool, default False
        Whether each doubling is drawn as often as any other; `low` is positive then.

    Examples
    --------
    >>> Between(0.002, 0.02, log=True)
    Between(low=0.002, high=0.02, log=True)
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if not is_number(value) or not math.isfinite(value):
                raise ParameterError("Between", name, "a finite number", value)
        if not self.low < self.high:
            raise ParameterError("Between", "high", f"above low, {self.low!r}", self.high)
        if check_flag("Between", "log", self.log) and not self.low > 0:
            raise ParameterError("Between", "low", "positive with log=True", self.low)

    @property
    def whole(self) -> bool:
        """Return whether whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> float:
        """Return the number that lies at `share`, in [0, 1), of the way."""
        low, high = self.low, self.high + 1 if self.whole else self.high
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        return min(max(int(value) if self.whole else value, self.low), self.high)


class Space:
    """The parameters of a sweep, with their values.

    Parameters
    ----------
    given : dict
        Values of each parameter, or a `Between`, by its name.
    build : callable

    Attributes
    ----------
    values : dict
        A tuple of values, or a `Between`, by name.
    """

    def __init__(self, given: Mapping[str, Any], build: Callable[..., Any]) -> None:
        check_build(build, COMPONENT)
        if not isinstance(given, Mapping) or not given:
            remedy = "Write {'risk_limit': [0.005, 0.01], 'fast': range(5, 25, 5)}."
            raise ParameterError(COMPONENT, "space", "a dict of values by parameter", given, remedy)
        self.values: dict[str, Any] = {
            str(name): _values(str(name), values) for name, values in given.items()
        }
        keywords = _keywords(build)
        self.owners = {name: _owner(name, keywords) for name in self.values}
        if len(set(self.owners.values())) < len(self.values):
            raise ParameterError(COMPONENT, "space", "a dict with each name once", list(given))

    @property
    def names(self) -> list[str]:
        """Return the names of the parameters, as they were given."""
        return list(self.values)

    @property
    def size(self) -> int | None:
        """Return how many points the space has, None where one parameter is a `Between`."""
        listed = [values for values in self.values.values() if isinstance(values, tuple)]
        return math.prod(map(len, listed)) if len(listed) == len(self.values) else None

    @property
    def first(self) -> Point:
        """Return the point of the first value of each parameter, or of its low end."""
        return {
            name: values[0] if isinstance(values, tuple) else values.low
            for name, values in self.values.items()
        }

    def grid(self) -> Iterator[Point]:
        """Yield every point; the last parameter changes first."""
        for values in itertools.product(*self.values.values()):
            yield dict(zip(self.values, values, strict=True))

    def at(self, place: int) -> Point:
        """Return the point at this place of the grid."""
        point: Point = {}
        for name, values in reversed(self.values.items()):
            place, digit = divmod(place, len(values))
            point[name] = values[digit]
        return {name: point[name] for name in self.values}

    def drawn(self, random: np.random.Generator) -> Point:
        """Return a point at random."""
        return {
            name: values.at(random.random())
            if isinstance(values, Between)
            else values[int(random.integers(len(values)))]
            for name, values in self.values.items()
        }

    def split(self, point: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what of a point are parameters of the policy, and what are keywords of `build`."""
        parts: dict[str, dict[str, Any]] = {POLICY: {}, BUILD: {}}
        for name, value in point.items():
            owner, own = self.owners[name]
            parts[owner][own] = value
        return parts[POLICY], parts[BUILD]

    def key(self, point: Mapping[str, Any]) -> str:
        """Return a text that two points share only if they are equal."""
        return json.dumps({name: label(point[name]) for name in self.values})

    def place(self, point: Mapping[str, Any]) -> tuple[float, ...]:
        """Return what points are sorted by: the places of their values in the space."""
        return tuple(
            point[name] if isinstance(values, Between) else values.index(point[name])
            for name, values in self.values.items()
        )

    def point(self, key: str) -> Point:
        """Return the point with this key; KeyError if the space has none such."""
        found = json.loads(key)
        return {
            name: found[name]
            if isinstance(values, Between)
            else {label(value): value for value in values}[found[name]]
            for name, values in self.values.items()
        }

    def described(self) -> dict[str, Any]:
        """Return the space in plain values."""
        return {
            name: repr(values) if isinstance(values, Between) else [label(one) for one in values]
            for name, values in self.values.items()
        }


def label(value: Any) -> Any:
    """Return a value as JSON and a table can hold it: itself, or its text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _values(name: str, given: Any) -> tuple[Any, ...] | Between:
    if isinstance(given, Between):
        return given
    constraint = "a list of values for each parameter"
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        remedy = f"Write {name}: [{given!r}], or a range."
        raise ParameterError(COMPONENT, "space", constraint, {name: given}, remedy)
    # numpy's numbers are as good as Python's, but JSON does not know them.
    values = tuple(one.item() if isinstance(one, np.generic) else one for one in given)
    labels = [label(one) for one in values]
    if not values or len(set(labels)) < len(labels):
        raise ParameterError(COMPONENT, "space", f"{constraint}, each once", {name: list(values)})
    for value, text in zip(values, labels, strict=True):
        if isinstance(text, float) and math.isnan(text):
            raise ParameterError(COMPONENT, "space", "a dict without NaN", {name: value})
        if text is not value and _ADDRESS.search(text):
            remedy = "Another process must know it by the same text: use a dataclass, or a name."
            raise ParameterError(COMPONENT, "space", "plain values", {name: value}, remedy)
    return values


def _keywords(build: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """Return the keywords that `build` takes, and whether it takes any other as well."""
    parameters = inspect.signature(build).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    own = frozenset(one.name for one in parameters if one.kind in named)
    return own, any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def _owner(name: str, keywords: tuple[frozenset[str], bool]) -> tuple[str, str]:
    """Return whose parameter a name is, ``policy`` or ``build``, and its name there."""
    own, others = keywords
    owner, dot, rest = name.partition(".")
    if name.casefold() in _TAKEN:
        remedy = "The table of a sweep has a column of that name: give the parameter another."
        raise ParameterError(COMPONENT, "space", "a dict of other names", name, remedy)
    if dot and owner in (POLICY, BUILD):
        if rest in _FIELDS if owner == POLICY else rest in own or others:
            return owner, rest
        known: Iterable[str] = _FIELDS if owner == POLICY else own
        raise _unknown(name, rest, known)
    if name in _FIELDS and name in own:
        remedy = f"Write 'policy.{name}' or 'build.{name}'."
        constraint = "a dict of names that either the policy or `build` has"
        raise ParameterError(COMPONENT, "space", constraint, name, remedy)
    if name in _FIELDS:
        return POLICY, name
    if name in own or others:
        return BUILD, name
    raise _unknown(name, name, own | _FIELDS)


def _unknown(name: str, own: str, known: Iterable[str]) -> ParameterError:
    remedy = did_you_mean(own, sorted(known)).replace("; d", "D")
    constraint = "a dict of parameters of the policy and keywords of `build`"
    return ParameterError(COMPONENT, "space", constraint, name, remedy)
