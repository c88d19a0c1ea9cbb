"""Every error that bt_risk raises on purpose, and the checks that raise them.

A refused order is not an error: it is a native ``Rejected`` order with a reason.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

__all__ = [
    "BtRiskError",
    "DataError",
    "EXTREME",
    "ParameterError",
    "StateError",
    "check_choice",
    "check_extreme",
    "check_flag",
    "check_fraction",
    "check_limit",
    "check_names",
    "check_output",
    "check_positive",
    "check_whole",
    "did_you_mean",
    "is_number",
    "raised_as",
    "wrong_place",
]

_T = TypeVar("_T")


class BtRiskError(Exception):
    """Root of all errors of this package.

    A note, which a traceback shows last, names the place in docs/messages.md that explains it.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.add_note(f"See docs/messages.md#{_anchor(str(args[0]) if args else '')}")


class ParameterError(BtRiskError, ValueError):
    """A parameter or argument is outside its documented range.

    The message reads ``"{component}: {param} must be {constraint}; got {value!r}. {remedy}"``.
    """

    def __init__(
        self, component: str, param: str, constraint: str, value: object, remedy: str = ""
    ) -> None:
        self.component, self.param, self.constraint = component, param, constraint
        self.value, self.remedy = value, remedy
        super().__init__(component, param, constraint, value, remedy)

    def __str__(self) -> str:
        text = f"{self.component}: {self.param} must be {self.constraint}; got {self.value!r}."
        return f"{text} {self.remedy}".rstrip()


class DataError(BtRiskError, ValueError):
    """A price file or frame cannot be used as it is."""


class StateError(BtRiskError):
    """The saved state of an earlier run is missing, damaged or from a newer version."""


@contextmanager
def raised_as(component: str, **names: str) -> Iterator[None]:
    """Raise a ParameterError from inside again as one of `component`, which the user has built.

    `names` maps the name of a parameter inside to its name in `component`, where they differ.
    """
    try:
        yield
    except ParameterError as error:
        param, constraint = names.get(error.param, error.param), error.constraint
        raise ParameterError(component, param, constraint, error.value, error.remedy) from None


def _anchor(message: str) -> str:
    """Return the heading of docs/messages.md for a message, which begins with its component."""
    component = message.partition(":")[0]
    if not re.fullmatch(r"[A-Za-z_. ]+", component) or component.endswith(".toml"):
        return "a-policy-file"
    return component.lower().replace(" ", "-").replace(".", "")


# Of equity. A limit of risk from here on is likely percent, written as a number.
EXTREME = 0.5

_FRACTIONS = "Ratios are fractions: 2 % is 0.02."


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a real number; NaN and bool are not."""
    if isinstance(value, bool):
        return False
    try:
        return not math.isnan(value)
    except TypeError:
        return False


def check_fraction(
    component: str,
    param: str,
    value: object,
    *,
    zero: bool = False,
    one: bool = True,
    remedy: str = _FRACTIONS,
) -> float:
    """Return `value` if it lies between 0 and 1, else raise ParameterError.

    `zero` and `one` allow the ends themselves.
    """
    low, high = "[" if zero else "(", "]" if one else ")"
    if is_number(value) and (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        return value
    raise ParameterError(component, param, f"in {low}0, 1{high}", value, remedy)


def check_positive(
    component: str, param: str, value: object, *, zero: bool = False, remedy: str = ""
) -> float:
    """Return `value` if it is a finite number above 0 (or 0, with `zero`)."""
    if not is_number(value) or math.isinf(value) or value < 0 or (value == 0 and not zero):
        constraint = "zero or more, and finite" if zero else "positive and finite"
        raise ParameterError(component, param, constraint, value, remedy)
    return value


def check_whole(
    component: str,
    param: str,
    value: object,
    *,
    low: int = 1,
    remedy: str = "Durations are whole bars.",
) -> int:
    """Return `value` as int if it is a whole number of at least `low`."""
    if not is_number(value) or math.isinf(value) or value != int(value) or value < low:
        raise ParameterError(component, param, f"a whole number of at least {low}", value, remedy)
    return int(value)


def check_limit(
    component: str,
    param: str,
    value: object,
    *,
    fraction: bool = False,
    remedy: str = _FRACTIONS,
) -> float:
    """Return a ceiling as a float: positive, with None and infinity meaning no limit.

    `fraction` also forbids finite values above 1.
    """
    if value is None:
        return math.inf
    if not is_number(value) or value <= 0:
        raise ParameterError(component, param, "positive, or None for no limit", value, remedy)
    if fraction and not math.isinf(value) and value > 1:
        raise ParameterError(component, param, "in (0, 1], or None for no limit", value, remedy)
    return float(value)


def check_extreme(
    component: str, param: str, value: float | None, allow_extreme: bool, least: float = EXTREME
) -> None:
    """Raise a ParameterError for a fraction from `least` on: 1 for 1 % is 100 %.

    None and infinity are no limit, and pass.
    """
    if value is None or not least <= value < math.inf or allow_extreme:
        return
    constraint = f"below {least:g}, which is {100 * least:g} %"
    remedy = "Write 0.01 for 1 %, or add allow_extreme=True if you mean it."
    raise ParameterError(component, param, constraint, value, remedy)


def check_choice(component: str, param: str, value: _T, choices: Collection[_T]) -> _T:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise ParameterError(component, param, f"one of {listed}", value)
    return value


def check_text(component: str, param: str, value: object) -> str:
    """Return `value`, a text that is not empty."""
    if not (isinstance(value, str) and value.strip()):
        raise ParameterError(component, param, "a text", value)
    return value


def check_output(component: str, param: str, value: str | os.PathLike[str]) -> Path:
    """Return the path of a file that can be written: checked before any work is done for it."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise ParameterError(component, param, "the path of a file", value)
    path, constraint = Path(value), "the path of a file that can be written"
    if path.is_dir():
        remedy = "That is a folder: name a file in it."
    elif not path.parent.is_dir():
        remedy = f"There is no folder {path.parent}: make it first."
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        remedy = "You may not write there."
    else:
        return path
    raise ParameterError(component, param, constraint, str(value), remedy)


def wrong_place(what: str, call: str, where: str = "bt_risk") -> Callable[..., Any]:
    """Return a method that a component does not have, because Cerebro calls it on another kind.

    It raises a TypeError that says by which call the component is added; `where` a user finds ours.
    """

    def raise_error(self: Any, *args: Any, **kwargs: Any) -> Any:
        kind = type(self)
        package, _, _ = kind.__module__.partition(".")
        name = f"{where}.{kind.__name__}" if package == "bt_risk" else kind.__name__
        raise TypeError(f"{kind.__name__} is {what}: {call.format(name=name)}")

    raise_error.__doc__ = f"Raise a TypeError: this is {what}."
    return raise_error


def check_names(component: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise a TypeError for a name that is no parameter, with the nearest one that is."""
    for name in given:
        if name not in known:
            raise TypeError(f"{component} has no parameter {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the end of a message that names the nearest known name, nothing if none is near."""
    near = get_close_matches(name, list(known), 1, 0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_flag(component: str, param: str, value: object) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ParameterError(component, param, "True or False", value)
    return value
