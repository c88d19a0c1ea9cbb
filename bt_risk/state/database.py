"""The SQLite database of a state file: create it, open it, check it, and load what it holds."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bt_risk.errors import StateError
from bt_risk.state.private import create_private
from bt_risk.state.requests import OperatorRequest, load_requests
from bt_risk.state.schema import APPLICATION, SCHEMA, VERSION

__all__ = [
    "Damaged",
    "Key",
    "Record",
    "SavedState",
    "check_version",
    "create_database",
    "load",
    "open_database",
    "usable",
]

Record = dict[str, Any]
Key = tuple[str, str]


@dataclass
class SavedState:
    """The contents of a state file.

    Attributes
    ----------
    records : dict of (kind, key) to dict
    trades : dict of key to dict
        Oldest first.
    decisions : list of list
        The newest lines of the journal, oldest first.
    requests : list of OperatorRequest
        Requests of an operator that no run has answered yet.
    meta : dict of str
    lost : str
        Which part of the state is missing, and why; empty if none is.
    """

    records: dict[Key, Record] = field(default_factory=dict)
    trades: dict[str, Record] = field(default_factory=dict)
    decisions: list[list[Any]] = field(default_factory=list)
    requests: list[OperatorRequest] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    lost: str = ""

    def of(self, kind: str) -> dict[str, Record]:
        """Return the records of one kind by key."""
        return {key: value for (one, key), value in self.records.items() if one == kind}


class Damaged(Exception):
    """Report that a file is no valid SQLite database."""


def open_database(path: Path, mode: str = "mode=rw") -> sqlite3.Connection:
    """Return a connection to a file; ``immutable=1`` reads it without its -wal and any lock."""
    try:
        # Cerebro may run in another thread than the one that asks for a halt.
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=5.0,
            isolation_level=None,
            check_same_thread=False,
        )
        # `StateFile` decides when the -wal is copied to the file.
        db.execute("PRAGMA wal_autocheckpoint = 0")
    except sqlite3.Error as error:
        raise StateError(f"state: {path} cannot be opened ({error}).") from None
    return db


@contextmanager
def usable(path: Path, remedy: str = "") -> Iterator[None]:
    """Raise Damaged for a damaged file, StateError for one that is busy or whose disk is full."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        if "no such table" in str(error) or "no such column" in str(error):
            raise Damaged(str(error)) from None
        reason = error.strerror if isinstance(error, OSError) else error
        raise StateError(f"state: {path} cannot be used ({reason}). {remedy}".rstrip()) from None
    except (sqlite3.DatabaseError, ValueError) as error:
        raise Damaged(str(error)) from None


def create_database(
    path: Path,
    meta: Mapping[str, str],
    records: Mapping[Key, Record],
    fill: Callable[[sqlite3.Connection], None] | None = None,
    made_as: str = "new",
) -> None:
    """Create a state file whole: a process that dies here leaves none under this name.

    `fill` inserts what else is to be in it; `made_as` ends its name until it is whole.
    """
    new = Path(f"{path}-{made_as}")
    _remove(new)  # of a process that died here
    try:
        _fill(new, meta, records, fill)
    except BaseException:
        _remove(new)
        raise
    os.replace(new, path)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _fill(
    new: Path,
    meta: Mapping[str, str],
    records: Mapping[Key, Record],
    fill: Callable[[sqlite3.Connection], None] | None,
) -> None:
    create_private(new)
    with closing(open_database(new)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        with db:
            db.execute("BEGIN")
            db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            rows = [(*key, json.dumps(record)) for key, record in records.items()]
            db.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
            if fill is not None:
                fill(db)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def check_version(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a state file.

    Raise for a file of something else, or of a later version.
    """
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise Damaged(found)
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not application and not version and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise Damaged("it has no tables")
    if application != APPLICATION:
        raise StateError(f"state: {path} is a database of something else. Give another name.")
    if version > VERSION:
        raise StateError(
            f"state: {path} is of version {version}, and this bt_risk reads version {VERSION}. "
            "Upgrade bt_risk, or start with another file."
        )
    return int(version)


def load(db: sqlite3.Connection, decisions: int = 0) -> SavedState:
    """Return what the database holds, with so many of its newest decisions."""
    records = {
        (kind, key): json.loads(value)
        for kind, key, value in db.execute("SELECT kind, key, value FROM records")
    }
    trades = db.execute("SELECT key, value FROM trades ORDER BY rowid").fetchall()
    lines = db.execute(
        "SELECT value FROM decisions ORDER BY number DESC LIMIT ?", (decisions,)
    ).fetchall()
    return SavedState(
        records,
        {key: json.loads(value) for key, value in trades},
        [json.loads(line) for (line,) in reversed(lines)],
        load_requests(db),
        dict(db.execute("SELECT key, value FROM meta").fetchall()),
    )
