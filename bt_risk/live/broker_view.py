"""BrokerView: ask the wrapped broker what it holds and what is working there.

One answer of a broker is no fact: it may raise, answer nothing at all, answer from an old copy, or
list no orders while some are working. This is the only place that asks, at ``gate.venue.view``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bt_risk.orders import CLIENT_ID, KINDS, venue_id
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder
from bt_risk.tolerances import PRICE_EPS, SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["BrokerView", "Look", "alike", "open_orders_of"]

# What an error is called, or what it says, where a broker receives more requests than it allows.
_TOO_MANY = re.compile(
    r"(?<![\d.])429(?![\d.]?\d)|Too ?Many|Rate ?Limit|DDoSProtection", re.IGNORECASE
)
# Seconds without a request after such an error, and the most that they are doubled to.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0


@dataclass
class Look:
    """What the broker has answered at one moment.

    Attributes
    ----------
    sizes : dict of int to float or None
        Signed position by index of the instrument; None where the broker has not answered.
    orders : list of orders or None
        What is working; None where the broker has not answered or has no list.
    """

    sizes: dict[int, float | None] = field(default_factory=dict)
    orders: list[Any] | None = None


class BrokerView:
    """Ask the broker of one `RiskBroker` for positions and open orders, and believe no one answer.

    A broker may have ``account_snapshot(datas)``, which returns a dict of the signed size by data
    feed and a list of the open orders: then one request serves a whole `look`.

    Attributes
    ----------
    error : str
        The error that the last request has raised, empty where it was answered.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.error = ""
        self._listed: list[Any] | None = None
        self._shown: set[int] = set()
        self._pause, self._silent_until = 0.0, -math.inf

    # -- asking ----------------------------------------------------------------------------------

    def position(self, instrument: Instrument) -> float | None:
        """Return the signed size that the broker holds, None where it does not answer."""
        position = self.held(instrument)
        return None if position is None else _finite(position.size)

    def held(self, instrument: Instrument) -> Any:
        """Return the broker's position, None where it has none or raises: see `error`."""
        if self._pauses():
            return None
        try:
            position = self.gate.venue.raw_position(instrument.data)
            if position is not None:
                float(position.size)
        except Exception as error:  # a store raises whatever its client raises
            self._failed(error)
            return None
        self._answered()
        return position

    def open_orders(self) -> list[Any] | None:
        """Return the orders that are alive at the broker.

        It is None where the broker raises an error, or has no list of orders at all.
        """
        if self._pauses():
            return None
        try:
            listed = open_orders_of(self.gate.inner)
        except Exception as error:  # a store raises whatever its client raises
            self._failed(error)
            return None
        self._answered()
        return self._take(listed)

    def look(self, instruments: Iterable[Instrument]) -> Look:
        """Return the positions in some instruments, and the open orders, as of one moment."""
        asked = list(instruments)
        if self._pauses():
            return Look(dict.fromkeys([one.index for one in asked]))
        snapshot = getattr(self.gate.inner, "account_snapshot", None)
        if not callable(snapshot):
            return Look({one.index: self.position(one) for one in asked}, self.open_orders())
        try:
            sizes, orders = snapshot([one.data for one in asked])
            held = {one.index: _finite(sizes.get(one.data, 0.0)) for one in asked}
            listed = None if orders is None else _alive(orders)
        except Exception as error:
            self._failed(error)
            return Look(dict.fromkeys([one.index for one in asked]))
        self._answered()
        return Look(held, self._take(listed))

    def number(self, ask: Callable[[], Any]) -> float:
        """Return a number that the broker answers, NaN where it does not answer: see `error`."""
        if self._pauses():
            return math.nan
        try:
            answer = float(ask())
        except Exception as error:  # a store raises whatever its client raises
            self._failed(error)
            return math.nan
        self._answered()
        return answer

    def _take(self, listed: list[Any] | None) -> list[Any] | None:
        """Remember a list, and which orders of the book it has shown."""
        if listed is not None:
            self._listed = listed
            working = self.gate.book.working
            self._shown = {ref for ref in self._shown if ref in working}
            self._shown.update(self.matches())
        return listed

    # -- a broker that asks for fewer requests ---------------------------------------------------

    def _pauses(self) -> bool:
        """Return whether the broker is not asked at the moment."""
        return self.gate.live.clock() < self._silent_until

    def _failed(self, error: Exception) -> None:
        """Note an error; where it reports too many requests, wait longer each time."""
        self.error = f"{type(error).__name__}: {error}"[:120]
        names = " ".join(cls.__name__ for cls in type(error).__mro__)
        if _TOO_MANY.search(f"{names} {error}"):
            self._pause = min(max(2.0 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._silent_until = self.gate.live.clock() + self._pause

    def _answered(self) -> None:
        self.error, self._pause, self._silent_until = "", 0.0, -math.inf

    # -- comparing -------------------------------------------------------------------------------

    def matches(self) -> dict[int, Any]:
        """Return the listed orders that the book has, by ref of the `WorkingOrder`.

        Each is found by its ref, the client id or the venue's id; where one of the two has no ids,
        by side, type, size and price. No listed order is two orders of the book.
        """
        left, found = list(self._listed or ()), {}
        working = [w for w in self.gate.book.working.values() if self._is_sent(w)]
        for test in (_same_object, _same_id, alike):
            for one in working:
                if one.ref in found:
                    continue
                place = next((k for k, order in enumerate(left) if test(one, order)), None)
                if place is not None:
                    found[one.ref] = left.pop(place)
        return found

    def _is_sent(self, working: WorkingOrder) -> bool:
        """Return whether the broker may have an order: what is held back is not there."""
        return working.ref not in self.gate.held_orders

    def lists(self, working: WorkingOrder) -> bool | None:
        """Return whether the newest list has an order; None: the broker has never listed any."""
        return None if self._listed is None else working.ref in self.matches()

    def proven(self, working: WorkingOrder) -> bool:
        """Return whether a list that lacks this order can be believed.

        That is so where the broker declares ``order_lists``, or has listed this very order before.
        """
        return self.declared or working.ref in self._shown

    @property
    def declared(self) -> bool:
        """Return whether the broker declares that it lists every order that is working."""
        return self.gate.order_sender.capabilities.can("order_lists")


def alike(working: WorkingOrder, order: Any) -> bool:
    """Return whether a listed order has the terms of one of the book, and no other id."""
    if working.instrument.data is not order.data or _differ(working.handle, order):
        return False
    if working.side != (1 if order.isbuy() else -1):
        return False
    if working.kind != KINDS.get(order.exectype, "stop"):
        return False
    size = working.remaining - working.withheld
    if abs(abs(float(order.executed.remsize)) - size) > SIZE_EPS * max(1.0, size):
        return False
    if working.kind == "market" or not order.created.price:
        return working.kind == "market"
    return math.isclose(float(order.created.price), working.price, rel_tol=PRICE_EPS)


def _same_object(working: WorkingOrder, order: Any) -> bool:
    return order is working.handle or order.ref == working.ref


def _same_id(working: WorkingOrder, order: Any) -> bool:
    return any(mine and mine == other for mine, other in _ids(working.handle, order))


def _differ(mine: Any, other: Any) -> bool:
    """Return whether two orders have ids of one kind that are not the same."""
    return any(one and two and one != two for one, two in _ids(mine, other))


def _ids(mine: Any, other: Any) -> list[tuple[str | None, str | None]]:
    both = [((one.info or {}).get(CLIENT_ID), venue_id(one)) for one in (mine, other)]
    return list(zip(*both, strict=True))


def open_orders_of(inner: Any) -> list[Any] | None:
    """Return the open orders of a broker, by the method or attribute that it has; None: neither."""
    listed = getattr(inner, "get_orders_open", None)
    orders = listed() if callable(listed) else None
    for name in ("orders", "open_orders", "_orders"):
        found = getattr(inner, name, None) if orders is None else None
        orders = found if isinstance(found, Collection) else orders
    return None if orders is None else _alive(orders)


def _alive(orders: Any) -> list[Any]:
    values = orders.values() if isinstance(orders, dict) else orders
    return [order for order in values if hasattr(order, "alive") and order.alive()]


def _finite(size: Any) -> float | None:
    number = None if size is None else float(size)
    return number if number is None or math.isfinite(number) else None
