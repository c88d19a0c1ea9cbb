"""The tables of a state file, and the step from an older version to this one."""

from __future__ import annotations

import sqlite3

__all__ = ["APPLICATION", "SCHEMA", "VERSION", "migrate"]

VERSION = 2
APPLICATION = 0x62747221  # marks an SQLite file as one of ours

_NEW_IN_2 = """
CREATE TABLE answers (number INTEGER PRIMARY KEY, verb TEXT NOT NULL, who TEXT NOT NULL,
    at REAL NOT NULL, text TEXT NOT NULL);
CREATE TABLE order_events (number INTEGER PRIMARY KEY, client_id TEXT NOT NULL,
    at REAL NOT NULL, value TEXT NOT NULL);
CREATE INDEX order_events_by_order ON order_events (client_id);
"""
SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE trades (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE decisions (number INTEGER PRIMARY KEY, value TEXT NOT NULL,
    client_id TEXT NOT NULL DEFAULT '', at REAL NOT NULL DEFAULT 0);
CREATE TABLE requests (number INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL,
    args TEXT NOT NULL DEFAULT '{{}}', who TEXT NOT NULL DEFAULT '', at REAL NOT NULL DEFAULT 0);
{_NEW_IN_2}
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""
_MIGRATION = f"""
ALTER TABLE decisions ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN at REAL NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN args TEXT NOT NULL DEFAULT '{{}}';
ALTER TABLE requests ADD COLUMN who TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN at REAL NOT NULL DEFAULT 0;
{_NEW_IN_2}
PRAGMA user_version = {VERSION};
"""


def migrate(db: sqlite3.Connection) -> None:
    """Bring a file of version 1 to this version, whole or not at all."""
    db.executescript(f"BEGIN IMMEDIATE; {_MIGRATION} COMMIT;")
