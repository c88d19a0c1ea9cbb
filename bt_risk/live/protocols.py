"""Protocols: the parts of the gate that the live path uses."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol

from bt_risk.limits.base import Decision
from bt_risk.orders import OrderRequest, Verdict
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, WorkingOrder

if TYPE_CHECKING:
    from bt_risk.live.broker_view import BrokerView
    from bt_risk.live.feed_monitor import FeedMonitor
    from bt_risk.live.held_orders import HeldOrders
    from bt_risk.live.order_sender import OrderSender
    from bt_risk.live.settings import Live

__all__ = ["FillTracker", "Gate", "Journal", "Reconciler", "Recorder", "State", "Venue"]


class Journal(Protocol):
    """The decisions of the run, one line for each."""

    def once(self, key: object) -> bool:
        """Return whether a note with this key is to be written: the first time only."""

    def account(self, rule: str, action: str, reason: str) -> None:
        """Add a line about the whole account."""

    def instrument(self, instrument: Instrument, rule: str, action: str, reason: str) -> None:
        """Add a line about one instrument."""

    def order(self, order: Any, rule: str, action: str, reason: str, allowed: float = ...) -> None:
        """Add a line about an order that was sent before."""

    def record(
        self, time: float, data: str, rule: str, action: str, requested: float, *, reason: str = ""
    ) -> None:
        """Add a line with a size."""


class Recorder(Protocol):
    """The writer of the state file; without a file it does nothing."""

    differences: list[str]

    @property
    def intended(self) -> str | None:
        """The id of the order that is about to be sent."""

    def intend(
        self,
        request: OrderRequest,
        size: float,
        own: bool = ...,
        opening: float = ...,
        distance: float = ...,
    ) -> str:
        """Write an order that is about to be sent; return why that failed, or an empty text."""

    def sent(self, order: Any) -> None:
        """Give the sent order the id of its intent; None: no order came of it."""

    def name(self, order: Any, client_id: str) -> None:
        """Save an order under the id that it was sent with."""

    def rename(self, ref: int, order: Any) -> None:
        """Save an order under the id of the one that has stood in for it."""

    def save(self) -> str:
        """Write what has changed; return why it could not be written, or an empty text."""


class Reconciler(Protocol):
    """The comparison of the saved orders with the broker's."""

    def remembered(self, order: Any) -> WorkingOrder | None:
        """Return a saved order that had ended when the run began, None for any other."""

    def skips(self, order: Any) -> int:
        """Return how many executions of an order are in the book already."""


class State(Protocol):
    """The saved state of the run, or none."""

    active: bool

    @property
    def recorder(self) -> Recorder:
        """The writer of the state file."""

    @property
    def reconciler(self) -> Reconciler:
        """The comparison with the broker."""


class FillTracker(Protocol):
    """The part of the gate that books fills."""

    flow: float

    @property
    def unknown(self) -> set[int]:
        """Instruments whose positions from before the run are not known yet."""

    @property
    def touched(self) -> list[OwnerPosition]:
        """Positions that have filled since the monitors were called last."""

    @property
    def ended(self) -> set[int]:
        """Refs of orders that have ended."""

    def take(self, order: Any) -> bool:
        """Book a notification; return whether something filled."""

    def touch(self, part: OwnerPosition) -> None:
        """Let the exits of a position be settled before the next bar is acted upon."""


class ExitOrders(Protocol):
    """The part that sends orders of bt_risk."""

    def send_all(self, part: OwnerPosition, size: float, rule: str, reason: str) -> Any:
        """Close `size` of a position at the market."""


class LimitReview(Protocol):
    """The part of the gate that asks the limits."""

    def review(
        self,
        request: OrderRequest,
        opening: float,
        distance: float,
        *,
        gone: Collection[WorkingOrder],
    ) -> Decision:
        """Ask every limit about the part that opens, while what some exits close is gone."""


class OrderReview(Protocol):
    """The part that judges orders; `rejected` has the reasons of those that were not sent."""

    events: Any
    rejected: dict[int, str]

    @property
    def limits(self) -> LimitReview:
        """The part that asks the limits."""

    def look_ahead(self, request: OrderRequest) -> None:
        """Compute the preview of a request, as things are."""

    def problem(self, request: OrderRequest) -> Decision | None:
        """Return why an order cannot be judged at all, None where it can."""

    def judge(self, request: OrderRequest) -> Verdict:
        """Return what may be sent of an order."""

    def asked(self, request: OrderRequest, verdict: Verdict) -> Any:
        """Return what an order requests to open."""

    def units(self, request: OrderRequest, size: float) -> float:
        """Return a size as brokers expect it."""

    def record_accepted(
        self, request: OrderRequest, size: float, verdict: Verdict, order: Any
    ) -> None:
        """Record what was allowed of an order."""


class Venue(Protocol):
    """The wrapped broker."""

    direct: bool
    view: BrokerView
    place: Callable[[OrderRequest, float, bool], Any]

    def awaited(self, working: WorkingOrder) -> bool:
        """Return whether a working order's end is worth waiting for: it answers to cancels."""

    def on_its_way(self, working: WorkingOrder) -> bool:
        """Return whether a market exit may still fill."""

    def closable(self, part: OwnerPosition, size: float) -> float:
        """Return how much of `size` the broker still holds, where an order is unanswered."""

    def held_in(self, data: Any) -> Instrument | None:
        """Return the instrument whose position an order on a data feed changes, if it is known."""

    def is_trusted(self, instrument: Instrument) -> bool:
        """Return whether the position that the broker reports of an instrument can be used."""

    def contract(self, instrument: Instrument) -> tuple[Instrument, ...]:
        """Return the instruments that share a position with this one at the venue."""

    def seen(self, order: Any) -> int:
        """Return how many executions of an order have been booked."""

    def skip_executions(self, order: Any, count: int) -> None:
        """Leave out executions that are in the position already."""

    def count_executed(self, order: Any, size: float) -> None:
        """Count units of an order as booked that its notifications have not reported."""

    def note_request(self, instrument: Instrument) -> None:
        """Note that something of an instrument is on its way to the broker."""

    def position(self, data: Any) -> Any:
        """Return the position in a data feed, maybe None."""

    def raw_position(self, data: Any) -> Any:
        """Return what the broker answers, maybe None; it may raise whatever its client raises."""

    def withdraw(self, order: Any) -> None:
        """Cancel an order; calling it again is safe."""

    def hold(
        self, request: OrderRequest, size: float, opening: float, closing: float, waits: bool
    ) -> Any:
        """Hold back an order that must not be at the broker yet; return a stand-in, or None."""

    def replaced(self, working: WorkingOrder, size: float, price: float) -> bool:
        """Give a resting order another size and price in one request; return if that is done."""

    def may_try(self, part: OwnerPosition) -> bool:
        """Return whether to send an exit now: after a refusal the broker is left alone."""


class Gate(Protocol):
    """The parts of one `RiskBroker` that the live path uses."""

    inner: Any
    cerebro: Any
    own: dict[int, Any]
    ticks: int
    live: Live

    @property
    def book(self) -> Book:
        """Positions, working orders and closed trades."""

    @property
    def journal(self) -> Journal:
        """Decisions of the run."""

    @property
    def bypass(self) -> Any:
        """The part that counts what got around the gate."""

    @property
    def venue(self) -> Venue:
        """The wrapped broker, by the verbs that every venue has."""

    @property
    def recovery(self) -> State:
        """The saved state, or a state that does nothing."""

    @property
    def fill_tracker(self) -> FillTracker:
        """The part that books fills."""

    @property
    def order_sender(self) -> OrderSender:
        """The part that sends orders."""

    @property
    def held_orders(self) -> HeldOrders:
        """The orders that the gate holds back."""

    @property
    def exit_orders(self) -> ExitOrders:
        """The part that sends orders of bt_risk."""

    @property
    def order_review(self) -> OrderReview:
        """The part that judges orders."""

    @property
    def trading_state(self) -> Any:
        """The trading state; it is true while entries are refused."""

    @property
    def equity(self) -> Callable[[], float]:
        """The callable for the account value."""

    @property
    def feed_monitor(self) -> FeedMonitor:
        """The part that checks the data feeds."""

    @property
    def intervenes(self) -> bool:
        """Return whether anything here may refuse, clamp or move something."""

    def announce(self, order: Any) -> None:
        """Notify of an order that the wrapped broker does not know."""

    def multiplier(self, data: Any) -> float:
        """Measure what a point of a data feed is worth."""

    def process_notifications(self) -> None:
        """Book what is notified, and pass it on in the same sequence."""

    def set_state(self, source: Any, state: str, reason: str = ...) -> None:
        """Request a trading state for a source."""

    def stop_engine(self, between_bars: bool = ...) -> None:
        """End the run."""
