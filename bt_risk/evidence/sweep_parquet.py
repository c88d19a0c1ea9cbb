"""The results of a sweep in a folder of Parquet files, which pandas reads as one table."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from bt_risk.errors import ParameterError, StateError, is_number
from bt_risk.evidence.sweep_space import COLUMNS, COMPONENT, Between, Space
from bt_risk.evidence.sweep_store import Row, check_identity

__all__ = ["ParquetStore"]

_IDENTITY = "_sweep.json"  # readers of Parquet skip what begins with an underscore
_SECONDS = 2.0


class ParquetStore:
    """Keep results in files of Parquet, one for all that came within two seconds.

    A file is complete from the moment it has its name. What a crash cuts off are the results of
    the last seconds: they run again.

    Raises
    ------
    ParameterError
        If the folder has the results of another sweep.
    StateError
        If it is no folder of a sweep, or cannot be written.
    """

    def __init__(self, path: Path, space: Space, identity: Mapping[str, Any]) -> None:
        if find_spec("pyarrow") is None:
            constraint, remedy = "a SQLite file without pyarrow", "pip install 'bt_risk[parquet]'"
            raise ParameterError(COMPONENT, "store", constraint, str(path), remedy)
        self.rows: dict[str, Row] = {}
        self._path, self._space = path, space
        self._late: dict[str, Row] = {}
        self._written = time.monotonic()
        try:
            self._open(identity)
        except OSError as error:
            raise StateError(f"sweep: {path} cannot be used as a store: {error}.") from None

    def _open(self, identity: Mapping[str, Any]) -> None:
        self._path.mkdir(exist_ok=True)
        known, parts = self._path / _IDENTITY, sorted(self._path.glob("part-*.parquet"))
        if known.exists():
            check_identity(self._path, json.loads(known.read_text(encoding="utf-8")), identity)
        elif parts:
            raise StateError(
                f"sweep: {self._path} cannot be used as a store: it lacks {_IDENTITY}."
            )
        else:
            new = known.with_name(f"{_IDENTITY}.new")
            new.write_text(json.dumps(identity), encoding="utf-8")
            os.replace(new, known)
        for part in parts:
            for row in pd.read_parquet(part).to_dict("records"):
                key = str(row.pop("point"))
                self.rows[key] = {str(name): value for name, value in row.items()} | json.loads(key)
        self._next = int(parts[-1].stem.partition("-")[2]) + 1 if parts else 1

    def add(self, key: str, row: Row) -> None:
        """Keep a result; it is written within two seconds, or with the next one."""
        self.rows[key] = self._late[key] = row
        if time.monotonic() - self._written >= _SECONDS:
            self.close()

    def close(self) -> None:
        """Write what is not written yet."""
        self._written = time.monotonic()
        if not self._late:
            return
        frame = pd.DataFrame([{"point": key, **row} for key, row in self._late.items()])
        kinds: dict[str, Any] = {name: _kind(of) for name, of in self._space.values.items()}
        kinds |= {name: float for name in COLUMNS if name != "error"}
        new, part = self._path / "_part.new", self._path / f"part-{self._next:06d}.parquet"
        frame.astype(kinds).to_parquet(new)
        os.replace(new, part)
        self._next += 1
        self._late.clear()


def _kind(values: tuple[Any, ...] | Between) -> type:
    """Return the type of a column, which is that of every file: numbers where all values are."""
    if isinstance(values, Between) or all(value is None or is_number(value) for value in values):
        return float
    return str
