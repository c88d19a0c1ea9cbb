"""Protocols: the parts of the gate that are saved and restored, as the state needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from bt_risk.limits.base import Limit
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.state.file import Record
from bt_risk.state.requests import OperatorRequest

__all__ = [
    "FillTracker",
    "Gate",
    "Journal",
    "Monitor",
    "Operator",
    "RecordedRun",
    "Settings",
    "TradingState",
    "Venue",
]


class Journal(Protocol):
    """The decisions of the run, oldest first."""

    lines: list[tuple[Any, ...]]
    orders: dict[int, int]

    def record(self, time: float, data: str, rule: str, action: str, *, reason: str = "") -> None:
        """Add one line about one instrument, or about the account where `data` is empty."""

    def account(self, rule: str, action: str, reason: str) -> None:
        """Add a line about the whole account."""

    def once(self, key: object) -> bool:
        """Return whether a note with this key is to be written: the first time only."""


class TradingState(Protocol):
    """The trading state of the gate, by the sources that have requested it."""

    asked: dict[Any, tuple[str, str]]

    def set(self, source: Any, state: str, reason: str = "") -> None:
        """Request a state for a source, and write a line about it."""

    def persist(self) -> dict[str, Record]:
        """Return the requests that last longer than this run, by source."""

    def restore(self, saved: dict[str, Record]) -> None:
        """Request again what an earlier run had requested."""

    def rearm(self) -> None:
        """Take back every request but those of the breakers."""


class Monitor(Protocol):
    """A monitor of the gate; one with a `state_kind` is saved under that name."""

    state_kind: str

    @property
    def final(self) -> bool:
        """Return whether no operator can re-arm it."""

    def persist(self) -> Iterable[tuple[str, Record]]:
        """Return ``(key, plain values)`` of everything that must survive the process."""

    def restore(self, saved: dict[str, Record]) -> None:
        """Go on from the saved values, by key."""

    def rearm(self) -> None:
        """Take back what was tripped."""


class Registry(Protocol):
    """The limits and monitors of the run."""

    @property
    def limits(self) -> Sequence[Limit]:
        """Limits, in the order in which they are asked."""

    @property
    def monitors(self) -> Sequence[Monitor]:
        """Monitors, in the order in which they are called."""


class FillTracker(Protocol):
    """The part of the gate that books fills."""

    touched: list[OwnerPosition]

    @property
    def unknown(self) -> set[int]:
        """Instruments whose positions from before the run are not known yet."""


class View(Protocol):
    """The part that asks the broker what is working there."""

    error: str

    @property
    def declared(self) -> bool:
        """Whether the broker declares that it lists every order that is working."""

    def open_orders(self) -> list[Any] | None:
        """Return the orders that are alive at the broker, None where it does not answer."""

    def position(self, instrument: Instrument) -> float | None:
        """Return the signed size that the broker holds, None where it does not answer."""


class Venue(Protocol):
    """The wrapped broker."""

    direct: bool

    @property
    def view(self) -> View:
        """The part that asks the broker."""

    def persist(self) -> Record:
        """Return what must be known of the account after a restart."""

    def restore(self, saved: Record) -> None:
        """Go on from the saved state of the account."""

    def position(self, data: Any) -> Any:
        """Return the position in a data feed, maybe None."""

    def withdraw(self, order: Any) -> None:
        """Cancel an order; calling it again is safe."""

    def withdrew(self, ref: int) -> bool:
        """Return whether the gate has cancelled an order."""

    def skip_executions(self, order: Any, count: int) -> None:
        """Leave out executions that are in the position already."""


class Capabilities(Protocol):
    """What the broker can do."""

    def can(self, capability: str) -> bool:
        """Return whether the broker has a capability."""


class OrderSender(Protocol):
    """The part that sends orders."""

    @property
    def capabilities(self) -> Capabilities:
        """What the broker can do."""


class Settings(Protocol):
    """The clocks of the run."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds that never jump."""

    @property
    def now(self) -> Callable[[], float]:
        """Seconds since 1970."""


class RecordedRun(Protocol):
    """The parts of one `RiskBroker` that are saved."""

    cerebro: Any

    @property
    def book(self) -> Book:
        """Positions, working orders and closed trades."""

    @property
    def journal(self) -> Journal:
        """Decisions of the run."""

    @property
    def registry(self) -> Registry:
        """Limits and monitors of the run."""

    @property
    def live(self) -> Settings:
        """The clocks of the run."""

    @property
    def fill_tracker(self) -> FillTracker:
        """The part of the gate that books fills."""

    @property
    def venue(self) -> Venue:
        """The wrapped broker."""

    @property
    def trading_state(self) -> TradingState:
        """Return what operators and breakers have requested."""


class Operator(Protocol):
    """The part of the gate that carries out what an operator requests."""

    def waits(self, request: OperatorRequest) -> bool:
        """Return whether a request cannot be carried out yet."""

    def carry_out(self, request: OperatorRequest) -> str:
        """Do what is requested, and return the answer."""


class Gate(RecordedRun, Protocol):
    """The parts of one `RiskBroker` that are compared with the broker and restored."""

    inner: Any
    own: dict[int, Any]
    ticks: int

    @property
    def intervenes(self) -> bool:
        """Return whether anything here may refuse, clamp or move something."""

    @property
    def order_sender(self) -> OrderSender:
        """The part that sends orders."""

    @property
    def operator(self) -> Operator:
        """The part of the gate that carries out requests."""

    def multiplier(self, data: Any) -> float:
        """Return the contract multiplier of a data feed."""

    def process_notifications(self) -> None:
        """Book what the broker has notified."""
