"""Formula: an expression, or a function of the user, on the closed bars of one name."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

import backtrader as bt
import numpy as np
from backtrader.lineroot import LineRoot, LineSingle

from bt_risk.components.closed_bars import ClosedBars
from bt_risk.components.indicator_catalogue import Entry, find
from bt_risk.errors import ParameterError, did_you_mean
from bt_risk.rules.expressions import (
    Call,
    Line,
    Node,
    Number,
    Operation,
    Past,
    leaves,
    parse,
    value_of,
    values_of,
)
from bt_risk.rules.frames import FloatArray

__all__ = ["Formula"]


class Formula:
    """What to compute at a bar: ``"roc(126) / natr(20)"``, or a function of the data feed.

    Attributes
    ----------
    text : str
        How it is written.
    needs : int
        Bars until it has a value.
    causal : bool
        Whether later bars change none of its values: true of every expression, and not known of a
        function of the user.
    """

    def __init__(self, bars: ClosedBars, component: str, param: str, given: Any) -> None:
        self._bars, self._component, self._param = bars, component, param
        self._lines: dict[str, Any] = {}
        self._values: array[float] | None = None
        self.causal = not callable(given)
        if callable(given):
            self.text = f"{getattr(given, '__name__', type(given).__name__)}(data)"
            self._node: Node = Line(self.text, self.text)
            self._lines[self.text] = self._line_of(given)
        else:
            names = [name for name in bars.lines.getlinealiases() if name != "datetime"]
            self._node = parse(component, param, given, names)
            self.text = self._node.text
            if not list(leaves(self._node)):
                remedy = "A number alone is the same for every name."
                raise ParameterError(component, param, "made of lines or indicators", given, remedy)
            bars.make(self._make)
        self.needs = self._needed(self._node)

    def value(self, place: int) -> float:
        """Return the value at the place of a bar, NaN where it is unknown."""
        if self._values is not None:
            return self._values[place]
        return value_of(self._node, place, self._leaf)

    def compute(self, count: int) -> None:
        """Compute the values of the first bars at once; their indicators must have theirs."""
        values = values_of(self._node, 0, count, self._leaf_values)
        self._values = array("d", values.tobytes())

    def unknown(self, place: int) -> str:
        """Return the text of the first part without a value at the last bar, empty without one."""
        for node in leaves(self._node):
            value = self._leaf(node, place)
            if not math.isfinite(value):
                return node.text
        return self.text

    def _leaf(self, node: Node, place: int) -> float:
        value: float = self._lines[node.text].array[place] if place >= 0 else math.nan
        return value

    def _leaf_values(self, node: Node, start: int, count: int) -> FloatArray:
        """Return the values at so many bars from a place on, NaN before the first bar."""
        values = np.full(count, math.nan)
        before = min(count, max(0, -start))
        values[before:] = self._lines[node.text].array[start + before : start + count]
        return values

    def _make(self, bars: ClosedBars) -> None:
        for node in leaves(self._node):
            if node.text in self._lines:
                continue
            if isinstance(node, Call):
                self._lines[node.text] = self._indicator(node)
            elif isinstance(node, Line):
                self._lines[node.text] = getattr(bars.lines, node.name)

    def _needed(self, node: Node) -> int:
        """Return the bars until a part has a value."""
        if isinstance(node, Number):
            return 1
        if isinstance(node, Past):
            return self._needed(node.part) + node.bars
        if isinstance(node, Operation):
            return max(self._needed(part) for part in node.parts)
        return int(self._lines[node.text]._minperiod)

    def _error(self, call: Call, remedy: str) -> ParameterError:
        constraint = "made of indicators that can be computed"
        return ParameterError(self._component, self._param, constraint, call.text, remedy)

    def _indicator(self, call: Call) -> Any:
        """Make an indicator on the bars and return its line."""
        entry = find(self._component, self._param, call)
        values: dict[str, Any] = {}
        if entry.source == "talib":  # it may take no default of its own: see the catalogue
            values = {name: one for name, one in entry.parameters.items() if isinstance(one, int)}
        values |= entry.arguments(self._component, self._param, call)
        if "safediv" in entry.kind.params._getkeys():
            values["safediv"] = True  # else a name without a move ends the run
        inputs = self._inputs(entry, call)
        try:
            made = entry.kind(*inputs, **values)
            if entry.source == "talib":
                self._complete(made, call)
        except AttributeError:
            what = ", ".join(node.text for node in call.inputs)
            remedy = f"{call.name} needs whole bars: leave {what} out."
            raise self._error(call, remedy) from None
        except Exception as error:
            raise self._error(call, f"{call.name} says: {error}.") from None
        return self._output(entry, call, made)

    def _complete(self, made: Any, call: Call) -> None:
        """Let TA-Lib check the parameters now, and tell each line when it has its first value."""
        made._tafunc(*[np.ones(2)] * len(made.datas), **made.p._getkwargs())
        needs = made._tabstract.lookback + max(map(self._needed, call.inputs), default=1)
        for one in (made, *made.lines.lines):
            one.updateminperiod(needs)

    def _inputs(self, entry: Entry, call: Call) -> list[Any]:
        """Return what an indicator is computed from."""
        takes = max(1, entry.least) if entry.inputs is None else len(entry.inputs)
        given = len(call.inputs)
        if (given or entry.least) and given != takes:
            example = ", ".join(["close", "open", "high", "low"][:takes])
            remedy = f"{call.name} takes {takes} line{'s'[: takes > 1]}: {call.name}({example})."
            raise self._error(call, remedy)
        if given:
            return [self._input(node) for node in call.inputs]
        if entry.inputs is None:
            return [self._bars]
        return [getattr(self._bars.lines, name) for name in entry.inputs]

    def _input(self, node: Node) -> Any:
        if isinstance(node, (Line, Call)):
            return self._lines[node.text]
        kind: Any = _Computed
        needs, leaf = self._needed(node), self._leaf_values
        return kind(self._bars, needs=needs, node=node, leaf=leaf).lines[0]

    def _output(self, entry: Entry, call: Call, made: Any) -> Any:
        if not call.output:
            return made.lines[0]
        names = {name.lower(): name for name in entry.outputs}
        name = names.get(call.output.lower())
        if name is None:
            near = did_you_mean(call.output.lower(), names).removeprefix("; ").capitalize()
            remedy = near or f"The lines of {call.name} are {', '.join(entry.outputs)}."
            raise self._error(call, remedy)
        return getattr(made.lines, name)

    def _line_of(self, function: Callable[[Any], Any]) -> Any:
        """Return the line that a function of the user makes of the bars."""
        made = self._bars.make(function)
        if isinstance(made, LineRoot):
            line = made if isinstance(made, LineSingle) else made.lines[0]
            if any(line is one for one in self._bars.owned()):
                line.updateminperiod(made._minperiod)
                return line
        constraint = "a function that makes an indicator of the data feed it is given, as in "
        constraint += "lambda data: bt.ind.RSI(data, period=14)"
        raise ParameterError(self._component, self._param, constraint, made)


class _Computed(bt.Indicator):
    """The values of a part of an expression, for an indicator that is computed from them."""

    lines: Any = ("value",)
    params = (("needs", 1), ("node", None), ("leaf", None))

    def __init__(self) -> None:
        self.addminperiod(self.p.needs)

    def once(self, start: int, end: int) -> None:
        """Compute the values of some bars."""
        found = values_of(self.p.node, start, end - start, self.p.leaf)
        self.lines.value.array[start:end] = array("d", found.tobytes())
