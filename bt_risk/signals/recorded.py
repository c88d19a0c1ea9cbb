"""Files of JSON lines that outlive a run: what they had when it began, and what it adds."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from bt_risk.signals.files import line_of
from bt_risk.signals.record import SECOND, SKEW, RefusedSignal, Signal, parse_signal

__all__ = ["Backlog", "Recording", "decoded", "read_backlog"]

# The end of a file that is read when a run begins: about as many signals as ids are remembered.
BACKLOG_BYTES = 1 << 24
UNWRITTEN = 10_000  # lines that are kept while the file cannot be written


@dataclass(frozen=True)
class Backlog:
    """What a file had when a run began.

    Attributes
    ----------
    signals : tuple of Signal
        Oldest line first.
    refused : Counter
        Records that were refused, by reason.
    size : int
        Bytes of the file at that moment.
    rest : bytes
        A last line that has no end yet.
    """

    signals: tuple[Signal, ...]
    refused: Counter[str]
    size: int
    rest: bytes


def read_backlog(path: Path, now: int) -> Backlog:
    """Read the end of a file, each signal with the times that its own line states.

    A line without a time is refused: how old it is, nobody knows. `now` is the present time in UTC
    microseconds since 1970. Raises OSError.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin = max(0, size - BACKLOG_BYTES)
        file.seek(begin)
        content = file.read(size - begin)
    *lines, rest = content.split(b"\n")
    refused: Counter[str] = Counter()
    signals = []
    for line in filter(bytes.strip, lines[1:] if begin else lines):
        try:
            signals.append(_of_the_past(decoded(line), now))
        except RefusedSignal as reason:
            refused[reason.kind] += 1
    return Backlog(tuple(signals), refused, size, rest)


def _of_the_past(row: Any, now: int) -> Signal:
    signal = parse_signal(row)
    if signal.received is None and signal.published > now + round(SKEW * SECOND):
        raise RefusedSignal("published after it was received")
    return signal


def decoded(line: bytes) -> Any:
    """Return the value of a line of JSON, None for one that is broken."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class Recording:
    """The file to which a run adds what it has seen, and from which the next run reads it.

    Attributes
    ----------
    trouble : str
        Why it cannot be read or written; empty while all is well.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path, self.trouble = Path(path), ""
        self._waiting: deque[str] = deque(maxlen=UNWRITTEN)
        self._torn = False

    def earlier(self, now: int) -> tuple[Signal, ...]:
        """Return what earlier runs have seen."""
        try:
            backlog = read_backlog(self.path, now)
        except FileNotFoundError:
            return ()
        except OSError as error:
            self.trouble = f"{self.path} cannot be read: {error}"
            return ()
        self._torn = bool(backlog.rest)
        return backlog.signals

    def add(self, signals: Iterable[Signal]) -> None:
        """Add signals; the run goes on where that fails, and what is missing is added later."""
        self._waiting.extend(map(line_of, signals))
        if not self._waiting:
            return
        # A line that was cut short by a crash must not take the next one with it.
        text = "\n" * self._torn + "".join(self._waiting)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self._torn, self.trouble = True, f"{self.path} cannot be written: {error}"
            return
        self._torn, self.trouble = False, ""
        self._waiting.clear()
