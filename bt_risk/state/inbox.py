"""Inbox: find what an operator has requested of a run, and answer it."""

from __future__ import annotations

import math
import os
from pathlib import Path

from bt_risk.state.file import StateFile
from bt_risk.state.protocols import Gate
from bt_risk.state.recorder import StateRecorder
from bt_risk.state.requests import Answer, OperatorRequest

__all__ = ["Inbox", "KillFile", "kill_path"]

_EVERY = 1.0  # seconds between two checks


def kill_path(state: str | Path) -> Path:
    """Return the name of the file that requests a flatten of the run with this state file."""
    return Path(f"{state}.kill")


class KillFile:
    """A file beside the state file that requests a flatten, for people without a shell."""

    def __init__(self, state: Path) -> None:
        self.path = kill_path(state)
        self.taken: tuple[int, int] | None = None

    def request(self) -> OperatorRequest | None:
        """Return what the file requests, None where there is none or it has been returned."""
        try:
            found = os.lstat(self.path)
        except OSError:
            self.taken = None
            return None
        this = found.st_ino, found.st_mtime_ns
        if this == self.taken:
            return None
        self.taken = this
        args = {"reason": f"the file {self.path.name} is there"}
        return OperatorRequest("flatten", self.path.name, found.st_mtime, args)

    def put_aside(self) -> str:
        """Rename the file; return why that failed, or an empty text."""
        try:
            os.replace(self.path, f"{self.path}.done")
        except OSError as error:
            return str(error.strerror)
        self.taken = None
        return ""


class Inbox:
    """Take the requests of one run at most once a second: the kill file, then the state file's."""

    def __init__(self, gate: Gate, file: StateFile, recorder: StateRecorder) -> None:
        self.gate, self.file, self.recorder = gate, file, recorder
        self.kill = KillFile(file.path)
        self._next = -math.inf

    def check(self) -> None:
        """Carry out what has been requested since the last check, and answer it."""
        now = self.gate.live.clock()
        if now < self._next:
            return
        self._next = now + _EVERY
        self._take_kill()
        for request in self.file.requests():
            answered = any(one.number == request.number for one in self.recorder.answers)
            if not answered and not self.gate.operator.waits(request):
                self._answer(request)

    def _answer(self, request: OperatorRequest) -> None:
        text = self.gate.operator.carry_out(request)
        at = self.gate.live.now()
        self.recorder.answers.append(Answer(request.number, request.verb, request.who, at, text))

    def _take_kill(self) -> None:
        """Carry out the kill file once; it is renamed when the halt is on the disk."""
        request = self.kill.request()
        if request is not None:
            self.gate.operator.carry_out(request)
        if self.kill.taken is None or self.recorder.save():
            return
        problem = self.kill.put_aside()
        if problem and self.gate.journal.once(("kill file", self.kill.taken)):
            name = self.kill.path.name
            reason = (
                f"operator: {name} was taken, and cannot be renamed ({problem}). This run does "
                "not take it again, but the next one would: delete it"
            )
            self.gate.journal.account("operator", "request", reason)
