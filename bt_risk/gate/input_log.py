"""InputLog: what came from outside in a run: every order as it was requested, every cancel, halt.

With the prices and the policy that is all that a decision depends on: `bt_risk.verify` repeats the
run from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import backtrader as bt

from bt_risk.orders import ARGUMENTS, SizeProposal, sent_by_close
from bt_risk.portfolio.position import place_of

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["InputLog", "decoded", "first_ref", "moment_of"]

Row = tuple[int, dict[str, Any]]


class InputLog:
    """The inputs of one run, oldest first.

    Attributes
    ----------
    rows : list of (int, dict)
        How many lines the journal had, and the input in plain values: ``call``, the ``moment`` of
        it, and its arguments. Inputs are numbered from 1 in this sequence; an order is named by
        the number of its request.
    """

    def __init__(self, gate: RiskBroker) -> None:
        self.gate = gate
        self.rows: list[Row] = []
        self._datas = {id(data): place for place, data in enumerate(gate.cerebro.datas)}
        self._numbers: dict[int, int] = {}
        self.first_ref = first_ref()
        self._asked = 0

    def submit(
        self,
        side: int,
        owner: Any,
        data: Any,
        size: float,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Record one call of ``broker.buy`` or ``broker.sell``, and answer it."""
        terms = dict(zip(ARGUMENTS, args, strict=False)) | kwargs
        number = self.add(
            "buy" if side > 0 else "sell",
            owner=place_of(owner, self.gate.cerebro.runningstrats),
            data=self._datas.get(id(data)),
            size=self._plain(size),
            closes=sent_by_close(),
            terms={name: self._plain(value) for name, value in terms.items() if value is not None},
        )
        order = self.gate.order_review.submit(side, owner, data, size, args, kwargs)
        if order is not None:
            self._numbers[order.ref] = number
        return order

    def cancel(self, order: Any) -> None:
        """Record that a strategy cancels an order."""
        ref = getattr(order, "ref", self.first_ref)
        # Those of the gate itself, and of an order history, are of no request: they are named by
        # their place among all.
        self.add("cancel", order=self._numbers.get(ref), place=ref - self.first_ref)

    def add(self, call: str, **arguments: Any) -> int:
        """Record a call; return its number."""
        moment = moment_of(self.gate)
        arguments = {
            name: value if isinstance(value, dict) else self._plain(value)
            for name, value in arguments.items()
        }
        # Backtrader values each data feed whose position somebody has asked for, also at no price.
        asked = getattr(self.gate.inner, "positions", ())
        if len(asked) > self._asked:
            self._asked = len(asked)
            arguments["asked"] = [
                n for data in asked if (n := self._datas.get(id(data))) is not None
            ]
        self.rows.append(
            (len(self.gate.journal.lines), {"call": call, "moment": moment} | arguments)
        )
        return len(self.rows)

    def number_of(self, ref: int | None) -> int | None:
        """Return the number of the request that made an order, None for one of another origin."""
        return None if ref is None else self._numbers.get(ref)

    def _plain(self, value: Any) -> Any:
        """Return an argument of an order as a value that JSON keeps."""
        if isinstance(value, SizeProposal):
            terms = [value.stop_distance, value.step, value.reason, value.rule]
            return {"proposal": [float(value), *terms]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, bt.order.OrderBase):
            number = self._numbers.get(value.ref)
            return {"place": value.ref - self.first_ref} if number is None else {"order": number}
        if isinstance(value, datetime):
            return {"datetime": value.isoformat()}
        if isinstance(value, date):
            return {"date": value.isoformat()}
        if isinstance(value, timedelta):
            return {"seconds": value.total_seconds()}
        if hasattr(value, "item"):  # a number of numpy
            return value.item()
        return {"other": repr(value)}


def first_ref() -> int:
    """Return the number before those of the orders of a run, which Backtrader counts."""
    return int(next(bt.Order.refbasis))


def moment_of(gate: Any) -> list[int]:
    """Return the moment of a run: rounds of the gate, and bars of all data feeds.

    Between two rounds bars come first where strategies order before the open.
    """
    return [gate.book.rounds, sum([len(data) for data in gate.cerebro.datas])]


def decoded(value: Any, orders: Mapping[int, Any], at_place: Callable[[int], Any]) -> Any:
    """Return an argument as it was before `InputLog`.

    `orders` has those of requests by their number, `at_place` returns another one by its place
    among all orders of the run.
    """
    if not isinstance(value, dict):
        return value
    ((kind, plain),) = value.items()
    if kind == "proposal":
        return SizeProposal(*plain)
    if kind == "order":
        return orders.get(plain)
    if kind == "place":
        return at_place(plain)
    if kind == "datetime":
        return datetime.fromisoformat(plain)
    if kind == "date":
        return date.fromisoformat(plain)
    if kind == "seconds":
        return timedelta(seconds=plain)
    return plain
