"""Those who watch results, and the changes that they haven't taken yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, KeysView

__all__ = ["Watcher", "Watchers"]


class Watcher:
    """One `watch` of a result backend: an iterator over changes of some tasks.

    It belongs to the event loop in which it was made.

    Of several changes of one task between two steps of the reader only the last is kept, so a slow reader costs no more
    memory than it watches tasks.
    """

    def __init__(self, task_ids: Iterable[str], *, is_end: Callable[[bytes], bool] | None = None) -> None:
        """`is_end` knows a final record, where others may write another one after it: an unread end is kept then."""
        self.task_ids = frozenset(task_ids)
        self._is_end = is_end
        self.loop = asyncio.get_running_loop()
        self._unread: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        self._something = asyncio.Event()
        self._error: Exception | None = None

    def tell(self, task_id: str, record: bytes, version: int) -> None:
        """Take note of a record, unless one of the same or a later version was told before."""
        if version <= self._versions.get(task_id, -1):
            return
        self._versions[task_id] = version
        unread = self._unread.pop(task_id, None)  # it stands where its newest change does
        if unread is not None and self._is_end is not None and self._is_end(unread) and not self._is_end(record):
            record = unread
        self._unread[task_id] = record
        self._something.set()

    def end(self, error: Exception) -> None:
        """Raise this, once all that was told is read."""
        self._error = error
        self._something.set()

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        while not self._unread:
            if self._error is not None:
                raise self._error
            self._something.clear()
            await self._something.wait()
        task_id = next(iter(self._unread))
        return task_id, self._unread.pop(task_id)


class Watchers:
    """Who watches which tasks."""

    def __init__(self) -> None:
        self._all: set[Watcher] = set()
        self._by_task: dict[str, set[Watcher]] = {}

    @property
    def task_ids(self) -> KeysView[str]:
        """The tasks that somebody watches."""
        return self._by_task.keys()

    def of(self, task_id: str) -> Collection[Watcher]:
        """Those who watch this one."""
        return self._by_task.get(task_id, ())

    def add(self, watcher: Watcher) -> None:
        self._all.add(watcher)
        for task_id in watcher.task_ids:
            self._by_task.setdefault(task_id, set()).add(watcher)

    def remove(self, watcher: Watcher) -> list[str]:
        """Return the tasks that nobody watches any more."""
        self._all.discard(watcher)
        left: list[str] = []
        for task_id in watcher.task_ids:
            watchers = self._by_task[task_id]
            watchers.discard(watcher)
            if not watchers:
                del self._by_task[task_id]
                left.append(task_id)
        return left

    def end(self, error: Exception) -> None:
        """Raise this in all of them."""
        for watcher in self._all:
            watcher.end(error)
