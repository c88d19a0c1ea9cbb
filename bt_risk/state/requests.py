"""The requests of an operator: left in the state file, carried out by the run, and answered there.

The functions work on an open connection to a state file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "REFUSED",
    "VERBS",
    "Answer",
    "OperatorRequest",
    "answer_to",
    "insert_answers",
    "insert_request",
    "load_requests",
]

VERBS = ("halt", "reduce", "flatten", "resume", "rearm")
REFUSED = "not possible: "  # begins the answer to a request that changed nothing

_REMEMBERED = 1000  # answers


@dataclass(frozen=True)
class OperatorRequest:
    """One request of an operator.

    Attributes
    ----------
    verb : str
        One of `VERBS`.
    who : str
        ``user@host``, or the name of the file that requests it.
    at : float
        Seconds since 1970; 0 in a file of version 1.
    args : dict
        ``reason`` in the operator's own words.
    number : int
        Its place in the state file, 0 for one that is not in it.
    """

    verb: str
    who: str = ""
    at: float = 0.0
    args: dict[str, Any] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of a request: `at` in seconds since 1970, and a sentence."""

    number: int
    verb: str
    who: str
    at: float
    text: str


def insert_request(db: sqlite3.Connection, request: OperatorRequest) -> int:
    """Add a request; return its number."""
    row = request.verb, json.dumps(request.args), request.who, request.at
    added = db.execute("INSERT INTO requests (verb, args, who, at) VALUES (?, ?, ?, ?)", row)
    return int(added.lastrowid or 0)


def load_requests(db: sqlite3.Connection) -> list[OperatorRequest]:
    """Return the requests that no run has answered, the oldest first."""
    if all(column[1] != "args" for column in db.execute("PRAGMA table_info(requests)")):
        rows = db.execute("SELECT number, verb FROM requests ORDER BY number").fetchall()
        return [OperatorRequest(verb, number=number) for number, verb in rows]
    rows = db.execute("SELECT number, verb, args, who, at FROM requests ORDER BY number").fetchall()
    return [OperatorRequest(verb, who, at, json.loads(args), n) for n, verb, args, who, at in rows]


def insert_answers(db: sqlite3.Connection, answers: Iterable[Answer]) -> None:
    """Put answers in the place of their requests; the oldest answers are deleted."""
    for one in answers:
        row = one.number, one.verb, one.who, one.at, one.text
        db.execute("DELETE FROM requests WHERE number = ?", (one.number,))
        db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)
        db.execute("DELETE FROM answers WHERE number <= ?", (one.number - _REMEMBERED,))


def answer_to(db: sqlite3.Connection, number: int) -> str | None:
    """Return the text of an answer, None while there is none."""
    found = db.execute("SELECT text FROM answers WHERE number = ?", (number,)).fetchone()
    return str(found[0]) if found else None
