"""Where the results of a sweep are kept as they come: a SQLite file, or a folder of Parquet."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from bt_risk.errors import ParameterError, StateError
from bt_risk.evidence.sweep_point import PointResult
from bt_risk.evidence.sweep_space import COLUMNS, COMPONENT, Point, Space, label

__all__ = ["PARQUET", "Memory", "Store", "SQLiteStore", "check_store", "open_store", "row_of"]

PARQUET = (".parquet", ".parq")
_STORE = "the path of a SQLite file or a .parquet folder, or None"
_TEXTS = ("error",)
Row = dict[str, Any]


class Store(Protocol):
    """Keep the results of a sweep by the key of their point."""

    rows: dict[str, Row]

    def add(self, key: str, row: Row) -> None:
        """Keep a result."""

    def close(self) -> None:
        """Write what is not written yet."""


class Memory:
    """Keep the results of a sweep only as long as it runs."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def add(self, key: str, row: Row) -> None:
        """Keep a result."""
        self.rows[key] = row

    def close(self) -> None:
        """Write nothing."""


def row_of(space: Space, point: Point, result: PointResult) -> Row:
    """Return a result as the row of a table: parameters, and the figures of `COLUMNS`."""
    found: Row = {name: label(point[name]) for name in space.names}
    found |= {name: result.figures.get(name, math.nan) for name in COLUMNS}
    return found | {"seconds": result.seconds, "error": result.error}


def open_store(given: Any, space: Space, identity: Mapping[str, Any]) -> Store:
    """Return the store of a sweep with the results that it has.

    `identity` is what makes two sweeps the same: see `sweep_identity.identity_of`.
    """
    if given is None:
        return Memory()
    path = check_store(given)
    if path.suffix in PARQUET:
        from bt_risk.evidence.sweep_parquet import ParquetStore

        return ParquetStore(path, space, identity)
    return SQLiteStore(path, space, identity)


def check_store(given: Any, constraint: str = _STORE) -> Path:
    """Return the path of a store in a folder that exists."""
    if not isinstance(given, (str, Path)) or not str(given).strip():
        raise ParameterError(COMPONENT, "store", constraint, given)
    path = Path(given)
    if not path.parent.is_dir():
        remedy = f"There is no folder {path.parent}: make it first."
        raise ParameterError(COMPONENT, "store", "a path in an existing folder", str(given), remedy)
    return path


def check_identity(path: Path, found: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise ParameterError where a store has the results of another sweep."""
    other = [name for name, value in identity.items() if found.get(name) != value]
    if other:
        remedy = f"It differs in {', '.join(other)}. Name another store, or remove that one."
        raise ParameterError(COMPONENT, "store", "new, or one of this sweep", str(path), remedy)


class SQLiteStore:
    """Keep the results in a SQLite file: a row each, and committed at once.

    The table ``points`` has a column for each parameter and figure; ``sweep`` says which sweep it
    is. Others may read the file meanwhile.

    Raises
    ------
    ParameterError
        If it has the results of another sweep.
    StateError
        If it is no file of a sweep, or cannot be written.
    """

    def __init__(self, path: Path, space: Space, identity: Mapping[str, Any]) -> None:
        self.rows: dict[str, Row] = {}
        self._names = [*space.names, *COLUMNS]
        self._path = path
        self._db = sqlite3.connect(path)
        try:
            self._open(identity)
        except sqlite3.Error as error:
            self._db.close()
            raise StateError(f"sweep: {path} cannot be used as a store: {error}.") from None
        except BaseException:
            self._db.close()
            raise

    def _open(self, identity: Mapping[str, Any]) -> None:
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        if tables and not {"sweep", "points"} <= tables:
            raise StateError(f"sweep: {self._path} cannot be used as a store: it has other tables.")
        if tables:
            found = dict(self._db.execute("SELECT name, value FROM sweep"))
            check_identity(self._path, {n: json.loads(v) for n, v in found.items()}, identity)
            self._read()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            self._create(identity)

    def _create(self, identity: Mapping[str, Any]) -> None:
        columns = ", ".join(map(_quoted, self._names))
        with self._db:  # one transaction: a crash leaves all of it, or nothing
            self._db.execute("BEGIN")
            self._db.execute("CREATE TABLE sweep (name TEXT PRIMARY KEY, value TEXT)")
            self._db.execute(
                f"CREATE TABLE points (number INTEGER PRIMARY KEY, point TEXT UNIQUE, {columns})"
            )
            pairs = [(name, json.dumps(value)) for name, value in identity.items()]
            self._db.executemany("INSERT INTO sweep VALUES (?, ?)", pairs)

    def _read(self) -> None:
        columns = ", ".join(map(_quoted, self._names))
        for key, *values in self._db.execute(f"SELECT point, {columns} FROM points"):
            row = dict(zip(self._names, values, strict=True)) | json.loads(key)
            # SQLite has no NaN: it stands as NULL.
            empty = [name for name in COLUMNS if row[name] is None and name not in _TEXTS]
            self.rows[key] = row | dict.fromkeys(empty, math.nan)

    def add(self, key: str, row: Row) -> None:
        """Keep a result, once."""
        marks = ", ".join("?" * len(self._names))
        columns = ", ".join(map(_quoted, self._names))
        values = [row[name] for name in self._names]
        with self._db:
            self._db.execute(
                f"INSERT OR IGNORE INTO points (point, {columns}) VALUES (?, {marks})",
                [key, *values],
            )
        self.rows[key] = row

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
