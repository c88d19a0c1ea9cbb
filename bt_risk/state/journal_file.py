"""The journal of one run as a file of its own: ``protect(journal="journal.db")``.

It has the tables of a state file, so ``bt-risk journal``, ``explain`` and ``verify`` read both.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bt_risk.state.chain import Chain
from bt_risk.state.database import create_database

__all__ = ["SUFFIX", "is_journal_file", "write_journal"]

SUFFIX = ".db"


def is_journal_file(path: str | Path | None) -> bool:
    """Return whether a journal of this name is written as a file with hashes, and not as CSV."""
    return path is not None and Path(path).suffix == SUFFIX


def write_journal(path: str | Path, lines: Sequence[Sequence[Any]]) -> None:
    """Write the lines of a run that is over; what was in the file before is replaced."""
    rows = [(json.dumps(line, default=float), "", 0.0) for line in lines]

    def fill(db: sqlite3.Connection) -> None:
        Chain().add(db, rows)

    # `journal` tells a state file that no run goes on from it.
    create_database(Path(path), {"id": secrets.token_hex(4), "journal": "1"}, {}, fill)
