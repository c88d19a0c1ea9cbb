"""IBStore: the connection to TWS or IB Gateway, and the loop that everything here runs on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ib_async import IB, Contract, StartupFetch, util

__all__ = ["IBStore"]

T = TypeVar("T")
log = logging.getLogger(__name__)

# What is fetched with each connection, beside positions: all that may have changed meanwhile.
_FETCHED = StartupFetch.ORDERS_OPEN | StartupFetch.ACCOUNT_UPDATES | StartupFetch.EXECUTIONS
# TWS has lost Interactive Brokers; it has it again, without or with the subscriptions.
_LOST, _RESTORED = 1100, (1101, 1102)
_LONGEST_PAUSE = 30.0


class IBStore:
    """Connect to TWS or IB Gateway, and connect again where the connection drops.

    Parameters
    ----------
    host, port, client_id : str, int, int
        As in the settings of the API: 7497 is TWS with a paper account, 4002 the Gateway with
        one. Run each strategy with a `client_id` of its own, always the same: orders belong to it.
    account : str
        Which account to trade, where the login has several.
    timeout : float
        Seconds to wait for an answer.
    retry_after : float
        Seconds until it connects again; they double with each failure, up to 30.
    clock, now : callable
        Seconds as `time.monotonic` and as `time.time` give them.

    Attributes
    ----------
    ib : ib_async.IB
        The client.
    online : bool
        Whether TWS is connected, and connected to Interactive Brokers.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 7497,
        client_id: int = 1,
        account: str = "",
        timeout: float = 10.0,
        retry_after: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.host, self.port, self.client_id = host, port, client_id
        self.account, self.timeout, self.retry_after = account, timeout, retry_after
        self.clock, self.now = clock, now
        self.ib = IB()
        self.online = False
        self.feeds: list[Any] = []
        self.broker: Any = None
        self._loop = util.getLoop()
        self._news, self._up = asyncio.Event(), asyncio.Event()
        self._details: dict[Any, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped, self._connecting = True, False

    # -- the connection --------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, unless it is connected already; ConnectionError where that fails."""
        if not self._stopped:
            return
        self._stopped = self._connecting = False
        self.ib.updateEvent += self._news.set
        self.ib.errorEvent += self._on_error
        self.ib.disconnectedEvent += self._on_drop
        try:
            self.ask(self._connect())
        except (TimeoutError, OSError) as error:
            self.stop()
            where = f"{self.host}:{self.port}, client id {self.client_id}"
            raise ConnectionError(
                f"IBStore: no answer from TWS or IB Gateway at {where}. Is its API enabled, and "
                "the client id used by nobody else?"
            ) from error

    def stop(self) -> None:
        """End the connection."""
        self._stopped, self.online = True, False
        self._up.clear()
        for task in self._tasks:
            task.cancel()
        self.ib.updateEvent -= self._news.set
        self.ib.errorEvent -= self._on_error
        self.ib.disconnectedEvent -= self._on_drop
        self.ib.disconnect()
        self.pump()

    async def _connect(self) -> None:
        await self.ib.connectAsync(
            self.host,
            self.port,
            self.client_id,
            self.timeout,
            account=self.account,
            raiseSyncErrors=True,
            fetchFields=_FETCHED,
        )
        accounts = self.ib.managedAccounts()
        if not self.account and len(accounts) > 1:
            raise ValueError(f"IBStore: account must be one of {', '.join(accounts)}")
        self.account = self.account or accounts[0]
        self._set_online()

    def _set_online(self) -> None:
        self.online = True
        self._up.set()
        if self.broker is not None:
            self.broker.connected()

    def _set_offline(self, why: str) -> None:
        log.warning("IB: %s", why)
        self.online = False
        self._up.clear()
        for feed in self.feeds:
            feed.interrupt(why)

    def _on_drop(self) -> None:
        self._set_offline("the connection to TWS has dropped")
        if not self._stopped and not self._connecting:
            self._connecting = True
            self.run(self._connect_again())

    async def _connect_again(self) -> None:
        pause = self.retry_after
        while not self.online:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                await self._connect()
            except Exception as error:  # TWS restarts each night: for minutes anything may happen
                log.warning("IB: no connection to TWS yet: %r", error)
        self._connecting = False
        log.warning("IB: connected to TWS again")

    def _on_error(self, request: int, code: int, text: str, contract: Contract | None) -> None:
        if code == _LOST:
            self._set_offline("TWS has lost its connection to Interactive Brokers")
        elif code in _RESTORED:
            for feed in self.feeds:
                feed.interrupt("TWS has its connection to Interactive Brokers again")
            self._set_online()
        else:
            for feed in self.feeds:
                feed.on_error(request, code, text)

    async def up(self) -> None:
        """Wait until it is online."""
        await self._up.wait()

    # -- the loop --------------------------------------------------------------------------------

    def pump(self, timeout: float = 0.0) -> None:
        """Process what has arrived, and wait for something to arrive, `timeout` seconds at most."""
        self._loop.run_until_complete(self._wait(timeout))

    async def _wait(self, timeout: float) -> None:
        for _ in range(3):  # read a message, process it, send what follows from it
            await asyncio.sleep(0)
        if timeout > 0.0:
            self._news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout)

    def run(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine beside everything else; return its task."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def ask(self, request: Awaitable[T]) -> T:
        """Return the answer to a request; TimeoutError or ConnectionError without one."""
        return self._loop.run_until_complete(asyncio.wait_for(request, self.timeout))

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition is met, so many seconds at most; return whether it is met."""
        ends = time.monotonic() + seconds
        while not condition() and time.monotonic() < ends:
            self.pump(0.05)
        return condition()

    # -- contracts -------------------------------------------------------------------------------

    def details(self, contract: Contract) -> Any:
        """Return the details of a contract; ValueError where it is not exactly one."""
        key = contract.conId or repr(contract)
        if key not in self._details:
            self.start()
            found = self.ask(self.ib.reqContractDetailsAsync(contract))
            if len(found) != 1:
                raise ValueError(f"IBStore: {len(found)} contracts are named {contract}, not one")
            self._details[key] = found[0]
        return self._details[key]
