"""`sqlite://`: results in one file, for any number of processes of one machine, without a server.

A record is a row that gets a new `id` whenever it changes, so that what has changed since the last look is one range of
ids: one follower reads it for all watches of an instance, however many tasks they are about.
"""

# ruff: noqa: S608 - statements are put together from literals of this module; every value is a parameter

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from asyncq.driver import BackendCapabilities, Clock, Coordinating, DriverConfig, Joining, ResultBackend, StoredResult
from asyncq.errors import BackendConnectionError, BackendFull
from asyncq_backends._sqlite_chords import SQLiteChords
from asyncq_backends._watcher import Watcher, Watchers
from asyncq_brokers._clients.sqlite import Bell, Connection, Failures, Session, SQLiteCoordination, packed

__all__ = ["SQLiteBackend"]

logger = logging.getLogger(__name__)

#: Who watches results listens to this.
TOPIC = "results"

#: Seconds between two sweeps for expired records, and how many one deletes. Readers never see one that has expired.
SWEEP = 60.0
SWEEP_ROWS = 10_000

#: Changes that are read at a time.
PAGE = 1000

#: Seconds until the follower looks again after the file could not be read.
RETRY = 1.0


class _Record(NamedTuple):
    version: int
    task_id: str
    content: bytes


class SQLiteBackend:
    """Option: `synchronous`, "normal" or "full" (see `_clients.sqlite`)."""

    capabilities = BackendCapabilities(shared=True, push=True)

    def __init__(self, config: DriverConfig) -> None:
        self._connection = Connection(config, Failures(connection=BackendConnectionError, full=BackendFull))
        self._clock = config.environment.clock
        self.coordination = SQLiteCoordination(self._connection, self._clock)
        self.chords = SQLiteChords(self._connection, config.environment, self.get)
        self._new_id = config.environment.new_id
        self._follower: _Follower | None = None
        self._next_sweep = self._clock.monotonic()

    @property
    def address(self) -> str:
        return str(self._connection.path)

    @property
    def followed(self) -> int:
        """How many tasks this instance watches."""
        return 0 if self._follower is None else len(self._follower.watchers.task_ids)

    async def open(self) -> None:
        await self._connection.open()

    async def close(self) -> None:
        if self._follower is not None:
            follower, self._follower = self._follower, None
            await follower.stop()
        await self._connection.close()

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        if not results:
            return []
        now = self._clock.monotonic()
        sweep = now >= self._next_sweep
        if sweep:
            self._next_sweep = now + SWEEP
        return await self._connection.run(partial(_store, results=results, clock=self._clock, sweep=sweep))

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        if not task_ids:
            return []
        _, records = await self._connection.run(partial(_moment, task_ids=task_ids, clock=self._clock))
        found = {record.task_id: record.content for record in records}
        return [found.get(task_id) for task_id in task_ids]

    @contextlib.asynccontextmanager
    async def watch(self, task_ids: Sequence[str]) -> AsyncGenerator[AsyncIterator[tuple[str, bytes]]]:
        watcher = Watcher(task_ids)
        if self._follower is None:
            self._follower = _Follower(self._connection, self._new_id())
        follower = self._follower
        follower.watchers.add(watcher)
        try:
            job = partial(_moment, task_ids=list(watcher.task_ids), clock=self._clock)
            version, records = await self._connection.run(job)
            for record in records:
                watcher.tell(record.task_id, record.content, record.version)
            follower.begin(version)
            yield watcher
        finally:
            follower.remove(watcher)

    async def forget(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            await self._connection.run(partial(_forget, task_ids=task_ids))


class _Follower:
    """Tells the watchers of one instance what changes in the file, in a task of its own."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.watchers = Watchers()
        self._connection = connection
        self._bell = Bell(connection.path, TOPIC, name)
        #: The last version that all watchers know of; None while nobody watches.
        self._version: int | None = None
        self._task = asyncio.create_task(self._run(), name="asyncq: SQLite results")

    def begin(self, version: int) -> None:
        """A watcher that was added knows of everything up to this version."""
        self._version = version if self._version is None else min(version, self._version)
        self._bell.wake()  # what has changed since was maybe rung for nobody

    def remove(self, watcher: Watcher) -> None:
        self.watchers.remove(watcher)
        if not self.watchers.task_ids:
            self._version = None

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._bell.close()
        self.watchers.end(BackendConnectionError(f"{self._connection.path} was closed"))

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                await self._look()
            except BackendConnectionError as error:
                logger.warning("results can't be followed, trying again: %s", error)
                await asyncio.sleep(RETRY)
            except Exception as error:  # noqa: BLE001 - raised in the watchers, who are the ones to hear of it
                self.watchers.end(error)
            await self._bell.wait()

    async def _look(self) -> None:
        """Tell what has changed since the last look."""
        while (since := self._version) is not None:
            version, records = await self._connection.run(partial(_news, since=since, watched=self.watchers.task_ids))
            for record in records:
                for watcher in self.watchers.of(record.task_id):
                    watcher.tell(record.task_id, record.content, record.version)
            if self._version != since:  # somebody began to watch, from an earlier version: look again
                continue
            self._version = version
            if version == since:
                return


# -- on the connection's thread ------------------------------------------------------------------------------

_AMONG = "task_id IN (SELECT value FROM json_each(?))"
_COLUMNS = "json_group_array(json_array(id, task_id, length(record)))"


def _store(session: Session, results: Sequence[StoredResult], clock: Clock, *, sweep: bool) -> list[bool]:
    newest: dict[str, StoredResult] = {}
    accepted: list[bool] = []
    for result in results:
        before = newest.get(result.task_id)
        accepted.append(before is None or before.status != "SUCCESS")
        if accepted[-1]:
            newest[result.task_id] = result
    with session.adding() as db:
        now = clock.wall()
        if sweep:
            _sweep(db, now)
        statement = f"SELECT json_group_array(task_id) FROM result WHERE {_AMONG} AND success AND {_alive('?')}"
        (succeeded,) = db.execute(statement, (packed.keys(newest), now)).fetchone()
        final = set(json.loads(succeeded))
        rows = [
            (
                task_id,
                result.status == "SUCCESS",
                None if result.expires is None else now + result.expires,
                result.record,
            )
            for task_id, result in newest.items()
            if task_id not in final
        ]
        packed.insert(db, "result (task_id, success, expires, record)", rows, verb="INSERT OR REPLACE")
    session.ring(TOPIC)
    return [ok and result.task_id not in final for ok, result in zip(accepted, results, strict=True)]


def _sweep(db: sqlite3.Connection, now: float) -> None:
    some = "SELECT id FROM result WHERE expires IS NOT NULL AND expires <= ? ORDER BY expires LIMIT ?"
    db.execute(f"DELETE FROM result WHERE id IN ({some})", (now, SWEEP_ROWS))


def _moment(session: Session, task_ids: Collection[str], clock: Clock) -> tuple[int, list[_Record]]:
    """The records of some tasks, and the version of the newest record of all."""
    with session.reading() as db:
        (version,) = db.execute("SELECT coalesce(max(id), 0) FROM result").fetchone()
        statement = f"SELECT {_COLUMNS} FROM result WHERE {_AMONG} AND {_alive('?')}"
        (found,) = db.execute(statement, (packed.keys(task_ids), clock.wall())).fetchone()
        return version, _records(db, json.loads(found))


def _news(session: Session, since: int, watched: Collection[str]) -> tuple[int, list[_Record]]:
    """Records of watched tasks newer than a version, and the version up to which that is all."""
    with session.reading() as db:
        page = "SELECT id, task_id, record FROM result WHERE id > ? ORDER BY id LIMIT ?"
        (found,) = db.execute(f"SELECT {_COLUMNS} FROM ({page})", (since, PAGE)).fetchone()
        rows: list[tuple[int, str, int]] = json.loads(found)
        version = max((version for version, _, _ in rows), default=since)
        return version, _records(db, [row for row in rows if row[1] in watched])


def _forget(session: Session, task_ids: Collection[str]) -> None:
    with session.writing() as db:
        db.execute(f"DELETE FROM result WHERE {_AMONG}", (packed.keys(task_ids),))


def _records(db: sqlite3.Connection, rows: Sequence[tuple[int, str, int]]) -> list[_Record]:
    """The records of (version, task id, length), oldest first."""
    contents = packed.contents(db, "result", "record", {version: length for version, _, length in rows})
    return [_Record(version, task_id, contents[version]) for version, task_id, _ in sorted(rows)]


def _alive(now: str) -> str:
    return f"(expires IS NULL OR expires > {now})"


if TYPE_CHECKING:
    _backend: Callable[[DriverConfig], ResultBackend] = SQLiteBackend
    _coordinating: Callable[[DriverConfig], Coordinating] = SQLiteBackend
    _joining: Callable[[DriverConfig], Joining] = SQLiteBackend
