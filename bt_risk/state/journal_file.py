"""The journal of one run as a file of its own: ``protect(journal="journal.db")``.

It has the tables of a state file, so ``bt-risk journal``, ``explain`` and ``verify`` read both.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bt_risk.state.chain import Chain, add_inputs, has_inputs
from bt_risk.state.database import create_database

__all__ = ["SUFFIX", "is_journal_file", "read_inputs", "write_journal"]

SUFFIX = ".db"
# `line` is how many lines of the journal there were before an input.
_INPUTS = """
CREATE TABLE inputs (number INTEGER PRIMARY KEY, line INTEGER NOT NULL, value TEXT NOT NULL,
    hash TEXT NOT NULL)
"""


def is_journal_file(path: str | Path | None) -> bool:
    """Return whether a journal of this name is written as a file with hashes, and not as CSV."""
    return path is not None and Path(path).suffix == SUFFIX


def write_journal(
    path: str | Path,
    lines: Sequence[Sequence[Any]],
    orders: Mapping[int, str] | None = None,
    inputs: Sequence[tuple[int, Mapping[str, Any]]] = (),
) -> None:
    """Write the lines of a run that is over; what was in the file before is replaced.

    Parameters
    ----------
    path : str or path
    lines : list
        As in `bt_risk.gate.journal.FIELDS`.
    orders : dict of int to str
        The name of the order that a line is about, by the place of the line.
    inputs : list of (int, dict)
        What the decisions depend on: see `bt_risk.gate.input_log.InputLog`.
    """
    named = orders or {}
    rows = [(_text(line), named.get(n, ""), 0.0) for n, line in enumerate(lines)]
    given = [(line, _text(value)) for line, value in inputs]

    def fill(db: sqlite3.Connection) -> None:
        db.execute(_INPUTS)
        Chain(0, add_inputs(db, given)).add(db, rows)

    # `journal` tells a state file that no run goes on from it. Two runs may write the same name.
    meta = {"id": secrets.token_hex(4), "journal": "1"}
    create_database(Path(path), meta, {}, fill, f"new-{os.getpid()}")


def read_inputs(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the inputs of a journal, oldest first; none of a file that has no such table."""
    if not has_inputs(db):
        return []
    rows = db.execute("SELECT value FROM inputs ORDER BY number").fetchall()
    return [json.loads(value) for (value,) in rows]


def _text(value: Any) -> str:
    return json.dumps(value, default=float)
