"""What the gate adds for engines other than Backtrader that take its place, as backtrader-next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["HeldFeeds", "NotificationQueue", "list_observer", "order_held_feeds"]


class NotificationQueue:
    """Show a gate's notifications as a queue to a Cerebro that empties ``broker.notifs``.

    Backtrader's Cerebro calls ``get_notification`` instead.
    """

    def __init__(self, gate: Any) -> None:
        self._gate = gate

    def __len__(self) -> int:
        return len(self._gate._notifications)

    def popleft(self) -> Any:
        """Return the next notification."""
        if not self:
            raise IndexError("there is no notification")
        return self._gate.get_notification()


class HeldFeeds(dict[Any, None]):
    """Hold data feeds in the order of a broker's positions, in which Backtrader adds values.

    In a set their order, and with it the last digits of the account value, would depend on where
    the process has put them in memory.
    """

    def __init__(self, positions: Mapping[Any, Any], held: Iterable[Any]) -> None:
        super().__init__()
        self._positions = positions
        self._hold(set(held))

    def _hold(self, held: set[Any]) -> None:
        self.clear()
        self.update((data, None) for data in self._positions if data in held)

    def add(self, data: Any) -> None:
        """Add a data feed."""
        if data not in self:
            self._hold({*self, data})

    def discard(self, data: Any) -> None:
        """Remove a data feed, if it is in the set."""
        self.pop(data, None)


def order_held_feeds(broker: Any) -> None:
    """Let a broker that lists the data feeds it holds in a set list them in the same order always.

    That is the BackBroker of backtrader-next. A broker without such a set stays as it is.
    """
    held = getattr(broker, "_open_data", None)
    if isinstance(held, set):
        broker._open_data = HeldFeeds(broker.positions, held)


def list_observer(observer: Any) -> None:
    """List an observer among the observers of its strategy, not among the indicators.

    backtrader-next 2.3.7 does the latter, and calls no observer where bars are preloaded. With
    Backtrader there is nothing to do.
    """
    strategy = observer._owner
    observers = getattr(strategy, "_obs_iterator", None)
    # Objects with lines are compared by identity: `==` makes an indicator of them.
    if observers is None or any(one is observer for one in observers):
        return
    # A new list: the strategy may be about to go through the old one.
    strategy._ind_iterator = [one for one in strategy._ind_iterator if one is not observer]
    observers.append(observer)
