"""Protocols: the parts of the gate that the live path uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bt_risk.orders import OrderRequest
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.live.exit_handover import ExitHandover
    from bt_risk.live.feed_monitor import FeedMonitor
    from bt_risk.live.order_sender import OrderSender
    from bt_risk.live.settings import Live

__all__ = ["FillTracker", "Gate", "Journal", "Reconciler", "Recorder", "State", "Venue"]


class Journal(Protocol):
    """The decisions of the run, one line for each."""

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

    def skips(self, order: Any) -> int:
        """Return how many executions of an order are in the book already."""


class State(Protocol):
    """The saved state of the run, or none."""

    @property
    def recorder(self) -> Recorder:
        """The writer of the state file."""

    @property
    def reconciler(self) -> Reconciler:
        """The comparison with the broker."""


class FillTracker(Protocol):
    """The part of the gate that books fills."""

    @property
    def flow(self) -> float:
        """Cash that all fills have brought, less commission."""

    @property
    def unknown(self) -> set[int]:
        """Instruments whose positions from before the run are not known yet."""

    def take(self, order: Any) -> bool:
        """Book a notification; return whether something filled."""


class Venue(Protocol):
    """The wrapped broker."""

    direct: bool

    def position(self, data: Any) -> Any:
        """Return the position in a data feed, maybe None."""

    def withdraw(self, order: Any) -> None:
        """Cancel an order; calling it again is safe."""

    def hold(self, request: OrderRequest, size: float) -> Any:
        """Hold a market exit back until our stop is cancelled; return a stand-in, or None."""


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
    def exit_handover(self) -> ExitHandover:
        """The part that holds exits back while a stop is being cancelled."""

    @property
    def feed_monitor(self) -> FeedMonitor:
        """The part that checks the data feeds."""

    @property
    def intervenes(self) -> bool:
        """Return whether anything here may refuse, clamp or move something."""

    def announce(self, order: Any) -> None:
        """Notify of an order that the wrapped broker does not know."""

    def set_state(self, source: Any, state: str, reason: str = ...) -> None:
        """Request a trading state for a source."""

    def stop_engine(self, between_bars: bool = ...) -> None:
        """End the run."""
