"""Where signals come from while a run goes on: a file that grows, and a server that is asked."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from bt_risk.errors import ParameterError, check_positive
from bt_risk.signals.record import RefusedSignal, Signal, parse_signal
from bt_risk.signals.recorded import decoded, read_backlog

__all__ = ["IdMemory", "SignalPoller", "SignalSource", "SignalTail", "now_micros"]

_log = logging.getLogger("bt_risk")

LINE_BYTES = 1 << 16  # the longest line of a file that is followed
CHUNK_BYTES = 1 << 20  # read of it at one bar
BODY_BYTES = 1 << 20  # the largest answer of a server
WAITING = 10_000  # signals that wait for the next bar
LONGEST_WAIT = 600.0  # seconds between two requests after failures
LONGEST_RETRY = 3600.0  # seconds that a server may ask us to wait


def now_micros() -> int:
    """Return the present time in UTC microseconds since 1970."""
    return time.time_ns() // 1000


class IdMemory:
    """Remember the last ids that were seen, so many that old ones are refused by their age."""

    def __init__(self, most: int = 100_000) -> None:
        self._most, self._ids = most, OrderedDict[str, None]()

    def is_new(self, name: str) -> bool:
        """Return whether an id has not been seen, and remember it."""
        if name in self._ids:
            return False
        self._ids[name] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
        return True


class SignalSource:
    """Signals that come while a run goes on; the base class of all sources.

    `SignalData` calls `remember`, `start` and `stop` with the run, and `take` at each bar, which
    returns at once.

    Attributes
    ----------
    refused : Counter
        Records that were refused, by reason.
    trouble : str
        Why nothing can come now; empty while all is well. `RiskBroker` alerts once when it begins.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.trouble = ""
        self._ids = IdMemory()

    def remember(self, ids: Iterable[str]) -> None:
        """Know the ids that earlier runs have seen, and no others: they do not come again."""
        self._ids = IdMemory()
        for name in ids:
            self._ids.is_new(name)

    def start(self) -> None:
        """Begin."""

    def take(self) -> list[Signal]:
        """Return the signals that have come since the last call, in that order."""
        raise TypeError(f"{type(self).__name__} has no take()")

    def stop(self) -> None:
        """End."""

    def accept(self, rows: Iterable[Any], received: int, stamped: bool = False) -> list[Signal]:
        """Return the signals among the records that came at a time; count the others.

        Where they are `stamped`, the time of receipt that a record has counts instead.
        """
        found = []
        for row in rows:
            own = stamped and isinstance(row, Mapping) and row.get("received") is not None
            try:
                if isinstance(row, RefusedSignal):
                    raise row
                signal = parse_signal(row, None if own else received)
                if not self._ids.is_new(signal.id):
                    raise RefusedSignal("id seen before")
            except RefusedSignal as reason:
                self.refused[reason.kind] += 1
                continue
            found.append(signal)
        return found


class SignalTail(SignalSource):
    """Follow a file of JSON lines, such as ``bt-risk signals listen`` writes.

    What it has when the run begins counts by the times in its lines: after a restart a signal from
    before goes on to count until it is too old. A line without a line break is read once it has
    one.

    Parameters
    ----------
    path : str or path
        It need not exist yet.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__()
        self.path = Path(path)
        self._place, self._rest = -1, b""
        self._earlier: list[Signal] = []

    def start(self) -> None:
        """Read what the file has already."""
        self._place, self._rest = -1, b""
        self._earlier = self._read()

    def take(self) -> list[Signal]:
        """Return the signals of the lines that have come."""
        earlier, self._earlier = self._earlier, []
        return earlier + self._read()

    def _read(self) -> list[Signal]:
        try:
            found = self._backlog() if self._place < 0 else self._news()
        except FileNotFoundError:
            self._place = max(self._place, 0)  # whatever it will have is new
            found = []
        except OSError as error:
            self.trouble = f"{self.path} cannot be read: {error}"
            return []
        self.trouble = ""
        return found

    def _backlog(self) -> list[Signal]:
        """Return what was there before, without what an earlier run has recorded."""
        backlog = read_backlog(self.path, now_micros())
        self._place, self._rest = backlog.size, backlog.rest
        self.refused.update(backlog.refused)
        return [one for one in backlog.signals if self._ids.is_new(one.id)]

    def _news(self) -> list[Signal]:
        with self.path.open("rb") as file:
            if file.seek(0, 2) < self._place:  # a new file of the same name
                self._place, self._rest = 0, b""
            file.seek(self._place)
            content = file.read(CHUNK_BYTES)
        self._place += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            self._rest = b""
            self.refused["line is too long"] += 1
        return self.accept(map(decoded, filter(None, lines)), now_micros(), stamped=True)


class SignalPoller(SignalSource):
    """Ask a server for its signals again and again, in a thread of its own.

    The answer is a JSON array of records, or an object that has the array under `rows`. Records
    that were seen before are dropped. After a failure the wait doubles, up to ten minutes; a server
    that answers 429 or 503 with ``Retry-After`` is left alone for so long.

    Parameters
    ----------
    url : str
        ``https://...`` or ``http://...``
    every : float, default 60.0
        Seconds between two requests.
    rows : str, optional
        Name of the array in the answer; None: the answer is the array, or has it as ``signals``.
    headers : dict, optional
        As ``{"Authorization": "Bearer ..."}``; they are never logged.
    timeout : float, default 10.0
        Seconds for one answer, all of it.
    convert : callable, optional
        Takes a row of the answer and returns its record, where the server has other names or units:
        ``lambda row: {"score": 2 * float(row["value"]) - 100, "published": row["timestamp"]}``. A
        row for which it raises an error is refused.
    """

    def __init__(
        self,
        url: str,
        every: float = 60.0,
        rows: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        convert: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if not (isinstance(url, str) and url.startswith(("https://", "http://"))):
            raise ParameterError("SignalPoller", "url", "one of http or https", url)
        self.url, self.rows, self.headers = url, rows, dict(headers or {})
        self.every = check_positive("SignalPoller", "every", every)
        self.timeout = check_positive("SignalPoller", "timeout", timeout)
        if convert is not None and not callable(convert):
            constraint = "a function that makes a record of a row, or None"
            raise ParameterError("SignalPoller", "convert", constraint, convert)
        self.convert = convert
        self._waiting: deque[Signal] = deque()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._ended = threading.Event()
        self._waiting.clear()
        self._thread = threading.Thread(
            target=self._run, args=(self._ended,), name="bt_risk signals", daemon=True
        )
        self._thread.start()

    def take(self) -> list[Signal]:
        """Return what has come since the last bar."""
        waiting = self._waiting
        return [waiting.popleft() for _ in range(len(waiting))]

    def stop(self) -> None:
        """End the thread; one that waits for an answer ends by itself."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(0.1)

    def _run(self, ended: threading.Event) -> None:
        wait = failures = 0.0
        while not ended.wait(wait):
            try:
                self._ask()
            except Exception as error:  # whatever a server answers, the thread goes on
                failures = min(failures + 1.0, 20.0)
                wait = min(self.every * 2.0 ** (failures - 1.0), max(LONGEST_WAIT, self.every))
                wait = max(wait, _retry_after(error))
                self.trouble = f"the server of signals does not answer: {_words(error)}"
                _log.info("signals: %s", self.trouble)
            else:
                wait, failures = self.every, 0.0

    def _ask(self) -> None:
        """Request the signals once, and keep those that are new."""
        request = urllib.request.Request(self.url, headers={"Accept": "application/json"})
        for name, value in self.headers.items():
            request.add_header(name, value)
        deadline = time.monotonic() + self.timeout
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            body = _read(answer, deadline)
        rows = self._rows(json.loads(body))
        before = self.refused.total() - self.refused["id seen before"]
        found = self.accept(map(self._converted, rows), now_micros())
        odd = self.refused.total() - self.refused["id seen before"] - before
        room = WAITING - len(self._waiting)
        self._waiting.extend(found[:room])
        if len(found) > room:
            self.refused["too many at once"] += len(found) - room
        if odd and odd == len(rows):
            raise ValueError(f"each of its {odd} records is refused: {self.refused.most_common(1)}")
        self.trouble = ""

    def _rows(self, answer: Any) -> list[Any]:
        if isinstance(answer, Mapping):
            answer = answer.get("signals" if self.rows is None else self.rows)
        if not isinstance(answer, list):
            raise ValueError("the answer has no array of records")
        return answer

    def _converted(self, row: Any) -> Any:
        """Return the record of a row; of one that cannot be converted, why it is refused."""
        if self.convert is None:
            return row
        try:
            return self.convert(row)
        except Exception as error:  # of a function of the user, on whatever a server has sent
            return RefusedSignal(f"convert failed with {type(error).__name__}")


def _read(answer: Any, deadline: float) -> bytes:
    """Return a body within the time and the size that are allowed."""
    parts, size = [], 0
    read: Callable[[int], bytes] = answer.read1
    while part := read(1 << 14):
        parts.append(part)
        size += len(part)
        if size > BODY_BYTES:
            raise ValueError(f"the answer is larger than {BODY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer takes too long")
    return b"".join(parts)


def _retry_after(error: Exception) -> float:
    """Return the seconds that a server asks us to wait, 0 without any."""
    if not isinstance(error, urllib.error.HTTPError) or error.code not in (429, 503):
        return 0.0
    try:
        seconds = float(error.headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
    return min(seconds, LONGEST_RETRY) if seconds > 0.0 else 0.0


def _words(error: Exception) -> str:
    """Return an error in few words, without the URL, which may have a password in it."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return f"{type(error).__name__}: {getattr(error, 'reason', error)}"[:200]
