"""The SQLite file in which a run saves everything that must survive its process.

It knows no brokers or strategies. A record is a dict of plain values under a kind and a key;
trades and decisions are only ever added. Every write is one transaction that is on the disk when
it returns: a process that dies at any point leaves the last transaction whole.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bt_risk.errors import ParameterError, StateError
from bt_risk.state.requests import (
    Answer,
    OperatorRequest,
    answer_to,
    insert_answers,
    insert_request,
    load_requests,
)
from bt_risk.state.schema import APPLICATION, SCHEMA, VERSION, migrate

__all__ = [
    "Record",
    "SavedState",
    "StateFile",
    "answer",
    "check_state",
    "is_running",
    "read_state",
    "reading",
    "request",
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
    """

    records: dict[Key, Record] = field(default_factory=dict)
    trades: dict[str, Record] = field(default_factory=dict)
    decisions: list[list[Any]] = field(default_factory=list)
    requests: list[OperatorRequest] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Record]:
        """Return the records of one kind by key."""
        return {key: value for (one, key), value in self.records.items() if one == kind}


def check_state(component: str, path: Any) -> Path | None:
    """Return the path of a state file, None for none."""
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)) or not str(path).strip():
        raise ParameterError(component, "state", "the path of a file, or None", path)
    return Path(path)


class StateFile:
    """A state file that only this process writes.

    Parameters
    ----------
    path : Path
        Created if it does not exist. A file that cannot be read is renamed, and a new one begun.

    Attributes
    ----------
    saved : SavedState
        What the file held when it was opened.
    lost : str
        Why no state could be restored, empty if one was.

    Raises
    ------
    StateError
        Another process has it open, a newer version wrote it, or it is no state file.
    """

    path: Path
    saved: SavedState
    lost: str
    _db: sqlite3.Connection

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lost = ""
        if not self.path.parent.is_dir():
            raise StateError(f"state: the folder of {self.path} does not exist. Create it first.")
        self._lock = _take_lock(self.path)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
            self.lost = f"{self.path} did not exist"
        try:
            self._connect()
        except _Damaged as error:
            aside = _set_aside(self.path)
            self.lost = f"{self.path} was damaged ({error}) and has been renamed to {aside.name}"
            self._connect()
        run = int(self.saved.meta.get("run", 0)) + 1
        self.saved.meta |= {"run": str(run), "process": str(os.getpid())}
        self.saved.meta.setdefault("id", secrets.token_hex(4))
        # Prefix of the ids of this run's orders: no other run of any file has it.
        self.name = f"{self.saved.meta['id']}-{run}"
        with self._db:
            pairs = self.saved.meta.items()
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)

    def _connect(self) -> None:
        self._db = _open(self.path, create=True)
        try:
            with _damage_found(self.path):
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                if _check_version(self._db, self.path) < VERSION:
                    migrate(self._db)
                self.saved = _load(self._db)
        except BaseException:
            self._db.close()
            raise

    def write(
        self,
        changed: Mapping[Key, str],
        removed: Iterable[Key] = (),
        trades: Iterable[tuple[str, str]] = (),
        decisions: Iterable[tuple[str, str, float]] = (),
        answers: Iterable[Answer] = (),
        events: Iterable[tuple[str, float, str]] = (),
    ) -> None:
        """Write all of this, or nothing.

        Parameters
        ----------
        changed : dict of (kind, key) to str
            Records as JSON.
        removed : iterable of (kind, key)
            Records to delete.
        trades : iterable of (key, str)
            A trade whose key is in the file already is the same trade, and is left as it is.
        decisions : iterable of (str, str, float)
            Lines of the journal, each with the client id of its order, or an empty text, and with
            the seconds since 1970.
        answers : iterable of Answer
            They take the place of the requests that they answer.
        events : iterable of (str, float, str)
            What has happened to orders: client id, seconds since 1970, and what.
        """
        with self._db as db:
            db.execute("BEGIN IMMEDIATE")
            rows = [(*key, value) for key, value in changed.items()]
            db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
            db.executemany("DELETE FROM records WHERE kind = ? AND key = ?", removed)
            db.executemany("INSERT OR IGNORE INTO trades VALUES (?, ?)", trades)
            db.executemany(
                "INSERT INTO decisions (value, client_id, at) VALUES (?, ?, ?)", decisions
            )
            db.executemany(
                "INSERT INTO order_events (client_id, at, value) VALUES (?, ?, ?)", events
            )
            if answers:
                insert_answers(db, answers)

    def requests(self) -> list[OperatorRequest]:
        """Return the requests of an operator that are in the file, oldest first."""
        try:
            return load_requests(self._db)
        except sqlite3.Error:  # the next round asks again
            return []

    def close(self) -> None:
        """Leave one whole file behind, and release it for other processes."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()
            self._lock.close()


def read_state(path: str | Path, decisions: int = 10) -> SavedState:
    """Return the present contents of a state file, whether a run has it open or not.

    Raises StateError where the file does not exist or cannot be read.
    """
    with reading(path) as db:
        return _load(db, decisions)


@contextmanager
def reading(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to a state file, whether a run has it open or not.

    Raises StateError where the file does not exist or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise StateError(f"state: {path} does not exist.")
    try:
        with closing(_open(path)) as db, _damage_found(path):
            _check_version(db, path)
            yield db
    except (_Damaged, sqlite3.OperationalError) as error:
        remedy = "Restore a copy, or start the run: it refuses entries and says how to go on."
        raise StateError(f"state: {path} cannot be read ({error}). {remedy}") from None


def request(path: str | Path, wanted: OperatorRequest) -> int:
    """Leave a request for the run that has this file open, or for the next one.

    Return its number. A file of version 1 that no process uses is migrated for that.
    """
    path = Path(path)
    read_state(path)
    try:
        with closing(_open(path)) as db:
            if _check_version(db, path) < VERSION:
                _migrate_unused(db, path)
            return insert_request(db, wanted)
    except sqlite3.Error as error:
        raise StateError(f"state: {path} cannot be written ({error}).") from None


def _migrate_unused(db: sqlite3.Connection, path: Path) -> None:
    """Migrate a file unless a process has it open, which would be one of an older bt_risk."""
    try:
        lock = _take_lock(path)
    except StateError:
        raise StateError(
            f"state: the run that uses {path}{_by_whom(path)}, is of an older bt_risk, which takes "
            "no such request. Restart it with this one."
        ) from None
    with closing(lock):
        migrate(db)


def answer(path: str | Path, number: int) -> str | None:
    """Return the answer of a run to a request, None while there is none."""
    try:
        with closing(_open(Path(path))) as db:
            return answer_to(db, number)
    except (sqlite3.Error, StateError):  # the file is busy: ask again
        return None


def is_running(path: str | Path) -> bool:
    """Return whether the run of some process has this state file open."""
    if not _lock_path(path).exists():
        return False
    try:
        _take_lock(Path(path)).close()
    except StateError:
        return True
    return False


class _Damaged(Exception):
    """Report that a file is no valid SQLite database."""


def _open(path: Path, create: bool = False) -> sqlite3.Connection:
    mode = "rwc" if create else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        # Cerebro may run in another thread than the one that asks for a halt.
        return sqlite3.connect(
            uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StateError(f"state: {path} cannot be opened ({error}).") from None


@contextmanager
def _damage_found(path: Path) -> Iterator[None]:
    """Raise _Damaged for a damaged file, StateError for one that is busy or whose disk is full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "no such column" in str(error):
            raise _Damaged(str(error)) from None
        raise StateError(f"state: {path} cannot be used ({error}).") from None
    except (sqlite3.DatabaseError, ValueError) as error:
        raise _Damaged(str(error)) from None


def _check_version(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a state file, and make a new file one.

    Raise for a file of something else, or of a later version.
    """
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _Damaged(found)
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not application and not version and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
        db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        return VERSION
    if application != APPLICATION:
        raise StateError(f"state: {path} is a database of something else. Give another name.")
    if version > VERSION:
        raise StateError(
            f"state: {path} is of version {version}, and this bt_risk reads version {VERSION}. "
            "Upgrade bt_risk, or start with another file."
        )
    return int(version)


def _load(db: sqlite3.Connection, decisions: int = 0) -> SavedState:
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


def _lock_path(path: str | Path) -> Path:
    return Path(f"{path}-lock")


def _take_lock(path: Path) -> sqlite3.Connection:
    """Return the connection that holds the lock; it ends with the process, however that ends.

    It is SQLite's own lock on an empty file beside: a lock on the state file itself would also
    keep out those who only read, and those who leave a request.
    """
    lock = _open(_lock_path(path), create=True)
    try:
        lock.execute("PRAGMA busy_timeout = 500")  # `is_running` holds the lock for a moment, too
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        raise StateError(
            f"state: {path} is in use{_by_whom(path)}. Two runs on one account undo each other's "
            "stops: stop that one, or give this one a file of its own."
        ) from None
    return lock


def _by_whom(path: Path) -> str:
    try:
        with closing(_open(path)) as db:
            found = db.execute("SELECT value FROM meta WHERE key = 'process'").fetchone()
    except (sqlite3.Error, StateError):
        return ""
    return f" by process {found[0]}" if found else ""


def _set_aside(path: Path) -> Path:
    """Rename a damaged file, and SQLite's files beside it, to a name that is not taken."""
    number, aside = 1, Path(f"{path}.damaged")
    while aside.exists():
        number += 1
        aside = Path(f"{path}.damaged{number}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    return aside
