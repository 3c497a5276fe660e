"""The file's tables, and their version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from asyncq.errors import ConfigurationError

#: Marks the file as ours in its header, for `file` and for us ("asyq").
APPLICATION_ID = int.from_bytes(b"asyq", "big")

#: `id` is the order within a queue and priority step: what comes back to its place keeps it, what goes behind the
#: others gets a new one. AUTOINCREMENT, because operators name messages by it: no number may come twice.
#: A message is leased (`token`), or parked (`due`), or ready; each has an index of its own, small and exact.
#: A result that changes gets a new `id`, so that "what is new since" is one range.
#: A token bucket is the time at which it will be full, in UNIX seconds; a full one needs no row.
_FIRST_TABLES = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    step INTEGER NOT NULL,
    redelivered INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL DEFAULT 0,
    due REAL,
    token TEXT,
    node TEXT,
    lease REAL,
    until REAL,
    content BLOB NOT NULL
);
CREATE INDEX message_ready ON message (queue, step) WHERE token IS NULL AND due IS NULL;
CREATE INDEX message_leased ON message (until) WHERE token IS NOT NULL;
CREATE INDEX message_parked ON message (due, queue) WHERE due IS NOT NULL;
CREATE TABLE result (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL UNIQUE,
    success INTEGER NOT NULL,
    expires REAL,
    record BLOB NOT NULL
);
CREATE INDEX result_expiring ON result (expires) WHERE expires IS NOT NULL;
CREATE TABLE fact (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX fact_expiring ON fact (expires);
CREATE TABLE bucket (name TEXT PRIMARY KEY, full_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX bucket_full ON bucket (full_at);
"""


#: A chord is there from its opening, or its first part, until it expires; `parts` counts them. What is complete and not
#: closed can be claimed when `until`, the end of the last claim, has come; an index knows those alone.
#: A part without a place in its header has the last one.
_CHORDS = """
CREATE TABLE chord (
    group_id TEXT PRIMARY KEY,
    size INTEGER,
    added INTEGER NOT NULL DEFAULT 0,
    parts INTEGER NOT NULL DEFAULT 0,
    closed INTEGER NOT NULL DEFAULT 0,
    token TEXT,
    until REAL NOT NULL DEFAULT 0,
    expires REAL,
    body BLOB,
    saved BLOB
);
CREATE INDEX chord_complete ON chord (until) WHERE parts >= size + added AND NOT closed;
CREATE INDEX chord_expiring ON chord (expires) WHERE expires IS NOT NULL;
CREATE TABLE chord_part (
    id INTEGER PRIMARY KEY,
    group_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    member BLOB NOT NULL,
    UNIQUE (group_id, place, task_id)
);
"""

#: What each version of the file added. An older file gets what it lacks.
_VERSIONS = (_FIRST_TABLES, _CHORDS)
VERSION = len(_VERSIONS)


def set_up(db: sqlite3.Connection, path: Path) -> None:
    """Make sure of the write-ahead log and the tables. A file that isn't ours stays as it is.

    Raises ConfigurationError.
    """
    if _version_of(db, path) == VERSION:
        return
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that the file can shrink; only before its first table
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigurationError(f"{path}: its file system (a network share?) can't share SQLite's log: use another")
    db.execute("BEGIN IMMEDIATE")
    try:
        for added in _VERSIONS[_version_of(db, path) :]:  # another process may have been first
            for statement in filter(None, map(str.strip, added.split(";"))):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _version_of(db: sqlite3.Connection, path: Path) -> int:
    """The file's version; 0 for an empty one."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise ConfigurationError(f"{path} is another program's database: name another file")
    if version > VERSION:
        raise ConfigurationError(
            f"{path} was written by a newer asyncq (its format is {version}, this asyncq knows {VERSION}): "
            "upgrade asyncq here, or name another file"
        )
    return version if tables else 0
