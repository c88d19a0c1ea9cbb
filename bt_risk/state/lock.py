"""The lock of a state file: one run holds the file, by whatever name it is reached."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from bt_risk.errors import StateError
from bt_risk.state.database import open_database
from bt_risk.state.private import create_private, make_private

if sys.platform != "win32":
    import fcntl

__all__ = [
    "StateLock",
    "by_whom",
    "lock_path",
    "open_elsewhere",
    "real_path",
    "take_lock",
    "unused",
]

# Somebody who reads the file may hold the locks for a moment.
_PATIENCE = 1.0
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_SUCH_LOCK = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class _InUse(Exception):
    """Report that a run has the state file open."""


class StateLock:
    """Hold a state file for this process, until `close` or until the process ends.

    There are two locks, and a run needs both. The one on the file itself is found by every name
    of it: a link, a relative path, another case of its letters. The one on a file beside is found
    although the state file does not exist yet or was replaced, and works on every system. Both
    allow others to read, and to leave a request.

    Parameters
    ----------
    path : Path
        The state file, without symbolic links.
    probe : bool
        Keep no other reader out, only a run that begins; do not wait, and do not make the lock file
        where there is none.

    Attributes
    ----------
    found : bool
        Whether the lock file existed before: some run has used the state file.

    Raises
    ------
    _InUse
        A run has the file open.
    """

    def __init__(self, path: Path, probe: bool = False) -> None:
        self.path, self.probe = path, probe
        self._file: int | None = None
        self._name: sqlite3.Connection | None = None
        # First of all: to open and close a file ends SQLite's locks on it in this process.
        if _held_here(path):
            raise _InUse
        self.found = lock_path(path).exists()
        try:
            if not (probe or self.found):
                create_private(lock_path(path))
            if not probe or self.found:
                self._name = _lock_name(path, probe)
            self.hold_file()
        except BaseException as error:
            self.close()
            if not (probe or self.found or isinstance(error, _InUse)):
                lock_path(path).unlink(missing_ok=True)  # it would look like that of a lost state
            raise

    def hold_file(self) -> None:
        """Lock the file that has the name now, instead of the one that had it before."""
        if sys.platform == "win32" or not self.path.exists():
            return
        now = _identity(self.path.stat())
        if self._file is not None and now == _identity(os.fstat(self._file)):
            return
        number = os.open(self.path, os.O_RDONLY)
        try:
            _lock_file(number, self.probe)
        except BaseException:
            os.close(number)
            raise
        self._leave_file()
        self._file = number
        if not self.probe:
            _held[_identity(os.fstat(number))] = self

    def _leave_file(self) -> None:
        if self._file is not None:
            if not self.probe:
                del _held[_identity(os.fstat(self._file))]
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        """Release the file; its database must be closed before."""
        self._leave_file()
        if self._name is not None:
            self._name.close()


def real_path(path: str | Path) -> Path:
    """Return the path without symbolic links: SQLite's other files lie beside it."""
    return Path(os.path.realpath(path))


def take_lock(path: Path) -> StateLock:
    """Return the lock of a run; it ends with the process, however that ends."""
    try:
        return StateLock(real_path(path))
    except _InUse:
        raise StateError(
            f"state: {path} is in use{by_whom(path)}. Two runs on one account undo each other's "
            "stops: stop that one, or give this one a file of its own."
        ) from None


def unused(path: str | Path) -> StateLock | None:
    """Return a lock that keeps runs away from a file, None where a run has it open."""
    try:
        return StateLock(real_path(path), probe=True)
    except _InUse:
        return None


def by_whom(path: Path) -> str:
    """Return which process has a file open, as the end of a sentence; empty if that is unknown."""
    try:
        if open_elsewhere(real_path(path)):
            return " under another name"
        with closing(open_database(path)) as db:
            found = db.execute("SELECT value FROM meta WHERE key = 'process'").fetchone()
    except (sqlite3.Error, OSError, StateError):
        return ""
    return f" by process {found[0]}" if found else ""


def open_elsewhere(path: Path) -> bool:
    """Return whether the run that has a file open has reached it by another hard link.

    SQLite's other files lie beside that one, and the file must not be used by this one.
    """
    return path.stat().st_nlink > 1 and not Path(f"{path}-wal").exists()


def _held_here(path: Path) -> bool:
    """Return whether this process has the state file open, by this name or by another."""
    try:
        return _identity(path.stat()) in _held
    except OSError:
        return False


def lock_path(path: Path) -> Path:
    """Return the path of the lock file beside a state file."""
    return Path(f"{path}-lock")


def _lock_name(path: Path, probe: bool) -> sqlite3.Connection:
    """Return the connection that holds SQLite's lock on the file beside; it ends with us."""
    for one in (lock_path(path), Path(f"{lock_path(path)}-journal")):
        make_private(one)
    # Cerebro may run in another thread than the one that closes the file.
    lock = sqlite3.connect(
        lock_path(path),
        timeout=0.0 if probe else _PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if probe:
            lock.execute("BEGIN")
            lock.execute("SELECT 1 FROM sqlite_master").fetchone()
        else:
            lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode & 0xFF in _BUSY:
            raise _InUse from None
        raise
    return lock


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


# The locks on files of this process, by the identity of the file.
_held: dict[tuple[int, int], StateLock] = {}

if sys.platform != "win32":

    def _lock_file(number: int, probe: bool) -> None:
        """Lock the file itself, which SQLite's own locks on it do not notice."""
        until = time.monotonic() + (0.0 if probe else _PATIENCE)
        kind = fcntl.LOCK_SH if probe else fcntl.LOCK_EX
        while True:
            try:
                return fcntl.flock(number, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise _InUse from None
                time.sleep(0.01)
            except OSError as error:
                if error.errno not in _NO_SUCH_LOCK:
                    raise
                return None  # this file system has none: the lock on the name remains

    def _forget_in_child() -> None:
        """Leave the lock to the parent: a child that outlives it must not go on holding it."""
        for lock in _held.values():
            if lock._file is not None:
                os.close(lock._file)
                lock._file = None
        _held.clear()

    os.register_at_fork(after_in_child=_forget_in_child)
