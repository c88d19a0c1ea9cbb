"""The chain of the journal: every line has a hash of itself and of the line before.

The hash covers every field of a line, so an edited field, a removed, added or moved line is found
by `check_chain`. The inputs of a journal have such a chain, too, which the lines continue. The file
also says how many lines it has and what the last hash is, so that a cut tail is found. Whoever can
write the file can also forge all of it anew: against that helps a hash that was noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

__all__ = [
    "Chain",
    "ChainCheck",
    "ChainFault",
    "add_hashes",
    "add_inputs",
    "check_chain",
    "has_inputs",
]

FIRST = ""  # what the first line has before it
# Keys of `meta`: how many lines there are, the hash of the last, and how many of them had been
# written by a bt_risk that had no hashes.
CHAIN_END = ("journal_lines", "journal_hash")
UNHASHED = "journal_unhashed"
_COLUMNS = "number, value, client_id, at"
_INPUT_COLUMNS = "number, line, value"

Row = tuple[Any, ...]


@dataclass(frozen=True)
class ChainFault:
    """One place where a journal is not what was written: the line, and what is wrong there."""

    line: int
    what: str
    table: str = "line"  # or "input"

    def __str__(self) -> str:
        return f"{self.table} {self.line}: {self.what}"


@dataclass(frozen=True)
class ChainCheck:
    """What the chain of a journal says.

    Attributes
    ----------
    lines : int
        How many lines the file has.
    last : str
        The hash of the last line: note it elsewhere, and no line up to it can be forged unseen.
    faults : list of ChainFault
        Empty for a journal that is as it was written.
    unhashed : int
        So many lines come from a version without hashes: they count as they were at the upgrade.
    noted : int or None
        The line that has the hash which was noted, None where no line has it, or none was given.
    """

    lines: int
    last: str
    faults: list[ChainFault] = field(default_factory=list)
    unhashed: int = 0
    noted: int | None = None


class Chain:
    """The end of the chain of one journal, to which lines are added.

    Parameters
    ----------
    lines : int
        How many lines there are.
    last : str
        The hash of the last of them.
    """

    def __init__(self, lines: int = 0, last: str = FIRST) -> None:
        self.lines, self.last = lines, last

    @classmethod
    def of(cls, db: sqlite3.Connection) -> Chain:
        """Return the end of the chain in a state file.

        Where the lines are not those that the file speaks of, the next one follows neither: a tail
        that was cut, or added, stays visible.
        """
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        (newest,) = db.execute("SELECT max(number) FROM decisions").fetchone()
        lines, last = (meta.get(key, "") for key in CHAIN_END)
        return cls(max(int(lines or 0), newest or 0), last)

    def add(
        self, db: sqlite3.Connection, decisions: Iterable[tuple[str, str, float]]
    ) -> Chain | None:
        """Insert lines: text, client id and seconds since 1970 of each; return the new end.

        None where there were none. This end stays as it is: the transaction may fail.
        """
        number, last, rows = self.lines, self.last, []
        for text, client_id, at in decisions:
            number += 1
            row = (number, text, client_id, float(at))
            last = _hash(last, row)
            rows.append((*row, last))
        if not rows:
            return None
        db.executemany(f"INSERT INTO decisions ({_COLUMNS}, hash) VALUES (?, ?, ?, ?, ?)", rows)
        _note_end(db, number, last)
        return Chain(number, last)


def _note_end(db: sqlite3.Connection, lines: int, last: str) -> None:
    pairs = zip(CHAIN_END, (str(lines), last), strict=True)
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)


def _hash(before: str, row: Row) -> str:
    """Return the hash of a line: of the hash before it and of every field."""
    return hashlib.sha256(json.dumps([before, *row]).encode()).hexdigest()


def has_inputs(db: sqlite3.Connection) -> bool:
    """Return whether a journal has inputs beside its lines."""
    tables = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'inputs'")
    return tables.fetchone() is not None


def add_inputs(db: sqlite3.Connection, inputs: Iterable[tuple[int, str]]) -> str:
    """Insert inputs: the number of lines before each, and its text; return the last hash."""
    last, rows = FIRST, []
    for number, (line, text) in enumerate(inputs, 1):
        row = (number, line, text)
        last = _hash(last, row)
        rows.append((*row, last))
    db.executemany(f"INSERT INTO inputs ({_INPUT_COLUMNS}, hash) VALUES (?, ?, ?, ?)", rows)
    return last


def add_hashes(db: sqlite3.Connection) -> None:
    """Give the lines of a file without hashes theirs: from now on no line changes unseen."""
    last, lines = FIRST, 0
    for row in db.execute(f"SELECT {_COLUMNS} FROM decisions ORDER BY number").fetchall():
        last, lines = _hash(last, row), row[0]
        db.execute("UPDATE decisions SET hash = ? WHERE number = ?", (last, lines))
    if lines:
        _note_end(db, lines, last)
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (UNHASHED, str(lines)))


def check_chain(db: sqlite3.Connection, noted: str = "") -> ChainCheck:
    """Compare every line of a journal with its hash, and the lines with what the file says."""
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    inputs: list[Row] = []
    if has_inputs(db):
        columns = f"{_INPUT_COLUMNS}, hash"
        inputs = db.execute(f"SELECT {columns} FROM inputs ORDER BY number").fetchall()
    rows: list[Row] = db.execute(
        f"SELECT {_COLUMNS}, hash FROM decisions ORDER BY number"
    ).fetchall()
    start = (0, inputs[-1][-1] if inputs else FIRST)
    faults = _faults((0, FIRST), inputs, "input") + _faults(start, rows, "line")
    lines, last = (meta.get(key, "") for key in CHAIN_END)
    end, found = rows[-1] if rows else start, len(rows)
    if (str(end[0]), end[-1]) != (lines or "0", last or start[-1]):
        what = f"the file says that line {lines or 0} is the last, with the hash {last or 'none'}"
        faults.append(ChainFault(end[0], f"the journal ends here, and {what}"))
    at = [row[0] for row in rows if noted and row[-1] == noted]
    unhashed = int(meta.get(UNHASHED, 0))
    return ChainCheck(found, end[-1], faults, unhashed, at[0] if at else None)


def _faults(start: Row, rows: Sequence[Row], table: str) -> list[ChainFault]:
    """Return what is wrong with each row behind the one before it."""
    found = ((row[0], _fault(before, row)) for before, row in pairwise([start, *rows]))
    return [ChainFault(number, what, table) for number, what in found if what]


def _fault(before: Row, row: Row) -> str:
    if row[0] != before[0] + 1:
        return f"the one before it is {before[0] or 'missing'}"
    if _hash(before[-1], row[:-1]) != row[-1]:
        return "it, its hash or the hash before it is not what was written"
    return ""
