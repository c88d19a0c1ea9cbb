"""The SQLite file in which a run saves everything that must survive its process.

It knows no brokers or strategies. A record is a dict of plain values under a kind and a key;
trades and decisions are only ever added. Every write is one transaction that is on the disk when
it returns: a process that dies at any point leaves the last transaction whole.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from bt_risk.errors import ParameterError, StateError
from bt_risk.orders import REDUCING
from bt_risk.state.chain import Chain
from bt_risk.state.database import (
    Damaged,
    Key,
    Record,
    SavedState,
    check_version,
    create_database,
    load,
    open_database,
    usable,
)
from bt_risk.state.lock import (
    by_whom,
    lock_path,
    open_elsewhere,
    real_path,
    take_lock,
    unused,
)
from bt_risk.state.loss import (
    REMEDY,
    check_exists,
    check_whole,
    companions,
    examined,
    halts_of,
    set_aside,
    trace_of,
)
from bt_risk.state.private import make_private
from bt_risk.state.requests import (
    Answer,
    OperatorRequest,
    answer_to,
    insert_answers,
    insert_request,
    load_requests,
)
from bt_risk.state.schema import REQUESTS_SINCE, VERSION, migrate

__all__ = [
    "Key",
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

_MERGE_EVERY = 100  # writes, after which the -wal is copied to the file
_READERS = 250  # milliseconds to wait for somebody who reads while it is copied
_AT_THE_START = "A run whose state cannot be saved does not start."


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
        Created if it does not exist. A file that cannot be read, or that lacks a part, is renamed,
        and a new one begun.

    Attributes
    ----------
    saved : SavedState
        What the file held when it was opened.
    lost : str
        Why no state could be restored, empty if one was.
    new : bool
        Whether nothing shows that there was a state before.

    Raises
    ------
    StateError
        Another process has it open, a newer version wrote it, it is no state file, or it cannot be
        written.
    """

    path: Path
    saved: SavedState
    lost: str
    new: bool
    _db: sqlite3.Connection
    _since = 0
    _halting = False

    def __init__(self, path: str | Path) -> None:
        self.path, self._file = Path(path), real_path(path)
        self.lost, self._was_there = "", True
        if not self._file.parent.is_dir():
            raise StateError(f"state: the folder of {self.path} does not exist. Create it first.")
        try:
            with usable(self.path, _AT_THE_START):
                self._lock = take_lock(self.path)
                try:
                    self._open()
                except BaseException:
                    self._lock.close()
                    self._leave_no_trace()
                    raise
        except Damaged as error:
            raise StateError(f"state: {self.path} cannot be used ({error}).") from None

    def _open(self) -> None:
        file = self._file
        trace = trace_of(file, self._lock.found)
        self._was_there = file.exists() or bool(trace)
        for one in (file, *companions(file), *file.parent.glob(f"{file.name}.damaged*")):
            make_private(one)
        if not self._was_there:
            create_database(file, {"id": secrets.token_hex(4), "new": "1"}, {})
        elif not file.exists():
            self._replace(f"is missing, and {trace} shows that a run has used it")
        else:
            self._check()
        self._lock.hold_file()
        self._connect()

    def _check(self) -> None:
        """Begin a new file where this one is damaged or incomplete."""
        try:
            with examined(self._file) as (db, lost):
                saved = load(db)
        except Damaged as error:
            self._replace(f"was damaged ({error})")
        else:
            if lost:
                self._replace(f"was incomplete ({lost})", saved)

    def _replace(self, why: str, saved: SavedState | None = None) -> None:
        """Begin a new file that refuses entries and keeps every halt that could be read."""
        there = self._file.exists()
        aside = set_aside(self._file)
        renamed = f" and has been renamed to {aside.name}" if there else ""
        self.lost = f"{self.path} {why}{renamed}"
        reason = f"state: {self.lost}: no entries until `bt-risk rearm {self.path}`"
        records = halts_of(saved) if saved else {}
        records["gate", "state"] = {"state": REDUCING, "reason": reason, "flattening": ""}
        create_database(self._file, {"id": secrets.token_hex(4)}, records)

    def _leave_no_trace(self) -> None:
        """Remove what a first start that failed has made: no state is lost."""
        if not self._was_there:
            for one in (self._file, *companions(self._file), lock_path(self._file)):
                one.unlink(missing_ok=True)

    def _connect(self) -> None:
        self._db = open_database(self._file)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            if check_version(self._db, self.path) < VERSION:
                migrate(self._db)
            self.saved = load(self._db)
            if "journal" in self.saved.meta:
                remedy = "Give the state a file of its own."
                raise StateError(f"state: {self.path} is the journal of a run. {remedy}")
            self._chain = Chain.of(self._db)
            self._begin_run()
        except BaseException:
            self._db.close()
            raise

    def _begin_run(self) -> None:
        meta = self.saved.meta
        self.new = "new" in meta
        if self.new:
            self.lost = f"{self.path} did not exist"
        run = int(meta.get("run", 0)) + 1
        meta |= {"run": str(run), "process": str(os.getpid())}
        meta.setdefault("id", secrets.token_hex(4))
        # Prefix of the ids of this run's orders: no other run of any file has it.
        self.name = f"{meta['id']}-{run}"
        self._writes, self._base = int(meta.get("writes", 0)), int(meta.get("base", 0))
        with self._transaction(whole=False) as db:
            pairs = [(name, meta[name]) for name in ("run", "process", "id")]
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)
        self._merge()

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, whole: bool = True) -> Iterator[sqlite3.Connection]:
        """Let one write be made whole or not at all; `loss` explains its marks."""
        with self._db as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            marks = {"writes": self._writes + 1, "base": self._base, "whole": int(whole)}
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", marks.items())
        self._writes += 1

    def _merge(self) -> None:
        """Copy the -wal to the file, which then shows everything although it is not whole."""
        if self._checkpoint():
            self._base, self._since, self._halting = self._writes, 0, False
        with suppress(sqlite3.Error), self._transaction():  # else the next write says the same
            pass

    def _checkpoint(self) -> bool:
        """Copy the -wal to the file; return whether all of it is there. A reader can delay that."""
        (patience,) = self._db.execute("PRAGMA busy_timeout").fetchone()
        try:
            self._db.execute(f"PRAGMA busy_timeout = {min(patience, _READERS)}")
            busy, pages, copied = self._db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        except sqlite3.Error:  # the disk is full: the -wal has it all
            return False
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {patience}")
        return not busy and pages == copied

    def write(
        self,
        changed: Mapping[Key, str],
        removed: Iterable[Key] = (),
        trades: Iterable[tuple[str, str]] = (),
        decisions: Iterable[tuple[str, str, float]] = (),
        answers: Iterable[Answer] = (),
        events: Iterable[tuple[str, float, str]] = (),
        *,
        halts: bool = False,
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
        halts : bool
            Whether a halt begins or ends: the file itself shows that when this returns, also
            without the -wal.
        """
        self._since += 1
        self._halting = self._halting or halts
        merges = self._halting or self._since >= _MERGE_EVERY
        with self._transaction(whole=not merges) as db:
            rows = [(*key, value) for key, value in changed.items()]
            db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
            db.executemany("DELETE FROM records WHERE kind = ? AND key = ?", removed)
            db.executemany("INSERT OR IGNORE INTO trades VALUES (?, ?)", trades)
            chain = self._chain.add(db, decisions)
            db.executemany(
                "INSERT INTO order_events (client_id, at, value) VALUES (?, ?, ?)", events
            )
            if answers:
                insert_answers(db, answers)
            if self.new:
                db.execute("DELETE FROM meta WHERE key = 'new'")
        self._chain = chain or self._chain
        if merges:
            self._merge()

    def requests(self) -> list[OperatorRequest]:
        """Return the requests of an operator that are in the file, oldest first."""
        try:
            return load_requests(self._db)
        except sqlite3.Error:  # the next round asks again
            return []

    def close(self) -> None:
        """Leave one whole file behind, and release it for other processes."""
        try:
            with suppress(sqlite3.Error):  # the disk is full: the -wal stays, and has it all
                with self._transaction():
                    pass
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()
            self._lock.close()


def read_state(path: str | Path, decisions: int = 10) -> SavedState:
    """Return the present contents of a state file, whether a run has it open or not.

    Raises StateError where the file does not exist or cannot be read.
    """
    with _opened(path) as (db, lost):
        saved = load(db, decisions)
        saved.lost = lost
        return saved


@contextmanager
def reading(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to a state file, whether a run has it open or not.

    Raises StateError where the file does not exist or cannot be read.
    """
    with _opened(path) as (db, _):
        yield db


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """Yield a connection that reads, and which part of the state is missing."""
    path, file = Path(path), real_path(path)
    check_exists(path, file)
    try:
        with usable(path):
            lock = unused(file)
            if lock is not None:
                with closing(lock), examined(file) as found:
                    yield found
                return
            if open_elsewhere(file):
                raise StateError(f"state: {path} is in use under another name. Use that one.")
            with closing(open_database(file)) as db:
                check_version(db, path)
                yield db, ""
    except Damaged as error:
        raise StateError(f"state: {path} cannot be read ({error}). {REMEDY}") from None


def request(path: str | Path, wanted: OperatorRequest) -> int:
    """Leave a request for the run that has this file open, or for the next one.

    Return its number. A file of version 1 that no process uses is migrated for that.
    """
    path = Path(path)
    check_whole(path, read_state(path).lost)
    try:
        with closing(open_database(path)) as db:
            old = check_version(db, path) < REQUESTS_SINCE
        if old:
            _migrate_unused(path)
        with closing(open_database(path)) as db:
            return insert_request(db, wanted)
    except sqlite3.Error as error:
        raise StateError(f"state: {path} cannot be written ({error}).") from None


def _migrate_unused(path: Path) -> None:
    """Migrate a file unless a process has it open, which would be one of an older bt_risk."""
    try:
        lock = take_lock(path)
    except StateError:
        raise StateError(
            f"state: the run that uses {path}{by_whom(path)}, is of an older bt_risk, which takes "
            "no such request. Restart it with this one."
        ) from None
    with closing(lock), closing(open_database(path)) as db:  # closed before the lock is
        migrate(db)


def answer(path: str | Path, number: int) -> str | None:
    """Return the answer of a run to a request, None while there is none."""
    try:
        with closing(open_database(Path(path))) as db:
            return answer_to(db, number)
    except (sqlite3.Error, StateError):  # the file is busy: ask again
        return None


def is_running(path: str | Path) -> bool:
    """Return whether the run of some process has this state file open, by whatever name."""
    with usable(Path(path)):
        lock = unused(path)
    if lock is not None:
        lock.close()
    return lock is None
