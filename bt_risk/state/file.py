"""The file in which a run keeps what must survive it: plain records, written before they count.

It knows nothing of brokers or strategies. A record is a dict of plain values under a kind and a
key; trades and decisions are only ever added. Every write is one transaction that is on the disk
when it returns, so that a process which dies at any point leaves the last one whole.
"""

import json
import os
import secrets
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bt_risk.errors import ParameterError, StateError

__all__ = ["SavedState", "StateFile", "check_state", "is_running", "read_state", "request"]

VERSION = 1
APPLICATION = 0x62747221  # marks an SQLite file as one of ours

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE trades (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE decisions (number INTEGER PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE requests (number INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL);
"""


@dataclass
class SavedState:
    """What a state file holds.

    Attributes
    ----------
    records : dict of (kind, key) to dict
    trades : dict of key to dict
        Oldest first.
    decisions : list of list
        The newest lines of the journal, oldest first.
    requests : list of (int, str)
        What an operator has asked for and no run has answered yet.
    meta : dict of str
    """

    records: dict = field(default_factory=dict)
    trades: dict = field(default_factory=dict)
    decisions: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    meta: dict = field(default_factory=dict)

    def of(self, kind):
        """Return the records of one kind by key."""
        return {key: value for (one, key), value in self.records.items() if one == kind}


def check_state(component, path):
    """Return the path of a state file, None for none."""
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)) or not str(path).strip():
        raise ParameterError(component, "state", "the path of a file, or None", path)
    return Path(path)


class StateFile:
    """A state file that this process alone writes.

    Parameters
    ----------
    path : Path
        Made if it is not there. A file that cannot be read is set aside, under another name.

    Attributes
    ----------
    kept : Kept
        What it held when it was opened.
    lost : str
        Why there was nothing to begin with, empty if there was.

    Raises
    ------
    StateError
        Another process has it, a newer version wrote it, or it is no state file.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.lost = ""
        if not self.path.parent.is_dir():
            raise StateError(f"state: the folder of {self.path} is not there. Make it first.")
        self._lock = _take_lock(self.path)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self):
        if not self.path.exists() or not self.path.stat().st_size:
            self.lost = f"{self.path} was not there"
        try:
            self._connect()
        except _Damaged as error:
            aside = _set_aside(self.path)
            self.lost = f"{self.path} was damaged ({error}) and is now {aside.name}"
            self._connect()
        run = int(self.kept.meta.get("run", 0)) + 1
        self.kept.meta |= {"run": str(run), "process": str(os.getpid())}
        self.kept.meta.setdefault("id", secrets.token_hex(4))
        with self._db:
            pairs = self.kept.meta.items()
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)

    def _connect(self):
        self._db = _open(self.path, create=True)
        try:
            with _damage_found(self.path):
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                _check_version(self._db, self.path)
                self.kept = _load(self._db)
        except BaseException:
            self._db.close()
            raise

    @property
    def name(self):
        """Prefix of the ids of this run's orders: no other run of any file has it."""
        return f"{self.kept.meta['id']}-{self.kept.meta['run']}"

    def write(self, changed, gone=(), trades=(), decisions=(), answered=()):
        """Write all of this, or nothing.

        Parameters
        ----------
        changed : dict of (kind, key) to str
            Records as JSON.
        gone : iterable of (kind, key)
            Records that are no more.
        trades : iterable of (key, str)
            A key that is there already is the same trade, and is left as it is.
        decisions : iterable of str
        answered : iterable of int
            Numbers of requests.
        """
        with self._db as db:
            db.execute("BEGIN IMMEDIATE")
            rows = [(*key, value) for key, value in changed.items()]
            db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
            db.executemany("DELETE FROM records WHERE kind = ? AND key = ?", gone)
            db.executemany("INSERT OR IGNORE INTO trades VALUES (?, ?)", trades)
            db.executemany(
                "INSERT INTO decisions (value) VALUES (?)", [(line,) for line in decisions]
            )
            db.executemany("DELETE FROM requests WHERE number = ?", [(n,) for n in answered])

    def requests(self):
        """Return what an operator has asked for since, as ``(number, verb)``."""
        try:
            return self._db.execute("SELECT number, verb FROM requests ORDER BY number").fetchall()
        except sqlite3.Error:  # it is asked again on the next round
            return []

    def close(self):
        """Leave one whole file behind, and let others have it."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()
            self._lock.close()


def read_state(path, decisions=10):
    """Return what a state file holds now, whether a run has it open or not.

    Raises StateError where there is none, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise StateError(f"state: {path} is not there.")
    try:
        with closing(_open(path)) as db, _damage_found(path):
            _check_version(db, path)
            return _load(db, decisions)
    except (_Damaged, sqlite3.OperationalError) as error:
        remedy = "Restore a copy, or start the run: it refuses entries, and says how to go on."
        raise StateError(f"state: {path} cannot be read ({error}). {remedy}") from None


def request(path, verb):
    """Leave a request for the run that has this file, or for the next one."""
    read_state(path)
    try:
        with closing(_open(Path(path))) as db:
            db.execute("INSERT INTO requests (verb) VALUES (?)", (verb,))
    except sqlite3.Error as error:
        raise StateError(f"state: {path} cannot be written ({error}).") from None


def is_running(path):
    """Return whether a process has this state file open as its own."""
    if not _lock_path(path).exists():
        return False
    try:
        _take_lock(Path(path)).close()
    except StateError:
        return True
    return False


class _Damaged(Exception):
    """A file that is an SQLite database no more."""


def _open(path, create=False):
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
def _damage_found(path):
    """Tell a file that is damaged from one that is busy, or whose disk is full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "no such column" in str(error):
            raise _Damaged(str(error)) from None
        raise StateError(f"state: {path} cannot be used ({error}).") from None
    except (sqlite3.DatabaseError, ValueError) as error:
        raise _Damaged(str(error)) from None


def _check_version(db, path):
    """Make a new file one of ours; raise for what is none, or is from a later version."""
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _Damaged(found)
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not application and not version and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
        db.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION}; "
            f"PRAGMA user_version = {VERSION}; COMMIT;"
        )
    elif application != APPLICATION:
        raise StateError(f"state: {path} is a database of something else. Give another name.")
    elif version > VERSION:
        raise StateError(
            f"state: {path} is of version {version}, and this bt_risk knows {VERSION}. "
            "Upgrade bt_risk, or start with another file."
        )


def _load(db, decisions=0):
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
        db.execute("SELECT number, verb FROM requests ORDER BY number").fetchall(),
        dict(db.execute("SELECT key, value FROM meta").fetchall()),
    )


def _lock_path(path):
    return Path(f"{path}-lock")


def _take_lock(path):
    """Return the connection that holds the lock; it ends with the process, however that ends.

    It is SQLite's own lock on an empty file beside: on the state file itself it would also keep
    out those who only read, and those who leave a request.
    """
    lock = _open(_lock_path(path), create=True)
    try:
        lock.execute("PRAGMA busy_timeout = 500")  # somebody may be looking whether it is taken
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        raise StateError(
            f"state: {path} is in use{_by_whom(path)}. Two runs on one account undo each other's "
            "stops: stop that one, or give this one a file of its own."
        ) from None
    return lock


def _by_whom(path):
    try:
        with closing(_open(path)) as db:
            found = db.execute("SELECT value FROM meta WHERE key = 'process'").fetchone()
    except (sqlite3.Error, StateError):
        return ""
    return f" by process {found[0]}" if found else ""


def _set_aside(path):
    """Give a damaged file, and what SQLite keeps beside it, a name that is not taken."""
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
