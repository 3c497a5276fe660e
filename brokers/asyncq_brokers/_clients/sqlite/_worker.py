"""The thread that owns one SQLite connection and runs jobs on it, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from msgspec import Struct

from asyncq.driver import Clock
from asyncq_brokers._clients.sqlite import _doorbell, _location, _schema
from asyncq_brokers._clients.sqlite._errors import Failures, NoRoom, is_busy, is_full, translate
from asyncq_brokers._clients.sqlite._reserve import Reserve
from asyncq_brokers._clients.sqlite._session import Session

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds, at most, until a file that another process has locked is tried again: the first time, and ever. With
#: SQLite's own way of waiting (1, 2, 5, 10 … ms) two processes took 900 messages a second from one queue, so 2,400 and
#: more.
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.003


class Settings(Struct, frozen=True):
    """What a connection is made with."""

    path: Path
    #: SQLite's own word: NORMAL or FULL.
    synchronous: str
    failures: Failures
    clock: Clock
    dice: random.Random
    #: Held by whoever writes, among the connections of this process.
    writers: threading.Lock


class Job(Generic[T]):
    """A function on its way to the thread, and the future in its caller's loop, where anybody waits."""

    def __init__(self, function: Callable[[Session], T], deadline: float, future: asyncio.Future[T] | None) -> None:
        self.function = function
        self.deadline = deadline
        self._future = future

    @property
    def abandoned(self) -> bool:
        return self._future is not None and self._future.done()

    def succeed(self, value: T) -> None:
        if self._future is not None:
            _settle(self._future, partial(self._future.set_result, value))

    def fail(self, error: Exception) -> None:
        if self._future is not None:
            _settle(self._future, partial(self._future.set_exception, error))
        else:
            logger.warning("SQLite: what nobody waits for failed: %s", error)


class Worker:
    """The thread. `put` and `stop` are called from the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bells = _doorbell.folder_beside(settings.path)
        self._reserve = Reserve(settings.path)
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()  # Any: each job has its own answer
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._stopping = threading.Event()
        self._ended: asyncio.Future[None] | None = None
        # A daemon: whoever forgets to close must still be able to leave, and a commit is never half done.
        threading.Thread(target=self._serve, name=f"asyncq-sqlite:{settings.path.name}", daemon=True).start()

    def put(self, job: Job[Any]) -> None:  # Any: as above
        self._jobs.put(job)

    async def stop(self) -> None:
        """Do what was posted, give up what waits for a lock, close the file."""
        self._ended = asyncio.get_running_loop().create_future()
        self._stopping.set()
        self._jobs.put(None)
        await self._ended

    # -- on the thread

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.abandoned:
                self._answer(job)
            del job  # it holds a batch, and the next one may be long in coming
        self._disconnect()
        if self._ended is not None:
            _settle(self._ended, partial(self._ended.set_result, None))

    def _answer(self, job: Job[Any]) -> None:  # Any: as above
        try:
            value = self._attempt(job)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who decides
            failure = translate(error, self._settings.path, self._settings.failures)
            if failure is not error:
                failure.__cause__ = error
            job.fail(failure)
        else:
            job.succeed(value)

    def _attempt(self, job: Job[T]) -> T:
        """Run the job, again and again while the file is locked and somebody wants the answer."""
        longest = _FIRST_PAUSE
        while True:
            try:
                return self._run(job)
            except sqlite3.Error as error:
                if is_full(error) and self._reserve.give_way():
                    continue
                late = self._settings.clock.monotonic() >= job.deadline
                if not is_busy(error) or late or job.abandoned or self._stopping.is_set():
                    raise
            self._stopping.wait(self._settings.dice.uniform(0, longest))
            longest = min(2 * longest, _LONGEST_PAUSE)

    def _run(self, job: Job[T]) -> T:
        session = Session(self._connected(), self._settings.writers, self._reserve)
        try:
            value = job.function(session)
        except sqlite3.Error as error:
            if is_full(error) and session.adds:
                raise NoRoom from error
            raise
        for topic in session.topics:
            _doorbell.ring(self._bells, topic)
        return value

    def _connected(self) -> sqlite3.Connection:
        """The connection, to the file that stands at the path now."""
        try:
            found = self._settings.path.stat()
        except FileNotFoundError:
            found = None
        if self._db is not None and found is not None and self._file == (found.st_dev, found.st_ino):
            return self._db
        # First use; or somebody has removed or replaced the file, and ours is a ghost that nobody else can see.
        self._disconnect()
        self._db = self._connect()
        return self._db

    def _connect(self) -> sqlite3.Connection:
        path = self._settings.path
        _location.prepare(path)
        found = path.stat()
        db = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            db.execute(f"PRAGMA synchronous = {self._settings.synchronous}")
            _schema.set_up(db, path)
        except BaseException:
            db.close()
            raise
        self._file = found.st_dev, found.st_ino
        return db

    def _disconnect(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            with contextlib.suppress(sqlite3.Error):  # its last checkpoint found no room, say: the next open does it
                db.close()


def _settle(future: asyncio.Future[Any], settle: Callable[[], None]) -> None:  # Any: whatever the answer is
    """Settle a future in its own loop, unless its caller has left."""

    def unless_done() -> None:
        if not future.done():
            settle()

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        future.get_loop().call_soon_threadsafe(unless_done)
