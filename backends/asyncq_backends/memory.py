"""`memory://`: results in this process, for tests and beside the memory broker.

All instances of one app and URL share one store, through `DriverConfig.shared`, from whatever thread and event loop: a
lock guards it, and a change wakes watchers in their own loops.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from asyncq.driver import BackendCapabilities, Coordinating, DriverConfig, Joining, ResultBackend, StoredResult
from asyncq.errors import BackendConnectionError, ConfigurationError
from asyncq_backends._memory_chords import MemoryChords
from asyncq_backends._watcher import Watcher, Watchers
from asyncq_brokers._clients.memory import MemoryCoordination

__all__ = ["MemoryBackend"]

#: Seconds between two sweeps for expired records, at least. Readers never see one that has expired.
SWEEP = 60.0


class _Record(Struct, eq=False, frozen=True):
    #: Counts all changes of the store.
    version: int
    content: bytes
    success: bool
    #: Monotonic; infinity for ever.
    expires: float


class _Store:
    """The state that all instances share. Each method is atomic, and none waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}
        self._watchers = Watchers()
        self._versions = itertools.count()
        self._next_sweep = 0.0

    def put(self, results: Sequence[StoredResult], now: float) -> list[bool]:
        with self._lock:
            self._sweep(now)
            return [self._put(result, now) for result in results]

    def get(self, task_ids: Iterable[str], now: float) -> list[bytes | None]:
        with self._lock:
            found = [self._find(task_id, now) for task_id in task_ids]
        return [record and record.content for record in found]

    def forget(self, task_ids: Iterable[str]) -> None:
        with self._lock:
            for task_id in task_ids:
                self._records.pop(task_id, None)

    def follow(self, watcher: Watcher, now: float) -> None:
        """Tell the records of this moment, and from now on each change."""
        with self._lock:
            self._watchers.add(watcher)
            for task_id in watcher.task_ids:
                if record := self._find(task_id, now):
                    watcher.tell(task_id, record.content, record.version)

    def unfollow(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers.remove(watcher)

    def followed(self) -> int:
        """How many tasks have a watcher."""
        with self._lock:
            return len(self._watchers.task_ids)

    # -- with the lock held

    def _find(self, task_id: str, now: float) -> _Record | None:
        record = self._records.get(task_id)
        return None if record is None or record.expires <= now else record

    def _put(self, result: StoredResult, now: float) -> bool:
        before = self._find(result.task_id, now)
        if before is not None and before.success:
            return False
        expires = float("inf") if result.expires is None else now + result.expires
        version = next(self._versions)
        self._records[result.task_id] = _Record(version, result.record, result.status == "SUCCESS", expires)
        here = asyncio.get_running_loop()
        for watcher in self._watchers.of(result.task_id):
            if watcher.loop is here:
                watcher.tell(result.task_id, result.record, version)
            elif not watcher.loop.is_closed():
                watcher.loop.call_soon_threadsafe(watcher.tell, result.task_id, result.record, version)
        return True

    def _sweep(self, now: float) -> None:
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP
        self._records = {task_id: record for task_id, record in self._records.items() if record.expires > now}


class MemoryBackend:
    """See the module. It has no options."""

    capabilities = BackendCapabilities(shared=False, push=True)
    address = "memory://"

    def __init__(self, config: DriverConfig) -> None:
        if config.options:
            raise ConfigurationError(f"memory:// has no options; found {', '.join(sorted(config.options))}")
        self._store = cast("_Store", config.shared.setdefault(f"asyncq_backends.memory {config.url}", _Store()))
        self._clock = config.environment.clock
        self.coordination = MemoryCoordination(config, self._turn)
        self.chords = MemoryChords(config, self._turn, self.get)
        self._watchers: set[Watcher] = set()
        self._closed = False

    @property
    def followed(self) -> int:
        """How many tasks of the store are being watched, by whomever."""
        return self._store.followed()

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        for watcher in self._watchers:
            watcher.end(BackendConnectionError("the memory backend is closed"))

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        await self._turn()
        return self._store.put(results, self._clock.monotonic())

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        await self._turn()
        return self._store.get(task_ids, self._clock.monotonic())

    @asynccontextmanager
    async def watch(self, task_ids: Sequence[str]) -> AsyncGenerator[AsyncIterator[tuple[str, bytes]]]:
        await self._turn()
        watcher = Watcher(task_ids)
        self._watchers.add(watcher)
        try:
            self._store.follow(watcher, self._clock.monotonic())
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._store.unfollow(watcher)

    async def forget(self, task_ids: Sequence[str]) -> None:
        await self._turn()
        self._store.forget(task_ids)

    async def _turn(self) -> None:
        """Let others run, as every call of a backend does, so that no loop over calls can starve them."""
        await asyncio.sleep(0)
        if self._closed:
            raise BackendConnectionError("the memory backend is closed")


if TYPE_CHECKING:
    _backend: Callable[[DriverConfig], ResultBackend] = MemoryBackend
    _coordinating: Callable[[DriverConfig], Coordinating] = MemoryBackend
    _joining: Callable[[DriverConfig], Joining] = MemoryBackend
