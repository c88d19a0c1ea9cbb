"""The journal of a state file, and the life of one order."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bt_risk.errors import StateError
from bt_risk.state.file import Record, reading
from bt_risk.state.order_life import order_events

__all__ = ["Line", "OrderHistory", "read_journal", "read_order"]

_COLUMNS = "number, at, value, client_id"


@dataclass(frozen=True)
class Line:
    """One line of the journal.

    Attributes
    ----------
    number : int
        Its place in the state file.
    at : float
        When it was saved, in seconds since 1970; 0 in a file that was of version 1 then.
    values : list
        As in `bt_risk.gate.journal.FIELDS`.
    client_id : str
        The id of the order that it is about, empty for other lines.
    """

    number: int
    at: float
    values: list[Any]
    client_id: str


@dataclass(frozen=True)
class OrderHistory:
    """Everything that a state file has of one order.

    Attributes
    ----------
    client_id : str
        Empty for an order that was never sent.
    lines : list of Line
        What was decided.
    events : list of (float, str)
        What has happened, by seconds since 1970.
    record : dict or None
        The order as it is saved now, None for one that does not work any more.
    """

    client_id: str
    lines: list[Line]
    events: list[tuple[float, str]] = field(default_factory=list)
    record: Record | None = None


def read_journal(
    path: str | Path,
    since: float = 0.0,
    rule: str | None = None,
    data: str | None = None,
    last: int | None = None,
) -> list[Line]:
    """Return the lines of the journal, oldest first: those after `since`, of one rule, or data."""
    with reading(path) as db:
        lines = _lines(db, path, "at >= ?", since)
    for wanted, place in ((rule, 2), (data, 1)):
        if wanted is not None:
            lines = [one for one in lines if one.values[place] == wanted]
    return lines if last is None else lines[max(0, len(lines) - last) :]


def read_order(path: str | Path, name: str) -> OrderHistory:
    """Return the life of an order, by its client id, its id at the venue or a line's number.

    Raises StateError where there is none.
    """
    with reading(path) as db:
        client_id = _client_id(db, path, name)
        if client_id:
            rows = db.execute(
                "SELECT at, value FROM order_events WHERE client_id = ? ORDER BY number",
                (client_id,),
            ).fetchall()
            record = db.execute(
                "SELECT value FROM records WHERE kind = 'order' AND key = ?", (client_id,)
            ).fetchone()
            return OrderHistory(
                client_id,
                _lines(db, path, "client_id = ?", client_id),
                list(order_events((at, json.loads(value)) for at, value in rows)),
                json.loads(record[0]) if record else None,
            )
        return OrderHistory("", _lines(db, path, "number = ?", int(name.lstrip("#"))))


def _client_id(db: sqlite3.Connection, path: str | Path, name: str) -> str:
    """Return the client id of an order, empty for one that was never sent."""
    known = (
        "SELECT key FROM records WHERE kind = 'order' AND key = ?",
        "SELECT client_id FROM order_events WHERE client_id = ?",
        "SELECT client_id FROM decisions WHERE client_id = ?",
    )
    for query in known:
        if db.execute(query, (name,)).fetchone():
            return name
    sent = db.execute("SELECT client_id, value FROM order_events ORDER BY number DESC")
    for client_id, value in sent:  # the newest: some venues use their ids again
        if json.loads(value).get("venue_id") == name:
            return str(client_id)
    number = name.lstrip("#")
    if number.isdigit():
        line = db.execute("SELECT client_id FROM decisions WHERE number = ?", (number,)).fetchone()
        if line is not None:
            return str(line[0])
    raise StateError(
        f"state: {path} has no order {name}. Give the id that the venue or bt_risk has given it, "
        f"or the number of a line of `bt-risk journal {path}`."
    )


def _lines(db: sqlite3.Connection, path: str | Path, where: str, value: Any) -> list[Line]:
    query = f"SELECT {_COLUMNS} FROM decisions WHERE {where} ORDER BY number"
    try:
        rows = db.execute(query, (value,)).fetchall()
    except sqlite3.OperationalError as error:
        if "no such column" not in str(error):
            raise
        remedy = "The next run with this bt_risk brings it to this version."
        raise StateError(f"state: {path} is of version 1. {remedy}") from None
    return [Line(number, at, json.loads(text), order) for number, at, text, order in rows]
