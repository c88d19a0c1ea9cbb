"""SignalData: a data feed of scores, on the clock of a data feed of prices."""

from __future__ import annotations

import datetime as dt
import math
import re
from array import array
from collections import Counter
from dataclasses import replace
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
from backtrader.linebuffer import LineBuffer

from bt_risk.errors import DataError, ParameterError, check_choice, check_positive
from bt_risk.signals.as_of import DAY_SECONDS, SignalsAsOf, SignalTable
from bt_risk.signals.files import read_signals
from bt_risk.signals.record import SECOND, Signal, same_symbol
from bt_risk.signals.recorded import Recording
from bt_risk.signals.sources import SignalSource, now_micros

__all__ = ["SignalData"]

LINES = ("score", "direction", "conviction", "age")
PRICES = ("open", "high", "low", "close", "volume", "openinterest")
_EPOCH_DAY = float(dt.date(1970, 1, 1).toordinal())
_BEHIND = 1000  # microseconds: Backtrader's numbers of days tell no less apart
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": DAY_SECONDS, "w": 7.0 * DAY_SECONDS}
_SPAN = re.compile(r"(\d+\.?\d*) ?(s|min|h|d|w)", re.IGNORECASE)
_BAR_DAYS = {
    bt.TimeFrame.Seconds: 1.0 / DAY_SECONDS,
    bt.TimeFrame.Minutes: 60.0 / DAY_SECONDS,
    bt.TimeFrame.Days: 1.0,
    bt.TimeFrame.Weeks: 7.0,
}


class SignalData(bt.feed.DataBase):
    """Feed signals to Cerebro: a bar at each bar of a data feed of prices, and no other.

    Add it after that data feed: ``cerebro.adddata(SignalData(dataname="scores.csv", ttl="1h"),
    name="scores")``. Each bar has the newest signal that is known at its time. Without one, and
    once it is older than `ttl`, the lines are NaN. A comparison with NaN is False: no entry.

    The lines are ``score`` (-100 to 100), ``direction`` (1, -1, 0), ``conviction`` (0 to 1) and
    ``age`` (seconds since it was published, also beyond `ttl`). Prices and volume are zero: it is
    no instrument, and `RiskBroker` refuses orders on it. After the run `refused` counts the records
    that were refused, by reason.

    Params:

      - ``dataname``: path of a CSV, Parquet or JSON-lines file, or a DataFrame, with ``published``,
        ``symbol``, ``score``, ``direction``, ``conviction``, ``id``, ``received``; the first is
        needed, and a score or a direction; or a source of a live run: `SignalTail`, `SignalPoller`
      - ``ttl`` (needed): how old a signal may be: seconds, ``"90min"``, or a timedelta
      - ``delay`` (default: ``0``): how long after it was published a signal is known, likewise
      - ``clock`` (default: ``None``): the data feed that it belongs to, added before; None: the
        first one with prices
      - ``symbol`` (default: ``None``): which signals to take; None: those of the name of the clock
      - ``stamped`` (default: ``"close"``): when the bars of the clock bear their time; with
        ``"open"``, as exchanges for crypto have them, a bar is judged at its end, one bar later
      - ``record`` (default: ``None``): file of JSON lines to which what a source brings is added;
        the next run goes on with it, and a backtest with it as ``dataname`` sees the same at the
        same bars

    Times without a zone are UTC, and a date without a time of day counts from its end on. The times
    of bars must be UTC, too: give the data feed of prices its ``tzinput`` where they are not.
    """

    signal_feed = True  # what the gate knows it by

    lines: Any = LINES
    params: Any = (
        ("ttl", None),
        ("delay", 0.0),
        ("clock", None),
        ("symbol", None),
        ("stamped", "close"),
        ("record", None),
    )
    plotinfo = dict(plot=False)

    def __init__(self) -> None:
        super().__init__()
        self.ttl = _seconds("ttl", self.p.ttl)
        self._delay = _seconds("delay", self.p.delay, zero=True)
        check_choice("SignalData", "stamped", self.p.stamped, ("close", "open"))
        self.clock: Any = None
        self.source = self.p.dataname if isinstance(self.p.dataname, SignalSource) else None
        if self.p.record is not None and self.source is None:
            constraint = "None where no source brings signals"
            raise ParameterError("SignalData", "record", constraint, self.p.record)
        self.recording = None if self.p.record is None else Recording(self.p.record)
        self.refused: Counter[str] = Counter()

    def setenvironment(self, env: Any) -> None:
        """Find the data feed that this one follows, as Cerebro takes it."""
        super().setenvironment(env)
        before = [data for data in env.datas if not getattr(data, "signal_feed", False)]
        wanted = self.p.clock
        if wanted is not None:
            before = [data for data in before if data is wanted]
        if not before:
            constraint = "a data feed of prices that was added to this Cerebro before"
            raise ParameterError("SignalData", "clock", constraint, wanted, _ADD_FIRST)
        self.clock = before[0]
        # Cerebro sorts data feeds by these, and asks each in turn: this one comes after its clock.
        self._timeframe, self._compression = self.clock._timeframe, self.clock._compression

    def start(self) -> None:
        """Read the signals of a run."""
        super().start()
        if self.clock is None:
            constraint = "part of a Cerebro"
            raise ParameterError("SignalData", "the data feed", constraint, "none", _ADD_FIRST)
        self.symbol = self.p.symbol or self.clock._name
        self._ahead = self._bar_days() if self.p.stamped == "open" else 0.0
        self._as_of = SignalsAsOf(self.ttl, self._delay)
        self._signals = self._read()
        self._time, self._preloads = math.nan, False

    def _read(self) -> list[Signal]:
        """Return the signals of the file that are for this symbol; of a source the recorded ones.

        Those were seen by earlier runs: each counts until it is too old, and does not come again.
        """
        if self.source is not None:
            earlier = self.recording.earlier(now_micros()) if self.recording else ()
            mine = [one for one in earlier if same_symbol(one.symbol, self.symbol)]
            self.source.remember(one.id for one in mine)
            self.source.start()
            self.refused = self.source.refused
            return mine
        found = read_signals(self.p.dataname)
        self.refused = found.refused
        mine = [one for one in found.signals if same_symbol(one.symbol, self.symbol)]
        if found.signals and not mine:
            names = ", ".join(sorted({repr(one.symbol) for one in found.signals})[:5])
            raise DataError(
                f"SignalData: {_shown(self.p.dataname)} has no signal for {self.symbol!r}; it has "
                f"{names}. Give symbol=."
            )
        return mine

    def _bar_days(self) -> float:
        length = _BAR_DAYS.get(self.clock._timeframe)
        if length is None:
            frame = bt.TimeFrame.getname(self.clock._timeframe, self.clock._compression)
            constraint = "'close' for bars that have no fixed length"
            raise ParameterError("SignalData", "stamped", constraint, frame)
        return length * float(self.clock._compression)

    # -- all bars at once ------------------------------------------------------------------------

    def preload(self) -> None:
        """Fill the lines before the run."""
        if not self._is_plain():
            self._preloads = True
            super().preload()
            self._preloads = False
            return
        count = self.clock.buflen()
        times = np.array(self.clock.lines.datetime.array[:count], dtype=float)
        table = SignalTable(self._signals, self.ttl, self._delay)
        values = dict(zip(LINES, table.at(times + self._ahead), strict=True))
        values |= dict.fromkeys(PRICES, np.zeros(count)) | {"datetime": times}
        for name in self.getlinealiases():
            line = getattr(self.lines, name)
            block = np.concatenate([values[name], np.full(line.extension, np.nan)])
            line.array = array("d", block.tobytes())[:]
        self._signals = []
        self.home()

    def _is_plain(self) -> bool:
        """Return whether nothing but the bars of the clock goes into empty lines of full length."""
        if self._filters or self.clock.replaying:
            return False
        return all(
            type(line) is LineBuffer
            and line.mode == LineBuffer.UnBounded
            and not line.bindings
            and line.lencount == 0
            and len(line.array) == line.extension
            for line in self.lines
        )

    # -- bar by bar ------------------------------------------------------------------------------

    def _load(self) -> bool:
        """Add the bar that the clock has come to, if it has come to a new one."""
        time = self._clock_time()
        if time is None:
            return False
        self._take()
        self._time = self.lines.datetime[0] = time
        for name in PRICES:
            getattr(self.lines, name)[0] = 0.0
        values = self._as_of.at(time + self._ahead)
        for name, value in zip(LINES, values, strict=True):
            getattr(self.lines, name)[0] = value
        return True

    def _take(self) -> None:
        """Add the signals that have come since the last bar: of a file all, once."""
        fresh, self._signals = self._signals, []
        self._as_of.add(fresh)
        if self.source is not None:
            self._as_of.add(self._recorded(self.source.take()))

    def _recorded(self, brought: list[Signal]) -> list[Signal]:
        """Return what is for this symbol of what a source has brought, and record it.

        What comes after a bar was judged cannot have counted there: its receipt is put behind that
        bar, so that a backtest of the record sees it at the same bar as this run.
        """
        judged = self._as_of.time
        earliest = -math.inf
        if judged > -math.inf:
            earliest = round((judged - _EPOCH_DAY) * DAY_SECONDS * SECOND) + _BEHIND
        found = []
        for one in brought:
            if same_symbol(one.symbol, self.symbol):
                received = max(one.received or one.published, earliest)
                found.append(replace(one, received=int(received)))
        if self.recording is not None:
            self.recording.add(found)
        return found

    @property
    def trouble(self) -> str:
        """Return why no signal can come or be recorded now; empty while all is well."""
        if self.source is None:
            return ""
        return self.source.trouble or (self.recording.trouble if self.recording else "")

    def islive(self) -> bool:
        """Return whether signals come while the run goes on."""
        return self.source is not None

    def do_qcheck(self, onoff: bool, qlapse: float) -> None:
        """Wait for nothing: Cerebro waits as long as the clock does where both are as live."""
        self._laststatus = self.clock._laststatus
        self._qcheck = 0.0

    def stop(self) -> None:
        """End the source with the run."""
        super().stop()
        if self.source is not None:
            self.source.stop()

    def _clock_time(self) -> float | None:
        """Return the time of the next bar of the clock, None while there is none.

        The own line has moved on by one already. A bar that forms has the time of its newest part,
        and this data feed has a bar for each of these times.
        """
        clock, own = self.clock, len(self)
        line = clock.lines.datetime
        if self._preloads:
            return float(line.array[own - 1]) if own <= clock.buflen() else None
        if len(clock) < (1 if clock.replaying else own):
            return None  # with exactbars its line may be empty now
        time = float(line[0])
        return None if clock.replaying and time == self._time else time

    def _last(self, datamaster: Any = None) -> int:
        """Follow the clock to a last bar that its filters deliver after the end."""
        delivered = super()._last(datamaster)
        if not self._preloads and len(self.clock) > len(self) and self.load():
            self._tick_fill(force=True)
            delivered = 1
        return int(delivered)


_ADD_FIRST = "Add the prices first: cerebro.adddata(prices); then cerebro.adddata(signals)."


def _seconds(param: str, value: Any, zero: bool = False) -> float:
    """Return a span of time in seconds."""
    remedy = "Give seconds, a timedelta, or a text such as '90min' (s, min, h, d, w)."
    if value is None:
        raise ParameterError("SignalData", param, "given", value, remedy)
    seconds: Any = value
    if isinstance(value, dt.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        found = _SPAN.fullmatch(value.strip())
        if found is None:
            raise ParameterError("SignalData", param, "a span of time", value, remedy)
        seconds = float(found[1]) * _UNITS[found[2].lower()]
    return float(check_positive("SignalData", param, seconds, zero=zero, remedy=remedy))


def _shown(dataname: Any) -> str:
    return "the frame" if isinstance(dataname, pd.DataFrame) else str(dataname)
