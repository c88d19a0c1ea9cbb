"""Leave a request of an operator in a state file, and wait for the answer of the run."""

import getpass
import os
import socket
import time
from pathlib import Path

from bt_risk.errors import StateError
from bt_risk.gate.trading_state import OPERATOR
from bt_risk.orders import ACTIVE
from bt_risk.report.state_summary import gate_state
from bt_risk.state.file import SavedState, answer, is_running, read_state, request
from bt_risk.state.inbox import kill_path
from bt_risk.state.loss import check_whole
from bt_risk.state.requests import REFUSED, OperatorRequest
from bt_risk.state.unlisted_stops import NOTHING_IN_QUESTION, STOPS

__all__ = ["operate", "whoami"]

PATIENCE = 2.0  # seconds to wait for an answer
_ASK_AGAIN = 0.05
# What a request does at the start of the next run, in the words of someone who waits for it.
_UNTIL_THEN = {
    "halt": "Working orders stay at the venue until then",
    "reduce": "Working orders stay at the venue until then",
    "flatten": "Nothing is closed until then: if that cannot wait, close it at the venue",
    "resume": "Entries are refused until then",
    "rearm": "Entries are refused until then",
}


def whoami() -> str:
    """Return ``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may have no name for the user
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def operate(path: Path, verb: str, reason: str, who: str, stops: str = "") -> tuple[str, bool]:
    """Leave a request; return what the operator must know, and whether it is possible.

    `stops` says for `resume` that the stops in question are ``"gone"`` or ``"there"``. Where a run
    has the file open, that is its answer.

    Raises
    ------
    StateError
        The file cannot be read or written, or the request can never be carried out.
    """
    saved, running = read_state(path), is_running(path)
    check_whole(path, saved.lost)
    needless = _check(path, saved, verb, running, stops)
    if needless:
        return f"{path}: {needless}", True
    args = ({"reason": reason} if reason else {}) | ({"stops": stops} if stops else {})
    number = request(path, OperatorRequest(verb, who or whoami(), time.time(), args))
    if not running:
        text = f"no run has it open; `{verb}` is taken when the next run starts"
        return f"{path}: {text}. {_UNTIL_THEN[verb]}.", True
    found = _wait(path, number)
    if found is not None:
        return f"{path}: {found}", not found.startswith(REFUSED)
    process = saved.meta.get("process")
    return (
        f"{path}: process {process} has not answered within {PATIENCE:g} s. The request stays, and "
        f"is taken in the next round of its loop. See `bt-risk status {path}` for its heartbeat."
    ), True


def _check(path: Path, saved: SavedState, verb: str, running: bool, stops: str) -> str:
    """Return why a request is needless, or an empty text; raise where it is not possible."""
    final = [b for b in saved.of("breaker").values() if b["state"]["final"]]
    if verb == "rearm" and final:
        raise StateError(
            f"state: {final[0]['reason']}. The lifetime limit cannot be re-armed: "
            "start with another state file to trade again."
        )
    pending = saved.requests or kill_path(path).exists()
    if running or pending or verb not in ("resume", "rearm"):
        return ""  # the run knows best
    asks = STOPS in saved.of("gate")
    if stops:
        return "" if asks else NOTHING_IN_QUESTION
    now, why = gate_state(saved)
    if now == ACTIVE:
        return "nothing is halted"
    if verb == "resume" and OPERATOR not in saved.of("gate"):
        remedy = (
            "The lifetime limit cannot be re-armed."
            if final
            else f"`bt-risk rearm {path}` is the verb."
        )
        if asks:
            remedy = "Give it --stops-are-gone or --stops-are-there."
        raise StateError(f"state: {now}: {why}. `resume` does not take that back. {remedy}")
    return ""


def _wait(path: Path, number: int) -> str | None:
    """Return the answer to a request, None where none comes in time."""
    until = time.monotonic() + PATIENCE
    while True:
        found = answer(path, number)
        if found is not None or time.monotonic() >= until:
            return found
        time.sleep(_ASK_AGAIN)
