"""IBData: the bars of one contract, first those of the past, then each one as it closes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import math
from collections import deque
from typing import Any

import backtrader as bt

from bt_risk.stores.ib.contracts import bar_size, multiplier_of, price_source

__all__ = ["IBData"]

log = logging.getLogger(__name__)
_LONGEST_PAUSE = 60.0
# Seconds that a bar is waited for behind its end, where no later bar has begun.
_LATE = 5.0
_DAY = 86_400.0


class IBData(bt.feed.DataBase):
    """Deliver the bars of a contract.

    A bar has closed once a later one has begun, or five seconds behind its end. Between
    DISCONNECTED and LIVE come the bars that were missed. Times are UTC, and those at which a bar
    began.

    Parameters
    ----------
    store : IBStore
    contract : ib_async.Contract
        Such as ``Stock("AAPL", "SMART", "USD")``.
    history : int
        Days of the past to begin with.
    source : str
        Such as ``"TRADES"`` or ``"MIDPOINT"``; by default what fits the contract.
    rth : bool
        Whether bars, and the stops behind them, are of regular trading hours only.
    """

    params = (
        ("store", None),
        ("contract", None),
        ("timeframe", bt.TimeFrame.Minutes),
        ("compression", 1),
        ("history", 1),
        ("source", None),
        ("rth", True),
        ("qcheck", 0.5),
    )

    def __init__(self) -> None:
        self.store = self.p.store
        self.store.feeds.append(self)
        self._size, self._length = bar_size(self.p.timeframe, self.p.compression)
        self._waiting: deque[Any] = deque()
        self._newest = 0.0
        self._details: Any = None
        self._up = False
        self._bars: Any = None
        self._interrupted: Any = None

    # -- what the gate reads ---------------------------------------------------------------------

    @property
    def contractdetails(self) -> Any:
        """Return the details of the contract."""
        if self._details is None:
            self._details = self.store.details(self.p.contract)
        return self._details

    @property
    def contract(self) -> Any:
        """Return the contract, with its number."""
        return self.contractdetails.contract

    @property
    def currency(self) -> str:
        """Return the currency of the prices."""
        return str(self.contract.currency)

    @property
    def multiplier(self) -> float:
        """Return what a point is worth in that currency."""
        return multiplier_of(self.contractdetails)

    # -- Backtrader ------------------------------------------------------------------------------

    def islive(self) -> bool:
        """Return that the run does not end with the bars that there are."""
        return True

    def haslivedata(self) -> bool:
        """Return whether a bar can be loaded without waiting."""
        return bool(self._waiting)

    def start(self) -> None:
        """Begin with the past."""
        super().start()
        self.store.start()
        self._source = self.p.source or price_source(self.contractdetails)
        self.put_notification(self.DELAYED)
        self._task = self.store.run(self._follow())

    def stop(self) -> None:
        """End the subscription."""
        super().stop()
        self._task.cancel()

    def _load(self) -> bool | None:
        if not self._waiting:
            self.store.pump(self._qcheck or 0.0)
            self._close_late_bar()
        if not self._waiting:
            if self._up and self._laststatus != self.LIVE:
                self.put_notification(self.LIVE)
            return None
        bar = self._waiting.popleft()
        self.lines.datetime[0] = bt.date2num(_moment(bar.date).replace(tzinfo=None))
        for name in ("open", "high", "low", "close"):
            getattr(self.lines, name)[0] = getattr(bar, name)
        self.lines.volume[0] = max(float(bar.volume), 0.0)  # -1: not known
        self.lines.openinterest[0] = 0.0
        return True

    # -- the subscription ------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Subscribe, and again whenever the subscription ends."""
        pause = self.store.retry_after
        while True:
            await self.store.up()
            self._interrupted = asyncio.get_running_loop().create_future()
            if await self._subscribe():
                pause = self.store.retry_after
                log.warning("%s: %s", self._name, await self._interrupted)
                self._end()
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _subscribe(self) -> bool:
        since = math.ceil((self.store.now() - self._newest) / _DAY) if self._newest else 0
        days = max(self.p.history, min(since, 365))
        try:
            bars = await self.store.ib.reqHistoricalDataAsync(
                self.contract,
                "",
                f"{days} D",
                self._size,
                self._source,
                self.p.rth,
                formatDate=2,
                keepUpToDate=True,
                timeout=self.store.timeout,
            )
        except ConnectionError:
            return False
        if not bars:
            return False  # ib_async has logged the error
        self._bars, self._up = bars, True
        if self._laststatus == self.DISCONNECTED:
            self.put_notification(self.DELAYED)
        self._take(bars[:-1])
        bars.updateEvent += self._on_bars
        return True

    def _end(self) -> None:
        self._up = False
        self.put_notification(self.DISCONNECTED)
        self._bars.updateEvent -= self._on_bars
        with contextlib.suppress(ConnectionError):
            self.store.ib.cancelHistoricalData(self._bars)

    def _on_bars(self, bars: Any, has_new: bool) -> None:
        if has_new:
            self._take(bars[-3:-1])

    def _take(self, bars: Any) -> None:
        for bar in bars:
            began = _moment(bar.date).timestamp()
            if began > self._newest:
                self._newest = began
                self._waiting.append(bar)

    def _close_late_bar(self) -> None:
        """Take the newest bar where its end has passed: no later one comes after a session."""
        if self._up and self._length:
            newest = self._bars[-1]
            ended = _moment(newest.date).timestamp() + self._length + _LATE
            if self.store.now() >= ended:
                self._take([newest])

    def interrupt(self, why: str) -> None:
        """End the subscription: it is made again once the store is online."""
        if self._up and not self._interrupted.done():
            self._interrupted.set_result(why)

    def on_error(self, request: int, code: int, text: str) -> None:
        """End the subscription where an error is about it."""
        notice = code == 10167 or 2100 <= code < 2200
        if self._up and request == self._bars.reqId and not notice:
            self.interrupt(f"the bars have ended: {code} {text}")


def _moment(date: dt.date | dt.datetime) -> dt.datetime:
    """Return when a bar began, in UTC; those of days have no time."""
    if isinstance(date, dt.datetime):
        return date.astimezone(dt.UTC)
    return dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC)
