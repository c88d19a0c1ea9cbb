"""The space of a sweep on the command line: ``risk_limit=0.005,0.01 fast=5:20:5``."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bt_risk.cli.options import value_of
from bt_risk.errors import ParameterError, is_number
from bt_risk.evidence.sweep_space import Between

__all__ = ["SpaceText", "space_of"]

OPTION = "--space"
LOG = "log:"

SpaceText = Annotated[
    list[str],
    typer.Option(
        OPTION,
        metavar="NAME=VALUES",
        help="Values of a parameter: fast=5,10,20 or fast=5:20:5 or, to draw from, fast=5..20 "
        "or risk_limit=log:0.002..0.02. Several in one text, or one option each.",
    ),
]


def space_of(command: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return the values of each parameter, or a `Between`, by its name."""
    space: dict[str, Any] = {}
    for text in " ".join(texts).split():
        name, equals, values = text.partition("=")
        if not (name and equals and values) or name in space:
            remedy = "Write each parameter once."
            raise ParameterError(command, OPTION, "like fast=5:20:5", text, remedy)
        space[name] = _values(command, text, values)
    return space


def _values(command: str, text: str, values: str) -> Any:
    if ".." in values:
        log = values.startswith(LOG)
        ends = _numbers(command, text, values.removeprefix(LOG).split(".."), 2)
        return Between(ends[0], ends[1], log)
    if ":" in values and not values.startswith(('"', "'")):
        return _range(command, text, *_numbers(command, text, values.split(":"), 3))
    return [value_of(one) for one in values.split(",")]


def _range(command: str, text: str, first: Any, last: Any, step: Any) -> list[Any]:
    """Return the values from the first to the last, which is one of them where the steps fit."""
    if not (step > 0 and first <= last):
        remedy = "First, last and a positive step."
        raise ParameterError(command, OPTION, "like fast=5:20:5", text, remedy)
    count = int((last - first) / step + 1e-9) + 1
    values = [first + place * step for place in range(count)]
    return [round(one, 12) if isinstance(one, float) else one for one in values]


def _numbers(command: str, text: str, parts: Sequence[str], count: int) -> list[Any]:
    values = [value_of(part) for part in parts]
    if len(values) != count or not all(map(is_number, values)):
        raise ParameterError(command, OPTION, "like fast=5:20:5 or fast=5..20", text)
    return values
