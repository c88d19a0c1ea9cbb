"""Bypass: notice what got around the gate, by its effects, and bring it under the rules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bt_risk.gate.broker_proxy import BrokerProxy
from bt_risk.live.capabilities import Capabilities
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker

__all__ = ["ON_BYPASS", "Bypass", "running_gate"]

ON_BYPASS = ("alert", "halt")

_MARK = "_bt_risk_run"


class Bypass:
    """Notice orders, positions and brokers that the gate has not sent or wrapped.

    Each is written to the journal, passed to the listeners of alerts, booked as a position of its
    owner, so that stops and limits count it, and with ``on_bypass="halt"`` followed by a halt.

    Attributes
    ----------
    count : int
        Orders, positions and brokers that got around the gate so far.
    checks : dict of int to int
        Has as keys the indexes of the instruments whose position is compared with the book on their
        next bar. Behind a live broker `Reconciliation` compares them.
    """

    def __init__(self, gate: RiskBroker) -> None:
        self.gate = gate
        self.count = 0
        self.checks: dict[int, int] = {}
        self._reported: set[int] = set()
        self._halt = ""

    def begin(self) -> None:
        """Let `running_gate` find the gate of this run."""
        cerebro = self.gate.cerebro
        setattr(cerebro, _MARK, (self.gate, getattr(cerebro, "runningstrats", None)))

    def end(self) -> None:
        """Let `running_gate` find no gate any more."""
        vars(self.gate.cerebro).pop(_MARK, None)

    # -- fills -----------------------------------------------------------------------------------

    def filled(self, order: Any, instrument: Instrument, size: float, price: float) -> None:
        """Report a fill, of signed `size`, of an order that the gate has not sent."""
        what = f"an order for {size:+g} {instrument.name} has filled at {price:g}"
        if order.exectype == order.Historical:
            reason = f"history: {what}; it comes from add_order_history, and no rule has judged it"
            self.gate.journal.instrument(
                instrument, "history", "note", reason, requested=abs(size), allowed=abs(size)
            )
        elif not order.p.simulated and order.ref not in self._reported:
            # A store invents a simulated order to explain a position from before the run.
            self._reported.add(order.ref)
            self._report(f"{what} that the gate has not sent: no rule has judged it", instrument)

    def stop_cancelled(self, part: OwnerPosition) -> None:
        """Report, once for each trade, that somebody else has cancelled the stop behind it."""
        instrument = part.instrument
        if self.gate.journal.once(("stop cancelled", part, part.number)):
            what = f"the stop of {instrument.name} was cancelled, and not by the gate"
            self._report(f"{what}: it is placed again, and until then nothing protects", instrument)

    # -- positions -------------------------------------------------------------------------------

    def check(self, fresh: list[Instrument]) -> None:
        """Halt where that is due, and compare positions with the book after a fill."""
        if self._halt:
            reason, self._halt = self._halt, ""
            self.gate.trading_state.halt(reason, False)
        if not self.gate.venue.direct:
            self.checks.clear()
        for instrument in fresh:
            if instrument.index in self.checks:
                del self.checks[instrument.index]
                self._compare(instrument)

    def _compare(self, instrument: Instrument) -> None:
        """Report a position that the book does not have, and book it."""
        position = self.gate.venue.position(instrument.data)
        held, booked = 0.0 if position is None else float(position.size), instrument.size
        # Sums of floats differ by more, the larger they were.
        largest = max([1.0, abs(held), *[part.peak for part in instrument.parts]])
        if abs(held - booked) > SIZE_EPS * largest and math.isfinite(held):
            what = f"the broker holds {held:g} {instrument.name} where the orders of the gate make"
            self._report(f"{what} {booked:g}: no rule has judged the difference", instrument)
            self._book(instrument, held - booked)

    def _book(self, instrument: Instrument, difference: float) -> None:
        gate, price = self.gate, instrument.price
        part = self._part(instrument, difference)
        gate.book.fill(part, difference, price, 0.0, instrument.time)
        gate.fill_tracker.flow -= difference * instrument.value  # no gain and no loss
        gate.fill_tracker.touched += [p for p in instrument.parts if p is part]

    def _part(self, instrument: Instrument, difference: float) -> OwnerPosition:
        """Return the part that a difference reduces most, else that of the first strategy."""
        against = [part for part in instrument.parts if part.size * difference < 0]
        if against:
            return max(against, key=lambda part: abs(part.size))
        return self.gate.book.part(instrument, self.gate.cerebro.runningstrats[0])

    # -- brokers ---------------------------------------------------------------------------------

    def restore(self, strategy: Any) -> RiskBroker:
        """Put the gate back where a strategy has set another broker; return it.

        A broker that was set for the run is wrapped from now on, so that its orders are judged.
        """
        cerebro: Any = strategy.cerebro
        replaced = cerebro._broker
        if not self._is_gate(replaced):
            cerebro._broker = self.gate
            self._wrap(replaced)
        gate: RiskBroker = cerebro._broker
        for one in (strategy, *cerebro.runningstrats):
            if one.broker is not gate:
                if not self._is_gate(one.broker) and one.broker is not replaced:
                    self._report(
                        f"{type(one).__name__} has set {_kind(one.broker)} as its broker instead "
                        "of the gate: it has the gate again, which judges every order from now on"
                    )
                one.broker = one._sizer.broker = gate
        return gate

    def _is_gate(self, broker: Any) -> bool:
        """Return whether a broker is the gate, or has joined it."""
        return getattr(broker, "__dict__", None) is vars(self.gate)

    def _wrap(self, broker: Any) -> None:
        self._report(
            f"a strategy has replaced the broker of the run by {_kind(broker)}: the gate wraps "
            "that one now, and judges every order from now on"
        )
        gate = self.gate
        if isinstance(broker, BrokerProxy):  # a gate of its own: its limits count beside ours
            for limit in broker.registry.permanent:
                gate.add_limit(limit)
            broker = broker.inner
        if broker is gate.inner:
            return
        if gate.registry.rounds is not None:
            gate.registry.rounds.wake_all()
        unit_value = gate.unit_value()
        gate.venue.release()
        gate.connect(broker)
        gate.book.changes += 1
        broker.cerebro = gate.cerebro
        for ref in list(gate.book.working):  # nobody runs the broker that has them
            gate.book.drop(ref)
        declared = gate.live.capabilities or {}
        gate.order_sender.capabilities = Capabilities(broker, declared, gate.venue.direct)
        gate.equity, gate.unit_value = gate.venue.equity_sources()
        if gate.judges:
            gate.venue.clamp_fills()
        if gate.book.rounds:
            gate.venue.continue_from(unit_value)
        self.checks = dict.fromkeys([one.index for one in gate.book.instruments], 0)

    # -- reports ---------------------------------------------------------------------------------

    def _report(self, what: str, instrument: Instrument | None = None) -> None:
        reason, journal = f"bypass: {what}", self.gate.journal
        if instrument is None:
            journal.account("bypass", "bypass", reason)
        else:
            journal.instrument(instrument, "bypass", "bypass", reason)
        self.count_one(reason)

    def count_one(self, reason: str) -> None:
        """Count something that got around the gate, which is in the journal, and halt if set."""
        self.count += 1
        if self.gate.on_bypass == "halt" and not self._halt:
            self._halt = reason
            if not self.checks:  # no fill has happened: nothing else is in hand
                self.check([])


def running_gate(cerebro: Any) -> RiskBroker | None:
    """Return the gate that a run has begun with, None where it has none yet."""
    gate, run = getattr(cerebro, _MARK, (None, None))
    return gate if run is getattr(cerebro, "runningstrats", None) else None


def _kind(broker: Any) -> str:
    return f"{type(broker).__name__} of its own"
