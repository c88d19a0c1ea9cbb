"""Parameters: a frozen class of settings whose fields say what they may be, and check it.

A field holds a name, a default, and a type that states the unit and the check::

    @dataclass(frozen=True, kw_only=True)
    class TrendSettings(Settings):
        window: Bars = 200
        trend_limit: FractionLimit = None
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_type_hints

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_extreme,
    check_flag,
    check_fraction,
    check_limit,
    check_names,
    check_positive,
    check_whole,
    raised_as,
)

__all__ = [
    "ATRLimit",
    "ATRs",
    "Bars",
    "Check",
    "EquityLimit",
    "ExtremeSettings",
    "Flag",
    "Fraction",
    "FractionLimit",
    "FractionOrZero",
    "OptionalPositive",
    "Positive",
    "PositiveOrZero",
    "Returns",
    "Settings",
    "Trades",
    "ceiling",
    "keyword_parameters",
    "one_of",
    "with_signature",
    "read_toml",
]

F = TypeVar("F", bound=Callable[..., Any])


class Check:
    """The check of a parameter: one of the ``check_...`` functions and its options.

    With `optional`, None passes. With `off`, infinity means the same as None, which is no limit:
    settings hold None for both, and a policy file writes ``inf``.
    """

    def __init__(
        self,
        check: Callable[..., Any],
        *,
        optional: bool = False,
        off: bool = False,
        **options: Any,
    ) -> None:
        self.off, self._optional = off, optional or off
        self._check = partial(check, **options)

    def __call__(self, component: str, param: str, value: Any) -> Any:
        """Return the value as settings hold it, or raise a ParameterError of `component`."""
        if value is None and self._optional:
            return None
        checked = self._check(component, param, value)
        if self.off:
            return None if math.isinf(checked) else value
        return checked


_COUNT = "It counts closed trades."
_SAME: Mapping[str, str] = {}

# The types of parameters: each states a unit and has its check.
Bars = Annotated[int, Check(check_whole)]
Trades = Annotated[int, Check(check_whole, remedy=_COUNT)]
ATRs = Annotated[float, Check(check_positive)]
Positive = Annotated[float, Check(check_positive)]
PositiveOrZero = Annotated[float, Check(check_positive, zero=True)]
OptionalPositive = Annotated[float | None, Check(check_positive, optional=True)]
Fraction = Annotated[float, Check(check_fraction)]  # in (0, 1]
FractionOrZero = Annotated[float, Check(check_fraction, zero=True)]
FractionLimit = Annotated[float | None, Check(check_limit, fraction=True, off=True)]  # at most 1
EquityLimit = Annotated[float | None, Check(check_limit, off=True)]  # of equity; above 1: leverage
ATRLimit = Annotated[float | None, Check(check_limit, remedy="It counts ATRs.", off=True)]
Returns = Annotated[int, Check(check_whole, low=2)]  # that names have in common
Flag = Annotated[bool, Check(check_flag)]


def one_of(*choices: str) -> Check:
    """Return the check of a parameter that is one of these words."""
    return Check(check_choice, choices=choices)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters, each checked by its type; the base class of all settings."""

    def __new__(cls, *args: Any, **values: Any) -> Self:
        """Raise a TypeError that names the nearest parameter where there is none of a name."""
        check_names(cls.__name__, values, cls.__dataclass_fields__)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, check in _checks(type(self)).items():
            self._set(name, check(type(self).__name__, name, getattr(self, name)))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def checked(
        cls, component: str, values: Mapping[str, Any], renamed: Mapping[str, str] = _SAME
    ) -> Self:
        """Return the settings, or raise a ParameterError of `component`.

        `renamed` maps a name that the component uses to that of the settings.
        """
        back = {setting: name for name, setting in renamed.items()}
        with raised_as(component, **back):
            return cls(**{renamed.get(name, name): value for name, value in values.items()})

    @classmethod
    def from_params(cls, component: str, params: object) -> Self:
        """Return the settings that an object, such as a component's ``self.p``, has by name."""
        return cls.checked(component, {one.name: getattr(params, one.name) for one in fields(cls)})

    @classmethod
    def defaults(cls) -> tuple[tuple[str, Any], ...]:
        """Return names and defaults, as Backtrader's ``params``."""
        return tuple((one.name, one.default) for one in fields(cls))

    @classmethod
    def switches(cls) -> set[str]:
        """Return the names of the limits that None or infinity switches off."""
        return {name for name, check in _checks(cls).items() if check.off}


@dataclass(frozen=True, kw_only=True)
class ExtremeSettings(Settings):
    """Settings with limits that may be written in percent by mistake: 1 for 1 %, which is 100 %.

    `extremes` names them, each with the value from which on only ``allow_extreme=True`` is taken.
    """

    allow_extreme: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in self.extremes().items():
            value = getattr(self, name)
            check_extreme(type(self).__name__, name, value, self.allow_extreme, least)

    def extremes(self) -> dict[str, float]:
        """Return the first extreme value by name of the limit."""
        return {}


_CHECKS: dict[type[Settings], dict[str, Check]] = {}


def _checks(kind: type[Settings]) -> dict[str, Check]:
    """Return the check of each field whose type has one, worked out once for each class."""
    if kind not in _CHECKS:
        hints = get_type_hints(kind, include_extras=True)
        notes = {one.name: getattr(hints[one.name], "__metadata__", ()) for one in fields(kind)}
        found = [(name, note) for name, of in notes.items() for note in of]
        _CHECKS[kind] = {name: note for name, note in found if isinstance(note, Check)}
    return _CHECKS[kind]


def ceiling(limit: float | None) -> float:
    """Return a limit as a number: infinity for None, which is no limit."""
    return math.inf if limit is None else float(limit)


def keyword_parameters(kind: type[Settings], renamed: Mapping[str, str] = _SAME) -> list[Parameter]:
    """Return the settings as parameters of a function, for its signature.

    `renamed` maps a name that the function uses to that of the settings.
    """
    shown = {setting: name for name, setting in renamed.items()}
    return [
        Parameter(
            shown.get(one.name, one.name),
            Parameter.KEYWORD_ONLY,
            default=one.default,
            annotation=one.type,
        )
        for one in fields(kind)
    ]


def with_signature(parameters: list[Parameter]) -> Callable[[F], F]:
    """Return a decorator that lets help() and editors show these parameters of a function."""

    def decorate(function: F) -> F:
        function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # functions may
        return function

    return decorate


def read_toml(path: Path, known: Sequence[str], missing: ParameterError, hint: str) -> Any:
    """Return the values of a TOML file by name, all of which are `known`.

    Raises `missing` where there is no file, and ParameterError with the file and the key for
    anything else; `hint` is the remedy where no known name is near.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(str(path), "the file", f"TOML ({error})", path.name) from None
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, 1, 0.75)
            remedy = f"Did you mean {near[0]}?" if near else hint
            raise ParameterError(str(path), "a key", f"one of {', '.join(known)}", key, remedy)
    return values
