"""Lost state: find out whether a state file is whole, without changing it, and set it aside.

While a run is active, its file is not whole by itself: part of the state is in the -wal beside.
Four marks in the table ``meta`` show whether file and -wal belong together:

- ``id``: the same in both.
- ``writes``: counts the writes. The file is never ahead of the -wal.
- ``base``: how many writes the file had when the -wal began. The file is never behind that.
- ``whole``: "0" in the file as long as a -wal is expected, "1" in every later write. So the file
  reads "1" once all of the -wal has been copied to it, by whatever program.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from bt_risk.errors import StateError
from bt_risk.state.database import (
    Damaged,
    Key,
    Record,
    SavedState,
    check_version,
    open_database,
    usable,
)
from bt_risk.state.lock import lock_path

__all__ = [
    "HALTERS",
    "HALTING",
    "REMEDY",
    "check_exists",
    "check_whole",
    "companions",
    "examined",
    "halting",
    "halts_of",
    "set_aside",
    "trace_of",
]

REMEDY = "Restore a copy, or start the run: it refuses entries and says how to go on."

# The kinds of the monitors that halt. Each is saved with its `state` (a `status`, ARMED while it
# halts nothing, and whether it is `final`), the state of the `gate` that it requests, and a
# `reason`.
HALTERS = ("breaker", "floor", "target", "consistency", "margin")
# The kinds of records in which `halting` looks.
HALTING = ("gate", "day", *HALTERS)
_DATABASE = b"SQLite format 3\0"
_LOG = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")  # of machines of either byte order
_ALONE, _WITH_LOG = "immutable=1", "mode=ro"
_LOG_HEADER, _FRAME_HEADER = 32, 24


def companions(path: Path) -> list[Path]:
    """Return the paths of SQLite's files beside a state file."""
    return [Path(f"{path}-wal"), Path(f"{path}-shm")]


def trace_of(path: Path, locked_before: bool) -> str:
    """Return the name of a file that shows that a missing state file existed, else nothing."""
    left = [lock_path(path)] if locked_before else []
    left += [one for one in companions(path) if one.exists()]
    return left[0].name if left else ""


def check_exists(path: Path, file: Path) -> None:
    """Raise where the `file` that `path` leads to is missing, and tell whether it existed."""
    if file.is_file():
        return
    trace = trace_of(file, lock_path(file).exists())
    if trace:
        why = f"is missing, and {trace} shows that a run has used it"
        raise StateError(f"state: {path} {why}. {REMEDY}")
    raise StateError(f"state: {path} does not exist.")


def check_whole(path: Path, lost: str) -> None:
    """Raise for a state that lacks a part: a run would set the file aside, with every request."""
    if lost:
        raise StateError(f"state: {path} is incomplete ({lost}). {REMEDY}")


@contextmanager
def examined(path: Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """Yield a connection that reads a state file that no run has open, and which part is missing.

    Where a -wal does not fit, the connection shows the file without it.

    Raises
    ------
    Damaged
        The file cannot be read.
    StateError
        It is of a later version, or of something else.
    """
    with usable(path):
        mode, lost = _judge(path)
        with closing(open_database(path, mode)) as db:
            yield db, lost


def _judge(path: Path) -> tuple[str, str]:
    """Return how to open a file, and which part of the state is missing."""
    with path.open("rb") as file:
        begin = file.read(len(_DATABASE))
    if not begin:
        raise Damaged("it is empty")
    if begin != _DATABASE:
        raise Damaged("file is not a database")
    wal = companions(path)[0].name
    if not _has_log(path):
        expected = _marks(path, _ALONE).get("whole") == "0"
        why = f"the run that used it did not end, and {wal} is missing or empty"
        return _ALONE, why if expected else ""
    try:
        both = _marks(path, _WITH_LOG)
    except Damaged as error:
        _marks(path, _ALONE)
        return _ALONE, f"{wal} does not fit it ({error})"
    try:
        alone = _marks(path, _ALONE)
    except (Damaged, StateError):  # the process died while it copied the -wal to the file
        return _WITH_LOG, ""
    why = _mismatch(wal, alone, both)
    return _ALONE if why else _WITH_LOG, why


def _has_log(path: Path) -> bool:
    """Return whether the -wal of a file has a header and at least one page."""
    wal = companions(path)[0]
    if not wal.exists():
        return False
    with wal.open("rb") as file:
        header = file.read(_LOG_HEADER)
    page = int.from_bytes(header[8:12])
    return header[:4] in _LOG and wal.stat().st_size >= _LOG_HEADER + _FRAME_HEADER + page


def _marks(path: Path, mode: str) -> dict[str, str]:
    with usable(path), closing(open_database(path, mode)) as db:
        check_version(db, path)
        return dict(db.execute("SELECT key, value FROM meta").fetchall())


def _mismatch(wal: str, alone: Mapping[str, str], both: Mapping[str, str]) -> str:
    """Return why a -wal does not continue its file, or an empty text."""
    if alone.get("id") != both.get("id"):
        return f"{wal} belongs to another file"
    writes = int(alone.get("writes", 0))
    if writes > int(both.get("writes", 0)):
        return f"{wal} is older than the file, or was cut short"
    if writes < int(both.get("base", 0)):
        return f"it is older than {wal}"
    return ""


def halts_of(saved: SavedState) -> dict[Key, Record]:
    """Return the records that halt a run, which are never given up while they can be read."""
    return {
        key: record
        for key, record in saved.records.items()
        if key[0] in ("day", *HALTERS) or (key[0] == "gate" and key[1] != "state")
    }


def halting(records: Mapping[Key, Record]) -> dict[Key, object]:
    """Return what halts a run; a change of it is in the file itself before anything goes on."""
    found: dict[Key, object] = {key: record for key, record in records.items() if key[0] == "gate"}
    for key, record in records.items():
        if key[0] in HALTERS:
            found[key] = record["state"]["status"], record["state"]["final"]
        if key[0] == "day":
            found[key] = record["begin"], record["over"], record["confirmed"]
    return found


def set_aside(path: Path) -> Path:
    """Rename a state file, and SQLite's files beside it, to a name that is not taken."""
    number, aside = 1, Path(f"{path}.damaged")
    while aside.exists():
        number += 1
        aside = Path(f"{path}.damaged{number}")
    for one, renamed in zip((path, *companions(path)), (aside, *companions(aside)), strict=True):
        if one.exists():
            one.rename(renamed)
    return aside
