"""What a job may do with the open file: transactions, and rings when it is done."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Generator

from asyncq_brokers._clients.sqlite._errors import NoRoom
from asyncq_brokers._clients.sqlite._reserve import Reserve

#: Pages of 4 KiB that the file shrinks by at a time: twice the room that is kept back.
_SHRINK_PAGES = 5120


class Session:
    """What a job sees of the connection. A job may be run again, so it changes nothing but the file."""

    def __init__(self, db: sqlite3.Connection, writers: threading.Lock, reserve: Reserve) -> None:
        self.db = db
        self.topics: set[str] = set()
        #: It adds something, so it must not have the room that is kept back.
        self.adds = False
        self._writers = writers
        self._reserve = reserve

    @contextlib.contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """A transaction that is the only one to write."""
        # Connections of one process hand over by a lock; SQLite alone would have them sleep and try again.
        with self._writers, self._transaction("BEGIN IMMEDIATE"):
            yield self.db

    @contextlib.contextmanager
    def adding(self) -> Generator[sqlite3.Connection]:
        """The same for what adds messages or records, which a full disk refuses first."""
        self.adds = True
        if not self._reserve.lay_in():
            with self._writers:
                self._shrink()
            if not self._reserve.lay_in():
                raise NoRoom
        with self.writing() as db:
            yield db

    @contextlib.contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A transaction that sees the file as it was at its first statement."""
        with self._transaction("BEGIN"):
            yield self.db

    def ring(self, topic: str) -> None:
        """When the job is done, wake whoever waits for the topic."""
        self.topics.add(topic)

    def _shrink(self) -> None:
        """Give the disk back what the file doesn't need any more."""
        (free,) = self.db.execute("PRAGMA freelist_count").fetchone()
        if free:
            self.db.execute(f"PRAGMA incremental_vacuum({_SHRINK_PAGES})").fetchall()
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Generator[None]:
        self.db.execute(begin)
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:  # SQLite may have rolled it back itself
                self.db.execute("ROLLBACK")
            raise
