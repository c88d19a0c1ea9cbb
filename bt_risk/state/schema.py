"""The tables of a state file, and the step from an older version to this one."""

from __future__ import annotations

import sqlite3

from bt_risk.state.chain import add_hashes

__all__ = ["APPLICATION", "HASHES_SINCE", "REQUESTS_SINCE", "SCHEMA", "VERSION", "migrate"]

VERSION = 3
# The versions from which on an operator's requests are as they are now, and lines have hashes.
REQUESTS_SINCE, HASHES_SINCE = 2, 3
APPLICATION = 0x62747221  # marks an SQLite file as one of ours

_NEW_IN_2 = """
CREATE TABLE answers (number INTEGER PRIMARY KEY, verb TEXT NOT NULL, who TEXT NOT NULL,
    at REAL NOT NULL, text TEXT NOT NULL);
CREATE TABLE order_events (number INTEGER PRIMARY KEY, client_id TEXT NOT NULL,
    at REAL NOT NULL, value TEXT NOT NULL);
CREATE INDEX order_events_by_order ON order_events (client_id);
"""
_HASH = "hash TEXT NOT NULL DEFAULT ''"
SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE trades (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE decisions (number INTEGER PRIMARY KEY, value TEXT NOT NULL,
    client_id TEXT NOT NULL DEFAULT '', at REAL NOT NULL DEFAULT 0, {_HASH});
CREATE TABLE requests (number INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL,
    args TEXT NOT NULL DEFAULT '{{}}', who TEXT NOT NULL DEFAULT '', at REAL NOT NULL DEFAULT 0);
{_NEW_IN_2}
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""
_TO_2 = f"""
ALTER TABLE decisions ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN at REAL NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN args TEXT NOT NULL DEFAULT '{{}}';
ALTER TABLE requests ADD COLUMN who TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN at REAL NOT NULL DEFAULT 0;
{_NEW_IN_2}
"""


def migrate(db: sqlite3.Connection) -> None:
    """Bring a file of an older version to this one, whole or not at all."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    steps = _TO_2 if version < 2 else ""
    try:
        # A script leaves the transaction open that it begins: the hashes belong to it.
        db.executescript(f"BEGIN IMMEDIATE; {steps} ALTER TABLE decisions ADD COLUMN {_HASH};")
        add_hashes(db)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
