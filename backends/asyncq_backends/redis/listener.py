"""One subscribed connection for all that a process waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from random import Random

from asyncq.errors import AsyncqError, BackendConnectionError
from asyncq.protocol import READY_STATES
from asyncq_backends._records import status_of
from asyncq_backends._watcher import Watcher, Watchers
from asyncq_brokers._clients.redis import BACKEND_ERRORS, Command, Endpoint, Session

__all__ = ["Listener"]

logger = logging.getLogger(__name__)

#: Seconds between two looks at everything that is waited for: some writers store and announce nothing. Also how often
#: the connection is asked whether it still lives.
_LOOK_AGAIN = 5.0

#: First and longest pause before another connection is tried, in seconds.
_RETRY_FIRST, _RETRY_LAST = 0.05, 2.0

#: Channels or keys that one command names.
_BATCH = 1000


class _Channel:
    """One task that is followed, and its last known record."""

    __slots__ = ("_watchers", "record", "version")

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self.record: bytes | None = None
        #: Counts the changes that were noticed.
        self.version = 0

    def hear(self, task_id: str, record: bytes) -> None:
        """Take note of a message."""
        self.version += 1
        self.record = record
        self._tell(task_id, record)

    def see(self, task_id: str, record: bytes, version: int) -> None:
        """Take note of a look that was begun at a version.

        What a message has overtaken is old: the message is the present record, or another one follows.
        """
        if version == self.version:
            if record != self.record:
                self.version += 1
                self.record = record
            self._tell(task_id, record)

    def _tell(self, task_id: str, record: bytes) -> None:
        for watcher in self._watchers.of(task_id):
            watcher.tell(task_id, record, self.version)


class Listener:
    """Keeps a connection subscribed to whatever is followed, through reconnects, for as long as anything is.

    Following is registered at once and takes effect soon: what one loop turn adds and drops goes out as one SUBSCRIBE
    and one UNSUBSCRIBE. Nothing is missed in between, since each new subscription is followed by a look.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        look: Callable[[Sequence[str]], Awaitable[list[bytes | None]]],
        prefix: str,
        random: Random,
        timeout: float,
    ) -> None:
        self._endpoint = endpoint
        self._look = look
        self._prefix = prefix
        self._random = random
        self._timeout = min(timeout, _LOOK_AGAIN)
        self._watchers = Watchers()
        self._channels: dict[str, _Channel] = {}
        self._subscribed: set[str] = set()
        #: Tasks whose present record somebody has not been told.
        self._unlooked: set[str] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def followed(self) -> int:
        """How many tasks are followed."""
        return len(self._channels)

    @contextmanager
    def follow(self, task_ids: Sequence[str]) -> Generator[AsyncIterator[tuple[str, bytes]]]:
        """Follow tasks for as long as the block lasts."""
        if self._closed:
            raise BackendConnectionError("the result backend is closed")
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        watcher = Watcher(task_ids, is_end=_is_end)
        self._watchers.add(watcher)
        for task_id in watcher.task_ids:
            self._channels.setdefault(task_id, _Channel(self._watchers))
        self._unlooked |= watcher.task_ids
        self._changed.set()
        try:
            yield watcher
        finally:
            for task_id in self._watchers.remove(watcher):
                del self._channels[task_id]
            self._changed.set()

    async def close(self) -> None:
        """End everything that follows."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._watchers.end(BackendConnectionError("the result backend is closed"))

    async def _run(self) -> None:
        """One connection after another, while anything is followed."""
        loop = asyncio.get_running_loop()
        pause = _RETRY_FIRST
        while True:
            while not self._channels:
                self._changed.clear()
                await self._changed.wait()
            began = loop.time()
            try:
                session = await self._connect()
                try:
                    await self._listen(session)
                finally:
                    await session.close()
            except AsyncqError as error:
                logger.warning("not told of results for a moment: %s", error)
            except Exception:  # nobody waits for this task's outcome: tell, and go on
                logger.exception("not told of results for a moment")
            if loop.time() - began > _RETRY_LAST:  # it held for a while: this is a new disturbance
                pause = _RETRY_FIRST
            await asyncio.sleep(self._random.uniform(0, pause))
            pause = min(2 * pause, _RETRY_LAST)

    async def _connect(self) -> Session:
        try:
            async with asyncio.timeout(self._timeout):
                return await Session.open(
                    self._endpoint, errors=BACKEND_ERRORS, on_message=self._hear, on_end=self._changed.set
                )
        except TimeoutError as error:
            raise BackendConnectionError(f"Redis at {self._endpoint.address} did not answer in time") from error

    async def _listen(self, session: Session) -> None:
        """Follow what is asked for, until the connection ends."""
        loop = asyncio.get_running_loop()
        self._subscribed.clear()
        self._unlooked.update(self._channels)
        look_again = loop.time() + _LOOK_AGAIN
        while True:
            self._changed.clear()
            await self._subscribe(session)
            await self._look_at_unlooked()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(look_again):
                    await self._changed.wait()
            if loop.time() >= look_again:
                look_again = loop.time() + _LOOK_AGAIN
                session.check(loop.time() + self._timeout)
                self._unlooked.update(self._channels)

    async def _subscribe(self, session: Session) -> None:
        """Make the subscriptions what is followed at this moment. Raises when the connection has ended."""
        session.ensure_alive()
        added = self._channels.keys() - self._subscribed
        dropped = self._subscribed - self._channels.keys()
        # Noted before anything is awaited: what is followed or dropped meanwhile is the next round's.
        self._subscribed = set(self._channels)
        commands: list[Command] = [
            (command, *(self._prefix + task_id for task_id in batch))
            for command, task_ids in (("SUBSCRIBE", added), ("UNSUBSCRIBE", dropped))
            for batch in _batches(task_ids)
        ]
        if commands:
            deadline = asyncio.get_running_loop().time() + self._timeout
            await session.request(commands, deadline, replies=len(added) + len(dropped))

    async def _look_at_unlooked(self) -> None:
        """Tell the present records of tasks that are subscribed by now."""
        self._unlooked &= self._channels.keys()
        ready = self._unlooked & self._subscribed
        self._unlooked -= ready
        for batch in _batches(ready):
            versions = {task_id: self._channels[task_id].version for task_id in batch if task_id in self._channels}
            for task_id, record in zip(versions, await self._look(list(versions)), strict=True):
                channel = self._channels.get(task_id)
                if record is not None and channel is not None:
                    channel.see(task_id, record, versions[task_id])

    def _hear(self, name: bytes, record: bytes) -> None:
        task_id = name.decode()[len(self._prefix) :]
        channel = self._channels.get(task_id)
        if channel is not None:
            channel.hear(task_id, record)


def _is_end(record: bytes) -> bool:
    """Whether nobody waits any longer who was told of this.

    A Celery worker sends a retry and stores RETRY then. When another worker has ended the task in between, that RETRY
    comes after the end, and whoever were told of the last change alone would wait for ever.
    """
    return status_of(record) in READY_STATES


def _batches(task_ids: Collection[str]) -> Iterator[list[str]]:
    remaining = iter(task_ids)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
