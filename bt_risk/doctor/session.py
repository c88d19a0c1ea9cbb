"""Session: run a Cerebro with a store, and carry out a script of checks in the rounds of its loop.

A script is a generator. It yields a `Wait` and is resumed with whether the condition came true in
time. So it reads from top to bottom, although the store works only in the rounds of the loop.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import backtrader as bt

from bt_risk.doctor.factory import Setup
from bt_risk.doctor.orders import Note, SentOrder, note_of
from bt_risk.doctor.prices import Prices
from bt_risk.doctor.report import FAIL, NOT_TESTED, PASS, Row
from bt_risk.live.broker_view import open_orders_of
from bt_risk.orders import DEFAULTS

__all__ = ["CheckError", "Ended", "Session", "Step", "Wait", "brief"]

# How long a fill or a message that must not come is watched for.
_WATCH = 3.0
# The pause between two rounds once the loop of Cerebro has ended.
_ROUND = 0.01


class Wait(NamedTuple):
    """A condition, and the time by which it has to be true."""

    done: Callable[[], bool]
    until: float


Step = Generator[Wait, bool, Any]


class CheckError(Exception):
    """The checks that follow cannot be made."""


class Ended(BaseException):
    """The run has ended before its checks: by Ctrl-C, by an error, or with the data feed."""


def brief(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


class Session:
    """One run of the checks.

    Attributes
    ----------
    broker, data : broker and data feed
        Those that are checked; `data` is None where the factory has returned none.
    name : str
        The name of the data feed, as `protect` knows it.
    size : float
        Units of an order.
    timeout, watch : float
        Seconds that something may take, and that something that must not come is watched for.
    rows : list of Row
        What was found so far.
    capabilities : dict
        What the checks have shown of the broker, by name.
    facts : dict
        Facts about the instrument.
    equity : str
        As in `StoreSettings`.
    sent : list of SentOrder
        All orders.
    errors : list of str
        What the store's own methods have raised in the loop.
    statuses : list of str
        What the data feed has reported of itself.
    base : float
        The position at the start.
    knows_position, has_stops : bool
        Whether the broker has reported the position after a fill, and whether stops rest there.
    make_broker : callable
        Returns another broker.
    progress : callable or None
        Called with each row.
    """

    def __init__(
        self, setup: Setup, data: str | None, size: float, timeout: float, cash: float | None
    ) -> None:
        self.setup, self.broker = setup, setup.broker
        self.data = setup.choose(data)
        self.name = "" if self.data is None else setup.name(self.data)
        self.size, self.timeout, self.cash = size, timeout, cash
        self.watch = min(_WATCH, timeout)
        self.clock = time.monotonic
        self.rows: list[Row] = []
        self.capabilities: dict[str, bool] = {}
        self.facts: dict[str, Any] = {}
        self.equity, self.stale_after = "broker", math.nan
        self.sent: list[SentOrder] = []
        self.errors: list[str] = []
        self.statuses: list[str] = []
        self.make_broker: Any = None
        self.progress: Callable[[Row], Any] | None = None
        self.prices = Prices(self.data)
        self.base, self.knows_position, self.has_stops = 0.0, False, False
        self.strategy: Any = None
        self._notes: dict[int, list[Note]] = {}
        self._script: Step | None = None
        self._wait: Wait | None = None
        self._end: Ended | None = None
        self.done = False

    # -- running ---------------------------------------------------------------------------------

    def run(self, script: Step) -> None:
        """Carry out a script, whatever the store does meanwhile."""
        self._script = script
        cerebro = self.setup.cerebro
        with self._interrupts():
            if self.data is not None:
                cerebro.addstore(_Rounds(self))
                cerebro.addstrategy(_Recorder, session=self)
                cerebro._broker = _Guarded(self)
                try:
                    cerebro.run(live=True, quicknotify=True, stdstats=False)
                except Exception as error:  # whatever the store, the data feed or the client raises
                    self.fail("the run", f"it has ended with {brief(error)}")
                    self._drop_unfinished_bars()
            else:
                self.broker.start()
            self._finish()
            if self.data is None:
                self.broker.stop()

    def _finish(self) -> None:
        """Let the script clean up where the loop has ended before it."""
        if self.data is not None:
            self._end = self._end or Ended("the data feed has ended")
        while not self.done:
            self.pump()
            self.step()
            time.sleep(_ROUND)

    def _drop_unfinished_bars(self) -> None:
        """Remove a bar that has no time, because its data feed has raised: no order can use it."""
        for data in self.setup.datas:
            if len(data) and math.isnan(data.datetime[0]):
                data.backwards(force=True)

    @contextlib.contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Let the first Ctrl-C end the checks and clean up; the second ends the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def end(*_: Any) -> None:
            signal.signal(signal.SIGINT, before)
            self._end = Ended("interrupted")

        signal.signal(signal.SIGINT, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def step(self) -> None:
        """Resume the script if what it waits for has come, or the time for it is over."""
        if self.done or self._script is None:
            return
        try:
            if self._wait is None:
                self._wait = next(self._script)
            if self._end is not None:
                end, self._end = self._end, None
                self._wait = self._script.throw(end)
            while True:
                try:
                    came = self._wait.done()
                except Exception as error:  # the store's, inside the condition
                    self._wait = self._script.throw(error)
                    continue
                if not came and self.clock() < self._wait.until:
                    return
                self._wait = self._script.send(came)
        except StopIteration:
            self.done = True
            self.setup.cerebro.runstop()

    def pump(self) -> None:
        """Do what a round of the loop does with the broker."""
        guard = _Guarded(self)
        guard.next()
        while (order := guard.get_notification()) is not None:
            self.heard(order)

    def heard(self, order: Any) -> None:
        """Keep a notification."""
        self._notes.setdefault(order.ref, []).append(note_of(order, self.clock()))

    def raised(self, where: str, error: Exception) -> None:
        """Keep an error of the store's own methods."""
        text = f"{where} has raised {brief(error)}"
        if text not in self.errors:
            self.errors.append(text)

    # -- waiting ---------------------------------------------------------------------------------

    def until(self, done: Callable[[], bool], seconds: float | None = None) -> Step:
        """Wait for a condition; return whether it came true in time."""
        limit = self.timeout if seconds is None else seconds
        return (yield Wait(done, self.clock() + limit))

    def pause(self) -> Step:
        """Wait as long as something that must not come is watched for."""
        yield from self.until(lambda: False, self.watch)

    # -- results ---------------------------------------------------------------------------------

    def row(self, check: str, result: str, seen: str) -> None:
        """Add a result."""
        row = Row(check, result, seen)
        self.rows.append(row)
        if self.progress is not None:
            self.progress(row)

    def ok(self, check: str, seen: str) -> None:
        """Add a check that has passed."""
        self.row(check, PASS, seen)

    def fail(self, check: str, seen: str) -> None:
        """Add a check that has failed."""
        self.row(check, FAIL, seen)

    def skip(self, check: str, seen: str) -> None:
        """Add a check that was not made."""
        self.row(check, NOT_TESTED, seen)

    # -- the broker ------------------------------------------------------------------------------

    def position(self) -> float:
        """Return the signed size that the broker reports."""
        return float(self.broker.getposition(self.data).size)

    def held(self) -> float:
        """Return what the broker reports beyond the position at the start."""
        return self.position() - self.base

    def net(self) -> float:
        """Return what the orders of the checks have left, by their notifications."""
        return sum(one.side * one.filled for one in self.sent)

    def open_orders(self) -> list[Any] | None:
        """Return the orders that the broker lists, None where it has no list."""
        return open_orders_of(self.broker)

    def lists(self, one: SentOrder) -> Any:
        """Return the listed order that is one of the checks, None where it is not listed."""
        for order in self.open_orders() or ():
            same = order is one.order or order.ref == one.order.ref
            client_id = (order.info or {}).get("client_id")
            if same or (one.client_id and client_id == one.client_id):
                return order
        return None

    def send(self, what: str, side: int, size: float | None = None, **args: Any) -> SentOrder:
        """Send an order, with a client id where the broker takes one; keep what it raises."""
        units = self.size if size is None else size
        price = args.get("price")
        one = SentOrder(what, side, units, math.nan if price is None else price, self.clock())
        given = DEFAULTS | args
        if self.takes_ids():
            one.client_id = given["client_id"] = f"doctor-{uuid4().hex[:20]}"
        self.sent.append(one)
        try:
            place = self.broker.buy if side > 0 else self.broker.sell
            one.order = place(owner=self.strategy, data=self.data, size=units, **given)
        except Exception as error:  # a store raises whatever its client raises
            one.error = brief(error)
            return one
        if one.order is None:
            one.error = "the broker returned None"
        else:
            one.notes = self._notes.setdefault(one.order.ref, [])
        return one

    def takes_ids(self) -> bool:
        """Return whether the broker declares client ids."""
        return self.declares("client_ids") and hasattr(self.broker, "order_by_client_id")

    def declares(self, capability: str) -> bool:
        """Return whether the broker declares a capability itself."""
        own = getattr(self.broker, "capabilities", None)
        return isinstance(own, dict) and bool(own.get(capability))

    def declines(self, capability: str, check: str) -> bool:
        """Return whether the broker declares that it lacks a capability; then add a row."""
        own = getattr(self.broker, "capabilities", None)
        if not (isinstance(own, dict) and own.get(capability) is False):
            return False
        self.capabilities[capability] = False
        self.ok(check, f'the broker declares no "{capability}": bt_risk does not use them')
        return True

    def cancel(self, one: SentOrder) -> str:
        """Ask the broker to cancel an order; return what it raises, or ""."""
        try:
            self.broker.cancel(one.order)
        except Exception as error:
            return brief(error)
        return ""

    def withdraw(self, one: SentOrder) -> Step:
        """Cancel an order and wait for its end; return whether it came."""
        if one.ended:
            return True
        self.cancel(one)
        return (yield from self.until(lambda: one.ended))


class _Rounds:
    """Resume the script in each round of the loop, in which Cerebro asks all its stores."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def start(self) -> None:
        """Do nothing: the script begins with the first round."""

    stop = start

    def get_notifications(self) -> tuple[Any, ...]:
        """Resume the script."""
        self.session.step()
        return ()


class _Guarded:
    """Stand in for the broker in Cerebro's loop, so that an error of it does not end the run."""

    def __init__(self, session: Session) -> None:
        self._session, self._inner = session, session.broker

    def __getattr__(self, name: str) -> Any:
        if name == "startingcash":  # Cerebro reads it at the end, and few live brokers have it
            return getattr(self._inner, name, math.nan)
        return getattr(self._inner, name)

    def next(self) -> None:
        """Call the broker's ``next``."""
        try:
            self._inner.next()
        except Exception as error:  # a store raises whatever its client raises
            self._session.raised("next()", error)

    def get_notification(self) -> Any:
        """Return the next notification of the broker, None where it raises."""
        try:
            return self._inner.get_notification()
        except Exception as error:
            self._session.raised("get_notification()", error)
            return None


class _Recorder(bt.Strategy):
    """Own the orders of the checks, and record what the store reports."""

    params = dict(session=None)

    def __init__(self) -> None:
        self.p.session.strategy = self

    def _addnotification(self, order: Any, quicknotify: bool = False) -> None:
        """Record a notification, and let Backtrader make its trades of it, as for any strategy."""
        self.p.session.heard(order)
        try:
            super()._addnotification(order, quicknotify)
        except Exception as error:  # trades of wrong fills fail in Backtrader
            self.p.session.raised("Backtrader's own record of trades", error)

    def notify_data(self, data: Any, status: int, *args: Any, **kwargs: Any) -> None:
        """Record what the data feed reports of itself."""
        if data is self.p.session.data:
            self.p.session.statuses.append(data._getstatusname(status))

    def next(self) -> None:
        """Record a bar."""
        self.p.session.prices.bar()

    prenext = nextstart = next
