"""One reader for all that a process waits for, on a store that tells nobody of changes."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager

from asyncq.errors import BackendConnectionError, BackendError, ConfigurationError
from asyncq_backends._watcher import Watcher, Watchers

__all__ = ["Reader"]

logger = logging.getLogger(__name__)

#: Seconds between two looks at a task: short ones first, for whoever waits for a short task, then ever longer ones.
_FIRST, _LAST, _GROWTH = 0.05, 1.0, 1.4

#: Tasks of one look.
_BATCH = 100


class _Followed:
    """One task that somebody waits for."""

    __slots__ = ("due", "pause", "record", "version")

    def __init__(self, due: float) -> None:
        self.record: bytes | None = None
        self.version = 0
        self.pause = _FIRST
        self.due = due


class Reader:
    """Looks at followed tasks, many in one call, each at most once a second after a short while."""

    def __init__(self, look: Callable[[Sequence[str]], Awaitable[list[bytes | None]]]) -> None:
        self._look = look
        self._watchers = Watchers()
        self._followed: dict[str, _Followed] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def followed(self) -> int:
        """How many tasks are followed."""
        return len(self._followed)

    @contextmanager
    def follow(self, task_ids: Sequence[str]) -> Generator[AsyncIterator[tuple[str, bytes]]]:
        """Follow tasks for as long as the block lasts."""
        if self._closed:
            raise BackendConnectionError("the result backend is closed")
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        watcher = Watcher(task_ids)
        self._watchers.add(watcher)
        now = asyncio.get_running_loop().time()
        for task_id in watcher.task_ids:
            followed = self._followed.setdefault(task_id, _Followed(now))
            followed.pause, followed.due = _FIRST, now
            if followed.record is not None:
                watcher.tell(task_id, followed.record, followed.version)
        self._changed.set()
        try:
            yield watcher
        finally:
            for task_id in self._watchers.remove(watcher):
                del self._followed[task_id]

    async def close(self) -> None:
        """End everything that follows."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._watchers.end(BackendConnectionError("the result backend is closed"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            due = self._due(loop.time())
            if due:
                await self._look_at(due)
                continue
            soonest = min((followed.due for followed in self._followed.values()), default=None)
            try:
                async with asyncio.timeout_at(soonest):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _due(self, now: float) -> list[str]:
        """What to look at now: when anything is due, also what would be before long, so that calls are few."""
        if all(followed.due > now for followed in self._followed.values()):
            return []
        soon = ((f.due, task_id) for task_id, f in self._followed.items() if f.due <= now + f.pause / 2)
        return [task_id for _, task_id in heapq.nsmallest(_BATCH, soon)]

    async def _look_at(self, task_ids: Sequence[str]) -> None:
        try:
            records = await self._look(task_ids)
        except BackendConnectionError as error:
            logger.warning("not told of results for a moment: %s", error)
            records = [None] * len(task_ids)
        except (BackendError, ConfigurationError) as error:  # asking again gets the same answer
            for task_id in task_ids:
                for watcher in self._watchers.of(task_id):
                    watcher.end(error)
            records = [None] * len(task_ids)
        except Exception:  # nobody waits for this task's outcome: tell, and go on
            logger.exception("not told of results for a moment")
            records = [None] * len(task_ids)
        now = asyncio.get_running_loop().time()
        for task_id, record in zip(task_ids, records, strict=True):
            followed = self._followed.get(task_id)
            if followed is None:
                continue
            if record is not None and record != followed.record:
                followed.record, followed.version, followed.pause = record, followed.version + 1, _FIRST
                for watcher in self._watchers.of(task_id):
                    watcher.tell(task_id, record, followed.version)
            followed.due = now + followed.pause
            followed.pause = min(followed.pause * _GROWTH, _LAST)
