"""Expressions over the bars of one name: ``roc(126) / natr(20)``, parsed and never executed.

`parse` takes an allow-list of Python's own grammar: numbers, arithmetic, comparisons, ``and``,
``or`` and ``not``, names of lines, and calls of indicators. Everything else raises.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bt_risk.errors import ParameterError, did_you_mean
from bt_risk.rules.frames import FloatArray

__all__ = [
    "LINES",
    "Call",
    "Line",
    "Node",
    "Number",
    "Operation",
    "Past",
    "leaves",
    "parse",
    "value_of",
    "values_of",
]

# The lines of every data feed with prices.
LINES = ("open", "high", "low", "close", "volume", "openinterest")

# Of the text, and of the parts in each other: a rank has a dozen of each.
_LONGEST = 1000
_DEEPEST = 40
_EXAMPLE = "an expression such as rsi(14), roc(126) / natr(20) or close > sma(200)"
# Bars of a period, and bars ago.
_MOST = 100_000
_NAN = math.nan


@dataclass(frozen=True)
class Node:
    """A part of an expression; `text` is how it would be written."""

    text: str


@dataclass(frozen=True)
class Number(Node):
    """A number that stands in the expression."""

    value: float


@dataclass(frozen=True)
class Line(Node):
    """A line of the data feed by its name."""

    name: str


@dataclass(frozen=True)
class Call(Node):
    """An indicator: what it is computed from, its numbers in sequence and by name, its line.

    `source` is the library that is asked for, empty where none is named; `output` is the name of
    the line, empty for the first.
    """

    name: str
    source: str
    inputs: tuple[Node, ...]
    numbers: tuple[float, ...]
    named: tuple[tuple[str, float], ...]
    output: str = ""


@dataclass(frozen=True)
class Past(Node):
    """The value of a part some bars ago."""

    part: Node
    bars: int


@dataclass(frozen=True)
class Operation(Node):
    """An operation on the values of its parts."""

    symbol: str
    parts: tuple[Node, ...]


_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.USub: "negative",
    ast.UAdd: "positive",
    ast.Not: "not",
    ast.And: "and",
    ast.Or: "or",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "negative": operator.neg,
    "positive": operator.pos,
    "not": operator.not_,
    "and": lambda *values: all(values),
    "or": lambda *values: any(values),
    "abs": abs,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


def value_of(node: Node, place: int, leaf: Callable[[Node, int], float]) -> float:
    """Return the value of a node at a bar, NaN where it is unknown.

    `leaf` returns the value of a `Line` or a `Call` at the place of a bar. A comparison is 1.0 or
    0.0. What is computed from an unknown value is unknown, and so is a division by zero.
    """
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Past):
        return value_of(node.part, place - node.bars, leaf)
    if not isinstance(node, Operation):
        return leaf(node, place)
    values = [value_of(part, place, leaf) for part in node.parts]
    if any(value != value for value in values):
        return _NAN
    try:
        return float(_OPERATIONS[node.symbol](*values))
    except (ZeroDivisionError, OverflowError):
        return _NAN


# What differs where the values are arrays.
_OF_ARRAYS: dict[str, Callable[..., Any]] = _OPERATIONS | {
    "not": lambda values: values == 0.0,
    "and": lambda *values: np.all(np.stack(values) != 0.0, axis=0),
    "or": lambda *values: np.any(np.stack(values) != 0.0, axis=0),
}


def values_of(
    node: Node, start: int, count: int, leaf: Callable[[Node, int, int], FloatArray]
) -> FloatArray:
    """Return what `value_of` returns at `count` bars from the place `start` on, all at once.

    `leaf` returns the values of a `Line` or a `Call` at so many bars from a place on.
    """
    if isinstance(node, Number):
        return np.full(count, node.value)
    if isinstance(node, Past):
        return values_of(node.part, start - node.bars, count, leaf)
    if not isinstance(node, Operation):
        return leaf(node, start, count)
    parts = [values_of(part, start, count, leaf) for part in node.parts]
    unknown = np.any(np.isnan(np.stack(parts)), axis=0)
    if node.symbol == "/":
        unknown |= parts[1] == 0.0
    with np.errstate(all="ignore"):
        found: FloatArray = _OF_ARRAYS[node.symbol](*parts).astype(float)
    found[unknown] = _NAN
    return found


def leaves(node: Node) -> Iterator[Node]:
    """Yield every `Line` and `Call` of an expression, what an indicator is computed from first."""
    if isinstance(node, Past):
        yield from leaves(node.part)
    elif isinstance(node, Operation):
        for part in node.parts:
            yield from leaves(part)
    elif isinstance(node, Call):
        for part in node.inputs:
            yield from leaves(part)
        yield node
    elif isinstance(node, Line):
        yield node


def parse(component: str, param: str, text: object, lines: Collection[str] = LINES) -> Node:
    """Return the tree of an expression.

    Parameters
    ----------
    component, param : str
        Who asks, for the message of an error.
    text : str
    lines : collection of str
        Names of the lines of the data feed, in lower case.

    Returns
    -------
    Node
        Names of indicators are as they were written, and not looked up yet.

    Raises
    ------
    ParameterError
        For anything that is no such expression.

    Examples
    --------
    >>> parse("Screener", "rank", "-atr(14) / close").parts[1]
    Line(text='close', name='close')
    """
    if not isinstance(text, str) or not text.strip():
        raise ParameterError(component, param, _EXAMPLE, text)
    return _Parser(component, param, text, lines).parse()


class _Parser:
    def __init__(self, component: str, param: str, text: str, lines: Collection[str]) -> None:
        self.component, self.param, self.text, self.lines = component, param, text, lines

    def parse(self) -> Node:
        if len(self.text) > _LONGEST:
            raise self._error(f"It may have {_LONGEST} characters, and has {len(self.text)}.")
        try:
            with warnings.catch_warnings(action="ignore"):  # 1or is read as "1 or"
                tree = ast.parse(self.text.strip(), mode="eval").body
        except SyntaxError as error:
            raise self._error(f"{str(error.msg).capitalize()}.") from None
        except (ValueError, RecursionError, MemoryError):
            raise self._error("It cannot be read.") from None
        self._check_depth(tree)
        return self._node(tree)

    def _error(self, remedy: str) -> ParameterError:
        text = self.text if len(self.text) <= _LONGEST else f"{self.text[:60]}..."
        return ParameterError(self.component, self.param, _EXAMPLE, text, remedy)

    def _impossible(self, tree: ast.AST) -> ParameterError:
        return self._error(f"{_shown(ast.unparse(tree))} is not possible in it.")

    def _check_depth(self, tree: ast.AST) -> None:
        """Raise for parts that lie so deep in each other that reading them is a danger."""
        level = [tree]
        for _ in range(_DEEPEST):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if level:
            raise self._error("It has too many parts in each other.")

    def _node(self, tree: ast.expr) -> Node:
        text = ast.unparse(tree)
        match tree:
            case ast.Constant(value):
                return self._number(text, value)
            case ast.Name(name):
                return self._line(text, name)
            case ast.UnaryOp(symbol, operand):
                return self._operation(text, symbol, [operand])
            case ast.BinOp(left, symbol, right):
                return self._operation(text, symbol, [left, right])
            case ast.BoolOp(symbol, parts):
                return self._operation(text, symbol, parts)
            case ast.Compare(left, symbols, parts):
                return self._comparison(text, [left, *parts], symbols)
            case ast.Call():
                return self._call(text, tree)
            case ast.Attribute(ast.Call() as call, output):
                found = self._node(call)
                if isinstance(found, Call):
                    return replace(found, text=text, output=output)
        raise self._impossible(tree)

    def _number(self, text: str, value: object) -> Number:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._error(f"{_shown(text)} is no number.")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            raise self._error(f"{_shown(text)} is too large.")
        return Number(text, number)

    def _line(self, text: str, name: str) -> Line:
        if name.lower() not in self.lines:
            near = did_you_mean(name.lower(), self.lines).removeprefix("; ").capitalize()
            names = ", ".join(self.lines)
            raise self._error(near or f"{_shown(name)} is no line; those of it are {names}.")
        return Line(text, name.lower())

    def _operation(self, text: str, symbol: ast.AST, trees: list[ast.expr]) -> Node:
        name = _SYMBOLS.get(type(symbol))
        parts = tuple(self._node(tree) for tree in trees)
        if name is None:
            raise self._error(f"{_shown(text)} is not possible in it.")
        return Operation(text, name, parts)

    def _comparison(self, text: str, trees: list[ast.expr], symbols: list[ast.cmpop]) -> Node:
        """Return ``a < b < c`` as ``a < b and b < c``."""
        names = [_SYMBOLS.get(type(symbol), "") for symbol in symbols]
        if "" in names:
            raise self._error(f"{_shown(text)} is not possible in it.")
        parts = [self._node(tree) for tree in trees]
        pairs = tuple(
            Operation(f"{left.text} {name} {right.text}", name, (left, right))
            for left, name, right in zip(parts[:-1], names, parts[1:], strict=True)
        )
        return pairs[0] if len(pairs) == 1 else Operation(text, "and", pairs)

    def _call(self, text: str, tree: ast.Call) -> Node:
        match tree.func:
            case ast.Name("abs"):
                if len(tree.args) != 1 or tree.keywords:
                    raise self._error("abs(...) takes one value.")
                return Operation(text, "abs", (self._node(tree.args[0]),))
            case ast.Name(name) if name.lower() in self.lines:
                return self._past(text, Line(name, name.lower()), tree)
            case ast.Name(name):
                return self._indicator(text, "", name, tree)
            case ast.Attribute(ast.Name(source), name):
                return self._indicator(text, source, name, tree)
            case ast.Call() | ast.Attribute(ast.Call()):
                return self._past(text, self._node(tree.func), tree)
        raise self._impossible(tree)

    def _indicator(self, text: str, source: str, name: str, tree: ast.Call) -> Call:
        inputs: list[Node] = []
        numbers: list[float] = []
        for argument in tree.args:
            node = self._node(argument)
            number = _constant(node)
            if number is not None:
                numbers.append(number)
            elif numbers:
                raise self._error(f"In {_shown(text)} lines come first, then numbers.")
            else:
                inputs.append(node)
        named = tuple(map(self._named, tree.keywords))
        return Call(text, name, source, tuple(inputs), tuple(numbers), named)

    def _named(self, keyword: ast.keyword) -> tuple[str, float]:
        number = _constant(self._node(keyword.value))
        if keyword.arg is None or number is None:
            raise self._error(f"{_shown(ast.unparse(keyword))} must be a name and a number.")
        return keyword.arg, number

    def _past(self, text: str, part: Node, tree: ast.Call) -> Past:
        """Return a value of some bars ago, which Backtrader writes as ``close(-1)``."""
        values = [_constant(self._node(argument)) for argument in tree.args]
        bars = values[0] if len(values) == 1 and not tree.keywords else None
        if bars is None or bars != int(bars) or not -_MOST <= bars <= 0:
            remedy = f"In {_shown(text)} must stand how many bars ago, as in close(-1); "
            raise self._error(f"{remedy}what comes later is not known.")
        return Past(text, part, -int(bars))


def _constant(node: Node) -> float | None:
    """Return a number with its sign, None for anything else."""
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Operation) and node.symbol in ("negative", "positive"):
        value = _constant(node.parts[0])
        return -value if value is not None and node.symbol == "negative" else value
    return None


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
