"""Venue: the verbs that the simulated and the live broker share; nothing else asks which it is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from bt_risk.live.broker_view import BrokerView
from bt_risk.live.equity_monitor import UserEquity
from bt_risk.orders import OrderRequest, Verdict
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder

if TYPE_CHECKING:
    from bt_risk.gate.attached_stops import AttachedStops
    from bt_risk.gate.broker import RiskBroker

__all__ = ["Venue"]

EquitySources = tuple[Callable[[], float], Callable[[], float]]


class Venue:
    """The broker that one `RiskBroker` wraps, `inner`, by what the gate needs of it.

    Attributes
    ----------
    direct : bool
        Whether the broker answers at once and takes every kind of order.
    clamps : bool
        Whether what an order may not open is clamped when it would fill.
    judges_market : bool
        Whether a stop beyond the market would be refused, so that the position is closed at once.
    min_confirmations : int
        Values beyond a drawdown limit that a breaker needs at least before it trips, and margin
        ratios at which a margin call begins, or below which it ends.
    short_cash : bool
        Whether a short sale takes cash instead of bringing some.
    waits_for_children : bool
        Whether the broker holds a bracket back until its last child, so that it is judged then.
    stop_retries : float
        How often a stop that was refused is placed again before its position is closed.
    fits_entries : bool
        Whether every entry is cut to what cash affords when it fills: that is its initial margin,
        where a margin account is simulated.
    attached : AttachedStops or None
        Sends a stop with its entry; None where the gate itself executes both.
    view : BrokerView
        Asks the broker what it holds and what is working there.
    next_notification : callable
        Returns the next order that the broker notifies of, or None.
    place : callable
        Takes an order request and its size, passes them to the broker, and returns the broker's
        order, or None.
    """

    direct: bool
    clamps: bool
    judges_market: bool
    min_confirmations: int
    short_cash: bool
    waits_for_children: bool
    stop_retries: float
    fits_entries = False
    attached: AttachedStops | None = None

    def __init__(self, gate: RiskBroker) -> None:
        self.gate, self.inner = gate, gate.inner
        self.view = BrokerView(gate)
        self.next_notification: Callable[[], Any] = self.inner.get_notification
        self.place: Callable[[OrderRequest, float, bool], Any] = self._place

    # -- the account -----------------------------------------------------------------------------

    def equity_sources(self) -> EquitySources:
        """Return callables for the account value, and for the value that drawdowns are taken of."""
        if self.direct and callable(self.gate.live.equity):
            given = UserEquity(self.gate)
            return given.value, given.value
        return self.own_equity_sources()

    def own_equity_sources(self) -> EquitySources:
        """Return both callables where the user gives none."""
        raise TypeError(f"{type(self).__name__} has no equity")

    def account_calls(self) -> dict[str, Callable[..., Any]]:
        """Return the calls for cash and value that Cerebro makes on every bar."""
        return {"getcash": self.inner.getcash, "getvalue": self.inner.getvalue}

    def plain_account(self) -> bool:
        """Return whether the account is worth what BackBroker has last computed, and no more."""
        return False

    def fund_value(self) -> float:
        """Return the value of one share of the account."""
        value: float = self.inner.fundvalue  # as it is: a numpy number stays one
        return value

    def sample(self, fresh: list[Instrument]) -> None:
        """Check what the account is worth, so that its value is known before it is needed."""

    def held_in(self, data: Any) -> Instrument | None:
        """Return the instrument whose position an order on a data feed changes, if it is known."""
        return self.gate.book.by_data.get(id(data))

    def set_cash(self, cash: float) -> None:
        """Set the cash of the account."""
        self.inner.setcash(cash)

    def cash_flow(self, amount: float) -> None:
        """Count a deposit, or a withdrawal (negative), as no profit and no loss."""
        raise TypeError(f"{type(self).__name__} takes no cash")

    def persist(self) -> dict[str, Any]:
        """Return what must be known of the account after a restart; nothing by default."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from the saved state of the account."""

    def continue_from(self, unit_value: float) -> None:
        """Go on with this unit value, after another broker has been wrapped in the run."""

    def position(self, data: Any) -> Any:
        """Return the position in a data feed, maybe None."""
        return self.raw_position(data)

    def raw_position(self, data: Any) -> Any:
        """Return what the broker answers, maybe None; it may raise whatever its client raises."""
        return self.inner.getposition(data)

    def ask_position(self, instrument: Instrument) -> tuple[bool, Any]:
        """Return whether the broker answers what it holds at the start, and its position."""
        return True, self.position(instrument.data)

    # -- a round of Cerebro's loop ---------------------------------------------------------------

    def execute(self) -> None:
        """Let the broker work, and process what it notifies."""
        self.inner.next()
        self.gate.process_notifications()

    def _place(self, request: OrderRequest, size: float, own: bool) -> Any:
        send = self.inner.buy if request.side > 0 else self.inner.sell
        return send(request.owner, request.sent_on.data, size, **request.args)

    def new_executions(self, order: Any, instrument: Instrument) -> list[Any]:
        """Return the executions of a notification that were not returned before."""
        raise TypeError(f"{type(self).__name__} reports no executions")

    def seen(self, order: Any) -> int:
        """Return how many executions of an order have been returned."""
        return 0

    def skip_executions(self, order: Any, count: int) -> None:
        """Leave out executions that are in the position already."""

    def count_executed(self, order: Any, size: float) -> None:
        """Count units of an order as booked that its notifications have not reported."""

    def note_request(self, instrument: Instrument) -> None:
        """Note that something of an instrument is on its way to the broker."""

    # -- orders ----------------------------------------------------------------------------------

    def clamp_fills(self) -> None:
        """Clamp orders at the moment they execute, from now on, where the broker allows that."""

    def attach_stops(self) -> None:
        """Let stops be active from the fill of the entry on, where the broker allows that."""

    @property
    def rests_targets(self) -> bool:
        """Return whether a limit of ours can rest beside a stop, and neither can open anything."""
        return False

    def pair_exits(self) -> None:
        """Bring our stops and targets into sequence where one bar reaches both, from now on."""

    def use_margin(self, monitor: Any) -> None:
        """Let the venue take part in a margin account: a simulation liquidates, others report."""

    def release(self) -> None:
        """Leave the broker as it was found."""

    def own_arguments(self) -> dict[str, Any]:
        """Return the arguments of an order of ours, beside those of every order."""
        return {}

    def takes_two_exits(self, instrument: Instrument) -> bool:
        """Return whether a new stop may rest beside the one that it takes the place of."""
        return False

    def amend(self, working: WorkingOrder, size: float, price: float) -> bool:
        """Give a resting stop of ours another size and price; return whether that is done.

        Where it cannot be done in one step, the stop is cancelled, and the caller places a new one
        once the cancel is confirmed.
        """
        raise TypeError(f"{type(self).__name__} cannot amend an order")

    def replaced(self, working: WorkingOrder, size: float, price: float) -> bool:
        """Give a resting order another size and price in one request; return if that is done."""
        return False

    def may_try(self, part: OwnerPosition) -> bool:
        """Return whether to send an exit now: after a refusal the broker is left alone."""
        return True

    def withdraw(self, order: Any) -> None:
        """Cancel an order; calling it again is safe."""
        raise TypeError(f"{type(self).__name__} cannot cancel an order")

    def withdrew(self, ref: int) -> bool:
        """Return whether the gate has cancelled an order."""
        return False

    def awaited(self, working: WorkingOrder) -> bool:
        """Return whether a working order's end is worth waiting for: it answers to cancels."""
        return True

    def on_its_way(self, working: WorkingOrder) -> bool:
        """Return whether a market exit may still fill."""
        return True

    def closable(self, part: OwnerPosition, size: float) -> float:
        """Return how much of `size` the broker still holds, where an order is unanswered."""
        return size

    def is_trusted(self, instrument: Instrument) -> bool:
        """Return whether the position that the broker reports of an instrument can be used."""
        return True

    def contract(self, instrument: Instrument) -> tuple[Instrument, ...]:
        """Return the instruments that share a position with this one at the venue."""
        return (instrument,)

    def is_flat(self) -> bool:
        """Return whether the broker holds nothing beyond the book, as far as it can be asked."""
        return True

    def forget(self, ref: int) -> None:
        """Forget an order that ended long ago."""

    def cancel_entry(self, order: Any) -> None:
        """Cancel an entry, but none of its alternatives: some may be exits."""
        self.withdraw(order)

    def refuse_entries(self, state: str, rule: str) -> None:
        """Cancel entries that must not fill in a new state of the gate."""
        self.gate.exit_orders.cancel_entries(rule)

    def close(self, part: OwnerPosition, rule: str, reason: str, stops: bool = False) -> list[Any]:
        """Close an owner's position at the market; return the orders once they are sent.

        `stops` says that it takes the place of a stop.
        """
        raise TypeError(f"{type(self).__name__} cannot close a position")

    def uncovered(self, part: OwnerPosition) -> float:
        """Return the size that a stop must protect."""
        return abs(part.size)

    def mark_closing(self, part: OwnerPosition) -> None:
        """Remember that a position is being closed, so that no stop is placed behind it again."""

    def end_closing(self) -> None:
        """Forget which positions are being closed: entries are judged again."""

    def leaving(self, instrument: Instrument) -> Collection[WorkingOrder]:
        """Return the market exits that fill before an order on an instrument would."""
        return ()

    def hold(
        self, request: OrderRequest, size: float, opening: float, closing: float, waits: bool
    ) -> Any:
        """Hold back an order that must not be at the broker yet; return a stand-in, or None."""
        return None

    def hold_entry(self, request: OrderRequest, verdict: Verdict) -> Any:
        """Hold back an entry for which a market exit makes room; return a stand-in, or None."""
        return None

    def goes_on(self, order: Any) -> bool:
        """Return whether an order that has ended at the broker goes on in the gate."""
        return False

    def note_excess(self, order: Any, part: OwnerPosition, excess: float) -> None:
        """Note units that an order has filled beyond what it was allowed to open."""

    def beyond(self, order: Any, opens: float) -> float:
        """Return what an order that had ended has opened beyond its allowance."""
        return 0.0

    def settle(self, request: OrderRequest, order: Any) -> Any:
        """Process what the broker answers at once; return the order for the strategy."""
        return order

    def fit_at_fill(self, order: Any, step: float | None) -> None:
        """Cut an entry to what cash affords when it fills, where the broker allows that."""

    def link_rejected(self, order: Any, oco: Any) -> None:
        """Let a later order name a rejected one as its OCO."""

    def oco_leader(self, order: Any) -> int | None:
        """Return the ref of the first order of an OCO group, None for an order alone."""
        return None

    def take_family(self, parent: Any) -> list[Any]:
        """Take the orders of a bracket that the broker holds back until its last child comes."""
        return []

    def set_aside_family(self, parent: Any) -> list[Any]:
        """Take the orders of a bracket that were sent, so that a late child does not send them."""
        return []

    def put_back_family(self, parent: Any, orders: list[Any]) -> None:
        """Put the orders of a bracket back before its late child."""

    def family_waits(
        self, request: OrderRequest, verdict: Verdict, parent: Any, judge: Callable[[], None]
    ) -> bool:
        """Return whether a bracket waits until a market exit makes room; `judge` is called then."""
        return False

    def send_family(self, parent: Any, whole: bool = False) -> Any:
        """Send the orders of a bracket that were held back; return the broker's parent, or None.

        `whole` says that no further child comes.
        """
        return parent

    def give_back_family(self, parent: Any, orders: list[Any]) -> None:
        """Let the broker hold orders of a bracket back again."""
