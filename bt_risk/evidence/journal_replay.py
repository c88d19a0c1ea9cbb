"""Repeat a run from the inputs of its journal: the same requests at the same moments."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import backtrader as bt

from bt_risk.components.run_settings import rules_of
from bt_risk.errors import BtRiskError
from bt_risk.evidence.runner import quiet
from bt_risk.gate.input_log import decoded, moment_of
from bt_risk.limits.base import Limit
from bt_risk.orders import SizeProposal
from bt_risk.policy import Policy
from bt_risk.protection import protect

__all__ = ["Repeated", "repeat"]

Input = Mapping[str, Any]


@dataclass
class Repeated:
    """What a repeated run has decided.

    Attributes
    ----------
    lines : list of tuple
        Its journal, as in `bt_risk.gate.journal.FIELDS`.
    rules : list of str
        Its limits and monitors by name.
    sizes : dict of int to (float, float)
        The sizes that the sizer of the policy proposed otherwise, by the number of the input: as
        recorded, and as computed now.
    left : list of int
        Inputs that found no place in it.
    """

    lines: list[tuple[Any, ...]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    sizes: dict[int, tuple[float, float]] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)


def repeat(
    build: Callable[[], bt.Cerebro],
    policy: Policy,
    inputs: Sequence[Input],
    run: Input,
    limits: Sequence[Limit] = (),
) -> Repeated:
    """Run the requests of a journal through the gate again.

    Parameters
    ----------
    build : callable
        Returns a Cerebro with data feeds and broker; its strategies are left out.
    policy : Policy
    inputs : list of dict
        What the run was given: see `bt_risk.gate.input_log.InputLog`.
    run : dict
        What it was: see `bt_risk.components.run_settings.run_settings`.
    limits : list of Limit
        Those that the run had beside the policy.
    """
    cerebro, found = build(), Repeated()
    cerebro.strats.clear()
    cerebro.signals = []  # Backtrader's own, from which it makes a strategy
    player = _Player(inputs, found)
    for place, strategy in enumerate(run["strategies"]):
        # The journal names a strategy and its sizer.
        kind = type(strategy["name"], (_Repeating,), {})
        sizer = None if strategy["by_policy"] else strategy["sizer"]
        cerebro.addstrategy(kind, player=player, leads=not place, sizer=sizer)
    # A journal with inputs counts orders as that of the run did.
    with tempfile.TemporaryDirectory() as folder, quiet():
        journal = Path(folder) / "journal.db"
        protect(cerebro, policy, run["mode"], limits=limits, journal=journal)
        strategies = cerebro.run()
    found.lines = strategies[-1].analyzers.riskjournal.rows()
    return found


class _Player:
    """Send the requests of a journal when their moment has come."""

    def __init__(self, inputs: Sequence[Input], found: Repeated) -> None:
        self.inputs, self.found = inputs, found
        self._next = 0
        self._orders: dict[int, Any] = {}

    def play(self, strategies: Sequence[Any], gate: Any) -> None:
        """Send what was requested up to now, in the sequence of the run."""
        now = moment_of(gate)
        while self._next < len(self.inputs) and self.inputs[self._next]["moment"] <= now:
            self._ask(gate)
            self._next += 1
            given = self.inputs[self._next - 1]
            try:
                self._repeat(self._next, given, strategies, gate)
            except BtRiskError:  # the strategy has had the same error, and has gone on
                continue
        self._ask(gate)

    def _ask(self, gate: Any) -> None:
        """Ask for the positions that the strategies had asked for when the next input came.

        That changes a value only where a data feed has no price: see `InputLog.add`.
        """
        given = self.inputs[self._next] if self._next < len(self.inputs) else {}
        for place in given.get("asked", ()):
            data = gate.cerebro.datas[place]
            if len(data):
                gate.getposition(data)

    def end(self, gate: Any) -> None:
        """Note what the run did not come to."""
        self.found.rules = rules_of(gate)
        self.found.left += range(self._next + 1, len(self.inputs) + 1)

    def _repeat(self, number: int, given: Input, strategies: Sequence[Any], gate: Any) -> None:
        call = given["call"]
        if call in ("buy", "sell"):
            self._orders[number] = self._order(number, given, strategies, gate)
        elif call == "cancel":
            order = self._orders.get(given["order"])
            gate.cancel(_at_place(gate, given["place"]) if order is None else order)
        elif call == "rearm":
            strategies[0].analyzers.drawdownbreaker.rearm()
        elif call in ("setcash", "cash_flow", "add_cash"):
            getattr(gate, call)(given["amount"])
        else:
            arguments = {name: given[name] for name in ("reason", "flatten") if name in given}
            getattr(gate, call)(**arguments)

    def _order(self, number: int, given: Input, strategies: Sequence[Any], gate: Any) -> Any:
        owner, data = strategies[given["owner"]], gate.cerebro.datas[given["data"]]
        known = self._orders, partial(_at_place, gate)
        terms = {name: decoded(value, *known) for name, value in given["terms"].items()}
        size = decoded(given["size"], *known)
        if isinstance(size, SizeProposal):
            size = self._proposed(number, size, owner, data, given["call"] == "buy")
        if given["closes"]:  # the gate asks which of Backtrader's methods sends an order
            return owner.close(data=data, size=size, **terms)
        return getattr(gate, given["call"])(owner, data, size, **terms)

    def _proposed(
        self, number: int, recorded: SizeProposal, owner: Any, data: Any, buys: bool
    ) -> Any:
        """Return what the sizer proposes now, where it is one of the policy or of `build`."""
        if isinstance(owner.getsizer(), _NamedSizer):
            return recorded
        size = abs(owner.getsizing(data, isbuy=buys))
        if not math.isclose(size, recorded, rel_tol=1e-9):
            self.found.sizes[number] = float(recorded), float(size)
        return size


def _at_place(gate: Any, place: int) -> Any:
    """Return the order that no request has made at this place among all orders of the run.

    It is one of the gate itself or of an order history. Where one of a history has ended, what
    comes back has only its number, which is what other orders are linked by.
    """
    ref = gate.inputs.first_ref + place
    if ref in gate.own:
        return gate.own[ref]
    resting = (order for order in gate.inner.get_orders_open() if order.ref == ref)
    return next(resting, SimpleNamespace(ref=ref))


class _NamedSizer(bt.Sizer):
    """Stand for a sizer that a strategy had set itself: only its name is asked."""


class _Repeating(bt.Strategy):
    """Let a `_Player` send what the strategy of this name has requested."""

    params = dict(player=None, leads=False, sizer=None)

    def __init__(self) -> None:
        if self.p.sizer is not None:  # `addsizer` of a Cerebro goes before it
            self.setsizer(type(self.p.sizer, (_NamedSizer,), {})())

    def start(self) -> None:
        """Send orders also before each round of the broker: at the open, and from timers."""
        self._play()
        gate = self.broker
        if self.p.leads:
            execute = gate.next

            def play_and_execute() -> None:
                self._play()
                execute()

            gate.__dict__["next"] = play_and_execute

    def _play(self) -> None:
        if self.p.leads:
            self.p.player.play(self.cerebro.runningstrats, self.broker)

    prenext = nextstart = next = _play

    def stop(self) -> None:
        """Send what was requested at the end."""
        self._play()
        if self.p.leads:
            self.p.player.end(self.broker)
